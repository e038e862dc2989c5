//! The admin commands, answered.

use super::attach::State;
use super::disk::{Disk, admin_error, read_only_reason};
use super::{Machine, NamespaceSlot, Node, SlotPlace, bench, nfit};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use btt::{ArenaInfo, flog::Slots};
use drivers::medium::Medium;
use nvdimm::namespace::NamespaceId;
use service::VERSION;
use service::admin::command::{BenchRequest, CheckNamespace, CreateNamespace, LabelVersion, Lba};
use service::appliance::{Appliance, Device, no_such_device};
use service::error::AdminError;
use service::inventory;
use service::reply::{Arena, Arenas, Bench, Check, Errors, LabelArea, NamespaceStatus, Nfit, Stats, Status, Trace};

impl<M: Machine> Node<M> {
    fn slots(&self) -> impl Iterator<Item = &NamespaceSlot> {
        self.regions.iter().flat_map(|slot| &slot.namespaces)
    }

    pub(super) fn disks(&self) -> impl Iterator<Item = &Disk<Medium>> {
        self.slots().filter_map(|slot| match &slot.state {
            State::Sector(disk) => Some(&**disk),
            _ => None,
        })
    }

    /// Offers every disk that consumers have not seen yet.
    pub fn offer_new(&self) {
        for slot in self.slots() {
            if let State::Sector(disk) = &slot.state {
                self.exports.offer_new(disk);
            }
        }
    }

    /// The disk of that name, to be shared.
    fn shared_disk(&self, dev: &str) -> Result<&Arc<Disk<Medium>>, AdminError> {
        let mut disks = self.slots().filter_map(|slot| match &slot.state {
            State::Sector(disk) => Some(disk),
            _ => None,
        });
        // The other answer says why there is none.
        disks.find(|disk| disk.name == dev).ok_or_else(|| match self.disk(dev) {
            Err(why) => why,
            Ok(_) => no_such_device(dev),
        })
    }

    /// The disk of that name; another namespace's device is refused with what to do.
    pub(super) fn disk(&self, dev: &str) -> Result<&Disk<Medium>, AdminError> {
        if let Some(disk) = self.disks().find(|disk| disk.name == dev) {
            return Ok(disk);
        }
        for slot in self.slots() {
            let id = slot.namespace.id;
            if dev == slot.device_name(false) || dev == slot.device_name(true) || dev == id.to_string() {
                return Err(match &slot.state {
                    State::Damaged(why) => AdminError::damaged(format!("{id}: {why}")),
                    State::Raw(_) => AdminError::not_found(format!(
                        "{id} is not formatted, so it has no sectors: create-namespace -r {} formats it",
                        id.region
                    )),
                    State::Unsupported(why) => AdminError::failed(format!("{id} holds {why}")),
                    State::Held(held) => held.error(id),
                    State::Disabled => AdminError::not_found(disabled(id)),
                    State::Sector(disk) => AdminError::not_found(format!("the block device of {id} is {}", disk.name)),
                });
            }
        }
        Err(no_such_device(dev))
    }

    /// The place of a namespace, by its own name, its BTT's, or its block device's.
    fn place(&self, name: &str) -> Result<SlotPlace, AdminError> {
        for (region, slots) in self.regions.iter().enumerate() {
            for (namespace, slot) in slots.namespaces.iter().enumerate() {
                let id = slot.namespace.id;
                let (own, btt) = (id.to_string(), format!("btt{}.{}", id.region.0, id.number));
                let mut names = [own, btt, slot.device_name(true), slot.device_name(false)].into_iter();
                if names.any(|known| known == name) {
                    return Ok(SlotPlace { region, namespace });
                }
            }
        }
        Err(AdminError::not_found(format!("no namespace \"{name}\": list -Ni shows what there is")))
    }
}

/// What to do about a namespace that somebody disabled.
fn disabled(id: NamespaceId) -> String {
    format!("{id} is disabled: enable-namespace {id} serves it")
}

