//! Regions that no NFIT describes: a range of physical addresses. Those of CXL devices have a label area; the others have no
//! DIMM, no labels, no set.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Fault, Kind, LeftOut, MAX_REGIONS, Mapping, Other, PmemRegion, Region, RegionId};
use crate::cookie::Cookies;
use crate::dimm::Dimm;
use crate::finding::{Findings, Found, Place};
use crate::identity::DeviceHandle;
use crate::nfit::{MappingFlags, Nfit, PAGE_BYTES};

/// No x86-64 CPU has wider physical addresses. The kernel checks the width that its CPU has.
const ADDRESS_END: u64 = 1 << 52;

/// A range of persistent memory that no NFIT describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareRange {
    /// Where it is from: [`Place::VirtioPmem`], [`Place::Cxl`] or [`Place::MemoryMap`].
    pub at: Place,
    /// The first physical address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// The device that all of it is, if labels can name one.
    pub device: Option<CxlDevice>,
}

/// A CXL device, by which its labels know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CxlDevice {
    /// The handle of its label area: [`DeviceHandle::of_cxl`].
    pub handle: DeviceHandle,
    /// Its serial number; `None` if it has none: labels cannot be told from another device's then.
    pub serial: Option<u64>,
}

impl BareRange {
    /// What is wrong with it by itself; otherwise where it ends.
    fn end(&self) -> Result<u64, Fault> {
        let Self { base, bytes, .. } = *self;
        match base.checked_add(bytes) {
            _ if base == 0 => Err(Fault::AtZero),
            _ if bytes == 0 => Err(Fault::NoBytes),
            Some(end) if end <= ADDRESS_END => {
                let paged = base.is_multiple_of(PAGE_BYTES) && bytes.is_multiple_of(PAGE_BYTES);
                if paged { Ok(end) } else { Err(Fault::NotPaged { base, bytes }) }
            }
            _ => Err(Fault::BeyondAddresses { base, bytes }),
        }
    }
}

/// Adds these ranges to regions and to what was left out. Each takes a number, whether or not it can be served, and so does a
/// device that told no range (`None`): a name stays with its device. One of the memory map takes a number only if it is
/// served, as nothing else may describe it.
pub(crate) fn add(
    nfit: &Nfit,
    ranges: &[Option<BareRange>],
    in_use: &[Range<u64>],
    (regions, left_out, RegionId(next)): (&mut Vec<Region>, &mut Vec<LeftOut>, &mut RegionId),
    dimms: &mut Vec<Dimm>,
    findings: &mut Findings<Fault>,
) {
    for (place, range) in ranges.iter().enumerate() {
        let Some(range) = range else {
            *next = next.saturating_add(1);
            continue;
        };
        let outcome = range.end().and_then(|end| {
            let taken = taken(nfit, &ranges[..place], in_use);
            let mut others = taken.filter(|(other, _)| other.start < end && range.base < other.end);
            others.next().map_or(Ok(()), |(other, what)| {
                let in_map = matches!(range.at, Place::MemoryMap { .. }) && what != Other::MemoryMap;
                Err(if in_map {
                    Fault::DescribedElsewhere { what, other: other.start }
                } else {
                    Fault::Overlaps { base: range.base, other: other.start, what }
                })
            })
        });
        let outcome = outcome.and_then(|()| {
            let too_many = Fault::TooManyRegions { limit: MAX_REGIONS, left_out: 1 };
            if regions.len() < MAX_REGIONS { Ok(()) } else { Err(too_many) }
        });
        let id = RegionId(*next);
        match outcome {
            Ok(()) => {
                let device = range.device;
                device.into_iter().for_each(|device| join(device, dimms));
                if device.is_some_and(|device| device.serial.is_none()) {
                    findings.note(range.at, Fault::NoSerial);
                }
                let (base, bytes) = (range.base, range.bytes);
                let mapping = device.map(|device| Mapping { dimm: device.handle, dpa: 0, bytes, position: 0 });
                let cookies = device.and_then(|device| device.serial).map(Cookies::of_cxl);
                let mappings = mapping.into_iter().collect();
                let kind = Kind::Pmem(PmemRegion { base, bytes, mappings, cookies });
                regions.push(Region { id, at: range.at, proximity_domain: None, read_only: false, kind });
            }
            Err(what) => {
                findings.note(range.at, what);
                if matches!(range.at, Place::MemoryMap { .. }) {
                    continue;
                }
                if left_out.len() < MAX_REGIONS {
                    left_out.push(LeftOut { id, behind_windows: false, why: Found { at: range.at, what } });
                }
            }
        }
        *next = next.saturating_add(1);
    }
}

/// Adds a CXL device to the DIMMs.
///
/// # Panics
/// If its handle is another one's. No NFIT has one of a CXL device, and each of these has a number of its own.
fn join(device: CxlDevice, dimms: &mut Vec<Dimm>) {
    let handle = device.handle;
    let place = dimms.binary_search_by_key(&handle, |dimm| dimm.handle);
    let place = place.expect_err("a CXL device's handle is its own");
    let flags = MappingFlags::empty();
    let (cxl_serial, flush_hints) = (device.serial, Vec::new());
    let dimm = Dimm { handle, physical_id: 0, is_cxl: true, cxl_serial, identity: None, flags, flush_hints };
    dimms.insert(place, dimm);
}

/// The addresses that are taken: by ranges of NFITs, by ranges that come before, by anything else in the memory map. One that
/// was refused counts, too: two that share bytes are both in doubt, and the first was there first.
fn taken<'a>(
    nfit: &'a Nfit,
    before: &'a [Option<BareRange>],
    in_use: &'a [Range<u64>],
) -> impl Iterator<Item = (Range<u64>, Other)> + 'a {
    let of_nfit = nfit.ranges().map(|(_, it)| (it.base..it.base.saturating_add(it.bytes), Other::NfitRange));
    let of_others = before.iter().flatten().filter_map(|it| it.end().ok().map(|end| (it.base..end, Other::Range)));
    of_nfit.chain(of_others).chain(in_use.iter().map(|it| (it.clone(), Other::MemoryMap)))
}
