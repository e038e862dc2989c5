//! `create-namespace`: in a region without labels it formats the whole region, elsewhere a piece of the free space.
//!
//! # Order
//! In free space the BTT is made first, then the labels, which make the namespace (invariant 7): a power cut leaves no
//! namespace, or a whole one. It may leave the BTT in space that is still free, where it looks like any other: creating
//! a namespace over it takes `-f`.
//!
//! Before anything is stored, the space is probed: memory that keeps no bytes gets no namespace. Afterwards the
//! namespace is read back, and the command succeeds only if it reads as it was written (invariant 5).

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use btt::FormatError;
use btt::format::{FormatOptions, format};
use btt::geometry::{SECTOR_SIZES, SectorSize};
use btt::info_block::Version;
use btt::unmake::{erase, info_blocks, signed_pages};
use drivers::medium::AnyMedium;
use drivers::pmem::Access;
use nvdimm::change::{self, ChangeError, NewNamespace};
use nvdimm::error::Place;
use nvdimm::extent::Extent;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::LabelsByDimm;
use nvdimm::label::{Claim, LabelSet, LabelVersion, Labels};
use nvdimm::region::{Kind, LeftOut, Region};
use nvdimm::space;
use service::admin::commands::namespaces::create::{CreateNamespace, NamespaceMode};
use service::error::AdminError;
use service::inventory::RegionType;
use uuid::{Builder, Uuid};

use crate::node::attach::{State, medium, placement};
use crate::node::config::room::NAMESPACE;
use crate::node::content::{Content, recognise};
use crate::node::export::not_exported;
use crate::node::probe::{Fault, all_over};
use crate::node::{Machine, NamespaceSlot, Node, RegionSlot, SlotPlace};

// The grammar offers the sector sizes that a BTT may have, all of them.
const _: () = {
    assert!(service::inventory::SECTOR_SIZES.len() == SECTOR_SIZES.len());
    let mut index = 0;
    while index < SECTOR_SIZES.len() {
        assert!(service::inventory::SECTOR_SIZES[index] == SECTOR_SIZES[index]);
        index += 1;
    }
};

/// The least size of a namespace in sector mode: that of a BTT.
const SECTOR_MODE_BYTES: u64 = 16 << 20;

/// Where a namespace will be.
enum Target {
    /// All of a region without labels: that is a namespace already.
    Whole(SlotPlace),
    /// Free space of a region with labels.
    Piece(Piece),
}

/// Free space for a namespace.
struct Piece {
    region: usize,
    /// One in a PMEM region, one or more in a BLK region.
    extents: Vec<Extent>,
    version: LabelVersion,
    /// The DIMMs that get label index blocks first, with the bytes of their areas.
    blank: Vec<(DeviceHandle, u64)>,
    content: Content,
}

impl<M: Machine> Node<M> {
    /// Makes a namespace and opens it.
    pub(in crate::node) fn create(&mut self, request: &CreateNamespace) -> Result<SlotPlace, AdminError> {
        let sector_size = SectorSize::new(request.sector_size)
            .ok_or_else(|| AdminError::usage(format!("no BTT has sectors of {} bytes", request.sector_size)))?;
        if request.name.as_deref() == Some(NAMESPACE) && request.mode == NamespaceMode::Sector {
            return Err(AdminError::usage(format!("-n: {NAMESPACE} is the configuration's: config save -r makes it")));
        }
        match self.choose(request)? {
            Target::Whole(place) => self.create_whole(place, request, sector_size),
            Target::Piece(piece) => self.create_piece(&piece, request, sector_size),
        }
    }

    /// Returns the regions that the request may mean.
    fn candidates(&self, request: &CreateNamespace) -> impl Iterator<Item = usize> {
        let meant = |slot: &RegionSlot| {
            let of_type = match request.region_type {
                None => true,
                Some(RegionType::Pmem) => matches!(slot.region.kind, Kind::Pmem(_)),
                Some(RegionType::Blk) => matches!(slot.region.kind, Kind::Blk(_)),
            };
            of_type && request.region.as_ref().is_none_or(|name| is_region(slot, name))
        };
        self.regions.iter().enumerate().filter(move |(_, slot)| meant(slot)).map(|(region, _)| region)
    }

