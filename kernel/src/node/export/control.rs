//! Carries out the bridge's requests and replies to them: the appliance's side of [`service::control`], whose rules
//! this keeps.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use btt::CpuIndex;
use drivers::medium::AnyMedium;
use service::admin::commands::machine::TraceEvent;
use service::blk::{self, BlkDevice, BlkQueue};
use service::control::dialogue::{Greeting, introduction};
use service::control::{
    Attach, Call, DecodeError, Deframer, DiskIndex, DiskOffer, ExportIndex, Outcome, QueueIndex, Report, Request, Start,
};
use service::error::AdminError;
use service::link::ByteLink;
use service::memory::{MemoryOffset, MemoryTable, SharedMemory};
use service::virtqueue::{Layout, QUEUE_SIZE_MAX};

use super::station::{Counts, Running};
use super::trace::{Event, Name, Ring};
use super::{Consumer, Exports};
use crate::node::disk::BttDisk;

/// The most bytes that one poll takes in, so that an endless peer cannot stop the console.
const BYTES_A_POLL: usize = 512;

/// The most consumers' disks at a time.
const EXPORTS_MAX: usize = 256;

/// The most queues that run at a time, in all exports together: each takes some tens of KiB of the heap.
const RUNNING_MAX: usize = 1024;

/// The most queues an export may have: QEMU requests one for each of its consumer's CPUs.
const QUEUES_MAX: u16 = 64;

/// The control state.
pub(super) struct Control {
    link: Option<Box<dyn ByteLink + Send>>,
    deframer: Deframer,
    consumers: Vec<Arc<dyn Consumer>>,
    greeting: Greeting,
    /// By [`DiskIndex`].
    offers: Vec<Offer>,
    attached: BTreeMap<u16, Attached>,
    trace: Ring,
}

/// A disk that consumers may have.
struct Offer {
    name: String,
    shape: blk::DiskProperties,
    /// `None` while it is withdrawn.
    disk: Option<Arc<BttDisk<AnyMedium>>>,
}

/// A disk that a consumer has.
struct Attached {
    wanted: Attach,
    consumer: Arc<dyn Consumer>,
    device: BlkDevice,
    table: Arc<MemoryTable>,
    queues: BTreeMap<u16, QueueRecord>,
}

/// A queue that was started once.
struct QueueRecord {
    start: Start,
    cpu: CpuIndex,
    /// The index at which it stopped, if it has.
    stopped: Option<u16>,
}

impl Attached {
    fn is_running(&self) -> bool {
        self.queues.values().any(|queue| queue.stopped.is_none())
    }
}

impl Control {
    pub(super) fn new(link: Option<Box<dyn ByteLink + Send>>, consumers: Vec<Arc<dyn Consumer>>, boot: u64) -> Self {
        Self {
            link,
            deframer: Deframer::new(),
            consumers,
            greeting: Greeting::new(boot),
            offers: Vec::new(),
            attached: BTreeMap::new(),
            trace: Ring::new(),
        }
    }

    /// Takes in requests and replies to them. Returns whether there was one.
    pub(super) fn poll(&mut self, exports: &Exports) -> bool {
        let Some(mut link) = self.link.take() else { return false };
        let mut worked = false;
        let now = exports.clock.now_ns();
        if let Some(hello) = self.greeting.unasked(now / 1_000_000, exports.has_lease(now)) {
            link.send(&hello.encode(0));
        }
        for _ in 0..BYTES_A_POLL {
            let Some(byte) = link.receive() else { break };
            worked = true;
            // A broken frame is dropped: the bridge repeats the request.
            let Some(Ok(payload)) = self.deframer.push(byte) else { continue };
            match Request::decode(&payload) {
                Ok((sequence, request)) => self.answer(exports, sequence, request, link.as_mut()),
                Err(DecodeError::Message { sequence }) => {
                    link.send(&Report::Done(Outcome::Unknown).encode(sequence));
                }
                Err(_) => {}
            }
        }
        let reports = core::mem::take(&mut *exports.reports.lock());
        for report in reports {
            worked = true;
            link.send(&report.encode(0));
        }
        self.link = Some(link);
        worked
    }

