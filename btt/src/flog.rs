//! The free-list log (flog): for each free block a group of slots that names the write which freed it.
//!
//! A group is one 64-byte line of four slots, two of them in use, written in turn. The newer slot says which block is
//! free (`old_map`) and which map change it stands for (`lba`: `old_map` → `new_map`). Sequence numbers cycle 1, 2, 3;
//! 0 is "never written". Source: NVDIMM Namespace Specification, "Flog"; UEFI 2.10, section 6.
//!
//! A slot is written as two 8-byte halves, `{lba, old_map}` before `{new_map, seq}`: the second commits. A group's next
//! record only uses the block that its own newest record frees (invariant 2).

use core::fmt;

use crate::layout::{FLOG_GROUP_BYTES, FLOG_SLOT_BYTES, RawFlogGroup, RawFlogSlot};
use crate::map::MapEntry;
use crate::media::{MediaError, Medium, NsOffset};
use crate::units::{PostmapAba, PremapAba};

/// Which two of a group's four slots are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// 0 and 1: UEFI, PMDK, and Linux since 4.15.
    ZeroOne,
    /// 0 and 2: older Linux, whose 16-byte entries had 16 bytes of padding each.
    ZeroTwo,
}

impl Slots {
    /// The indices of the first and of the second slot in use.
    #[must_use]
    pub const fn indices(self) -> [usize; 2] {
        match self {
            Self::ZeroOne => [0, 1],
            Self::ZeroTwo => [0, 2],
        }
    }
}

/// What is wrong with a flog group, or with the flog as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlogError {
    /// Every group is zero: no flog was ever written here.
    NeverWritten,
    /// The group uses other slots than (0,1) or (0,2), or others than the groups before it.
    SlotLayout {
        /// Bit i: slot i is not all zero.
        used: u8,
    },
    /// The two sequence numbers do not follow one another.
    Sequence {
        /// Of the first slot in use.
        first: u32,
        /// Of the second.
        second: u32,
    },
    /// A slot with sequence number 0 holds the half that is only stored together with one.
    HalfWithoutSequence,
    /// The newer slot names a sector past the arena's end.
    LbaOutOfBounds {
        /// What stands there.
        found: u32,
    },
    /// The newer slot names a block past the arena's end.
    BlockOutOfBounds {
        /// What stands there.
        found: u32,
    },
    /// The medium lost the group.
    Lost,
    /// The block that this group frees is freed by another group too, or is in use.
    BlockOwnedTwice {
        /// The block.
        block: PostmapAba,
    },
}

impl fmt::Display for FlogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverWritten => write!(f, "all groups are zero"),
            Self::SlotLayout { used } => write!(f, "slots in use {used:#06b} are neither (0,1) nor (0,2) throughout"),
            Self::Sequence { first, second } => write!(f, "sequence numbers {first} and {second} do not follow"),
            Self::HalfWithoutSequence => write!(f, "a slot was written without a sequence number"),
            Self::LbaOutOfBounds { found } => write!(f, "sector {found} is past the arena's end"),
            Self::BlockOutOfBounds { found } => write!(f, "block {found:#x} is past the arena's end"),
            Self::Lost => write!(f, "the medium lost it"),
            Self::BlockOwnedTwice { block } => write!(f, "block {block} has another owner"),
        }
    }
}

/// Sequence numbers in turn; 0 leads nowhere.
const NEXT_SEQ: [u32; 4] = [0, 2, 3, 1];

/// The sequence number after `seq`, which is 1, 2 or 3.
pub(crate) const fn next_seq(seq: u32) -> u32 {
    NEXT_SEQ[(seq & 3) as usize]
}

/// The content of a group's newer slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The sector that was written.
    pub lba: PremapAba,
    /// The block that the map named before; it is free now.
    pub old: PostmapAba,
    /// Whether the map entry that was replaced carried the error flag.
    pub old_had_error: bool,
    /// The block that was written; equal to `old` in a group that was never used.
    pub new: PostmapAba,
    /// Its sequence number: 1, 2 or 3.
    pub seq: u32,
    /// Which of the two slots in use it stands in: 0 or 1.
    pub slot: u8,
}

