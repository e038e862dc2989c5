//! The watch: while requests come one at a time, one CPU looks after the queues of all, and the others may halt.
//!
//! To wake a CPU that has halted takes a virtual machine longer than to serve a request, so that somebody who goes on looking
//! for the next one is worth the host CPU it takes: one, not as many as there are queues, for consumers need theirs. Where
//! requests come in numbers nobody keeps watch: each CPU serves its own queues and is hardly ever without work.
//!
//! # No request is lost
//!
//! While somebody keeps watch, a CPU halts without having asked for kicks. The keeper first leaves the watch, and then, with
//! each station's lock, asks for kicks in the names of all and looks once more. A CPU that saw a keeper before it halted last
//! held its station's lock before that: had the keeper been there first, the CPU would have seen that the watch was left.
//! So all requests that it did not serve itself are seen by the keeper's last look, or kicked for.

use core::sync::atomic::{AtomicU32, Ordering};

use btt::CpuIndex;

/// The keeper when there is none.
const NOBODY: u32 = u32::MAX;

/// The most requests that one look finds where they come one at a time: those of two queues may meet.
const SINGLE: u32 = 2;

/// After how many looks in succession that found no more than that they are taken to come one at a time.
const CALM: u32 = 16;

/// Who looks after all queues.
pub(super) struct Watch {
    keeper: AtomicU32,
    /// How many looks in succession found a single request, up to [`CALM`]. A hint: CPUs may overwrite each other's.
    singles: AtomicU32,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { keeper: AtomicU32::new(NOBODY), singles: AtomicU32::new(0) }
    }

    /// So many requests were found by one CPU's look at all queues that it looks after.
    pub(super) fn found(&self, requests: u32) {
        match requests {
            0 => {}
            1..=SINGLE => {
                let before = self.singles.load(Ordering::Relaxed);
                if before < CALM {
                    self.singles.store(before + 1, Ordering::Relaxed);
                }
            }
            _ => self.singles.store(0, Ordering::Relaxed),
        }
    }

    /// Whether requests come one at a time.
    pub(super) fn is_calm(&self) -> bool {
        self.singles.load(Ordering::Relaxed) >= CALM
    }

    /// Whether this CPU keeps it, from now on if nobody did.
    pub(super) fn keep(&self, cpu: CpuIndex) -> bool {
        match self.keeper.compare_exchange(NOBODY, cpu.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(keeper) => keeper == cpu.0,
        }
    }

    /// Whether somebody keeps it.
    pub(super) fn is_kept(&self) -> bool {
        self.keeper.load(Ordering::Acquire) != NOBODY
    }

    /// Whether this CPU keeps it.
    pub(super) fn is_kept_by(&self, cpu: CpuIndex) -> bool {
        self.keeper.load(Ordering::Relaxed) == cpu.0
    }

    /// Leaves it. True if this CPU kept it: then it is to look after the others' queues a last time.
    pub(super) fn leave(&self, cpu: CpuIndex) -> bool {
        self.keeper.compare_exchange(cpu.0, NOBODY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
