//! `status`, `list`, `nfit` and `health`: the admin side's objects, made from the node's.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use btt::ReadOnlyReason;
use btt::flog::Slots;
use btt::media::NsOffset;
use drivers::medium::AnyMedium;
use drivers::pmem::Access;
use drivers::raw::RawMedium as _;
use nvdimm::dimm::Dimm;
use nvdimm::error::{Finding, Place, What};
use nvdimm::extent::Extent;
use nvdimm::label::{LabelVersion, Labels};
use nvdimm::nfit::MappingFlags;
use nvdimm::region::{Kind, PersistenceDomain, Region};
use nvdimm::space;
use service::admin::commands::inventory::{Health, HealthFinding, InventoryAdmin, NamespaceStatus, Nfit, Status};
use service::error::ErrorCode;
use service::events::{Kind as EventKind, Severity};
use service::inventory as out;

use super::attach::{Mapped, State, medium, placement};
use super::content::Content;
use super::disk::{BttDisk, read_only_reason};
use super::{Machine, NamespaceSlot, Node, RegionSlot, SlotPlace, network, nfit};

/// Linux's name for the bus of DIMMs that NFITs describe.
const NFIT_BUS: &str = "ACPI.NFIT";

/// Linux's name for the bus of all CXL devices.
const CXL_BUS: &str = "CXL";

/// What is to be said where the last part of a virtio-pmem's file is missing.
const TAIL: &str = "the end of its memory may not be in a file: Firecracker and crosvm round a file's length up to 2 MiB and \
                    keep nothing of the rest; give a file of whole 2 MiB";

impl<M: Machine> InventoryAdmin for Node<M> {
    fn status(&self) -> Status {
        Status {
            version: service::VERSION.to_string(),
            cpus: self.machine.cpus(),
            memory: self.machine.memory_bytes(),
            tables: self.machine.tables(),
            namespaces: self.slots().map(namespace_status).collect(),
            exports: self.exports.names(),
            nvme: self.nvme.status(),
            uptime: self.machine.now_ns() / 1_000_000,
            unclean_shutdowns_recovered: self.unclean_shutdowns,
            persist: self.persist.to_string(),
        }
    }

    fn inventory(&self) -> out::Inventory {
        let bus = |number, provider: &str, dimms| out::Bus {
            provider: provider.to_string(),
            dev: format!("ndbus{number}"),
            dimms,
            regions: Vec::new(),
        };
        let dimms = |is_cxl: bool| {
            let dimms = self.found.dimms.iter().enumerate().filter(move |(_, dimm)| dimm.is_cxl == is_cxl);
            dimms.map(|(number, dimm)| self.dimm(number, dimm)).collect()
        };
        let mut buses = Vec::new();
        if !self.machine.nfits().is_empty() {
            buses.push((None, bus(0, NFIT_BUS, dimms(false))));
        }
        for slot in &self.regions {
            let (device, provider) = match slot.region.at {
                Place::Nfit { .. } | Place::Labels { .. } => (None, NFIT_BUS),
                Place::VirtioPmem { .. } => (Some(slot.region.at), "virtio-pmem"),
                Place::Cxl { .. } => (None, CXL_BUS),
                Place::MemoryMap { .. } => (None, "e820"),
            };
            let known = buses.iter().position(|(of, bus)| *of == device && bus.provider == provider);
            let number = known.unwrap_or_else(|| {
                let dimms = if provider == CXL_BUS { dimms(true) } else { Vec::new() };
                buses.push((device, bus(buses.len(), provider, dimms)));
                buses.len() - 1
            });
            buses[number].1.regions.push(self.region(slot));
        }
        out::Inventory { buses: buses.into_iter().map(|(_, bus)| bus).collect() }
    }

    fn nfit_tables(&self) -> Vec<Vec<u8>> {
        self.machine.nfits().to_vec()
    }

    fn nfit(&self) -> Nfit {
        nfit::reply(&self.found)
    }