/// Which of a group's slots are not all zero: bit i for slot i.
fn used_slots(group: &RawFlogGroup) -> u8 {
    group.iter().enumerate().fold(0, |used, (i, slot)| used | u8::from(!slot.is_padding()) << i)
}

/// The slots that most groups use, where some groups may be damaged.
pub(crate) fn most_used_slots(groups: &[RawFlogGroup]) -> Slots {
    let count = |used| groups.iter().filter(|group| used_slots(group) == used).count();
    if count(0b0101) > count(0b0011) { Slots::ZeroTwo } else { Slots::ZeroOne }
}

/// As [`newest`], for a group that may use other slots than the rest.
///
/// # Errors
/// As [`newest`], and [`FlogError::SlotLayout`].
pub(crate) fn newest_by_layout(
    group: &RawFlogGroup,
    slots: Slots,
    external_nlba: u32,
    internal_nlba: u32,
) -> Result<Record, FlogError> {
    let used = used_slots(group);
    let both = slots.indices().iter().fold(0, |mask, index| mask | 1 << index);
    if used & !both != 0 {
        return Err(FlogError::SlotLayout { used });
    }
    newest(group, slots, external_nlba, internal_nlba)
}

/// Finds which slots are in use, over all groups.
///
/// # Errors
/// The group's index, and [`FlogError::SlotLayout`] or [`FlogError::NeverWritten`].
pub(crate) fn find_slots(groups: &[RawFlogGroup]) -> Result<Slots, (u32, FlogError)> {
    let mut found = None;
    let mut any = false;
    for (index, group) in (0_u32..).zip(groups) {
        let used = used_slots(group);
        any |= used != 0;
        let slots = match used {
            0b0000 | 0b0001 => continue,
            0b0011 => Slots::ZeroOne,
            0b0101 => Slots::ZeroTwo,
            _ => return Err((index, FlogError::SlotLayout { used })),
        };
        if *found.get_or_insert(slots) != slots {
            return Err((index, FlogError::SlotLayout { used }));
        }
    }
    if any { Ok(found.unwrap_or(Slots::ZeroOne)) } else { Err((0, FlogError::NeverWritten)) }
}

/// Reads a group's newer slot.
///
/// # Errors
/// Whatever cannot come about by writes and cuts.
pub(crate) fn newest(
    group: &RawFlogGroup,
    slots: Slots,
    external_nlba: u32,
    internal_nlba: u32,
) -> Result<Record, FlogError> {
    let [first, second] = slots.indices().map(|i| &group[i]);
    let (a, b) = (first.seq.get(), second.seq.get());
    let slot = match (a, b) {
        // Beside a slot that was never completed only the initial entry can stand: first slot, sequence 1.
        // {2, empty} and {3, empty} would make Linux take the empty slot as newer, and block 0 as free.
        (1, 0) => 0,
        (1, 2) | (2, 3) | (3, 1) => 1,
        (2, 1) | (3, 2) | (1, 3) => 0,
        _ => return Err(FlogError::Sequence { first: a, second: b }),
    };
    if b == 0 && second.new_map.get() != 0 {
        return Err(FlogError::HalfWithoutSequence);
    }
    let newer = if slot == 0 { first } else { second };
    let lba = newer.lba.get();
    if lba >= external_nlba {
        return Err(FlogError::LbaOutOfBounds { found: lba });
    }
    let block = |word: u32| {
        let block = word & MapEntry::BLOCK;
        if block < internal_nlba { Ok(PostmapAba(block)) } else { Err(FlogError::BlockOutOfBounds { found: word }) }
    };
    let old = newer.old_map.get();
    Ok(Record {
        lba: PremapAba(lba),
        old: block(old)?,
        // Linux leaves E alone in old_map where the entry it replaced was an error entry; E and Z together are "normal".
        old_had_error: matches!(MapEntry::decode(old, PremapAba(lba)), MapEntry::Error(_)),
        new: block(newer.new_map.get())?,
        seq: newer.seq.get(),
        slot,
    })
}

