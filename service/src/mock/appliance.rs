//! An appliance in memory: one region, one namespace in sector mode, and its device.
//!
//! It stands in for the node in tests of sessions. A test sets its fields to what the commands are to meet.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::ControlFlow;

use uuid::uuid;

use crate::admin::commands::config::{ConfigAdmin, Configuration, Entry, SaveConfig, Saved, StoredCopy};
use crate::admin::commands::events::EventAdmin;
use crate::admin::commands::exports::{ExportAdmin, HostRule, NvmeExport};
use crate::admin::commands::inventory::{
    Health, InventoryAdmin, NamespaceStatus, Nfit, NfitStructure, Refusal, Status,
};
use crate::admin::commands::machine::{MachineAdmin, Trace, TraceEvent};
use crate::admin::commands::namespaces::NamespaceAdmin;
use crate::admin::commands::namespaces::arenas::{Arena, Arenas};
use crate::admin::commands::namespaces::check::{Check, CheckNamespace, Finding};
use crate::admin::commands::namespaces::create::{CreateNamespace, NamespaceMode};
use crate::admin::commands::namespaces::labels::{InitLabels, LabelArea};
use crate::admin::commands::network::{Duplicate, Interface, Link, NetworkAdmin, Traffic};
use crate::admin::commands::sectors::bench::{Bench, BenchRequest, Verify};
use crate::admin::commands::sectors::errors::{Errors, SectorErrors};
use crate::admin::commands::sectors::{BlockDevice, JobDevice, SectorAdmin, no_such_device};
use crate::admin::fields::{FieldValue, Fields};
use crate::admin::job::{JobAdmin, JobWork, Pauses, Ticket};
use crate::admin::reply::Outcome;
use crate::config::hosts::SecretTexts;
use crate::config::{Key, Layers};
use crate::error::AdminError;
use crate::events::{Event, Filter, Kind, LastBoot, Severity};
use crate::inventory::{
    Btt, BttState, Bus, Dimm, DimmFlags, Inventory, Mapping, Namespace, PersistenceDomain, Region, RegionType,
};
use crate::lba::Lba;
use crate::link::{Asker, LinkNumber};
use crate::pattern::{Tag, fill, verify};
use crate::progress::Progress;
use crate::stats::{
    ConsumerStats, Counter, DeviceStats, MachineStats, NamespaceStats, NetworkStats, NvmeExportStats, NvmeStats, OfCpu,
    QueueStats, Stats,
};

/// An appliance with one region, one namespace in sector mode, and its device in memory.
#[derive(Debug)]
pub struct FakeAppliance {
    /// The inventory that `list` shows.
    pub inventory: Inventory,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// The device's sectors.
    pub disk: RefCell<Vec<u8>>,
    /// Why the device takes no writes.
    pub read_only: Option<String>,
    /// Whether a consumer uses it.
    pub in_use: bool,
    /// The content that is recognised on it.
    pub content: Option<&'static str>,
    /// Whether `errors` is ended before it is done.
    pub interrupts: bool,
    /// A sector that fails to read.
    pub bad_lba: Cell<Option<u64>>,
    /// The findings of a check.
    pub findings: Vec<Finding>,
    /// The counters of two CPUs.
    pub counters: [OfCpu; 2],
    /// How often it was quiesced.
    pub quiesced: u32,
    /// The error of a quiesce.
    pub quiesce_error: Option<AdminError>,
    /// The faults that `status` shows.
    pub health: Health,
    /// How often a device was looked up.
    pub lookups: Cell<u32>,
    /// Whether a command has the device in hand.
    pub in_hand: bool,
    /// The interfaces that `net` shows.
    pub interfaces: Vec<Interface>,
    /// The settings of `config`.
    pub layers: Layers,
    /// The events that there are; changes are added.
    pub events: RefCell<Vec<Event>>,
    /// Those of the boot before.
    pub last_boot: Option<LastBoot>,
    /// The jobs that were begun.
    pub jobs: Jobs,
    /// How many jobs there is room for.
    pub room_for_jobs: usize,
}

/// Jobs, in the order in which they were begun.
#[derive(Default)]
pub struct Jobs(RefCell<Vec<(Ticket, JobWork<Outcome>)>>);

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.borrow().iter().map(|(ticket, _)| ticket)).finish()
    }
}