    fn health(&self) -> Health {
        let mut health = Health::default();
        let kind = Cell::new(EventKind::Config);
        let mut add = |place: &dyn fmt::Display, what: String, severity| {
            health.findings.push(HealthFinding { what, place: place.to_string(), severity, kind: kind.get() });
        };
        self.config.slips.iter().for_each(|slip| add(&slip.place, slip.what.clone(), Severity::Warning));
        self.config.faults().for_each(|(name, what)| add(&name, what, Severity::Warning));
        kind.set(EventKind::Machine);
        for left_out in &self.found.left_out {
            add(&left_out.id, format!("it is left out: {}", left_out.why), Severity::Error);
        }
        for bare in &self.bare {
            if let Err(why) = &bare.memory {
                add(&bare.at, format!("it is left out: {why}"), Severity::Error);
            }
        }
        let of_left_out = |finding: &Finding| {
            self.found.left_out.iter().any(|it| it.why.at == finding.at && What::from(it.why.what) == finding.what)
        };
        for finding in self.found.findings().filter(|finding| finding.refuses() && !of_left_out(finding)) {
            add(&finding.at, format!("refused: {}", finding.what), Severity::Warning);
        }
        kind.set(EventKind::Media);
        for (number, dimm) in self.found.dimms.iter().enumerate() {
            for (_, what, severity) in DIMM_FLAGS.into_iter().filter(|(flag, ..)| dimm.flags.contains(*flag)) {
                add(&format_args!("nmem{number}"), what.to_string(), severity);
            }
        }
        kind.set(EventKind::Network);
        for interface in self.networks.show() {
            network::faults(&interface).into_iter().for_each(|what| add(&interface.name, what, Severity::Warning));
        }
        kind.set(EventKind::Watchdog);
        if self.watchdog.is_some() && self.machine.cpus() == 1 {
            let what = "there is no other CPU to see that this one is stuck: only a panic restarts the machine";
            add(&"watchdog", what.to_string(), Severity::Warning);
        }
        kind.set(EventKind::Host);
        if self.networks.addresses().is_empty() {
            for served in self.nvme.status() {
                add(&served.dev, "it is served by NVMe/TCP, but no interface has an address".into(), Severity::Warning);
            }
        }
        kind.set(EventKind::Media);
        for region in &self.regions {
            let mapped = match &region.medium {
                Ok(mapped) => mapped,
                Err(why) => {
                    add(&region.region.id, format!("it is not mapped: {why}"), Severity::Error);
                    continue;
                }
            };
            if let Some(why) = self.flush_of(&region.region).and_then(|flush| flush.fault()) {
                let what = "its device failed to make stores durable";
                let then = "what was written last may be lost, and no writes are taken until a reboot";
                add(&region.region.id, format!("{what}: {why}: {then}"), Severity::Error);
            }
            if region.namespaces.iter().any(|slot| !matches!(slot.state, State::Sector(_))) {
                let lost: u64 = bad_blocks(region).iter().map(|run| run.length).sum();
                if lost > 0 {
                    let what = format!("the medium has lost {lost} blocks of 512 bytes: list -RM shows where");
                    add(&region.region.id, what, Severity::Error);
                }
            }
            for slot in &region.namespaces {
                let of_file = matches!(region.region.at, Place::VirtioPmem { .. });
                if of_file && has_lost_its_end(mapped, slot) {
                    add(&slot.namespace.id, TAIL.to_string(), Severity::Warning);
                }
                if let State::Sector(disk) = &slot.state {
                    disk_health(disk, |what, severity| add(&slot.namespace.id, what, severity));
                } else if let State::Raw(content @ Content::Lost) = &slot.state {
                    add(&slot.namespace.id, format!("it holds {content}: list -R shows where"), Severity::Error);
                } else if let Err(why) = slot.check_usable() {
                    let of_medium = why.code == ErrorCode::Damaged;
                    let severity = if of_medium { Severity::Error } else { Severity::Warning };
                    add(&slot.namespace.id, format!("it is not served: {why}"), severity);
                }
            }
        }
        health
    }
}