/// The group of a free block that was never used: its own number as the sector, sequence 1, the second slot empty.
pub(crate) fn initial_group(index: u32, external_nlba: u32) -> RawFlogGroup {
    let block = (external_nlba + index).into();
    let mut group = RawFlogGroup::default();
    group[0] = RawFlogSlot { lba: index.into(), old_map: block, new_map: block, seq: 1.into() };
    group
}

/// A flog group in memory: the free block that a lane owns, and where its next record goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlogEntry {
    /// The group's place in the namespace.
    pub(crate) at: NsOffset,
    /// The block that is free: the only one this entry may write next.
    pub(crate) free: PostmapAba,
    /// Whether the block belonged to a sector that was marked as an error: the medium may have lost what it holds.
    pub(crate) suspect: bool,
    /// The next record's sequence number.
    next_seq: u8,
    /// The next record's slot in the group.
    next_slot: u8,
    /// The sum of the two slots in use: what is left of it is the other one.
    both_slots: u8,
}

/// A record to be written: the sector moves from `old` to the entry's free block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) lba: PremapAba,
    pub(crate) old: MapEntry,
}

impl FlogEntry {
    #[allow(clippy::cast_possible_truncation)] // slots and sequence numbers are at most 3
    pub(crate) fn new(at: NsOffset, slots: Slots, newest: &Record) -> Self {
        let indices = slots.indices();
        let current = usize::from(newest.slot);
        Self {
            at,
            free: newest.old,
            suspect: newest.old_had_error,
            next_seq: next_seq(newest.seq) as u8,
            next_slot: indices[1 - current] as u8,
            both_slots: (indices[0] + indices[1]) as u8,
        }
    }

    #[inline]
    fn slot_at(&self) -> NsOffset {
        self.at.plus(u64::from(self.next_slot) * FLOG_SLOT_BYTES)
    }

    #[inline(always)]
    fn body(record: Move) -> u64 {
        let old = match record.old {
            MapEntry::Error(_) => record.old.encode(),
            old => old.block().0,
        };
        u64::from(record.lba.0) | u64::from(old) << 32
    }

    #[inline(always)]
    fn commit(&self) -> u64 {
        u64::from(self.free.0) | u64::from(self.next_seq) << 32
    }

    /// Stores the record, its second half after the first: for a medium on which a line's stores persist in order.
    ///
    /// # Errors
    /// The medium's error.
    #[inline(always)]
    pub(crate) fn store_record<M: Medium>(&self, media: &M, record: Move) -> Result<(), MediaError> {
        media.store_pair(self.slot_at(), [Self::body(record), self.commit()])
    }

    /// Stores the first half of the record: the slot stays the older one.
    ///
    /// # Errors
    /// The medium's error.
    pub(crate) fn store_body<M: Medium>(&self, media: &M, record: Move) -> Result<(), MediaError> {
        media.store_u64(self.slot_at(), Self::body(record))
    }

    /// Stores the first half of a record that moves nothing: sector 0, from the free block to itself.
    ///
    /// # Errors
    /// The medium's error.
    pub(crate) fn store_body_of_nothing<M: Medium>(&self, media: &M) -> Result<(), MediaError> {
        let old = if self.suspect { MapEntry::Error(self.free).encode() } else { self.free.0 };
        media.store_u64(self.slot_at(), u64::from(old) << 32)
    }

    /// Whether the newest record is as a group's very first one: sequence 1, in the group's first slot.
    pub(crate) const fn is_first_record(&self) -> bool {
        self.next_slot == self.both_slots && self.next_seq as u32 == next_seq(1)
    }

    /// Stores the second half, which commits: with it the slot becomes the newer one.
    ///
    /// # Errors
    /// The medium's error.
    pub(crate) fn store_commit<M: Medium>(&self, media: &M) -> Result<(), MediaError> {
        media.store_u64(self.slot_at().plus(8), self.commit())
    }

    /// Starts to write the record back.
    ///
    /// # Errors
    /// The medium's error.
    #[inline(always)]
    pub(crate) fn start_write_back<M: Medium>(&self, media: &M) -> Result<(), MediaError> {
        media.start_write_back(self.slot_at(), FLOG_SLOT_BYTES)
    }

