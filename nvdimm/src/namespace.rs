//! Namespaces: what a BTT is laid on.
//!
//! A region whose DIMMs have no labels is one namespace; that of a CXL device with a label area has none then, as in Linux.
//! Otherwise each whole, consistent set of labels with one uuid is
//! one: of a PMEM region, one label on each DIMM, all of the same extent; of a BLK region, one label for each extent.
//! A set that is not whole, or was written for other DIMMs, is refused; the others go on.
//!
//! # Bytes that two regions reach
//! A DIMM's bytes may be reached both as memory and through block windows. Labels determine which of the two a byte is for:
//! those of BLK namespaces carry LOCAL, and labels that overlap are all refused. Without labels such bytes are memory,
//! as for Linux: the BLK region has no namespace then, as what is written through a window would change memory.
//!
//! # Numbers
//! As Linux's: `namespace<region>.<n>`, n counting a region's namespaces in ascending order of where they begin, where
//! the addresses are compared as their little-endian bytes stand (namespace_devs.c `cmp_dpa` compares memory).
//!
//! # Labels marked as being updated
//! Software sets UPDATING in a first pass over the DIMMs of a set and clears it in a second; Linux before 5.0 never
//! cleared it. The mark alone proves nothing: a set is judged by whether its labels agree. The update of a single label
//! is atomic, so the passes leave only sets that agree, or sets in which a label is missing or differs.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use uuid::Uuid;

use crate::cookie::Cookies;
use crate::extent::Extent;
use crate::finding::{Findings, Place, faults};
use crate::guid;
use crate::identity::DeviceHandle;
use crate::label::{Claim, Label, LabelFlags, LabelSet, LabelVersion, Labels, LabelsByDimm};
use crate::region::{Kind, Mapping, Region, RegionId};

/// A namespace's number: `namespace<region>.<number>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    /// Its region.
    pub region: RegionId,
    /// Its number in the region.
    pub number: u32,
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "namespace{}.{}", self.region.0, self.number)
    }
}

/// Where a namespace's BTT begins, if it has one, and of which version it must then be (Linux's `nd_btt_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BttPlace {
    /// Version 1.1, 4096 bytes into the namespace.
    V1_1,
    /// Version 2.0, at its first byte.
    V2_0,
}

/// A namespace as its labels describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelling {
    /// The version of the labels.
    pub version: LabelVersion,
    /// The namespace's uuid.
    pub uuid: Uuid,
    /// Its name; often empty.
    pub name: String,
    /// The layer above it.
    pub claim: Claim,
    /// The sector size that it was made for, in bytes; informative, 0 if unknown.
    pub lba_bytes: u64,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its number.
    pub id: NamespaceId,
    /// Where it lies: one extent in a PMEM region, one or more in a BLK region, in the namespace's order.
    pub extents: Vec<Extent>,
    /// Whether it may not be written: its region may not, or its label forbids it.
    pub read_only: bool,
    /// Its labels; `None` when the region is label-less.
    pub labelling: Option<Labelling>,
}

impl Namespace {
    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // Extents of one namespace are disjoint and in their region.
        self.extents.iter().map(|extent| extent.bytes).sum()
    }

    /// Where its BTT is, if it has one; `None` if by its label it holds something else.
    #[must_use]
    pub fn btt_place(&self) -> Option<BttPlace> {
        match self.labelling.as_ref().map_or(Claim::None, |labelling| labelling.claim) {
            Claim::None | Claim::Btt => Some(BttPlace::V1_1),
            Claim::Btt2 => Some(BttPlace::V2_0),
            Claim::Pfn | Claim::Dax | Claim::Unknown(_) => None,
        }
    }
}

/// Why labels of one uuid make no namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// A DIMM of the set has no such label.
    Missing(DeviceHandle),
    /// A DIMM has two.
    Twice(DeviceHandle),
    /// A label counts another number of labels.
    Count,
    /// The positions are not all there once.
    Positions,
    /// Labels differ in what must be the same.
    Disagree,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(dimm) => write!(f, "DIMM {dimm} has no label of it"),
            Self::Twice(dimm) => write!(f, "DIMM {dimm} has two labels of it"),
            Self::Count => f.write_str("the number of labels is not the one they say"),
            Self::Positions => f.write_str("the labels' positions are not all there once"),
            Self::Disagree => f.write_str("the labels differ"),
        }
    }
}

