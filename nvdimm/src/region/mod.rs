//! Regions: what namespaces are cut from.
//!
//! A PMEM region is a range of persistent memory, with the DIMMs that are interleaved in it. A BLK region is one DIMM's
//! capacity behind block data windows. Regions are numbered as Linux numbers them, in the order of the tables' address
//! ranges: each range of persistent memory, of volatile memory and each virtual disk takes a number, and each DIMM in a
//! range of control windows. Ranges that no NFIT describes come behind them: the memory of virtio-pmem and CXL devices, and
//! what firmware's memory map calls persistent.

mod bare;
mod blk;
mod fault;

use alloc::vec::Vec;
use core::fmt;

pub(crate) use bare::add;
pub use bare::{BareRange, CxlDevice};
pub use blk::{BlkRegion, BlockWindows};
pub use fault::{Fault, Other};
use uuid::Uuid;

use crate::cookie::{Cookies, SetMember};
use crate::finding::{Findings, Found, Place};
use crate::guid;
use crate::identity::DeviceHandle;
use crate::label::{Labels, LabelsByDimm};
use crate::nfit::{Capabilities, MappingFlags, Nfit, RangeKind, RegionMapping, SystemPhysicalRange};

/// A region's number: the `k` of `region<k>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region{}", self.0)
    }
}

/// How far a store must have come to survive power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceDomain {
    /// A store in a CPU cache survives.
    CpuCache,
    /// A store that reached the memory controller survives.
    MemoryController,
    /// Unknown from the firmware. What reached the memory controller is taken to survive, as Linux does.
    Unknown,
}

impl From<Capabilities> for PersistenceDomain {
    fn from(capabilities: Capabilities) -> Self {
        if capabilities.contains(Capabilities::CPU_CACHE_FLUSH) {
            Self::CpuCache
        } else if capabilities.contains(Capabilities::MEMORY_CONTROLLER_FLUSH) {
            Self::MemoryController
        } else {
            Self::Unknown
        }
    }
}

/// ndctl's words.
impl fmt::Display for PersistenceDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CpuCache => "cpu_cache",
            Self::MemoryController => "memory_controller",
            Self::Unknown => "unknown",
        })
    }
}

/// A DIMM's share of a region, as `ndctl list` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The DIMM.
    pub dimm: DeviceHandle,
    /// The DIMM physical address at which the share begins.
    pub dpa: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// The DIMM's position in the interleave set.
    pub position: u16,
}

/// A range of persistent memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmemRegion {
    /// The first physical address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Shares, in the order of the table. None when the firmware names no DIMM.
    pub mappings: Vec<Mapping>,
    /// What labels of this set carry; `None` when a DIMM has no identity.
    pub cookies: Option<Cookies>,
}

/// What a region's namespaces are reached through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Loads and stores.
    Pmem(PmemRegion),
    /// Block windows.
    Blk(BlkRegion),
}

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its number.
    pub id: RegionId,
    /// Where the address range stands that it comes from.
    pub at: Place,
    /// Its address range's proximity domain, if the firmware gives one.
    pub proximity_domain: Option<u32>,
    /// Whether nothing may be written: a DIMM in it is not armed, or its flush hints are not known.
    pub read_only: bool,
    /// How it is reached.
    pub kind: Kind,
}

