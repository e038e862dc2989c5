//! How a run of sectors is read: without a lane, and without a store to anything that CPUs share.
//!
//! | step | of what it sees |
//! |---|---|
//! | load the versions of the run's stripes | |
//! | follow the map, copy the blocks | some of it may be of a block's next life |
//! | load the versions again: none has changed | then each block was its sector's throughout |
//!
//! Otherwise the run is read again, a few times, and then on the slow path, which always ends: it takes a lane, follows the
//! map under the run's stripes, and copies while no lane may write to a block that has left the map (`slow_readers`).
//!
//! # Why what is kept is whole
//! A lane that gives a sector another block holds the sector's stripe, stores the entry, and then counts the stripe's
//! version up, by a release store. (An edit changes neither the block nor the version.) Before a lane writes to a block
//! that has left the map, it calls [`Medium::order_stores`], which is a release fence.
//!
//! - A reader that has loaded the new version first also loads the new entry: the version was stored after it.
//! - A reader that has loaded the old version first, and then a byte of the block's next life, sees the new version when
//!   it looks again, by its acquire fence: the count came before the fence that came before that byte.
//! - A reader that has loaded the old version, the new entry and its block has data that are durable: an entry is
//!   stored after its record is. It may have to read again for nothing.
//!
//! The entry alone would not do: a lane's freed block is its next target, so that a sector that is written twice has its
//! first entry again. A version has 64 bits, and does not come back.
//!
//! Bytes that are thrown away have been in the sink meanwhile. A lost line or an error entry that a read meets also
//! counts only if the versions are still the same.
//!
//! A sector whose data the medium has lost becomes an error in the map, never bytes. The slow path decides that.

use crate::arena::Arena;
use crate::device::Btt;
use crate::edit::{Lost, run_length};
use crate::error::BttError;
use crate::guard::LaneGuard;
use crate::lane::Counters;
use crate::map::{LINES_MOST, MapEntry, MapLine};
use crate::media::{MediaError, Medium, SectorSink};
use crate::sync::sized;
use crate::units::{CpuIndex, ExternalLba, PremapAba, RUN_MAX};

/// How often a run is read before it takes the slow path.
const TRIES: usize = sized(4, 1);

/// One CPU's way to read sectors. It holds nothing: any number of them read at once, beside all lanes.
pub struct Reader<'a, M> {
    btt: &'a Btt<M>,
    cpu: CpuIndex,
    counters: Counters,
}

impl<M: Medium> Btt<M> {
    /// The way to read sectors, for `cpu`, whose lane it takes where a read cannot do without.
    pub fn reader(&self, cpu: CpuIndex) -> Reader<'_, M> {
        Reader { btt: self, cpu, counters: Counters::default() }
    }
}

impl<M: Medium> Reader<'_, M> {
    /// Reads `count` sectors from `lba` on, each wholly as some write left it. The caller holds no lane.
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
        let (btt, cpu) = (self.btt, self.cpu);
        btt.read_runs(lba, count, sink, &mut self.counters, |run, sink| btt.lane(cpu).read_slowly(run, sink))
    }

    /// Returns what was read since the last call.
    pub fn take_counters(&mut self) -> Counters {
        core::mem::take(&mut self.counters)
    }
}

/// Sectors of one arena that follow one another, and which of the sink's the first one is.
#[derive(Clone, Copy)]
pub(crate) struct ReadRun<'a> {
    arena: &'a Arena,
    first: PremapAba,
    count: u32,
    done: u64,
}

impl ReadRun<'_> {
    /// The sectors, each with its number in the sink.
    #[inline]
    fn sectors(&self) -> impl Iterator<Item = (PremapAba, usize)> {
        let done = usize::try_from(self.done).expect("a request's sectors are in memory");
        (self.first.0..self.first.0 + self.count).map(PremapAba).zip(done..)
    }
}

/// The outcome of a try.
enum Tried {
    /// All of the run was read.
    Kept,
    /// An entry has changed its block: what was read may not be whole.
    Changed,
    /// The medium seems to have lost some of the data.
    Lost,
}

