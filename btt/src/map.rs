//! The map: one word per sector, naming the block that holds it; and the locks that order its changes.
//!
//! | | |
//! |---|---|
//! | who reads an entry | any lane, without a lock: the read path re-checks through the RTT |
//! | who writes an entry | a lane that holds the entry's `Stripe` |
//! | what the stripe remembers | the one map line whose change may not be durable yet, see `Unfenced` |
//!
//! Entries are hashed to stripes by 64-byte map line, not by LBA: two lanes must not share a line, or one could write
//! back the other's half of it. (The 2015 text says LBA modulo nfree; the code it came with, and this, use the line.)

use crate::layout::{LINE_ENTRIES, MAP_ENTRY_BYTES};
use crate::media::{LINE_BYTES, NsOffset};
use crate::sync::{Mutex, MutexGuard, sized};
use crate::units::{LaneIndex, PostmapAba, PremapAba, RUN_MAX};
use alloc::boxed::Box;

/// How many stripes an arena has. They are in memory only, not on the medium.
const STRIPES: usize = sized(64, 2);

/// A map entry's meaning. On the medium: bit 31 Z, bit 30 E, bits 29 to 0 the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapEntry {
    /// Never written: the sector's block is the one of its own number. Carries that block.
    Initial(PostmapAba),
    /// The sector cannot be read until it is written again; the block stays its own.
    Error(PostmapAba),
    /// Trimmed: reads zeroes; the block stays its own.
    Zero(PostmapAba),
    /// Written.
    Normal(PostmapAba),
}

impl MapEntry {
    const Z: u32 = 1 << 31;
    const E: u32 = 1 << 30;
    /// The bits of a map or flog word that hold the block.
    pub(crate) const BLOCK: u32 = Self::E - 1;

    /// The meaning of the word that stands for `premap`.
    #[must_use]
    pub const fn decode(word: u32, premap: PremapAba) -> Self {
        let block = PostmapAba(word & Self::BLOCK);
        match (word & Self::Z != 0, word & Self::E != 0) {
            // The block bits of an initial entry mean nothing.
            (false, false) => Self::Initial(PostmapAba(premap.0)),
            (false, true) => Self::Error(block),
            (true, false) => Self::Zero(block),
            (true, true) => Self::Normal(block),
        }
    }

    /// The word that stands for this entry.
    #[must_use]
    pub const fn encode(self) -> u32 {
        match self {
            Self::Initial(_) => 0,
            Self::Error(block) => Self::E | block.0,
            Self::Zero(block) => Self::Z | block.0,
            Self::Normal(block) => Self::Z | Self::E | block.0,
        }
    }

    /// The block that the sector owns, whatever a read returns.
    #[must_use]
    pub const fn block(self) -> PostmapAba {
        match self {
            Self::Initial(block) | Self::Error(block) | Self::Zero(block) | Self::Normal(block) => block,
        }
    }
}

/// Where a sector's entry is in the map that begins at `map`.
#[inline]
pub(crate) fn entry_at(map: NsOffset, premap: PremapAba) -> NsOffset {
    map.plus(u64::from(premap.0) * MAP_ENTRY_BYTES)
}

/// A map change that may not be durable yet. It becomes so with its lane's next data fence; a lane that finds it earlier
/// writes the line back and fences on its own CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unfenced {
    /// The line, in the namespace.
    pub(crate) line: NsOffset,
    /// The lane that changed it.
    pub(crate) lane: LaneIndex,
    /// The lane's count of data fences when it did.
    pub(crate) epoch: u64,
}

/// The lock of some map lines, with what it remembers of them.
///
/// One record is enough. A lane that takes the stripe has either fenced its own record (each run begins with a data
/// fence that covers the lane's lines), or it makes another lane's record durable before it stores any flog word.
pub(crate) type Stripe = Mutex<Option<Unfenced>>;

/// All stripes of an arena.
pub(crate) struct MapLocks(Box<[Stripe]>);