impl Default for FakeAppliance {
    fn default() -> Self {
        Self {
            inventory: unlabelled(),
            sector_size: 512,
            disk: vec![0; 512 * 4096].into(),
            read_only: None,
            in_use: false,
            content: None,
            interrupts: false,
            bad_lba: Cell::new(None),
            findings: Vec::new(),
            counters: [const { OfCpu::new() }; 2],
            quiesced: 0,
            quiesce_error: None,
            health: Health::default(),
            lookups: Cell::new(0),
            in_hand: false,
            interfaces: vec![interface()],
            layers: Layers::default(),
            events: RefCell::default(),
            last_boot: None,
            jobs: Jobs::default(),
            room_for_jobs: 0,
        }
    }
}

/// An interface with all that one can have.
fn interface() -> Interface {
    Interface {
        dev: "net0".into(),
        mac: "52:54:00:75:6e:00".into(),
        link: Link::Up,
        mtu: 1500,
        config: "dhcp".into(),
        addresses: vec!["10.0.2.15/24".into(), "fe80::5054:ff:fe75:6e00/64".into()],
        gateway: Some("10.0.2.2".into()),
        gateway6: None,
        rx: Traffic { frames: 12, bytes: 1200, dropped: 1 },
        tx: Traffic { frames: 3, bytes: 180, dropped: 0 },
        duplicates: vec![Duplicate { address: "10.0.2.15".into(), mac: "52:54:00:12:34:56".into() }],
        failed: None,
    }
}

impl FakeAppliance {
    fn range(&self, lba: Lba, bytes: usize) -> core::ops::Range<usize> {
        let start = usize::try_from(lba.0).expect("the caller keeps to the device") * self.sector_size as usize;
        assert!(bytes.is_multiple_of(self.sector_size as usize), "whole sectors only");
        start..start + bytes
    }
}

impl EventAdmin for FakeAppliance {
    fn newest_event(&self) -> u64 {
        self.events.borrow().last().map_or(0, |event| event.number)
    }

    fn events(&self, filter: &Filter) -> Vec<Event> {
        self.events.borrow().iter().filter(|event| filter.takes(event)).cloned().collect()
    }

    fn last_boot(&self) -> Option<LastBoot> {
        self.last_boot.clone()
    }

    fn note_change(&self, by: Asker, command: &str, failed: Option<&AdminError>) {
        let what = failed.map_or_else(|| command.into(), |why| format!("{command}: {why}"));
        let place = if by == Asker::Person { "console" } else { "program" };
        let number = self.newest_event() + 1;
        let (severity, kind) = (Severity::Info, Kind::Admin);
        self.events.borrow_mut().push(Event {
            number,
            at_ns: number * 1_500_000,
            cpu: 0,
            severity,
            kind,
            place: place.into(),
            what,
        });
    }
}

impl NetworkAdmin for FakeAppliance {
    fn interfaces(&self) -> Vec<Interface> {
        self.interfaces.clone()
    }
}

impl FakeAppliance {
    fn entry(&self, key: &str) -> Entry {
        let (value, from) = self.layers.get(key);
        let known = Key::named(key);
        let (default, what) = known.map_or(("", ""), |key| (key.default, key.summary));
        Entry { key: key.into(), value: value.into(), from, default: default.into(), what: what.into() }
    }
}

impl ConfigAdmin for FakeAppliance {
    fn config(&self) -> Configuration {
        let keys = self.layers.names(["net0".into()]);
        Configuration {
            keys: keys.iter().map(|key| self.entry(key)).collect(),
            unsaved: self.layers.is_unsaved(),
            copies: vec![StoredCopy { dev: "namespace0.0".into(), saved: Some(2), is_whole: true, newer: None }],
        }
    }

    fn set_config(&mut self, key: &str, value: &str) -> Result<Entry, AdminError> {
        self.layers.set(key, value).map_err(|why| AdminError::usage(format!("{why}")))?;
        Ok(self.entry(key))
    }

    fn unset_config(&mut self, key: &str) -> Result<Entry, AdminError> {
        self.layers.unset(key);
        Ok(self.entry(key))
    }

    fn reset_config(&mut self) -> Result<(), AdminError> {
        self.layers = Layers::default();
        Ok(())
    }

    fn save_config(&mut self, request: &SaveConfig) -> Result<Saved, AdminError> {
        self.layers.saved();
        let failed = request.region.iter().map(|region| format!("{region}: no room")).collect();
        Ok(Saved { saved: 3, copies: vec!["namespace0.0".into()], failed })
    }
}

