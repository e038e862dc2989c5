//! How a run of sectors is read: follow the map, publish the blocks, follow it again, copy.
//!
//! A sector whose data the medium has lost becomes an error in the map, never bytes.

use crate::arena::Arena;
use crate::edit::{Lost, run_length};
use crate::error::BttError;
use crate::guard::LaneGuard;
use crate::map::MapEntry;
use crate::media::{MediaError, Medium, SectorSink};
use crate::units::{ExternalLba, PremapAba, RUN_MAX};

impl<M: Medium> LaneGuard<'_, M> {
    /// Reads `count` sectors from `lba` on, each wholly as some write left it.
    ///
    /// # Errors
    /// [`BttError::OutOfRange`] before anything is done; otherwise the first sector that cannot be read. The sink has
    /// then been given the sectors before it.
    pub fn read(
        &mut self,
        lba: ExternalLba,
        count: u64,
        sink: &mut (impl SectorSink<M> + ?Sized),
    ) -> Result<(), BttError> {
        let btt = self.btt;
        btt.check_range(lba, count)?;
        let mut done = 0;
        while done < count {
            let (arena, first) = btt.locate(ExternalLba(lba.0 + done));
            let run = run_length(arena, first, count - done);
            let result = self.read_run(arena, first, run, done, sink);
            arena.rtt.clear(self.index);
            result?;
            done += u64::from(run);
        }
        Ok(())
    }

    fn read_run(
        &mut self,
        arena: &Arena,
        first: PremapAba,
        count: u32,
        done: u64,
        sink: &mut (impl SectorSink<M> + ?Sized),
    ) -> Result<(), BttError> {
        let media = self.btt.media();
        let mut words = [0; RUN_MAX];
        let words = &mut words[..count as usize];
        for (word, premap) in words.iter_mut().zip(first.0..) {
            *word = arena.word(media, PremapAba(premap))?;
        }
        while !self.try_run(arena, first, words, done, sink)? {
            self.state.counters.read_retries += 1;
        }
        Ok(())
    }

    /// Reads the run of these map entries, which it brings up to date. Returns false if a writer has finished a sector of
    /// this run meanwhile: the caller tries again.
    fn try_run(
        &mut self,
        arena: &Arena,
        first: PremapAba,
        words: &mut [u32],
        done: u64,
        sink: &mut (impl SectorSink<M> + ?Sized),
    ) -> Result<bool, BttError> {
        let media = self.btt.media();
        loop {
            arena.rtt.publish(
                self.index,
                words.iter().zip(first.0..).map(|(word, premap)| match MapEntry::decode(*word, PremapAba(premap)) {
                    MapEntry::Initial(block) | MapEntry::Normal(block) => Some(block),
                    MapEntry::Error(_) | MapEntry::Zero(_) => None,
                }),
            );
            let mut changed = false;
            for (word, premap) in words.iter_mut().zip(first.0..) {
                let now = arena.word(media, PremapAba(premap))?;
                changed |= now != *word;
                *word = now;
            }
            if !changed {
                break;
            }
            self.state.counters.read_retries += 1;
        }
        for (index, (word, premap)) in words.iter().zip(first.0..).enumerate() {
            let lba = arena.lba(PremapAba(premap));
            let index = usize::try_from(done).expect("a request's sectors are in memory") + index;
            let entry = arena.decode(media, PremapAba(premap), *word)?;
            match entry {
                MapEntry::Initial(block) | MapEntry::Normal(block) => {
                    match sink.load(index, media, arena.block_at(block)) {
                        Ok(()) => {}
                        Err(why @ MediaError::Poisoned { .. }) => {
                            return match self.mark_lost(arena, PremapAba(premap), entry)? {
                                Lost::Kept => Err(BttError::Data { lba, why }),
                                Lost::WrittenSince => Ok(false),
                            };
                        }
                        Err(why) => return Err(BttError::Data { lba, why }),
                    }
                }
                MapEntry::Zero(_) => sink.zero(index),
                MapEntry::Error(_) => return Err(BttError::SectorError { lba }),
            }
        }
        self.state.counters.sectors_read += words.len() as u64;
        Ok(true)
    }
}
