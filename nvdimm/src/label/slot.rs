//! Namespace labels (UEFI 2.10, 13.19, "EFI_NVDIMM_LABEL"): one DIMM's part of one namespace.

use alloc::vec::Vec;
use core::fmt;

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::index::{LabelVersion, checksum_without_itself};
use crate::fletcher::fletcher64;
use crate::guid;

/// Extents are multiples of this.
const EXTENT_ALIGN: u64 = 4096;

bitflags::bitflags! {
    /// Flags of a label.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LabelFlags: u32 {
        /// The namespace may not be written.
        const READ_ONLY = 1;
        /// The namespace lies on this DIMM alone: a BLK namespace.
        const LOCAL = 1 << 1;
        /// Holds a BTT; never used.
        const BTT = 1 << 2;
        /// An update of the set was under way.
        const UPDATING = 1 << 3;
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLabel {
    uuid: [u8; 16],
    name: [u8; 64],
    flags: U32,
    labels: U16,
    position: U16,
    set_cookie: U64,
    lba_bytes: U64,
    dpa: U64,
    raw_bytes: U64,
    slot: U32,
    align: u8,
    reserved: [u8; 3],
}
const _: () = assert!(size_of::<RawLabel>() == 128);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLabel12 {
    type_guid: [u8; 16],
    abstraction_guid: [u8; 16],
    reserved: [u8; 88],
    checksum: U64,
}
const _: () = assert!(size_of::<RawLabel>() + size_of::<RawLabel12>() == 256);
const CHECKSUM_AT: usize = 248;

/// Why a label is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelFault {
    /// It names another slot than it stands in.
    Slot,
    /// Its extent does not consist of pages.
    Extent,
    /// The checksum is wrong.
    Checksum,
    /// It was cut short.
    Cut,
}

impl fmt::Display for LabelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slot => "written for another slot",
            Self::Extent => "its extent is empty, not in pages, or beyond 64 bits",
            Self::Checksum => "wrong checksum",
            Self::Cut => "cut short",
        })
    }
}

/// The software layer above the namespace, as a label names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// None named; labels 1.1 never name one.
    None,
    /// BTT 1.1.
    Btt,
    /// BTT 2.0.
    Btt2,
    /// Page structures for memory.
    Pfn,
    /// Device DAX.
    Dax,
    /// A GUID that this version does not know.
    Unknown(Uuid),
}

impl Claim {
    const fn guid(self) -> Uuid {
        match self {
            Self::None => Uuid::nil(),
            Self::Btt => guid::abstraction::BTT,
            Self::Btt2 => guid::abstraction::BTT2,
            Self::Pfn => guid::abstraction::PFN,
            Self::Dax => guid::abstraction::DAX,
            Self::Unknown(guid) => guid,
        }
    }

    fn from_guid(guid: Uuid) -> Self {
        let known = [Self::None, Self::Btt, Self::Btt2, Self::Pfn, Self::Dax];
        known.into_iter().find(|claim| claim.guid() == guid).unwrap_or(Self::Unknown(guid))
    }
}

/// A valid label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The slot in which it stands.
    pub slot: u32,
    /// Where that is, in bytes from the start of the label area.
    pub offset: u64,
    /// The version of its area.
    pub version: LabelVersion,
    /// The namespace's.
    pub uuid: Uuid,
    /// UTF-8, padded with zeroes.
    pub name: [u8; 64],
    /// Flags.
    pub flags: LabelFlags,
    /// Labels that describe the namespace.
    pub labels: u16,
    /// This one's position among them.
    pub position: u16,
    /// The interleave set's cookie.
    pub set_cookie: u64,
    /// The sector size that it was made for; informative.
    pub lba_bytes: u64,
    /// The DIMM physical address at which the extent begins.
    pub dpa: u64,
    /// The extent's length in bytes; `dpa + raw_bytes` does not overflow.
    pub raw_bytes: u64,
    /// The type of address range; labels 1.2 only.
    pub type_guid: Option<Uuid>,
    /// The layer above; none in labels 1.1.
    pub claim: Claim,
}