impl InventoryAdmin for FakeAppliance {
    fn status(&self) -> Status {
        Status {
            version: crate::VERSION.into(),
            cpus: 2,
            memory: 256 << 20,
            tables: vec!["RSDP".into(), "APIC".into(), "NFIT".into()],
            namespaces: vec![NamespaceStatus {
                dev: "namespace0.0".into(),
                mode: "sector".into(),
                size: 33_130_496,
                blockdev: Some("pmem0s".into()),
                state: "active".into(),
            }],
            exports: Vec::new(),
            nvme: Vec::new(),
            uptime: 12_345,
            unclean_shutdowns_recovered: 1,
            persist: "clwb".into(),
        }
    }

    fn inventory(&self) -> Inventory {
        self.inventory.clone()
    }

    fn nfit_tables(&self) -> Vec<Vec<u8>> {
        vec![b"NFIT and so on: 20 B".to_vec(), vec![0; 3]]
    }

    fn nfit(&self) -> Nfit {
        Nfit {
            structures: vec![NfitStructure {
                table: 0,
                offset: 40,
                kind: "spa_range".into(),
                fields: Fields::new()
                    .with("index", 2_u16)
                    .with("base", FieldValue::Hex(1 << 32))
                    .with("guid", "66f0d379-b4f3-4074-ac43-0d3318b78cdb")
                    .with("lines", FieldValue::List(vec![FieldValue::Hex(16), FieldValue::Hex(32)]))
                    .with("hot_add", false),
            }],
            refused: vec![Refusal {
                table: 1,
                offset: 96,
                what: "structure type 1".into(),
                why: "its length 0 is less than its header".into(),
            }],
            remarks: vec![Refusal {
                table: 0,
                offset: 40,
                what: "structure".into(),
                why: "volatile memory is left alone".into(),
            }],
        }
    }

    fn health(&self) -> Health {
        self.health.clone()
    }
}

impl NamespaceAdmin for FakeAppliance {
    fn arenas(&mut self, namespace: &str) -> Result<Arenas, AdminError> {
        if namespace != "namespace0.0" {
            return Err(AdminError::not_found(format!("no namespace \"{namespace}\"")));
        }
        Ok(Arenas { dev: namespace.into(), arenas: vec![arena()] })
    }

    fn init_labels(&mut self, request: &InitLabels) -> Result<LabelArea, AdminError> {
        if !request.force {
            return Err(AdminError::failed("nmem0: its labels are valid"));
        }
        Ok(LabelArea { dev: request.dimm.clone(), label_version: request.version, slots: 510 })
    }

    fn create_namespace(&mut self, request: &CreateNamespace) -> Result<Namespace, AdminError> {
        assert_eq!(request.mode, NamespaceMode::Sector);
        Ok(self.inventory.namespaces().next().expect("one namespace").clone())
    }

    fn destroy_namespace(&mut self, namespace: &str, force: bool) -> Result<String, AdminError> {
        if force { Ok(namespace.into()) } else { Err(AdminError::failed("namespace0.0 is enabled")) }
    }

    fn enable_namespace(&mut self, _: &str) -> Result<Namespace, AdminError> {
        Ok(self.inventory.namespaces().next().expect("one namespace").clone())
    }

    fn disable_namespace(&mut self, _: &str) -> Result<String, AdminError> {
        Ok("namespace0.0".into())
    }

    fn check_namespace(&mut self, request: &CheckNamespace) -> Result<Check, AdminError> {
        Ok(Check { dev: request.namespace.clone(), arenas: 1, findings: self.findings.clone() })
    }

    fn check_for_job(&self, request: &CheckNamespace) -> Option<Result<JobWork<Check>, AdminError>> {
        let check = Check { dev: request.namespace.clone(), arenas: 1, findings: self.findings.clone() };
        (!self.in_hand).then(|| -> Result<JobWork<Check>, AdminError> { Ok(Box::new(move |_| Ok(check))) })
    }
}

impl JobAdmin for FakeAppliance {
    fn has_room(&self) -> bool {
        self.jobs.0.borrow().len() < self.room_for_jobs
    }

    fn begin(&self, ticket: Ticket, work: JobWork<Outcome>) {
        self.jobs.0.borrow_mut().push((ticket, work));
    }

