//! The map: one word per sector, naming the block that holds it; and the locks that order its changes.
//!
//! | | |
//! |---|---|
//! | who reads an entry | anyone, without a lock: the read path looks at the stripe's version before and after |
//! | who writes an entry | a lane that holds the entry's `Stripe` |
//! | what the stripe remembers | the one map line whose change may not be durable yet, see `Unfenced`; how often an entry has changed its block |
//!
//! Entries are hashed to stripes by 64-byte map line, not by LBA: two lanes must not share a line, or one could write
//! back the other's half of it. (The 2015 text says LBA modulo nfree; the code it came with, and this, use the line.)

use alloc::boxed::Box;

use crate::layout::{LINE_ENTRIES, MAP_ENTRY_BYTES};
use crate::media::{LINE_BYTES, NsOffset};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, fence, sized};
use crate::units::{LaneIndex, PostmapAba, PremapAba, RUN_MAX};

/// The fewest stripes of an arena. They are in memory only, not on the medium.
const STRIPES_LEAST: usize = sized(64, 2);
/// The most of an arena that few CPUs use.
const STRIPES_MOST: usize = sized(1024, 2);
/// The most of an arena that many lanes write, and of a BTT's huge arenas together. Where 64 CPUs write all the time, one finds
/// its stripe taken about once in 40 runs with 1024 stripes, and once in 160 with these. For few CPUs more stripes only
/// lengthen commits of scattered sectors, which end where two lines share one. Sectors that are scattered over several arenas
/// are not in one commit, so there it does not pay to touch so many lines for each arena whenever the BTT is opened.
pub(crate) const STRIPES_MOST_HUGE: usize = sized(4096, 2);
/// An arena of so many bytes is huge.
const HUGE_BYTES: u64 = 64 << 30;
/// More lanes than these are many.
const LANES_FEW: u32 = 32;

/// How many stripes an arena of so many sectors and bytes has, one of so many arenas: as many as its map has lines, rounded
/// down to a power of two, within bounds.
pub(crate) fn stripe_count(sectors: u32, arena_bytes: u64, arenas: usize, lanes: u32) -> usize {
    let lines = sectors.div_ceil(LINE_ENTRIES);
    let most = if lanes > LANES_FEW {
        STRIPES_MOST_HUGE
    } else if arena_bytes >= HUGE_BYTES {
        STRIPES_MOST.max(STRIPES_MOST_HUGE / arenas)
    } else {
        STRIPES_MOST
    };
    1 << (lines as usize).clamp(STRIPES_LEAST, most).ilog2()
}

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
    #[inline]
    #[must_use]
    pub const fn decode(word: u32, premap: PremapAba) -> Self {
        let block = Self::block_of(word, premap);
        match (word & Self::Z != 0, word & Self::E != 0) {
            (true, true) => Self::Normal(block),
            (false, false) => Self::Initial(block),
            (false, true) => Self::Error(block),
            (true, false) => Self::Zero(block),
        }
    }

    /// The block that the word names.
    #[inline]
    pub(crate) const fn block_of(word: u32, premap: PremapAba) -> PostmapAba {
        // The block bits of an initial entry mean nothing.
        PostmapAba(if word & (Self::Z | Self::E) == 0 { premap.0 } else { word & Self::BLOCK })
    }

    /// The word that stands for this entry.
    #[inline]
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
    #[inline]
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
///
/// A cache line of its own. (Not two, as lanes have: of a thousand stripes two CPUs seldom use neighbours, and these would
/// take twice the memory.)
#[repr(align(64))]
pub(crate) struct Stripe {
    record: Mutex<Option<Unfenced>>,
    /// How often entries of these lines have changed their blocks. Only the holder of the lock stores it.
    version: AtomicU64,
}

impl Stripe {
    #[inline]
    fn lock(&self, line: MapLine) -> Locked<'_> {
        Locked { line, record: self.record.lock(), version: &self.version }
    }
}

/// All stripes of an arena.
pub(crate) struct MapLocks(Box<[Stripe]>);