/// Why a sector was not copied.
enum Failed {
    /// The medium has lost its data.
    Lost(MediaError),
    /// It cannot be read.
    Error(BttError),
}

impl<M: Medium> Btt<M> {
    /// Reads sectors; `slowly` reads a run for which the short way fails, and returns false if it is to be tried again.
    #[inline]
    fn read_runs<S: SectorSink<M> + ?Sized>(
        &self,
        lba: ExternalLba,
        count: u64,
        sink: &mut S,
        counters: &mut Counters,
        slowly: impl FnMut(ReadRun<'_>, &mut S) -> Result<bool, BttError>,
    ) -> Result<(), BttError> {
        self.check_range(lba, count)?;
        let mut tried = 0;
        if count == 1 {
            // The first try in a straight line, as it is all that there is to most requests.
            let (arena, premap) = self.locate(lba);
            let line = MapLine::of(premap);
            let version = arena.locks.version(line);
            let result = self.follow(arena, premap, 0, sink);
            if !arena.locks.is_still(line, version) {
                counters.read_retries += 1;
            } else if result.is_ok() {
                counters.sectors_read += 1;
                return Ok(());
            }
            tried = 1;
        }
        self.read_all(lba, count, sink, counters, tried, slowly)
    }

    /// Reads run by run, the first of which was `tried` so often.
    #[inline(never)]
    fn read_all<S: SectorSink<M> + ?Sized>(
        &self,
        lba: ExternalLba,
        count: u64,
        sink: &mut S,
        counters: &mut Counters,
        mut tried: usize,
        mut slowly: impl FnMut(ReadRun<'_>, &mut S) -> Result<bool, BttError>,
    ) -> Result<(), BttError> {
        let mut done = 0;
        while done < count {
            let (arena, first) = self.locate(ExternalLba(lba.0 + done));
            let run = ReadRun { arena, first, count: run_length(arena, first, count - done), done };
            loop {
                if tried < TRIES {
                    tried += 1;
                    match self.try_run(run, sink)? {
                        Tried::Kept => break,
                        Tried::Changed => {
                            counters.read_retries += 1;
                            continue;
                        }
                        Tried::Lost => {}
                    }
                }
                // The slow path ends, too: it fails only if a sector is written while it is found lost.
                if slowly(run, sink)? {
                    break;
                }
                tried = 0;
                counters.read_retries += 1;
            }
            tried = 0;
            done += u64::from(run.count);
            counters.sectors_read += u64::from(run.count);
        }
        Ok(())
    }

    /// Tries once to read a run.
    #[inline]
    fn try_run<S: SectorSink<M> + ?Sized>(&self, run: ReadRun<'_>, sink: &mut S) -> Result<Tried, BttError> {
        let locks = &run.arena.locks;
        let lines = MapLine::all_of(run.first, run.count);
        let mut versions = [0; LINES_MOST];
        for (version, line) in versions.iter_mut().zip(lines.clone()) {
            *version = locks.version(line);
        }
        let result = run.sectors().try_for_each(|(premap, index)| self.follow(run.arena, premap, index, sink));
        if !versions.iter().zip(lines).all(|(version, line)| locks.is_still(line, *version)) {
            return Ok(Tried::Changed);
        }
        match result {
            Ok(()) => Ok(Tried::Kept),
            Err(Failed::Lost(_)) => Ok(Tried::Lost),
            Err(Failed::Error(why)) => Err(why),
        }
    }

    #[inline(always)]
    fn follow<S: SectorSink<M> + ?Sized>(
        &self,
        arena: &Arena,
        premap: PremapAba,
        index: usize,
        sink: &mut S,
    ) -> Result<(), Failed> {
        let entry = arena.entry(self.media(), premap).map_err(Failed::Error)?;
        self.copy(arena, premap, entry, index, sink)
    }

    /// Copies the block of this entry.
    #[inline(always)]
    fn copy<S: SectorSink<M> + ?Sized>(
        &self,
        arena: &Arena,
        premap: PremapAba,
        entry: MapEntry,
        index: usize,
        sink: &mut S,
    ) -> Result<(), Failed> {
        match entry {
            MapEntry::Initial(block) | MapEntry::Normal(block) => {
                sink.load(index, self.media(), arena.block_at(block)).map_err(|why| match why {
                    MediaError::Poisoned { .. } => Failed::Lost(why),
                    why => Failed::Error(BttError::Data { lba: arena.lba(premap), why }),
                })
            }
            MapEntry::Zero(_) => {
                sink.zero(index);
                Ok(())
            }
            MapEntry::Error(_) => Err(Failed::Error(BttError::SectorError { lba: arena.lba(premap) })),
        }
    }

    /// Copies the block of this entry, which no lane writes meanwhile. If the medium reports it as lost, looks again:
    /// the report may be about what the block held before.
    fn copy_or_find_lost<S: SectorSink<M> + ?Sized>(
        &self,
        arena: &Arena,
        premap: PremapAba,
        entry: MapEntry,
        index: usize,
        sink: &mut S,
    ) -> Result<(), Failed> {
        let first = self.copy(arena, premap, entry, index, sink);
        if !matches!(first, Err(Failed::Lost(_))) {
            return first;
        }
        let bytes = u64::from(arena.found.info.geometry.internal_lbasize);
        let again = self.media().look_again(arena.block_at(entry.block()), bytes);
        again.map_err(|why| Failed::Error(BttError::Data { lba: arena.lba(premap), why }))?;
        self.copy(arena, premap, entry, index, sink)
    }
}

impl<M: Medium> LaneGuard<'_, M> {
    /// As [`Reader::read`], for a caller that holds this lane.
    pub(crate) fn read(
        &mut self,
        lba: ExternalLba,
        count: u64,
        sink: &mut (impl SectorSink<M> + ?Sized),
    ) -> Result<(), BttError> {
        let (btt, mut counters) = (self.btt, Counters::default());
        let result = btt.read_runs(lba, count, sink, &mut counters, |run, sink| self.read_slowly(run, sink));
        self.state.counters = self.state.counters.plus(&counters);
        result
    }

    /// Reads a run whose blocks no lane may write meanwhile. Returns false if a sector, whose data the medium had lost, has
    /// been written meanwhile.
    #[cold]
    pub(crate) fn read_slowly<S: SectorSink<M> + ?Sized>(
        &mut self,
        run: ReadRun<'_>,
        sink: &mut S,
    ) -> Result<bool, BttError> {
        let (media, arena) = (self.btt.media(), run.arena);
        let mut words = [0; RUN_MAX];
        let turn = arena.slow_readers.turn();
        let guard = arena.locks.lock(run.first, run.count);
        for (word, (premap, _)) in words.iter_mut().zip(run.sectors()) {
            *word = arena.word(media, premap)?;
        }
        // Before the stripes are unlocked: a lane that takes one of these blocks out of the map locks its stripe later.
        turn.begin();
        drop(guard);
        let result = self.copy_held(run, &words, sink);
        drop(turn);
        result
    }

    /// Copies a run of these map entries, whose blocks no lane writes meanwhile.
    fn copy_held<S: SectorSink<M> + ?Sized>(
        &mut self,
        run: ReadRun<'_>,
        words: &[u32],
        sink: &mut S,
    ) -> Result<bool, BttError> {
        let arena = run.arena;
        for (word, (premap, index)) in words.iter().zip(run.sectors()) {
            let entry = arena.decode(self.btt.media(), premap, *word)?;
            match self.btt.copy_or_find_lost(arena, premap, entry, index, sink) {
                Ok(()) => {}
                Err(Failed::Lost(why)) => {
                    return match self.mark_lost(arena, premap, entry)? {
                        Lost::Kept => Err(BttError::Data { lba: arena.lba(premap), why }),
                        Lost::WrittenSince => Ok(false),
                    };
                }
                Err(Failed::Error(why)) => return Err(why),
            }
        }
        Ok(true)
    }
}
