//! Free space: which bytes of a labelled region no label has, and where a namespace may go.
//!
//! A label counts whether or not it makes a namespace: one of another set of DIMMs, or of a set that is torn, keeps its
//! bytes. Those of a label that is not valid are unknown: as in Linux they count as free ([`free`], [`available`]), but
//! nothing is made or stored there ([`unknown_label`], [`certainly_free`]). Sizes and places are aligned as Linux aligns
//! them (sysfs `align` of a region: 16 MiB, or as many as there are DIMMs where they do not share that evenly), so that
//! Linux can take up the rest.

use alloc::vec::Vec;

use crate::extent::Extent;
use crate::identity::DeviceHandle;
use crate::label::{Label, Labels, LabelsByDimm};
use crate::region::{Kind, Mapping, Region};

/// What places and sizes in labels are multiples of.
pub const LABEL_ALIGN_BYTES: u64 = 4096;

/// Linux's alignment of namespaces (`MEMREMAP_COMPAT_ALIGN_MAX`).
const REGION_ALIGN_BYTES: u64 = 16 << 20;

/// What sizes and places of new namespaces in a region are multiples of.
#[must_use]
pub fn align_bytes(region: &Region) -> u64 {
    let align = if region.bytes() < REGION_ALIGN_BYTES { LABEL_ALIGN_BYTES } else { REGION_ALIGN_BYTES };
    let ways = ways(region);
    if align.is_multiple_of(ways) { align } else { align * ways }
}

/// The labels of a region's DIMM, if it is labelled or waits for labels.
fn labels_on<'l>(region: &Region, labels: &'l LabelsByDimm, mapping: &Mapping) -> Option<&'l [Label]> {
    match labels.get(&mapping.dimm) {
        Some(Labels::Valid(set)) => Some(&set.labels),
        Some(Labels::Blank { .. }) if region.waits_for_labels(labels) => Some(&[]),
        _ => None,
    }
}

/// The aligned pieces of a region that no label has, ascending. None where a DIMM is not labelled, and no label is waited for.
#[must_use]
pub fn free(region: &Region, labels: &LabelsByDimm) -> Vec<Extent> {
    let Some(gaps) = gaps(region, labels) else { return Vec::new() };
    let (ways, align) = (ways(region), align_bytes(region) / ways(region));
    let mappings = region.mappings();
    let Some(first) = mappings.first() else { return Vec::new() };
    let aligned = |gap: &(u64, u64)| {
        // Linux aligns DIMM physical addresses.
        let start = first.dpa.checked_add(gap.0)?.checked_next_multiple_of(align)? - first.dpa;
        let end = (first.dpa.checked_add(gap.1)? / align * align).checked_sub(first.dpa)?;
        let alike = mappings.iter().all(|mapping| (mapping.dpa % align) == first.dpa % align);
        let extent = match region.kind {
            Kind::Pmem(_) => Extent { start: start * ways, bytes: end.checked_sub(start)? * ways },
            Kind::Blk(_) => Extent { start: first.dpa + start, bytes: end.checked_sub(start)? },
        };
        (alike && extent.bytes > 0).then_some(extent)
    };
    gaps.iter().filter_map(aligned).collect()
}

/// The first DIMM of a region with an active label that is not valid: which bytes that one describes is unknown.
#[must_use]
pub fn unknown_label(region: &Region, labels: &LabelsByDimm) -> Option<DeviceHandle> {
    let is_unknown = |dimm: &DeviceHandle| match labels.get(dimm) {
        Some(Labels::Valid(set)) => set.index.active_slots().count() > set.labels.len(),
        _ => false,
    };
    region.mappings().iter().map(|mapping| mapping.dimm).find(is_unknown)
}

/// The pieces that [`free`] returns, if no label can be about any of them.
#[must_use]
pub fn certainly_free(region: &Region, labels: &LabelsByDimm) -> Vec<Extent> {
    if unknown_label(region, labels).is_some() { Vec::new() } else { free(region, labels) }
}

