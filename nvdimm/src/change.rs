//! Changes to labels: from what the areas hold and what is wished to the writes that bring it about.
//!
//! A change is a list of [`Step`]s; each must be durable before the next begins ([`carry_out`]). Power may fail between
//! two steps or within one, where any 8-byte pieces of it may have arrived: [`read`](crate::label::read) then finds the old
//! namespaces or the new ones, and all others in either case.
//!
//! | step | a cut within it leaves |
//! |---|---|
//! | a label into a slot that is free | bytes in a free slot, which no reader looks at |
//! | half of the signature of the index block that is not in force goes | the other in force |
//! | the rest of that block, with the next sequence number | the other in force |
//! | that half of its signature | the other in force, or this one |
//!
//! The signature goes first because of the change before: if that was cut, its block may lack some pieces only. This
//! write's first ones could be just those, and the change that was given up would come into force.
//!
//! So a DIMM's labels change with 8 bytes of one index block (invariant 7). A set of several DIMMs changes with the first
//! of them that leaves it, or the last that joins it; what a cut leaves on the others carries UPDATING, and makes no
//! namespace ([`Torn`]). [`reclaim`] takes it away. Nothing else is ever taken away that was not asked for: labels of other
//! sets of DIMMs, labels that are not valid, and sets that are torn without that mark stay, and so does the space that
//! they describe.
//!
//! [`Torn`]: crate::namespace::Torn

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use uuid::Uuid;

use crate::cookie::Cookies;
use crate::extent::Extent;
use crate::identity::DeviceHandle;
use crate::label::{
    Claim, IndexBlock, Label, LabelError, LabelFlags, LabelSet, LabelStore, LabelVersion, Labels, LabelsByDimm,
    can_hold_labels, index_bytes,
};
use crate::namespace::is_of;
use crate::region::{Kind, Region};
use crate::space;

/// Half of an index block's signature: 8 bytes, which arrive wholly or not at all.
const COMMIT_BYTES: usize = 8;

/// One write into a DIMM's label area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The DIMM.
    pub dimm: DeviceHandle,
    /// Where, in bytes from the start of the area.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// A new namespace, as labels are to describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNamespace<'n> {
    /// Its uuid; no other in the region has it.
    pub uuid: Uuid,
    /// Its name, or nothing: at most 63 bytes.
    pub name: &'n str,
    /// The layer above; labels 1.1 do not keep it.
    pub claim: Claim,
    /// The sector size that it is made for: 512 or 4096, or 0, as Linux's labels have it.
    pub lba_bytes: u64,
    /// Where it lies, as in [`crate::namespace::Namespace::extents`]: one piece of a PMEM region, any of a BLK one.
    pub extents: Vec<Extent>,
}

/// Why a change cannot be made. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeError {
    /// A DIMM of the region has no labels.
    NotLabelled(DeviceHandle),
    /// The DIMMs of the set have labels of different versions.
    VersionsDiffer,
    /// The set has no cookie that labels could carry.
    NoCookie,
    /// No slot is left.
    NoSlot(DeviceHandle),
    /// The uuid is in use.
    UuidTaken(Uuid),
    /// A label of the DIMM is not valid, so the bytes that it describes are unknown.
    UnknownLabel(DeviceHandle),
    /// No label has the uuid.
    NoSuchUuid(Uuid),
    /// The name is too long, or has a NUL in it.
    BadName,
    /// The extents are none that labels of this region can describe, or not free.
    NotFree,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLabelled(dimm) => write!(f, "DIMM {dimm} has no labels: init-labels makes some"),
            Self::VersionsDiffer => f.write_str("the DIMMs of the set have labels of different versions"),
            Self::NoCookie => f.write_str("a DIMM of the set has no identity that labels could name"),
            Self::NoSlot(dimm) => write!(f, "no slot for a label is free on DIMM {dimm}: destroy a namespace first"),
            Self::UuidTaken(uuid) => write!(f, "uuid {uuid} is in use"),
            Self::UnknownLabel(dimm) => {
                write!(f, "a label of DIMM {dimm} is not valid: what it describes may not be free (see nfit)")
            }
            Self::NoSuchUuid(uuid) => write!(f, "no label has uuid {uuid}"),
            Self::BadName => f.write_str("a name has at most 63 bytes, and no NUL"),
            Self::NotFree => f.write_str("the space is not free"),
        }
    }
}

impl core::error::Error for ChangeError {}

/// Does the steps, one after the other.
///
/// # Errors
/// The error of the first step that failed; the rest were not begun.
pub fn carry_out(store: &mut dyn LabelStore, steps: &[Step]) -> Result<(), LabelError> {
    steps.iter().try_for_each(|step| store.write(step.dimm, step.offset, &step.bytes))
}

