//! RAM that a reset leaves as it is: a few pages at a fixed physical place, which nothing else uses.
//!
//! The place is [`AT`], where no firmware and no loader that we know of has anything when it runs or hands over: SeaBIOS
//! works below 1 MiB and at the top of RAM below 4 GiB; OVMF between 8 MiB and some 40 MiB before it has found memory, and from
//! the top down then; GRUB takes from the top; the image lies at 1 MiB. Each of them was tried (`docs/operate.md`), and what is
//! found there is checked, as another one may have written over it.
//!
//! A reset may drop what is in caches, so each write is flushed.

use core::arch::x86_64::{_mm_clflush, _mm_mfence};
use core::ops::Range;
use core::ptr::NonNull;

use kernel::events::retained::{RETAINED_BYTES, RetainedMemory};

/// The first physical address: 56 MiB.
pub(super) const AT: u64 = 56 << 20;

/// The end of RAM that there must be: what lies below is not worth taking from a smaller machine's heap.
pub(super) const RAM_END_MIN: u64 = 128 << 20;

const LINE_BYTES: usize = 64;

/// The physical addresses.
pub(super) const RANGE: Range<u64> = AT..AT + RETAINED_BYTES as u64;

/// The memory.
pub(crate) struct RetainedRam(NonNull<u8>);

// SAFETY: plain memory that is mapped for good. Copies in two CPUs at once could mix bytes, which checksums show; the journal
// makes them under its lock, but for a panic's.
unsafe impl Send for RetainedRam {}
// SAFETY: as above.
unsafe impl Sync for RetainedRam {}

impl RetainedRam {
    /// # Safety
    /// [`RETAINED_BYTES`] from there are mapped, writable, and nothing else's, for good.
    pub(super) const unsafe fn new(at: NonNull<u8>) -> Self {
        Self(at)
    }
}

impl RetainedMemory for RetainedRam {
    fn read(&self, at: usize, into: &mut [u8]) {
        assert!(at <= RETAINED_BYTES && into.len() <= RETAINED_BYTES - at, "within the memory");
        for (offset, byte) in into.iter_mut().enumerate() {
            // SAFETY: within the memory, which is ours (`new`). Volatile, as it holds what a former boot wrote.
            *byte = unsafe { self.0.as_ptr().add(at + offset).read_volatile() };
        }
    }

    fn write(&self, at: usize, from: &[u8]) {
        assert!(at <= RETAINED_BYTES && from.len() <= RETAINED_BYTES - at, "within the memory");
        for (offset, byte) in from.iter().enumerate() {
            // SAFETY: as in `read`. Volatile, as nothing reads it in this boot.
            unsafe { self.0.as_ptr().add(at + offset).write_volatile(*byte) };
        }
        let first = at - at % LINE_BYTES;
        for line in (first..at + from.len()).step_by(LINE_BYTES) {
            // SAFETY: a line of the memory; every x86-64 CPU has the instruction.
            unsafe { _mm_clflush(self.0.as_ptr().add(line)) };
        }
        // SAFETY: every x86-64 CPU has the instruction.
        unsafe { _mm_mfence() };
    }
}
