//! The watch: while requests come one at a time, one CPU looks after the queues of all, and the others may halt.
//!
//! In a virtual machine waking a halted CPU takes longer than serving a request, so one CPU that goes on polling is
//! worth the host CPU that it takes. It is one and not one for each queue, because consumers need host CPUs, too. When
//! many requests come at once, no CPU keeps watch: each serves its own queues and is hardly ever idle.
//!
//! # No request is lost
//!
//! While a CPU keeps watch, the others halt without asking for kicks. A keeper that stops first leaves the watch and
//! then takes each station's lock, asks for kicks on its behalf and polls once more. A CPU that saw a keeper before it
//! halted had released its station's lock before the keeper took it: otherwise it would have seen that the watch was
//! left. So the keeper's last poll sees every request that the CPU did not serve, or the driver kicks for it.

use core::sync::atomic::{AtomicU32, Ordering};

use btt::CpuIndex;

/// The value of `keeper` while no CPU keeps watch.
const NO_KEEPER: u32 = u32::MAX;

/// The most requests that one poll finds when they come one at a time: those of two queues may coincide.
const SINGLE: u32 = 2;

/// The number of polls in succession that find no more than [`SINGLE`] requests before requests count as coming one at
/// a time.
const CALM: u32 = 16;

/// Which CPU polls all queues.
pub(super) struct Watch {
    keeper: AtomicU32,
    /// The number of polls in succession that found few requests, up to [`CALM`]. A hint: CPUs may overwrite each
    /// other's.
    singles: AtomicU32,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { keeper: AtomicU32::new(NO_KEEPER), singles: AtomicU32::new(0) }
    }

    /// Notes how many requests one CPU's poll found in all queues that it serves.
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

    /// Returns whether requests come one at a time.
    pub(super) fn is_calm(&self) -> bool {
        self.singles.load(Ordering::Relaxed) >= CALM
    }

    /// Makes this CPU the keeper if there is none. Returns whether it is the keeper now.
    pub(super) fn keep(&self, cpu: CpuIndex) -> bool {
        match self.keeper.compare_exchange(NO_KEEPER, cpu.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(keeper) => keeper == cpu.0,
        }
    }

    /// Returns whether a CPU keeps it.
    pub(super) fn is_kept(&self) -> bool {
        self.keeper.load(Ordering::Acquire) != NO_KEEPER
    }

    /// Returns whether this CPU keeps it.
    pub(super) fn is_kept_by(&self, cpu: CpuIndex) -> bool {
        self.keeper.load(Ordering::Relaxed) == cpu.0
    }

    /// Leaves the watch. Returns true if this CPU kept it: then it polls the others' queues a last time.
    pub(super) fn leave(&self, cpu: CpuIndex) -> bool {
        self.keeper.compare_exchange(cpu.0, NO_KEEPER, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}
