//! Regions that no NFIT describes: a range of physical addresses, and nothing more. No DIMM, no labels, no set.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Fault, Kind, LeftOut, MAX_REGIONS, Other, PmemRegion, Region, RegionId};
use crate::finding::{Findings, Found, Place};
use crate::nfit::{Nfit, PAGE_BYTES};

/// No x86-64 CPU has wider physical addresses. The kernel checks the width that its CPU has.
const ADDRESS_END: u64 = 1 << 52;

/// A range of persistent memory that no NFIT describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BareRange {
    /// Where it is from: [`Place::VirtioPmem`] or [`Place::MemoryMap`].
    pub at: Place,
    /// The first physical address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
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
            Ok(()) => regions.push(Region {
                id,
                at: range.at,
                proximity_domain: None,
                read_only: false,
                kind: Kind::Pmem(PmemRegion {
                    base: range.base,
                    bytes: range.bytes,
                    mappings: Vec::new(),
                    cookies: None,
                }),
            }),
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