faults! {
    /// A fault of a region's labels, as a whole.
    pub enum Fault {
        /// The labels were written for another set of DIMMs.
        refused ForeignCookie { slot: u32, cookie: u64 } => "label {slot} belongs to another interleave set ({cookie:#x})";
        /// The label's type is not the region's.
        refused ForeignType { slot: u32 } => "label {slot} is for another type of region";
        /// The set of labels is not whole: a DIMM has none, or two, or they disagree.
        refused TornSet { slot: u32, why: Torn, updating: bool } =>
            "the label set of label {slot} is torn: {why}{}", if *updating { " (an update was under way)" } else { "" };
        /// The label's extent is not in a region of its kind.
        refused LabelOutsideRegion { slot: u32 } => "label {slot} describes bytes outside of the region";
        /// Two labels of a DIMM claim the same bytes: neither's namespace is served.
        refused LabelsOverlap { slot: u32 } => "the extent of label {slot} overlaps another label's";
        /// The label is marked as being updated; the set is whole all the same.
        remark Updating { slot: u32 } => "label {slot} is marked as being updated; its set is whole";
        /// The region's set has no cookie to match labels with.
        refused NoCookie { slot: u32 } => "label {slot} cannot be matched: the interleave set has no cookie";
        /// Without labels, bytes that a range of memory has too are memory.
        remark AliasesMemory => "the DIMM's bytes are memory, too: without labels they are that, and not behind windows";
        /// A CXL device has no label area.
        remark NoLabelArea { dimm: DeviceHandle } => "device {dimm} has no label area, and no namespace without labels";
        /// The labels of a DIMM of the region cannot be read: namespaces cannot be told from free space.
        refused LabelsUnknown { dimm: DeviceHandle } => "the labels of DIMM {dimm} are unknown: no namespace is served";
    }
}

/// The namespaces of all regions, by region and number.
#[must_use]
pub fn namespaces(regions: &[Region], labels: &LabelsByDimm, findings: &mut Findings<Fault>) -> Vec<Namespace> {
    let overlapping = overlapping_labels(labels);
    report_stray_labels(regions, labels, findings);
    let mut all = Vec::new();
    for region in regions {
        let of = |mapping: &Mapping| labels.get(&mapping.dimm).unwrap_or(&Labels::None);
        if let Some(unknown) = region.mappings().iter().find(|mapping| *of(mapping) == Labels::Damaged) {
            findings.note(region.at, Fault::LabelsUnknown { dimm: unknown.dimm });
            continue;
        }
        let labelled = region.mappings().iter().any(|mapping| matches!(of(mapping), Labels::Valid(_)));
        if let Some(without) = region.mappings().iter().find(|mapping| *of(mapping) == Labels::None)
            && region.waits_for_labels(labels)
        {
            findings.note(region.at, Fault::NoLabelArea { dimm: without.dimm });
        }
        let mut found = match &region.kind {
            Kind::Pmem(pmem) if !labelled && !region.waits_for_labels(labels) => vec![Namespace {
                id: NamespaceId { region: region.id, number: 0 },
                extents: vec![Extent { start: 0, bytes: pmem.bytes }],
                read_only: region.read_only,
                labelling: None,
            }],
            Kind::Blk(blk) if !labelled && blk.is_memory_too => {
                findings.note(region.at, Fault::AliasesMemory);
                Vec::new()
            }
            Kind::Blk(blk) if !labelled => vec![Namespace {
                id: NamespaceId { region: region.id, number: 0 },
                extents: vec![Extent { start: blk.mapping.dpa, bytes: blk.mapping.bytes }],
                read_only: region.read_only,
                labelling: None,
            }],
            _ => labelled_namespaces(region, labels, &overlapping, findings),
        };
        let base = if let Kind::Pmem(pmem) = &region.kind { pmem.base } else { 0 };
        // A region's end is below 2^52, so the sum does not wrap.
        found.sort_by_key(|namespace| namespace.extents.first().map(|extent| (base + extent.start).to_le_bytes()));
        for (number, namespace) in (0..).zip(&mut found) {
            namespace.id.number = number;
        }
        all.append(&mut found);
    }
    all
}

/// A label and the mapping that it stands behind.
#[derive(Clone, Copy)]
struct Member<'l> {
    mapping: &'l Mapping,
    label: &'l Label,
}

impl Member<'_> {
    fn place(&self) -> Place {
        Place::Labels { dimm: self.mapping.dimm, offset: self.label.offset }
    }
}