    /// Chooses the region that was named, or the first that can hold the namespace. By force it first takes back what
    /// an interrupted change left there.
    fn choose(&mut self, request: &CreateNamespace) -> Result<Target, AdminError> {
        let mut refusal = None;
        for region in self.candidates(request).collect::<Vec<_>>() {
            let reclaimed = self.writable(region).and_then(|()| match request.force {
                true => self.reclaim(region),
                false => Ok(()),
            });
            match reclaimed.and_then(|()| self.target(region, request)) {
                Ok(target) => return Ok(target),
                Err(why) => _ = refusal.get_or_insert(why),
            }
        }
        Err(refusal.unwrap_or_else(|| self.no_region(request)))
    }

    /// Returns why no region fits the request.
    fn no_region(&self, request: &CreateNamespace) -> AdminError {
        let is_meant = |it: &&LeftOut| {
            let of_type = match request.region_type {
                None => true,
                Some(RegionType::Pmem) => !it.behind_windows,
                Some(RegionType::Blk) => it.behind_windows,
            };
            of_type && request.region.as_ref().is_none_or(|name| region_number(name) == Some(it.id.0))
        };
        if let Some(LeftOut { id, why, .. }) = self.found.left_out.iter().find(is_meant) {
            return AdminError::not_found(format!("{id} is left out: {why}"));
        }
        if !self.regions.is_empty() {
            let kind = match request.region_type {
                None => "",
                Some(RegionType::Pmem) => " of type pmem",
                Some(RegionType::Blk) => " of type blk",
            };
            let name = request.region.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
            return AdminError::not_found(format!("no region{name}{kind}: list -R shows what there is"));
        }
        let refused = self.found.findings().find(|finding| finding.refuses() && finding.is_of_tables());
        AdminError::not_found(match refused {
            Some(why) => format!("there is no region: {why}; nfit shows all that was refused"),
            None if self.machine.nfits().is_empty() => "there is no region: the firmware has no NFIT".into(),
            None => "there is no region: the firmware's NFIT names no range of persistent memory".to_string(),
        })
    }

    /// Refuses a region that cannot be written.
    fn writable(&self, region: usize) -> Result<(), AdminError> {
        let slot = &self.regions[region];
        if slot.region.read_only {
            return Err(region_is_read_only(&slot.region));
        }
        let refused = |why: &String| AdminError::failed(format!("{}: {why}", slot.region.id));
        slot.medium.as_ref().map(|_| ()).map_err(refused)
    }

    /// Frees labels that an interrupted change left: they make no namespace.
    fn reclaim(&mut self, region: usize) -> Result<(), AdminError> {
        match change::reclaim(&self.regions[region].region, &self.found.labels) {
            Ok(steps) => self.change_labels(&steps),
            // Labels that are not all alike are judged with the rest.
            Err(_) => Ok(()),
        }
    }

    /// Returns where the namespace would be in this region, which is writable. Writes nothing.
    fn target(&self, region: usize, request: &CreateNamespace) -> Result<Target, AdminError> {
        let slot = &self.regions[region];
        let id = slot.region.id;
        let refused = |why: &str| Err(AdminError::failed(format!("{id}: {why}")));
        let mut blank = Vec::new();
        let mut versions = Vec::new();
        let mut without = None;
        for mapping in slot.region.mappings() {
            match self.found.labels_of(mapping.dimm) {
                Labels::Valid(set) => versions.push(set.index.version),
                Labels::Blank { area_bytes } => blank.push((mapping.dimm, *area_bytes)),
                Labels::None => without = Some(mapping.dimm),
                Labels::Damaged => {
                    let number = self.found.dimm_number(mapping.dimm).expect("a mapping names a DIMM that was found");
                    return refused(&format!("the labels of nmem{number} are damaged: init-labels nmem{number} -f"));
                }
            }
        }
        let labelled = !versions.is_empty();
        // A size that is the region's own needs no label.
        let needs_label = slot.region.waits_for_labels(&self.found.labels)
            || request.name.is_some()
            || request.size_bytes.is_some_and(|bytes| bytes != slot.region.bytes());
        if !labelled && !needs_label {
            let [only] = slot.namespaces.as_slice() else {
                return refused(match blank.is_empty() {
                    true => "it has no namespace that could be formatted: nfit says why",
                    false => "its bytes are memory, too: -s says how many of them a namespace behind windows gets",
                });
            };
            may_format(only, request.force)?;
            return Ok(Target::Whole(SlotPlace { region, namespace: 0 }));
        }
        if let Place::Cxl { .. } = slot.region.at
            && without.is_some()
        {
            return refused("the device has no label area, and CXL memory has no namespaces without labels");
        }
        if without.is_some() || (blank.is_empty() && !labelled) {
            return refused(
                "without a label area on each of its DIMMs it keeps neither sizes nor names: leave -s and -n out",
            );
        }
        // Once these DIMMs have labels, their space without labels counts as free, in their other regions, too.
        for place in blank.iter().flat_map(|(dimm, _)| self.namespaces_on(*dimm)) {
            let slot = self.at(place);
            if slot.namespace.labelling.is_none() {
                may_format(slot, request.force)?;
            }
        }
        let version = versions.first().copied().unwrap_or(LabelVersion::V1_2);
        self.piece(region, request, version, blank).map(Target::Piece)
    }