    fn answer(&mut self, exports: &Exports, sequence: u16, request: Request, link: &mut dyn ByteLink) {
        let now = exports.clock.now_ns();
        let report = match request {
            Request::Hello { session } => {
                if self.greeting.is_new(session) {
                    self.trace.push(now, Event::Bridge { session });
                    self.detach_all(exports);
                }
                return self.introduce(sequence, link);
            }
            Request::Ping { boot, .. } if !self.greeting.is_for_us(boot) => {
                return link.send(&self.greeting.hello().encode(0));
            }
            Request::Ping { lease_ms, .. } => {
                let until = now.saturating_add(u64::from(lease_ms) * 1_000_000);
                if exports.lease_until_ns.swap(until, Ordering::AcqRel) <= now {
                    self.trace.push(now, Event::LeaseRenewed);
                    exports.wake_all();
                }
                Ok(Report::Done(Outcome::Ok))
            }
            Request::Attach(attach) => self.attach(exports, attach).map(Report::Done),
            Request::Detach { export } => self.detach(exports, export).map(Report::Done),
            Request::Start(start) => self.start(exports, start).map(Report::Done),
            Request::Stop { export, queue } => self.stop(exports, export, queue).map(|base| Report::Stopped { base }),
            Request::SetCall { export, queue, call } => self.set_call(exports, export, queue, call).map(Report::Done),
            Request::WriteConfig { export, at, bytes } => self.write_config(export, at, &bytes).map(Report::Done),
        };
        let report = report.unwrap_or_else(|why| {
            self.trace.push(now, Event::Refused { why });
            Report::Done(why)
        });
        link.send(&report.encode(sequence));
    }

    /// Sends the appliance's hello and the disks that it offers.
    fn introduce(&self, sequence: u16, link: &mut dyn ByteLink) {
        let offers = (0..=u8::MAX).zip(&self.offers);
        let disks: Vec<_> = offers.filter_map(|(index, offer)| offer.report(DiskIndex(index))).collect();
        for frame in introduction(self.greeting.boot(), sequence, &disks) {
            link.send(&frame);
        }
    }

    fn attach(&mut self, exports: &Exports, wanted: Attach) -> Result<Outcome, Outcome> {
        let consumer = self.consumers.iter().find(|consumer| consumer.id() == wanted.memory);
        let consumer = Arc::clone(consumer.ok_or(Outcome::NoSuchMemory)?);
        let offer = self.offers.get(usize::from(wanted.disk.0)).ok_or(Outcome::NoSuchDisk)?;
        if let Some(old) = self.attached.get(&wanted.export.0) {
            let running = old.is_running();
            if old.wanted == wanted && (running || offer.is_disk_of(&old.device)) {
                return Ok(Outcome::Ok);
            }
            if running {
                return Err(Outcome::Busy);
            }
        } else if self.attached.len() >= EXPORTS_MAX {
            return Err(Outcome::TooMany);
        }
        let mut device = BlkDevice::new(offer.shape, wanted.features).map_err(|_| Outcome::BadFeatures)?;
        device.disk = offer.shape_now();
        let table = MemoryTable::new(&wanted.regions, consumer.memory().len_bytes()).map_err(|_| Outcome::BadTable)?;
        self.trace.push(exports.clock.now_ns(), Event::Attached { export: wanted.export });
        let key = wanted.export.0;
        let attached = Attached { wanted, consumer, device, table: Arc::new(table), queues: BTreeMap::new() };
        self.attached.insert(key, attached);
        Ok(Outcome::Ok)
    }

    fn detach(&mut self, exports: &Exports, export: ExportIndex) -> Result<Outcome, Outcome> {
        let attached = self.attached.remove(&export.0).ok_or(Outcome::NoSuchExport)?;
        let now = exports.clock.now_ns();
        for (queue, record) in &attached.queues {
            exports.station(record.cpu).remove(now, Name(export, QueueIndex(*queue)), exports.has_lease(now));
        }
        self.trace.push(now, Event::Detached { export });
        Ok(Outcome::Ok)
    }

    fn detach_all(&mut self, exports: &Exports) {
        let all: Vec<u16> = self.attached.keys().copied().collect();
        for export in all {
            self.detach(exports, ExportIndex(export)).expect("an export of the list is attached");
        }
    }

