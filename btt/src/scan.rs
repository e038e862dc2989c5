//! Finding the sectors whose map entries are in some state.

use crate::arena::Arena;
use crate::device::Btt;
use crate::error::BttError;
use crate::layout::MAP_ENTRY_BYTES;
use crate::map::MapEntry;
use crate::media::{Namespace, NsOffset};
use crate::units::{ExternalLba, PremapAba};
use alloc::vec;

/// How many map entries are read at a time.
const CHUNK_ENTRIES: u32 = 1 << 14;
/// A map entry's size, as memory counts.
const ENTRY: usize = size_of::<u32>();
const _: () = assert!(ENTRY as u64 == MAP_ENTRY_BYTES);

/// Sectors that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first.
    pub lba: ExternalLba,
    /// How many.
    pub count: u64,
}

impl<N: Namespace> Btt<N> {
    /// Finds the sectors that read as an error because their map entries say so. Reads all of the map, 64 KiB at a time;
    /// entries that change meanwhile may be seen or not.
    ///
    /// # Errors
    /// The medium's, with the first LBA whose entry could not be read.
    pub fn error_sectors(&self, found: &mut dyn FnMut(Extent)) -> Result<(), BttError> {
        self.scan(|entry| matches!(entry, MapEntry::Error(_)), found)
    }

    /// Finds the sectors that read as zeroes because their map entries say so (state Z), likewise.
    ///
    /// # Errors
    /// As [`Btt::error_sectors`].
    pub fn zero_entries(&self, found: &mut dyn FnMut(Extent)) -> Result<(), BttError> {
        self.scan(|entry| matches!(entry, MapEntry::Zero(_)), found)
    }

    /// Where the data of a sector are now: the next write of it moves them. For whoever wants to see or damage the medium
    /// itself, while nobody writes ([`Btt::exclusively`]).
    ///
    /// # Errors
    /// [`BttError::OutOfRange`], or a map that cannot be followed.
    pub fn place_of(&self, lba: ExternalLba) -> Result<NsOffset, BttError> {
        let (arena, premap) = self.locate(lba, 1)?;
        Ok(arena.block_at(arena.entry(self.media(), premap)?.block()))
    }

    fn scan(&self, wanted: fn(MapEntry) -> bool, found: &mut dyn FnMut(Extent)) -> Result<(), BttError> {
        let mut open: Option<Extent> = None;
        for arena in &self.arenas {
            self.scan_arena(arena, |lba, entry| match &mut open {
                Some(extent) if wanted(entry) && extent.lba.0 + extent.count == lba.0 => extent.count += 1,
                _ if wanted(entry) => {
                    if let Some(extent) = open.replace(Extent { lba, count: 1 }) {
                        found(extent);
                    }
                }
                _ => {}
            })?;
        }
        if let Some(extent) = open {
            found(extent);
        }
        Ok(())
    }

    fn scan_arena(&self, arena: &Arena, mut each: impl FnMut(ExternalLba, MapEntry)) -> Result<(), BttError> {
        let mut buffer = vec![0_u8; CHUNK_ENTRIES as usize * ENTRY];
        let mut first = 0;
        while first < arena.found.info.geometry.external_nlba {
            let count = CHUNK_ENTRIES.min(arena.found.info.geometry.external_nlba - first);
            let bytes = &mut buffer[..count as usize * ENTRY];
            let lba = arena.lba(PremapAba(first));
            self.media().read(arena.entry_at(PremapAba(first)), bytes).map_err(|why| BttError::Data { lba, why })?;
            let (words, _) = bytes.as_chunks::<ENTRY>();
            for (premap, word) in (first..).map(PremapAba).zip(words) {
                each(arena.lba(premap), MapEntry::decode(u32::from_le_bytes(*word), premap));
            }
            first += count;
        }
        Ok(())
    }
}