    /// Finds free space in a region, as if its blank label areas held labels of that version.
    fn piece(
        &self,
        region: usize,
        request: &CreateNamespace,
        version: LabelVersion,
        blank: Vec<(DeviceHandle, u64)>,
    ) -> Result<Piece, AdminError> {
        let slot = &self.regions[region];
        let id = slot.region.id;
        let refused = |why: String| AdminError::failed(format!("{id}: {why}"));
        let labels = as_if_labelled(&self.found.labels, &blank, version);
        let align = space::align_bytes(&slot.region);
        let free = space::free(&slot.region, &labels);
        let largest = free.iter().map(|extent| extent.bytes).max().unwrap_or(0);
        let bytes = request.size_bytes.unwrap_or(largest);
        if bytes == 0 && request.size_bytes.is_none() {
            return Err(refused(format!("no space is free: destroy-namespace frees some{}", self.held_back(region))));
        }
        if bytes == 0 || !bytes.is_multiple_of(align) {
            let next = (bytes / align).saturating_add(1).saturating_mul(align);
            return Err(AdminError::usage(format!("-s: sizes in {id} are multiples of {align}: use {next}")));
        }
        if request.mode == NamespaceMode::Sector && bytes < SECTOR_MODE_BYTES {
            return Err(AdminError::usage(format!("-s: sector mode takes at least {SECTOR_MODE_BYTES} bytes")));
        }
        let Some(extents) = space::fit(&slot.region, &labels, bytes) else {
            let most = format!("the largest free piece is {largest}");
            return Err(refused(format!("no room for {bytes} bytes: {most}{}", self.held_back(region))));
        };
        let content = recognise(&self.bytes_of(region, &extents)?, false).map_err(|why| refused(why.to_string()))?;
        if let (Content::Recognised(_) | Content::Lost, false) = (content, request.force) {
            let start = extents.first().map_or(0, |extent| extent.start);
            let verb = if content == Content::Lost { "is " } else { "" };
            let place = format!("the free space at {start:#x} {verb}{content}");
            return Err(refused(format!("{place}: -f uses it all the same")));
        }
        Ok(Piece { region, extents, version, blank, content })
    }

