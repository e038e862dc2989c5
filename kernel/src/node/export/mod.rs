//! Exports: disks served to consumers, each a queue of requests in the consumer's own memory.
//!
//! | part | does | runs on |
//! |---|---|---|
//! | `admin` | the commands `export` and `unexport` | CPU 0 |
//! | `attended` | sends a reply, and attends to consumers meanwhile | CPU 0 |
//! | `control` | carries out what the bridge requests over the control link | CPU 0 |
//! | `station` | a CPU's queues, which it serves in rounds | that CPU, or the keeper of the watch |
//! | `queues` | serves them step by step, each consumer in its turn | the same |
//! | `balance` | tells which CPU is better off with fewer queues | CPU 0 |
//! | `held` | who has them, and how others ask for something | every CPU |
//! | `mailbox` | what a CPU is asked to do with them | every CPU |
//! | `sync` | locks and atomics of these two | every CPU |
//! | `backend` | carries out a request on a disk | the CPU that polls its queue |
//! | `watch` | chooses the CPU that polls all queues while the others halt | every CPU |
//! | `trace` | keeps the latest steps of queues | every CPU |
//!
//! | what | written by | read by | how |
//! |---|---|---|---|
//! | the control state | the holder of its lock | the same | lock |
//! | a CPU's queues | who has them: the CPU in a poll, or the keeper of the watch; while none polls, who asks for something | the same | lock, which only the two wait for, and, for two rounds at most, who moves queues |
//! | letters to it | CPU 0, to add, change and remove queues | who has the queues | lock, held to post or to take one |
//! | the keeper of the watch | that CPU | every CPU before it halts | release, acquire: see `watch` |
//! | how long a CPU's queues were served | who has them | CPU 0 | relaxed: it is a measure |
//! | a disk's `suspended` | CPU 0, for a check | who has the queues | release, acquire: see `Exports::suspend` |
//! | `lease_until_ns` | control | every CPU before it touches a consumer's memory | release, acquire |
//! | `reports` | a CPU that found a broken queue | control | lock |
//!
//! Order of locks: control → station → another station, which is only tried → a disk's own (invariant 9); letters, a reply or
//! `reports`, and nothing below it. Control waits for no station, but for two rounds where it moves queues: it asks, and
//! replies to the bridge when it has the reply, which takes a step at most. After a queue was removed no CPU touches it. A
//! request that a poll has taken is complete by then, or is one that it has carried out in part: that one is not in the used
//! ring, and is carried out from its beginning by whatever serves the queue next.

mod admin;
mod attended;
mod backend;
mod balance;
mod control;
mod held;
mod mailbox;
mod queues;
mod station;
mod sync;
mod trace;
mod watch;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use btt::CpuIndex;
use drivers::medium::AnyMedium;
use drivers::shared::SharedWindow;
use service::admin::commands::machine::TraceEvent;
use service::control::{MemoryId, Report};
use service::error::AdminError;
use service::events::{Kind, Severity};
use service::link::ByteLink;
use spin::Mutex;

pub use super::clock::Clock;
use super::disk::BttDisk;
use super::network::Networks;
pub use super::waker::Waker;
use crate::events::{News, SharedJournal};
pub use attended::AttendedLink;
use control::Control;
use mailbox::Reply;
use queues::Queues;
use station::Station;
use trace::Name;
use watch::Watch;

/// A consumer's memory, and the device that shows it.
pub trait Consumer: Send + Sync {
    /// Returns its id: the device's IVPosition.
    fn id(&self) -> MemoryId;

    /// Returns the memory.
    fn memory(&self) -> &SharedWindow;

    /// Interrupts a peer: `peer << 16 | vector`.
    fn ring(&self, doorbell: u32);

    /// Returns the CPU to serve the queues whose kicks come by this vector, as long as none is busy.
    fn cpu(&self, vector: u16) -> CpuIndex;

    /// Has this vector's kicks wake that CPU from now on. Returns false, with nothing changed, if they cannot.
    fn wakes(&self, vector: u16, cpu: CpuIndex) -> bool;
}

