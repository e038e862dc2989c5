//! Memory that a peer writes to at the same time: a consumer's RAM.
//!
//! # Why this is sound
//! The memory is never a Rust object. Its bytes are reached by [`crate::persist`]'s copies and by atomic accesses to
//! aligned words, never by a reference; what the peer stores meanwhile is a race between machine instructions, and the
//! worst that it gives is a mix of old and new bytes. Code that needs a value to stay as it was checked copies it first
//! (invariant 11).

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering};

use service::memory::{MemoryOffset, OutsideMemory, SharedMemory, check};

use crate::persist;

/// A window of shared memory. All copies of it show the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct SharedWindow {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pointer reaches memory that every CPU may access and that outlives the value; all accesses through it are
// atomic, or copies that may race (module documentation).
unsafe impl Send for SharedWindow {}
// SAFETY: as for Send.
unsafe impl Sync for SharedWindow {}

impl SharedWindow {
    /// A window of `bytes` bytes.
    ///
    /// # Safety
    /// 1. `bytes` bytes from `base` on are readable and writable as long as the window or a copy of it is used.
    /// 2. No Rust reference to any of them exists in that time, and no persistent memory lies there.
    ///
    /// # Panics
    /// If `base` is not aligned to 8 bytes.
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, bytes: usize) -> Self {
        assert!(base.addr().get().is_multiple_of(8), "shared memory begins at a page");
        Self { base, bytes }
    }

    /// Returns the address of the `bytes` bytes at `at`.
    #[inline]
    fn locate(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory> {
        check(self.bytes as u64, at, bytes)?;
        let start = usize::try_from(at.0).map_err(|_| OutsideMemory { at, bytes })?;
        // SAFETY: `start` is at most the length of the window.
        Ok(unsafe { self.base.add(start) })
    }

    /// Returns an aligned word.
    #[inline]
    fn word(&self, at: MemoryOffset) -> Result<&AtomicU16, OutsideMemory> {
        // The base is aligned, so the offset alone decides.
        if !at.0.is_multiple_of(2) {
            return Err(OutsideMemory { at, bytes: 2 });
        }
        let place = self.locate(at, 2)?.cast::<u16>();
        // SAFETY: the word is mapped and aligned; racing accesses to it are atomic or machine copies.
        Ok(unsafe { AtomicU16::from_ptr(place.as_ptr()) })
    }
}

// SAFETY:
// 1. `pointer` returns a place in the window, which is mapped for as long as any copy of it is used.
// 2. The length never changes.
// 3. The copies are instructions of their own, not accesses that the compiler knows.
unsafe impl SharedMemory for SharedWindow {
    fn len_bytes(&self) -> u64 {
        self.bytes as u64
    }

    fn read(&self, at: MemoryOffset, into: &mut [u8]) -> Result<(), OutsideMemory> {
        let from = self.locate(at, into.len() as u64)?;
        // SAFETY: `locate` checked the range, and no `&mut [u8]` can overlap the window.
        unsafe { persist::copy_pieces(into.as_mut_ptr(), from.as_ptr(), into.len()) };
        Ok(())
    }

    fn write(&self, at: MemoryOffset, from: &[u8]) -> Result<(), OutsideMemory> {
        let to = self.locate(at, from.len() as u64)?;
        // SAFETY: `locate` checked the range; no `&[u8]` can overlap the window, nor any other reference.
        unsafe { persist::copy_pieces(to.as_ptr(), from.as_ptr(), from.len()) };
        Ok(())
    }

    fn load_u16(&self, at: MemoryOffset) -> Result<u16, OutsideMemory> {
        self.word(at).map(|word| u16::from_le(word.load(Ordering::Acquire)))
    }

    fn store_u16(&self, at: MemoryOffset, value: u16) -> Result<(), OutsideMemory> {
        self.word(at).map(|word| word.store(value.to_le(), Ordering::Release))
    }

    fn pointer(&self, at: MemoryOffset, bytes: u64) -> Result<NonNull<u8>, OutsideMemory> {
        self.locate(at, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use memmap2::MmapMut;

    use super::*;

    fn window(mapping: &mut MmapMut) -> SharedWindow {
        let base = NonNull::new(mapping.as_mut_ptr()).expect("a mapping");
        // SAFETY: the test keeps the mapping until it is done with the window, and looks at it through the window only.
        unsafe { SharedWindow::new(base, mapping.len()) }
    }

    #[test]
    fn bytes_and_words_are_where_they_were_put() {
        let mut mapping = MmapMut::map_anon(4096).expect("anonymous memory");
        let window = window(&mut mapping);
        for (at, bytes) in [(0, 16), (4080, 16), (1, 3), (17, 600), (4096, 0)] {
            let sent = vec![0xa5; bytes];
            window.write(MemoryOffset(at), &sent).expect("in range");
            let mut got = vec![0; bytes];
            window.read(MemoryOffset(at), &mut got).expect("in range");
            assert_eq!(got, sent, "{bytes} at {at}");
        }
        window.store_u16(MemoryOffset(4094), 0x0201).expect("aligned");
        let mut last = [0; 2];
        window.read(MemoryOffset(4094), &mut last).expect("in range");
        assert_eq!((last, window.load_u16(MemoryOffset(4094))), ([1, 2], Ok(0x0201)));
    }

    #[test]
    fn accesses_that_leave_the_window_are_refused() {
        let mut mapping = MmapMut::map_anon(4096).expect("anonymous memory");
        let window = window(&mut mapping);
        for (at, bytes) in [(4096, 1), (4095, 2), (0, 4097), (u64::MAX, 1), (u64::MAX - 3, 8)] {
            let at = MemoryOffset(at);
            let refused = OutsideMemory { at, bytes: bytes as u64 };
            assert_eq!(window.read(at, &mut vec![0; bytes]), Err(refused));
            assert_eq!(window.write(at, &vec![1; bytes]), Err(refused));
            assert_eq!(window.pointer(at, bytes as u64), Err(refused));
        }
        for at in [1, 4095, 4096, u64::MAX - 1] {
            assert!(window.load_u16(MemoryOffset(at)).is_err());
            assert!(window.store_u16(MemoryOffset(at), 1).is_err());
        }
    }
}