impl<M: Machine> Appliance for Node<M> {
    fn status(&mut self) -> Status {
        Status {
            version: VERSION.to_string(),
            cpus: self.machine.cpus(),
            memory: self.machine.memory_bytes(),
            tables: self.machine.tables(),
            namespaces: self.slots().map(namespace_status).collect(),
            exports: self.exports.names(),
            uptime: self.machine.now_ns() / 1_000_000,
            unclean_shutdowns_recovered: self.unclean_shutdowns,
            persist: self.persist.to_string(),
        }
    }

    fn inventory(&mut self) -> inventory::Inventory {
        self.inventory_now()
    }

    fn nfit(&mut self) -> Nfit {
        nfit::reply(&self.found)
    }

    fn arenas(&mut self, name: &str) -> Result<Arenas, AdminError> {
        let slot = self.at(self.place(name)?);
        let id = slot.namespace.id;
        match &slot.state {
            State::Sector(disk) => {
                Ok(Arenas { dev: id.to_string(), arenas: disk.btt.arenas().map(|arena| describe(&arena)).collect() })
            }
            State::Raw(content) => Err(AdminError::failed(format!("{id} is not in sector mode: {content}"))),
            State::Damaged(why) => Err(AdminError::damaged(format!("{id}: {why}"))),
            State::Unsupported(why) => Err(AdminError::failed(format!("{id} holds {why}"))),
            State::Held(held) => Err(held.error(id)),
            State::Disabled => Err(AdminError::failed(disabled(id))),
        }
    }

    fn init_labels(&mut self, dimm: &str, version: LabelVersion, force: bool) -> Result<LabelArea, AdminError> {
        self.initialise_labels(dimm, version, force)
    }

    fn create_namespace(&mut self, request: &CreateNamespace) -> Result<inventory::Namespace, AdminError> {
        let place = self.create(request)?;
        Ok(self.shown(place))
    }

    fn destroy_namespace(&mut self, name: &str, force: bool) -> Result<String, AdminError> {
        let place = self.place(name)?;
        self.destroy(place, force)
    }

    fn enable_namespace(&mut self, name: &str) -> Result<inventory::Namespace, AdminError> {
        let place = self.place(name)?;
        self.enable(place)?;
        Ok(self.shown(place))
    }

    fn disable_namespace(&mut self, name: &str) -> Result<String, AdminError> {
        let place = self.place(name)?;
        self.disable(place)?;
        Ok(self.at(place).namespace.id.to_string())
    }

    fn check_namespace(&mut self, request: &CheckNamespace) -> Result<Check, AdminError> {
        let place = self.place(&request.namespace)?;
        self.check(place, request)
    }

    fn device(&mut self, dev: &str) -> Result<Device, AdminError> {
        let disk = self.disk(dev)?;
        Ok(Device {
            sector_size: disk.btt.sector_size().bytes(),
            sectors: disk.btt.capacity_sectors(),
            // With an arena that can be written, each write is answered by itself.
            read_only: disk.read_only().filter(|_| disk.all_read_only()),
            in_use: self.exports.has_consumer(dev),
        })
    }

