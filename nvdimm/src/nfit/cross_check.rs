//! What is wrong between structures: indices used twice, ranges that overlap, references into nothing.
//!
//! The order matters: duplicates are refused first, so that an index names one structure; then what refers to something
//! refused. Mappings refer to ranges, interleave structures and control regions; windows to control regions; hints to
//! mappings.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::fault::{Fault, Reference};
use super::{ControlRegionIndex, InterleaveIndex, Nfit, RangeIndex, RangeKind, Structure};

pub(super) fn check(nfit: &mut Nfit) {
    refuse_duplicates(nfit);
    refuse_overlaps(nfit);
    refuse_dangling(nfit);
    remark(nfit);
}

/// Notes `what` of entry `i`, and refuses it.
fn refuse(nfit: &mut Nfit, i: usize, what: Fault) {
    nfit.findings.note(nfit.entries[i].at, what);
    nfit.entries[i].refused = true;
}

/// The first structure with an index stands.
fn refuse_duplicates(nfit: &mut Nfit) {
    let mut seen = BTreeSet::new();
    for i in 0..nfit.entries.len() {
        let entry = &nfit.entries[i];
        let (kind, index) = match &entry.structure {
            _ if entry.refused => continue,
            // Virtual disks have no index, or one that nothing names.
            Structure::SystemPhysicalRange(it) if it.index == RangeIndex(0) => continue,
            Structure::SystemPhysicalRange(it) => (Reference::Range, it.index.0.into()),
            Structure::Interleave(it) => (Reference::Interleave, it.index.0.into()),
            Structure::ControlRegion(it) => (Reference::ControlRegion, it.index.0.into()),
            Structure::BlockDataWindow(it) => (Reference::DataWindows, it.control_region.0.into()),
            Structure::FlushHint(it) => (Reference::FlushHints, it.device.0),
            Structure::PlatformCapabilities(_) => (Reference::Capabilities, 0),
            Structure::RegionMapping(_) | Structure::Smbios(_) => continue,
        };
        if !seen.insert((kind, index)) {
            refuse(nfit, i, Fault::DuplicateIndex { kind, index });
        }
    }
}

/// The first range with an address stands.
fn refuse_overlaps(nfit: &mut Nfit) {
    // Disjoint ranges that stand: (base, end, index), sorted by base.
    let mut standing: Vec<(u64, u64, RangeIndex)> = Vec::new();
    for i in 0..nfit.entries.len() {
        let entry = &nfit.entries[i];
        let Structure::SystemPhysicalRange(range) = &entry.structure else { continue };
        // Persistent virtual disks lie inside persistent ranges by definition.
        if entry.refused || matches!(range.kind, RangeKind::Virtual { .. }) {
            continue;
        }
        let (base, end) = (range.base, range.base + range.bytes);
        let place = standing.partition_point(|&(other, ..)| other < end);
        match place.checked_sub(1).map(|before| standing[before]) {
            Some((_, other_end, index)) if other_end > base => {
                refuse(nfit, i, Fault::RangeOverlaps { index: index.0 });
            }
            _ => standing.insert(place, (base, end, range.index)),
        }
    }
}

fn refuse_dangling(nfit: &mut Nfit) {
    let ranges: BTreeSet<_> = nfit.ranges().map(|(_, it)| it.index).collect();
    let interleaves: BTreeSet<_> = nfit.interleaves().map(|(_, it)| it.index).collect();
    let control_regions: BTreeSet<_> = nfit.control_regions().map(|(_, it)| it.index).collect();
    for i in 0..nfit.entries.len() {
        let entry = &nfit.entries[i];
        let dangling = |kind, index: u16| Some(Fault::Dangling { kind, index: index.into() });
        let what = match &entry.structure {
            _ if entry.refused => None,
            Structure::RegionMapping(it) => {
                if it.range != RangeIndex(0) && !ranges.contains(&it.range) {
                    dangling(Reference::Range, it.range.0)
                } else if it.control_region != ControlRegionIndex(0) && !control_regions.contains(&it.control_region) {
                    dangling(Reference::ControlRegion, it.control_region.0)
                } else if it.interleave != InterleaveIndex(0) && !interleaves.contains(&it.interleave) {
                    dangling(Reference::Interleave, it.interleave.0)
                } else if it.interleave != InterleaveIndex(0) && it.ways == 0 {
                    Some(Fault::NoWays)
                } else {
                    None
                }
            }
            Structure::BlockDataWindow(it) if !control_regions.contains(&it.control_region) => {
                dangling(Reference::ControlRegion, it.control_region.0)
            }
            _ => None,
        };
        if let Some(what) = what {
            refuse(nfit, i, what);
        }
    }
    let devices: BTreeSet<_> = nfit.mappings().map(|(_, it)| it.device).collect();
    for i in 0..nfit.entries.len() {
        match &nfit.entries[i] {
            entry if entry.refused => {}
            entry => {
                if let Structure::FlushHint(it) = &entry.structure
                    && !devices.contains(&it.device)
                {
                    let index = it.device.0;
                    refuse(nfit, i, Fault::Dangling { kind: Reference::Device, index });
                }
            }
        }
    }
}

/// What is odd, but harms nothing.
fn remark(nfit: &mut Nfit) {
    let findings = &mut nfit.findings;
    let mut physical_ids = BTreeMap::new();
    for entry in nfit.entries.iter().filter(|entry| !entry.refused) {
        if let Structure::RegionMapping(it) = &entry.structure {
            let (dimm, other) = (it.device, it.physical_id);
            let first = *physical_ids.entry(dimm).or_insert(other);
            if first != other {
                findings.note(entry.at, Fault::HandleShared { dimm, first, other });
            }
        }
        let what = match &entry.structure {
            Structure::SystemPhysicalRange(it)
                if matches!(it.kind, RangeKind::Volatile | RangeKind::Virtual { .. }) =>
            {
                Fault::RangeNotServed
            }
            Structure::RegionMapping(it) if it.ways == 0 => Fault::WaysZero,
            Structure::ControlRegion(it) if !it.format.is_known() => Fault::UnknownFormat { code: it.format.0 },
            Structure::FlushHint(it) if it.addresses.is_empty() => Fault::NoFlushHints,
            _ => continue,
        };
        findings.note(entry.at, what);
    }
}
