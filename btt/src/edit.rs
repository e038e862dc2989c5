//! Direct changes of map entries: sectors that read as zeroes, sectors that read as an error.
//!
//! An edit changes an entry's state and never its block. So a reader that copies the block meanwhile is not disturbed, and
//! the stripe's version stays. And no flog record is needed: whatever a cut leaves of it is the
//! old entry or the new one, and recovery, which compares blocks, means the same by both. An edit is durable before the
//! stripe is let go, so nothing of it waits for another fence; what other lanes have left un-fenced on the stripe is
//! made durable first.
//!
//! | a cut … | the map says | recovery makes of it |
//! |---|---|---|
//! | before the edit's fence, with the write before it un-fenced | the block before that write | that write's block, normal |
//! | before the edit's fence | the old state or the new one, the same block | nothing |
//! | after it | the new state | nothing |

use alloc::vec;
use alloc::vec::Vec;

use crate::arena::Arena;
use crate::bytes::{SectorsMut, Zeroes};
use crate::error::BttError;
use crate::format::is_zero;
use crate::guard::LaneGuard;
use crate::info_block::InfoBlock;
use crate::layout::MAP_ENTRY_BYTES;
use crate::map::MapEntry;
use crate::media::{LINE_BYTES, Medium};
use crate::scan::SectorExtent;
use crate::units::{ExternalLba, PremapAba, RUN_MAX};

/// How many sectors are searched for TRIM entries before those that were found are written out.
const SECTORS_AT_ONCE: u64 = 1 << 14;
/// How many sectors are written out between two reports of progress.
const SECTORS_A_STEP: u64 = 512;

