//! Which kind of copy is the fastest on this machine: a matter of how it executes instructions, so it is measured.
//!
//! A CPU copies fastest by its widest loads and stores. An emulator makes each of them of several narrow ones, and moves
//! them through the emulated register file: QEMU 7.2's TCG takes a third longer for a copy by AVX than by words, and nearly
//! twice as long by SSE2.
//!
//! The copies are of ordinary memory, so nothing persistent is touched. All kinds copy the same bytes with the same
//! promises: a wrong choice costs time, and nothing else.

use alloc::vec;
use alloc::vec::Vec;

use crate::persist::{Persist, fence};

/// What is copied, in bytes: the largest sector without metadata.
const BYTES: usize = 4096;

/// The copies that are timed together: enough for a clock of 100 ns.
const COPIES: u64 = 8;

/// How often each kind has its turn: enough to be undisturbed once, and not to be the first.
const ROUNDS: usize = 4;

/// How long one kind of copy takes for 4096 bytes, in nanoseconds: the least of some rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTimes {
    /// The kind.
    pub persist: Persist,
    /// Past the caches, with its fence: [`Persist::stream`].
    pub stream_ns: u64,
    /// Out of memory: [`Persist::load`].
    pub load_ns: u64,
}

impl CopyTimes {
    const fn both_ns(self) -> u64 {
        self.stream_ns.saturating_add(self.load_ns)
    }
}

/// Measures each kind of copy that this CPU has, the widest first, by this clock.
#[must_use]
pub fn measure(widest: Persist, now_ns: &dyn Fn() -> u64) -> Vec<CopyTimes> {
    let unknown = |persist| CopyTimes { persist, stream_ns: u64::MAX, load_ns: u64::MAX };
    let mut all: Vec<_> = widest.with_each_copy().map(unknown).collect();
    let mut memory = vec![0x5a_u8; 2 * BYTES + 63];
    let start = memory.as_ptr().align_offset(64);
    let (from, to) = memory[start..].split_at_mut(BYTES);
    let time = |copy: &mut dyn FnMut()| {
        let start = now_ns();
        (0..COPIES).for_each(|_| copy());
        now_ns().saturating_sub(start) / COPIES
    };
    for _ in 0..ROUNDS {
        for CopyTimes { persist, stream_ns, load_ns } in &mut all {
            // SAFETY: both are slices of BYTES bytes or more that do not overlap, and only this function has them; what is
            // called takes raw addresses, so no reference to the bytes is used meanwhile.
            let stream = time(&mut || unsafe {
                persist.stream(to.as_mut_ptr(), from.as_ptr(), BYTES);
                fence();
            });
            // SAFETY: as above. A machine check about ordinary memory ends the machine, not the copy.
            let load = time(&mut || unsafe { persist.load(to.as_mut_ptr(), from.as_ptr(), BYTES) }.unwrap_or(()));
            (*stream_ns, *load_ns) = (stream.min(*stream_ns), load.min(*load_ns));
        }
    }
    all
}

/// Returns the fastest of these: the first, unless another one takes at least a tenth less. `None` of none.
#[must_use]
pub fn fastest(times: &[CopyTimes]) -> Option<Persist> {
    let better = |best: CopyTimes, other: &CopyTimes| {
        if other.both_ns() < best.both_ns() - best.both_ns() / 10 { *other } else { best }
    };
    let (first, others) = times.split_first()?;
    Some(others.iter().fold(*first, better).persist)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_is_taken_unless_another_is_clearly_faster() {
        let [one, two, three] = [0, 1, 2].map(|at| Persist::detect().with_each_copy().nth(at));
        let (one, two) = (one.expect("every CPU has two"), two.expect("every CPU has two"));
        let kinds = [one, two, three.unwrap_or(two)];
        let chosen = |both: [u64; 3]| {
            let times = [0, 1, 2].map(|at| CopyTimes {
                persist: kinds[at],
                stream_ns: both[at] / 2,
                load_ns: both[at] - both[at] / 2,
            });
            fastest(&times).expect("one of them")
        };
        assert_eq!(chosen([100, 100, 100]), kinds[0]);
        assert_eq!(chosen([100, 100, 91]), kinds[0], "less than a tenth");
        assert_eq!(chosen([100, 89, 100]), kinds[1]);
        assert_eq!(chosen([100, 89, 70]), kinds[2]);
        assert_eq!(chosen([0, 0, 0]), kinds[0], "a clock that stands");
        assert_eq!(fastest(&[]), None);
    }

    #[test]
    fn every_kind_is_measured_by_the_clock_that_is_given() {
        let start = std::time::Instant::now();
        let now = || u64::try_from(start.elapsed().as_nanos()).expect("a short test");
        let times = measure(Persist::detect(), &now);
        assert!(times.len() >= 2 && times[0].persist == Persist::detect(), "{times:?}");
        assert!(times.iter().all(|it| (1..1 << 32).contains(&it.both_ns())), "{times:?}");
        let names: Vec<_> = times.iter().map(|it| it.persist.copy_name()).collect();
        assert_eq!(names[names.len() - 2..], ["sse2", "word"]);
    }
}
