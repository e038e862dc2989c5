//! Label index blocks (UEFI 2.10, 13.19, "EFI_NVDIMM_LABEL_INDEX_BLOCK"): which slots hold labels.
//!
//! There are two, written in turn; the one with the later sequence number is in force.

use alloc::vec::Vec;
use core::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::fletcher::fletcher64;

/// How an index block begins.
pub const SIGNATURE: &[u8; 16] = b"NAMESPACE_INDEX\0";
/// Index blocks are multiples of this.
const INDEX_ALIGN: u64 = 256;
const HEADER_BYTES: u64 = 72;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIndexBlock {
    signature: [u8; 16],
    flags: [u8; 3],
    label_size: u8,
    sequence: U32,
    my_offset: U64,
    my_bytes: U64,
    other_offset: U64,
    label_offset: U64,
    slots: U32,
    major: U16,
    minor: U16,
    checksum: U64,
}
const _: () = assert!(size_of::<RawIndexBlock>() == 72);
const CHECKSUM_AT: usize = 64;

/// Which labels a DIMM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabelVersion {
    /// 128 bytes, no checksum, no GUIDs.
    V1_1,
    /// 256 bytes.
    V1_2,
}

impl LabelVersion {
    /// Bytes in a label.
    #[must_use]
    pub const fn label_bytes(self) -> u64 {
        match self {
            Self::V1_1 => 128,
            Self::V1_2 => 256,
        }
    }
}

impl fmt::Display for LabelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        })
    }
}

/// Why an index block is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexFault {
    /// No signature.
    Signature,
    /// A size of labels that no version has.
    LabelSize,
    /// The checksum is wrong.
    Checksum,
    /// The sequence number is 0.
    Sequence,
    /// Its place, or that of the other block or of the labels, is not where it must be.
    Offsets,
    /// It is larger than its place, or too small for its slots.
    Size,
    /// More slots than the area has room for.
    Slots,
}

impl fmt::Display for IndexFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signature => "no signature",
            Self::LabelSize => "unknown label size",
            Self::Checksum => "wrong checksum",
            Self::Sequence => "sequence number 0",
            Self::Offsets => "wrong offsets",
            Self::Size => "wrong size",
            Self::Slots => "more slots than the area holds",
        })
    }
}

/// A valid index block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexBlock {
    /// The version of the labels.
    pub version: LabelVersion,
    /// 1, 2 or 3.
    pub sequence: u8,
    /// Slots in the area.
    pub slots: u32,
    /// Where the labels begin, in bytes from the start of the area.
    pub label_offset: u64,
    /// One bit a slot, set when it is free.
    free: Vec<u8>,
}

/// Bytes of an index block that has a bit for each of `slots` slots.
const fn bytes_for(slots: u64) -> u64 {
    (HEADER_BYTES + slots.div_ceil(8)).next_multiple_of(INDEX_ALIGN)
}

/// The sequence number that follows each.
const NEXT: [u8; 4] = [0, 2, 3, 1];

/// Bytes of one index block in an area of `area_bytes` bytes: Linux's and ndctl's computation, which readers must repeat
/// to find the second block.
pub(crate) const fn index_bytes(area_bytes: u64, version: LabelVersion) -> u64 {
    let label = version.label_bytes();
    let most = area_bytes / label;
    let slots = most.saturating_sub((2 * bytes_for(most)).div_ceil(label));
    bytes_for(slots)
}