impl MapLocks {
    /// Bytes of memory of so many stripes.
    pub(crate) const fn memory_bytes(stripes: usize) -> usize {
        stripes * size_of::<Stripe>()
    }

    /// So many stripes, a power of two.
    pub(crate) fn new(stripes: usize) -> Self {
        assert!(stripes.is_power_of_two() && stripes >= STRIPES_LEAST, "the hash wraps, at most once in a run");
        let stripe = |_| Stripe { record: Mutex::new(None), version: AtomicU64::new(0) };
        Self((0..stripes).map(stripe).collect())
    }

    /// The stripe that locks a line.
    #[inline]
    pub(crate) fn stripe_of(&self, line: MapLine) -> usize {
        line.0 as usize & (self.0.len() - 1)
    }

    #[inline]
    fn stripe(&self, line: MapLine) -> &Stripe {
        &self.0[self.stripe_of(line)]
    }

    /// The version of a line's stripe, to be loaded before an entry of the line is.
    #[inline]
    pub(crate) fn version(&self, line: MapLine) -> u64 {
        // Acquire: pairs with the release in `MapGuard::count_change`. With a new version comes the new entry.
        self.stripe(line).version.load(Ordering::Acquire)
    }

    /// Whether no entry of the line has changed its block since its version was loaded. Then the bytes that were copied
    /// since, from the blocks that the entries name, belong to their sectors.
    #[inline]
    pub(crate) fn is_still(&self, line: MapLine, version: u64) -> bool {
        // Pairs with `Medium::order_stores` in `write`: with a byte of a block's next life comes the new version.
        fence(Ordering::Acquire);
        self.stripe(line).version.load(Ordering::Relaxed) == version
    }

    /// Locks the stripes of the `count` entries from `first` on.
    pub(crate) fn lock(&self, first: PremapAba, count: u32) -> MapGuard<'_, LINES_MOST> {
        let mut guard = MapGuard::new();
        guard.lock_run(self, first, count);
        guard
    }
}

/// A line of an arena's map, from 0: 16 entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapLine(u32);

impl MapLine {
    /// The line that holds a sector's entry.
    #[inline]
    pub(crate) const fn of(premap: PremapAba) -> Self {
        Self(premap.0 / LINE_ENTRIES)
    }

    /// The lines of the entries `first .. first + count`.
    #[inline]
    pub(crate) fn all_of(first: PremapAba, count: u32) -> impl Iterator<Item = Self> + Clone {
        let last = PremapAba(first.0 + count - 1);
        (Self::of(first).0..=Self::of(last).0).map(Self)
    }

    /// Where it is in the namespace, in a map that begins at `map`: at a line, or the arena takes no writes.
    #[inline]
    pub(crate) fn at(self, map: NsOffset) -> NsOffset {
        map.plus(u64::from(self.0) * LINE_BYTES)
    }
}

/// The most lines of a run whose sectors follow one another: it may begin anywhere in a line.
pub(crate) const LINES_MOST: usize = (RUN_MAX - 1).div_ceil(LINE_ENTRIES as usize) + 1;
const _: () = assert!(LINES_MOST <= STRIPES_LEAST);

/// The stripe of a line, locked.
struct Locked<'a> {
    line: MapLine,
    record: MutexGuard<'a, Option<Unfenced>>,
    version: &'a AtomicU64,
}

/// The stripes of one run, locked: one for each of its map lines.
pub(crate) struct MapGuard<'a, const LINES: usize>([Option<Locked<'a>>; LINES]);

impl<'a> MapGuard<'a, LINES_MOST> {
    /// Locks the stripes of the `count` entries from `first` on, in ascending order of stripes.
    #[inline]
    pub(crate) fn lock_run(&mut self, locks: &'a MapLocks, first: PremapAba, count: u32) {
        let (begin, end) = (MapLine::of(first).0, MapLine::of(PremapAba(first.0 + count - 1)).0 + 1);
        // Ascending lines are not ascending stripes, because the hash wraps once; a run is too short to wrap twice, so
        // no stripe comes up two times.
        let wrap = (begin..end).find(|&line| locks.stripe_of(MapLine(line)) == 0).unwrap_or(begin);
        self.lock_lines(locks, (wrap..end).chain(begin..wrap).map(MapLine));
    }
}

