//! A controller: what one host's admin queue and I/O queues share (NVMe Base 2.0, section 3.1).
//!
//! Each queue is a connection, perhaps of another CPU; all that they share are the atomics here. The admin queue's own state
//! is in [`crate::admin::AdminQueue`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::auth::Secrets;
use crate::limits::{DISCOVERY_SILENCE_MS, IO_QUEUES, KEEP_ALIVE_GRACE_MS, KEEP_ALIVE_GRANULARITY};
use crate::name::Host;
use crate::subsystem::Subsystem;
use crate::units::{ControllerId, Millis, QueueId};

/// The namespace list changed.
pub(crate) const EVENT_NAMESPACE: u32 = 1;
/// The discovery log changed.
pub(crate) const EVENT_DISCOVERY: u32 = 1 << 1;

/// The controller.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) id: ControllerId,
    pub(crate) host: Host,
    /// `None`: of the discovery subsystem.
    pub(crate) subsystem: Option<Arc<Subsystem>>,
    /// What its host must prove to know, on each queue.
    pub(crate) secrets: Option<Arc<Secrets>>,
    alive: AtomicBool,
    /// CC.EN.
    enabled: AtomicBool,
    /// 0: no timer.
    keep_alive_ms: AtomicU32,
    heard: AtomicU64,
    /// The I/O queues that are connected, a bit each.
    queues: AtomicU32,
    /// How many I/O queues it may have.
    granted: AtomicU32,
    events: AtomicU32,
}

const _: () = assert!(IO_QUEUES < 32);

impl Controller {
    /// A new one, of a host that was heard now.
    pub(crate) fn new(
        id: ControllerId,
        host: Host,
        subsystem: Option<Arc<Subsystem>>,
        secrets: Option<Arc<Secrets>>,
        keep_alive_ms: u32,
        now: Millis,
    ) -> Self {
        let controller = Self {
            id,
            host,
            subsystem,
            secrets,
            alive: AtomicBool::new(true),
            enabled: AtomicBool::new(false),
            keep_alive_ms: AtomicU32::new(0),
            heard: AtomicU64::new(now.0),
            queues: AtomicU32::new(0),
            granted: AtomicU32::new(IO_QUEUES.into()),
            events: AtomicU32::new(0),
        };
        controller.set_keep_alive(keep_alive_ms);
        controller
    }

    /// The host sent something. Any command restarts the timer (CTRATT, TBKAS).
    pub(crate) fn hear(&self, now: Millis) {
        self.heard.fetch_max(now.0, Ordering::Relaxed);
    }

    /// Whether it goes on: it was not ended, and its host is not silent for too long.
    pub(crate) fn lives(&self, now: Millis) -> bool {
        if !self.alive.load(Ordering::Relaxed) {
            return false;
        }
        let silence = match (self.keep_alive_ms.load(Ordering::Relaxed), &self.subsystem) {
            (0, Some(_)) => return true,
            (0, None) => DISCOVERY_SILENCE_MS,
            (time, _) => u64::from(time) + KEEP_ALIVE_GRACE_MS,
        };
        let lives = now <= Millis(self.heard.load(Ordering::Relaxed)).plus(silence);
        if !lives {
            self.end();
        }
        lives
    }

    /// Ends it: each of its connections closes when it is looked at next.
    pub(crate) fn end(&self) {
        self.alive.store(false, Ordering::Relaxed);
    }

    /// Whether it was ended.
    pub(crate) fn is_ended(&self) -> bool {
        !self.alive.load(Ordering::Relaxed)
    }

    /// Sets the keep-alive time, rounded up to its granularity (Base 2.0, section 5.27.1.12).
    pub(crate) fn set_keep_alive(&self, milliseconds: u32) {
        let unit = u32::from(KEEP_ALIVE_GRANULARITY) * 100;
        self.keep_alive_ms.store(milliseconds.div_ceil(unit).saturating_mul(unit), Ordering::Relaxed);
    }

    /// The keep-alive time in milliseconds; 0: none.
    pub(crate) fn keep_alive_ms(&self) -> u32 {
        self.keep_alive_ms.load(Ordering::Relaxed)
    }

    /// CC.EN was set, or cleared: then its I/O queues end.
    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Relaxed);
    }

    /// CC.EN.
    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// How many I/O queues it may have.
    pub(crate) fn granted(&self) -> u32 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Grants so many I/O queues. Returns false if there are some already.
    pub(crate) fn grant(&self, queues: u32) -> bool {
        let none = self.queues.load(Ordering::Relaxed) == 0;
        if none {
            self.granted.store(queues, Ordering::Relaxed);
        }
        none
    }

    /// An I/O queue was connected. Returns false if it was already.
    pub(crate) fn open(&self, queue: QueueId) -> bool {
        let bit = 1 << queue.0;
        self.queues.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Its connection is gone.
    fn close(&self, queue: QueueId) {
        self.queues.fetch_and(!(1 << queue.0), Ordering::Relaxed);
    }

    /// Something happened that the host may want to know.
    pub(crate) fn tell(&self, event: u32) {
        self.events.fetch_or(event, Ordering::Relaxed);
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&self) -> u32 {
        if self.events.load(Ordering::Relaxed) == 0 { 0 } else { self.events.swap(0, Ordering::Relaxed) }
    }
}

/// A connection's part in a controller. When it is dropped the queue is free again, and without its admin queue a controller
/// ends.
#[derive(Debug)]
pub(crate) struct Association {
    pub(crate) controller: Arc<Controller>,
    pub(crate) queue: QueueId,
}

impl Drop for Association {
    fn drop(&mut self) {
        if self.queue == QueueId::ADMIN { self.controller.end() } else { self.controller.close(self.queue) }
    }
}
