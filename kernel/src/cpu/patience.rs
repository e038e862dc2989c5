//! How long a CPU looks for work before it halts.

use core::hint::spin_loop;

use crate::clock;

/// How long any CPU looks: a run of jobs, or of requests, that follow each other finds it awake.
const SHORT_NS: u64 = 10_000;

/// How long a CPU looks that keeps watch for all. To kick a CPU that has halted takes a virtual machine as long as it takes
/// a consumer to handle an answer and to ask again, 100 to 200 us: this is a little longer.
const WATCH_NS: u64 = 250_000;

/// What a CPU has while it finds nothing to do.
#[derive(Debug)]
pub(super) struct Patience {
    worked_at_ns: u64,
}

impl Patience {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { worked_at_ns: clock::now_ns() }
    }

    /// There was work.
    pub(super) fn worked(&mut self) {
        self.worked_at_ns = clock::now_ns();
    }

    /// Whether to look once more before halting. `keeps_watch` is asked after a while: whether it is this CPU that does.
    pub(super) fn lasts(&self, keeps_watch: impl FnOnce() -> bool) -> bool {
        let idle_ns = clock::now_ns().saturating_sub(self.worked_at_ns);
        let lasts = idle_ns < SHORT_NS || (idle_ns < WATCH_NS && keeps_watch());
        if lasts {
            spin_loop();
        }
        lasts
    }
}