/// The steps that give a DIMM, whose area of `area_bytes` bytes holds `labels` now, index blocks of that version and no
/// labels. A cut leaves the old labels or none; over damaged index blocks, it may leave damaged ones.
///
/// # Panics
/// If no label area may have that size ([`can_hold_labels`]).
#[must_use]
pub fn initialise(dimm: DeviceHandle, area_bytes: u64, labels: &Labels, version: LabelVersion) -> Vec<Step> {
    assert!(can_hold_labels(area_bytes), "callers check the size of an area");
    let block = |version, number: u8, sequence| Step {
        dimm,
        offset: index_bytes(area_bytes, version) * u64::from(number),
        bytes: IndexBlock::empty(area_bytes, version, sequence).encode(number),
    };
    let zeroes = |version, number: u8| {
        let bytes = index_bytes(area_bytes, version);
        let room = usize::try_from(bytes).expect("areas are at most 16 MiB");
        Step { dimm, offset: bytes * u64::from(number), bytes: vec![0; room] }
    };
    // The numbers with which Linux begins: the first block is in force. A cut in the first step leaves a part of an
    // initialisation, which reads as blank; one in the second leaves one valid block.
    let begin = || [block(version, 0, 3), block(version, 1, 2)];
    match labels {
        // A cut may have left a part of an initialisation, perhaps of the other version: beside it, a part of this one
        // would read as damage.
        Labels::None | Labels::Blank { .. } | Labels::Damaged => {
            let wiped = [LabelVersion::V1_1, LabelVersion::V1_2].map(|version| [0, 1].map(|n| zeroes(version, n)));
            wiped.into_iter().flatten().chain(begin()).collect()
        }
        Labels::Valid(set) => {
            // First the labels go, in their own version, as they would one by one.
            let mut sequence = set.index.clone();
            let mut emptied = |number: u8| {
                sequence.advance();
                bring_into_force(dimm, &IndexBlock::empty(area_bytes, set.index.version, sequence.sequence), number)
            };
            let (spare, current) = (1 - set.block, set.block);
            let gone = emptied(spare);
            if set.index.version == version {
                // The block that was in force would bring the labels back if the new one were ever damaged.
                return gone.into_iter().chain(emptied(current)).collect();
            }
            // What is left of an empty block while it is zeroed is part of an initialisation, too.
            let wiped = [zeroes(set.index.version, current), zeroes(set.index.version, spare)];
            gone.into_iter().chain(wiped).chain(begin()).collect()
        }
    }
}

/// The steps that bring an index block into force, as number `number`: the one that is in force is the other.
fn bring_into_force(dimm: DeviceHandle, index: &IndexBlock, number: u8) -> [Step; 3] {
    let at = index.label_offset / 2 * u64::from(number);
    let block = index.encode(number);
    let (commit, rest) = block.split_at(COMMIT_BYTES);
    let step = |offset, bytes: &[u8]| Step { dimm, offset, bytes: bytes.into() };
    [step(at, &[0; COMMIT_BYTES]), step(at + COMMIT_BYTES as u64, rest), step(at, commit)]
}

/// The steps that make a namespace: its labels are written, then the index blocks that name them. On several DIMMs the
/// labels carry UPDATING until all of them are there.
///
/// # Errors
/// Why it cannot be; see [`ChangeError`].
pub fn create(region: &Region, labels: &LabelsByDimm, new: &NewNamespace<'_>) -> Result<Vec<Step>, ChangeError> {
    let mut editor = Editor::new(region, labels)?;
    if editor.has(new.uuid) {
        return Err(ChangeError::UuidTaken(new.uuid));
    }
    if let Some(dimm) = space::unknown_label(region, labels) {
        return Err(ChangeError::UnknownLabel(dimm));
    }
    let wanted = editor.labels_for(new)?;
    if !new.extents.iter().all(|extent| space::is_free(region, labels, *extent)) {
        return Err(ChangeError::NotFree);
    }
    // One slot stays free, so that the namespace can be destroyed.
    editor.reserve(&wanted)?;
    if wanted.len() > 1 {
        for (dimm, labels) in &wanted {
            let marked = labels.iter().map(|label| Label { flags: label.flags | LabelFlags::UPDATING, ..*label });
            // Crash after this: the DIMMs so far hold labels of a set that is not whole.
            editor.replace(*dimm, new.uuid, marked.collect())?;
        }
    }
    for (dimm, labels) in wanted {
        // Crash after the first of these: the set is whole, and marked in part, which counts for nothing.
        editor.replace(dimm, new.uuid, labels)?;
    }
    Ok(editor.steps)
}