    /// The record is durable: the block that the sector left is the free one now.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // sequence numbers are at most 3
    pub(crate) fn advance(&mut self, freed: MapEntry) {
        self.free = freed.block();
        self.suspect = matches!(freed, MapEntry::Error(_));
        self.next_seq = next_seq(u32::from(self.next_seq)) as u8;
        self.next_slot = self.both_slots - self.next_slot;
    }
}

/// Where group `index` of a flog at `flog` is.
#[inline]
pub(crate) fn group_at(flog: NsOffset, index: u32) -> NsOffset {
    flog.plus(u64::from(index) * FLOG_GROUP_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(lba: u32, old: u32, new: u32, seq: u32) -> RawFlogSlot {
        RawFlogSlot { lba: lba.into(), old_map: old.into(), new_map: new.into(), seq: seq.into() }
    }

    fn group(first: RawFlogSlot, second: RawFlogSlot) -> RawFlogGroup {
        [first, second, RawFlogSlot::default(), RawFlogSlot::default()]
    }

    fn read(first: RawFlogSlot, second: RawFlogSlot) -> Result<Record, FlogError> {
        newest(&group(first, second), Slots::ZeroOne, 100, 110)
    }

    #[test]
    fn the_newer_slot_is_the_successor() {
        let cases = [(1, 2, 1), (2, 3, 1), (3, 1, 1), (2, 1, 0), (3, 2, 0), (1, 3, 0)];
        for (a, b, newer) in cases {
            let found = read(slot(1, 2, 3, a), slot(4, 5, 6, b)).expect("a sound pair");
            assert_eq!((found.slot, found.lba.0), (newer, if newer == 0 { 1 } else { 4 }), "{a} {b}");
        }
        for (a, b) in [(1, 1), (0, 0), (2, 0), (3, 0), (0, 1), (1, 4), (1, 7), (u32::MAX, 0)] {
            let expected = Err(FlogError::Sequence { first: a, second: b });
            assert_eq!(read(slot(1, 2, 3, a), slot(4, 5, 6, b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_cut_in_the_middle_of_the_first_record_leaves_the_initial_one() {
        let initial = slot(7, 105, 105, 1);
        assert_eq!(read(initial, slot(9, 4, 0, 0)).expect("half a record").lba.0, 7);
        assert_eq!(read(initial, slot(9, 4, 3, 0)), Err(FlogError::HalfWithoutSequence));
    }

    #[test]
    fn records_that_leave_the_arena_are_refused() {
        let old = slot(1, 2, 3, 1);
        assert_eq!(read(old, slot(100, 2, 3, 2)), Err(FlogError::LbaOutOfBounds { found: 100 }));
        assert_eq!(read(old, slot(1, 110, 3, 2)), Err(FlogError::BlockOutOfBounds { found: 110 }));
        assert_eq!(read(old, slot(1, 2, 110, 2)), Err(FlogError::BlockOutOfBounds { found: 110 }));
        let error = read(old, slot(1, 0x4000_0002, 3, 2)).expect("an error flag in old_map");
        assert!(error.old_had_error && error.old == PostmapAba(2));
    }

    #[test]
    fn both_slot_layouts_are_found_and_mixtures_refused() {
        let (initial, used, none) = (slot(1, 2, 2, 1), slot(1, 2, 3, 2), RawFlogSlot::default());
        let fresh = [initial, none, none, none];
        let new = [initial, used, none, none];
        let old = [initial, none, used, none];
        assert_eq!(find_slots(&[fresh, fresh]), Ok(Slots::ZeroOne));
        assert_eq!(find_slots(&[fresh, new]), Ok(Slots::ZeroOne));
        assert_eq!(find_slots(&[old, fresh]), Ok(Slots::ZeroTwo));
        assert_eq!(find_slots(&[old, new]), Err((1, FlogError::SlotLayout { used: 0b0011 })));
        assert_eq!(find_slots(&[[none; 4]; 3]), Err((0, FlogError::NeverWritten)));
        assert_eq!(find_slots(&[[initial, used, used, none]]), Err((0, FlogError::SlotLayout { used: 0b0111 })));
    }
}