impl<M: Medium> LaneGuard<'_, M> {
    /// Makes `count` sectors from `lba` on read as zeroes, metadata bytes included; durable when it returns.
    ///
    /// Where the BTT was made for it ([`crate::format::FormatOptions::zero_entries`]) the map says so (state Z), and the blocks
    /// keep their bytes. Elsewhere zeroes are written over what is not zero yet: today's Linux misreads Z entries.
    ///
    /// # Errors
    /// As [`LaneGuard::write`].
    pub fn zero(&mut self, lba: ExternalLba, count: u64) -> Result<(), BttError> {
        let btt = self.btt;
        btt.check_range(lba, count)?;
        let mut done = 0;
        while done < count {
            let (arena, first) = btt.locate(ExternalLba(lba.0 + done));
            let run = run_length(arena, first, count - done);
            if arena.found.info.flags & InfoBlock::ZERO_ENTRIES != 0 {
                self.edit_run(arena, first, run, MapEntry::Zero)?;
            } else {
                self.write_zeroes(ExternalLba(lba.0 + done), run.into())?;
            }
            done += u64::from(run);
        }
        Ok(())
    }

    /// Writes zeroes where the map has TRIM entries (state Z), so that today's Linux reads them right. Returns for how
    /// many sectors. Durable when it returns. The caller lets no other CPU write meanwhile. `progress` gets the number of
    /// sectors done and the number of all, every few hundred that are written.
    ///
    /// # Errors
    /// As [`LaneGuard::write`]; those done before stay done.
    pub fn write_out_zero_entries(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, BttError> {
        let btt = self.btt;
        let total = btt.capacity_sectors();
        let mut extents = Vec::new();
        let mut written = 0;
        let mut done = 0;
        while done < total {
            // Some sectors at a time: the number of extents is not bounded, memory is.
            let past = total.min(done + SECTORS_AT_ONCE);
            btt.zero_entries(done..past, &mut |extent| extents.push(extent))?;
            for SectorExtent { lba: ExternalLba(mut at), mut count } in extents.drain(..) {
                while count > 0 {
                    let now = SECTORS_A_STEP.min(count);
                    self.write(ExternalLba(at), now, &Zeroes::new(btt.sector_size()))?;
                    (at, count, written) = (at + now, count - now, written + now);
                    progress(at, total);
                }
            }
            done = past;
            progress(done, total);
        }
        Ok(written)
    }

    /// Writes zeroes over those of `count` sectors that hold anything else.
    fn write_zeroes(&mut self, lba: ExternalLba, count: u64) -> Result<(), BttError> {
        let size = self.btt.sector_size();
        let mut buffer = vec![0; size.bytes() as usize];
        for lba in (lba.0..lba.0 + count).map(ExternalLba) {
            let Some(mut sink) = SectorsMut::new(&mut buffer, size) else { return Ok(()) };
            match self.read(lba, 1, &mut sink) {
                Ok(()) if is_zero(&buffer) => {}
                // What cannot be read is not zero yet; the write clears the error.
                Ok(()) | Err(BttError::SectorError { .. } | BttError::Data { .. }) => {
                    self.write(lba, 1, &Zeroes::new(size))?;
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Marks `count` sectors from `lba` on as errors: they cannot be read until they are written again. Durable when it
    /// returns.
    ///
    /// # Errors
    /// As [`LaneGuard::write`].
    pub fn mark_errors(&mut self, lba: ExternalLba, count: u64) -> Result<(), BttError> {
        let btt = self.btt;
        btt.check_range(lba, count)?;
        let mut done = 0;
        while done < count {
            let (arena, first) = btt.locate(ExternalLba(lba.0 + done));
            let run = run_length(arena, first, count - done);
            self.edit_run(arena, first, run, MapEntry::Error)?;
            done += u64::from(run);
        }
        Ok(())
    }

    /// Clears the error of those of `count` sectors from `lba` on that are marked, and returns how many these
    /// were. What they held is lost: they read as zeroes then. Durable when it returns.
    ///
    /// # Errors
    /// As [`LaneGuard::write`].
    pub fn clear_errors(&mut self, lba: ExternalLba, count: u64) -> Result<u64, BttError> {
        let btt = self.btt;
        btt.check_range(lba, count)?;
        let zeroes = Zeroes::new(btt.sector_size());
        let is_error = |entry| matches!(entry, MapEntry::Error(_));
        let mut cleared = 0;
        for lba in (lba.0..lba.0 + count).map(ExternalLba) {
            let (arena, premap) = btt.locate(lba);
            if is_error(arena.entry(btt.media(), premap)?) {
                // Asked again under the stripe's lock: a write since then has cleared the error.
                cleared += u64::from(self.write_run(arena, premap, 1, 0, &zeroes, is_error)?);
            }
        }
        Ok(cleared)
    }

    /// The medium has lost the data of a sector whose entry was `found`: marks it as an error, unless the
    /// sector has been written since, or the arena takes no writes. Returns whether the sector still has no data.
    ///
    /// The caller is a slow reader, so no lane writes to this block meanwhile (invariant 8): where the entry is still
    /// `found`, the sector has not been written and come back to a block that holds good data now. Waiting for the stripe
    /// cannot deadlock: its holder does not wait for readers (invariant 9).
    pub(crate) fn mark_lost(&mut self, arena: &Arena, premap: PremapAba, found: MapEntry) -> Result<Lost, BttError> {
        let media = self.btt.media();
        let mut guard = arena.locks.lock(premap, 1);
        if arena.read_only().is_some() {
            return Ok(Lost::Kept);
        }
        if arena.entry(media, premap)? != found {
            return Ok(Lost::WrittenSince);
        }
        let failed = |why| arena.metadata_failed(why);
        self.settle(&mut guard).map_err(failed)?;
        media.store_u32(arena.found.entry_at(premap), MapEntry::Error(found.block()).encode()).map_err(failed)?;
        media.start_write_back(arena.found.entry_at(premap), MAP_ENTRY_BYTES).map_err(failed)?;
        self.state.counters.write_backs += 1;
        self.fence().map_err(failed)?;
        Ok(Lost::Kept)
    }

    /// Changes the state of a run's entries, all in one arena.
    fn edit_run(
        &mut self,
        arena: &Arena,
        first: PremapAba,
        count: u32,
        state: fn(crate::PostmapAba) -> MapEntry,
    ) -> Result<(), BttError> {
        arena.check_writable()?;
        let media = self.btt.media();
        let mut guard = arena.locks.lock(first, count);
        // Again, as a write does: a record may wait there for its map change, and recovery would undo the edit.
        arena.check_writable()?;
        let mut words = [0; RUN_MAX];
        for (word, premap) in words.iter_mut().zip(first.0..first.0 + count) {
            *word = state(arena.entry(media, PremapAba(premap))?.block()).encode();
        }
        let failed = |why| arena.metadata_failed(why);
        self.settle(&mut guard).map_err(failed)?;
        for (word, premap) in words.iter().zip(first.0..first.0 + count) {
            media.store_u32(arena.found.entry_at(PremapAba(premap)), *word).map_err(failed)?;
        }
        for (line, _) in guard.lines() {
            media.start_write_back(line.at(arena.found.map_at()), LINE_BYTES).map_err(failed)?;
            self.state.counters.write_backs += 1;
        }
        // Under the stripes' locks: the lane that takes one next finds the edit durable.
        self.fence().map_err(failed)
    }
}

/// What became of a sector whose data are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It still has no data.
    Kept,
    /// It has been written meanwhile, and may be read again.
    WrittenSince,
}

/// How many of `wanted` sectors from `first` on one run takes, as far as the arena reaches.
pub(crate) fn run_length(arena: &Arena, first: PremapAba, wanted: u64) -> u32 {
    let in_arena = u64::from(arena.found.info.geometry.external_nlba - first.0);
    u32::try_from(in_arena.min(wanted).min(RUN_MAX as u64)).expect("at most RUN_MAX")
}