impl Label {
    /// Validates the label that stands in `slot`, at `offset` of the area.
    pub(super) fn parse(bytes: &[u8], slot: u32, offset: u64, version: LabelVersion) -> Result<Self, LabelFault> {
        let (raw, rest) = RawLabel::ref_from_prefix(bytes).map_err(|_| LabelFault::Cut)?;
        if raw.slot.get() != slot {
            return Err(LabelFault::Slot);
        }
        let (dpa, raw_bytes) = (raw.dpa.get(), raw.raw_bytes.get());
        let paged = dpa.is_multiple_of(EXTENT_ALIGN) && raw_bytes.is_multiple_of(EXTENT_ALIGN);
        if !paged || raw_bytes == 0 || dpa.checked_add(raw_bytes).is_none() {
            return Err(LabelFault::Extent);
        }
        let (type_guid, claim) = match version {
            LabelVersion::V1_1 => (None, Claim::None),
            LabelVersion::V1_2 => {
                let more = RawLabel12::ref_from_bytes(rest).map_err(|_| LabelFault::Cut)?;
                if checksum_without_itself(bytes, CHECKSUM_AT) != Some(more.checksum.get()) {
                    return Err(LabelFault::Checksum);
                }
                (Some(guid::from_media(more.type_guid)), Claim::from_guid(guid::from_media(more.abstraction_guid)))
            }
        };
        Ok(Self {
            slot,
            offset,
            version,
            // Not a GUID: Linux writes and prints these bytes as they stand.
            uuid: Uuid::from_bytes(raw.uuid),
            name: raw.name,
            flags: LabelFlags::from_bits_retain(raw.flags.get()),
            labels: raw.labels.get(),
            position: raw.position.get(),
            set_cookie: raw.set_cookie.get(),
            lba_bytes: raw.lba_bytes.get(),
            dpa,
            raw_bytes,
            type_guid,
            claim,
        })
    }

    /// The label as it stands on media, in its slot.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let raw = RawLabel {
            uuid: self.uuid.into_bytes(),
            name: self.name,
            flags: self.flags.bits().into(),
            labels: self.labels.into(),
            position: self.position.into(),
            set_cookie: self.set_cookie.into(),
            lba_bytes: self.lba_bytes.into(),
            dpa: self.dpa.into(),
            raw_bytes: self.raw_bytes.into(),
            slot: self.slot.into(),
            align: 0,
            reserved: [0; 3],
        };
        let mut bytes = raw.as_bytes().to_vec();
        if self.version == LabelVersion::V1_2 {
            let more = RawLabel12 {
                type_guid: self.type_guid.unwrap_or_default().to_bytes_le(),
                abstraction_guid: self.claim.guid().to_bytes_le(),
                reserved: [0; 88],
                checksum: 0.into(),
            };
            bytes.extend_from_slice(more.as_bytes());
            let sum = fletcher64(&bytes);
            bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// The end of the extent.
    pub(crate) const fn dpa_end(&self) -> u64 {
        self.dpa + self.raw_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_linux_made_are_written_as_linux_wrote_them() {
        for (area, version, slots) in [
            (include_bytes!("../../tests/fixtures/labels/l11-512.bin"), LabelVersion::V1_1, 2),
            (include_bytes!("../../tests/fixtures/labels/l12-512.bin"), LabelVersion::V1_2, 2),
            (include_bytes!("../../tests/fixtures/labels/l12-two.bin"), LabelVersion::V1_2, 3),
        ] {
            let bytes = if version == LabelVersion::V1_1 { 128 } else { 256 };
            for (slot, label) in (0..slots).zip(area[512..].chunks(bytes)) {
                let parsed = Label::parse(label, slot, 0, version).expect("Linux made it");
                assert_eq!(parsed.encode(), label, "{version} slot {slot}");
            }
        }
    }
}
