//! Exports: disks served to consumers, each a queue of requests in the consumer's own memory.
//!
//! | part | does | runs on |
//! |---|---|---|
//! | `admin` | the commands `export` and `unexport` | CPU 0 |
//! | `attended` | sends a reply, and attends to consumers meanwhile | CPU 0 |
//! | `control` | carries out what the bridge requests over the control link | CPU 0 |
//! | `station` | polls the queues of one CPU | that CPU, or the keeper of the watch |
//! | `backend` | carries out a request on a disk | the CPU that polls its queue |
//! | `watch` | chooses the CPU that polls all queues while the others halt | every CPU |
//! | `trace` | keeps the latest events | every CPU |
//!
//! | what | written by | read by | how |
//! |---|---|---|---|
//! | the control state | the holder of its lock | the same | lock |
//! | a CPU's queues | the holder of the station's lock: the CPU in a poll, or the keeper of the watch; control, to add, change and remove | the same | lock |
//! | the keeper of the watch | that CPU | every CPU before it halts | release, acquire: see `watch` |
//! | a disk's `suspended` | CPU 0, for a check | a poll, under the station's lock | release, acquire: see `Exports::suspend` |
//! | `lease_until_ns` | control | every CPU before it touches a consumer's memory | release, acquire |
//! | `reports` | a CPU that found a broken queue | control | lock |
//!
//! Order of locks: control → station → a disk's own (invariant 9); `reports` and nothing below it. After
//! control has removed a queue under its station's lock, no CPU touches it. A request that a poll has taken is complete
//! by then, or is one that it has carried out in part: that one is not in the used ring, and is carried out from its
//! beginning by whatever serves the queue next.

mod admin;
mod attended;
mod backend;
mod control;
mod station;
mod trace;
mod watch;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use btt::CpuIndex;
use drivers::medium::AnyMedium;
use drivers::shared::SharedWindow;
use service::admin::commands::machine::TraceEvent;
use service::control::{MemoryId, Report};
use service::error::AdminError;
use service::link::ByteLink;
use spin::Mutex;

use super::disk::BttDisk;
pub use attended::AttendedLink;
use control::Control;
use station::Station;
use watch::Watch;

/// A consumer's memory, and the device that shows it.
pub trait Consumer: Send + Sync {
    /// Returns its id: the device's IVPosition.
    fn id(&self) -> MemoryId;

    /// Returns the memory.
    fn memory(&self) -> &SharedWindow;

    /// Interrupts a peer: `peer << 16 | vector`.
    fn ring(&self, doorbell: u32);

    /// Returns the CPU that serves a queue whose kicks come by this vector: they wake it.
    fn cpu(&self, vector: u16) -> CpuIndex;
}

/// Refuses to take a disk away that consumers may have: an offer shares it.
///
/// # Errors
/// Failed, with what to do.
pub(super) fn not_exported(disk: &Arc<BttDisk<AnyMedium>>) -> Result<(), AdminError> {
    if Arc::strong_count(disk) > 1 {
        return Err(AdminError::failed(format!("{} is exported: unexport {} first", disk.name, disk.name)));
    }
    Ok(())
}

/// The machine's clock.
pub trait Clock: Send + Sync {
    /// Returns the nanoseconds since the image began.
    fn now_ns(&self) -> u64;
}

/// Wakes the machine's CPUs.
pub trait Waker: Send + Sync {
    /// Makes a CPU look at its queues soon, also if it halts.
    fn wake(&self, cpu: CpuIndex);
}

/// What exports need of the machine.
pub struct ExportServices {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Waking CPUs.
    pub waker: Arc<dyn Waker>,
    /// Consumers' memory.
    pub consumers: Vec<Arc<dyn Consumer>>,
    /// The link to the bridge, if there is one: without it nothing is exported.
    pub link: Option<Box<dyn ByteLink + Send>>,
}

impl ExportServices {
    /// Returns the services of a machine without consumers and without a link.
    #[must_use]
    pub fn none() -> Self {
        Self { clock: Arc::new(NoHardware), waker: Arc::new(NoHardware), consumers: Vec::new(), link: None }
    }
}