/// The meaning of a DIMM's state flags for the data on it (ACPI 6.5, table 5.135).
const DIMM_FLAGS: [(MappingFlags, &str, Severity); 6] = [
    (MappingFlags::MAP_FAILED, "the firmware could not map it", Severity::Error),
    (MappingFlags::SAVE_FAILED, "its last save to flash failed: what was written before may be lost", Severity::Error),
    (MappingFlags::RESTORE_FAILED, "its last restore failed: what it held may be lost", Severity::Error),
    (MappingFlags::FLUSH_FAILED, "the last flush failed: what was written before may be lost", Severity::Error),
    (MappingFlags::NOT_ARMED, "it is not armed: stores would not last, so none are made", Severity::Warning),
    (MappingFlags::HEALTH_EVENT, "it reported a health event before the firmware started", Severity::Warning),
];

/// Returns whether the info blocks of a BTT are sound, and one of the copies, the last of which stands at the namespace's end,
/// is lost or differs.
fn has_lost_its_end(mapped: &Mapped, slot: &NamespaceSlot) -> bool {
    match &slot.state {
        State::Sector(disk) => disk.btt.arenas().any(|arena| !arena.backup_agrees),
        State::Damaged(_) => {
            let medium = medium(mapped, &slot.namespace).ok().zip(placement(&slot.namespace));
            medium.is_some_and(|(medium, placement)| btt::chain::copies_agree(&medium, placement) == Ok(false))
        }
        State::Raw(_) | State::Unsupported(_) | State::Unusable(_) | State::Disabled => false,
    }
}

/// Adds the findings about an open BTT.
fn disk_health(disk: &BttDisk<AnyMedium>, mut add: impl FnMut(String, Severity)) {
    for arena in disk.btt.arenas() {
        if let (Some(why), Some(reason)) = (read_only_reason(&arena), arena.read_only) {
            let of_medium = reason == ReadOnlyReason::Medium;
            add(format!("it is read-only: {why}"), if of_medium { Severity::Warning } else { Severity::Error });
        }
        if !arena.backup_agrees {
            add(format!("arena {}: the info block and its copy differ", arena.index), Severity::Warning);
        }
    }
    if let Some(loss) = disk.loss() {
        add(loss, Severity::Error);
    }
}

impl<M: Machine> Node<M> {
    /// Returns one namespace, as `list` shows it.
    pub(super) fn shown(&self, place: SlotPlace) -> out::Namespace {
        let numa_node = self.regions[place.region].region.proximity_domain;
        out::Namespace { numa_node, ..namespace(self.at(place)) }
    }

    fn dimm(&self, number: usize, dimm: &Dimm) -> out::Dimm {
        let has = |flag| dimm.flags.contains(flag);
        let of_cxl = || dimm.cxl_serial.map(|serial| serial.to_string());
        out::Dimm {
            dev: format!("nmem{number}"),
            id: dimm.identity.map(|identity| identity.to_string()).or_else(of_cxl),
            handle: (!dimm.is_cxl).then_some(dimm.handle.0),
            phys_id: (!dimm.is_cxl).then_some(dimm.physical_id),
            // Linux's driver takes every DIMM, with a label area or without.
            enabled: true,
            flags: out::DimmFlags {
                failed_map: has(MappingFlags::MAP_FAILED),
                failed_save: has(MappingFlags::SAVE_FAILED),
                failed_arm: has(MappingFlags::NOT_ARMED),
                failed_restore: has(MappingFlags::RESTORE_FAILED),
                failed_flush: has(MappingFlags::FLUSH_FAILED),
                smart_event: has(MappingFlags::HEALTH_EVENT),
            },
            health: None,
        }
    }