/// The first free place for that many bytes.
#[must_use]
pub fn first_fit(region: &Region, labels: &LabelsByDimm, bytes: u64) -> Option<Extent> {
    let found = free(region, labels).into_iter().find(|extent| extent.bytes >= bytes)?;
    Some(Extent { start: found.start, bytes })
}

/// Free places for that many bytes: one piece where one is large enough; of a BLK region, whose namespaces may have
/// several, otherwise the lowest ones together. `None` where there is no room.
#[must_use]
pub fn fit(region: &Region, labels: &LabelsByDimm, bytes: u64) -> Option<Vec<Extent>> {
    if let Some(one) = first_fit(region, labels, bytes) {
        return Some(alloc::vec![one]);
    }
    let Kind::Blk(_) = region.kind else { return None };
    let mut left = bytes;
    let mut pieces = Vec::new();
    for extent in free(region, labels) {
        let taken = extent.bytes.min(left);
        pieces.push(Extent { start: extent.start, bytes: taken });
        left -= taken;
        if left == 0 {
            return Some(pieces);
        }
    }
    None
}

/// Whether an extent is not empty, lies in a labelled region, and no label has any of it.
#[must_use]
pub fn is_free(region: &Region, labels: &LabelsByDimm, extent: Extent) -> bool {
    let Some(end) = extent.start.checked_add(extent.bytes) else { return false };
    let (base, ways) = match &region.kind {
        Kind::Pmem(_) => (0, ways(region)),
        Kind::Blk(blk) => (blk.mapping.dpa, 1),
    };
    let place = |at: u64| at.checked_sub(base).map(|at| at / ways);
    let (Some(start), Some(end)) = (place(extent.start), place(end)) else { return false };
    let gaps = gaps(region, labels).unwrap_or_default();
    start < end && gaps.iter().any(|gap| gap.0 <= start && end <= gap.1)
}

/// `available_size`: the bytes that no label has, as Linux counts them: each DIMM's labels rounded to the alignment, and
/// what is left of its share, rounded down.
#[must_use]
pub fn available(region: &Region, labels: &LabelsByDimm) -> u64 {
    let align = align_bytes(region) / ways(region);
    let left = |mapping: &Mapping| {
        let Some(own) = labels_on(region, labels, mapping) else { return 0 };
        let end = mapping.dpa.saturating_add(mapping.bytes);
        let busy = own.iter().map(|label| {
            let start = label.dpa / align * align;
            let stop = label.dpa_end().checked_next_multiple_of(align).unwrap_or(u64::MAX);
            if start < end && stop > mapping.dpa { stop - start } else { 0 }
        });
        let busy = busy.fold(0, u64::saturating_add);
        mapping.bytes.saturating_sub(busy) / align * align
    };
    region.mappings().iter().map(left).sum()
}

/// DIMMs among which a region's bytes are shared.
fn ways(region: &Region) -> u64 {
    match &region.kind {
        Kind::Pmem(pmem) => (pmem.mappings.len() as u64).max(1),
        Kind::Blk(_) => 1,
    }
}

/// What no label has on any of the region's DIMMs: from and to, in bytes from the start of each DIMM's share.
fn gaps(region: &Region, labels: &LabelsByDimm) -> Option<Vec<(u64, u64)>> {
    let mappings = region.mappings();
    let mut taken = Vec::new();
    for mapping in mappings {
        for label in labels_on(region, labels, mapping)? {
            let start = label.dpa.saturating_sub(mapping.dpa);
            let end = label.dpa_end().saturating_sub(mapping.dpa);
            taken.push((start, end));
        }
    }
    taken.sort_unstable();
    // All shares of a region are alike.
    let share = mappings.first()?.bytes;
    let mut gaps = Vec::new();
    let mut at = 0;
    for (start, end) in taken.into_iter().chain([(share, share)]) {
        if start.min(share) > at {
            gaps.push((at, start.min(share)));
        }
        at = at.max(end);
    }
    Some(gaps)
}
