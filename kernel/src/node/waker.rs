//! What wakes the machine's CPUs, and what they tell the watchdog.

use btt::CpuIndex;

use crate::watchdog::Serving;

/// Wakes the machine's CPUs.
pub trait Waker: Send + Sync {
    /// Makes a CPU look at its queues soon, also if it halts.
    fn wake(&self, cpu: CpuIndex);

    /// Called by a CPU between two steps, also while it waits for another CPU: it goes on ([`crate::watchdog`]).
    fn turn(&self) {}

    /// Called by a CPU before a step: what it is about to serve.
    fn serves(&self, _what: Serving) {}
}