impl MapLocks {
    /// Bytes of memory.
    pub(crate) const BYTES: usize = STRIPES * size_of::<Stripe>();

    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(None)).collect())
    }

    /// Locks the stripes of the `count` entries from `first` on, in ascending order of stripes.
    // Invariant 9: lane → stripes, ascending; never the reverse. A lane that holds a stripe never waits for the RTT.
    #[inline]
    pub(crate) fn lock(&self, first: PremapAba, count: u32) -> MapGuard<'_> {
        let begin = first.0 / LINE_ENTRIES;
        let lines = (first.0 + count - 1) / LINE_ENTRIES - begin + 1;
        // Ascending lines are not ascending stripes, because the hash wraps once; a run is too short to wrap twice, so
        // no stripe comes up two times.
        let stripe = |line: u32| (begin + line) as usize % STRIPES;
        let wrap = (0..lines).find(|&line| stripe(line) == 0).unwrap_or(0);
        let mut guard = MapGuard([const { None }; MapGuard::MOST]);
        for line in (wrap..lines).chain(0..wrap) {
            guard.0[line as usize] = Some(self.0[stripe(line)].lock());
        }
        guard
    }
}

const _: () = assert!(MapGuard::MOST <= STRIPES);

/// The stripes of one run, locked: one for each of its map lines, in the lines' order.
pub(crate) struct MapGuard<'a>([Option<MutexGuard<'a, Option<Unfenced>>>; MapGuard::MOST]);

impl MapGuard<'_> {
    /// The most lines that a run touches: it may begin anywhere in a line.
    const MOST: usize = (RUN_MAX - 1).div_ceil(LINE_ENTRIES as usize) + 1;

    /// The records of the locked stripes, in the order of the run's lines.
    #[inline]
    pub(crate) fn records(&mut self) -> impl Iterator<Item = &mut Option<Unfenced>> {
        self.0.iter_mut().flatten().map(|guard| &mut **guard)
    }
}

/// The 64-byte lines of the map entries `first .. first + count` of a map at `map`, in the namespace.
pub(crate) fn lines(map: NsOffset, first: PremapAba, count: u32) -> impl Iterator<Item = NsOffset> {
    let begin = map.0 + u64::from(first.0) * MAP_ENTRY_BYTES;
    let end = begin + u64::from(count) * MAP_ENTRY_BYTES;
    let line = |at: u64| at / LINE_BYTES;
    (line(begin)..=line(end - 1)).map(|l| NsOffset(l * LINE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_mean_what_linux_means() {
        let premap = PremapAba(5);
        let cases = [
            (0, MapEntry::Initial(PostmapAba(5))),
            (0x4000_0009, MapEntry::Error(PostmapAba(9))),
            (0x8000_0009, MapEntry::Zero(PostmapAba(9))),
            (0xc000_0009, MapEntry::Normal(PostmapAba(9))),
            (0xffff_ffff, MapEntry::Normal(PostmapAba(0x3fff_ffff))),
        ];
        for (word, entry) in cases {
            assert_eq!(MapEntry::decode(word, premap), entry);
            assert_eq!(entry.encode(), word);
        }
        assert_eq!(MapEntry::decode(9, premap), MapEntry::Initial(PostmapAba(5)));
    }

    #[test]
    #[cfg(not(any(feature = "loom", feature = "shuttle")))] // their locks exist in a model only
    fn a_run_locks_each_of_its_stripes_once() {
        let locks = MapLocks::new();
        assert_eq!(locks.lock(PremapAba(0), 1).records().count(), 1);
        assert_eq!(locks.lock(PremapAba(15), 2).records().count(), 2);
        assert_eq!(locks.lock(PremapAba(1), 32).records().count(), 3);
        // the hash wraps: the last stripe and the first
        assert_eq!(locks.lock(PremapAba(16 * 64 - 1), 2).records().count(), 2);
        assert_eq!(locks.lock(PremapAba(16 * 62), 32).records().count(), 2);
    }

    #[test]
    fn lines_cover_their_entries() {
        let found: alloc::vec::Vec<u64> = lines(NsOffset(4096), PremapAba(15), 18).map(|l| l.0).collect();
        assert_eq!(found, [4096, 4160, 4224]);
    }
}
