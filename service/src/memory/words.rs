//! Shared memory for tests: atomic words, so that any thread may change it at any time.

use alloc::boxed::Box;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};

use super::{MemoryOffset, OutsideMemory, SharedMemory, check};

/// A memory made of atomic words.
#[derive(Debug)]
pub struct Words(Box<[AtomicU16]>);

impl Words {
    /// At least `bytes` zeroes: an even number of them.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self((0..bytes.div_ceil(2)).map(|_| AtomicU16::new(0)).collect())
    }

    fn word(&self, at: u64) -> &AtomicU16 {
        &self.0[usize::try_from(at / 2).expect("checked: the memory is in ours")]
    }

    fn aligned(&self, at: MemoryOffset) -> Result<&AtomicU16, OutsideMemory> {
        check(self.len_bytes(), at, 2)?;
        if at.0.is_multiple_of(2) { Ok(self.word(at.0)) } else { Err(OutsideMemory { at, bytes: 2 }) }
    }
}

#[allow(unsafe_code)] // it implements the one unsafe trait
// SAFETY:
// 1. `pointer` returns a place in the boxed words, which live and stay as long as `self`; all accesses to them are
//    atomic.
// 2. The box never changes its length.
// 3. The copies move single bytes out of and into atomic words.
unsafe impl SharedMemory for Words {
    fn len_bytes(&self) -> u64 {
        self.0.len() as u64 * 2
    }

    fn read(&self, at: MemoryOffset, into: &mut [u8]) -> Result<(), OutsideMemory> {
        check(self.len_bytes(), at, into.len() as u64)?;
        for (place, byte) in (at.0..).zip(into) {
            let pair = self.word(place).load(Ordering::Relaxed).to_le_bytes();
            *byte = pair[usize::from(place % 2 == 1)];
        }
        Ok(())
    }

    fn write(&self, at: MemoryOffset, from: &[u8]) -> Result<(), OutsideMemory> {
        check(self.len_bytes(), at, from.len() as u64)?;
        for (place, byte) in (at.0..).zip(from) {
            let word = self.word(place);
            let shift = place % 2 * 8;
            word.fetch_and(!(0xFF << shift), Ordering::Relaxed);
            word.fetch_or(u16::from(*byte) << shift, Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_u16(&self, at: MemoryOffset) -> Result<u16, OutsideMemory> {
        self.aligned(at).map(|word| u16::from_le(word.load(Ordering::Acquire)))
    }

    fn store_u16(&self, at: MemoryOffset, value: u16) -> Result<(), OutsideMemory> {
        self.aligned(at).map(|word| word.store(value.to_le(), Ordering::Release))
    }

    fn pointer(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory> {
        check(self.len_bytes(), at, bytes)?;
        let start: NonNull<u8> = NonNull::from(&*self.0).cast();
        let offset = usize::try_from(at.0).map_err(|_| OutsideMemory { at, bytes })?;
        NonNull::new(start.as_ptr().wrapping_add(offset)).ok_or(OutsideMemory { at, bytes })
    }
}
