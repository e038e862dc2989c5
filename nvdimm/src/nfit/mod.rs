//! NVDIMM firmware interface table (NFIT; ACPI 6.5, 5.2.25): from bytes to structures that can be trusted.
//!
//! [`Nfit::parse`] walks one or several tables, each bounded by its own bytes; decodes the eight structure types; and
//! refuses, with a [`Fault`], each structure that is malformed, or clashes with an earlier one,
//! or refers to something that is missing or refused. Where two structures claim one index or one range of addresses, the
//! first stands.
//!
//! One file per structure type: raw layout, meaning, and what is wrong with one by itself. What is wrong between
//! structures is in `cross_check`.

mod block_data_window;
mod control_region;
mod cross_check;
mod fault;
mod flush_hint;
mod interleave;
mod platform_capabilities;
mod region_mapping;
mod smbios;
mod spa_range;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

pub use block_data_window::BlockDataWindow;
pub use control_region::{ControlRegion, Format, Registers};
pub use fault::{Fault, Reference};
pub use flush_hint::FlushHint;
pub use interleave::Interleave;
pub use platform_capabilities::{Capabilities, PlatformCapabilities};
pub use region_mapping::{MappingFlags, RegionMapping};
pub use smbios::Smbios;
pub use spa_range::{RangeFlags, RangeKind, SystemPhysicalRange};

use crate::finding::{Findings, Place};
use crate::identity::DeviceHandle;

pub(crate) const PAGE_BYTES: u64 = 4096;

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u16);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

index! {
    /// The index of an address range; 0 is none.
    RangeIndex
}
index! {
    /// The index of an interleave structure; 0 is none.
    InterleaveIndex
}
index! {
    /// The index of a control region; 0 is none.
    ControlRegionIndex
}

/// A structure of the table, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Type 0.
    SystemPhysicalRange(SystemPhysicalRange),
    /// Type 1.
    RegionMapping(RegionMapping),
    /// Type 2.
    Interleave(Interleave),
    /// Type 3.
    Smbios(Smbios),
    /// Type 4.
    ControlRegion(ControlRegion),
    /// Type 5.
    BlockDataWindow(BlockDataWindow),
    /// Type 6.
    FlushHint(FlushHint),
    /// Type 7.
    PlatformCapabilities(PlatformCapabilities),
}

impl Structure {
    /// `Ok(None)` for a type that is unknown.
    fn decode(kind: u16, bytes: &[u8]) -> Result<Option<Self>, Fault> {
        Ok(Some(match kind {
            0 => Self::SystemPhysicalRange(SystemPhysicalRange::decode(bytes)?),
            1 => Self::RegionMapping(RegionMapping::decode(bytes)?),
            2 => Self::Interleave(Interleave::decode(bytes)?),
            3 => Self::Smbios(Smbios::decode(bytes)?),
            4 => Self::ControlRegion(ControlRegion::decode(bytes)?),
            5 => Self::BlockDataWindow(BlockDataWindow::decode(bytes)?),
            6 => Self::FlushHint(FlushHint::decode(bytes)?),
            7 => Self::PlatformCapabilities(PlatformCapabilities::decode(bytes)?),
            _ => return Ok(None),
        }))
    }

    /// What is wrong with the structure by itself.
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::SystemPhysicalRange(it) => it.fault(),
            Self::Interleave(it) => it.fault(),
            Self::ControlRegion(it) => it.fault(),
            Self::FlushHint(it) => it.fault(),
            Self::RegionMapping(it) => it.fault(),
            Self::Smbios(_) | Self::BlockDataWindow(_) | Self::PlatformCapabilities(_) => None,
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemPhysicalRange(it) => it.fmt(f),
            Self::RegionMapping(it) => it.fmt(f),
            Self::Interleave(it) => it.fmt(f),
            Self::Smbios(it) => it.fmt(f),
            Self::ControlRegion(it) => it.fmt(f),
            Self::BlockDataWindow(it) => it.fmt(f),
            Self::FlushHint(it) => it.fmt(f),
            Self::PlatformCapabilities(it) => it.fmt(f),
        }
    }
}