    fn ended(&self, link: LinkNumber) -> Option<(Ticket, Result<Outcome, AdminError>)> {
        let mut jobs = self.jobs.0.borrow_mut();
        let place = jobs.iter().position(|(ticket, _)| ticket.link == link)?;
        let (ticket, work) = jobs.remove(place);
        let outcome = work(&NoPause);
        Some((ticket, outcome))
    }

    fn end(&self, link: LinkNumber, number: &str) {
        let is_it = |ticket: &Ticket| ticket.link == link && ticket.number == number;
        for (_, work) in self.jobs.0.borrow_mut().iter_mut().filter(|(ticket, _)| is_it(ticket)) {
            *work = Box::new(|_| Err(AdminError::interrupted("ended")));
        }
    }

    fn forget(&self, link: LinkNumber) {
        self.jobs.0.borrow_mut().retain(|(ticket, _)| ticket.link != link);
    }
}

/// Commands that nobody ends.
#[derive(Debug)]
struct NoPause;

impl Pauses for NoPause {
    fn pause(&self, _: &Progress<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl SectorAdmin for FakeAppliance {
    fn device(&self, dev: &str) -> Result<Box<dyn BlockDevice + '_>, AdminError> {
        self.lookups.set(self.lookups.get() + 1);
        if dev == "pmem0s" { Ok(Box::new(self)) } else { Err(no_such_device(dev)) }
    }

    fn is_free(&self, dev: &str) -> bool {
        dev != "pmem0s" || !self.in_hand
    }

    fn device_for_job(&self, _: &str) -> Option<Result<Box<dyn JobDevice>, AdminError>> {
        None
    }

    fn is_awaited(&self, _: Option<&str>) -> bool {
        false
    }

    fn errors(&self, dev: Option<&str>) -> Result<JobWork<Errors>, AdminError> {
        if let Some(dev) = dev {
            self.device(dev)?;
        }
        let bad = |lba| SectorErrors { dev: "pmem0s".into(), lba: Lba(lba), count: 1 };
        let found = Errors { errors: self.bad_lba.get().map(bad).into_iter().collect(), ..Errors::default() };
        let ended = self.interrupts.then(|| AdminError::interrupted("pmem0s: ended before all of its map was read"));
        Ok(Box::new(move |_| ended.map_or(Ok(found), Err)))
    }

    fn pauses(&self) -> &dyn Pauses {
        &NoPause
    }
}

/// The device `pmem0s`.
impl BlockDevice for &FakeAppliance {
    fn sector_bytes(&self) -> u32 {
        self.sector_size
    }

    fn sectors(&self) -> u64 {
        self.disk.borrow().len() as u64 / u64::from(self.sector_size)
    }

    fn read_only(&self) -> Option<String> {
        self.read_only.clone()
    }

    fn is_in_use(&self) -> bool {
        self.in_use
    }

    fn content(&mut self) -> Option<&'static str> {
        self.content
    }

    fn read(&mut self, lba: Lba, into: &mut [u8]) -> Result<(), AdminError> {
        let range = self.range(lba, into.len());
        let sectors = lba.0..lba.0 + into.len() as u64 / u64::from(self.sector_size);
        if let Some(bad) = self.bad_lba.get().filter(|bad| sectors.contains(bad)) {
            return Err(AdminError::damaged(format!("LBA {bad}: media error")));
        }
        into.copy_from_slice(&self.disk.borrow()[range]);
        Ok(())
    }

    fn write(&mut self, lba: Lba, from: &[u8]) -> Result<(), AdminError> {
        let range = self.range(lba, from.len());
        self.disk.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }

    fn goes_on(&mut self, _: u64, _: u64) -> bool {
        true
    }

    fn trim(&mut self, lba: Lba, count: u64) -> Result<(), AdminError> {
        let zeroes = vec![0; usize::try_from(count).expect("small") * self.sector_size as usize];
        self.write(lba, &zeroes)
    }

    fn inject_error(&mut self, lba: Lba, _: u64, _: bool) -> Result<(), AdminError> {
        self.bad_lba.set(Some(lba.0));
        Ok(())
    }

    fn clear_errors(&mut self, _: Lba, _: u64) -> Result<(), AdminError> {
        self.bad_lba.set(None);
        Ok(())
    }

