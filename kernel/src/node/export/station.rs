//! The queues that one CPU serves.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use btt::CpuIndex;
use drivers::medium::AnyMedium;
use service::admin::commands::machine::TraceEvent;
use service::blk::{BlkDevice, BlkQueue, Budget, Progress, STEP_UNITS};
use service::control::{Call, DiskIndex, Report};
use service::memory::MemoryTable;
use service::stats::QueueStats;
use service::virtqueue::QueueError;
use spin::Mutex;

use super::Consumer;
use super::backend::DiskBackend;
use super::trace::{Event, Name, Ring};
use crate::node::disk::BttDisk;

/// A queue that is served.
pub(super) struct Running {
    pub(super) name: Name,
    pub(super) consumer: Arc<dyn Consumer>,
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
    fn poll(&mut self, cpu: CpuIndex, may: &dyn Fn() -> bool) -> Progress {
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
}

/// A CPU's queues.
pub(super) struct Station {
    inner: Mutex<Inner>,
    /// How many queues there are, readable without the lock.
    count: AtomicUsize,
}

struct Inner {
    queues: Vec<Running>,
    trace: Ring,
}

impl Station {
    pub(super) fn new() -> Self {
        Self { inner: Mutex::new(Inner { queues: Vec::new(), trace: Ring::new() }), count: AtomicUsize::new(0) }
    }

    /// Returns whether it has no queues. The answer may miss a queue that was just added: [`Station::add`]'s caller
    /// wakes the CPU.
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Polls each queue once, as long as `may` returns true (invariant 13): one of a disk on virtio-pmem may wait for FLUSHes
    /// for longer than a lease lasts. Returns how many requests were served, plus one for each queue that has more.
    pub(super) fn poll(
        &self,
        cpu: CpuIndex,
        now_ns: u64,
        may: &dyn Fn() -> bool,
        report: &mut dyn FnMut(Report),
    ) -> u32 {
        let Inner { queues, trace } = &mut *self.inner.lock();
        let mut found = 0;
        for queue in queues.iter_mut().filter(|queue| !queue.is_suspended()) {
            let progress = queue.poll(cpu, may);
            found += progress.served + u32::from(progress.more);
            if progress.served > 0 {
                let Progress { served: requests, failed, call: called, .. } = progress;
                trace.push(now_ns, Event::Served { queue: queue.name, requests, failed, called });
            }
            if let Some(why) = progress.broken {
                trace.push(now_ns, Event::Broken { queue: queue.name });
                report(queue.broken(why));
            }
        }
        found
    }

    /// Asks every driver for a kick, but those of suspended disks, whose CPUs are woken when the suspension ends.
    /// Without a lease, which `may` tells, they are left alone (invariant 13). Returns false if a request waits already.
    pub(super) fn may_rest(&self, now_ns: u64, may: &dyn Fn() -> bool, report: &mut dyn FnMut(Report)) -> bool {
        let Inner { queues, trace } = &mut *self.inner.lock();
        let mut rest = true;
        for queue in queues.iter_mut().filter(|queue| !queue.is_suspended() && queue.ring.broken().is_none()) {
            if !may() {
                break;
            }
            match queue.ring.rest(queue.consumer.memory()) {
                Ok(true) => {
                    if !core::mem::replace(&mut queue.resting, true) {
                        queue.counts.rests += 1;
                        trace.push(now_ns, Event::Rests { queue: queue.name });
                    }
                }
                Ok(false) => rest = false,
                Err(why) => {
                    trace.push(now_ns, Event::Broken { queue: queue.name });
                    report(queue.broken(why));
                }
            }
        }
        rest
    }

    /// Adds a queue. The caller wakes its CPU.
    pub(super) fn add(&self, now_ns: u64, queue: Running) {
        let inner = &mut *self.inner.lock();
        inner.trace.push(now_ns, Event::Started { queue: queue.name, base: queue.ring.base() });
        inner.queues.push(queue);
        self.count.store(inner.queues.len(), Ordering::Release);
    }

    /// Removes a queue and returns the index at which it stopped. Its memory is not touched afterwards; without a
    /// `lease` it is not touched here either.
    pub(super) fn remove(&self, now_ns: u64, name: Name, lease: bool) -> Option<u16> {
        let inner = &mut *self.inner.lock();
        let at = inner.queues.iter().position(|queue| queue.name == name)?;
        let Running { ring, consumer, .. } = inner.queues.swap_remove(at);
        let base = if lease { ring.stop(consumer.memory()) } else { ring.base() };
        self.count.store(inner.queues.len(), Ordering::Release);
        inner.trace.push(now_ns, Event::Stopped { queue: name, base });
        Some(base)
    }

    /// Changes the state of queues, between two polls.
    pub(super) fn change(&self, mut f: impl FnMut(&mut Running)) {
        self.inner.lock().queues.iter_mut().for_each(&mut f);
    }

    pub(super) fn stats(&self, cpu: u32) -> Vec<QueueStats> {
        let inner = self.inner.lock();
        let stats = inner.queues.iter().map(|queue| QueueStats {
            dev: queue.disk.as_ref().map_or_else(Default::default, |disk| disk.name.clone()),
            export: queue.name.0.0,
            queue: queue.name.1.0,
            cpu,
            requests: queue.counts.requests,
            failed: queue.counts.failed,
            interrupts: queue.counts.calls,
            rests: queue.counts.rests,
            broken: queue.ring.broken().is_some(),
        });
        stats.collect()
    }

    pub(super) fn trace(&self, cpu: u32) -> Vec<TraceEvent> {
        self.inner.lock().trace.show(cpu).collect()
    }
}
