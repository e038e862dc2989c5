//! Reading all of an arena for a check: every flog group for itself, every map entry, a bit for each block.
//!
//! Reports, and writes nothing. It streams: memory is one bit for each block of a window, and where the memory for all
//! blocks of an arena is not there, the map is read once for each window.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use zerocopy::{FromZeros, IntoBytes};

use crate::chain::{FoundArena, OpenError};
use crate::flog::{self, FlogError, Record, Slots};
use crate::format::is_zero;
use crate::layout::{CHUNK_ENTRIES, ENTRY, RawFlogGroup};
use crate::map::{self, MapEntry};
use crate::media::{MediaError, Medium, NsOffset};
use crate::recover::{Pending, with_capacity};
use crate::units::{PostmapAba, PremapAba};

/// A flog whose groups are judged one by one.
pub(crate) struct Groups {
    /// Which slots are in use, by most of the groups.
    pub(crate) slots: Slots,
    /// One for each group: its newest record, or why it has none.
    pub(crate) records: Vec<Result<Record, FlogError>>,
    /// What the groups hold; zero where the medium lost it.
    pub(crate) raw: Vec<RawFlogGroup>,
    /// The interrupted writes of the sound groups, by sector.
    pub(crate) pending: Vec<Pending>,
}

impl Groups {
    /// Reads the flog of an arena.
    ///
    /// # Errors
    /// The medium's error, other than that it lost a group; not enough memory.
    pub(crate) fn read<M: Medium>(media: &M, one: &FoundArena) -> Result<Self, OpenError> {
        let geometry = &one.info.geometry;
        let flog = one.flog_at();
        let mut raw: Vec<RawFlogGroup> = with_capacity(geometry.nfree)?;
        let mut records = with_capacity(geometry.nfree)?;
        for index in 0..geometry.nfree {
            let mut group = RawFlogGroup::new_zeroed();
            match media.read(flog::group_at(flog, index), group.as_mut_bytes()) {
                Ok(()) => records.push(Err(FlogError::NeverWritten)),
                Err(MediaError::Poisoned { .. }) => records.push(Err(FlogError::Lost)),
                Err(why) => return Err(why.into()),
            }
            raw.push(group);
        }
        let slots = flog::most_used_slots(&raw);
        let mut groups = Self { slots, records, raw, pending: with_capacity(geometry.nfree)? };
        if groups.raw.iter().flatten().all(|slot| slot.is_padding()) {
            return Ok(groups);
        }
        groups.judge(one)?;
        groups.find_pending(media, one)?;
        Ok(groups)
    }

    fn judge(&mut self, one: &FoundArena) -> Result<(), OpenError> {
        let geometry = &one.info.geometry;
        let mut free: Vec<(PostmapAba, usize)> = with_capacity(geometry.nfree)?;
        for (index, (raw, record)) in self.raw.iter().zip(&mut self.records).enumerate() {
            if *record != Err(FlogError::Lost) {
                *record = flog::newest_by_layout(raw, self.slots, geometry.external_nlba, geometry.internal_nlba);
            }
            if let Ok(found) = record {
                free.push((found.old, index));
            }
        }
        free.sort_unstable();
        for pair in free.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            self.records[pair[1].1] = Err(FlogError::BlockOwnedTwice { block: pair[1].0 });
        }
        Ok(())
    }

    fn find_pending<M: Medium>(&mut self, media: &M, one: &FoundArena) -> Result<(), OpenError> {
        let map = one.map_at();
        for record in self.records.iter().flatten().filter(|record| record.old != record.new) {
            match media.load_u32(map::entry_at(map, record.lba)) {
                Ok(word) if MapEntry::decode(word, record.lba).block() == record.old => {
                    self.pending.push(Pending { premap: record.lba, block: record.new });
                }
                // Reading the map finds a map entry that is lost.
                Ok(_) | Err(MediaError::Poisoned { .. }) => {}
                Err(why) => return Err(why.into()),
            }
        }
        self.pending.sort_unstable_by_key(|p| p.premap);
        Ok(())
    }

    /// The blocks that the sound groups free.
    pub(crate) fn free(&self) -> impl Iterator<Item = PostmapAba> {
        self.records.iter().flatten().map(|record| record.old)
    }

    /// The groups that are not sound, and why.
    pub(crate) fn unsound(&self) -> impl Iterator<Item = (u32, FlogError)> {
        (0..).zip(&self.records).filter_map(|(index, record)| record.err().map(|why| (index, why)))
    }
}

/// What a survey meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// So many map entries in a row that were never written, and share no block.
    Blank { count: u32 },
    /// A map entry as it will be once interrupted writes are finished; `interrupted`: it is not so yet.
    Entry { premap: PremapAba, entry: MapEntry, interrupted: bool },
    /// A map entry that names a block past the end.
    OutOfBounds { premap: PremapAba, word: u32 },
    /// A map entry that the medium lost.
    EntryLost { premap: PremapAba },
    /// A sector whose block a group or an earlier sector has, too.
    Again { premap: PremapAba, block: PostmapAba },
    /// A block that no group and no sector has.
    Missing(PostmapAba),
}

