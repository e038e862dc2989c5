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
//! | `upkeep` | stats, trace, poweroff, reboot |
//!
//! Below them:
//!
//! | module | is |
//! |---|---|
//! | `machine` | [`Machine`], the seam to the machine below |
//! | `attach` | opens a namespace: its medium, its state |
//! | `disk` | an open namespace in sector mode |
//! | `content` | recognises what a namespace without a BTT holds |
//! | `probe` | finds out whether a medium keeps what is stored |
//!
//! Its tests are in `tests/tests/node`, on a machine made of memory and threads.

mod attach;
pub mod config;
mod content;
mod disk;
pub mod export;
mod inventory;
mod machine;
mod metrics;
mod namespaces;
pub mod network;
mod nfit;
mod nvme;
mod probe;
mod sectors;
mod upkeep;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use drivers::blk_window::BlkRegion;
use drivers::copies::{self, CopyTimes};
use drivers::flush::Flush;
use drivers::medium::AnyMedium;
use drivers::persist::Persist;
use drivers::phys::PhysAddr;
use drivers::pmem::{Access, PmemRegion};
use nvdimm::Inventory;
use nvdimm::namespace::Namespace;
use nvdimm::region::{BareRange, Kind, PersistenceDomain, Region};
use service::error::AdminError;

use attach::{Mapped, State, device_name};
use config::Config;
use disk::BttDisk;
use export::Exports;
pub use machine::{BareMemory, FlushedRange, Machine};
use metrics::Metrics;
use network::Networks;
use nvme::Nvme;

/// Everything that was found, and the disks that are open.
pub struct Node<M: Machine> {
    machine: M,
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
        let bare = machine.bare_memory();
        let ranges: Vec<Option<BareRange>> = bare.iter().map(range_of).collect();
        let mut labels = machine.labels();
        let found = nvdimm::discover(machine.nfits(), labels.as_mut());
        let found = found.with_ranges(&ranges, &machine.in_use(), labels.as_mut());
        drop(labels);
        for (at, why) in bare.iter().filter_map(|it| it.memory.as_ref().err().map(|why| (it.at, why))) {
            machine.log(format_args!("{at}: left out: {why}"));
        }
        for finding in found.findings() {
            machine.log(format_args!("nvdimm: {finding}"));
        }
        let persist = fastest(&machine);
        let number = || {
            let [a, b, c, d, e, f, g, h, ..] = machine.random();
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        };
        let (devices, line) = (machine.network_devices(), machine.command_line());
        let networks = Arc::new(Networks::new(devices, machine.now_ns(), number));
        let services = machine.export_services();
        let exports = Arc::new(Exports::new(services, Arc::clone(&networks), machine.cpus(), number()));
        let nvme = Nvme::new(machine.heap_bytes(), || machine.random(), machine.now_ns());
        let metrics = Metrics::new(exports.clock(), exports.waker(), machine.heap_bytes());
        for (number, cpu) in networks.cpus().enumerate() {
            networks.serve_by(number, nvme.service(cpu, networks.cpus().len()));
            networks.serve_by(number, metrics.service());
        }
        let (regions, config) = (Vec::new(), Config::default());
        let mut node = Self {
            machine,
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
        };
        node.regions = node.found.regions.iter().map(|region| node.slot(region)).collect();
        let namespaces = node.found.namespaces.clone();
        node.load_config(&line, &namespaces);
        for namespace in namespaces {
            node.add(namespace);
        }
        node.put_all_in_force(&line);
        node
    }

    /// Returns the exports, which each CPU polls.
    pub const fn exports(&self) -> &Arc<Exports> {
        &self.exports
    }

    /// Returns the network interfaces, which their CPUs poll.
    pub const fn networks(&self) -> &Arc<Networks> {
        &self.networks
    }

    /// Returns what has happened to the network interfaces since the last call: lines for the log.
    pub fn network_log(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.networks.tell(|line| lines.push(line.to_string()));
        lines
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
            Ok(Mapped::Pmem(mapped)) => self.machine.log(format_args!("{}: {}", region.id, mapped.durability())),
            Ok(Mapped::Blk(_)) => {}
            Err(why) => self.machine.log(format_args!("{}: not mapped: {why}", region.id)),
        }
        RegionSlot { region: region.clone(), medium, namespaces: Vec::new() }
    }

    fn map(&self, region: &Region) -> Result<Mapped, String> {
        let hints: Vec<PhysAddr> = self.found.flush_hints(region).into_iter().map(PhysAddr).collect();
        let access = if region.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let map = self.machine.map();
        match &region.kind {
            Kind::Pmem(pmem) => {
                let mapped =
                    PmemRegion::map(map, PhysAddr(pmem.base), pmem.bytes, &hints, access, self.persist_of(region));
                let mapped = match self.flush_of(region) {
                    Some(flush) => mapped.map(|it| it.flushed_by(flush)),
                    None => mapped,
                };
                mapped.map(Mapped::Pmem).map_err(|why| why.to_string())
            }
            Kind::Blk(blk) => {
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
        let behind_windows = matches!(self.regions[region].region.kind, Kind::Blk(_));
        let slots = &mut self.regions[region].namespaces;
        slots.push(NamespaceSlot { namespace, behind_windows, state: State::Disabled });
        let place = SlotPlace { region, namespace: slots.len() - 1 };
        let slot = self.at(place);
        if self.stays_disabled(|name| slot.is_called(name)) {
            self.machine.log(format_args!("{}: stays disabled: enable-namespace serves it", slot.namespace.id));
        } else {
            self.open(place);
        }
    }

    /// Opens a namespace that is not open.
    fn open(&mut self, place: SlotPlace) {
        let region = &self.regions[place.region];
        let namespace = &region.namespaces[place.namespace].namespace;
        let start = self.machine.now_ns();
        let state = match &region.medium {
            Ok(medium) => self.attach(&region.region, medium, namespace),
            Err(why) => State::Unusable(why.as_str().into()),
        };
        let took_us = self.machine.now_ns().saturating_sub(start) / 1000;
        self.machine.log(format_args!("{}: {state}; looked at in {took_us} us", namespace.id));
        if let State::Sector(disk) = &state
            && disk.btt.recovered_writes() > 0
        {
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

    /// Attends to consumers, their bridge, who waits for a page and who asks at the console, between two steps of a long command
    /// on CPU 0. Returns whether the command is to end. The caller holds no lane of a disk, unless it has suspended the disk
    /// ([`Exports::suspend`]), and no labels.
    fn attend(&self) -> ControlFlow<()> {
        self.exports.attend(M::this_cpu());
        self.make_pages();
        if self.machine.attend(self) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Returns the machine below.
    pub const fn machine(&self) -> &M {
        &self.machine
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
    machine.log(format_args!("persist: {persist} (ns for 4096 bytes: {})", times.join("; ")));
    persist
}