/// A clock that stands still, and no CPU to wake.
struct NoHardware;

impl Clock for NoHardware {
    fn now_ns(&self) -> u64 {
        0
    }
}

impl Waker for NoHardware {
    fn wake(&self, _: CpuIndex) {}
}

/// All exports. Shared by all CPUs.
pub struct Exports {
    clock: Arc<dyn Clock>,
    waker: Arc<dyn Waker>,
    stations: Box<[Station]>,
    watch: Watch,
    /// The time until which consumers' memory may be touched.
    lease_until_ns: AtomicU64,
    control: Mutex<Control>,
    /// Reports of the CPUs that have not been sent to the bridge yet.
    reports: Mutex<Vec<Report>>,
}

impl Exports {
    /// Makes exports of no disks, on a machine with `cpus` CPUs; `boot` is this run's number.
    pub(super) fn new(services: ExportServices, cpus: u32, boot: u64) -> Self {
        Self {
            stations: (0..cpus.max(1)).map(|_| Station::new()).collect(),
            watch: Watch::new(),
            lease_until_ns: AtomicU64::new(0),
            control: Mutex::new(Control::new(services.link, services.consumers, boot)),
            reports: Mutex::new(Vec::new()),
            clock: services.clock,
            waker: services.waker,
        }
    }

    /// Polls this CPU's queues once, and all queues if it keeps watch. Returns whether a request was served, or more
    /// wait.
    pub fn poll(&self, cpu: CpuIndex) -> bool {
        let keeper = self.watch.is_kept_by(cpu);
        if !keeper && self.station(cpu).is_empty() {
            return false;
        }
        let now = self.clock.now_ns();
        if !self.has_lease(now) {
            return false;
        }
        let mut found = self.serve(self.station(cpu), cpu, now);
        if keeper {
            found += self.others(cpu).map(|(_, station)| self.serve(station, cpu, now)).sum::<u32>();
        }
        self.watch.found(found);
        if keeper && !self.watch.is_calm() {
            self.leave_watch(cpu);
        }
        found > 0
    }

    /// Returns whether this idle CPU goes on polling while the others halt.
    ///
    /// CPU 0 never does if there are others: it has the console to serve, and commands to carry out.
    pub fn keeps_watch(&self, cpu: CpuIndex) -> bool {
        let may = cpu != CpuIndex(0) || self.stations.len() == 1;
        may && self.watch.is_calm() && self.watch.keep(cpu)
    }

    /// Ends this CPU's watch, if it keeps it: the others poll their own queues again.
    pub fn leave_watch(&self, cpu: CpuIndex) {
        if self.watch.leave(cpu) {
            self.others(cpu).for_each(|(other, _)| self.waker.wake(other));
        }
    }

    /// Called before a CPU halts: asks its queues' drivers to kick from now on, unless another CPU keeps watch. Returns
    /// false if a request waits already.
    pub fn may_rest(&self, cpu: CpuIndex) -> bool {
        let kept = self.watch.leave(cpu);
        let now = self.clock.now_ns();
        if !self.has_lease(now) || self.watch.is_kept() {
            return true; // a new lease wakes all CPUs, and the keeper polls all queues
        }
        if kept {
            for (other, station) in self.others(cpu) {
                if !self.ask_for_kicks(station, now) {
                    self.waker.wake(other);
                }
            }
        }
        self.ask_for_kicks(self.station(cpu), now)
    }

    /// Polls a station and returns how many requests it found.
    fn serve(&self, station: &Station, cpu: CpuIndex, now_ns: u64) -> u32 {
        if station.is_empty() {
            return 0;
        }
        station.poll(cpu, now_ns, &|| self.has_lease_now(), &mut |report| self.report(report))
    }

    /// Asks a station's drivers for kicks. Returns false if a request waits already.
    fn ask_for_kicks(&self, station: &Station, now_ns: u64) -> bool {
        station.is_empty() || station.may_rest(now_ns, &|| self.has_lease_now(), &mut |report| self.report(report))
    }

    /// Takes in the bridge's requests and replies to them, without waiting for any. Returns whether there was one.
    pub fn poll_control(&self) -> bool {
        self.control.lock().poll(self)
    }