/// The smallest window of blocks.
const WINDOW_MIN: u32 = 64;

/// How much of the reading of maps is done.
pub(crate) struct Progress<'a> {
    done: u64,
    total: u64,
    tell: Tell<'a>,
}

/// Who is told.
enum Tell<'a> {
    /// And cannot end it.
    Only(&'a mut dyn FnMut(u64, u64)),
    /// And may end it.
    May(&'a mut dyn FnMut(u64, u64) -> ControlFlow<()>),
}

impl<'a> Progress<'a> {
    /// For one survey of each of these arenas, with windows of so many blocks, which is gone through with.
    pub(crate) fn new(found: &[FoundArena], window_blocks: u32, tell: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self::telling(found, window_blocks, Tell::Only(tell))
    }

    /// The same of one that may be ended after each piece.
    pub(crate) fn that_may_end(
        found: &[FoundArena],
        window_blocks: u32,
        tell: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Self {
        Self::telling(found, window_blocks, Tell::May(tell))
    }

    fn telling(found: &[FoundArena], window_blocks: u32, tell: Tell<'a>) -> Self {
        let passes =
            |found: &FoundArena| u64::from(found.info.geometry.internal_nlba.div_ceil(window_blocks.max(WINDOW_MIN)));
        let total = found.iter().map(|one| passes(one) * u64::from(one.info.geometry.external_nlba)).sum();
        Self { done: 0, total, tell }
    }

    /// So many entries have been read.
    fn step(&mut self, entries: u64) -> ControlFlow<()> {
        self.done += entries;
        let total = self.total.max(self.done);
        match &mut self.tell {
            Tell::Only(tell) => {
                tell(self.done, total);
                ControlFlow::Continue(())
            }
            Tell::May(tell) => tell(self.done, total),
        }
    }
}

/// Reads the map, once for each window of blocks. Returns whether it was ended before it was through.
///
/// # Errors
/// The medium's error, other than that it lost entries.
pub(crate) fn survey<M: Medium>(
    media: &M,
    one: &FoundArena,
    groups: &Groups,
    window_blocks: u32,
    see: &mut dyn FnMut(Seen),
    progress: &mut Progress<'_>,
) -> Result<ControlFlow<()>, MediaError> {
    let blocks = one.info.geometry.internal_nlba;
    let mut first = 0;
    while first < blocks {
        let owned = Bits::as_many(first, window_blocks.max(WINDOW_MIN).min(blocks - first));
        let window = owned.count;
        let mut pass = Pass { groups, blocks, is_first: first == 0, owned, see };
        for block in groups.free() {
            pass.owned.take(block);
        }
        let mut look = |read| match read {
            Read::Word(premap, word) => pass.word(premap, word),
            Read::Lost(premap) if first == 0 => (pass.see)(Seen::EntryLost { premap }),
            Read::Lost(_) => {}
            Read::Blank { first, count } => pass.blank(first, count),
        };
        if read_map(media, one, &mut look, progress)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        for block in pass.owned.absent() {
            (pass.see)(Seen::Missing(block));
        }
        first += window;
    }
    Ok(ControlFlow::Continue(()))
}

/// One reading of the map.
struct Pass<'a> {
    groups: &'a Groups,
    /// How many blocks the arena has.
    blocks: u32,
    is_first: bool,
    owned: Bits,
    see: &'a mut dyn FnMut(Seen),
}

impl Pass<'_> {
    fn word(&mut self, premap: PremapAba, word: u32) {
        let mut entry = MapEntry::decode(word, premap);
        let found = self.groups.pending.binary_search_by_key(&premap, |p| p.premap);
        if let Ok(index) = found {
            entry = MapEntry::Normal(self.groups.pending[index].block);
        }
        if entry.block().0 >= self.blocks {
            if self.is_first {
                (self.see)(Seen::OutOfBounds { premap, word });
            }
            return;
        }
        if self.is_first {
            (self.see)(Seen::Entry { premap, entry, interrupted: found.is_ok() });
        }
        if self.owned.take(entry.block()) == Taken::Again {
            (self.see)(Seen::Again { premap, block: entry.block() });
        }
    }

    /// Many entries of zero at once, as a map has that is hardly used: each has the block of its own number.
    fn blank(&mut self, first: PremapAba, count: u32) {
        let past = first.0 + count;
        let interrupted = self.groups.pending.partition_point(|p| p.premap.0 < past)
            != self.groups.pending.partition_point(|p| p.premap < first);
        if !interrupted && past <= self.blocks && self.owned.take_all(first.0, past) {
            if self.is_first {
                (self.see)(Seen::Blank { count });
            }
            return;
        }
        for premap in (first.0..past).map(PremapAba) {
            self.word(premap, 0);
        }
    }
}

/// What stands in the map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Read {
    /// A word.
    Word(PremapAba, u32),
    /// An entry that the medium lost.
    Lost(PremapAba),
    /// So many words of zero.
    Blank { first: PremapAba, count: u32 },
}