/// Refuses to take a disk away that consumers or hosts may have: an offer shares it. (So does a command that has it in hand,
/// which is waited for.)
///
/// # Errors
/// Failed, with what to do.
pub(super) fn not_exported(disk: &Arc<BttDisk<AnyMedium>>) -> Result<(), AdminError> {
    if Arc::strong_count(disk) > 1 + disk.held() {
        let name = &disk.name;
        return Err(AdminError::failed(format!(
            "{name} is exported: unexport {name} first, and unexport {name} --nvme if status shows it there"
        )));
    }
    Ok(())
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

/// The CPU that has the console and the link to the bridge.
const CONTROL_CPU: CpuIndex = CpuIndex(0);

/// Something that a CPU was asked for.
struct Asked<R> {
    of: CpuIndex,
    reply: Reply<R>,
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
    /// The network, which is attended to as consumers are.
    networks: Arc<Networks>,
    /// Where it is told who comes and goes.
    journal: SharedJournal,
    /// Reports of the CPUs that have not been sent to the bridge yet.
    reports: Mutex<Vec<Report>>,
}

impl Exports {
    /// Makes exports of no disks, on a machine with `cpus` CPUs; `boot` is this run's number.
    pub(super) fn new(
        services: ExportServices,
        journal: SharedJournal,
        networks: Arc<Networks>,
        cpus: u32,
        boot: u64,
    ) -> Self {
        Self {
            stations: (0..cpus.max(1)).map(|_| Station::new()).collect(),
            watch: Watch::new(),
            lease_until_ns: AtomicU64::new(0),
            control: Mutex::new(Control::new(services.link, services.consumers, cpus, boot)),
            networks,
            journal,
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
        if !self.has_lease_now() {
            self.station(cpu).queues.carry_out(self);
            return false;
        }
        let mut found = self.serve(self.station(cpu), cpu);
        if keeper {
            found += self.others(cpu).map(|(_, station)| self.serve(station, cpu)).sum::<u32>();
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
        let may = cpu != CONTROL_CPU || self.stations.len() == 1;
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
        if !self.has_lease_now() || self.watch.is_kept() {
            return true; // a new lease wakes all CPUs, and the keeper polls all queues
        }
        if kept {
            for (other, station) in self.others(cpu) {
                if !self.ask_for_kicks(station) {
                    self.waker.wake(other);
                }
            }
        }
        self.ask_for_kicks(self.station(cpu))
    }

    /// Polls a station and returns how many requests it found.
    fn serve(&self, station: &Station, cpu: CpuIndex) -> u32 {
        if station.is_empty() { 0 } else { station.poll(self, cpu) }
    }

    /// Asks a station's drivers for kicks. Returns false if a request waits already.
    fn ask_for_kicks(&self, station: &Station) -> bool {
        station.is_empty() || station.may_rest(self)
    }

    /// Has something done with a CPU's queues.
    fn ask<R: Send + 'static>(
        &self,
        of: CpuIndex,
        what: impl FnOnce(&mut Queues, &Self) -> R + Send + 'static,
    ) -> Asked<R> {
        Asked { of, reply: self.station(of).queues.ask(self, what) }
    }

    /// Has something done with the queues of every CPU: one that has none may have been asked for one just now.
    fn ask_all<R: Send + 'static>(
        &self,
        what: impl Fn(&mut Queues, &Self, CpuIndex) -> R + Clone + Send + 'static,
    ) -> Vec<Asked<R>> {
        let ask = |of| {
            let what = what.clone();
            self.ask(of, move |queues, exports| what(queues, exports, of))
        };
        (0..).map(CpuIndex).take(self.stations.len()).map(ask).collect()
    }

    /// Returns a reply, if it is there.
    fn reply<R>(&self, asked: &Asked<R>) -> Option<R> {
        self.station(asked.of).queues.reply(self, &asked.reply)
    }

    /// Waits for replies: for a step at most, if all CPUs run. The caller is CPU 0, and holds no lock.
    fn wait_for<R>(&self, asked: Vec<Asked<R>>) -> Vec<R> {
        let wait = |asked| loop {
            if let Some(reply) = self.reply(&asked) {
                break reply;
            }
            self.attend(CONTROL_CPU);
        };
        asked.into_iter().map(wait).collect()
    }

    /// Takes in the bridge's requests and replies to them, without waiting for any. Returns whether there was one.
    pub fn poll_control(&self) -> bool {
        self.control.lock().poll(self)
    }

    /// Makes a step of each of this CPU's network interfaces. Its time counts as the CPU's load. Returns whether there was
    /// anything to do.
    pub fn poll_networks(&self, cpu: CpuIndex) -> bool {
        let begun_ns = self.clock.now_ns();
        let worked = self.networks.poll(cpu, begun_ns);
        if worked {
            self.station(cpu).count_networks(self.clock.now_ns().saturating_sub(begun_ns));
        }
        worked
    }

    /// Does what cannot wait until a long command is over: polls this CPU's queues and network interfaces and, on CPU 0, the
    /// bridge. The caller holds no lane of a disk that consumers use, unless it has suspended the disk
    /// ([`Exports::suspend`]).
    pub(super) fn attend(&self, cpu: CpuIndex) {
        self.waker.turn();
        self.poll(cpu);
        self.poll_networks(cpu);
        if cpu == CONTROL_CPU {
            self.poll_control();
        }
    }

    /// Suspends consumers' requests on `disk` until the returned guard is dropped, so that the caller may take all its
    /// lanes.
    pub(super) fn suspend<'a>(&'a self, disk: &'a BttDisk<AnyMedium>) -> Suspension<'a> {
        disk.set_suspended(true);
        // A step under way may have missed the flag. When its CPU has done what it is asked for, it has ended, and later ones
        // see the flag.
        let asked = self.ask_all(|_, _, _| ());
        self.wait_for(asked);
        self.networks.wait_for_steps();
        Suspension { exports: self, disk }
    }

    /// Offers a disk to consumers, unless it was withdrawn before.
    pub(super) fn offer_new(&self, disk: &Arc<BttDisk<AnyMedium>>) {
        let asked = self.control.lock().offer(self, disk, false);
        self.wait_for(asked.unwrap_or_default());
    }

    /// Offers a disk to consumers, again if it was withdrawn.
    pub(super) fn export(&self, disk: &Arc<BttDisk<AnyMedium>>) -> Result<(), AdminError> {
        let asked = self.control.lock().export(self, disk)?;
        self.wait_for(asked);
        Ok(())
    }

    /// Withdraws a disk: its requests fail from now on, and only the caller's reference to it is left.
    pub(super) fn unexport(&self, name: &str) -> Result<(), AdminError> {
        let asked = self.control.lock().unexport(self, name)?;
        self.wait_for(asked);
        Ok(())
    }

    /// Returns whether a consumer has this disk: its front end is attached.
    pub(super) fn has_consumer(&self, name: &str) -> bool {
        self.control.lock().has_consumer(name)
    }

    /// Returns whether there is a bridge to consumers.
    pub(super) fn has_bridge(&self) -> bool {
        self.control.lock().has_link()
    }

    /// Returns the names of the disks that are offered.
    pub(super) fn names(&self) -> Vec<String> {
        self.control.lock().names()
    }

    /// Returns the counters of each queue of each export.
    pub(super) fn stats(&self) -> Vec<service::stats::QueueStats> {
        let asked = self.ask_all(|queues, _, cpu| queues.stats(cpu.0));
        self.wait_for(asked).into_iter().flatten().collect()
    }

    /// Returns what consumers have.
    pub(super) fn consumers(&self) -> Vec<service::stats::ConsumerStats> {
        self.control.lock().consumers()
    }

    /// Returns the machine's clock.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Returns what wakes the machine's CPUs.
    pub(super) fn waker(&self) -> Arc<dyn Waker> {
        Arc::clone(&self.waker)
    }

    /// Tells of a consumer or its bridge.
    fn tell(&self, severity: Severity, place: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        self.journal.as_ref().as_ref().tell(&News { severity, kind: Kind::Consumer, place, what });
    }

    /// Returns the latest steps of all queues.
    pub(super) fn trace(&self) -> Vec<TraceEvent> {
        let asked = self.ask_all(|queues, _, cpu| queues.trace(cpu.0));
        self.wait_for(asked).into_iter().flatten().collect()
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
        if let Report::Broken { export, queue, reason, .. } = &report {
            let place = Name(*export, *queue);
            self.tell(Severity::Warning, &place, format_args!("broken by its driver: {reason}"));
        }
        self.reports.lock().push(report);
        self.waker.wake(CONTROL_CPU);
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
