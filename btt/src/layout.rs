//! What stands on the medium, byte for byte: info block and flog slot, little-endian, unaligned.
//!
//! Sources: NVDIMM Namespace Specification, tables 4 to 6; UEFI 2.10, section 6 ("Block Translation Table"). Offsets
//! in an info block are relative to the block itself.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An info block's size, and the alignment of every area.
pub const PAGE_BYTES: u64 = 4096;
/// The largest arena: 512 GiB.
pub const ARENA_MAX_BYTES: u64 = 1 << 39;
/// The smallest arena: 16 MiB. A shorter tail of a namespace stays unused.
pub const ARENA_MIN_BYTES: u64 = 1 << 24;
/// "BTT_ARENA_INFO" and two zeroes.
pub const SIGNATURE: [u8; 16] = *b"BTT_ARENA_INFO\0\0";
/// The number of free blocks, and so of flog groups, in every arena as all implementations make them.
pub const NFREE: u32 = 256;
/// A map entry's size.
pub const MAP_ENTRY_BYTES: u64 = 4;
/// A map entry's size, as memory counts.
pub(crate) const ENTRY: usize = size_of::<u32>();
const _: () = assert!(ENTRY as u64 == MAP_ENTRY_BYTES);
/// How many map entries are read at a time where all of a map is read.
pub(crate) const CHUNK_ENTRIES: u32 = 1 << 14;
/// How many map entries stand in a 64-byte line.
pub const LINE_ENTRIES: u32 = 16;
const _: () = assert!(LINE_ENTRIES as u64 * MAP_ENTRY_BYTES == crate::media::LINE_BYTES);
/// A flog group's size: four slots, two of them in use.
pub const FLOG_GROUP_BYTES: u64 = 64;
/// A flog slot's size.
pub const FLOG_SLOT_BYTES: u64 = 16;
/// Internal block sizes are rounded up to this.
pub const INTERNAL_ALIGN_BYTES: u32 = 64;

/// An info block as it stands on the medium.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawInfoBlock {
    /// [`SIGNATURE`].
    pub signature: [u8; 16],
    /// The uuid of this BTT, the same in every arena.
    pub uuid: [u8; 16],
    /// The uuid of the namespace; all zero is not checked.
    pub parent_uuid: [u8; 16],
    /// Bit 0: the arena is in an error state.
    pub flags: U32,
    /// Major version.
    pub major: U16,
    /// Minor version.
    pub minor: U16,
    /// The size of a sector as the user sees it, its metadata bytes included.
    pub external_lbasize: U32,
    /// The number of sectors the user sees.
    pub external_nlba: U32,
    /// The size of a block in the data area.
    pub internal_lbasize: U32,
    /// The number of blocks in the data area.
    pub internal_nlba: U32,
    /// The number of free blocks.
    pub nfree: U32,
    /// The size of this structure: 4096.
    pub infosize: U32,
    /// Where the next arena's info block is; 0: this is the last.
    pub nextoff: U64,
    /// Where the data area is.
    pub dataoff: U64,
    /// Where the map is.
    pub mapoff: U64,
    /// Where the flog is.
    pub logoff: U64,
    /// Where this block's copy is.
    pub info2off: U64,
    /// Zero.
    pub padding: [u8; 3968],
    /// [`crate::checksum::fletcher64`] of the block with this field zero.
    pub checksum: U64,
}

const _: () = assert!(size_of::<RawInfoBlock>() as u64 == PAGE_BYTES);
const _: () = assert!(core::mem::offset_of!(RawInfoBlock, flags) == 48);
const _: () = assert!(core::mem::offset_of!(RawInfoBlock, nextoff) == 80);
const _: () = assert!(core::mem::offset_of!(RawInfoBlock, checksum) == 4088);

/// A flog slot as it stands on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawFlogSlot {
    /// The sector that was written: a [`crate::PremapAba`].
    pub lba: U32,
    /// The block that the map named before; may carry the error flag of the entry it replaces.
    pub old_map: U32,
    /// The block that was written.
    pub new_map: U32,
    /// 1, 2, 3, 1, …; 0: this slot was never written.
    pub seq: U32,
}

const _: () = assert!(size_of::<RawFlogSlot>() as u64 == FLOG_SLOT_BYTES);

impl RawFlogSlot {
    /// Whether all four words are zero.
    #[must_use]
    pub fn is_padding(&self) -> bool {
        let [first, second]: [U64; 2] = zerocopy::transmute!(*self);
        first.get() | second.get() == 0
    }
}

/// A flog group as it stands on the medium: one 64-byte line.
pub type RawFlogGroup = [RawFlogSlot; 4];

const _: () = assert!(size_of::<RawFlogGroup>() as u64 == FLOG_GROUP_BYTES);
const _: () = assert!(FLOG_GROUP_BYTES == crate::media::LINE_BYTES);
