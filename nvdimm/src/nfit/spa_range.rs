//! System physical address range structure, type 0 (ACPI 6.5, 5.2.25.2).

use core::fmt;

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::{PAGE_BYTES, RangeIndex, wrong_size};
use crate::guid;

bitflags::bitflags! {
    /// Flags of an address range.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RangeFlags: u16 {
        /// Only for hot add.
        const HOT_ADD = 1;
        /// The proximity domain is valid.
        const PROXIMITY_VALID = 1 << 1;
        /// The structure ends in a location cookie.
        const LOCATION_COOKIE = 1 << 2;
    }
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSystemPhysicalRange {
    kind: U16,
    length: U16,
    index: U16,
    flags: U16,
    reserved: U32,
    proximity_domain: U32,
    guid: [u8; 16],
    base: U64,
    bytes: U64,
    memory_attribute: U64,
}
const _: () = assert!(size_of::<RawSystemPhysicalRange>() == 56);
const WITH_COOKIE: usize = 64;

/// What an address range holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// Byte-addressable persistent memory.
    Persistent,
    /// The command and status registers of block windows.
    ControlRegion,
    /// The apertures of block windows.
    BlockDataWindow,
    /// Memory that loses its content.
    Volatile,
    /// A disk or CD in memory; `persistent` ones lie inside a persistent range.
    Virtual {
        /// Whether it survives power loss.
        persistent: bool,
    },
    /// A GUID that this version does not know.
    Unknown(Uuid),
}

impl fmt::Display for RangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Persistent => f.write_str("persistent memory"),
            Self::ControlRegion => f.write_str("block control windows"),
            Self::BlockDataWindow => f.write_str("block data windows"),
            Self::Volatile => f.write_str("volatile memory"),
            Self::Virtual { persistent: true } => f.write_str("persistent virtual disk"),
            Self::Virtual { persistent: false } => f.write_str("volatile virtual disk"),
            Self::Unknown(guid) => write!(f, "unknown {guid}"),
        }
    }
}

/// A range of system physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemPhysicalRange {
    /// What mappings name it by; 0 for virtual disks.
    pub index: RangeIndex,
    /// Flags.
    pub flags: RangeFlags,
    /// Proximity domain, if the flags mark it as valid.
    pub proximity_domain: u32,
    /// What it holds.
    pub kind: RangeKind,
    /// The first physical address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// EFI memory attributes.
    pub memory_attribute: u64,
    /// Location cookie, if the flags mark it as present.
    pub location_cookie: Option<u64>,
}

impl SystemPhysicalRange {
    /// No x86-64 CPU has wider physical addresses. The kernel checks the width that its CPU has.
    const ADDRESS_END: u64 = 1 << 52;

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let short = wrong_size(bytes, size_of::<RawSystemPhysicalRange>());
        let (raw, rest) = RawSystemPhysicalRange::ref_from_prefix(bytes).map_err(|_| short)?;
        let flags = RangeFlags::from_bits_retain(raw.flags.get());
        let location_cookie = match (flags.contains(RangeFlags::LOCATION_COOKIE), rest) {
            (false, []) => None,
            (false, _) => return Err(short),
            (true, rest) => match <[u8; 8]>::try_from(rest) {
                Ok(cookie) => Some(u64::from_le_bytes(cookie)),
                Err(_) => return Err(wrong_size(bytes, WITH_COOKIE)),
            },
        };
        let kind = match guid::from_media(raw.guid) {
            guid::range::PERSISTENT => RangeKind::Persistent,
            guid::range::CONTROL_REGION => RangeKind::ControlRegion,
            guid::range::BLOCK_DATA_WINDOW => RangeKind::BlockDataWindow,
            guid::range::VOLATILE => RangeKind::Volatile,
            guid::range::VOLATILE_DISK | guid::range::VOLATILE_CD => RangeKind::Virtual { persistent: false },
            guid::range::PERSISTENT_DISK | guid::range::PERSISTENT_CD => RangeKind::Virtual { persistent: true },
            other => RangeKind::Unknown(other),
        };
        Ok(Self {
            index: RangeIndex(raw.index.get()),
            flags,
            proximity_domain: raw.proximity_domain.get(),
            kind,
            base: raw.base.get(),
            bytes: raw.bytes.get(),
            memory_attribute: raw.memory_attribute.get(),
            location_cookie,
        })
    }

    /// What is wrong with the range by itself.
    pub(super) fn fault(&self) -> Option<Fault> {
        let (base, length) = (self.base, self.bytes);
        let paged = match self.kind {
            RangeKind::Persistent => base.is_multiple_of(PAGE_BYTES) && length.is_multiple_of(PAGE_BYTES),
            // Registers and windows are mapped by the page that holds them.
            _ => true,
        };
        match base.checked_add(length) {
            _ if matches!(self.kind, RangeKind::Unknown(_)) => Some(Fault::UnknownRangeType),
            // Virtual disks are not named by mappings and may have no index.
            _ if self.index == RangeIndex(0) && !matches!(self.kind, RangeKind::Virtual { .. }) => {
                Some(Fault::IndexZero)
            }
            _ if length == 0 => Some(Fault::EmptyRange),
            None => Some(Fault::RangeBeyondAddresses { base, length }),
            Some(end) if end > Self::ADDRESS_END => Some(Fault::RangeBeyondAddresses { base, length }),
            Some(_) if !paged => Some(Fault::RangeNotPaged { base, length }),
            Some(_) => None,
        }
    }
}

impl fmt::Display for SystemPhysicalRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, kind, base, bytes, memory_attribute, .. } = self;
        write!(f, "address range {index}: {kind}, {bytes:#x} bytes at {base:#x}, attribute {memory_attribute:#x}")?;
        if self.flags.contains(RangeFlags::PROXIMITY_VALID) {
            write!(f, ", proximity domain {}", self.proximity_domain)?;
        }
        match self.location_cookie {
            Some(cookie) => write!(f, ", location cookie {cookie:#x}"),
            None => Ok(()),
        }
    }
}