    fn region(&self, slot: &RegionSlot) -> out::Region {
        let region = &slot.region;
        // In a region without labels nothing is free: all of it is its namespace.
        let free = space::free(region, &self.found.labels);
        out::Region {
            dev: region.id.to_string(),
            size: region.bytes(),
            align: Some(space::align_bytes(region)),
            available_size: space::available(region, &self.found.labels),
            max_available_extent: Some(free.iter().map(|extent| extent.bytes).max().unwrap_or(0)),
            region_type: match region.kind {
                Kind::Pmem(_) => out::RegionType::Pmem,
                Kind::Blk(_) => out::RegionType::Blk,
            },
            numa_node: region.proximity_domain,
            // Linux shows none of a BLK region: it is one DIMM's, and no set.
            iset_id: if matches!(region.kind, Kind::Pmem(_)) { self.set_cookie(region) } else { None },
            mappings: self.mappings(region),
            enabled: slot.medium.is_ok(),
            badblocks: bad_blocks(slot),
            persistence_domain: match self.found.persistence_domain(region) {
                PersistenceDomain::CpuCache => out::PersistenceDomain::CpuCache,
                PersistenceDomain::MemoryController => out::PersistenceDomain::MemoryController,
                PersistenceDomain::Unknown => out::PersistenceDomain::Unknown,
            },
            namespaces: slot
                .namespaces
                .iter()
                .map(|one| out::Namespace { numa_node: region.proximity_domain, ..namespace(one) })
                .collect(),
        }
    }

    fn mappings(&self, region: &Region) -> Vec<out::Mapping> {
        let number = |handle| self.found.dimm_number(handle).expect("a mapping names a DIMM that was found");
        region
            .mappings()
            .iter()
            .map(|mapping| out::Mapping {
                dimm: format!("nmem{}", number(mapping.dimm)),
                offset: mapping.dpa,
                length: mapping.bytes,
                position: Some(u32::from(mapping.position)),
            })
            .collect()
    }

    /// Returns the label areas of a region's DIMMs.
    fn areas<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Labels> {
        region.mappings().iter().map(|mapping| self.found.labels_of(mapping.dimm))
    }

    /// Returns the cookie that labels of this region carry, in the version that its label areas have: 1.1 only if their
    /// index blocks say so.
    fn set_cookie(&self, region: &Region) -> Option<u64> {
        let mut version = None;
        for labels in self.areas(region) {
            match labels {
                Labels::Valid(set) => version = Some(set.index.version),
                Labels::Blank { .. } | Labels::Damaged => version = version.or(Some(LabelVersion::V1_2)),
                Labels::None => {}
            }
        }
        let cookies = region.cookies()?;
        version.map(|version| match version {
            LabelVersion::V1_1 => cookies.v1_1,
            LabelVersion::V1_2 => cookies.v1_2,
        })
    }
}

/// Returns what a region is known to have lost, in blocks of 512 bytes, as Linux counts them.
fn bad_blocks(slot: &RegionSlot) -> Vec<out::BadBlocks> {
    let all = Extent { start: 0, bytes: slot.region.bytes() };
    let medium = match (&slot.region.kind, &slot.medium) {
        (Kind::Pmem(_), Ok(mapped)) => mapped.bytes_of(&[all], Access::ReadOnly).ok(),
        _ => None,
    };
    let lost = medium.map(|medium| medium.lost()).unwrap_or_default();
    bad_blocks_of(blocks(&lost))
}

/// ndctl names the DIMMs where firmware translates addresses for it, which none here does.
fn bad_blocks_of(blocks: Vec<(u64, u64)>) -> Vec<out::BadBlocks> {
    blocks.into_iter().map(|(offset, length)| out::BadBlocks { offset, length, dimms: Vec::new() }).collect()
}

/// Returns why a namespace is not served as it should be.
fn fault(state: &State) -> Option<out::Fault> {
    let (state, reason) = match state {
        State::Damaged(why) => ("damaged", why.to_string()),
        State::Unsupported(why) => ("unsupported", why.to_string()),
        State::Unusable(it) => ("unusable", it.why.clone()),
        State::Raw(content @ Content::Lost) => ("damaged", format!("it holds {content}")),
        State::Sector(_) | State::Raw(_) | State::Disabled => return None,
    };
    Some(out::Fault { state, reason })
}

/// Returns the blocks of 512 bytes that hold any of these bytes: pairs of a first block and a count.
fn blocks(lost: &[(NsOffset, u64)]) -> Vec<(u64, u64)> {
    let mut blocks: Vec<(u64, u64)> = Vec::new();
    for &(NsOffset(at), bytes) in lost {
        let (first, end) = (at / 512, at.saturating_add(bytes).div_ceil(512));
        match blocks.last_mut() {
            // The ranges are sorted; two may share a block.
            Some((start, count)) if *start + *count >= first => *count = (*count).max(end - *start),
            _ => blocks.push((first, end - first)),
        }
    }
    blocks
}

