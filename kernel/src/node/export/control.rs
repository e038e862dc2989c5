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
use service::blk::{self, BlkDevice, BlkQueue};
use service::control::dialogue::{Greeting, introduction};
use service::control::{
    Attach, Call, DecodeError, Deframer, DiskIndex, DiskOffer, ExportIndex, Outcome, QueueIndex, Report, Request, Start,
};
use service::error::AdminError;
use service::events::Severity;
use service::link::ByteLink;
use service::memory::{MemoryOffset, MemoryTable, SharedMemory};
use service::stats::ConsumerStats;
use service::virtqueue::{Layout, QUEUE_SIZE_MAX};

use super::balance::Balance;
use super::queues::{Counts, Running};
use super::station::Station;
use super::trace::Name;
use super::{Asked, Consumer, Exports};
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
    /// The request that is being carried out. Until it is done no other one is begun, but for Hello and Ping: the bridge
    /// repeats it.
    pending: Option<Pending>,
    balance: Balance,
}

/// A request whose reply waits for CPUs that have queues: for a step at most.
struct Pending {
    sequence: u16,
    work: Work,
}

/// What is waited for.
enum Work {
    /// All queues of the bridge's earlier sessions are removed: then comes the introduction.
    Hello(Vec<Asked<Option<u16>>>),
    /// All queues of an export are removed.
    Detach(Vec<Asked<Option<u16>>>),
    /// A queue is removed where it is broken, and is then started anew.
    Restart(Start, Asked<Option<u16>>),
    /// A queue is added, or changed.
    Change(Asked<()>),
    /// A queue is removed.
    Stop(ExportIndex, QueueIndex, Asked<Option<u16>>),
}

/// A request as far as it is carried out: its reply, or what it waits for.
type Begun = Result<Result<Report, Work>, Outcome>;

/// A request that is done.
const DONE: Begun = Ok(Ok(Report::Done(Outcome::Ok)));