impl Region {
    /// Its capacity in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.kind {
            Kind::Pmem(pmem) => pmem.bytes,
            Kind::Blk(blk) => blk.mapping.bytes,
        }
    }

    /// The DIMMs' shares.
    #[must_use]
    pub fn mappings(&self) -> &[Mapping] {
        match &self.kind {
            Kind::Pmem(pmem) => &pmem.mappings,
            Kind::Blk(blk) => core::slice::from_ref(&blk.mapping),
        }
    }

    /// The type that labels 1.2 of it carry. Linux gives those of CXL devices none.
    #[must_use]
    pub const fn label_type(&self) -> Uuid {
        match (&self.kind, self.at) {
            (Kind::Blk(_), _) => guid::range::CONTROL_REGION,
            (Kind::Pmem(_), Place::Cxl { .. }) => Uuid::nil(),
            (Kind::Pmem(_), _) => guid::range::PERSISTENT,
        }
    }

    /// Whether it has no namespace until there are labels: to Linux a CXL device is no namespace as a whole, also if it has
    /// no label area, and never will have labels.
    #[must_use]
    pub fn waits_for_labels(&self, labels: &LabelsByDimm) -> bool {
        let is_without =
            |mapping: &Mapping| matches!(labels.get(&mapping.dimm), None | Some(Labels::None | Labels::Blank { .. }));
        matches!(self.at, Place::Cxl { .. }) && self.mappings().iter().any(is_without)
    }

    /// What labels carry that were written for these DIMMs in this order.
    #[must_use]
    pub fn cookies(&self) -> Option<Cookies> {
        match &self.kind {
            Kind::Pmem(pmem) => pmem.cookies,
            Kind::Blk(blk) => blk.cookies,
        }
    }
}

/// Regions served at most.
pub const MAX_REGIONS: usize = 64;

/// DIMMs in one interleave set at most: Linux's bound.
const MAX_MAPPINGS: usize = 32;

/// A region that cannot be served, and why. Its number is taken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its number.
    pub id: RegionId,
    /// Whether it lies behind block windows.
    pub behind_windows: bool,
    /// Why.
    pub why: Found<Fault>,
}

/// All regions that can be served, in their order, those that cannot, and the first number that none takes; what else is wrong
/// is in `findings`, too.
pub fn regions(nfit: &Nfit, findings: &mut Findings<Fault>) -> (Vec<Region>, Vec<LeftOut>, RegionId) {
    let mut regions = Vec::new();
    let mut refused = Vec::new();
    let mut left_out: Option<(Place, usize)> = None;
    let mut next_id = 0;
    let data_ranges = blk::DataRanges::of(nfit);
    for (at, range) in nfit.ranges() {
        let proximity_domain =
            range.flags.contains(crate::nfit::RangeFlags::PROXIMITY_VALID).then_some(range.proximity_domain);
        // What takes a number, and how many, whether or not it can be served.
        let members: Vec<(Place, &RegionMapping)> =
            nfit.mappings().filter(|(_, mapping)| mapping.range == range.index).collect();
        let numbers = numbers(range, members.len());
        if range.kind == RangeKind::ControlRegion && members.is_empty() {
            findings.note(at, Fault::WindowsUnmapped);
        }
        for number in 0..numbers {
            let id = RegionId(next_id);
            next_id += 1;
            if regions.len() == MAX_REGIONS {
                left_out = Some(left_out.map_or((at, 1), |(first, count)| (first, count + 1)));
                continue;
            }
            let (at, built) = match range.kind {
                RangeKind::Persistent => (at, pmem(nfit, range, &members, findings)),
                RangeKind::ControlRegion => {
                    let (at, mapping) = members[number];
                    (at, blk::resolve(nfit, &data_ranges, range, mapping, at, findings))
                }
                _ => continue,
            };
            match built {
                Ok((kind, read_only)) => regions.push(Region { id, at, proximity_domain, read_only, kind }),
                Err(what) => {
                    findings.note(at, what);
                    if refused.len() < MAX_REGIONS {
                        let behind_windows = range.kind == RangeKind::ControlRegion;
                        refused.push(LeftOut { id, behind_windows, why: Found { at, what } });
                    }
                }
            }
        }
    }
    blk::note_unreachable(nfit, findings);
    if let Some((at, left_out)) = left_out {
        findings.note(at, Fault::TooManyRegions { limit: MAX_REGIONS, left_out });
    }
    (regions, refused, RegionId(next_id))
}

/// How many numbers a range with so many mappings takes.
const fn numbers(range: &SystemPhysicalRange, mappings: usize) -> usize {
    match range.kind {
        RangeKind::Persistent | RangeKind::Volatile | RangeKind::Virtual { .. } => 1,
        RangeKind::ControlRegion => mappings,
        RangeKind::BlockDataWindow | RangeKind::Unknown(_) => 0,
    }
}

