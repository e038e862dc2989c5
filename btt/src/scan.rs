//! Finding the sectors whose map entries are in some state.

use alloc::vec;
use core::ops::{ControlFlow, Range};

use crate::device::Btt;
use crate::error::BttError;
use crate::layout::{CHUNK_ENTRIES, ENTRY};
use crate::map::MapEntry;
use crate::media::{Medium, NsOffset};
use crate::units::{ExternalLba, PremapAba, clamp_u32};

/// Sectors that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorExtent {
    /// The first.
    pub lba: ExternalLba,
    /// How many.
    pub count: u64,
}

impl<M: Medium> Btt<M> {
    /// Finds the sectors that read as an error because their map entries say so. Reads all of the map, 64 KiB at a time;
    /// entries that change meanwhile may be seen or not. `progress` gets the number of sectors looked at
    /// and the number of all, after each piece, and may end the search there.
    ///
    /// # Errors
    /// The medium's, with the first LBA whose entry could not be read.
    pub fn error_sectors(
        &self,
        found: &mut dyn FnMut(SectorExtent),
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BttError> {
        self.scan(0..self.capacity_sectors(), |entry| matches!(entry, MapEntry::Error(_)), found, progress)
    }

    /// Finds the sectors that read as zeroes because their map entries say so (state Z), among these.
    ///
    /// # Errors
    /// As [`Btt::error_sectors`]; [`BttError::OutOfRange`].
    pub fn zero_entries(&self, sectors: Range<u64>, found: &mut dyn FnMut(SectorExtent)) -> Result<(), BttError> {
        let all = self
            .scan(sectors, |entry| matches!(entry, MapEntry::Zero(_)), found, &mut |_, _| ControlFlow::Continue(()));
        all.map(|_| ())
    }

    /// Where the data of a sector are now: the next write of it moves them. For callers that look at or damage the medium
    /// itself, while no CPU writes ([`Btt::exclusively`]).
    ///
    /// # Errors
    /// [`BttError::OutOfRange`], or a map that cannot be followed.
    pub fn place_of(&self, lba: ExternalLba) -> Result<NsOffset, BttError> {
        self.check_range(lba, 1)?;
        let (arena, premap) = self.locate(lba);
        Ok(arena.block_at(arena.entry(self.media(), premap)?.block()))
    }

    fn scan(
        &self,
        sectors: Range<u64>,
        wanted: fn(MapEntry) -> bool,
        found: &mut dyn FnMut(SectorExtent),
        progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, BttError> {
        let mut open: Option<SectorExtent> = None;
        let mut buffer = vec![0_u8; CHUNK_ENTRIES as usize * ENTRY];
        let mut next = sectors.start;
        let mut ended = ControlFlow::Continue(());
        while next < sectors.end {
            self.check_range(ExternalLba(next), 1)?;
            let (arena, first) = self.locate(ExternalLba(next));
            let in_arena = CHUNK_ENTRIES.min(arena.found.info.geometry.external_nlba - first.0);
            let count = clamp_u32(sectors.end - next, in_arena);
            let bytes = &mut buffer[..count as usize * ENTRY];
            let failed = |why| BttError::Data { lba: ExternalLba(next), why };
            self.media().read(arena.found.entry_at(first), bytes).map_err(failed)?;
            let (words, _) = bytes.as_chunks::<ENTRY>();
            for (premap, word) in (first.0..).map(PremapAba).zip(words) {
                if !wanted(MapEntry::decode(u32::from_le_bytes(*word), premap)) {
                    continue;
                }
                let lba = arena.lba(premap);
                match &mut open {
                    Some(extent) if extent.lba.0 + extent.count == lba.0 => extent.count += 1,
                    _ => {
                        if let Some(extent) = open.replace(SectorExtent { lba, count: 1 }) {
                            found(extent);
                        }
                    }
                }
            }
            next += u64::from(count);
            if progress(next, sectors.end).is_break() {
                ended = ControlFlow::Break(());
                break;
            }
        }
        if let Some(extent) = open {
            found(extent);
        }
        Ok(ended)
    }
}
