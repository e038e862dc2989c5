//! The node: the namespaces that the machine's firmware and media describe, and the admin commands on them.
//!
//! [`Node::assemble`] goes from firmware bytes to open disks; the node then carries out the admin commands
//! ([`service::admin::Appliance`]). It reaches hardware through [`Machine`] and the drivers only, so it runs on a host
//! as well. Each family of admin commands has a room of its own:
//!
//! | room | commands |
//! |---|---|
//! | `inventory`, with `nfit` | status, list, nfit, health |
//! | `namespaces` | arenas, init-labels, create-, destroy-, enable-, disable-, check-namespace |
//! | `sectors` | read, write, trim, inject-error, clear-errors, errors, bench |
//! | [`export`] | export, unexport; serves consumers |
//! | `metrics` | none: pages over the network |
//! | [`network`] | net; drives the interfaces |
//! | [`config`] | config |
//! | `events` | events; looks around for what has happened |
//! | `upkeep` | stats, trace, poweroff, reboot |
//! | `jobs` | none: long commands that go on beside each other |
//!
//! Below them:
//!
//! | module | is |
//! |---|---|
//! | `machine` | [`Machine`], the seam to the machine below |
//! | `waker` | wakes CPUs, and hears that they go on |
//! | [`coroutine`] | what jobs run on |
//! | `attach` | opens a namespace: its medium, its state |
//! | `disk` | an open namespace in sector mode |
//! | `content` | recognises what a namespace without a BTT holds |
//! | `probe` | finds out whether a medium keeps what is stored |
//!
//! Its tests are in `tests/tests/node`, on a machine made of memory and threads.

mod attach;
mod clock;
pub mod config;
mod content;
pub mod coroutine;
mod disk;
mod events;
pub mod export;
mod inventory;
mod jobs;
mod machine;
mod metrics;
mod namespaces;
pub mod network;
mod nfit;
mod nvme;
mod probe;
mod sectors;
mod upkeep;
mod waker;

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, Ordering};

use drivers::blk_window::BlkRegion;
use drivers::copies::{self, CopyTimes};
use drivers::flush::Flush;
use drivers::medium::AnyMedium;
use drivers::persist::Persist;
use drivers::phys::PhysAddr;
use drivers::pmem::{Access, PmemRegion};
use nvdimm::Inventory;
use nvdimm::namespace::Namespace;
use nvdimm::region::{self, BareRange, PersistenceDomain, Region};
use service::admin::job::Pauses;
use service::error::AdminError;
use service::events::{Kind, Severity};
use service::progress::Progress;

use crate::events::{News, SharedJournal};
use attach::{Mapped, State, device_name};
use config::Config;
use disk::BttDisk;
use events::Known;
use export::Exports;
use jobs::Jobs;
pub use machine::{BareMemory, FlushedRange, Machine};
use metrics::Metrics;
use network::Networks;
use nvme::Nvme;

/// Everything that was found, and the disks that are open.
pub struct Node<M: Machine> {
    machine: Arc<M>,
    journal: SharedJournal,
    /// What was known when it was looked around last.
    known: Known,
    found: Inventory,
    /// What is not in `found` of the machine's other memory: its devices, and why some cannot be used.
    bare: Vec<BareMemory>,
    /// The regions of `found`, mapped, with their namespaces.
    regions: Vec<RegionSlot>,
    /// How the CPUs make stores durable where caches do not survive a power cut, and how data are copied.
    persist: Persist,
    /// The number of BTTs whose opening finished interrupted writes.
    unclean_shutdowns: u64,
    exports: Arc<Exports>,
    networks: Arc<Networks>,
    nvme: Arc<Nvme>,
    metrics: Arc<Metrics>,
    config: Config,
    /// The watchdog's time in seconds.
    watchdog: Option<u32>,
    /// Whether a command is under way that may close and open namespaces.
    changes_namespaces: bool,
    /// Whether what is carried out at this moment goes beside a command. CPU 0's alone.
    is_beside: AtomicBool,
    jobs: Jobs,
}

/// A region, mapped.
struct RegionSlot {
    region: Region,
    /// The mapping, or why there is none.
    medium: Result<Mapped, String>,
    namespaces: Vec<NamespaceSlot>,
}

/// A namespace's place in the node.
#[derive(Clone, Copy)]
struct SlotPlace {
    region: usize,
    namespace: usize,
}

/// A namespace, and its state.
struct NamespaceSlot {
    namespace: Namespace,
    /// Whether it lies in a BLK region.
    behind_windows: bool,
    state: State,
}