    /// Does what cannot wait until a long command is over: polls this CPU's queues and, on CPU 0, the bridge. The
    /// caller holds no lane of a disk that consumers use, unless it has suspended the disk ([`Exports::suspend`]).
    pub(super) fn attend(&self, cpu: CpuIndex) {
        self.poll(cpu);
        if cpu == CpuIndex(0) {
            self.poll_control();
        }
    }

    /// Suspends consumers' requests on `disk` until the returned guard is dropped, so that the caller may take all its
    /// lanes.
    pub(super) fn suspend<'a>(&'a self, disk: &'a BttDisk<AnyMedium>) -> Suspension<'a> {
        disk.set_suspended(true);
        // A poll under way may have missed the flag: taking each station's lock once waits for it, and later polls see
        // the flag.
        for station in &self.stations {
            station.change(|_| ());
        }
        Suspension { exports: self, disk }
    }

    /// Offers a disk to consumers, unless it was withdrawn before.
    pub(super) fn offer_new(&self, disk: &Arc<BttDisk<AnyMedium>>) {
        self.control.lock().offer(self, disk, false);
    }

    /// Offers a disk to consumers, again if it was withdrawn.
    pub(super) fn export(&self, disk: &Arc<BttDisk<AnyMedium>>) -> Result<(), AdminError> {
        self.control.lock().export(self, disk)
    }

    /// Withdraws a disk: its requests fail from now on, and only the caller's reference to it is left.
    pub(super) fn unexport(&self, name: &str) -> Result<(), AdminError> {
        self.control.lock().unexport(self, name)
    }

    /// Returns whether a consumer has this disk: its front end is attached.
    pub(super) fn has_consumer(&self, name: &str) -> bool {
        self.control.lock().has_consumer(name)
    }

    /// Returns the names of the disks that are offered.
    pub(super) fn names(&self) -> Vec<String> {
        self.control.lock().names()
    }

    /// Returns the counters of each queue of each export.
    pub(super) fn stats(&self) -> Vec<service::stats::QueueStats> {
        self.stations.iter().zip(0..).flat_map(|(station, cpu)| station.stats(cpu)).collect()
    }

    /// Returns the latest events, oldest first.
    pub(super) fn trace(&self) -> Vec<TraceEvent> {
        let mut events = self.control.lock().trace();
        for (station, cpu) in self.stations.iter().zip(0..) {
            events.extend(station.trace(cpu));
        }
        events.sort_by_key(|event| event.at);
        events
    }

    /// Returns whether consumers' memory may be touched (invariant 13).
    fn has_lease(&self, now_ns: u64) -> bool {
        now_ns < self.lease_until_ns.load(Ordering::Acquire)
    }

    /// The same at this moment: a round over many queues takes its time.
    fn has_lease_now(&self) -> bool {
        self.has_lease(self.clock.now_ns())
    }

    /// Returns the other CPUs that have queues.
    fn others(&self, cpu: CpuIndex) -> impl Iterator<Item = (CpuIndex, &Station)> {
        let all = (0..).map(CpuIndex).zip(&self.stations);
        all.filter(move |(other, station)| *other != cpu && !station.is_empty())
    }

    fn station(&self, cpu: CpuIndex) -> &Station {
        &self.stations[cpu.0 as usize % self.stations.len()]
    }

    /// Queues a report to the bridge, for CPU 0 to send.
    fn report(&self, report: Report) {
        self.reports.lock().push(report);
        self.waker.wake(CpuIndex(0));
    }

    /// Wakes every CPU that has queues.
    fn wake_all(&self) {
        for (station, cpu) in self.stations.iter().zip(0..) {
            if !station.is_empty() {
                self.waker.wake(CpuIndex(cpu));
            }
        }
    }
}

/// Keeps a disk's requests waiting until it is dropped.
pub(super) struct Suspension<'a> {
    exports: &'a Exports,
    disk: &'a BttDisk<AnyMedium>,
}

impl Drop for Suspension<'_> {
    fn drop(&mut self) {
        self.disk.set_suspended(false);
        self.exports.wake_all();
    }
}
