//! The queues that one CPU serves, and whose turn it is.
//!
//! A step is for one consumer, and then the next consumer has its turn: one with many queues, or with large requests, waits as
//! long as one with a single queue and small requests. Within a consumer its queues have their turns.

use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use btt::CpuIndex;
use drivers::medium::AnyMedium;
use service::admin::commands::machine::TraceEvent;
use service::blk::{BlkDevice, BlkQueue, Budget, Progress, STEP_UNITS};
use service::control::{Call, DiskIndex, MemoryId, Report};
use service::memory::MemoryTable;
use service::stats::QueueStats;
use service::virtqueue::QueueError;

use super::backend::DiskBackend;
use super::balance::LOOK_NS;
use super::held::Count;
use super::trace::{Event, Name, Ring};
use super::{Consumer, Exports};
use crate::node::disk::BttDisk;
use crate::watchdog::Serving;

/// A queue that is served.
pub(super) struct Running {
    pub(super) name: Name,
    pub(super) consumer: Arc<dyn Consumer>,
    /// The vector by which its kicks come: it wakes the CPU that has the queue.
    pub(super) kick_vector: u16,
    pub(super) call: Option<Call>,
    pub(super) device: BlkDevice,
    pub(super) table: Arc<MemoryTable>,
    pub(super) ring: BlkQueue,
    pub(super) disk_index: DiskIndex,
    /// `None` after the disk was withdrawn: then the queue's requests fail.
    pub(super) disk: Option<Arc<BttDisk<AnyMedium>>>,
    /// Its driver was asked for a kick, and no request has come since.
    pub(super) resting: bool,
    pub(super) counts: Counts,
    /// How long its steps took, since [`Queues::give`] looked last.
    pub(super) busy_ns: u64,
}

/// What a queue has done since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    requests: u64,
    failed: u64,
    calls: u64,
    rests: u64,
}

impl Running {
    /// Does a step.
    fn step(&mut self, cpu: CpuIndex, may: &dyn Fn() -> bool) -> Progress {
        let memory = self.consumer.memory();
        let mut backend = DiskBackend { disk: self.disk.as_deref(), cpu };
        let mut progress =
            self.ring.poll(&self.device, &self.table, memory, &mut backend, Budget { units: STEP_UNITS, may });
        self.resting &= progress.served == 0;
        progress.call &= self.call.is_some();
        if progress.call {
            self.ring_driver();
        }
        self.counts.requests += u64::from(progress.served);
        self.counts.failed += u64::from(progress.failed);
        progress
    }

    /// Returns whether its requests wait: its disk is suspended for a check.
    fn is_suspended(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is_suspended())
    }

    /// Interrupts the driver.
    pub(super) fn ring_driver(&mut self) {
        if let Some(call) = self.call {
            self.consumer.ring(call.doorbell());
            self.counts.calls += 1;
        }
    }

    fn broken(&self, why: QueueError) -> Report {
        let Name(export, queue) = self.name;
        Report::Broken { export, queue, used: self.ring.base(), reason: why.to_string() }
    }

    fn stats(&self, cpu: u32) -> QueueStats {
        QueueStats {
            dev: self.disk.as_ref().map_or_else(Default::default, |disk| disk.name.clone()),
            export: self.name.0.0,
            queue: self.name.1.0,
            cpu,
            requests: self.counts.requests,
            failed: self.counts.failed,
            interrupts: self.counts.calls,
            rests: self.counts.rests,
            broken: self.ring.broken().is_some(),
        }
    }
}

/// A consumer's queues. There is at least one.
struct OfConsumer {
    memory: MemoryId,
    queues: Vec<Running>,
    /// The queue whose turn it is.
    turn: usize,
}

/// A CPU's queues.
pub(super) struct Queues {
    consumers: Vec<OfConsumer>,
    /// The consumer whose turn it is.
    turn: usize,
    /// The consumer and the queue that had work in the last step that had any.
    stepped: (usize, usize),
    /// Since when [`Running::busy_ns`] is counted, and how long the CPU had been busy by then, in nanoseconds since boot.
    counted_since: (u64, u64),
    trace: Ring,
}