/// A structure and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub at: Place,
    /// What.
    pub structure: Structure,
    /// Whether it may not be relied on; a finding at its place has the reason.
    pub refused: bool,
}

/// All structures of all tables, in their order.
#[derive(Clone, Debug, Default)]
pub struct Nfit {
    /// The decoded structures, refused ones among them.
    pub entries: Vec<Entry>,
    /// Every finding.
    pub findings: Findings<Fault>,
    /// Whether there was a mapping that could not even be decoded.
    undecoded_mapping: bool,
    /// Whether there was a flush hint structure that could not even be decoded.
    undecoded_hint: bool,
}

macro_rules! accessor {
    ($(#[$doc:meta])* $name:ident, $variant:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> impl Iterator<Item = (Place, &$variant)> {
            self.entries.iter().filter(|entry| !entry.refused).filter_map(|entry| match &entry.structure {
                Structure::$variant(it) => Some((entry.at, it)),
                _ => None,
            })
        }
    };
}

impl Nfit {
    /// Structures looked at in all tables together.
    pub const MAX_STRUCTURES: usize = 4096;

    /// Parses NFITs, each from its ACPI header on, in the order in which the firmware lists them.
    ///
    /// Never fails: what is refused is in `findings`.
    pub fn parse<T: AsRef<[u8]>>(tables: &[T]) -> Self {
        let mut nfit = Self::default();
        let mut seen = BTreeSet::new();
        for (table, bytes) in tables.iter().enumerate() {
            match structures_of(bytes.as_ref()) {
                Ok(structures) => nfit.walk(table, structures, &mut seen),
                Err(what) => nfit.findings.note(Place::Nfit { table, offset: 0 }, what),
            }
        }
        cross_check::check(&mut nfit);
        nfit
    }

    /// Walks one table. Every step takes at least a header's bytes off what is left, so it ends.
    fn walk<'t>(&mut self, table: usize, structures: &'t [u8], seen: &mut BTreeSet<&'t [u8]>) {
        let mut left = structures;
        while !left.is_empty() {
            let at = Place::Nfit { table, offset: STRUCTURES + structures.len() - left.len() };
            let (kind, bytes) = match split_structure(left) {
                Ok(split) => split,
                Err(what) => return self.findings.note(at, what),
            };
            left = &left[bytes.len()..];
            if seen.len() == Self::MAX_STRUCTURES {
                return self.findings.note(at, Fault::TooManyStructures { limit: Self::MAX_STRUCTURES });
            }
            if !seen.insert(bytes) {
                self.findings.note(at, Fault::Repeated);
                continue;
            }
            match Structure::decode(kind, bytes) {
                Ok(Some(structure)) => {
                    let fault = structure.fault();
                    if let Some(what) = fault {
                        self.findings.note(at, what);
                    }
                    self.entries.push(Entry { at, structure, refused: fault.is_some() });
                }
                Ok(None) => self.findings.note(at, Fault::UnknownType { kind }),
                Err(what) => {
                    self.findings.note(at, what);
                    self.undecoded_mapping |= kind == 1;
                    self.undecoded_hint |= kind == 6;
                }
            }
        }
    }

    /// Whether a mapping was refused, in whatever way: a range without mappings may then have lost its own.
    pub(crate) fn lost_a_mapping(&self) -> bool {
        self.undecoded_mapping
            || self.entries.iter().any(|entry| entry.refused && matches!(entry.structure, Structure::RegionMapping(_)))
    }

    /// Whether a mapping of this range was refused.
    pub(crate) fn refused_mapping_of(&self, range: RangeIndex) -> bool {
        self.entries.iter().any(|entry| {
            entry.refused && matches!(&entry.structure, Structure::RegionMapping(mapping) if mapping.range == range)
        })
    }

    /// Whether a DIMM may have flush hints that are not known: its structure was refused, or one that could not be
    /// decoded may have been its.
    pub(crate) fn lost_hints_of(&self, dimm: DeviceHandle) -> bool {
        let is_refused = |entry: &Entry| {
            entry.refused && matches!(&entry.structure, Structure::FlushHint(hint) if hint.device == dimm)
        };
        let stands = self.flush_hints().any(|(_, hint)| hint.device == dimm && !hint.addresses.is_empty());
        !stands && (self.undecoded_hint || self.entries.iter().any(is_refused))
    }

    accessor! {
        /// The address ranges that stand.
        ranges, SystemPhysicalRange
    }
    accessor! {
        /// The mappings that stand.
        mappings, RegionMapping
    }
    accessor! {
        /// The interleave structures that stand.
        interleaves, Interleave
    }
    accessor! {
        /// The control regions that stand.
        control_regions, ControlRegion
    }
    accessor! {
        /// The window structures that stand.
        block_data_windows, BlockDataWindow
    }
    accessor! {
        /// The flush hints that stand.
        flush_hints, FlushHint
    }
    accessor! {
        /// The platform capabilities; at most one.
        platform_capabilities, PlatformCapabilities
    }

    /// The capabilities, none if the table has no such structure.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.platform_capabilities().next().map_or(Capabilities::empty(), |(_, it)| it.capabilities)
    }

    pub(crate) fn control_region(&self, index: ControlRegionIndex) -> Option<&ControlRegion> {
        self.control_regions().map(|(_, it)| it).find(|it| it.index == index)
    }

    pub(crate) fn interleave(&self, index: InterleaveIndex) -> Option<&Interleave> {
        self.interleaves().map(|(_, it)| it).find(|it| it.index == index)
    }
}

