//! Exports: disks served to consumers, each a queue of requests in the consumer's own memory.
//!
//! | part | does | who |
//! |---|---|---|
//! | `admin` | the commands `export` and `unexport` | CPU 0 |
//! | `control` | what the bridge asks for over the control link | whoever polls it: CPU 0 |
//! | `station` | the queues of one CPU, polled | that CPU, or the keeper of the watch |
//! | `backend` | a request, on a disk | the CPU that polls its queue |
//! | `watch` | who looks after the queues of all | every CPU |
//! | `trace` | what happened lately | everybody |
//!
//! | what | written by | read by | how |
//! |---|---|---|---|
//! | the control state | who holds its lock | the same | lock |
//! | a CPU's queues | who holds the station's lock: the CPU in a poll, or the keeper of the watch; control, to add, change and remove | the same | lock |
//! | the keeper of the watch | that CPU | every CPU before it halts | release, acquire: see `watch` |
//! | a disk's `held` | CPU 0, for a check | who polls, under the station's lock | release, acquire: see `Exports::hold` |
//! | `lease_until` | control | every CPU before it touches a consumer's memory | release, acquire |
//! | `reports` | a CPU that found a broken queue | control | lock |
//!
//! Order of locks: control → station → lanes of a disk → a disk's map stripes; `reports` and nothing below it.
//! A queue that control removes under its station's lock is not touched any more: a poll answers what it has taken.

mod admin;
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

use super::disk::Disk;
use control::Control;
use station::Station;
use watch::Watch;

/// A consumer's memory, and the device that shows it.
pub trait Consumer: Send + Sync {
    /// Its id: the device's IVPosition.
    fn id(&self) -> MemoryId;

    /// The memory.
    fn memory(&self) -> &SharedWindow;

    /// Interrupts a peer: `peer << 16 | vector`.
    fn ring(&self, doorbell: u32);

    /// The CPU that looks after a queue whose kicks come by this vector: they wake it.
    fn cpu(&self, vector: u16) -> CpuIndex;
}

/// Refuses to take a disk away that consumers may have: whoever offers it holds it, too.
///
/// # Errors
/// Failed, with what to do.
pub(super) fn not_exported(disk: &Arc<Disk<AnyMedium>>) -> Result<(), AdminError> {
    if Arc::strong_count(disk) > 1 {
        return Err(AdminError::failed(format!("{} is exported: unexport {} first", disk.name, disk.name)));
    }
    Ok(())
}

/// What time it is, and how to wake a CPU.
pub trait Alarm: Send + Sync {
    /// Nanoseconds since the image began.
    fn now_ns(&self) -> u64;

    /// Makes a CPU look at its queues soon, also if it halts.
    fn wake(&self, cpu: CpuIndex);
}

/// What exports need of the machine.
pub struct Means {
    /// Time and waking.
    pub alarm: Arc<dyn Alarm>,
    /// Consumers' memory.
    pub consumers: Vec<Arc<dyn Consumer>>,
    /// The link to the bridge, if there is one: without it nothing is exported.
    pub link: Option<Box<dyn ByteLink + Send>>,
}

impl Means {
    /// No consumers, and no way to any.
    #[must_use]
    pub fn none() -> Self {
        Self { alarm: Arc::new(Nobody), consumers: Vec::new(), link: None }
    }
}

/// No time, and nobody to wake.
struct Nobody;

impl Alarm for Nobody {
    fn now_ns(&self) -> u64 {
        0
    }

    fn wake(&self, _: CpuIndex) {}
}

/// All exports. Shared by all CPUs.
pub struct Exports {
    alarm: Arc<dyn Alarm>,
    stations: Box<[Station]>,
    watch: Watch,
    /// Until when consumers' memory may be touched.
    lease_until_ns: AtomicU64,
    control: Mutex<Control>,
    /// What CPUs found and the bridge has still to hear.
    reports: Mutex<Vec<Report>>,
}

impl Exports {
    /// No exports yet, on a machine with `cpus` CPUs; `boot` is this run's number.
    pub(super) fn new(means: Means, cpus: u32, boot: u64) -> Self {
        Self {
            stations: (0..cpus.max(1)).map(|_| Station::new()).collect(),
            watch: Watch::new(),
            lease_until_ns: AtomicU64::new(0),
            control: Mutex::new(Control::new(means.link, means.consumers, boot)),
            reports: Mutex::new(Vec::new()),
            alarm: means.alarm,
        }
    }

