//! Lines of a region that the medium has lost: reads of them fail, until they are written again as a whole.
//!
//! The list is memory only. Whoever learns of a lost line adds it (a machine check handler, the admin side's
//! inject-error). While it is empty, asking costs one load.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use btt::media::LINE_BYTES;
use spin::Mutex;

/// Lost lines of a region, as ranges of bytes from its start.
#[derive(Debug, Default)]
pub(crate) struct BadRanges {
    /// How many ranges there are.
    count: AtomicUsize,
    /// Sorted, apart from one another, on line borders.
    ranges: Mutex<Vec<(u64, u64)>>,
}

impl BadRanges {
    /// Adds the lines that hold `bytes` bytes from `at` on.
    pub(crate) fn add(&self, at: u64, bytes: u64) {
        let mut start = at / LINE_BYTES * LINE_BYTES;
        let mut end = at.saturating_add(bytes).checked_next_multiple_of(LINE_BYTES).unwrap_or(u64::MAX);
        self.change(|ranges| {
            // What touches it becomes one with it.
            ranges.retain(|&(other, stop)| {
                let apart = stop < start || end < other;
                if !apart {
                    (start, end) = (start.min(other), end.max(stop));
                }
                apart
            });
            let place = ranges.partition_point(|&(other, _)| other < start);
            ranges.insert(place, (start, end));
        });
    }

    /// Removes the lines that lie wholly in the `bytes` bytes from `at` on: they have been written.
    #[inline]
    pub(crate) fn written(&self, at: u64, bytes: u64) {
        // Relaxed: a range that is added at this very moment may be missed, as if it had been added a moment later.
        if self.count.load(Ordering::Relaxed) != 0 {
            self.remove(at, bytes);
        }
    }

    #[cold]
    fn remove(&self, at: u64, bytes: u64) {
        let start = at.checked_next_multiple_of(LINE_BYTES).unwrap_or(u64::MAX);
        let end = at.saturating_add(bytes) / LINE_BYTES * LINE_BYTES;
        if start >= end {
            return;
        }
        self.change(|ranges| {
            let left = |&(s, e): &(u64, u64)| [(s, e.min(start)), (s.max(end), e)];
            *ranges = ranges.iter().flat_map(left).filter(|(s, e)| s < e).collect();
        });
    }

    /// The first lost byte among `bytes` bytes from `at` on.
    #[inline]
    pub(crate) fn first_in(&self, at: u64, bytes: u64) -> Option<u64> {
        // Relaxed: as in `written`.
        if self.count.load(Ordering::Relaxed) == 0 { None } else { self.search(at, bytes) }
    }

    #[cold]
    fn search(&self, at: u64, bytes: u64) -> Option<u64> {
        let end = at.saturating_add(bytes);
        let ranges = self.ranges.lock();
        let found = ranges.iter().find(|&&(start, stop)| start < end && at < stop);
        found.map(|&(start, _)| start.max(at))
    }

    /// All ranges that touch the `bytes` bytes from `at` on, as offset and length, cut to them.
    pub(crate) fn all_in(&self, at: u64, bytes: u64) -> Vec<(u64, u64)> {
        let end = at.saturating_add(bytes);
        let cut = |&(s, e): &(u64, u64)| (s.max(at), e.min(end));
        self.ranges.lock().iter().map(cut).filter(|(s, e)| s < e).map(|(s, e)| (s, e - s)).collect()
    }

    fn change(&self, how: impl FnOnce(&mut Vec<(u64, u64)>)) {
        let mut ranges = self.ranges.lock();
        how(&mut ranges);
        self.count.store(ranges.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn whole_lines_are_lost_and_only_whole_lines_are_mended() {
        let bad = BadRanges::default();
        bad.add(100, 1);
        bad.add(256, 128);
        assert_eq!(bad.all_in(0, u64::MAX), vec![(64, 64), (256, 128)]);
        assert_eq!((bad.first_in(0, 64), bad.first_in(0, 65), bad.first_in(300, 8)), (None, Some(64), Some(300)));
        bad.written(64, 63);
        bad.written(65, 63);
        assert_eq!(bad.all_in(0, u64::MAX).len(), 2);
        bad.written(0, 320);
        assert_eq!(bad.all_in(0, u64::MAX), vec![(320, 64)]);
        assert_eq!(bad.all_in(330, 10), vec![(330, 10)]);
    }

    #[test]
    fn ranges_that_touch_become_one_and_the_middle_of_one_can_be_mended() {
        let bad = BadRanges::default();
        for at in [0, 128, 64] {
            bad.add(at, 64);
        }
        assert_eq!(bad.all_in(0, u64::MAX), vec![(0, 192)]);
        bad.written(64, 64);
        assert_eq!(bad.all_in(0, u64::MAX), vec![(0, 64), (128, 64)]);
        bad.add(u64::MAX - 3, 100);
        assert_eq!(bad.first_in(1 << 40, u64::MAX), Some(u64::MAX / 64 * 64));
    }
}
