//! Memory that is shared with a consumer: it changes under our hands, so it is copied and never referred to.
//!
//! | type | what holding one proves |
//! |---|---|
//! | [`MemoryOffset`] | nothing: a number of bytes from the start of the shared memory |
//! | [`GuestAddress`] | nothing: a number that a driver wrote |
//! | [`Segment`] in [`Segments`] | it came out of [`MemoryTable::translate`], so it lies in the shared memory |
//! | [`Scatter`] | the same, of a request's data in order |
//!
//! | who writes | who reads | order |
//! |---|---|---|
//! | the driver: descriptors, available ring, data to write | the device | [`SharedMemory::load_u16`] of avail.idx acquires what it published |
//! | the device: used ring, data read, status | the driver | [`SharedMemory::store_u16`] of used.idx releases all before it |

mod scatter;
mod table;
#[cfg(any(test, feature = "mock"))]
mod watched;
#[cfg(any(test, feature = "mock"))]
mod words;

use core::fmt;
use core::ptr::NonNull;

pub use scatter::{Scatter, Segment, Segments, Span};
pub use table::{MemoryTable, TableError, TranslateError};
#[cfg(any(test, feature = "mock"))]
pub use watched::Watched;
#[cfg(any(test, feature = "mock"))]
pub use words::Words;

/// A place in a shared memory: bytes from its start. For an ivshmem device that is an offset into BAR2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryOffset(pub u64);

impl MemoryOffset {
    /// The place `bytes` further on. Sums that leave 64 bits stay at the end, which no memory has.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }
}

impl fmt::Display for MemoryOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A guest-physical address, as a driver writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestAddress(pub u64);

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// An access would have left the shared memory, or was not aligned. Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideMemory {
    /// Where it began.
    pub at: MemoryOffset,
    /// How many bytes it wanted.
    pub bytes: u64,
}

impl fmt::Display for OutsideMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {} are not in the shared memory", self.bytes, self.at)
    }
}

impl core::error::Error for OutsideMemory {}

/// Whether `bytes` bytes from `at` on lie in a memory of `len_bytes`.
///
/// # Errors
/// They do not.
pub const fn check(len_bytes: u64, at: MemoryOffset, bytes: u64) -> Result<(), OutsideMemory> {
    match at.0.checked_add(bytes) {
        Some(end) if end <= len_bytes => Ok(()),
        _ => Err(OutsideMemory { at, bytes }),
    }
}

/// Memory that another program may change at any time.
///
/// # Safety
/// Duties of an implementer; drivers' copies between this memory and a medium rely on them:
/// 1. If [`SharedMemory::pointer`] returns `p`, then the bytes from `p` to `p + bytes` are mapped, readable and
///    writable, as long as `self` lives, and they are part of no Rust object that is accessed in another way than by
///    atomic or volatile accesses, or by assembly.
/// 2. The memory never shrinks: what was within [`SharedMemory::len_bytes`] once stays so.
/// 3. The copies here make no reference to the shared bytes and take any bytes at any time, torn ones too.
///
/// Duties of a caller of [`SharedMemory::pointer`]:
/// 1. No reference is made of it; bytes are moved by volatile or atomic accesses, or by assembly.
/// 2. A byte read twice may have changed: what was checked must be a private copy.
/// 3. It is not used after `self` is gone.
#[allow(unsafe_code)] // the one unsafe trait of this crate
pub unsafe trait SharedMemory {
    /// Its length in bytes.
    fn len_bytes(&self) -> u64;

    /// Copies bytes out of it.
    ///
    /// # Errors
    /// The range is not in it.
    fn read(&self, at: MemoryOffset, into: &mut [u8]) -> Result<(), OutsideMemory>;

    /// Copies bytes into it.
    ///
    /// # Errors
    /// The range is not in it.
    fn write(&self, at: MemoryOffset, from: &[u8]) -> Result<(), OutsideMemory>;

    /// Loads a little-endian word in one access, with acquire order.
    ///
    /// # Errors
    /// It is not in it, or not aligned to 2 bytes.
    fn load_u16(&self, at: MemoryOffset) -> Result<u16, OutsideMemory>;

    /// Stores a little-endian word in one access, with release order.
    ///
    /// # Errors
    /// It is not in it, or not aligned to 2 bytes.
    fn store_u16(&self, at: MemoryOffset, value: u16) -> Result<(), OutsideMemory>;

    /// Where the range is in our own address space, for a copy straight between it and a medium.
    ///
    /// # Errors
    /// The range is not in it.
    fn pointer(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory>;
}