impl IndexBlock {
    /// Validates block `number` (0 or 1), which takes `bytes` of an area of `area_bytes` bytes.
    pub(super) fn parse(bytes: &[u8], number: u8, area_bytes: u64, version: LabelVersion) -> Result<Self, IndexFault> {
        let (raw, rest) = RawIndexBlock::ref_from_prefix(bytes).map_err(|_| IndexFault::Size)?;
        if raw.signature != *SIGNATURE {
            return Err(IndexFault::Signature);
        }
        // The size field came with 1.2; a shift by larger values gives no size (Linux had that bug).
        let label_size = if (raw.major.get(), raw.minor.get()) >= (1, 2) { raw.label_size } else { 0 };
        let found = match label_size {
            0 => LabelVersion::V1_1,
            1 => LabelVersion::V1_2,
            _ => return Err(IndexFault::LabelSize),
        };
        if found != version {
            return Err(IndexFault::LabelSize);
        }
        let place = bytes.len() as u64;
        let my_bytes = raw.my_bytes.get();
        if my_bytes < HEADER_BYTES || my_bytes > place {
            return Err(IndexFault::Size);
        }
        let own = usize::try_from(my_bytes).ok().and_then(|own| bytes.get(..own)).ok_or(IndexFault::Size)?;
        if checksum_without_itself(own, CHECKSUM_AT) != Some(raw.checksum.get()) {
            return Err(IndexFault::Checksum);
        }
        let sequence = u8::try_from(raw.sequence.get() & 3).map_err(|_| IndexFault::Sequence)?;
        if sequence == 0 {
            return Err(IndexFault::Sequence);
        }
        let (mine, other) = if number == 0 { (0, place) } else { (place, 0) };
        let offsets = (raw.my_offset.get(), raw.other_offset.get(), raw.label_offset.get());
        if offsets != (mine, other, 2 * place) {
            return Err(IndexFault::Offsets);
        }
        let slots = raw.slots.get();
        // 32 bits of slots times 256: no overflow in 64.
        if 2 * place + u64::from(slots) * version.label_bytes() > area_bytes {
            return Err(IndexFault::Slots);
        }
        let free_bytes = usize::try_from(slots.div_ceil(8)).map_err(|_| IndexFault::Size)?;
        let free = rest.get(..free_bytes).ok_or(IndexFault::Size)?;
        if HEADER_BYTES + free_bytes as u64 > my_bytes {
            return Err(IndexFault::Size);
        }
        Ok(Self { version, sequence, slots, label_offset: 2 * place, free: free.to_vec() })
    }

    /// An index block without labels, for an area of `area_bytes` bytes.
    pub(crate) fn empty(area_bytes: u64, version: LabelVersion, sequence: u8) -> Self {
        let label_offset = 2 * index_bytes(area_bytes, version);
        let slots = u32::try_from(area_bytes.saturating_sub(label_offset) / version.label_bytes());
        let slots = slots.expect("areas are at most 16 MiB (`label::read`)");
        let mut empty = Self { version, sequence, slots, label_offset, free: Vec::new() };
        empty.release_all();
        empty
    }

    /// The block as it stands on media as number `number` (0 or 1).
    pub(crate) fn encode(&self, number: u8) -> Vec<u8> {
        let place = self.label_offset / 2;
        let (mine, other) = if number == 0 { (0, place) } else { (place, 0) };
        let (label_size, minor) = match self.version {
            LabelVersion::V1_1 => (0, 1),
            LabelVersion::V1_2 => (1, 2),
        };
        let raw = RawIndexBlock {
            signature: *SIGNATURE,
            flags: [0; 3],
            label_size,
            sequence: u32::from(self.sequence).into(),
            my_offset: mine.into(),
            my_bytes: place.into(),
            other_offset: other.into(),
            label_offset: self.label_offset.into(),
            slots: self.slots.into(),
            major: 1.into(),
            minor: U16::new(minor),
            checksum: 0.into(),
        };
        let mut bytes = raw.as_bytes().to_vec();
        bytes.extend_from_slice(&self.free);
        // It holds all slots' bits: `parse` has checked that, and `index_bytes` computes it so.
        bytes.resize(usize::try_from(place).expect("an index block is far smaller than memory"), 0);
        let sum = fletcher64(&bytes);
        bytes[CHECKSUM_AT..CHECKSUM_AT + 8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Whether a slot holds no label.
    #[must_use]
    pub fn is_free(&self, slot: u32) -> bool {
        let byte = usize::try_from(slot / 8).ok().and_then(|byte| self.free.get(byte));
        byte.is_none_or(|byte| byte >> (slot % 8) & 1 != 0)
    }

    /// The slots that hold labels, ascending.
    pub fn active_slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots).filter(|&slot| !self.is_free(slot))
    }

