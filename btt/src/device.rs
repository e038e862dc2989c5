//! The device: sectors over all arenas, opened with O(nfree) work and memory, whatever the capacity.

use alloc::boxed::Box;
use alloc::vec::Vec;

use uuid::Uuid;

use crate::arena::{Arena, Overlay, born_read_only};
use crate::chain::{FoundArena, OpenError, Placement, find_all};
use crate::error::{BttError, ReadOnlyReason};
use crate::flog::Slots;
use crate::geometry::SectorSize;
use crate::info_block::{InfoBlock, Version};
use crate::lane::{Counters, Lane, LaneState};
use crate::media::{Medium, NsOffset};
use crate::recover::{KEPT_BYTES, LOOK_BYTES, Recovery, with_capacity};
use crate::units::{ArenaIndex, ExternalLba, PremapAba};

/// A namespace in sector mode.
///
/// Order of locks: lane → a slow reader's turn → map stripes (invariant 9). Only [`Btt::exclusively`] holds two lanes: all
/// of them, in order.
pub struct Btt<M> {
    media: M,
    pub(crate) arenas: Vec<Arena>,
    pub(crate) lanes: Box<[Lane]>,
    capacity: u64,
    recovered: u32,
    memory_bytes: u64,
}

/// What stands in an arena's info block, and how the arena is.
#[derive(Clone, Copy, Debug)]
pub struct ArenaInfo {
    /// Its place in the chain.
    pub index: ArenaIndex,
    /// Where its info block is in the namespace; all offsets count from there.
    pub at: NsOffset,
    /// The first sector that it holds.
    pub first_lba: ExternalLba,
    /// The info block.
    pub info: InfoBlock,
    /// Whether the copy at the arena's end is the same.
    pub backup_agrees: bool,
    /// Which flog slots are in use.
    pub slots: Slots,
    /// Why the arena takes no writes, if so.
    pub read_only: Option<ReadOnlyReason>,
}

impl<M: Medium> Btt<M> {
    /// Opens the BTT on a namespace, for `cpus` CPUs. Invariant 6: all arenas are looked at before recovery writes; on a
    /// medium that may not be written, what recovery would write is kept in memory instead.
    ///
    /// An arena whose map cannot be read where an interrupted write may wait is read-only, with such an overlay, too.
    ///
    /// # Errors
    /// The first thing that is not sound; then nothing has been written.
    ///
    /// # Panics
    /// If `cpus` is 0.
    pub fn open(media: M, placement: Placement, cpus: u32) -> Result<Self, OpenError> {
        Self::open_within(media, placement, cpus, u64::MAX)
    }

    /// As [`Btt::open`], for a caller that has no more than `most_bytes` of memory for it: the medium determines how long the
    /// free lists are, up to [`crate::geometry::NFREE_MAX`] blocks for each arena.
    ///
    /// # Errors
    /// [`OpenError::OverBudget`] before anything of that size is allocated; as [`Btt::open`].
    ///
    /// # Panics
    /// If `cpus` is 0.
    pub fn open_within(media: M, placement: Placement, cpus: u32, most_bytes: u64) -> Result<Self, OpenError> {
        assert!(cpus > 0, "a device is opened for at least one CPU");
        let found = find_all(&media, placement.version, placement.parent_uuid)?;
        let memory = Memory::of(&found, cpus);
        if memory.peak_bytes > most_bytes {
            let free_blocks = found.iter().map(|one| u64::from(one.info.geometry.nfree)).sum();
            return Err(OpenError::OverBudget { free_blocks, needed: memory.peak_bytes, most: most_bytes });
        }
        let mut inspected = Vec::with_capacity(found.len());
        let nfree = || found.iter().map(|one| one.info.geometry.nfree);
        // Room for the longest flog: none is made twice.
        let mut groups = with_capacity(nfree().max().unwrap_or(0))?;
        for (index, one) in (0..).zip(&found) {
            let recovery = Recovery::inspect(&media, ArenaIndex(index), one.at, &one.info, &mut groups)?;
            inspected.push((*one, recovery));
        }
        let least = nfree().min().expect("the chain has a first arena");
        Self::assemble(media, inspected, least.min(cpus), memory.kept_bytes)
    }