    fn start(&mut self, exports: &Exports, start: Start) -> Result<Outcome, Outcome> {
        let running: usize = self.attached.values().map(|attached| attached.queues.len()).sum();
        let attached = self.attached.get_mut(&start.export.0).ok_or(Outcome::NoSuchExport)?;
        let offer = self.offers.get(usize::from(attached.wanted.disk.0)).ok_or(Outcome::NoSuchDisk)?;
        if start.queue.0 >= offer.shape.queues {
            return Err(Outcome::BadQueue);
        }
        let name = Name(start.export, start.queue);
        if let Some(old) = attached.queues.get_mut(&start.queue.0).filter(|old| old.stopped.is_none()) {
            if old.start == start {
                return Ok(Outcome::Ok);
            }
            // Either the queue is broken, and is started anew without a stop, or it is in use.
            let mut broken = false;
            let at = exports.station(old.cpu);
            at.change(|queue| broken |= queue.name == name && queue.ring.broken().is_some());
            if !broken {
                return Err(Outcome::Busy);
            }
            let now = exports.clock.now_ns();
            // If the new one is refused, none runs, and a Stop gets the place where this one stopped.
            old.stopped = at.remove(now, name, exports.has_lease(now));
        }
        if running >= RUNNING_MAX && !attached.queues.contains_key(&start.queue.0) {
            return Err(Outcome::TooMany);
        }
        let consumer = Arc::clone(&attached.consumer);
        let memory = consumer.memory();
        let [desc, avail, used] = [start.desc, start.avail, start.used].map(MemoryOffset);
        let layout = Layout::new(start.size, desc, avail, used, memory.len_bytes()).map_err(|_| Outcome::BadQueue)?;
        let ring = BlkQueue::start(layout, attached.device.features(), memory).map_err(|_| Outcome::BadQueue)?;
        let cpu = consumer.cpu(start.kick_vector);
        let mut running = Running {
            name,
            consumer,
            call: start.call,
            device: attached.device,
            table: Arc::clone(&attached.table),
            ring,
            disk_index: attached.wanted.disk,
            disk: offer.disk.clone().filter(|_| offer.is_disk_of(&attached.device)),
            resting: false,
            counts: Counts::default(),
        };
        running.ring_driver();
        exports.station(cpu).add(exports.clock.now_ns(), running);
        exports.waker.wake(cpu);
        attached.queues.insert(start.queue.0, QueueRecord { start, cpu, stopped: None });
        Ok(Outcome::Ok)
    }

    fn stop(&mut self, exports: &Exports, export: ExportIndex, queue: QueueIndex) -> Result<u16, Outcome> {
        let attached = self.attached.get_mut(&export.0).ok_or(Outcome::NoSuchExport)?;
        let record = attached.queues.get_mut(&queue.0).ok_or(Outcome::NotStarted)?;
        if let Some(base) = record.stopped {
            return Ok(base);
        }
        let now = exports.clock.now_ns();
        let stopped = exports.station(record.cpu).remove(now, Name(export, queue), exports.has_lease(now));
        let base = stopped.ok_or(Outcome::NotStarted)?;
        record.stopped = Some(base);
        Ok(base)
    }

    fn set_call(
        &mut self,
        exports: &Exports,
        export: ExportIndex,
        queue: QueueIndex,
        call: Option<Call>,
    ) -> Result<Outcome, Outcome> {
        let attached = self.attached.get_mut(&export.0).ok_or(Outcome::NoSuchExport)?;
        let record = attached.queues.get_mut(&queue.0).filter(|record| record.stopped.is_none());
        let record = record.ok_or(Outcome::NotStarted)?;
        record.start.call = call;
        exports.station(record.cpu).change(|running| {
            if running.name == Name(export, queue) {
                running.call = call;
                // The old route may have lost an interrupt: ring once by the new one.
                running.ring_driver();
            }
        });
        Ok(Outcome::Ok)
    }

    fn write_config(&mut self, export: ExportIndex, at: u8, bytes: &[u8]) -> Result<Outcome, Outcome> {
        let attached = self.attached.get_mut(&export.0).ok_or(Outcome::NoSuchExport)?;
        attached.device.write_config(at, bytes).map(|()| Outcome::Ok).map_err(|_| Outcome::BadConfig)
    }

    /// Offers a disk that is new, or, with `again`, one that was withdrawn. Returns false if it stays withdrawn.
    pub(super) fn offer(&mut self, exports: &Exports, disk: &Arc<BttDisk<AnyMedium>>, again: bool) -> bool {
        if self.link.is_none() {
            return false;
        }
        let Some(shape) = shape(disk) else { return false };
        let known = self.offers.iter().position(|offer| offer.name == disk.name);
        let index = match known {
            Some(index) => {
                let old = &self.offers[index];
                match &old.disk {
                    Some(old) if Arc::ptr_eq(old, disk) => return true,
                    None if !again => return false,
                    _ => {}
                }
                self.offers[index].shape = shape;
                self.offers[index].disk = Some(Arc::clone(disk));
                index
            }
            None => {
                self.offers.push(Offer { name: disk.name.clone(), shape, disk: Some(Arc::clone(disk)) });
                self.offers.len() - 1
            }
        };
        let Ok(index) = u8::try_from(index).map(DiskIndex) else {
            self.offers.pop(); // the protocol has no number for it: it is not offered
            return false;
        };
        self.spread_offer(exports, index);
        if let Some(report) = self.offers[usize::from(index.0)].report(index) {
            exports.reports.lock().push(report);
        }
        true
    }

