//! How a run of sectors is written: with the fences of one.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | order the stores before; wait for slow readers | every sector old |
//! | data to the free blocks, **fence** | every sector old: no map entry names those blocks |
//! | lock the stripes; make other lanes' changes of these lines durable, **fence** if there are any | every sector old |
//! | flog records | each sector old or new, by whether its commit half is on the medium |
//! | **fence** | every sector new: recovery moves the map entries that are still old |
//! | map entries, unlock | the same; the next data fence of this lane makes the entries durable |
//!
//! So a run that is acknowledged is durable after two fences. Its map entries wait for the lane's next data fence, and
//! until then nothing may make recovery lose them:
//! - A group's next record needs a data fence of its lane before it, and that one carries the map entries.
//! - Another lane that writes the same sector finds the change remembered on the stripe, and makes it durable before
//!   it stores a flog word. Otherwise a cut could leave two records of one sector waiting, and the order in which
//!   recovery takes them would decide.

use crate::arena::Arena;
use crate::bytes::ZEROES;
use crate::error::BttError;
use crate::flog::{FlogEntry, Move};
use crate::guard::{DataDurable, LaneGuard};
use crate::map::{LINES_MOST, MapEntry, MapGuard, MapLine, MapLocks, Unfenced};
use crate::media::{LINE_BYTES, MediaError, Medium, SectorSource};
use crate::units::{ExternalLba, PostmapAba, PremapAba, RUN_MAX, clamp_u32};

/// The sectors of a run, all of one arena and different from each other, of which no two lie in map lines that share a
/// stripe: a stripe remembers one line. There are at most `SECTORS` of them, in at most `LINES` lines.
pub(crate) trait Run<const LINES: usize, const SECTORS: usize> {
    /// The run's sector `index`.
    fn premap(&self, index: usize) -> PremapAba;

    /// Locks the stripes of the first `count` sectors, in ascending order (invariant 9), for a guard that has none.
    fn lock<'a>(&self, locks: &'a MapLocks, count: u32, guard: &mut MapGuard<'a, LINES>);
}

/// Sectors that follow one another: their lines do, too, and are few.
struct Contiguous {
    first: PremapAba,
}

impl Run<LINES_MOST, RUN_MAX> for Contiguous {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // below RUN_MAX
    fn premap(&self, index: usize) -> PremapAba {
        PremapAba(self.first.0 + index as u32)
    }

    #[inline]
    fn lock<'a>(&self, locks: &'a MapLocks, count: u32, guard: &mut MapGuard<'a, LINES_MOST>) {
        guard.lock_run(locks, self.first, count);
    }
}

/// A sector alone: all that most writes are. What is written of it needs no loop.
struct Single(PremapAba);

impl Run<1, 1> for Single {
    #[inline(always)]
    fn premap(&self, _: usize) -> PremapAba {
        self.0
    }

    #[inline(always)]
    fn lock<'a>(&self, locks: &'a MapLocks, _: u32, guard: &mut MapGuard<'a, 1>) {
        guard.lock_lines(locks, [MapLine::of(self.0)].into_iter());
    }
}

/// Proof that a run's flog records are durable: only now may the map change, and the write be acknowledged (invariant 3).
#[must_use]
struct Committed(());