/// Reads every map entry. Returns whether it was ended before it was through.
pub(crate) fn read_map<M: Medium>(
    media: &M,
    one: &FoundArena,
    look: &mut dyn FnMut(Read),
    progress: &mut Progress<'_>,
) -> Result<ControlFlow<()>, MediaError> {
    let (map, entries) = (one.map_at(), one.info.geometry.external_nlba);
    let mut buffer = vec![0_u8; CHUNK_ENTRIES as usize * ENTRY];
    let mut first = 0;
    while first < entries {
        let count = CHUNK_ENTRIES.min(entries - first);
        let bytes = &mut buffer[..count as usize * ENTRY];
        match media.read(entry_at(map, first), bytes) {
            Ok(()) if is_zero(bytes) => look(Read::Blank { first: PremapAba(first), count }),
            Ok(()) => {
                let (words, _) = bytes.as_chunks::<ENTRY>();
                for (premap, word) in (first..).map(PremapAba).zip(words) {
                    look(Read::Word(premap, u32::from_le_bytes(*word)));
                }
            }
            Err(MediaError::Poisoned { .. }) => {
                for premap in (first..first + count).map(PremapAba) {
                    match media.load_u32(entry_at(map, premap.0)) {
                        Ok(word) => look(Read::Word(premap, word)),
                        Err(MediaError::Poisoned { .. }) => look(Read::Lost(premap)),
                        Err(why) => return Err(why),
                    }
                }
            }
            Err(why) => return Err(why),
        }
        first += count;
        if progress.step(u64::from(count)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn entry_at(map: NsOffset, premap: u32) -> NsOffset {
    map::entry_at(map, PremapAba(premap))
}

/// A bit for each block of a window.
struct Bits {
    first: u32,
    count: u32,
    words: Vec<u64>,
}

#[derive(PartialEq, Eq)]
enum Taken {
    First,
    Again,
    Outside,
}

impl Bits {
    /// For `count` blocks, or as many as there is memory for; at least [`WINDOW_MIN`], if that many are asked for.
    fn as_many(first: u32, count: u32) -> Self {
        let mut words = Vec::new();
        let mut count = count;
        while count > WINDOW_MIN && words.try_reserve_exact(count.div_ceil(64) as usize).is_err() {
            count = (count / 2).max(WINDOW_MIN);
        }
        words.resize(count.div_ceil(64) as usize, 0);
        Self { first, count, words }
    }

    fn take(&mut self, block: PostmapAba) -> Taken {
        let Some(index) = block.0.checked_sub(self.first).filter(|index| *index < self.count) else {
            return Taken::Outside;
        };
        let (word, bit) = (&mut self.words[index as usize / 64], 1 << (index % 64));
        let again = *word & bit != 0;
        *word |= bit;
        if again { Taken::Again } else { Taken::First }
    }

    /// Takes the blocks `first .. past`, unless one of those in the window has been taken: then none.
    fn take_all(&mut self, first: u32, past: u32) -> bool {
        let start = first.saturating_sub(self.first).min(self.count);
        let end = past.saturating_sub(self.first).min(self.count);
        let mask = |word: u32| {
            let bit = |index: u32| index.clamp(word * 64, word * 64 + 64) - word * 64;
            let (low, high) = (bit(start), bit(end));
            // Neither shift is by 64: a word without a bit to take is not asked for.
            if low == high { 0 } else { u64::MAX << low & u64::MAX >> (64 - high) }
        };
        let words = start / 64..end.div_ceil(64);
        if words.clone().any(|word| self.words[word as usize] & mask(word) != 0) {
            return false;
        }
        for word in words {
            self.words[word as usize] |= mask(word);
        }
        true
    }

    fn absent(&self) -> impl Iterator<Item = PostmapAba> {
        (0..self.count)
            .filter(|index| self.words[*index as usize / 64] & 1 << (index % 64) == 0)
            .map(|index| PostmapAba(self.first + index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_many_blocks_is_taking_each_or_none() {
        for (first, past) in
            [(0, 0), (100, 101), (100, 163), (100, 164), (128, 192), (90, 400), (0, 100), (299, 300), (310, 320)]
        {
            let [mut whole, mut single] = [Bits::as_many(100, 200), Bits::as_many(100, 200)];
            assert!(whole.take_all(first, past));
            let mut again = false;
            for block in (first..past).map(PostmapAba) {
                again |= single.take(block) == Taken::Again;
            }
            assert!(!again && whole.words == single.words, "{first}..{past}");
            // A second time, and with just one taken before.
            let taken = whole.words.clone();
            let any = taken.iter().any(|word| *word != 0);
            assert_eq!((whole.take_all(first, past), &whole.words), (!any, &taken), "{first}..{past}");
            for one in
                [first, past.saturating_sub(1)].into_iter().filter(|one| (100..300).contains(one) && first < past)
            {
                let mut bits = Bits::as_many(100, 200);
                bits.take(PostmapAba(one));
                assert!(!bits.take_all(first, past) && bits.absent().count() == 199, "{first}..{past}, {one}");
            }
        }
    }
}
