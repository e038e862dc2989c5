//! Accesses to registers and apertures: each is one instruction, of the width and in the order that is written here.
//! The compiler sees neither a reference into device memory nor an access that it could tear, repeat or drop.

use core::arch::asm;
use core::ptr::NonNull;

/// The unit of copies to and from apertures, in bytes: a DIMM takes one at once, and a power cut never tears it.
pub(super) const WORD_BYTES: usize = 8;

/// A mapped register or a piece of an aperture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Io(NonNull<u8>);

// SAFETY: it is mapped for good on every CPU (PhysMap), and reached by the instructions here only.
unsafe impl Send for Io {}
// SAFETY: as for Send.
unsafe impl Sync for Io {}

impl Io {
    /// # Safety
    /// `at` is mapped for good, readable and writable, for as many bytes as are accessed through this, and no Rust
    /// object lies there.
    pub(super) const unsafe fn new(at: NonNull<u8>) -> Self {
        Self(at)
    }

    /// Returns the place `bytes` further on.
    ///
    /// # Safety
    /// It is mapped as [`Io::new`] asks.
    pub(super) unsafe fn add(self, bytes: usize) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { self.0.add(bytes) })
    }

    /// Loads 8 aligned bytes.
    pub(super) fn load_u64(self) -> u64 {
        let value: u64;
        // SAFETY: the caller of `new` vouched for the place.
        unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) self.0.as_ptr(), options(nostack, preserves_flags)) }
        value
    }

    /// Loads 4 aligned bytes.
    pub(super) fn load_u32(self) -> u32 {
        let value: u32;
        // SAFETY: as in `load_u64`.
        unsafe { asm!("mov {:e}, [{}]", out(reg) value, in(reg) self.0.as_ptr(), options(nostack, preserves_flags)) }
        value
    }

    /// Stores 8 aligned bytes at once.
    pub(super) fn store_u64(self, value: u64) {
        // SAFETY: as in `load_u64`.
        unsafe { asm!("mov [{}], {}", in(reg) self.0.as_ptr(), in(reg) value, options(nostack, preserves_flags)) }
    }

    /// Stores 8 aligned bytes past the caches: they reach the device with the next fence at the latest.
    pub(super) fn stream_u64(self, value: u64) {
        // SAFETY: as in `load_u64`.
        unsafe { asm!("movnti [{}], {}", in(reg) self.0.as_ptr(), in(reg) value, options(nostack, preserves_flags)) }
    }

    /// Drops the line at this place from all caches.
    pub(super) fn invalidate_line(self) {
        // SAFETY: as in `load_u64`; the caches hold only what the device gave.
        unsafe { asm!("clflush [{}]", in(reg) self.0.as_ptr(), options(nostack, preserves_flags)) }
    }
}

/// Makes later loads wait until the invalidated lines are gone.
pub(super) fn fence_loads() {
    // SAFETY: MFENCE only orders.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) }
}

/// Loads 8 bytes of memory that a peer may write to meanwhile, once.
///
/// # Safety
/// They are readable.
pub(super) unsafe fn load_shared(from: *const u8) -> u64 {
    let value: u64;
    // SAFETY: the caller's.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) from, options(nostack, preserves_flags, readonly)) }
    value
}

/// Stores 8 bytes to memory that a peer may read meanwhile.
///
/// # Safety
/// They are writable.
pub(super) unsafe fn store_shared(to: *mut u8, value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov [{}], {}", in(reg) to, in(reg) value, options(nostack, preserves_flags)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_as_wide_as_they_say_and_nothing_beside_them_changes() {
        let mut words = [u64::MAX; 3];
        let middle = NonNull::from(&mut words).cast::<u8>();
        // SAFETY: the words live as long as this, and are looked at afterwards.
        let io = unsafe { Io::new(middle).add(8) };
        io.store_u64(0x0807_0605_0403_0201);
        assert_eq!((io.load_u64(), io.load_u32()), (0x0807_0605_0403_0201, 0x0403_0201));
        io.stream_u64(7);
        io.invalidate_line();
        fence_loads();
        assert_eq!(io.load_u64(), 7);
        let mut copy = [0xee_u8; 10];
        // SAFETY: both are 8 bytes within an array.
        unsafe { store_shared(copy[1..].as_mut_ptr(), load_shared(words.as_ptr().cast::<u8>().add(8))) };
        assert_eq!((copy, words), ([0xee, 7, 0, 0, 0, 0, 0, 0, 0, 0xee], [u64::MAX, 7, u64::MAX]));
    }
}
