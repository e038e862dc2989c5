//! Which CPU is so busy with its queues, and which so idle, that some queues are better off with the other one.
//!
//! A CPU's load is the part of the time in which it served its queues and network interfaces, of the last [`LOOK_NS`]. What
//! else it does is not counted. Queues whose kicks come by one vector stay together: the vector wakes the CPU that has them.

use alloc::boxed::Box;
use alloc::vec;

use btt::CpuIndex;

use super::CONTROL_CPU;

/// The time between two looks.
pub(super) const LOOK_NS: u64 = 100_000_000;

/// From this load on a CPU is busy, percent.
const BUSY_PERCENT: u64 = 70;

/// By how much the load of a CPU that gives queues is above twice the other one's, percent. At most half of it goes
/// ([`super::queues::Queues::give`]): so the other one has less then than this one had, and no queue goes to and fro.
const GAP_PERCENT: u64 = 20;

/// The loads of all CPUs.
#[derive(Debug)]
pub(super) struct Balance {
    looked_at_ns: u64,
    /// How long each CPU had been busy by then.
    busy_ns: Box<[u64]>,
    percent: Box<[u64]>,
}

impl Balance {
    /// No CPU has been busy.
    pub(super) fn new(cpus: usize) -> Self {
        Self { looked_at_ns: 0, busy_ns: vec![0; cpus].into(), percent: vec![0; cpus].into() }
    }

    /// Takes in how long each CPU has been busy so far, if it is time to. Returns the busiest CPU, if it is better off with
    /// fewer queues, and the one to have them.
    pub(super) fn look(&mut self, now_ns: u64, busy_ns: impl Iterator<Item = u64>) -> Option<(CpuIndex, CpuIndex)> {
        let passed_ns = now_ns.saturating_sub(self.looked_at_ns);
        if passed_ns < LOOK_NS {
            return None;
        }
        self.looked_at_ns = now_ns;
        for ((before, percent), busy_ns) in self.busy_ns.iter_mut().zip(&mut self.percent).zip(busy_ns) {
            *percent = (busy_ns - *before) / (passed_ns / 100);
            *before = busy_ns;
        }
        let (busiest, _) = self.loads().max_by_key(|(_, percent)| *percent)?;
        let other = self.better_than(busiest);
        (other != busiest).then_some((busiest, other))
    }

    /// Returns the CPU that is to have a new queue whose kicks would wake this one.
    pub(super) fn better_than(&self, cpu: CpuIndex) -> CpuIndex {
        let Some((_, load)) = self.loads().find(|(it, _)| *it == cpu) else { return cpu };
        // CPU 0, which has the console and the commands, comes last of equal ones.
        let by_load = |(cpu, percent): &(CpuIndex, u64)| (*percent, *cpu == CONTROL_CPU);
        let Some((idlest, least)) = self.loads().min_by_key(by_load) else { return cpu };
        if load >= BUSY_PERCENT && 2 * least + GAP_PERCENT <= load { idlest } else { cpu }
    }

    fn loads(&self) -> impl Iterator<Item = (CpuIndex, u64)> {
        (0..).map(CpuIndex).zip(self.percent.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look at CPUs that were busy for so many percent since the last one.
    fn look<const CPUS: usize>(balance: &mut Balance, percent: [u64; CPUS]) -> Option<(CpuIndex, CpuIndex)> {
        let now_ns = balance.looked_at_ns + LOOK_NS;
        let busy_ns: [u64; CPUS] = core::array::from_fn(|cpu| balance.busy_ns[cpu] + percent[cpu] * LOOK_NS / 100);
        assert_eq!(balance.look(now_ns - 1, busy_ns.into_iter()), None, "too early");
        balance.look(now_ns, busy_ns.into_iter())
    }

    #[test]
    fn a_busy_cpu_gives_to_the_idlest_one_if_that_is_a_gain() {
        let mut balance = Balance::new(3);
        for (percent, wanted) in [
            ([0, 0, 0], None),
            ([69, 0, 0], None),
            ([70, 30, 20], Some((0, 2))),
            ([40, 100, 41], Some((1, 0))),
            ([41, 100, 41], None),
            ([0, 100, 0], Some((1, 2))),
            ([100, 100, 100], None),
        ] {
            let found = look(&mut balance, percent);
            assert_eq!(found, wanted.map(|(from, to)| (CpuIndex(from), CpuIndex(to))), "{percent:?}");
        }
    }

    #[test]
    fn a_new_queue_goes_to_the_cpu_that_its_kicks_wake_unless_that_is_busy() {
        let mut balance = Balance::new(2);
        assert_eq!(balance.better_than(CpuIndex(1)), CpuIndex(1));
        look(&mut balance, [10, 90]);
        assert_eq!(balance.better_than(CpuIndex(1)), CpuIndex(0));
        assert_eq!(balance.better_than(CpuIndex(0)), CpuIndex(0));
    }
}