    /// Returns what to do about space that interrupted changes keep, if there is any.
    fn held_back(&self, region: usize) -> &'static str {
        match change::reclaim(&self.regions[region].region, &self.found.labels) {
            Ok(steps) if !steps.is_empty() => "; -f takes back what an interrupted change left",
            _ => "",
        }
    }

    fn bytes_of(&self, region: usize, extents: &[Extent]) -> Result<AnyMedium, AdminError> {
        let slot = &self.regions[region];
        let failed = |why: String| AdminError::failed(format!("{}: {why}", slot.region.id));
        let medium = slot.medium.as_ref().map_err(|why| failed(why.clone()))?;
        medium.bytes_of(extents, Access::ReadWrite).map_err(failed)
    }

    /// Formats the namespace of a region without labels.
    fn create_whole(
        &mut self,
        place: SlotPlace,
        request: &CreateNamespace,
        sector_size: SectorSize,
    ) -> Result<SlotPlace, AdminError> {
        let namespace = self.at(place).namespace.clone();
        let name = namespace.id;
        let refused = |why: String| AdminError::failed(format!("{name}: {why}"));
        let region = self.regions[place.region].medium.as_ref().map_err(|why| refused(why.clone()))?;
        let medium = medium(region, &namespace).map_err(refused)?;
        let Some(placement) = placement(&namespace) else {
            return Err(refused("its label says that it is no sector-mode namespace".into()));
        };
        let uuid = request.uuid.unwrap_or_else(|| random_uuid(&*self.machine));
        // The namespace is closed before its bytes are overwritten.
        let closed = self.close(&[place])?;
        let result =
            all_over(&medium).map_err(|why| not_kept(&name.to_string(), why)).and_then(|()| match request.mode {
                NamespaceMode::Raw => erase(&medium, &info_blocks(&medium, Some(placement)))
                    .map_err(|why| AdminError::damaged(format!("{name} was not made: {why}"))),
                NamespaceMode::Sector => {
                    let options = FormatOptions {
                        sector_size,
                        uuid,
                        parent_uuid: placement.parent_uuid,
                        version: placement.version,
                        zero_data: request.force,
                        zero_entries: request.zero_entries,
                    };
                    let mut tell =
                        |done, total| _ = self.goes_on(format_args!("{name}: written"), done, total, "bytes");
                    let result = format(&medium, &options, &mut tell);
                    result.map_err(|why| not_formatted(&name.to_string(), &why))
                }
            });
        match result {
            Ok(()) => self.open(place),
            Err(_) => self.reopen(closed),
        }
        result?;
        self.as_made(place, (request.mode == NamespaceMode::Sector).then_some(uuid))
    }

    /// Returns the namespace if it is open and reads back as it was made: a BTT of this uuid, or no BTT.
    fn as_made(&self, place: SlotPlace, btt: Option<Uuid>) -> Result<SlotPlace, AdminError> {
        let slot = self.at(place);
        let is_so = match (&slot.state, btt) {
            (State::Sector(disk), Some(uuid)) => {
                disk.btt.uuid() == uuid
                    && disk.btt.arenas().all(|arena| arena.backup_agrees && arena.read_only.is_none())
            }
            (State::Raw(content), None) => !content.is_btt(),
            _ => false,
        };
        if is_so {
            return Ok(place);
        }
        let (id, state) = (slot.namespace.id, &slot.state);
        Err(AdminError::damaged(format!(
            "{id} does not read as it was written: the medium keeps other bytes ({state})"
        )))
    }

    /// Makes a namespace in free space.
    fn create_piece(
        &mut self,
        piece: &Piece,
        request: &CreateNamespace,
        sector_size: SectorSize,
    ) -> Result<SlotPlace, AdminError> {
        let region = self.regions[piece.region].region.clone();
        let name = region.id.to_string();
        let refused = |why: ChangeError| AdminError::failed(format!("{name}: {why}"));
        let uuid = request.uuid.unwrap_or_else(|| random_uuid(&*self.machine));
        let (claim, version) = match piece.version {
            LabelVersion::V1_1 => (Claim::None, Version::V1_1),
            LabelVersion::V1_2 => (Claim::Btt2, Version::V2_0),
        };
        let sector_mode = request.mode == NamespaceMode::Sector;
        let new = NewNamespace {
            uuid,
            name: request.name.as_deref().unwrap_or(""),
            claim: if sector_mode { claim } else { Claim::None },
            lba_bytes: match request.sector_size {
                // Linux's sector sizes of a namespace without a BTT.
                _ if !sector_mode => 512,
                plain @ (512 | 4096) => plain.into(),
                _ => 0,
            },
            extents: piece.extents.clone(),
        };
        // Before anything is written: can the labels describe it?
        let labels = as_if_labelled(&self.found.labels, &piece.blank, piece.version);
        change::create(&region, &labels, &new).map_err(refused)?;

        let medium = self.bytes_of(piece.region, &piece.extents)?;
        all_over(&medium).map_err(|why| not_kept(&name, why))?;
        for (dimm, area_bytes) in &piece.blank {
            self.label_blank(*dimm, *area_bytes, piece.version)?;
        }
        let btt_uuid = sector_mode.then(|| random_uuid(&*self.machine));
        if let Some(btt_uuid) = btt_uuid {
            let options = FormatOptions {
                sector_size,
                uuid: btt_uuid,
                parent_uuid: uuid,
                version,
                // The old bytes belonged to a namespace that is gone: the new one must not show them.
                zero_data: request.force || piece.content != Content::Blank,
                zero_entries: request.zero_entries,
            };
            let mut tell = |done, total| _ = self.goes_on(format_args!("{name}: written"), done, total, "bytes");
            format(&medium, &options, &mut tell).map_err(|why| not_formatted(&name, &why))?;
        } else {
            // The rest of an old BTT would make it a namespace in sector mode.
            erase(&medium, &signed_pages(&medium))
                .map_err(|why| AdminError::damaged(format!("{name}: nothing was made: {why}")))?;
        }
        let steps = change::create(&region, &self.found.labels, &new).map_err(refused)?;
        self.change_labels(&steps)?;
        let is_new = |slot: &NamespaceSlot| slot.namespace.labelling.as_ref().is_some_and(|it| it.uuid == uuid);
        let namespace = self.regions[piece.region].namespaces.iter().position(is_new);
        let namespace = namespace
            .ok_or_else(|| AdminError::damaged(format!("{name}: the labels do not read as they were written")))?;
        self.as_made(SlotPlace { region: piece.region, namespace }, btt_uuid)
    }

    /// Gives a blank label area index blocks. This removes the namespaces that its DIMM had without labels; then their
    /// info blocks are erased.
    fn label_blank(&mut self, dimm: DeviceHandle, area_bytes: u64, version: LabelVersion) -> Result<(), AdminError> {
        let mut places = self.namespaces_on(dimm);
        places.retain(|place| self.at(*place).namespace.labelling.is_none());
        let media = places.iter().map(|place| self.bytes_of(place.region, &self.at(*place).namespace.extents));
        let media = media.collect::<Result<Vec<_>, _>>()?;
        let closed = self.close(&places)?;
        let old = places
            .iter()
            .zip(media)
            .map(|(place, medium)| (info_blocks(&medium, placement(&self.at(*place).namespace)), medium));
        let old: Vec<_> = old.collect();
        let steps = change::initialise(dimm, area_bytes, &Labels::Blank { area_bytes }, version);
        if let Err(why) = self.change_labels(&steps) {
            self.reopen(closed);
            return Err(why);
        }
        let erased = old.iter().try_for_each(|(info_blocks, medium)| erase(medium, info_blocks));
        erased.map_err(|why| AdminError::failed(format!("the old info blocks were not erased: {why}")))
    }
}

