//! A CPU's place in the engine: its queues, which one CPU at a time has, and what it is asked to do with them.
//!
//! The lock of `queues` says who has them: their own CPU, or the keeper of the watch while that CPU halts. It is held for a
//! round, which ends after [`ROUND_NS`] at the latest, give or take a step, and nobody but these two waits for it. All
//! others ask: what they want is done between two steps. Only who moves queues to another CPU has both CPUs' for a moment, if
//! it can have them within [`TRY_NS`].

use core::sync::atomic::{AtomicU64, Ordering};

use btt::CpuIndex;

use super::Exports;
use super::held::{Held, Taken};
use super::queues::Queues;

/// A round of steps ends after this time, so that the console and the bridge have their turn; the next round goes on with the
/// next consumer.
const ROUND_NS: u64 = 500_000;

/// How long is tried to have the queues between two rounds.
const TRY_NS: u64 = 2 * ROUND_NS;

/// A CPU's queues.
pub(super) struct Station {
    pub(super) queues: Held<Queues, Exports>,
    /// How long its queues have been served, without the looks that found nothing.
    queues_ns: AtomicU64,
    /// The same of the CPU's network interfaces.
    networks_ns: AtomicU64,
}

impl Station {
    pub(super) fn new() -> Self {
        let (queues_ns, networks_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { queues: Held::new(Queues::new()), queues_ns, networks_ns }
    }

    /// Returns whether it has no queues. A queue that was just asked to be added is missed: who asks wakes the CPU when there
    /// is a reply.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.count() == 0
    }

    /// Returns how long its queues and its CPU's network interfaces have been served so far.
    pub(super) fn busy_ns(&self) -> u64 {
        self.queues_ns.load(Ordering::Relaxed) + self.networks_ns.load(Ordering::Relaxed)
    }

    /// Counts the time of a step of the CPU's network interfaces.
    pub(super) fn count_networks(&self, ns: u64) {
        self.networks_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Returns whether all that keeps the CPU busy is one queue, which would take its load with it.
    pub(super) fn has_one_load(&self) -> bool {
        self.queues.count() == 1 && self.networks_ns.load(Ordering::Relaxed) == 0
    }

    /// Tries to take the queues, for as long as two rounds last: a CPU lets go of them between two.
    pub(super) fn take(&self, exports: &Exports) -> Option<Taken<'_, Queues, Exports>> {
        let until = exports.clock.now_ns().saturating_add(TRY_NS);
        loop {
            let taken = self.queues.try_take(exports);
            if taken.is_some() {
                return taken;
            }
            if exports.clock.now_ns() >= until {
                return None;
            }
            exports.waker.turn();
            core::hint::spin_loop();
        }
    }

    /// Does a round of steps: one for each consumer, as far as the time allows. Returns how many requests were served, and one
    /// more for each queue that has more. Does nothing if another CPU has the queues.
    pub(super) fn poll(&self, exports: &Exports, cpu: CpuIndex) -> u32 {
        let Some(mut queues) = self.queues.try_hold() else { return 0 };
        let begun_ns = exports.clock.now_ns();
        let mut now_ns = begun_ns;
        let mut found = 0;
        for _ in 0..queues.consumers() {
            queues.carry_out(exports);
            let of_step = queues.step(exports, cpu);
            let done_ns = exports.clock.now_ns();
            if of_step > 0 {
                queues.charge(done_ns.saturating_sub(now_ns));
            }
            (found, now_ns) = (found + of_step, done_ns);
            if now_ns >= begun_ns.saturating_add(ROUND_NS) {
                break;
            }
        }
        if found > 0 {
            // Only the holder of the queues stores it.
            let queues_ns = self.queues_ns.load(Ordering::Relaxed) + now_ns.saturating_sub(begun_ns);
            self.queues_ns.store(queues_ns, Ordering::Relaxed);
        }
        found
    }

    /// Asks every driver for a kick, if it may ([`Queues::may_rest`]). Returns false if a request waits already.
    pub(super) fn may_rest(&self, exports: &Exports) -> bool {
        let mut queues = loop {
            if let Some(queues) = self.queues.try_hold() {
                break queues;
            }
            exports.waker.turn();
        };
        queues.carry_out(exports);
        queues.may_rest(exports)
    }
}