impl NamespaceSlot {
    /// Returns the name of its block device, in sector mode or raw.
    fn device_name(&self, sector_mode: bool) -> String {
        device_name(self.namespace.id, self.behind_windows, sector_mode)
    }

    /// Returns whether this is its own name, its BTT's, or its block device's.
    fn is_called(&self, name: &str) -> bool {
        let id = self.namespace.id;
        let (own, btt) = (id.to_string(), format!("btt{}.{}", id.region.0, id.number));
        [own, btt, self.device_name(true), self.device_name(false)].iter().any(|known| known == name)
    }

    /// Refuses a namespace that cannot be used, or whose BTT cannot.
    fn check_usable(&self) -> Result<(), AdminError> {
        let id = self.namespace.id;
        match &self.state {
            State::Sector(_) | State::Raw(_) | State::Disabled => Ok(()),
            State::Damaged(why) => Err(AdminError::damaged(format!("{id}: {why}"))),
            State::Unsupported(why) => Err(AdminError::failed(format!("{id} holds {why}"))),
            State::Unusable(it) => Err(it.error(id)),
        }
    }

    /// Returns what to do about a namespace that an admin disabled.
    fn how_to_enable(&self) -> String {
        let id = self.namespace.id;
        format!("{id} is disabled: enable-namespace {id} serves it")
    }
}

/// Returns the range of memory that no NFIT describes; `None` if its device cannot be used.
fn range_of(bare: &BareMemory) -> Option<BareRange> {
    let memory = bare.memory.as_ref().ok()?;
    Some(BareRange { at: bare.at, base: memory.base, bytes: memory.bytes, device: memory.device })
}

