//! A consumer's memory table: where its physical addresses lie in the shared memory.

use alloc::vec::Vec;
use core::fmt;

use super::{GuestAddress, MemoryOffset, OutsideMemory, Segments, SharedMemory, check};
use crate::control::{MemoryRegion, REGIONS_MAX};

/// Why ranges are no memory table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// More ranges than a table has.
    TooMany,
    /// A range is empty, or its end leaves 64 bits.
    Empty {
        /// Its guest-physical address.
        at: GuestAddress,
    },
    /// A range is not in the shared memory.
    Outside(OutsideMemory),
    /// Two ranges share a guest-physical address.
    Overlap {
        /// The first that they share.
        at: GuestAddress,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "a memory table has at most {REGIONS_MAX} ranges"),
            Self::Empty { at } => write!(f, "the range at {at} is empty or has no end"),
            Self::Outside(outside) => outside.fmt(f),
            Self::Overlap { at } => write!(f, "two ranges share {at}"),
        }
    }
}

impl core::error::Error for TableError {}

/// Why bytes were not appended to segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranslateError {
    /// Not all of them are in the consumer's memory.
    Outside,
    /// There is no room for more pieces.
    Full,
}

impl fmt::Display for TranslateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outside => "not in the consumer's memory",
            Self::Full => "in too many pieces",
        })
    }
}

impl core::error::Error for TranslateError {}

/// Translates guest-physical addresses. Every range lies in the shared memory that it was checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryTable {
    /// By address, without overlap.
    regions: Vec<MemoryRegion>,
}

