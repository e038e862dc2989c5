//! A block of registers: the trait that the rest stands on, and those in PCI's memory.

use core::fmt;
use core::ptr::NonNull;

use volatile::VolatilePtr;

use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};

/// A block of registers, in the order in which they are accessed. A register that is not there, or whose place is no
/// multiple of its width, reads as all ones and takes nothing, as on PCI.
pub trait Registers: fmt::Debug + Send {
    /// Reads 32 bits.
    fn read(&self, at: u32) -> u32;

    /// Writes 32 bits.
    fn write(&self, at: u32, value: u32);

    /// Reads 64 bits at once.
    fn read_wide(&self, at: u32) -> u64;

    /// Writes 64 bits at once.
    fn write_wide(&self, at: u32, value: u64);
}

/// Registers in memory.
#[derive(Debug)]
pub struct MappedRegisters {
    base: NonNull<u8>,
    bytes: u32,
}

// SAFETY: the registers are mapped for good on every CPU; their words are read and written whole.
unsafe impl Send for MappedRegisters {}
// SAFETY: as for Send.
unsafe impl Sync for MappedRegisters {}

impl MappedRegisters {
    /// Maps a block of registers.
    ///
    /// # Errors
    /// [`MapError`]; [`MapError::Misaligned`] if they do not begin at a multiple of 8.
    ///
    /// # Safety
    /// Registers are there, and no other code uses them as long as the result lives.
    pub unsafe fn map(map: &impl PhysMap, at: PhysAddr, bytes: u32) -> Result<Self, MapError> {
        if !at.0.is_multiple_of(WIDE_BYTES) {
            return Err(MapError::Misaligned { at });
        }
        let base = map.map(at, bytes.into(), Attribute::Uncached)?;
        Ok(Self { base, bytes })
    }

    /// Returns a register as wide as this integer, if it is there.
    fn at<T>(&self, at: u32) -> Option<VolatilePtr<'_, T>> {
        const { assert!(size_of::<T>() <= 8 && align_of::<T>() == size_of::<T>()) };
        let (at, bytes) = (at as usize, size_of::<T>());
        let inside = at.is_multiple_of(bytes) && at.checked_add(bytes).is_some_and(|end| end <= self.bytes as usize);
        // SAFETY: all bytes of the register are mapped, and it is aligned, as `base` is. It is read as an integer only
        // (below), so any bytes are a value.
        inside.then(|| unsafe { VolatilePtr::new(self.base.byte_add(at).cast()) })
    }
}

/// The bytes of the widest register.
const WIDE_BYTES: u64 = 8;

impl Registers for MappedRegisters {
    fn read(&self, at: u32) -> u32 {
        self.at::<u32>(at).map_or(u32::MAX, |it| it.read())
    }

    fn write(&self, at: u32, value: u32) {
        self.at::<u32>(at).into_iter().for_each(|it| it.write(value));
    }

    fn read_wide(&self, at: u32) -> u64 {
        self.at::<u64>(at).map_or(u64::MAX, |it| it.read())
    }

    fn write_wide(&self, at: u32, value: u64) {
        self.at::<u64>(at).into_iter().for_each(|it| it.write(value));
    }
}
