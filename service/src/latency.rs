//! How long requests took: histograms with fixed buckets, one a CPU and kind of request, to which that CPU alone adds: no lock,
//! and no locked instruction.
//!
//! The bounds are 1, 2 and 5 in each decade from 200 ns to 10 s, with a last bucket for what took longer. What is derived from
//! them, such as a median, is right to its bucket.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The most nanoseconds of each bucket but the last, which has none.
pub const BOUNDS_NS: [u64; BOUNDS] = {
    let mut bounds = [0; BOUNDS];
    let (mut at, mut decade) = (2, 1000);
    (bounds[0], bounds[1]) = (200, 500);
    while at < BOUNDS {
        bounds[at] = decade;
        if at + 1 < BOUNDS {
            (bounds[at + 1], bounds[at + 2]) = (2 * decade, 5 * decade);
        }
        at += 3;
        decade *= 10;
    }
    bounds
};

const BOUNDS: usize = 24;

const _: () = assert!(BOUNDS_NS[BOUNDS - 1] == 10_000_000_000, "10 s");

/// All buckets.
const BUCKETS: usize = BOUNDS + 1;

/// What one CPU's requests of a kind took.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum_ns: AtomicU64::new(0) }
    }

    /// Counts a request that took so long. For its CPU.
    pub fn record(&self, ns: u64) {
        add(&self.buckets[bucket(ns)], 1);
        add(&self.sum_ns, ns);
    }

    /// Adds what it has counted to `sum`.
    pub fn add_to(&self, sum: &mut Latencies) {
        for (into, from) in sum.buckets.iter_mut().zip(&self.buckets) {
            *into += from.load(Ordering::Relaxed);
        }
        sum.sum_ns += self.sum_ns.load(Ordering::Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds to a number that no other CPU writes.
pub(crate) fn add(to: &AtomicU64, n: u64) {
    to.store(to.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// The bucket of a time.
fn bucket(ns: u64) -> usize {
    BOUNDS_NS.partition_point(|bound| *bound < ns)
}

/// What requests of a kind took, over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latencies {
    /// How many requests were in each bucket of [`BOUNDS_NS`], and in the last one.
    pub buckets: Vec<u64>,
    /// How long all of them took together, in nanoseconds.
    pub sum_ns: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: alloc::vec![0; BUCKETS], sum_ns: 0 }
    }
}

impl Latencies {
    /// How many requests there were. Figures that are another's may be any.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, of_bucket| sum.saturating_add(*of_bucket))
    }

    /// What has come since an earlier reading. A reading that is not earlier (the machine was started anew) is left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let is_earlier = earlier.buckets.iter().zip(&self.buckets).all(|(before, now)| before <= now);
        if !is_earlier || earlier.sum_ns > self.sum_ns {
            return self.clone();
        }
        let less = |(at, now): (usize, &u64)| now - earlier.buckets.get(at).copied().unwrap_or(0);
        Self { buckets: self.buckets.iter().enumerate().map(less).collect(), sum_ns: self.sum_ns - earlier.sum_ns }
    }

    /// The nanoseconds within which this part of the requests was done, by 1000 (500: the median), as if they lay evenly in
    /// their bucket; what took longer than all bounds counts as the last one. `None` without requests.
    #[must_use]
    pub fn quantile_ns(&self, per_mille: u32) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = u128::from(count) * u128::from(per_mille.min(1000));
        let (mut below, mut from) = (0_u128, 0);
        for (of_bucket, bound) in self.buckets.iter().zip(BOUNDS_NS) {
            let here = u128::from(*of_bucket) * 1000;
            if here > 0 && below + here >= wanted {
                let part = u128::from(bound - from) * (wanted - below) / here;
                return u64::try_from(u128::from(from) + part).ok();
            }
            (below, from) = (below + here, bound);
        }
        Some(from)
    }

    /// The mean, in nanoseconds. `None` without requests.
    #[must_use]
    pub fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count())
    }
}

/// Nanoseconds as seconds, exactly: `0.0000002`.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut rest, mut digits) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000, 9);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        while rest % 10 == 0 {
            (rest, digits) = (rest / 10, digits - 1);
        }
        write!(f, "{whole}.{rest:0digits$}")
    }
}

/// A time with the unit that suits it, of six characters at most up to a quarter of an hour: `1.23us`, `45.6ms`, `789ns`.
#[derive(Clone, Copy, Debug)]
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            0..1_000 => return write!(f, "{}ns", self.0),
            1_000..1_000_000 => (1_000, "us"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (whole, hundredths) = (self.0 / unit, self.0 % unit * 100 / unit);
        match whole {
            0..10 => write!(f, "{whole}.{hundredths:02}{name}"),
            10..100 => write!(f, "{whole}.{}{name}", hundredths / 10),
            _ => write!(f, "{whole}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn bounds_rise_and_each_time_has_the_bucket_whose_bound_it_does_not_exceed() {
        assert!(BOUNDS_NS.is_sorted() && BOUNDS_NS[..5] == [200, 500, 1000, 2000, 5000]);
        for (ns, of) in [(0, 0), (200, 0), (201, 1), (1000, 2), (1001, 3), (10_000_000_000, 23), (u64::MAX, 24)] {
            assert_eq!(bucket(ns), of, "{ns}");
        }
    }

    #[test]
    fn quantiles_lie_in_their_buckets() {
        let (histogram, mut all) = (Histogram::new(), Latencies::default());
        assert_eq!((all.quantile_ns(500), all.mean_ns()), (None, None));
        (0..99).for_each(|_| histogram.record(1500));
        histogram.record(70_000_000_000);
        histogram.add_to(&mut all);
        assert_eq!(all.count(), 100);
        assert!((1000..=2000).contains(&all.quantile_ns(500).expect("some")));
        assert!((1000..=2000).contains(&all.quantile_ns(990).expect("some")));
        assert_eq!(all.quantile_ns(1000), Some(10_000_000_000), "the last bound");
        assert_eq!(all.mean_ns(), Some((99 * 1500 + 70_000_000_000) / 100));
        let before = all.clone();
        histogram.record(3000);
        let mut later = Latencies::default();
        histogram.add_to(&mut later);
        assert_eq!((later.since(&before).count(), later.since(&before).sum_ns), (1, 3000));
        assert_eq!(before.since(&later), before, "a machine that was started anew");
    }

    #[test]
    fn times_are_short_and_seconds_are_exact() {
        for (ns, short, seconds) in [
            (0, "0ns", "0"),
            (200, "200ns", "0.0000002"),
            (1_239, "1.23us", "0.000001239"),
            (45_678_000, "45.6ms", "0.045678"),
            (999_999_999, "999ms", "0.999999999"),
            (12_000_000_000, "12.0s", "12"),
        ] {
            assert_eq!((Time(ns).to_string().as_str(), Seconds(ns).to_string().as_str()), (short, seconds));
        }
    }
}