/// The steps that take a namespace's labels away. On several DIMMs all of them are marked with UPDATING first.
///
/// # Errors
/// Why it cannot be; see [`ChangeError`].
pub fn destroy(region: &Region, labels: &LabelsByDimm, uuid: Uuid) -> Result<Vec<Step>, ChangeError> {
    let mut editor = Editor::new(region, labels)?;
    let holders = editor.holders(uuid);
    if holders.is_empty() {
        return Err(ChangeError::NoSuchUuid(uuid));
    }
    if holders.len() > 1 {
        for (dimm, labels) in &holders {
            let marked = labels.iter().map(|label| Label { flags: label.flags | LabelFlags::UPDATING, ..*label });
            // Without a slot to spare the labels stay unmarked: a cut then leaves a torn set that does not show why.
            if editor.replace(*dimm, uuid, marked.collect()).is_err() {
                break;
            }
        }
    }
    for (dimm, _) in holders {
        // Crash after the first of these: the set is not whole any more, and marked.
        editor.replace(dimm, uuid, Vec::new())?;
    }
    Ok(editor.steps)
}

/// The steps that take away what cut changes left: labels of this set of DIMMs whose set is not whole, and that carry
/// UPDATING. None, if there are none.
///
/// # Errors
/// The DIMMs are not all labelled alike.
pub fn reclaim(region: &Region, labels: &LabelsByDimm) -> Result<Vec<Step>, ChangeError> {
    let mut editor = Editor::new(region, labels)?;
    for uuid in editor.unfinished() {
        for (dimm, _) in editor.holders(uuid) {
            editor.replace(dimm, uuid, Vec::new())?;
        }
    }
    Ok(editor.steps)
}

/// Labels in the making: what the areas will hold once the steps so far are done.
struct Editor<'r> {
    region: &'r Region,
    cookie: u64,
    version: LabelVersion,
    sets: BTreeMap<DeviceHandle, LabelSet>,
    steps: Vec<Step>,
}

impl<'r> Editor<'r> {
    fn new(region: &'r Region, labels: &LabelsByDimm) -> Result<Self, ChangeError> {
        let mut sets = BTreeMap::new();
        for mapping in region.mappings() {
            match labels.get(&mapping.dimm) {
                Some(Labels::Valid(set)) => sets.insert(mapping.dimm, set.clone()),
                _ => return Err(ChangeError::NotLabelled(mapping.dimm)),
            };
        }
        let mut versions = sets.values().map(|set| set.index.version);
        let version = versions.next().ok_or(ChangeError::NoCookie)?;
        if versions.any(|other| other != version) {
            return Err(ChangeError::VersionsDiffer);
        }
        let Cookies { v1_1, v1_2, .. } = region.cookies().ok_or(ChangeError::NoCookie)?;
        let cookie = match version {
            // BLK labels 1.1 carry none.
            LabelVersion::V1_1 if matches!(region.kind, Kind::Blk(_)) => 0,
            LabelVersion::V1_1 => v1_1,
            LabelVersion::V1_2 => v1_2,
        };
        Ok(Self { region, cookie, version, sets, steps: Vec::new() })
    }

    /// Whether any label has the uuid, in whatever region.
    fn has(&self, uuid: Uuid) -> bool {
        self.sets.values().flat_map(|set| &set.labels).any(|label| label.uuid == uuid)
    }

    /// Labels of this set of DIMMs, with their DIMMs, by ascending slot.
    fn ours(&self) -> impl Iterator<Item = (DeviceHandle, &Label)> {
        let mappings = self.region.mappings().iter();
        mappings.flat_map(|mapping| {
            let labels = self.sets.get(&mapping.dimm).into_iter().flat_map(|set| &set.labels);
            labels.filter(|label| is_of(self.region, mapping, label)).map(|label| (mapping.dimm, label))
        })
    }

    /// The DIMMs that hold labels of a namespace of this set.
    fn holders(&self, uuid: Uuid) -> BTreeMap<DeviceHandle, Vec<Label>> {
        let mut holders: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (dimm, label) in self.ours().filter(|(_, label)| label.uuid == uuid) {
            holders.entry(dimm).or_default().push(*label);
        }
        holders
    }

    /// Namespaces of this set that are missing on a DIMM, and marked with UPDATING.
    fn unfinished(&self) -> Vec<Uuid> {
        let marked = self.ours().filter(|(_, label)| label.flags.contains(LabelFlags::UPDATING));
        let marked: BTreeSet<Uuid> = marked.map(|(_, label)| label.uuid).collect();
        marked.into_iter().filter(|uuid| self.holders(*uuid).len() < self.sets.len()).collect()
    }