impl Count for Queues {
    fn count(&self) -> usize {
        self.consumers.iter().map(|consumer| consumer.queues.len()).sum()
    }
}

impl Queues {
    pub(super) fn new() -> Self {
        Self { consumers: Vec::new(), turn: 0, stepped: (0, 0), counted_since: (0, 0), trace: Ring::new() }
    }

    /// Returns how many consumers there are: as many steps are a round.
    pub(super) fn consumers(&self) -> usize {
        self.consumers.len()
    }

    /// Does a step for the consumer whose turn it is: with the first of its queues that has work. Returns how many requests
    /// were served, and one more if the queue has more.
    pub(super) fn step(&mut self, exports: &Exports, cpu: CpuIndex) -> u32 {
        let (consumers, at) = (self.consumers.len(), self.turn);
        let Some(consumer) = self.consumers.get_mut(at) else { return 0 };
        self.turn = (self.turn + 1) % consumers;
        let queues = consumer.queues.len();
        for _ in 0..queues {
            let queue_at = consumer.turn;
            let queue = &mut consumer.queues[queue_at];
            consumer.turn = (consumer.turn + 1) % queues;
            if queue.is_suspended() {
                continue;
            }
            let Name(export, number) = queue.name;
            exports.waker.serves(Serving::Queue { export: export.0, queue: number.0 });
            // One of a disk on virtio-pmem may wait for FLUSHes for longer than a lease lasts (invariant 13).
            let progress = queue.step(cpu, &|| exports.has_lease_now());
            if progress.served > 0 {
                let Progress { served: requests, failed, call: called, .. } = progress;
                self.trace.push(exports.clock.now_ns(), Event::Served { queue: queue.name, requests, failed, called });
            }
            if let Some(why) = progress.broken {
                exports.report(queue.broken(why));
            }
            if progress.served > 0 || progress.more {
                self.stepped = (at, queue_at);
                return progress.served + u32::from(progress.more);
            }
        }
        0
    }

    /// Charges the queue that had work in the step that was just done.
    pub(super) fn charge(&mut self, took_ns: u64) {
        let (consumer, queue) = self.stepped;
        self.consumers[consumer].queues[queue].busy_ns += took_ns;
    }

    /// Asks every driver for a kick, but those of suspended disks, whose CPUs are woken when the suspension ends.
    /// Without a lease they are left alone (invariant 13). Returns false if a request waits already.
    pub(super) fn may_rest(&mut self, exports: &Exports) -> bool {
        let mut rest = true;
        let queues = self.consumers.iter_mut().flat_map(|consumer| &mut consumer.queues);
        for queue in queues.filter(|queue| !queue.is_suspended() && queue.ring.broken().is_none()) {
            if !exports.has_lease_now() {
                break;
            }
            match queue.ring.rest(queue.consumer.memory()) {
                Ok(true) => {
                    if !core::mem::replace(&mut queue.resting, true) {
                        queue.counts.rests += 1;
                        self.trace.push(exports.clock.now_ns(), Event::Rests { queue: queue.name });
                    }
                }
                Ok(false) => rest = false,
                Err(why) => {
                    exports.report(queue.broken(why));
                }
            }
        }
        rest
    }

    /// Adds a queue.
    pub(super) fn add(&mut self, now_ns: u64, queue: Running) {
        self.trace.push(now_ns, Event::Started { queue: queue.name, base: queue.ring.base() });
        self.insert(queue);
    }

    fn insert(&mut self, queue: Running) {
        let memory = queue.consumer.id();
        match self.consumers.iter_mut().find(|consumer| consumer.memory == memory) {
            Some(consumer) => consumer.queues.push(queue),
            None => self.consumers.push(OfConsumer { memory, queues: vec![queue], turn: 0 }),
        }
    }

