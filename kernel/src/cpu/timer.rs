//! A CPU's timer, which ends its halts in time for work that is due.

use super::apic::LocalApic;
use crate::clock;

/// The timer of the CPU that uses it.
#[derive(Debug)]
pub(super) struct HaltTimer {
    apic: LocalApic,
    counts_per_ms: u32,
    /// When the timer that was started last ends, as far as its rate was measured well, and how long it runs in all.
    ends_at_ns: u64,
    runs_ns: u64,
}

impl HaltTimer {
    /// Sets the timer of this CPU up.
    pub(super) fn new(apic: LocalApic, counts_per_ms: u32) -> Self {
        apic.set_timer_up();
        Self { apic, counts_per_ms, ends_at_ns: 0, runs_ns: 0 }
    }

    /// Makes sure that a halt from now on ends at `until_ns` or a little earlier: `u64::MAX` leaves the timer alone.
    ///
    /// Starting the timer exits to the hypervisor. One that was started lately still runs, and is used: in the first half of its
    /// time only, as it may end earlier than is thought, and no other one would end the halt then.
    pub(super) fn end_halt_at(&mut self, until_ns: u64) {
        if until_ns == u64::MAX {
            return;
        }
        let now = clock::now_ns();
        let (wanted, left) = (until_ns.saturating_sub(now), self.ends_at_ns.saturating_sub(now));
        if left > 0 && left >= self.runs_ns / 2 && (wanted / 2..=wanted).contains(&left) {
            return;
        }
        // A count that is too long for the timer ends the halt early. One of 0 would stop it.
        let counts = u128::from(wanted) * u128::from(self.counts_per_ms) / 1_000_000;
        let counts = u32::try_from(counts).unwrap_or(u32::MAX).max(1);
        let ns = u64::from(counts) * 1_000_000 / u64::from(self.counts_per_ms);
        (self.ends_at_ns, self.runs_ns) = (now.saturating_add(ns), ns);
        self.apic.start_timer(counts);
    }
}