    pub(super) fn export(&mut self, exports: &Exports, disk: &Arc<BttDisk<AnyMedium>>) -> Result<(), AdminError> {
        let name = &disk.name;
        if self.link.is_none() {
            return Err(AdminError::failed(format!(
                "{name}: there is no bridge to consumers: run-qemu.sh --vhost-user SOCKET starts one"
            )));
        }
        if shape(disk).is_none() {
            let bytes = disk.btt.sector_size().bytes();
            return Err(AdminError::failed(format!(
                "{name} has sectors of {bytes} bytes: a virtio disk has 512 or 4096, without metadata"
            )));
        }
        if self.offer(exports, disk, true) {
            Ok(())
        } else {
            Err(AdminError::failed(format!("{name}: 256 disks have been exported since boot: reboot first")))
        }
    }

    pub(super) fn unexport(&mut self, exports: &Exports, name: &str) -> Result<(), AdminError> {
        let found = (0..=u8::MAX).zip(&mut self.offers).find(|(_, offer)| offer.name == name && offer.disk.is_some());
        let (index, offer) =
            found.ok_or_else(|| AdminError::not_found(format!("{name} is not exported: status shows what is")))?;
        offer.disk = None;
        let index = DiskIndex(index);
        self.spread_offer(exports, index);
        exports.reports.lock().push(Report::DiskGone { disk: index });
        Ok(())
    }

    /// Passes a changed offer on to its queues. When this returns, no queue uses a withdrawn disk. Drivers that know
    /// another disk by this name stay without one until they are attached anew: what they keep in memory is not this
    /// one's.
    fn spread_offer(&mut self, exports: &Exports, index: DiskIndex) {
        let offer = &self.offers[usize::from(index.0)];
        let shape_for = |device: &BlkDevice| match offer.is_disk_of(device) {
            true => offer.shape_now(),
            false => blk::DiskProperties { sectors: 0, ..device.disk },
        };
        for attached in self.attached.values_mut().filter(|attached| attached.wanted.disk == index) {
            attached.device.disk = shape_for(&attached.device);
        }
        for station in &exports.stations {
            station.change(|queue| {
                if queue.disk_index == index {
                    queue.disk = offer.disk.clone().filter(|_| offer.is_disk_of(&queue.device));
                    queue.device.disk = shape_for(&queue.device);
                }
            });
        }
    }

    /// Returns whether a consumer has this disk.
    pub(super) fn has_consumer(&self, name: &str) -> bool {
        let is_it = |offer: &&Offer| offer.name == name && offer.disk.is_some();
        let offer_of = |attached: &Attached| {
            let offer = self.offers.get(usize::from(attached.wanted.disk.0));
            offer.filter(|offer| offer.is_disk_of(&attached.device))
        };
        self.attached.values().filter_map(offer_of).any(|offer| is_it(&offer))
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.offers.iter().filter(|offer| offer.disk.is_some()).map(|offer| offer.name.clone()).collect()
    }

    pub(super) fn trace(&self) -> Vec<TraceEvent> {
        self.trace.show(0).collect()
    }
}

impl Offer {
    /// Returns whether it is the disk that a driver has found: its BTT's uuid is the same, and so are its sectors. A
    /// namespace that is made anew gets the name of the old one.
    fn is_disk_of(&self, device: &BlkDevice) -> bool {
        let identity = |shape: &blk::DiskProperties| (shape.serial, shape.sector_bytes);
        identity(&self.shape) == identity(&device.disk)
    }

    /// Returns its present shape, which has no sectors while it is withdrawn.
    fn shape_now(&self) -> blk::DiskProperties {
        let sectors = if self.disk.is_some() { self.shape.sectors } else { 0 };
        blk::DiskProperties { sectors, ..self.shape }
    }

    /// Returns the report of it to the bridge; `None` while it is withdrawn.
    fn report(&self, disk: DiskIndex) -> Option<Report> {
        self.disk.as_ref()?;
        let shape = &self.shape;
        let device = BlkDevice::new(*shape, blk::Features::VERSION_1.bits()).ok()?;
        Some(Report::Disk(DiskOffer {
            disk,
            queues: shape.queues,
            queue_size: QUEUE_SIZE_MAX,
            sector_size: shape.sector_bytes,
            capacity: shape.capacity_units(),
            features: shape.features().bits(),
            serial: shape.serial,
            name: self.name.clone(),
            config: device.config().to_vec(),
        }))
    }
}

/// Returns a disk's shape in virtio's terms; `None` if its sectors carry metadata.
fn shape(disk: &BttDisk<AnyMedium>) -> Option<blk::DiskProperties> {
    let size = disk.btt.sector_size();
    (size.bytes() == size.data_bytes()).then(|| blk::DiskProperties {
        sector_bytes: size.bytes(),
        sectors: disk.btt.capacity_sectors(),
        read_only: disk.all_read_only(),
        discard: true,
        write_zeroes: true,
        queues: QUEUES_MAX,
        run_sectors: u32::try_from(btt::RUN_MAX).expect("some tens of sectors"),
        serial: blk::serial(&disk.btt.uuid()),
    })
}