    fn bench(&mut self, request: &BenchRequest) -> Result<Bench, AdminError> {
        let sector = self.sector_size as usize;
        let seed = request.seed;
        if request.seconds > 0 {
            for (lba, bytes) in (0..).map(Lba).zip(self.disk.borrow_mut().chunks_exact_mut(sector).take(8)) {
                fill(bytes, Tag { lba, version: 2, seed });
            }
        }
        let mut verdicts = Verify::default();
        for (lba, bytes) in (0..).map(Lba).zip(self.disk.borrow().chunks_exact(sector)) {
            verdicts.count(lba, seed, Some(verify(bytes)));
        }
        Ok(Bench {
            dev: request.dev.clone(),
            seconds: f64::from(request.seconds),
            cpus: 2,
            seed,
            mix: request.mix_write_percent,
            run: request.run,
            ops: 8,
            sectors_read: 0,
            sectors_written: 8,
            errors: 0,
            ops_per_second: 1.6,
            fences_per_sector: 2.5,
            write_backs_per_sector: 3.0,
            verify: request.verify.then_some(verdicts),
            interrupted: false,
        })
    }
}

impl ExportAdmin for FakeAppliance {
    fn export(&mut self, dev: &str) -> Result<(), AdminError> {
        self.device(dev).map(|_| ())
    }

    fn unexport(&mut self, dev: &str) -> Result<(), AdminError> {
        self.device(dev).map(|_| ())
    }

    fn export_nvme(&mut self, dev: &str, nqn: Option<&str>) -> Result<NvmeExport, AdminError> {
        self.device(dev)?;
        let nqn = nqn.unwrap_or("nqn.2014-08.org.nvmexpress:uuid:01234567-89ab-cdef-0123-456789abcdef").into();
        Ok(NvmeExport { dev: dev.into(), nqn, addresses: vec!["10.0.2.15".into()], port: 4420 })
    }

    fn unexport_nvme(&mut self, dev: &str) -> Result<(), AdminError> {
        self.device(dev).map(|_| ())
    }

    fn allow(&mut self, _: &HostRule, _: Option<SecretTexts<'_>>) -> Result<(), AdminError> {
        Ok(())
    }

    fn deny(&mut self, rule: &HostRule) -> Result<(), AdminError> {
        Err(AdminError::not_found(format!("{} was not allowed", rule.host)))
    }
}

impl MachineAdmin for FakeAppliance {
    fn stats(&self) -> Stats {
        let [first, second] = &self.counters;
        first.counters.add(Counter::Reads, 3);
        second.counters.add(Counter::Reads, 4);
        second.counters.add(Counter::Fences, 1);
        (0..3).for_each(|_| first.reads.record(1500));
        (0..4).for_each(|_| second.reads.record(40_000));
        Stats {
            devices: vec![DeviceStats::new("pmem0s", self.sector_size, self.counters.iter())],
            queues: vec![QueueStats {
                dev: "pmem0s".into(),
                export: 1,
                queue: 0,
                cpu: 1,
                requests: 9,
                failed: 2,
                interrupts: 5,
                rests: 3,
                broken: false,
            }],
            machine: MachineStats {
                version: crate::VERSION.into(),
                uptime_ns: 12_345_000_000,
                cpus: 2,
                memory: 256 << 20,
                recovered: 1,
                health: "ok".into(),
                warnings: 0,
                errors: 0,
            },
            namespaces: vec![NamespaceStats {
                dev: "namespace0.0".into(),
                blockdev: Some("pmem0s".into()),
                mode: "sector".into(),
                state: "active".into(),
                size: 33_130_496,
                arenas: 1,
                read_only_arenas: 0,
                lost_bytes: 0,
            }],
            consumers: vec![ConsumerStats { dev: "pmem0s".into(), export: 1, queues: 1 }],
            nvme: NvmeStats {
                connections: 2,
                connections_max: 12,
                refused_connections: 0,
                refused_hosts: 1,
                exports: vec![NvmeExportStats { dev: "pmem0s".into(), hosts: vec!["nqn.host".into()] }],
            },
            networks: vec![NetworkStats {
                dev: "net0".into(),
                up: true,
                rx: Traffic { frames: 12, bytes: 1200, dropped: 1 },
                tx: Traffic { frames: 3, bytes: 180, dropped: 0 },
            }],
            ..Stats::default()
        }
    }

    fn trace(&self) -> Trace {
        Trace { events: vec![TraceEvent { at: 1_234_567, cpu: 1, event: "export 0: attached".into() }] }
    }