/// A disk that consumers may have.
#[derive(Clone)]
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
    pub(super) fn new(
        link: Option<Box<dyn ByteLink + Send>>,
        consumers: Vec<Arc<dyn Consumer>>,
        cpus: u32,
        boot: u64,
    ) -> Self {
        Self {
            link,
            deframer: Deframer::new(),
            consumers,
            greeting: Greeting::new(boot),
            offers: Vec::new(),
            attached: BTreeMap::new(),
            pending: None,
            balance: Balance::new(cpus.max(1) as usize),
        }
    }

    /// Takes in requests and replies to them. Returns whether there was one, or one is being carried out.
    pub(super) fn poll(&mut self, exports: &Exports) -> bool {
        let Some(mut link) = self.link.take() else { return false };
        let mut worked = self.pending.is_some();
        let now = exports.clock.now_ns();
        if let Some(hello) = self.greeting.unasked(now / 1_000_000, exports.has_lease(now)) {
            link.send(&hello.encode(0));
        }
        self.go_on(exports, link.as_mut());
        self.balance(exports, now);
        for _ in 0..BYTES_A_POLL {
            let Some(byte) = link.receive() else { break };
            worked = true;
            // A broken frame is dropped: the bridge repeats the request.
            let Some(Ok(payload)) = self.deframer.push(byte) else { continue };
            match Request::decode(&payload) {
                Ok((sequence, request)) => self.take(exports, sequence, request, link.as_mut()),
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

    /// Takes a request in, and replies to it if it is done at once.
    fn take(&mut self, exports: &Exports, sequence: u16, request: Request, link: &mut dyn ByteLink) {
        let now = exports.clock.now_ns();
        let is_beside = matches!(request, Request::Hello { .. } | Request::Ping { .. });
        if self.pending.is_some() && !is_beside {
            return;
        }
        let begun = match request {
            Request::Hello { session } => {
                // What an earlier Hello waits for, this one waits for, too, and for queues of an export that is gone. Any other
                // request is one of a bridge that is gone.
                let mut asked = match self.pending.take().map(|it| it.work) {
                    Some(Work::Hello(asked) | Work::Detach(asked)) => asked,
                    _ => Vec::new(),
                };
                if self.greeting.is_new(session) {
                    exports.tell(Severity::Info, &"bridge", format_args!("session {session:016x}"));
                    asked.extend(self.detach_all(exports));
                }
                Ok(Err(Work::Hello(asked)))
            }
            Request::Ping { boot, .. } if !self.greeting.is_for_us(boot) => {
                return link.send(&self.greeting.hello().encode(0));
            }
            Request::Ping { lease_ms, .. } => {
                let until = now.saturating_add(u64::from(lease_ms) * 1_000_000);
                if exports.lease_until_ns.swap(until, Ordering::AcqRel) <= now {
                    exports.tell(Severity::Info, &"bridge", format_args!("a new lease"));
                    exports.wake_all();
                }
                DONE
            }
            Request::Attach(attach) => self.attach(exports, attach),
            Request::Detach { export } => self.detach(exports, export).map(|asked| Err(Work::Detach(asked))),
            Request::Start(start) => self.start(exports, start),
            Request::Stop { export, queue } => self.stop(exports, export, queue),
            Request::SetCall { export, queue, call } => self.set_call(exports, export, queue, call),
            Request::WriteConfig { export, at, bytes } => self.write_config(export, at, &bytes),
        };
        self.reply(exports, sequence, begun, link);
        self.go_on(exports, link);
    }

    /// Replies to a request that is done or refused; one that waits is the pending one from now on.
    fn reply(&mut self, exports: &Exports, sequence: u16, begun: Begun, link: &mut dyn ByteLink) {
        let report = match begun {
            Ok(Ok(report)) => report,
            Ok(Err(work)) => {
                self.pending = Some(Pending { sequence, work });
                return;
            }
            Err(why) => {
                exports.tell(Severity::Warning, &"bridge", format_args!("refused: {why}"));
                Report::Done(why)
            }
        };
        link.send(&report.encode(sequence));
    }

    /// Goes on with the pending request, if what it waits for is there.
    fn go_on(&mut self, exports: &Exports, link: &mut dyn ByteLink) {
        while let Some(Pending { sequence, work }) = self.pending.take() {
            let begun = match work {
                Work::Hello(asked) => match unanswered(exports, asked) {
                    asked if asked.is_empty() => return self.introduce(sequence, link),
                    asked => Err(Work::Hello(asked)),
                },
                Work::Detach(asked) => match unanswered(exports, asked) {
                    asked if asked.is_empty() => Ok(DONE),
                    asked => Err(Work::Detach(asked)),
                },
                Work::Change(asked) => match exports.reply(&asked) {
                    Some(()) => {
                        exports.waker.wake(asked.of);
                        Ok(DONE)
                    }
                    None => Err(Work::Change(asked)),
                },
                Work::Restart(start, asked) => match exports.reply(&asked) {
                    Some(stopped) => Ok(self.restart(exports, start, stopped)),
                    None => Err(Work::Restart(start, asked)),
                },
                Work::Stop(export, queue, asked) => match exports.reply(&asked) {
                    Some(stopped) => Ok(self.stopped(export, queue, stopped)),
                    None => Err(Work::Stop(export, queue, asked)),
                },
            };
            match begun {
                Ok(begun) => self.reply(exports, sequence, begun, link),
                Err(work) => {
                    self.pending = Some(Pending { sequence, work });
                    return;
                }
            }
        }
    }

    /// Sends the appliance's hello and the disks that it offers.
    fn introduce(&self, sequence: u16, link: &mut dyn ByteLink) {
        let offers = (0..=u8::MAX).zip(&self.offers);
        let disks: Vec<_> = offers.filter_map(|(index, offer)| offer.report(DiskIndex(index))).collect();
        for frame in introduction(self.greeting.boot(), sequence, &disks) {
            link.send(&frame);
        }
    }

    fn attach(&mut self, exports: &Exports, wanted: Attach) -> Begun {
        let consumer = self.consumers.iter().find(|consumer| consumer.id() == wanted.memory);
        let consumer = Arc::clone(consumer.ok_or(Outcome::NoSuchMemory)?);
        let offer = self.offers.get(usize::from(wanted.disk.0)).ok_or(Outcome::NoSuchDisk)?;
        if let Some(old) = self.attached.get(&wanted.export.0) {
            let running = old.is_running();
            if old.wanted == wanted && (running || offer.is_disk_of(&old.device)) {
                return DONE;
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
        let (place, disk) = (format!("export {}", wanted.export.0), &offer.name);
        exports.tell(Severity::Info, &place, format_args!("a consumer attached {disk}"));
        let key = wanted.export.0;
        let attached = Attached { wanted, consumer, device, table: Arc::new(table), queues: BTreeMap::new() };
        self.attached.insert(key, attached);
        DONE
    }

    /// Forgets an export, and asks for its queues to be removed.
    fn detach(&mut self, exports: &Exports, export: ExportIndex) -> Result<Vec<Asked<Option<u16>>>, Outcome> {
        let attached = self.attached.remove(&export.0).ok_or(Outcome::NoSuchExport)?;
        exports.tell(Severity::Info, &format!("export {}", export.0), format_args!("its consumer detached"));
        let queues = attached.queues.iter();
        Ok(queues.map(|(queue, record)| remove(exports, record.cpu, Name(export, QueueIndex(*queue)))).collect())
    }

    fn detach_all(&mut self, exports: &Exports) -> Vec<Asked<Option<u16>>> {
        let all: Vec<u16> = self.attached.keys().copied().collect();
        let detach = |export| self.detach(exports, ExportIndex(export)).expect("an export of the list is attached");
        all.into_iter().flat_map(detach).collect()
    }

    fn start(&mut self, exports: &Exports, start: Start) -> Begun {
        let attached = self.attached.get(&start.export.0).ok_or(Outcome::NoSuchExport)?;
        let offer = self.offers.get(usize::from(attached.wanted.disk.0)).ok_or(Outcome::NoSuchDisk)?;
        if start.queue.0 >= offer.shape.queues {
            return Err(Outcome::BadQueue);
        }
        let Some(old) = attached.queues.get(&start.queue.0).filter(|old| old.stopped.is_none()) else {
            return self.start_stopped(exports, start);
        };
        if old.start == start {
            return DONE;
        }
        // Either the queue is broken, and is started anew without a stop, or it is in use.
        let name = Name(start.export, start.queue);
        let asked = exports.ask(old.cpu, move |queues, exports| {
            queues.get_mut(name).filter(|queue| queue.ring.broken().is_some())?;
            let now = exports.clock.now_ns();
            queues.remove(now, name, exports.has_lease(now))
        });
        Ok(Err(Work::Restart(start, asked)))
    }

    /// Starts a queue anew that was broken and is removed now.
    fn restart(&mut self, exports: &Exports, start: Start, stopped: Option<u16>) -> Begun {
        let base = stopped.ok_or(Outcome::Busy)?;
        let attached = self.attached.get_mut(&start.export.0).ok_or(Outcome::NoSuchExport)?;
        if let Some(old) = attached.queues.get_mut(&start.queue.0) {
            // If the new one is refused, none runs, and a Stop gets the place where this one stopped.
            old.stopped = Some(base);
        }
        self.start_stopped(exports, start)
    }

    /// Starts a queue of an export that does not run.
    fn start_stopped(&mut self, exports: &Exports, start: Start) -> Begun {
        let running: usize = self.attached.values().map(|attached| attached.queues.len()).sum();
        let attached = self.attached.get_mut(&start.export.0).ok_or(Outcome::NoSuchExport)?;
        let offer = self.offers.get(usize::from(attached.wanted.disk.0)).ok_or(Outcome::NoSuchDisk)?;
        if running >= RUNNING_MAX && !attached.queues.contains_key(&start.queue.0) {
            return Err(Outcome::TooMany);
        }
        let consumer = Arc::clone(&attached.consumer);
        let memory = consumer.memory();
        let [desc, avail, used] = [start.desc, start.avail, start.used].map(MemoryOffset);
        let layout = Layout::new(start.size, desc, avail, used, memory.len_bytes()).map_err(|_| Outcome::BadQueue)?;
        let ring = BlkQueue::start(layout, attached.device.features(), memory).map_err(|_| Outcome::BadQueue)?;
        let cpu = self.cpu_of(&consumer, start.kick_vector);
        let attached = self.attached.get_mut(&start.export.0).ok_or(Outcome::NoSuchExport)?;
        let mut running = Running {
            name: Name(start.export, start.queue),
            consumer,
            kick_vector: start.kick_vector,
            call: start.call,
            device: attached.device,
            table: Arc::clone(&attached.table),
            ring,
            disk_index: attached.wanted.disk,
            disk: offer.disk.clone().filter(|_| offer.is_disk_of(&attached.device)),
            resting: false,
            counts: Counts::default(),
            busy_ns: 0,
        };
        running.ring_driver();
        attached.queues.insert(start.queue.0, QueueRecord { start, cpu, stopped: None });
        let asked = exports.ask(cpu, move |queues, exports| queues.add(exports.clock.now_ns(), running));
        Ok(Err(Work::Change(asked)))
    }

    /// Returns the CPU that is to serve a new queue: with others of its vector, else the vector's own, unless that is busy and
    /// another one idle. The vector wakes it from now on.
    fn cpu_of(&self, consumer: &Arc<dyn Consumer>, vector: u16) -> CpuIndex {
        let of_consumer = |attached: &&Attached| attached.consumer.id() == consumer.id();
        let mut queues = self.attached.values().filter(of_consumer).flat_map(|attached| attached.queues.values());
        if let Some(other) = queues.find(|queue| queue.stopped.is_none() && queue.start.kick_vector == vector) {
            return other.cpu;
        }
        let own = consumer.cpu(vector);
        let better = self.balance.better_than(own);
        if consumer.wakes(vector, better) {
            return better;
        }
        // Without a message the CPU looks by its timer.
        consumer.wakes(vector, own);
        own
    }

    /// Moves queues from the busiest CPU to the idlest one, from time to time, if that is a gain. Both CPUs' queues are in our
    /// hands meanwhile: whoever asks for something next finds them at the new one.
    fn balance(&mut self, exports: &Exports, now_ns: u64) {
        let Some((from, to)) = self.balance.look(now_ns, exports.stations.iter().map(Station::busy_ns)) else { return };
        // A pending request may be for a queue that would move.
        if self.pending.is_some() || exports.station(from).has_one_load() {
            return;
        }
        let Some(mut giver) = exports.station(from).take(exports) else { return };
        let Some(mut taker) = exports.station(to).take(exports) else { return };
        let load = exports.station(from).busy_ns();
        let Some((consumer, vector, queues)) = giver.give(now_ns, load) else { return };
        if !consumer.wakes(vector, to) {
            return giver.put_back(queues);
        }
        for Name(export, queue) in queues.iter().map(|queue| queue.name) {
            let attached =
                self.attached.get_mut(&export.0).expect("a queue that runs is of an export that is attached");
            attached.queues.get_mut(&queue.0).expect("a queue that runs was started").cpu = to;
        }
        taker.put(now_ns, queues);
        drop((giver, taker));
        // A kick may have woken the other one.
        exports.waker.wake(to);
    }

    fn stop(&mut self, exports: &Exports, export: ExportIndex, queue: QueueIndex) -> Begun {
        let attached = self.attached.get(&export.0).ok_or(Outcome::NoSuchExport)?;
        let record = attached.queues.get(&queue.0).ok_or(Outcome::NotStarted)?;
        if let Some(base) = record.stopped {
            return Ok(Ok(Report::Stopped { base }));
        }
        Ok(Err(Work::Stop(export, queue, remove(exports, record.cpu, Name(export, queue)))))
    }

    /// A queue is stopped at this index.
    fn stopped(&mut self, export: ExportIndex, queue: QueueIndex, base: Option<u16>) -> Begun {
        let base = base.ok_or(Outcome::NotStarted)?;
        let attached = self.attached.get_mut(&export.0).ok_or(Outcome::NoSuchExport)?;
        attached.queues.get_mut(&queue.0).ok_or(Outcome::NotStarted)?.stopped = Some(base);
        Ok(Ok(Report::Stopped { base }))
    }

    fn set_call(&mut self, exports: &Exports, export: ExportIndex, queue: QueueIndex, call: Option<Call>) -> Begun {
        let attached = self.attached.get_mut(&export.0).ok_or(Outcome::NoSuchExport)?;
        let record = attached.queues.get_mut(&queue.0).filter(|record| record.stopped.is_none());
        let record = record.ok_or(Outcome::NotStarted)?;
        record.start.call = call;
        let asked = exports.ask(record.cpu, move |queues, _| {
            if let Some(running) = queues.get_mut(Name(export, queue)) {
                running.call = call;
                // The old route may have lost an interrupt: ring once by the new one.
                running.ring_driver();
            }
        });
        Ok(Err(Work::Change(asked)))
    }

    fn write_config(&mut self, export: ExportIndex, at: u8, bytes: &[u8]) -> Begun {
        let attached = self.attached.get_mut(&export.0).ok_or(Outcome::NoSuchExport)?;
        attached.device.write_config(at, bytes).map_err(|_| Outcome::BadConfig)?;
        DONE
    }

    /// Offers a disk that is new, or, with `again`, one that was withdrawn. Returns what CPUs were asked for, or `None` if it
    /// stays withdrawn.
    pub(super) fn offer(
        &mut self,
        exports: &Exports,
        disk: &Arc<BttDisk<AnyMedium>>,
        again: bool,
    ) -> Option<Vec<Asked<()>>> {
        self.link.as_ref()?;
        let shape = shape(disk)?;
        let known = self.offers.iter().position(|offer| offer.name == disk.name);
        let index = match known {
            Some(index) => {
                let old = &self.offers[index];
                match &old.disk {
                    Some(old) if Arc::ptr_eq(old, disk) => return Some(Vec::new()),
                    None if !again => return None,
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
            return None;
        };
        let asked = self.spread_offer(exports, index);
        if let Some(report) = self.offers[usize::from(index.0)].report(index) {
            exports.reports.lock().push(report);
        }
        Some(asked)
    }

    /// Offers a disk, also one that was withdrawn. Returns what CPUs were asked for.
    pub(super) fn export(
        &mut self,
        exports: &Exports,
        disk: &Arc<BttDisk<AnyMedium>>,
    ) -> Result<Vec<Asked<()>>, AdminError> {
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
        self.offer(exports, disk, true)
            .ok_or_else(|| AdminError::failed(format!("{name}: 256 disks have been exported since boot: reboot first")))
    }

    /// Withdraws a disk. Returns what CPUs were asked for: when they have done it, no queue uses it.
    pub(super) fn unexport(&mut self, exports: &Exports, name: &str) -> Result<Vec<Asked<()>>, AdminError> {
        let found = (0..=u8::MAX).zip(&mut self.offers).find(|(_, offer)| offer.name == name && offer.disk.is_some());
        let (index, offer) =
            found.ok_or_else(|| AdminError::not_found(format!("{name} is not exported: status shows what is")))?;
        offer.disk = None;
        let index = DiskIndex(index);
        let asked = self.spread_offer(exports, index);
        exports.reports.lock().push(Report::DiskGone { disk: index });
        Ok(asked)
    }

    /// Passes a changed offer on to its queues. When all CPUs have done that, no queue uses a withdrawn disk. Drivers that know
    /// another disk by this name stay without one until they are attached anew: what they keep in memory is not this
    /// one's.
    fn spread_offer(&mut self, exports: &Exports, index: DiskIndex) -> Vec<Asked<()>> {
        let offer = self.offers[usize::from(index.0)].clone();
        for attached in self.attached.values_mut().filter(|attached| attached.wanted.disk == index) {
            attached.device.disk = offer.shape_for(&attached.device);
        }
        exports.ask_all(move |queues, _, _| {
            for queue in queues.iter_mut().filter(|queue| queue.disk_index == index) {
                queue.disk = offer.disk.clone().filter(|_| offer.is_disk_of(&queue.device));
                queue.device.disk = offer.shape_for(&queue.device);
            }
        })
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

    pub(super) fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// Returns what consumers have.
    pub(super) fn consumers(&self) -> Vec<ConsumerStats> {
        let of = |(export, attached): (&u16, &Attached)| {
            let offer = self.offers.get(usize::from(attached.wanted.disk.0));
            let offer = offer.filter(|offer| offer.disk.is_some() && offer.is_disk_of(&attached.device));
            let dev = offer.map(|offer| offer.name.clone()).unwrap_or_default();
            let queues = attached.queues.values().filter(|queue| queue.stopped.is_none()).count() as u64;
            ConsumerStats { dev, export: *export, queues }
        };
        self.attached.iter().map(of).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.offers.iter().filter(|offer| offer.disk.is_some()).map(|offer| offer.name.clone()).collect()
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

    /// Returns the shape that a driver sees: without sectors, if it has found another disk.
    fn shape_for(&self, device: &BlkDevice) -> blk::DiskProperties {
        match self.is_disk_of(device) {
            true => self.shape_now(),
            false => blk::DiskProperties { sectors: 0, ..device.disk },
        }
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

/// Asks for a queue to be removed. The reply is the index at which it stopped.
fn remove(exports: &Exports, cpu: CpuIndex, name: Name) -> Asked<Option<u16>> {
    exports.ask(cpu, move |queues, exports| {
        let now = exports.clock.now_ns();
        queues.remove(now, name, exports.has_lease(now))
    })
}

/// Returns those that have no reply yet.
fn unanswered<R>(exports: &Exports, mut asked: Vec<Asked<R>>) -> Vec<Asked<R>> {
    asked.retain(|asked| exports.reply(asked).is_none());
    asked
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