    /// The slots that hold none, ascending.
    pub(crate) fn free_slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots).filter(|&slot| self.is_free(slot))
    }

    /// Marks a slot as free, or as holding a label.
    pub(crate) fn mark(&mut self, slot: u32, free: bool) {
        let byte = usize::try_from(slot / 8).ok().and_then(|byte| self.free.get_mut(byte));
        if let Some(byte) = byte {
            let bit = 1 << (slot % 8);
            *byte = if free { *byte | bit } else { *byte & !bit };
        }
    }

    /// Marks all slots as free. Bits behind the last slot are 0, as Linux wants them.
    pub(super) fn release_all(&mut self) {
        self.free = alloc::vec![0; usize::try_from(self.slots.div_ceil(8)).expect("usize has 32 bits or more")];
        (0..self.slots).for_each(|slot| self.mark(slot, true));
    }

    /// Takes the number that comes after this one's.
    pub(crate) fn advance(&mut self) {
        self.sequence = NEXT[usize::from(self.sequence & 3)];
    }

    /// The one in force of two valid blocks: the one whose number follows the other's, and the second one when they are
    /// equal.
    pub(super) fn newer(first: Self, second: Self) -> (u8, Self) {
        if first.sequence == second.sequence || NEXT[usize::from(first.sequence)] == second.sequence {
            (1, second)
        } else {
            (0, first)
        }
    }
}

/// The Fletcher64 of `bytes` with the 8 bytes at `at` taken for zero; `None` when they are not there.
pub(super) fn checksum_without_itself(bytes: &[u8], at: usize) -> Option<u64> {
    let mut copy = bytes.to_vec();
    copy.get_mut(at..at.checked_add(8)?)?.fill(0);
    Some(fletcher64(&copy))
}

/// Whether the head of an area is what a cut in the first initialisation of its index blocks leaves: each 8 bytes of it
/// blank, or as that would write them.
pub(super) fn is_part_of_an_initialisation(head: &[u8], area_bytes: u64, version: LabelVersion) -> bool {
    let Ok(room) = usize::try_from(index_bytes(area_bytes, version)) else { return false };
    let Some(blocks) = head.get(..2 * room) else { return false };
    let is_part = |block: &[u8], whole: &[u8]| {
        let (pieces, wholes) = (block.as_chunks::<8>().0, whole.as_chunks::<8>().0);
        pieces.iter().zip(wholes).all(|(piece, whole)| piece == whole || *piece == [0; 8] || *piece == [0xff; 8])
    };
    (0..2).zip(blocks.chunks(room)).all(|(number, block)| {
        (1..=3).any(|sequence| is_part(block, &IndexBlock::empty(area_bytes, version, sequence).encode(number)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_blocks_take_what_linux_gives_them() {
        //             area        version             bytes
        for (area, version, expected) in [
            (128 << 10, LabelVersion::V1_1, 256),
            (128 << 10, LabelVersion::V1_2, 256),
            (1 << 20, LabelVersion::V1_2, 768),
            (0, LabelVersion::V1_2, 256),
        ] {
            assert_eq!(index_bytes(area, version), expected, "{area} {version}");
        }
    }

    #[test]
    fn index_blocks_that_linux_made_are_written_as_linux_wrote_them() {
        for (area, version) in [
            (include_bytes!("../../tests/fixtures/labels/l11-512.bin"), LabelVersion::V1_1),
            (include_bytes!("../../tests/fixtures/labels/l12-512.bin"), LabelVersion::V1_2),
            (include_bytes!("../../tests/fixtures/labels/l12-two.bin"), LabelVersion::V1_2),
        ] {
            for (number, block) in (0..2).zip(area.chunks(256)) {
                let parsed = IndexBlock::parse(block, number, 128 << 10, version).expect("Linux made it");
                assert_eq!(parsed.encode(number), block, "{version} block {number}");
            }
        }
    }

    #[test]
    fn an_empty_index_block_has_as_many_slots_as_linux_gives_it() {
        let slots = |area, version| IndexBlock::empty(area, version, 1).slots;
        assert_eq!((slots(128 << 10, LabelVersion::V1_1), slots(128 << 10, LabelVersion::V1_2)), (1020, 510));
        let empty = IndexBlock::empty(1 << 20, LabelVersion::V1_2, 3);
        assert_eq!(IndexBlock::parse(&empty.encode(1), 1, 1 << 20, LabelVersion::V1_2), Ok(empty));
    }
}
