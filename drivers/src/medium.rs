//! A namespace's medium, whichever kind it is: memory, or a DIMM behind windows.

use alloc::vec::Vec;

use btt::media::{MediaError, Medium, NsOffset};

use crate::blk_window::Blk;
use crate::pmem::Pmem;
use crate::raw::RawMedium;

/// A namespace's bytes.
#[derive(Clone, Debug)]
pub enum AnyMedium {
    /// Mapped persistent memory.
    Pmem(Pmem),
    /// Behind block data windows.
    Blk(Blk),
}

/// Calls the same method of either medium.
macro_rules! each {
    ($self:ident, $medium:ident => $what:expr) => {
        match $self {
            Self::Pmem($medium) => $what,
            Self::Blk($medium) => $what,
        }
    };
}

impl AnyMedium {
    /// Returns how many windows reach it; `None` for memory, which any number of CPUs reach at once.
    #[must_use]
    pub fn window_count(&self) -> Option<u16> {
        match self {
            Self::Pmem(_) => None,
            Self::Blk(blk) => Some(blk.window_count()),
        }
    }
}

impl RawMedium for AnyMedium {
    #[inline]
    unsafe fn read_raw(&self, at: NsOffset, to: *mut u8, bytes: usize) -> Result<(), MediaError> {
        // SAFETY: the caller's.
        unsafe { each!(self, medium => medium.read_raw(at, to, bytes)) }
    }

    #[inline]
    unsafe fn write_raw(&self, at: NsOffset, from: *const u8, bytes: usize) -> Result<(), MediaError> {
        // SAFETY: the caller's.
        unsafe { each!(self, medium => medium.write_raw(at, from, bytes)) }
    }

    fn lose(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        each!(self, medium => medium.lose(at, bytes))
    }

    fn lost(&self) -> Vec<(NsOffset, u64)> {
        each!(self, medium => medium.lost())
    }
}

impl Medium for AnyMedium {
    #[inline]
    fn len_bytes(&self) -> u64 {
        each!(self, medium => medium.len_bytes())
    }

    #[inline]
    fn read_only(&self) -> bool {
        each!(self, medium => medium.read_only())
    }

    #[inline]
    fn keeps_line_order(&self) -> bool {
        each!(self, medium => medium.keeps_line_order())
    }

    #[inline]
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        each!(self, medium => medium.read(at, into))
    }

    #[inline]
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        each!(self, medium => medium.write(at, from))
    }

    #[inline]
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        each!(self, medium => medium.load_u32(at))
    }

    #[inline]
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        each!(self, medium => medium.load_u64(at))
    }

    #[inline]
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        each!(self, medium => medium.store_u32(at, value))
    }

    #[inline]
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        each!(self, medium => medium.store_u64(at, value))
    }

    #[inline]
    fn store_pair(&self, at: NsOffset, pair: [u64; 2]) -> Result<(), MediaError> {
        each!(self, medium => medium.store_pair(at, pair))
    }

    #[inline]
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        each!(self, medium => medium.start_write_back(at, bytes))
    }

    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        each!(self, medium => medium.look_again(at, bytes))
    }

    #[inline]
    fn will_store(&self, at: NsOffset) {
        each!(self, medium => medium.will_store(at));
    }

    #[inline]
    fn order_stores(&self) {
        each!(self, medium => medium.order_stores());
    }

    #[inline]
    fn fence(&self) -> Result<(), MediaError> {
        each!(self, medium => medium.fence())
    }
}
