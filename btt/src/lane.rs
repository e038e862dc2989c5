//! Lanes: each owns free blocks, and is owned by one CPU at a time.
//!
//! Invariant 10: only the holder of a lane touches its free blocks, its flog groups and its row of the RTT. So a lane is
//! locked whenever it is used, also where each CPU has its own.
//! It owns the flog groups lane, lane + lanes, … of every arena, and with each the one block that the group frees, so
//! that a run of sectors can share fences.

use crate::chain::OpenError;
use crate::flog::FlogEntry;
use crate::map::Unfenced;
use crate::media::NsOffset;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::units::ArenaIndex;
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

    /// The lane's flog entries of an arena.
    #[inline]
    pub(crate) fn entries(&self, arena: ArenaIndex) -> &[FlogEntry] {
        &self.arenas[arena.0 as usize]
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn entries_mut(&mut self, arena: ArenaIndex) -> &mut [FlogEntry] {
        &mut self.arenas[arena.0 as usize]
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

    /// Locks the lane.
    pub(crate) fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock()
    }

    /// How many data fences the lane has done: the epoch of the map changes that it makes now. For its holder.
    pub(crate) fn epoch(&self) -> u64 {
        self.fenced.load(Ordering::Relaxed)
    }

    /// Counts a data fence, which the lane's holder has done.
    pub(crate) fn count_fence(&self) {
        // Release: pairs with the acquire in `may_lose`. Only the holder of the lane stores it.
        self.fenced.store(self.epoch() + 1, Ordering::Release);
    }

    /// Whether a map change of this lane may still be in a cache only.
    pub(crate) fn may_lose(&self, change: &Unfenced) -> bool {
        // Acquire pairs with the release in `count_fence`: if the count has moved on, so has that fence.
        self.fenced.load(Ordering::Acquire) <= change.epoch
    }
}