impl<M: Machine> Node<M> {
    /// Finds and opens all namespaces that firmware and devices describe. What cannot be used is logged and left out
    /// (invariant 16).
    pub fn assemble(machine: M) -> Self {
        let machine = Arc::new(machine);
        let bare = machine.bare_memory();
        let ranges: Vec<Option<BareRange>> = bare.iter().map(range_of).collect();
        let mut labels = machine.labels();
        let found = nvdimm::discover(machine.nfits(), labels.as_mut());
        let found = found.with_ranges(&ranges, &machine.in_use(), labels.as_mut());
        drop(labels);
        let journal = machine.journal();
        let tell = |severity, kind, place: &dyn fmt::Display, what: fmt::Arguments<'_>| {
            machine.tell(&News { severity, kind, place, what });
        };
        for (at, why) in bare.iter().filter_map(|it| it.memory.as_ref().err().map(|why| (it.at, why))) {
            tell(Severity::Error, Kind::Machine, &at, format_args!("left out: {why}"));
        }
        for finding in found.findings() {
            let severity = if finding.refuses() { Severity::Warning } else { Severity::Info };
            tell(severity, Kind::Machine, &"nvdimm", format_args!("{finding}"));
        }
        let persist = fastest(&*machine);
        let number = || {
            let [a, b, c, d, e, f, g, h, ..] = machine.random();
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        };
        let (devices, line) = (machine.network_devices(), machine.command_line());
        let services = machine.export_services();
        let networks = Networks::new(devices, &services.waker, machine.now_ns(), number);
        let networks = Arc::new(networks);
        let exports =
            Arc::new(Exports::new(services, Arc::clone(&journal), Arc::clone(&networks), machine.cpus(), number()));
        let nvme = Nvme::new(machine.heap_bytes(), || machine.random(), machine.now_ns());
        let metrics = Metrics::new(exports.clock(), exports.waker(), machine.heap_bytes());
        for (number, cpu) in networks.cpus().enumerate() {
            networks.serve_by(number, nvme.service(cpu, networks.cpus().len()));
            networks.serve_by(number, metrics.service());
        }
        let (regions, config, known) = (Vec::new(), Config::default(), Known::default());
        let mut node = Self {
            machine,
            journal,
            known,
            found,
            bare,
            regions,
            persist,
            unclean_shutdowns: 0,
            exports,
            networks,
            nvme,
            metrics,
            config,
            watchdog: None,
            changes_namespaces: false,
            is_beside: AtomicBool::new(false),
            jobs: Jobs::default(),
        };
        node.regions = node.found.regions.iter().map(|region| node.slot(region)).collect();
        let namespaces = node.found.namespaces.clone();
        node.load_config(&line, &namespaces);
        for namespace in namespaces {
            node.add(namespace);
        }
        node.put_all_in_force(&line);
        node.is_told();
        node
    }

    /// Sets the watchdog's time in seconds: `None` turns it off. In force at once.
    pub fn set_watchdog(&mut self, seconds: Option<u32>) {
        self.machine.set_watchdog(seconds);
        self.watchdog = seconds;
    }

    /// Returns the watchdog's time in seconds, if it is on.
    pub const fn watchdog(&self) -> Option<u32> {
        self.watchdog
    }

    /// Returns the exports, which each CPU polls.
    pub const fn exports(&self) -> &Arc<Exports> {
        &self.exports
    }

    /// Returns the network interfaces, which their CPUs poll.
    pub const fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    fn slots(&self) -> impl Iterator<Item = &NamespaceSlot> {
        self.regions.iter().flat_map(|slot| &slot.namespaces)
    }

    /// Returns the disks that are open.
    fn disks(&self) -> impl Iterator<Item = &Arc<BttDisk<AnyMedium>>> {
        self.slots().filter_map(|slot| match &slot.state {
            State::Sector(disk) => Some(disk),
            _ => None,
        })
    }

    /// Offers every disk that consumers are to have and have not seen yet.
    pub fn offer_new(&self) {
        let offered = self.disks().filter(|disk| self.is_offered(&disk.name));
        offered.for_each(|disk| self.exports.offer_new(disk));
    }

    /// Maps a region. One that cannot be mapped stays visible, with the reason.
    fn slot(&self, region: &Region) -> RegionSlot {
        let medium = self.map(region);
        match &medium {
            Ok(Mapped::Pmem(mapped)) => {
                self.tell(Severity::Info, Kind::Machine, &region.id, format_args!("{}", mapped.durability()));
            }
            Ok(Mapped::Blk(_)) => {}
            Err(why) => self.tell(Severity::Error, Kind::Machine, &region.id, format_args!("not mapped: {why}")),
        }
        RegionSlot { region: region.clone(), medium, namespaces: Vec::new() }
    }

    fn map(&self, region: &Region) -> Result<Mapped, String> {
        let hints: Vec<PhysAddr> = self.found.flush_hints(region).into_iter().map(PhysAddr).collect();
        let access = if region.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let map = self.machine.map();
        match &region.kind {
            region::Kind::Pmem(pmem) => {
                let mapped =
                    PmemRegion::map(map, PhysAddr(pmem.base), pmem.bytes, &hints, access, self.persist_of(region));
                let mapped = match self.flush_of(region) {
                    Some(flush) => mapped.map(|it| it.flushed_by(flush)),
                    None => mapped,
                };
                mapped.map(Mapped::Pmem).map_err(|why| why.to_string())
            }
            region::Kind::Blk(blk) => {
                let mapped = BlkRegion::map(map, blk, &hints, access, self.machine.cpus(), || M::this_cpu().0);
                mapped.map(Mapped::Blk).map_err(|why| why.to_string())
            }
        }
    }

    /// Returns how stores to a region are made durable. A write-back that is not needed costs time; one that is missing,
    /// acknowledged sectors: so only what firmware says of this region's memory ([`Inventory::persistence_domain`]) counts.
    fn persist_of(&self, region: &Region) -> Persist {
        match self.found.persistence_domain(region) {
            PersistenceDomain::CpuCache => self.persist.without_write_backs(),
            PersistenceDomain::MemoryController | PersistenceDomain::Unknown => self.persist,
        }
    }

    /// Returns the device whose FLUSHes make stores to a region durable, if one does.
    fn flush_of(&self, region: &Region) -> Option<Arc<dyn Flush>> {
        let own = self.bare.iter().find(|it| it.at == region.at)?;
        own.memory.as_ref().ok()?.flush.clone()
    }

    /// Opens a namespace and puts it in its region.
    fn add(&mut self, namespace: Namespace) {
        let region = self.regions.iter().position(|slot| slot.region.id == namespace.id.region);
        let region = region.expect("a namespace lies in a region that was found");
        let behind_windows = matches!(self.regions[region].region.kind, region::Kind::Blk(_));
        let slots = &mut self.regions[region].namespaces;
        slots.push(NamespaceSlot { namespace, behind_windows, state: State::Disabled });
        let place = SlotPlace { region, namespace: slots.len() - 1 };
        let slot = self.at(place);
        let uuid = slot.namespace.labelling.as_ref().map(|labelling| labelling.uuid);
        if self.stays_disabled(|name| slot.is_called(name), uuid) {
            let what = format_args!("stays disabled: enable-namespace serves it");
            self.tell(Severity::Info, Kind::Namespace, &slot.namespace.id, what);
        } else {
            self.attach_slot(place);
        }
    }

    /// Opens a namespace that is not open. Its findings have been told.
    fn open(&mut self, place: SlotPlace) {
        self.attach_slot(place);
        self.is_told();
    }

    /// Opens a namespace that is not open. The caller calls [`Node::is_told`] when all are.
    fn attach_slot(&mut self, place: SlotPlace) {
        let region = &self.regions[place.region];
        let namespace = &region.namespaces[place.namespace].namespace;
        let start = self.machine.now_ns();
        let state = match &region.medium {
            Ok(medium) => self.attach(&region.region, medium, namespace),
            Err(why) => State::Unusable(why.as_str().into()),
        };
        let took_us = self.machine.now_ns().saturating_sub(start) / 1000;
        let (severity, kind) = state.as_event();
        self.tell(severity, kind, &namespace.id, format_args!("{state}; looked at in {took_us} us"));
        if matches!(&state, State::Sector(disk) if disk.btt.recovered_writes() > 0) {
            self.unclean_shutdowns += 1;
        }
        self.regions[place.region].namespaces[place.namespace].state = state;
    }

    fn at(&self, place: SlotPlace) -> &NamespaceSlot {
        &self.regions[place.region].namespaces[place.namespace]
    }

    fn at_mut(&mut self, place: SlotPlace) -> &mut NamespaceSlot {
        &mut self.regions[place.region].namespaces[place.namespace]
    }

    /// Attends to consumers, their bridge, jobs, who waits for a page and who asks at the console, between two steps of a long
    /// command on CPU 0. Returns whether the command is to end. The caller holds no lane of a disk, unless it has suspended the
    /// disk ([`Exports::suspend`]), and no labels. In a request that is carried out beside the command nothing is asked for.
    fn attend(&self) -> ControlFlow<()> {
        self.exports.attend(M::this_cpu());
        self.make_pages();
        if self.is_beside.swap(true, Ordering::Relaxed) {
            return ControlFlow::Continue(());
        }
        self.jobs.step();
        let ends = self.machine.attend(self);
        self.is_beside.store(false, Ordering::Relaxed);
        if ends { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Tells how far a long command is, and attends to others, as [`Node::attend`].
    fn goes_on(&self, what: core::fmt::Arguments<'_>, done: u64, total: u64, unit: &'static str) -> ControlFlow<()> {
        self.pause(&Progress { what: &what, done, total, unit })
    }

    /// Lets a job make a step, between two commands. Returns whether one is under way.
    pub fn step_jobs(&self) -> bool {
        self.jobs.step()
    }

    /// Attends to others while `is_busy`. No job begins with the disk meanwhile.
    ///
    /// # Errors
    /// Interrupted: the command is to end.
    ///
    /// # Panics
    /// What has it in hand could not go on: this is carried out beside that.
    fn wait_while(
        &self,
        disk: &BttDisk<AnyMedium>,
        is_busy: impl Fn(&BttDisk<AnyMedium>) -> bool,
    ) -> Result<(), AdminError> {
        if !is_busy(disk) {
            return Ok(());
        }
        assert!(!self.is_beside.load(Ordering::Relaxed), "{}: what is beside another command does not wait", disk.name);
        disk.set_awaited(true);
        let mut ends = false;
        while is_busy(disk) && !ends {
            ends = self.attend().is_break();
        }
        disk.set_awaited(false);
        if ends && is_busy(disk) {
            let why = format!("{}: another command has it in hand: nothing was done", disk.name);
            return Err(AdminError::interrupted(why));
        }
        Ok(())
    }

    /// Returns the machine below.
    pub fn machine(&self) -> &M {
        &self.machine
    }
}

impl<M: Machine> Pauses for Node<M> {
    fn pause(&self, at: &Progress<'_>) -> ControlFlow<()> {
        if !self.is_beside.load(Ordering::Relaxed) {
            self.machine.progress(at);
        }
        self.attend()
    }
}

/// Chooses how this machine makes stores durable, and the kind of copy by measuring.
fn fastest(machine: &impl Machine) -> Persist {
    let widest = Persist::detect();
    let times = copies::measure(widest, &|| machine.now_ns());
    let persist = copies::fastest(&times).unwrap_or(widest);
    let shown = |CopyTimes { persist, stream_ns, load_ns }: &CopyTimes| {
        format!("{} {stream_ns} in, {load_ns} out", persist.copy_name())
    };
    let times: Vec<_> = times.iter().map(shown).collect();
    machine.tell(&News {
        severity: Severity::Info,
        kind: Kind::Machine,
        place: &"persist",
        what: format_args!("{persist} (ns for 4096 bytes: {})", times.join("; ")),
    });
    persist
}