    fn assemble(
        media: M,
        inspected: Vec<(FoundArena, Recovery)>,
        lanes: u32,
        memory_bytes: u64,
    ) -> Result<Self, OpenError> {
        let mut states: Vec<LaneState> = (0..lanes).map(|_| LaneState::new(lanes)).collect();
        let count = inspected.len();
        let mut arenas = Vec::with_capacity(count);
        let mut capacity = 0_u64;
        let mut recovered = 0;
        for (index, (found, recovery)) in (0..).zip(inspected) {
            let unknown = recovery.unknown.why.map(ReadOnlyReason::Metadata);
            let read_only = born_read_only(&media, &found).or(unknown);
            let map = found.map_at();
            if read_only.is_none() && !recovery.pending.is_empty() {
                recovery.finish(&media, map)?;
                recovered += u32::try_from(recovery.pending.len()).expect("at most nfree");
            }
            for (lane, state) in states.iter_mut().enumerate() {
                state.take_entries(recovery.entries.iter().skip(lane).step_by(lanes as usize).copied())?;
            }
            let pending = if read_only.is_some() { recovery.pending } else { Vec::new() };
            let overlay = Overlay { pending, unknown: recovery.unknown };
            let first_lba = ExternalLba(capacity);
            let stripes = found.stripes(count, lanes);
            capacity += u64::from(found.info.geometry.external_nlba);
            arenas.push(Arena::new(ArenaIndex(index), found, first_lba, recovery.slots, stripes, overlay, read_only));
        }
        let lanes = states.into_iter().map(Lane::new).collect();
        Ok(Self { media, arenas, lanes, capacity, recovered, memory_bytes })
    }

    /// Bytes of memory that it takes while it is open, at most.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The medium below.
    pub const fn media(&self) -> &M {
        &self.media
    }

    /// The medium below, without looking at what is not durable yet.
    pub(crate) fn into_media(self) -> M {
        self.media
    }

    /// How many sectors there are, over all arenas.
    #[must_use]
    pub const fn capacity_sectors(&self) -> u64 {
        self.capacity
    }

    /// The size of a sector, the same in every arena.
    #[must_use]
    pub fn sector_size(&self) -> SectorSize {
        self.first().geometry.external_lbasize
    }

    /// The uuid of the BTT.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.first().uuid
    }

    /// The version of the layout.
    #[must_use]
    pub fn version(&self) -> Version {
        self.first().version
    }

    fn first(&self) -> &InfoBlock {
        &self.arenas[0].found.info // `find_all` returns at least one
    }

    /// How many lanes there are: min(nfree, CPUs).
    #[must_use]
    pub fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// How many interrupted writes were finished when the device was opened.
    #[must_use]
    pub const fn recovered_writes(&self) -> u32 {
        self.recovered
    }

    /// The arenas, in order.
    pub fn arenas(&self) -> impl Iterator<Item = ArenaInfo> {
        self.arenas.iter().map(|arena| ArenaInfo {
            index: arena.index,
            at: arena.found.at,
            first_lba: arena.first_lba,
            info: arena.info(),
            backup_agrees: arena.found.backup_agrees,
            slots: arena.slots,
            read_only: arena.read_only(),
        })
    }

    /// What all lanes have done since their counters were last taken. What was read without one is in its [`Reader`].
    ///
    /// [`Reader`]: crate::read::Reader
    pub fn counters(&self) -> Counters {
        self.lanes.iter().fold(Counters::default(), |sum, lane| sum.plus(&lane.counters()))
    }

    /// That `count` sectors from `lba` on exist, and are more than none.
    #[inline]
    pub(crate) fn check_range(&self, lba: ExternalLba, count: u64) -> Result<(), BttError> {
        if lba.0.checked_add(count).is_none_or(|end| end > self.capacity) || count == 0 {
            return Err(BttError::OutOfRange { lba, count, capacity: self.capacity });
        }
        Ok(())
    }

    /// The arena of a sector, which exists, and its place in it.
    #[inline]
    pub(crate) fn locate(&self, lba: ExternalLba) -> (&Arena, PremapAba) {
        let arena = &self.arenas[self.arenas.partition_point(|arena| arena.first_lba <= lba) - 1];
        let premap = u32::try_from(lba.0 - arena.first_lba.0).expect("below external_nlba");
        (arena, PremapAba(premap))
    }
}

/// The memory that a BTT takes, which grows with numbers that stand on the medium.
struct Memory {
    /// While it is open.
    kept_bytes: u64,
    /// At any time while it is being opened.
    peak_bytes: u64,
}

impl Memory {
    fn of(found: &[FoundArena], cpus: u32) -> Self {
        let nfree = |one: &FoundArena| u64::from(one.info.geometry.nfree);
        let groups: u64 = found.iter().map(nfree).sum();
        let most: u64 = found.iter().map(nfree).max().unwrap_or(0);
        let arenas: u64 = found.iter().map(|one| Arena::memory_bytes(one.stripes(found.len(), cpus))).sum();
        let kept_bytes = groups * KEPT_BYTES as u64 + arenas + u64::from(cpus) * Lane::memory_bytes(cpus);
        // One arena at a time is looked at; and then each lane takes its share of an arena's entries.
        let peak_bytes = kept_bytes + most * (LOOK_BYTES + KEPT_BYTES) as u64;
        Self { kept_bytes, peak_bytes }
    }
}