impl<M: Medium> LaneGuard<'_, M> {
    /// Writes `count` sectors from `lba` on. When it returns, they are durable; each is wholly old or new whenever the
    /// power goes. Sectors of one request are not one unit: a cut may leave some of them written.
    ///
    /// # Errors
    /// [`BttError::OutOfRange`] before anything is done; otherwise the sectors before the failing run are written,
    /// those after it are not, and each one of that run is old or new.
    #[inline]
    pub fn write(
        &mut self,
        lba: ExternalLba,
        count: u64,
        source: &(impl SectorSource<M> + ?Sized),
    ) -> Result<(), BttError> {
        self.btt.check_range(lba, count)?;
        if count == 1 { self.write_one(lba, source) } else { self.write_runs(lba, count, source) }
    }

    /// Writes a sector that exists.
    fn write_one(&mut self, lba: ExternalLba, source: &(impl SectorSource<M> + ?Sized)) -> Result<(), BttError> {
        let (arena, premap) = self.btt.locate(lba);
        self.commit_run(arena, &Single(premap), 1, 0, source, |_| true).map(|_| ())
    }

    /// Writes sectors that exist.
    fn write_runs(
        &mut self,
        lba: ExternalLba,
        count: u64,
        source: &(impl SectorSource<M> + ?Sized),
    ) -> Result<(), BttError> {
        let btt = self.btt;
        let mut done = 0;
        while done < count {
            let (arena, first) = btt.locate(ExternalLba(lba.0 + done));
            let run = self.write_run(arena, first, count - done, done, source, |_| true)?;
            done += u64::from(run);
        }
        Ok(())
    }

    /// Writes one run and returns its length in sectors. Returns 0, with nothing changed, if `replaces`, asked under the
    /// stripe locks, rejects an entry that the run would replace.
    pub(crate) fn write_run(
        &mut self,
        arena: &Arena,
        first: PremapAba,
        wanted: u64,
        done: u64,
        source: &(impl SectorSource<M> + ?Sized),
        replaces: impl Fn(MapEntry) -> bool,
    ) -> Result<u32, BttError> {
        let in_arena = arena.found.info.geometry.external_nlba - first.0;
        let count = clamp_u32(wanted, in_arena.min(self.run_most(arena)));
        self.commit_run(arena, &Contiguous { first }, count, done, source, replaces)
    }

    /// The most sectors of a run: a lane has as many free blocks as it has flog groups.
    #[inline]
    pub(crate) fn run_most(&self, arena: &Arena) -> u32 {
        u32::try_from(self.state.entries(arena.index).len().min(RUN_MAX)).expect("at most RUN_MAX")
    }

    /// Writes the first sectors of a run of `count`, with sector `done` of the source and those after it, and returns how
    /// many: fewer than `count` if the medium refuses a block. Otherwise as [`LaneGuard::write_run`].
    ///
    /// # Errors
    /// [`BttError::Data`]: no sector is written, because of the data of the first one. [`BttError::ReadOnly`]: the
    /// arena takes no writes; each sector of the run is old or new.
    #[inline(always)]
    pub(crate) fn commit_run<const LINES: usize, const SECTORS: usize>(
        &mut self,
        arena: &Arena,
        run: &impl Run<LINES, SECTORS>,
        count: u32,
        done: u64,
        source: &(impl SectorSource<M> + ?Sized),
        replaces: impl Fn(MapEntry) -> bool,
    ) -> Result<u32, BttError> {
        // A sector alone is known to be one while this is compiled: nothing below is a loop then.
        let one_or = |count: u32| if SECTORS == 1 { 1 } else { count };
        let count = one_or(count);
        arena.check_writable()?;
        self.fetch_lines(arena, run, count);
        let data_failed = |why| BttError::Data { lba: arena.lba(run.premap(0)), why };
        let count = one_or(self.place_data(arena, count, done, source).map_err(data_failed)?);
        let data = self.fence_data().map_err(data_failed)?;

        let media = self.btt.media();
        // Of a sector alone what its record needs is at hand before the lock. What comes between the lock, which waits for the
        // data fence, and the record's write-back is waited for in full; all else overlaps with a fence.
        let alone = if SECTORS == 1 { self.state.entries(arena.index).first().copied() } else { None };
        let mut guard = MapGuard::new();
        run.lock(&arena.locks, count, &mut guard);
        // Again, under the locks: the lane that turned the arena read-only meanwhile may have left a record of one of these
        // sectors without its map change. A second one would free the same block, and no flog can explain that.
        arena.check_writable()?;
        let mut moves = [Move { lba: PremapAba(0), old: MapEntry::Initial(PostmapAba(0)) }; SECTORS];
        for (index, change) in moves.iter_mut().enumerate().take(count as usize) {
            let lba = run.premap(index);
            *change = Move { lba, old: arena.entry(media, lba)? };
            if !replaces(change.old) {
                return Ok(0);
            }
        }
        let moves = &moves[..count as usize];
        let failed = |why| arena.metadata_failed(why);
        self.settle(&mut guard).map_err(failed)?;
        let committed = self.commit_records(arena, alone, moves, data).map_err(failed)?;
        self.update_map(arena, moves, &mut guard, &committed).map_err(failed)?;
        self.state.counters.sectors_written += u64::from(count);
        self.state.counters.commits += 1;
        Ok(count)
    }

    /// Lets the run's map lines come while its data are stored: their entries are loaded and stored to afterwards.
    #[inline(always)]
    fn fetch_lines<const LINES: usize, const SECTORS: usize>(
        &self,
        arena: &Arena,
        run: &impl Run<LINES, SECTORS>,
        count: u32,
    ) {
        let mut last = None;
        for premap in (0..count as usize).map(|index| run.premap(index)) {
            if last.replace(MapLine::of(premap)) != Some(MapLine::of(premap)) {
                self.btt.media().will_store(arena.found.entry_at(premap));
            }
        }
    }

    /// Streams the data of a run of at most `count` sectors to free blocks, and returns the run's length: it ends
    /// before a block that the medium refuses, and before data that the source does not give. Fails if no sector can be
    /// placed.
    ///
    /// A refused block goes behind the lane's others, so that no later run begins with it. The medium does not record
    /// in which order a lane uses its groups: a run's records are of different sectors, and each group's next record uses
    /// the block that its own newest one frees, in any order.
    #[inline(always)]
    fn place_data(
        &mut self,
        arena: &Arena,
        count: u32,
        done: u64,
        source: &(impl SectorSource<M> + ?Sized),
    ) -> Result<u32, MediaError> {
        // Readers that copy a byte of what follows see that these blocks have left the map (`read`). Nothing else comes
        // between the map changes of this lane's last run and the data of this one.
        self.btt.media().order_stores();
        arena.slow_readers.wait();
        match self.store_data(arena, count, done, source) {
            Ok(()) => Ok(count),
            Err(refused) => self.place_elsewhere(arena, count, done, source, refused),
        }
    }

    /// Goes on with [`LaneGuard::place_data`] where the medium has `refused` a block, or the source its data.
    #[cold]
    fn place_elsewhere(
        &mut self,
        arena: &Arena,
        count: u32,
        done: u64,
        source: &(impl SectorSource<M> + ?Sized),
        mut refused: (usize, MediaError),
    ) -> Result<u32, MediaError> {
        let mut left = self.state.entries(arena.index).len();
        loop {
            let (stored, why) = refused;
            self.btt.stop_if_not_durable(why);
            if matches!(why, MediaError::CallersMemory | MediaError::NotDurable(_)) {
                // Another block would not help: the next run begins with that sector, and fails.
                return if stored > 0 { Ok(u32::try_from(stored).expect("below count")) } else { Err(why) };
            }
            self.state.entries_mut(arena.index)[stored..].rotate_left(1);
            self.state.counters.refusals += 1;
            if stored > 0 {
                return Ok(u32::try_from(stored).expect("below count"));
            }
            left -= 1;
            if left == 0 {
                return Err(why);
            }
            match self.store_data(arena, count, done, source) {
                Ok(()) => return Ok(count),
                Err(next) => refused = next,
            }
        }
    }

    /// Streams the data of `count` sectors to the lane's first free blocks.
    ///
    /// # Errors
    /// Which of them the medium refused, and why; those before it have their data.
    #[inline(always)]
    fn store_data(
        &self,
        arena: &Arena,
        count: u32,
        done: u64,
        source: &(impl SectorSource<M> + ?Sized),
    ) -> Result<(), (usize, MediaError)> {
        let media = self.btt.media();
        let entries = &self.state.entries(arena.index)[..count as usize];
        for (index, entry) in entries.iter().enumerate() {
            let sector = usize::try_from(done).expect("a request's sectors are in memory") + index;
            let mut failed = None;
            if !entry.suspect {
                match source.store(sector, media, arena.block_at(entry.free)) {
                    Ok(()) => continue,
                    Err(why) => failed = Some(why),
                }
            }
            self.store_again(arena, entry.free, sector, source, failed).map_err(|why| (index, why))?;
        }
        Ok(())
    }

    /// Stores a sector to a block that is suspect, or that has `failed` to take it: if the block has lost a line that the
    /// sector would write in part only, after the rest of the block.
    #[cold]
    fn store_again(
        &self,
        arena: &Arena,
        block: PostmapAba,
        sector: usize,
        source: &(impl SectorSource<M> + ?Sized),
        failed: Option<MediaError>,
    ) -> Result<(), MediaError> {
        let store = || source.store(sector, self.btt.media(), arena.block_at(block));
        let scrubbed = || self.scrub(arena, block).and_then(|()| store());
        match failed.map_or_else(scrubbed, Err) {
            Err(MediaError::Poisoned { .. }) => scrubbed(),
            result => result,
        }
    }

    /// Zeroes a whole internal block: media forget that they lost bytes once these are written in whole lines, and a
    /// sector alone may end in the middle of one.
    fn scrub(&self, arena: &Arena, block: PostmapAba) -> Result<(), MediaError> {
        let (media, mut at) = (self.btt.media(), arena.block_at(block));
        let mut left = arena.found.info.geometry.internal_lbasize as usize;
        while left > 0 {
            let zeroes = &ZEROES[..left.min(ZEROES.len())];
            media.write(at, zeroes)?;
            at = at.plus(zeroes.len() as u64);
            left -= zeroes.len();
        }
        Ok(())
    }

    /// Makes durable what other lanes have changed on these stripes and not fenced (invariant 4).
    #[inline(always)]
    pub(crate) fn settle<const LINES: usize>(&mut self, guard: &mut MapGuard<'_, LINES>) -> Result<(), MediaError> {
        let mut found = 0;
        for (_, record) in guard.lines() {
            if record.is_some_and(|change| self.must_settle(&change))
                && let Some(change) = record.take()
            {
                self.btt.media().start_write_back(change.line, LINE_BYTES)?;
                found += 1;
            }
        }
        if found > 0 {
            self.state.counters.write_backs += found;
            self.state.counters.collisions += 1;
            // On our own CPU: the fence of the lane that stored the entry may be far off.
            self.fence()?;
        }
        Ok(())
    }

    /// Stores the flog records of a run and makes them durable. `_data` proves that their data are (invariant 3). The entry of a
    /// sector `alone` is given.
    #[inline(always)]
    fn commit_records(
        &mut self,
        arena: &Arena,
        alone: Option<FlogEntry>,
        moves: &[Move],
        _data: DataDurable,
    ) -> Result<Committed, MediaError> {
        let media = self.btt.media();
        let entries = match &alone {
            Some(entry) => core::slice::from_ref(entry),
            None => &self.state.entries(arena.index)[..moves.len()],
        };
        let pairs = || entries.iter().zip(moves);
        if media.keeps_line_order() {
            // Both halves lie in one line, which persists in program order: the sequence number is never there without
            // the body.
            for (entry, change) in pairs() {
                entry.store_record(media, *change)?;
                entry.start_write_back(media)?;
            }
        } else {
            for (entry, change) in pairs() {
                entry.store_body(media, *change)?;
                entry.start_write_back(media)?;
            }
            // Crash here: new lba and old_map beside the old sequence number. That is still the older slot.
            self.btt.fence()?;
            for (entry, _) in pairs() {
                entry.store_commit(media)?;
                entry.start_write_back(media)?;
            }
        }
        let halves = if media.keeps_line_order() { 1 } else { 2 };
        self.state.counters.write_backs += halves * moves.len() as u64;
        self.state.counters.fences += halves - 1;
        // Crash before this fence: each sector of the run is old or new. After it: each is new.
        self.fence()?;
        Ok(Committed(()))
    }

    /// Moves the map entries, and remembers that they are not durable yet.
    #[inline(always)]
    fn update_map<const LINES: usize>(
        &mut self,
        arena: &Arena,
        moves: &[Move],
        guard: &mut MapGuard<'_, LINES>,
        _committed: &Committed,
    ) -> Result<(), MediaError> {
        let media = self.btt.media();
        let entries = self.state.entries_mut(arena.index);
        let mut moved = Ok(());
        for (entry, change) in entries[..moves.len()].iter_mut().zip(moves) {
            moved = media.store_u32(arena.found.entry_at(change.lba), MapEntry::Normal(entry.free).encode());
            if moved.is_err() {
                break;
            }
            entry.advance(change.old);
        }
        // After the entries, also where not all of them could be stored.
        guard.count_change();
        moved?;
        let (epoch, lane) = (self.epoch(), self.index);
        for (line, record) in guard.lines() {
            let line = line.at(arena.found.map_at());
            *record = Some(Unfenced { line, lane, epoch });
            self.state.unfenced.push(line);
        }
        Ok(())
    }
}