/// The state of a DIMM in a region: whether it makes the region read-only, or refuses it.
fn state_of(nfit: &Nfit, mapping: &RegionMapping, at: Place, findings: &mut Findings<Fault>) -> Result<bool, Fault> {
    let dimm = mapping.device;
    if mapping.flags.contains(MappingFlags::MAP_FAILED) {
        return Err(Fault::MapFailed { dimm });
    }
    let lost = MappingFlags::SAVE_FAILED | MappingFlags::RESTORE_FAILED | MappingFlags::FLUSH_FAILED;
    if mapping.flags.intersects(lost) {
        findings.note(at, Fault::DataLost { dimm });
    }
    let not_armed = mapping.flags.contains(MappingFlags::NOT_ARMED);
    if not_armed {
        findings.note(at, Fault::NotArmed { dimm });
    }
    let hints_refused = nfit.lost_hints_of(dimm);
    if hints_refused {
        findings.note(at, Fault::HintsRefused { dimm });
    }
    Ok(not_armed || hints_refused)
}

fn pmem(
    nfit: &Nfit,
    range: &SystemPhysicalRange,
    members: &[(Place, &RegionMapping)],
    findings: &mut Findings<Fault>,
) -> Result<(Kind, bool), Fault> {
    if nfit.refused_mapping_of(range.index) {
        return Err(Fault::MappingRefused { index: range.index.0 });
    }
    if members.is_empty() && nfit.lost_a_mapping() {
        return Err(Fault::MappingLost);
    }
    if members.len() > MAX_MAPPINGS {
        return Err(Fault::TooManyMappings { mappings: members.len(), limit: MAX_MAPPINGS });
    }
    let mut read_only = false;
    let mut shares = 0u64;
    let mut set = Vec::new();
    for (place, (at, mapping)) in members.iter().enumerate() {
        let dimm = mapping.device;
        if members[..place].iter().any(|(_, other)| other.device == dimm) {
            return Err(Fault::MappedTwice { dimm });
        }
        // 0 ways without interleaving are read as 1 (see nfit::cross_check).
        if usize::from(mapping.ways.max(1)) != members.len() {
            return Err(Fault::WrongWays { ways: mapping.ways, mappings: members.len() });
        }
        let wrong_share = Fault::WrongShare { shares: mapping.region_bytes, length: range.bytes };
        if mapping.dpa.checked_add(mapping.region_bytes).is_none() {
            return Err(wrong_share);
        }
        // Interleaved DIMMs give equal shares.
        if mapping.region_bytes != members[0].1.region_bytes {
            return Err(wrong_share);
        }
        shares = shares.checked_add(mapping.region_bytes).ok_or(wrong_share)?;
        read_only |= state_of(nfit, mapping, *at, findings)?;
        match nfit.control_region(mapping.control_region) {
            Some(control) => set.push(SetMember { region_offset: mapping.region_offset, identity: control.identity }),
            None => findings.note(*at, Fault::NoIdentity { dimm }),
        }
    }
    if !members.is_empty() && shares != range.bytes {
        return Err(Fault::WrongShare { shares, length: range.bytes });
    }
    // Positions follow the offsets in the range; a stable sort keeps the table's order where they are equal.
    let mut by_offset: Vec<usize> = (0..members.len()).collect();
    by_offset.sort_by_key(|&member| members[member].1.region_offset);
    let mut positions = [0u16; MAX_MAPPINGS];
    for (position, &member) in (0u16..).zip(&by_offset) {
        positions[member] = position;
    }
    let mappings = members
        .iter()
        .zip(positions)
        .map(|((_, mapping), position)| Mapping {
            dimm: mapping.device,
            dpa: mapping.dpa,
            bytes: mapping.region_bytes,
            position,
        })
        .collect();
    let cookies = (!set.is_empty() && set.len() == members.len()).then(|| Cookies::of(&set));
    Ok((Kind::Pmem(PmemRegion { base: range.base, bytes: range.bytes, mappings, cookies }), read_only))
}
