//! Lanes: each owns free blocks, and is owned by one CPU at a time.
//!
//! A lane is a guard that is always locked while it is used: not recursive, never skipped where a CPU has its own.
//! It owns the flog groups lane, lane + lanes, … of every arena, and with each the one block that the group frees, so
//! that a run of sectors can share fences.

use crate::device::Btt;
use crate::error::{BttError, OpenError};
use crate::flog::FlogEntry;
use crate::map::Unfenced;
use crate::media::{LINE_BYTES, MediaError, Namespace, NsOffset};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::units::{ExternalLba, LaneIndex};
use alloc::vec::Vec;

/// What a lane has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sectors that were read.
    pub sectors_read: u64,
    /// Sectors that were written.
    pub sectors_written: u64,
    /// Fences, of all kinds.
    pub fences: u64,
    /// Cache lines of metadata whose write-back was started.
    pub write_backs: u64,
    /// Runs of reads that were tried again, because a sector of theirs was written meanwhile.
    pub read_retries: u64,
    /// Fences that were needed because another lane had just written the same map line.
    pub collisions: u64,
    /// Times that the medium refused the data of a sector in one free block, and the next one was tried.
    pub refusals: u64,
}

impl Counters {
    pub(crate) const fn plus(self, other: &Self) -> Self {
        Self {
            sectors_read: self.sectors_read + other.sectors_read,
            sectors_written: self.sectors_written + other.sectors_written,
            fences: self.fences + other.fences,
            write_backs: self.write_backs + other.write_backs,
            read_retries: self.read_retries + other.read_retries,
            collisions: self.collisions + other.collisions,
            refusals: self.refusals + other.refusals,
        }
    }
}

/// What only the holder of a lane touches.
pub(crate) struct LaneState {
    /// For each arena, the flog entries of this lane.
    pub(crate) arenas: Vec<Vec<FlogEntry>>,
    /// Map lines that this lane has changed since its last data fence. At most one run's: every run begins with one.
    pub(crate) unfenced: Vec<NsOffset>,
    pub(crate) counters: Counters,
}

impl LaneState {
    pub(crate) fn new() -> Self {
        Self { arenas: Vec::new(), unfenced: Vec::new(), counters: Counters::default() }
    }

    /// Takes the lane's flog entries of the next arena.
    pub(crate) fn take_entries(&mut self, entries: impl ExactSizeIterator<Item = FlogEntry>) -> Result<(), OpenError> {
        let mut own = Vec::new();
        own.try_reserve_exact(entries.len()).map_err(|_| OpenError::OutOfMemory)?;
        own.extend(entries);
        self.arenas.push(own);
        Ok(())
    }
}

/// A lane.
pub(crate) struct Lane {
    state: Mutex<LaneState>,
    /// How many data fences the lane has done. A map change made at epoch e is durable once this is above e.
    fenced: AtomicU64,
}

impl Lane {
    pub(crate) fn new(state: LaneState) -> Self {
        Self { state: Mutex::new(state), fenced: AtomicU64::new(0) }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state.lock().counters
    }

    /// Whether a map change may still be in a cache only.
    fn may_lose(&self, change: &Unfenced) -> bool {
        // Acquire pairs with the release in `fence_data`: if the count has moved on, so has that fence.
        self.fenced.load(Ordering::Acquire) <= change.epoch
    }
}

/// A lane, locked: the way to read and write sectors.
pub struct LaneGuard<'a, N> {
    pub(crate) btt: &'a Btt<N>,
    pub(crate) index: LaneIndex,
    pub(crate) state: MutexGuard<'a, LaneState>,
}

/// Proof that the data of a run are durable: only then may its flog records be stored.
#[must_use]
pub(crate) struct DataDurable(());

impl<'a, N: Namespace> LaneGuard<'a, N> {
    pub(crate) fn new(btt: &'a Btt<N>, index: LaneIndex) -> Self {
        Self { btt, index, state: btt.lanes[index.0 as usize].state.lock() }
    }

    /// What the lane has done since this was last asked.
    pub fn take_counters(&mut self) -> Counters {
        core::mem::take(&mut self.state.counters)
    }

    /// Which lane this is.
    #[must_use]
    pub fn index(&self) -> LaneIndex {
        self.index
    }

    pub(crate) fn lane(&self) -> &'a Lane {
        &self.btt.lanes[self.index.0 as usize]
    }

    /// Makes the map entries of this lane's finished writes durable.
    ///
    /// # Errors
    /// What the medium says.
    pub fn drain(&mut self) -> Result<(), BttError> {
        if self.state.unfenced.is_empty() {
            return Ok(());
        }
        self.fence_data().map(|DataDurable(())| ()).map_err(|why| BttError::Data { lba: ExternalLba(0), why })
    }

    /// The data fence, which carries the map changes of the run before.
    ///
    /// Crash before it: this run's data are wholly or partly on the medium, in blocks that no map entry names once
    /// recovery has finished the run before: old sectors stand. Crash after it: the same, and nothing waits for
    /// recovery.
    pub(crate) fn fence_data(&mut self) -> Result<DataDurable, MediaError> {
        let media = self.btt.media();
        for line in &self.state.unfenced {
            media.start_write_back(*line, LINE_BYTES)?;
        }
        let lines = self.state.unfenced.len() as u64;
        self.state.counters.write_backs += lines;
        self.fence()?;
        self.state.unfenced.clear();
        let lane = self.lane();
        // Release: pairs with the acquire in `may_lose`. Only the holder of the lane stores it.
        lane.fenced.store(lane.fenced.load(Ordering::Relaxed) + 1, Ordering::Release);
        Ok(DataDurable(()))
    }

    pub(crate) fn fence(&mut self) -> Result<(), MediaError> {
        self.state.counters.fences += 1;
        self.btt.media().fence()
    }

    /// The epoch of the map changes that this lane makes now.
    pub(crate) fn epoch(&self) -> u64 {
        self.lane().fenced.load(Ordering::Relaxed)
    }

    /// Whether `change` is another lane's, and may not be durable yet.
    pub(crate) fn must_settle(&self, change: &Unfenced) -> bool {
        change.lane != self.index && self.btt.lanes[change.lane.0 as usize].may_lose(change)
    }
}
