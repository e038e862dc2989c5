//! Lanes: each owns free blocks, and is owned by one CPU at a time.
//!
//! Invariant 10: only the holder of a lane touches its free blocks and its flog groups. So a lane is locked whenever it is
//! used, also where each CPU has its own.
//! It owns the flog groups lane, lane + lanes, … of every arena, and with each the one block that the group frees, so
//! that a run of sectors can share fences.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::chain::OpenError;
use crate::flog::FlogEntry;
use crate::map::Unfenced;
use crate::media::NsOffset;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::units::{ArenaIndex, LaneIndex, RUN_MAX};

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
    /// Runs of writes that were committed, each with fences of its own.
    pub commits: u64,
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
            commits: self.commits + other.commits,
        }
    }
}

/// What only the holder of a lane touches.
pub(crate) struct LaneState {
    /// For each arena, the flog entries of this lane.
    pub(crate) arenas: Vec<Vec<FlogEntry>>,
    /// Map lines that this lane has changed since its last data fence. At most one run's: every run begins with one.
    pub(crate) unfenced: Vec<NsOffset>,
    /// How many data fences each other lane had done when this one last looked.
    seen: Box<[u64]>,
    pub(crate) counters: Counters,
}

impl LaneState {
    /// What a lane of so many begins with.
    pub(crate) fn new(lanes: u32) -> Self {
        Self {
            arenas: Vec::new(),
            unfenced: Vec::with_capacity(RUN_MAX),
            seen: vec![0; lanes as usize].into(),
            counters: Counters::default(),
        }
    }

    /// Whether a map change of another lane, `lane`, may still be in a cache only. `fences` returns that lane's count
    /// of data fences. It is called only if the count that was seen last does not decide: a count only grows, and a
    /// look at it moves its cache line between CPUs.
    #[inline]
    pub(crate) fn may_lose(&mut self, lane: LaneIndex, change: &Unfenced, fences: impl FnOnce() -> u64) -> bool {
        let seen = &mut self.seen[lane.0 as usize];
        if *seen <= change.epoch {
            *seen = fences();
        }
        *seen <= change.epoch
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

/// Something on cache lines of its own. CPUs fetch lines in pairs, so that neighbours meet in 128 bytes.
#[repr(align(128))]
struct Apart<T>(T);

/// A lane.
pub(crate) struct Lane {
    state: Apart<Mutex<LaneState>>,
    /// How many data fences the lane has done. A map change made at epoch e is durable once this is above e.
    fenced: Apart<AtomicU64>,
}

impl Lane {
    pub(crate) fn new(state: LaneState) -> Self {
        Self { state: Apart(Mutex::new(state)), fenced: Apart(AtomicU64::new(0)) }
    }

    /// Bytes of memory that one of so many lanes takes, beside its free lists.
    pub(crate) const fn memory_bytes(lanes: u32) -> u64 {
        (size_of::<Self>() + RUN_MAX * size_of::<NsOffset>()) as u64 + lanes as u64 * size_of::<u64>() as u64
    }

    pub(crate) fn counters(&self) -> Counters {
        self.state.0.lock().counters
    }

    /// Locks the lane.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.0.lock()
    }

    /// Locks the lane, if nobody has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, LaneState>> {
        self.state.0.try_lock()
    }

    /// How many data fences the lane has done: the epoch of the map changes that it makes now. For its holder.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        self.fenced.0.load(Ordering::Relaxed)
    }

    /// Counts a data fence, which the lane's holder has done.
    #[inline]
    pub(crate) fn count_fence(&self) {
        // Release: pairs with the acquire in `fences`. Only the holder of the lane stores it.
        self.fenced.0.store(self.epoch() + 1, Ordering::Release);
    }

    /// How many data fences the lane has done. For other lanes.
    #[inline]
    pub(crate) fn fences(&self) -> u64 {
        // Acquire pairs with the release in `count_fence`: if the count has moved on, so has that fence.
        self.fenced.0.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))] // their locks exist in a model only
mod tests {
    use super::*;

    #[test]
    fn a_lane_looks_at_anothers_fences_only_if_what_it_has_seen_does_not_decide() {
        let mut state = LaneState::new(3);
        let change = |epoch| Unfenced { line: NsOffset(0), lane: LaneIndex(1), epoch };
        assert!(state.may_lose(LaneIndex(1), &change(0), || 0), "no fence yet");
        assert!(!state.may_lose(LaneIndex(1), &change(0), || 5));
        assert!(!state.may_lose(LaneIndex(1), &change(4), || unreachable!("five fences were seen")));
        assert!(state.may_lose(LaneIndex(1), &change(5), || 5), "made after the fifth fence");
        assert!(state.may_lose(LaneIndex(2), &change(0), || 0), "another lane's fences are its own");
    }

    #[test]
    fn lanes_and_their_fence_counts_do_not_meet() {
        assert_eq!((align_of::<Lane>(), align_of::<Apart<AtomicU64>>()), (128, 128));
        assert!(core::mem::offset_of!(Lane, fenced).abs_diff(core::mem::offset_of!(Lane, state)) >= 128);
    }
}