/// Where the structures begin: an ACPI header of 36 bytes and 4 reserved bytes.
const STRUCTURES: usize = 40;

/// Checks a table's header (ACPI 6.5, 5.2.6) and gives the bytes of its structures.
fn structures_of(table: &[u8]) -> Result<&[u8], Fault> {
    let Some((signature, rest)) = table.split_first_chunk::<4>() else {
        return Err(Fault::TableCut { bytes: table.len(), said: STRUCTURES });
    };
    if signature != b"NFIT" {
        return Err(Fault::BadSignature);
    }
    let said = rest
        .first_chunk()
        .map_or(STRUCTURES, |length| usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX));
    let cut = Fault::TableCut { bytes: table.len().min(said), said: said.max(STRUCTURES) };
    let bytes = table.get(..said).ok_or(cut)?;
    let structures = bytes.get(STRUCTURES..).ok_or(cut)?;
    // Revision 1 is the only one there is; ACPI keeps later ones compatible with it.
    if bytes[8] == 0 {
        return Err(Fault::BadRevision { revision: 0 });
    }
    match bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) {
        0 => Ok(structures),
        sum => Err(Fault::BadTableChecksum { sum }),
    }
}

/// The first structure of what is left: its type and its bytes, header included.
fn split_structure(left: &[u8]) -> Result<(u16, &[u8]), Fault> {
    let &[k0, k1, l0, l1, ..] = left else {
        return Err(Fault::StructureLeavesTable { length: 4, left: left.len() });
    };
    match usize::from(u16::from_le_bytes([l0, l1])) {
        length @ 0..4 => Err(Fault::StructureTooShort { length }),
        length => match left.get(..length) {
            Some(bytes) => Ok((u16::from_le_bytes([k0, k1]), bytes)),
            None => Err(Fault::StructureLeavesTable { length, left: left.len() }),
        },
    }
}

fn wrong_size(bytes: &[u8], expected: usize) -> Fault {
    Fault::WrongSize { length: bytes.len(), expected }
}