    /// Serves this CPU's queues once, and all queues if it keeps watch. True if there was something to do, or may be.
    pub fn poll(&self, cpu: CpuIndex) -> bool {
        let keeper = self.watch.is_kept_by(cpu);
        if !keeper && self.station(cpu).is_empty() {
            return false;
        }
        let now = self.alarm.now_ns();
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

    /// Whether this CPU, which finds nothing to do, is the one that goes on looking while the others halt.
    ///
    /// CPU 0 never is if there are others: it has the console to look after, and commands to carry out.
    pub fn keeps_watch(&self, cpu: CpuIndex) -> bool {
        let may = cpu != CpuIndex(0) || self.stations.len() == 1;
        may && self.watch.is_calm() && self.watch.keep(cpu)
    }

    /// This CPU has something else to do: the others look after their own queues again.
    pub fn leave_watch(&self, cpu: CpuIndex) {
        if self.watch.leave(cpu) {
            self.others(cpu).for_each(|(other, _)| self.alarm.wake(other));
        }
    }

    /// Before a CPU halts: its queues' drivers kick from now on, unless somebody keeps watch. False if one has a request
    /// already.
    pub fn may_rest(&self, cpu: CpuIndex) -> bool {
        let kept = self.watch.leave(cpu);
        let now = self.alarm.now_ns();
        if !self.has_lease(now) || self.watch.is_kept() {
            return true; // a new lease wakes all; and so does the keeper whoever has a request
        }
        if kept {
            for (other, station) in self.others(cpu) {
                if !self.ask_for_kicks(station, now) {
                    self.alarm.wake(other);
                }
            }
        }
        self.ask_for_kicks(self.station(cpu), now)
    }

    /// How many requests it found.
    fn serve(&self, station: &Station, cpu: CpuIndex, now_ns: u64) -> u32 {
        if station.is_empty() { 0 } else { station.poll(cpu, now_ns, &mut |report| self.report(report)) }
    }

    /// False if there is a request already.
    fn ask_for_kicks(&self, station: &Station, now_ns: u64) -> bool {
        station.is_empty() || station.may_rest(now_ns, &mut |report| self.report(report))
    }

    /// Hears and answers the bridge. Never waits for it. True if there was something.
    pub fn poll_control(&self) -> bool {
        self.control.lock().poll(self)
    }

    /// What cannot wait until a long command is over: this CPU's queues and, on CPU 0, the bridge. The caller holds no lane
    /// of a disk that consumers use, unless it has its requests wait by [`Exports::hold`].
    pub(super) fn attend(&self, cpu: CpuIndex) {
        self.poll(cpu);
        if cpu == CpuIndex(0) {
            self.poll_control();
        }
    }

    /// Has consumers' requests on a disk wait until what this answers is dropped: the caller may take all lanes of it.
    pub(super) fn hold<'a>(&'a self, disk: &'a Disk<AnyMedium>) -> Hold<'a> {
        disk.hold(true);
        // Who polls a station now may not have seen that. Whoever comes after us does.
        for station in &self.stations {
            station.change(|_| ());
        }
        Hold { exports: self, disk }
    }

    /// Offers a disk to consumers, unless it was withdrawn before.
    pub(super) fn offer_new(&self, disk: &Arc<Disk<AnyMedium>>) {
        self.control.lock().offer(self, disk, false);
    }

    /// Offers a disk to consumers, again if it was withdrawn.
    pub(super) fn export(&self, disk: &Arc<Disk<AnyMedium>>) -> Result<(), AdminError> {
        self.control.lock().export(self, disk)
    }

    /// Withdraws a disk: its requests fail from now on, and nobody but the caller has it any more.
    pub(super) fn unexport(&self, name: &str) -> Result<(), AdminError> {
        self.control.lock().unexport(self, name)
    }

    /// Whether a consumer has this disk: its front end is attached.
    pub(super) fn has_consumer(&self, name: &str) -> bool {
        self.control.lock().has_consumer(name)
    }

    /// The disks that are offered.
    pub(super) fn names(&self) -> Vec<String> {
        self.control.lock().names()
    }

    /// What each queue of each export has done.
    pub(super) fn stats(&self) -> Vec<service::stats::QueueStats> {
        self.stations.iter().zip(0..).flat_map(|(station, cpu)| station.stats(cpu)).collect()
    }

    /// What happened lately, oldest first.
    pub(super) fn trace(&self) -> Vec<TraceEvent> {
        let mut events = self.control.lock().trace();
        for (station, cpu) in self.stations.iter().zip(0..) {
            events.extend(station.trace(cpu));
        }
        events.sort_by_key(|event| event.at);
        events
    }

    /// Whether consumers' memory may be touched.
    fn has_lease(&self, now_ns: u64) -> bool {
        now_ns < self.lease_until_ns.load(Ordering::Acquire)
    }

    /// The other CPUs that have queues.
    fn others(&self, cpu: CpuIndex) -> impl Iterator<Item = (CpuIndex, &Station)> {
        let all = (0..).map(CpuIndex).zip(&self.stations);
        all.filter(move |(other, station)| *other != cpu && !station.is_empty())
    }

    fn station(&self, cpu: CpuIndex) -> &Station {
        &self.stations[cpu.0 as usize % self.stations.len()]
    }

    /// For the bridge, from a CPU that serves queues.
    fn report(&self, report: Report) {
        self.reports.lock().push(report);
        self.alarm.wake(CpuIndex(0));
    }

    /// Makes every CPU that has queues look at them.
    fn wake_all(&self) {
        for (station, cpu) in self.stations.iter().zip(0..) {
            if !station.is_empty() {
                self.alarm.wake(CpuIndex(cpu));
            }
        }
    }
}

/// A disk whose requests wait.
pub(super) struct Hold<'a> {
    exports: &'a Exports,
    disk: &'a Disk<AnyMedium>,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.disk.hold(false);
        self.exports.wake_all();
    }
}
