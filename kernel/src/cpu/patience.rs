//! How long a CPU looks for work before it halts.

use core::hint::spin_loop;

use crate::clock;

/// The time that any CPU polls: it stays awake for jobs, or requests, that follow each other closely.
const SHORT_NS: u64 = 10_000;

/// The time that the CPU polls which keeps watch for all. A consumer takes 100 to 200 us to handle a completion and to
/// send the next request, and a kick of a halted CPU takes a virtual machine as long: this is a little longer.
const WATCH_NS: u64 = 250_000;

/// Measures how long a CPU has been idle.
#[derive(Debug)]
pub(super) struct Patience {
    worked_at_ns: u64,
}

impl Patience {
    /// Starts now.
    pub(super) fn new() -> Self {
        Self { worked_at_ns: clock::now_ns() }
    }

    /// Starts again, after work.
    pub(super) fn worked(&mut self) {
        self.worked_at_ns = clock::now_ns();
    }

    /// Returns whether to poll once more before halting. Calls `keeps_watch`, which returns whether this CPU keeps
    /// watch, after the short time only.
    pub(super) fn lasts(&self, keeps_watch: impl FnOnce() -> bool) -> bool {
        let idle_ns = clock::now_ns().saturating_sub(self.worked_at_ns);
        let lasts = idle_ns < SHORT_NS || (idle_ns < WATCH_NS && keeps_watch());
        if lasts {
            spin_loop();
        }
        lasts
    }
}