    /// Removes a queue and returns the index at which it stopped. Its memory is not touched afterwards; without a
    /// `lease` it is not touched here either.
    pub(super) fn remove(&mut self, now_ns: u64, name: Name, lease: bool) -> Option<u16> {
        let Running { ring, consumer, .. } = self.take(name)?;
        let base = if lease { ring.stop(consumer.memory()) } else { ring.base() };
        self.trace.push(now_ns, Event::Stopped { queue: name, base });
        Some(base)
    }

    /// Takes the queues out that are better off with another CPU: those of one kick vector, the ones that took most time of
    /// those that took no more than half of what the CPU was busy, which by now is `busy_ns` since boot. The caller puts them
    /// where that vector will wake a CPU ([`Queues::put`]). `None`: there are none, or the time has been counted for too long
    /// to tell how it is now.
    pub(super) fn give(&mut self, now_ns: u64, busy_ns: u64) -> Option<(Arc<dyn Consumer>, u16, Vec<Running>)> {
        let (since_ns, before_ns) = core::mem::replace(&mut self.counted_since, (now_ns, busy_ns));
        let is_recent = now_ns.saturating_sub(since_ns) <= 3 * LOOK_NS;
        let all_ns = busy_ns.saturating_sub(before_ns);
        let mut groups = BTreeMap::new();
        for queue in self.iter_mut() {
            let busy_ns = core::mem::take(&mut queue.busy_ns);
            let (of_group, names) = groups.entry((queue.consumer.id(), queue.kick_vector)).or_insert((0, Vec::new()));
            *of_group += busy_ns;
            names.push(queue.name);
        }
        let may = groups.into_values().filter(|(busy_ns, _)| is_recent && *busy_ns > 0 && busy_ns * 2 <= all_ns);
        let (_, names) = may.max_by_key(|(busy_ns, _)| *busy_ns)?;
        let taken: Vec<Running> = names.into_iter().filter_map(|name| self.take(name)).collect();
        let first = taken.first()?;
        Some((Arc::clone(&first.consumer), first.kick_vector, taken))
    }

    /// Adds queues of another CPU.
    pub(super) fn put(&mut self, now_ns: u64, queues: Vec<Running>) {
        for queue in queues {
            self.trace.push(now_ns, Event::Moved { queue: queue.name });
            self.insert(queue);
        }
    }

    /// Adds queues that were taken out in vain.
    pub(super) fn put_back(&mut self, queues: Vec<Running>) {
        queues.into_iter().for_each(|queue| self.insert(queue));
    }

    fn take(&mut self, name: Name) -> Option<Running> {
        let mut found = None;
        for (at, consumer) in self.consumers.iter_mut().enumerate() {
            let Some(queue) = consumer.queues.iter().position(|queue| queue.name == name) else { continue };
            found = Some((at, consumer.queues.remove(queue)));
            // The turns of the others stay as they are.
            consumer.turn -= usize::from(queue < consumer.turn);
            if consumer.turn == consumer.queues.len() {
                consumer.turn = 0;
            }
        }
        let (at, queue) = found?;
        if self.consumers[at].queues.is_empty() {
            self.consumers.remove(at);
            self.turn -= usize::from(at < self.turn);
            if self.turn == self.consumers.len() {
                self.turn = 0;
            }
        }
        Some(queue)
    }

    /// Returns the queue of that name, if it is here.
    pub(super) fn get_mut(&mut self, name: Name) -> Option<&mut Running> {
        self.iter_mut().find(|queue| queue.name == name)
    }

    /// Returns all queues.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        self.consumers.iter_mut().flat_map(|consumer| &mut consumer.queues)
    }

    /// Returns the counters of each queue, as those of this CPU.
    pub(super) fn stats(&self, cpu: u32) -> Vec<QueueStats> {
        self.consumers.iter().flat_map(|consumer| &consumer.queues).map(|queue| queue.stats(cpu)).collect()
    }

    /// Returns the latest events, as those of this CPU.
    pub(super) fn trace(&self, cpu: u32) -> Vec<TraceEvent> {
        self.trace.show(cpu).collect()
    }
}