fn labelled_namespaces(
    region: &Region,
    labels: &LabelsByDimm,
    overlapping: &BTreeSet<(DeviceHandle, u32)>,
    findings: &mut Findings<Fault>,
) -> Vec<Namespace> {
    let mut sets: BTreeMap<Uuid, Vec<Member<'_>>> = BTreeMap::new();
    for mapping in region.mappings() {
        let Some(Labels::Valid(LabelSet { labels, .. })) = labels.get(&mapping.dimm) else { continue };
        for label in labels.iter().filter(|label| belongs(region, mapping, label)) {
            let member = Member { mapping, label };
            match foreign(region, &member) {
                None => sets.entry(label.uuid).or_default().push(member),
                Some(what) => findings.note(member.place(), what),
            }
        }
    }
    let mut found = Vec::new();
    for members in sets.values() {
        match namespace_of(region, members, overlapping) {
            Ok(namespace) => {
                found.push(namespace);
                let updating = members.iter().find(|member| member.label.flags.contains(LabelFlags::UPDATING));
                if let Some(member) = updating {
                    findings.note(member.place(), Fault::Updating { slot: member.label.slot });
                }
            }
            Err((member, what)) => findings.note(member.place(), what),
        }
    }
    found
}

/// Whether a DIMM's label is about this region: its kind, and the DIMM physical addresses of its mapping.
fn belongs(region: &Region, mapping: &Mapping, label: &Label) -> bool {
    let local = label.flags.contains(LabelFlags::LOCAL);
    let inside = label.dpa.checked_sub(mapping.dpa).is_some_and(|offset| offset < mapping.bytes);
    inside && local == matches!(region.kind, Kind::Blk(_))
}

/// Whether a label of a mapping's DIMM is one of this region's, written for this set of DIMMs.
pub(crate) fn is_of(region: &Region, mapping: &Mapping, label: &Label) -> bool {
    belongs(region, mapping, label) && foreign(region, &Member { mapping, label }).is_none()
}

/// Why a label is not of this set of DIMMs.
fn foreign(region: &Region, member: &Member<'_>) -> Option<Fault> {
    let Label { slot, set_cookie, .. } = *member.label;
    let blk = matches!(region.kind, Kind::Blk(_));
    let right_type = match member.label.type_guid {
        None => true,
        Some(found) if blk && found == guid::range::BLOCK_DATA_WINDOW => true,
        Some(found) => found == region.label_type(),
    };
    if !right_type {
        return Some(Fault::ForeignType { slot });
    }
    let right_cookie = |Cookies { v1_1, v1_2, compatible }| match member.label.version {
        // BLK labels 1.1 carry no cookie.
        LabelVersion::V1_1 => blk || set_cookie == v1_1 || set_cookie == compatible,
        LabelVersion::V1_2 => set_cookie == v1_2 || (!blk && set_cookie == compatible),
    };
    match region.cookies() {
        None => Some(Fault::NoCookie { slot }),
        Some(cookies) if right_cookie(cookies) => None,
        Some(_) => Some(Fault::ForeignCookie { slot, cookie: set_cookie }),
    }
}

/// The namespace that labels of one uuid describe.
fn namespace_of<'m, 'l>(
    region: &Region,
    members: &'m [Member<'l>],
    overlapping: &BTreeSet<(DeviceHandle, u32)>,
) -> Result<Namespace, (&'m Member<'l>, Fault)> {
    // Sets are made with a first member.
    let first = &members[0];
    let torn = |member: &'m Member<'l>, why| {
        let updating = members.iter().any(|member| member.label.flags.contains(LabelFlags::UPDATING));
        Err((member, Fault::TornSet { slot: member.label.slot, why, updating }))
    };
    for member in members {
        let Label { slot, .. } = *member.label;
        if overlapping.contains(&(member.mapping.dimm, slot)) {
            return Err((member, Fault::LabelsOverlap { slot }));
        }
        // The label begins inside (`belongs`); its end does not overflow.
        if member.label.dpa_end() - member.mapping.dpa > member.mapping.bytes {
            return Err((member, Fault::LabelOutsideRegion { slot }));
        }
    }
    let extents = match &region.kind {
        Kind::Pmem(pmem) => match whole_set(&pmem.mappings, members) {
            // Within a set all shares and all extents are alike, and the region is their sum: no overflow.
            None => {
                let ways = members.len() as u64;
                vec![Extent {
                    start: (first.label.dpa - first.mapping.dpa) * ways,
                    bytes: first.label.raw_bytes * ways,
                }]
            }
            Some((member, why)) => return torn(member, why),
        },
        Kind::Blk(_) => match whole_list(members) {
            // In the order of the slots, as Linux reads them.
            None => {
                members.iter().map(|member| Extent { start: member.label.dpa, bytes: member.label.raw_bytes }).collect()
            }
            Some((member, why)) => return torn(member, why),
        },
    };
    let label = first.label;
    let name_bytes = label.name.iter().position(|&byte| byte == 0).map_or(&label.name[..], |end| &label.name[..end]);
    Ok(Namespace {
        id: NamespaceId { region: region.id, number: 0 },
        extents,
        read_only: region.read_only || label.flags.contains(LabelFlags::READ_ONLY),
        labelling: Some(Labelling {
            version: label.version,
            uuid: label.uuid,
            name: String::from_utf8_lossy(name_bytes).into_owned(),
            claim: label.claim,
            lba_bytes: label.lba_bytes,
        }),
    })
}