impl MemoryTable {
    /// The table of these ranges, in a memory of `len_bytes`.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn new(regions: &[MemoryRegion], len_bytes: u64) -> Result<Self, TableError> {
        if regions.len() > REGIONS_MAX {
            return Err(TableError::TooMany);
        }
        let mut regions = regions.to_vec();
        regions.sort_by_key(|region| region.gpa);
        for region in &regions {
            if region.bytes == 0 || region.gpa.checked_add(region.bytes).is_none() {
                return Err(TableError::Empty { at: GuestAddress(region.gpa) });
            }
            check(len_bytes, MemoryOffset(region.offset), region.bytes).map_err(TableError::Outside)?;
        }
        for (low, high) in regions.iter().zip(regions.iter().skip(1)) {
            if low.gpa + low.bytes > high.gpa {
                return Err(TableError::Overlap { at: GuestAddress(high.gpa) });
            }
        }
        Ok(Self { regions })
    }

    /// The place of `at`, and how many bytes follow it there.
    fn find(&self, at: u64) -> Option<(MemoryOffset, u64)> {
        let below = self.regions.partition_point(|region| region.gpa <= at);
        let region = self.regions.get(below.checked_sub(1)?)?;
        let inside = at - region.gpa;
        let left = region.bytes.checked_sub(inside).filter(|left| *left > 0)?;
        Some((MemoryOffset(region.offset).plus(inside), left))
    }

    /// Calls `f` with each contiguous piece of `bytes` bytes from `at` on. At most one piece a range of the table.
    fn pieces(&self, at: GuestAddress, bytes: u64, mut f: impl FnMut(MemoryOffset, u64) -> bool) -> bool {
        let (mut at, mut left) = (at.0, bytes);
        while left > 0 {
            let Some((offset, there)) = self.find(at) else { return false };
            let piece = there.min(left);
            if !f(offset, piece) {
                return false;
            }
            left -= piece;
            let Some(next) = at.checked_add(piece) else { return left == 0 };
            at = next;
        }
        true
    }

    /// Appends where `bytes` bytes from `at` on are.
    ///
    /// # Errors
    /// Not all of them are in the consumer's memory, or `into` is full. Nothing is appended.
    pub fn translate(&self, at: GuestAddress, bytes: u32, into: &mut Segments) -> Result<(), TranslateError> {
        let before = into.mark();
        let mut full = false;
        let whole = self.pieces(at, u64::from(bytes), |offset, piece| {
            // A piece is not longer than the descriptor.
            let pushed = u32::try_from(piece).is_ok_and(|piece| into.push(offset, piece));
            full = !pushed;
            pushed
        });
        if whole {
            return Ok(());
        }
        into.cut(before);
        Err(if full { TranslateError::Full } else { TranslateError::Outside })
    }

    /// The place of one byte, if it is in the consumer's memory.
    #[must_use]
    pub fn byte(&self, at: GuestAddress) -> Option<MemoryOffset> {
        self.find(at.0).map(|(offset, _)| offset)
    }

    /// Copies bytes from `at` on, once. Returns false if not all of them are in the consumer's memory.
    #[must_use]
    pub fn read<M: SharedMemory + ?Sized>(&self, memory: &M, at: GuestAddress, into: &mut [u8]) -> bool {
        let mut rest = into;
        let bytes = rest.len() as u64;
        self.pieces(at, bytes, |offset, piece| {
            let taken = usize::try_from(piece).expect("a piece of `into`");
            let (part, left) = core::mem::take(&mut rest).split_at_mut(taken);
            rest = left;
            memory.read(offset, part).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::virtqueue::CHAIN_MAX;
    use proptest::prelude::*;

    fn region(gpa: u64, bytes: u64, offset: u64) -> MemoryRegion {
        MemoryRegion { gpa, bytes, offset }
    }

    /// q35 with 4 GiB: 0 to 2 GiB at offset 0, and what is above 4 GiB at offset 2 GiB. In small.
    fn q35() -> MemoryTable {
        MemoryTable::new(&[region(0x400, 0x200, 0x200), region(0, 0x200, 0)], 0x400).expect("sound")
    }

    fn places(table: &MemoryTable, at: u64, bytes: u32) -> Option<Vec<(u64, u32)>> {
        let mut segments = Segments::with_room().expect("room");
        table
            .translate(GuestAddress(at), bytes, &mut segments)
            .ok()
            .map(|()| segments.iter().map(|one| (one.at.0, one.bytes)).collect())
    }

    #[test]
    fn addresses_are_found_below_and_above_a_hole() {
        let table = q35();
        assert_eq!(places(&table, 0x1F0, 0x10), Some(alloc::vec![(0x1F0, 0x10)]));
        assert_eq!(places(&table, 0x400, 0x200), Some(alloc::vec![(0x200, 0x200)]));
        assert_eq!(places(&table, 0x5FF, 1), Some(alloc::vec![(0x3FF, 1)]));
    }

    #[test]
    fn what_leaves_the_memory_is_not_translated_at_all() {
        let table = q35();
        for (at, bytes) in [(0x1F0, 0x11), (0x200, 1), (0x3FF, 2), (0x600, 1), (0x5FF, 2), (u64::MAX, 1), (u64::MAX, 2)]
        {
            assert_eq!(places(&table, at, bytes), None, "{at:#x} {bytes}");
        }
        assert_eq!(places(&table, 0, u32::MAX), None);
    }

    #[test]
    fn ranges_that_touch_are_crossed_in_pieces_and_all_or_none_are_taken() {
        let table = MemoryTable::new(&[region(0, 0x100, 0x300), region(0x100, 0x100, 0)], 0x400).expect("sound");
        assert_eq!(places(&table, 0xF0, 0x20), Some(alloc::vec![(0x3F0, 0x10), (0, 0x10)]));
        let mut segments = Segments::with_room().expect("room");
        let outside = table.translate(GuestAddress(0xF0), 0x111, &mut segments);
        assert_eq!((outside, segments.bytes()), (Err(TranslateError::Outside), 0), "the last byte is outside");
        let crossings = core::iter::repeat_with(|| table.translate(GuestAddress(0xF0), 0x20, &mut segments));
        assert_eq!(crossings.take(CHAIN_MAX).find_map(Result::err), Some(TranslateError::Full));
        assert!(segments.bytes().is_multiple_of(0x20), "all of a range or none of it");
    }

    #[test]
    fn unsound_tables_are_refused_with_their_reason() {
        let cases = [
            (alloc::vec![region(0, 0, 0)], TableError::Empty { at: GuestAddress(0) }),
            (alloc::vec![region(u64::MAX, 2, 0)], TableError::Empty { at: GuestAddress(u64::MAX) }),
            (
                alloc::vec![region(0, 2, 0x3FF)],
                TableError::Outside(OutsideMemory { at: MemoryOffset(0x3FF), bytes: 2 }),
            ),
            (
                alloc::vec![region(0, 2, u64::MAX)],
                TableError::Outside(OutsideMemory { at: MemoryOffset(u64::MAX), bytes: 2 }),
            ),
            (alloc::vec![region(8, 8, 0), region(0, 9, 0x100)], TableError::Overlap { at: GuestAddress(8) }),
            (alloc::vec![region(0, 1, 0); 9], TableError::TooMany),
        ];
        for (regions, why) in cases {
            assert_eq!(MemoryTable::new(&regions, 0x400), Err(why));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_translated_lies_in_the_memory(
            regions in prop::collection::vec((0_u64..0x1000, 1_u64..0x400, 0_u64..0x400), 0..9),
            at in prop_oneof![0_u64..0x1400, any::<u64>()],
            bytes in prop_oneof![0_u32..0x1000, any::<u32>()],
        ) {
            let regions: Vec<_> = regions.iter().map(|&(gpa, bytes, offset)| region(gpa, bytes, offset)).collect();
            if let Ok(table) = MemoryTable::new(&regions, 0x400)
                && let Some(places) = places(&table, at, bytes)
            {
                prop_assert!(places.iter().all(|&(offset, piece)| offset + u64::from(piece) <= 0x400));
                prop_assert_eq!(places.iter().map(|(_, piece)| piece).sum::<u32>(), bytes);
            }
        }
    }
}