    fn content(&mut self, dev: &str) -> Result<Option<&'static str>, AdminError> {
        self.disk(dev).map(|disk| disk.content(M::this_cpu()))
    }

    fn read(&mut self, dev: &str, lba: Lba, into: &mut [u8]) -> Result<(), AdminError> {
        let disk = self.disk(dev)?;
        disk.read(M::this_cpu(), lba.0, into).map_err(|why| admin_error(dev, &why))
    }

    fn write(&mut self, dev: &str, lba: Lba, from: &[u8]) -> Result<(), AdminError> {
        let disk = self.disk(dev)?;
        disk.write(M::this_cpu(), lba.0, from).map_err(|why| admin_error(dev, &why))?;
        // What fills many sectors comes here many times.
        self.exports.attend(M::this_cpu());
        Ok(())
    }

    fn trim(&mut self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        self.trim_sectors(dev, lba, count)
    }

    fn inject_error(&mut self, dev: &str, lba: Lba, count: u64, media: bool) -> Result<(), AdminError> {
        self.put_in_error(dev, lba, count, media)
    }

    fn clear_errors(&mut self, dev: &str, lba: Lba, count: u64) -> Result<(), AdminError> {
        self.clear_of_errors(dev, lba, count)
    }

    fn errors(&mut self, dev: Option<&str>) -> Result<Errors, AdminError> {
        self.errors_known(dev)
    }

    fn bench(&mut self, request: &BenchRequest) -> Result<Bench, AdminError> {
        let disk = self.disk(&request.dev)?;
        let writes = request.seconds > 0 && request.mix_write_percent > 0;
        if let Some(why) = disk.read_only().filter(|_| writes) {
            return Err(AdminError::read_only(format!("{}: {why}", disk.name)));
        }
        let buffers = disk.sector_bytes() as u64 * u64::from(request.run) * u64::from(self.machine.cpus());
        if buffers > self.machine.heap_bytes() / 8 {
            return Err(AdminError::failed(format!("{}: not enough memory for runs of {}", disk.name, request.run)));
        }
        Ok(bench::run(&self.machine, &self.exports, disk, request))
    }

    fn stats(&mut self) -> Stats {
        Stats { devices: self.disks().map(Disk::stats).collect(), queues: self.exports.stats() }
    }

    fn export(&mut self, dev: &str) -> Result<(), AdminError> {
        self.exports.export(self.shared_disk(dev)?)
    }

    fn unexport(&mut self, dev: &str) -> Result<(), AdminError> {
        self.shared_disk(dev)?;
        self.exports.unexport(dev)
    }

    fn trace(&mut self) -> Trace {
        Trace { events: self.exports.trace() }
    }

    fn quiesce(&mut self) -> Result<(), AdminError> {
        let mut result = Ok(());
        for disk in self.disks() {
            if let Err(why) = disk.btt.drain() {
                result = Err(admin_error(&disk.name, &why));
            }
        }
        result
    }
}

fn namespace_status(slot: &NamespaceSlot) -> NamespaceStatus {
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
        State::Held(held) => ("raw", slot.namespace.bytes(), None, format!("disabled: {}", held.why)),
        State::Disabled => ("raw", slot.namespace.bytes(), None, "disabled".into()),
    };
    NamespaceStatus { dev: id.to_string(), mode: mode.to_string(), size, blockdev, state }
}

/// An arena in the words and with the offsets of Linux's debugfs: from the first info block on, not from the arena's
/// own.
fn describe(arena: &ArenaInfo) -> Arena {
    let g = &arena.info.geometry;
    let start = arena.at.0 - arena.info.version.initial_offset().0;
    let (version_major, version_minor) = arena.info.version.numbers();
    let (log_index_0, log_index_1) = match arena.slots {
        Slots::ZeroOne => (0, 1),
        Slots::ZeroTwo => (0, 2),
    };
    Arena {
        size: if g.nextoff == 0 { g.info2off + btt::layout::PAGE_BYTES } else { g.nextoff },
        external_lba_start: arena.first_lba.0,
        internal_nlba: g.internal_nlba,
        internal_lbasize: g.internal_lbasize,
        external_nlba: g.external_nlba,
        external_lbasize: g.external_lbasize.bytes(),
        nfree: g.nfree,
        version_major,
        version_minor,
        nextoff: if g.nextoff == 0 { 0 } else { start + g.nextoff },
        infooff: start,
        dataoff: start + g.dataoff,
        mapoff: start + g.mapoff,
        logoff: start + g.logoff,
        info2off: start + g.info2off,
        flags: arena.info.flags,
        read_only: read_only_reason(arena),
        log_index_0,
        log_index_1,
    }
}