    fn quiesce(&mut self) -> Result<(), AdminError> {
        self.quiesced += 1;
        self.quiesce_error.clone().map_or(Ok(()), Err)
    }
}

/// The arena of a label-less 32 MiB namespace with 512-byte sectors, as Linux made and shows it.
#[must_use]
pub fn arena() -> Arena {
    Arena {
        size: 0x1ff_f000,
        external_lba_start: 0,
        internal_nlba: 0xfdc4,
        internal_lbasize: 512,
        external_nlba: 0xfcc4,
        external_lbasize: 512,
        nfree: 256,
        version_major: 1,
        version_minor: 1,
        nextoff: 0,
        infooff: 0,
        dataoff: 0x1000,
        mapoff: 0x1fb_a000,
        logoff: 0x1ff_a000,
        info2off: 0x1ff_e000,
        flags: 0,
        read_only: None,
        log_index_0: 0,
        log_index_1: 1,
    }
}

fn dimm() -> Dimm {
    Dimm {
        dev: "nmem0".into(),
        id: Some("8680-56341200".into()),
        handle: Some(1),
        phys_id: Some(0),
        enabled: true,
        flags: DimmFlags::default(),
        health: None,
    }
}

fn region(size: u64, iset_id: Option<u64>, namespaces: Vec<Namespace>) -> Region {
    Region {
        dev: "region0".into(),
        size,
        align: Some(16 << 20),
        available_size: 0,
        max_available_extent: Some(0),
        region_type: RegionType::Pmem,
        numa_node: None,
        iset_id,
        mappings: vec![Mapping { dimm: "nmem0".into(), offset: 0, length: size, position: Some(0) }],
        enabled: true,
        badblocks: Vec::new(),
        persistence_domain: PersistenceDomain::Unknown,
        namespaces,
    }
}

fn inventory(region: Region) -> Inventory {
    let bus = Bus { provider: "ACPI.NFIT".into(), dev: "ndbus0".into(), dimms: vec![dimm()], regions: vec![region] };
    Inventory { buses: vec![bus] }
}

/// A DIMM of 32 MiB without labels, made by Linux with 512-byte sectors.
#[must_use]
pub fn unlabelled() -> Inventory {
    let namespace = Namespace {
        dev: "namespace0.0".into(),
        size: 33_130_496,
        label_uuid: None,
        sector_size: 512,
        blockdev: Some("pmem0s".into()),
        enabled: true,
        name: None,
        numa_node: None,
        badblock_count: 0,
        badblocks: Vec::new(),
        fault: None,
        btt: Some(Btt {
            uuid: uuid!("e412ddd9-4a9e-42e8-9953-05cfdd8f0459"),
            version: (1, 1),
            arenas: 1,
            nfree: 256,
            lanes: 2,
            flog_slots: (0, 1),
            state: BttState::Active,
        }),
    };
    inventory(region(32 << 20, None, vec![namespace]))
}

/// A DIMM of 64 MiB with v1.2 labels and two namespaces, made by Linux; the third is Linux's seed for a new one.
#[must_use]
pub fn labelled() -> Inventory {
    let mut first = unlabelled().buses.remove(0).regions.remove(0).namespaces.remove(0);
    let mut second = first.clone();
    let mut seed = first.clone();
    first.size = 33_134_592;
    first.label_uuid = Some(uuid!("11111111-2222-4333-8444-555555555555"));
    if let Some(btt) = &mut first.btt {
        btt.uuid = uuid!("9ef20213-98a5-48e9-a16f-fcb751b776d5");
        btt.version = (2, 0);
    }
    second.dev = "namespace0.1".into();
    second.size = 32_444_416;
    second.sector_size = 4096;
    second.blockdev = Some("pmem0.1s".into());
    if let Some(btt) = &mut second.btt {
        btt.uuid = uuid!("e2d298c0-6e75-4ec8-ae0d-cff9fe03db0b");
        btt.version = (2, 0);
        btt.state = BttState::ReadOnly("arena 0: flog entry 3 is not consistent".into());
    }
    seed.dev = "namespace0.2".into();
    seed.size = 0;
    seed.label_uuid = Some(uuid!("00000000-0000-0000-0000-000000000000"));
    seed.blockdev = None;
    seed.enabled = false;
    seed.btt = None;
    inventory(region(64 << 20, Some(52_512_752_653_219_036), vec![first, second, seed]))
}