    /// The labels that describe a namespace.
    fn labels_for(&self, new: &NewNamespace<'_>) -> Result<Vec<(DeviceHandle, Vec<Label>)>, ChangeError> {
        let region = self.region;
        let local = matches!(region.kind, Kind::Blk(_));
        let mut name = [0; 64];
        if new.name.len() >= name.len() || new.name.contains('\0') {
            return Err(ChangeError::BadName);
        }
        name[..new.name.len()].copy_from_slice(new.name.as_bytes());
        let (type_guid, claim) = match self.version {
            LabelVersion::V1_1 => (None, Claim::None),
            LabelVersion::V1_2 => (Some(region.label_type()), new.claim),
        };
        let label = |dpa, raw_bytes, labels, position| Label {
            slot: 0,
            offset: 0,
            version: self.version,
            uuid: new.uuid,
            name,
            flags: if local { LabelFlags::LOCAL } else { LabelFlags::empty() },
            labels,
            position,
            set_cookie: self.cookie,
            lba_bytes: new.lba_bytes,
            dpa,
            raw_bytes,
            type_guid,
            claim,
        };
        let mappings = region.mappings();
        let ways = u16::try_from(mappings.len()).map_err(|_| ChangeError::NotFree)?;
        match &region.kind {
            Kind::Pmem(_) => {
                let [extent] = new.extents.as_slice() else { return Err(ChangeError::NotFree) };
                let share = |bytes: u64| {
                    let whole = bytes.is_multiple_of(u64::from(ways) * space::LABEL_ALIGN_BYTES);
                    if whole { Ok(bytes / u64::from(ways)) } else { Err(ChangeError::NotFree) }
                };
                let (start, bytes) = (share(extent.start)?, share(extent.bytes)?);
                let on = |mapping: &crate::region::Mapping| {
                    let dpa = mapping.dpa.checked_add(start).ok_or(ChangeError::NotFree)?;
                    Ok((mapping.dimm, vec![label(dpa, bytes, ways, mapping.position)]))
                };
                mappings.iter().map(on).collect()
            }
            Kind::Blk(blk) => {
                let count = u16::try_from(new.extents.len()).map_err(|_| ChangeError::NotFree)?;
                let whole = |at: u64| at.is_multiple_of(space::LABEL_ALIGN_BYTES);
                let aligned = new.extents.iter().all(|extent| whole(extent.start) && whole(extent.bytes));
                let mut ascending = new.extents.clone();
                ascending.sort_by_key(|extent| extent.start);
                let apart = |pair: &[Extent]| pair[0].start.saturating_add(pair[0].bytes) <= pair[1].start;
                if !aligned || !ascending.windows(2).all(apart) {
                    return Err(ChangeError::NotFree);
                }
                let first = new.extents.iter().map(|extent| extent.start).min().ok_or(ChangeError::NotFree)?;
                let numbers = |extent: &Extent| match self.version {
                    LabelVersion::V1_1 => (0, 0),
                    // The first one counts them all.
                    LabelVersion::V1_2 if extent.start == first => (count, 0),
                    LabelVersion::V1_2 => (u16::MAX, u16::MAX),
                };
                let labels = new.extents.iter().map(|extent| {
                    let (labels, position) = numbers(extent);
                    label(extent.start, extent.bytes, labels, position)
                });
                Ok(vec![(blk.mapping.dimm, labels.collect())])
            }
        }
    }

    /// Makes sure of slots for these labels, for those that replace them, and for one more.
    fn reserve(&self, wanted: &[(DeviceHandle, Vec<Label>)]) -> Result<(), ChangeError> {
        for (dimm, labels) in wanted {
            let set = self.sets.get(dimm).ok_or(ChangeError::NotLabelled(*dimm))?;
            if set.index.free_slots().count() < 2 * labels.len() {
                return Err(ChangeError::NoSlot(*dimm));
            }
        }
        Ok(())
    }

    /// On one DIMM, puts these labels in the place of those that it has of the namespace: into free slots, then an index
    /// block that has their slots, and not those of the old ones.
    fn replace(&mut self, dimm: DeviceHandle, uuid: Uuid, mut new: Vec<Label>) -> Result<(), ChangeError> {
        let old = self.holders(uuid).remove(&dimm).unwrap_or_default();
        let set = self.sets.get_mut(&dimm).ok_or(ChangeError::NotLabelled(dimm))?;
        let slots: Vec<u32> = set.index.free_slots().take(new.len()).collect();
        if slots.len() < new.len() {
            return Err(ChangeError::NoSlot(dimm));
        }
        let mut index = set.index.clone();
        for (label, slot) in new.iter_mut().zip(slots) {
            label.slot = slot;
            label.offset = index.label_offset + u64::from(slot) * index.version.label_bytes();
            index.mark(slot, false);
            self.steps.push(Step { dimm, offset: label.offset, bytes: label.encode() });
        }
        old.iter().for_each(|label| index.mark(label.slot, true));
        index.advance();
        let block = 1 - set.block;
        self.steps.extend(bring_into_force(dimm, &index, block));
        set.labels.retain(|label| !old.contains(label));
        set.labels.extend(new);
        set.labels.sort_by_key(|label| label.slot);
        set.index = index;
        set.block = block;
        Ok(())
    }
}
