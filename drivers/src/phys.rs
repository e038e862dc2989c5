//! Physical memory made addressable.
//!
//! Drivers never form a pointer from a physical address themselves: they ask a [`PhysMap`], which the kernel
//! implements over its page tables.

use core::fmt;
use core::ptr::NonNull;

/// A physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

impl fmt::Display for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// How the CPU may cache a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Cached, written back: memory, and persistent memory.
    WriteBack,
    /// Never cached, every access in order: registers.
    Uncached,
}

/// Why a physical range was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The range has no bytes.
    Empty {
        /// Where.
        at: PhysAddr,
    },
    /// The range leaves the physical addresses that this CPU has (CPUID leaf 8000_0008h), or 64 bits.
    BeyondPhysicalWidth {
        /// Where the range begins.
        at: PhysAddr,
        /// Its length.
        bytes: u64,
    },
    /// The range covers memory that the kernel itself uses.
    OverlapsMemory {
        /// Where the range begins.
        at: PhysAddr,
        /// Its length.
        bytes: u64,
    },
    /// The range does not begin where what lies there must begin.
    Misaligned {
        /// Where the range begins.
        at: PhysAddr,
    },
    /// A part of the range is mapped already with the other [`Attribute`].
    AttributeConflict {
        /// Where the range begins.
        at: PhysAddr,
    },
    /// No memory is left for page tables, or no virtual addresses.
    NoRoom {
        /// Where the range begins.
        at: PhysAddr,
        /// Its length.
        bytes: u64,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { at } => write!(f, "a range of no bytes at physical {at} cannot be mapped"),
            Self::BeyondPhysicalWidth { at, bytes } => {
                write!(f, "{bytes} bytes at physical {at} lie beyond this CPU's physical addresses")
            }
            Self::OverlapsMemory { at, bytes } => write!(f, "{bytes} bytes at physical {at} overlap memory in use"),
            Self::Misaligned { at } => write!(f, "physical {at} is not aligned"),
            Self::AttributeConflict { at } => write!(f, "physical {at} is mapped already, cached differently"),
            Self::NoRoom { at, bytes } => write!(f, "no room for the page tables of {bytes} bytes at physical {at}"),
        }
    }
}

impl core::error::Error for MapError {}

/// Maps physical ranges, for good: read and write, never execute.
///
/// # Safety
/// Duties of the implementer. When [`PhysMap::map`] returns `Ok(p)`:
/// 1. all `bytes` bytes from `p` on stay readable and writable until the machine stops, on every CPU, and reach exactly
///    the physical range that was asked for, with the attribute that was asked for;
/// 2. no Rust object lies in that range: the stack, the heap, statics, page tables and code are refused;
/// 3. `p` has the alignment of `at` within a 4 KiB page.
pub unsafe trait PhysMap {
    /// Maps `bytes` bytes from physical `at` on. A range may be mapped again with the same attribute.
    ///
    /// # Errors
    /// A [`MapError`]; then nothing new is mapped.
    fn map(&self, at: PhysAddr, bytes: u64, attribute: Attribute) -> Result<NonNull<u8>, MapError>;
}