/// Returns the labels as they will be when the blank areas have index blocks.
fn as_if_labelled(labels: &LabelsByDimm, blank: &[(DeviceHandle, u64)], version: LabelVersion) -> LabelsByDimm {
    let mut labels = labels.clone();
    for &(dimm, area_bytes) in blank {
        labels.insert(dimm, Labels::Valid(LabelSet::empty(area_bytes, version)));
    }
    labels
}

fn not_formatted(name: &str, why: &FormatError) -> AdminError {
    match why {
        FormatError::TooSmall { .. } | FormatError::Geometry(_) => AdminError::failed(format!("{name}: {why}")),
        _ => AdminError::failed(format!("{name} was not formatted: {why}")),
    }
}

/// Returns the error about space that does not keep bytes. A probe has restored what it wrote.
fn not_kept(name: &str, why: Fault) -> AdminError {
    AdminError::damaged(format!("{name}: {why}: nothing was made"))
}

/// Returns the `k` of `region<k>`.
fn region_number(name: &str) -> Option<u32> {
    name.strip_prefix("region").and_then(|number| number.parse().ok())
}

/// Returns the error of a change in a region that may not be written.
pub(super) fn region_is_read_only(region: &Region) -> AdminError {
    AdminError::read_only(format!("{} is read-only: nfit shows why", region.id))
}

fn is_region(slot: &RegionSlot, name: &str) -> bool {
    region_number(name) == Some(slot.region.id.0)
}

/// Checks that a namespace may be overwritten: a blank one always, any other only by force.
pub(super) fn may_format(slot: &NamespaceSlot, force: bool) -> Result<(), AdminError> {
    let name = slot.namespace.id;
    let unless_forced = |what: String| {
        if force { Ok(()) } else { Err(AdminError::failed(format!("{name} {what}: -f writes over it all the same"))) }
    };
    match &slot.state {
        State::Raw(Content::Blank) => Ok(()),
        State::Raw(Content::Unknown) => unless_forced("is not blank".into()),
        State::Raw(content @ (Content::Ones | Content::Lost)) => unless_forced(format!("is {content}")),
        State::Raw(content @ Content::Recognised(_)) => unless_forced(format!("{content}")),
        State::Sector(disk) => {
            not_exported(disk)?;
            unless_forced(format!("is in sector mode already ({})", slot.device_name(true)))
        }
        State::Damaged(why) => unless_forced(format!("holds a BTT that is damaged ({why})")),
        State::Disabled => unless_forced("is disabled, and may hold something".into()),
        // Its owner has tools for it: the message does not suggest to overwrite it.
        State::Unsupported(why) if !force => Err(AdminError::failed(format!("{name} holds {why}"))),
        State::Unsupported(_) => Ok(()),
        State::Unusable(it) => Err(it.error(name)),
    }
}

/// Returns a new uuid of version 4.
fn random_uuid<M: Machine>(machine: &M) -> Uuid {
    Builder::from_random_bytes(machine.random()).into_uuid()
}