/// What is wrong with a set that has one label on each DIMM.
fn whole_set<'m, 'l>(mappings: &[Mapping], members: &'m [Member<'l>]) -> Option<(&'m Member<'l>, Torn)> {
    let first = &members[0];
    for mapping in mappings {
        let mut on_dimm = members.iter().filter(|member| member.mapping.dimm == mapping.dimm);
        if on_dimm.next().is_none() {
            return Some((first, Torn::Missing(mapping.dimm)));
        }
        if let Some(second) = on_dimm.next() {
            return Some((second, Torn::Twice(mapping.dimm)));
        }
    }
    let mut positions = BTreeSet::new();
    for member in members {
        if usize::from(member.label.labels) != mappings.len() {
            return Some((member, Torn::Count));
        }
        if usize::from(member.label.position) >= mappings.len() || !positions.insert(member.label.position) {
            return Some((member, Torn::Positions));
        }
        let offset = |member: &Member<'_>| member.label.dpa - member.mapping.dpa;
        if offset(member) != offset(first) || common(member.label) != common(first.label) {
            return Some((member, Torn::Disagree));
        }
    }
    None
}

/// What is wrong with a list of extents on one DIMM. Labels 1.1 do not count them; in labels 1.2 the first does.
fn whole_list<'m, 'l>(members: &'m [Member<'l>]) -> Option<(&'m Member<'l>, Torn)> {
    const UNCOUNTED: (u16, u16) = (u16::MAX, u16::MAX);
    let first = &members[0];
    let mut counted = false;
    for member in members {
        let label = member.label;
        let alike = |label: &Label| (label.name, label.lba_bytes, label.claim, label.flags - LabelFlags::UPDATING);
        if alike(label) != alike(first.label) {
            return Some((member, Torn::Disagree));
        }
        match (label.version, (label.labels, label.position)) {
            (LabelVersion::V1_1, _) | (_, UNCOUNTED) => {}
            (_, (labels, 0)) if !counted && usize::from(labels) == members.len() => counted = true,
            _ => return Some((member, Torn::Count)),
        }
    }
    (first.label.version == LabelVersion::V1_2 && !counted).then_some((first, Torn::Count))
}

/// What labels of one set have in common.
fn common(label: &Label) -> (LabelVersion, [u8; 64], LabelFlags, u64, u64, Option<Uuid>, Claim) {
    let flags = label.flags - LabelFlags::UPDATING;
    (label.version, label.name, flags, label.lba_bytes, label.raw_bytes, label.type_guid, label.claim)
}

/// Labels that share bytes of their DIMM with another label: Linux does not enable such a DIMM at all.
fn overlapping_labels(labels: &LabelsByDimm) -> BTreeSet<(DeviceHandle, u32)> {
    let mut overlapping = BTreeSet::new();
    for (&dimm, labels) in labels {
        let Labels::Valid(LabelSet { labels, .. }) = labels else { continue };
        let mut by_dpa: Vec<&Label> = labels.iter().collect();
        by_dpa.sort_by_key(|label| label.dpa);
        // The label that reaches furthest so far.
        let mut furthest: Option<&Label> = None;
        for label in by_dpa {
            if let Some(before) = furthest.filter(|before| before.dpa_end() > label.dpa) {
                overlapping.insert((dimm, before.slot));
                overlapping.insert((dimm, label.slot));
            }
            if furthest.is_none_or(|before| label.dpa_end() > before.dpa_end()) {
                furthest = Some(label);
            }
        }
    }
    overlapping
}

/// Labels that no region takes up.
fn report_stray_labels(regions: &[Region], labels: &LabelsByDimm, findings: &mut Findings<Fault>) {
    for (&dimm, labels) in labels {
        let Labels::Valid(LabelSet { labels, .. }) = labels else { continue };
        let shares: Vec<(&Region, &Mapping)> = regions
            .iter()
            .flat_map(|region| region.mappings().iter().map(move |mapping| (region, mapping)))
            .filter(|(_, mapping)| mapping.dimm == dimm)
            .collect();
        for label in labels {
            if !shares.iter().any(|(region, mapping)| belongs(region, mapping, label)) {
                let at = Place::Labels { dimm, offset: label.offset };
                findings.note(at, Fault::LabelOutsideRegion { slot: label.slot });
            }
        }
    }
}