fn namespace(slot: &NamespaceSlot) -> out::Namespace {
    let namespace = &slot.namespace;
    let label = namespace.labelling.as_ref();
    let named = |labelling: &nvdimm::namespace::Labelling| labelling.name.clone();
    // Linux's sector size of a namespace without a BTT: what its label has, or 512.
    let plain = label.map(|labelling| labelling.lba_bytes).filter(|bytes| *bytes != 0);
    let plain = plain.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(512);
    let (size, sector_size, blockdev, btt) = match &slot.state {
        State::Sector(disk) => {
            let sector = disk.btt.sector_size();
            let size = disk.btt.capacity_sectors() * u64::from(sector.data_bytes());
            (size, sector.bytes(), Some(disk.name.clone()), Some(summary(disk)))
        }
        State::Raw(_) | State::Damaged(_) | State::Unsupported(_) => {
            (namespace.bytes(), plain, Some(slot.device_name(false)), None)
        }
        State::Unusable(_) | State::Disabled => (namespace.bytes(), plain, None, None),
    };
    let lost = match &slot.state {
        State::Sector(disk) => blocks(&disk.btt.media().lost()),
        _ => Vec::new(),
    };
    out::Namespace {
        dev: namespace.id.to_string(),
        size,
        label_uuid: label.map(|labelling| labelling.uuid),
        sector_size,
        enabled: blockdev.is_some(),
        blockdev,
        name: label.map(named).filter(|name| !name.is_empty()),
        numa_node: None,
        badblock_count: lost.iter().map(|(_, count)| count).sum(),
        badblocks: bad_blocks_of(lost),
        fault: fault(&slot.state),
        btt,
    }
}

fn summary(disk: &BttDisk<AnyMedium>) -> out::Btt {
    let count = |number: usize| u32::try_from(number).expect("each takes more than a byte of the heap");
    let arenas: Vec<_> = disk.btt.arenas().collect();
    out::Btt {
        uuid: disk.btt.uuid(),
        version: disk.btt.version().numbers(),
        arenas: count(arenas.len()),
        nfree: arenas.iter().map(|arena| arena.info.geometry.nfree).min().expect("a BTT has an arena"),
        lanes: count(disk.btt.lane_count()),
        flog_slots: match arenas.first().map(|arena| arena.slots) {
            Some(Slots::ZeroTwo) => (0, 2),
            Some(Slots::ZeroOne) | None => (0, 1),
        },
        state: disk.read_only().map_or(out::BttState::Active, out::BttState::ReadOnly),
    }
}

/// Returns a namespace as `status` shows it.
pub(super) fn namespace_status(slot: &NamespaceSlot) -> NamespaceStatus {
    let id = slot.namespace.id;
    let (mode, size, blockdev, state) = match &slot.state {
        State::Sector(disk) => {
            let size = disk.btt.capacity_sectors() * u64::from(disk.btt.sector_size().data_bytes());
            let state = disk.read_only().map_or_else(|| "active".into(), |why| format!("read-only: {why}"));
            ("sector", size, Some(disk.name.clone()), state)
        }
        State::Raw(content) => {
            ("raw", slot.namespace.bytes(), Some(slot.device_name(false)), format!("active: {content}"))
        }
        State::Damaged(why) => ("sector", slot.namespace.bytes(), None, format!("damaged: {why}")),
        State::Unsupported(why) => ("sector", slot.namespace.bytes(), None, format!("unsupported: {why}")),
        State::Unusable(it) => ("raw", slot.namespace.bytes(), None, format!("disabled: {}", it.why)),
        State::Disabled => ("raw", slot.namespace.bytes(), None, "disabled".into()),
    };
    NamespaceStatus { dev: id.to_string(), mode: mode.to_string(), size, blockdev, state }
}