impl<'a, const LINES: usize> MapGuard<'a, LINES> {
    /// A guard without stripes. (It is filled where it is: to move it would cost more than the locks of a short run.)
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self([const { None }; LINES])
    }

    /// Locks the stripes of at most `LINES` lines, which come in ascending order of their stripes, all different.
    // Invariant 9: lane → a slow reader's turn → stripes, ascending; never the reverse. A lane that holds a stripe never
    // waits for readers.
    #[inline(always)]
    pub(crate) fn lock_lines(&mut self, locks: &'a MapLocks, lines: impl Iterator<Item = MapLine>) {
        for (slot, line) in self.0.iter_mut().zip(lines) {
            *slot = Some(locks.stripe(line).lock(line));
        }
    }

    /// Counts that entries of these lines have changed their blocks. Called after they have, and before the stripes are let go: a
    /// reader that sees the new version sees the new entries.
    #[inline]
    pub(crate) fn count_change(&self) {
        for Locked { version, .. } in self.0.iter().map_while(Option::as_ref) {
            // Release: pairs with the acquire in `MapLocks::version`. No other CPU stores it.
            version.store(version.load(Ordering::Relaxed) + 1, Ordering::Release);
        }
    }

    /// The lines, each with what its stripe remembers.
    #[inline]
    pub(crate) fn lines(&mut self) -> impl Iterator<Item = (MapLine, &mut Option<Unfenced>)> {
        self.0.iter_mut().map_while(Option::as_mut).map(|locked| (locked.line, &mut *locked.record))
    }
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
        let locks = MapLocks::new(64);
        let lines = |first, count| -> alloc::vec::Vec<u32> {
            locks.lock(PremapAba(first), count).lines().map(|(line, _)| line.0).collect()
        };
        assert_eq!(lines(0, 1), [0]);
        assert_eq!(lines(15, 2), [0, 1]);
        assert_eq!(lines(1, 32), [0, 1, 2]);
        // the hash wraps: the last stripe and the first
        assert_eq!(lines(16 * 64 - 1, 2), [64, 63]);
        assert_eq!(lines(16 * 62, 32), [62, 63]);
    }

    #[test]
    #[cfg(not(any(feature = "loom", feature = "shuttle")))] // theirs have two, whatever the arena
    fn an_arena_has_as_many_stripes_as_lines_within_bounds() {
        let (small, huge) = (16 << 20, 64 << 30);
        assert_eq!(stripe_count(1, small, 1, 1), 64);
        assert_eq!(stripe_count(64 * 16 + 1, small, 1, 1), 64, "one line more");
        assert_eq!(stripe_count(128 * 16, small, 1, 1), 128);
        assert_eq!(stripe_count(4096 * 16, small, 1, 32), 1024);
        assert_eq!(stripe_count(4096 * 16, small, 3, 33), 4096);
        assert_eq!(stripe_count(u32::MAX, huge - 1, 1, 1), 1024);
        let of_arenas = [1, 2, 3, 4, 5, 1000].map(|arenas| stripe_count(1 << 24, huge, arenas, 1));
        assert_eq!(of_arenas, [4096, 2048, 1024, 1024, 1024, 1024], "huge arenas share them");
        assert_eq!(stripe_count(1 << 24, huge, 1000, 33), 4096, "but not where many lanes write");
    }

    #[test]
    fn each_stripe_has_a_line_of_its_own() {
        assert!(size_of::<Stripe>().is_multiple_of(64) && align_of::<Stripe>() == 64);
    }

    #[test]
    fn lines_cover_their_entries() {
        let at = |premap| MapLine::of(PremapAba(premap)).at(NsOffset(4096)).0;
        assert_eq!([15, 16, 31, 32].map(at), [4096, 4160, 4160, 4224]);
    }
}
