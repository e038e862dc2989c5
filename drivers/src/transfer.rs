//! A consumer's data as the source or the sink of a run of sectors: each piece moves once, straight between the
//! consumer's memory and the medium.
//!
//! A consumer may change its data while they are copied. Each byte is loaded once: the sector that is stored is wholly
//! what was loaded (invariant 11).

use btt::media::{MediaError, NsOffset, SectorSink, SectorSource};
use service::memory::{Scatter, SharedMemory};

use crate::raw::RawMedium;

/// Sectors in a consumer's memory, one after the other.
pub struct Transfer<'a, M: ?Sized> {
    data: &'a Scatter<'a, M>,
    sector_bytes: u64,
}

impl<'a, M: SharedMemory + ?Sized> Transfer<'a, M> {
    /// Makes a run of the sectors in `data`, each of `sector_bytes` bytes.
    #[must_use]
    pub const fn new(data: &'a Scatter<'a, M>, sector_bytes: u32) -> Self {
        Self { data, sector_bytes: sector_bytes as u64 }
    }

    /// Calls `copy` with each piece of sector `index`: its address, where on the medium, and how long it is.
    #[inline]
    fn each(
        &self,
        index: usize,
        at: NsOffset,
        mut copy: impl FnMut(*mut u8, NsOffset, usize) -> Result<(), MediaError>,
    ) -> Result<(), MediaError> {
        let gone = MediaError::CallersMemory;
        let first = (index as u64).checked_mul(self.sector_bytes).ok_or(gone)?;
        let mut done = 0;
        for (place, bytes) in self.data.pieces(first, self.sector_bytes) {
            let pointer = self.data.memory().pointer(place, u64::from(bytes)).map_err(|_| gone)?;
            copy(pointer.as_ptr(), at.plus(done), bytes as usize)?;
            done += u64::from(bytes);
        }
        if done == self.sector_bytes { Ok(()) } else { Err(gone) }
    }
}

impl<M: SharedMemory + ?Sized, N: RawMedium> SectorSource<N> for Transfer<'_, M> {
    #[inline]
    fn store(&self, index: usize, media: &N, at: NsOffset) -> Result<(), MediaError> {
        // SAFETY: `pointer` vouches for the bytes (SharedMemory), which are no persistent memory.
        self.each(index, at, |from, at, bytes| unsafe { media.write_raw(at, from, bytes) })
    }
}

impl<M: SharedMemory + ?Sized, N: RawMedium> SectorSink<N> for Transfer<'_, M> {
    #[inline]
    fn load(&mut self, index: usize, media: &N, at: NsOffset) -> Result<(), MediaError> {
        // SAFETY: `pointer` vouches for the bytes (SharedMemory), which are no persistent memory and no Rust object.
        self.each(index, at, |to, at, bytes| unsafe { media.read_raw(at, to, bytes) })
    }

    fn zero(&mut self, index: usize) {
        // If the memory is gone, no driver reads it: the error is dropped.
        let _ = self.data.zero((index as u64).saturating_mul(self.sector_bytes), self.sector_bytes);
    }
}
