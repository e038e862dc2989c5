//! The lines of a region that the medium has lost: reads of them fail until they are written again as a whole.
//!
//! The list is kept in memory only. Reads that fail, a machine check handler and the admin side's inject-error add to it.
//! While it is empty, a query costs one load.
//!
//! What is reported may have been written between the loss and the report. So the list can name sound lines, until somebody
//! who keeps writers away has it [forget](BadRanges::forget_reports) them and reads again. What was injected stays: the
//! medium would not lose it a second time.
//!
//! | | used by | how |
//! |---|---|---|
//! | the ranges | all code but a handler | under their lock |
//! | the inbox | a handler adds, the next holder of the lock empties it | atomics only |

use alloc::vec::Vec;
use core::array;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use btt::media::LINE_BYTES;
use spin::Mutex;

/// The number of reports that may wait for the next holder of the lock.
const INBOX: usize = 32;

/// The number of ranges that are kept apart. If there are more, the bytes between two of them count as lost, too: that
/// may give an error in place of data, never the other way round.
const RANGES_MAX: usize = 4096;

/// The inbox has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InboxFull;

/// Lost lines of a region, as ranges of bytes from its start.
#[derive(Debug)]
pub(crate) struct BadRanges {
    /// [`Self::RANGES`] while there are ranges, [`Self::NEWS`] while there may be something in the inbox.
    known: AtomicUsize,
    ranges: Mutex<Ranges>,
    /// Offset and length of what was reported, packed; 0 is free.
    inbox: [AtomicU64; INBOX],
}

/// Each list is sorted, its ranges apart from one another and on line borders.
#[derive(Debug, Default)]
struct Ranges {
    /// All that is lost.
    lost: Vec<(u64, u64)>,
    /// What of it was injected.
    injected: Vec<(u64, u64)>,
}

impl Default for BadRanges {
    fn default() -> Self {
        Self { known: AtomicUsize::new(0), ranges: Mutex::default(), inbox: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl BadRanges {
    const RANGES: usize = 1;
    const NEWS: usize = 2;
    /// The bits of an inbox entry that hold the length, as a number of lines that is a power of two, plus one.
    const LENGTH: u64 = LINE_BYTES - 1;

    /// Takes a machine check handler's report of lost lines, which may interrupt any code. `bytes` are rounded up to a
    /// power of two.
    pub(crate) fn report(&self, at: u64, bytes: u64) -> Result<(), InboxFull> {
        let lines = bytes.div_ceil(LINE_BYTES).max(1).next_power_of_two();
        let entry = at & !Self::LENGTH | u64::from(lines.ilog2() + 1) & Self::LENGTH;
        let take = |slot: &AtomicU64| match slot.compare_exchange(0, entry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(there) => there == entry,
        };
        let taken = self.inbox.iter().any(take);
        // After the entry: the code that clears this bit reads the inbox afterwards.
        self.known.fetch_or(Self::NEWS, Ordering::AcqRel);
        if taken { Ok(()) } else { Err(InboxFull) }
    }

    /// Adds the lines that hold `bytes` bytes from `at` on, which could not be read.
    pub(crate) fn add(&self, at: u64, bytes: u64) {
        self.change(|ranges| insert(&mut ranges.lost, at, bytes));
    }

    /// Adds the same lines, of which the medium knows nothing.
    pub(crate) fn inject(&self, at: u64, bytes: u64) {
        self.change(|ranges| {
            insert(&mut ranges.lost, at, bytes);
            insert(&mut ranges.injected, at, bytes);
        });
    }

    /// Forgets what was reported of the lines that hold `bytes` bytes from `at` on. Nothing writes to them meanwhile.
    #[cold]
    pub(crate) fn forget_reports(&self, at: u64, bytes: u64) {
        let start = at / LINE_BYTES * LINE_BYTES;
        let end = at.saturating_add(bytes).checked_next_multiple_of(LINE_BYTES).unwrap_or(u64::MAX);
        self.change(|ranges| {
            cut_out(&mut ranges.lost, start, end);
            for (from, to) in &ranges.injected {
                let (from, to) = ((*from).max(start), (*to).min(end));
                if from < to {
                    insert(&mut ranges.lost, from, to - from);
                }
            }
        });
    }

    /// Removes the lines that lie wholly in the `bytes` bytes from `at` on, which have been written.
    #[inline]
    pub(crate) fn written(&self, at: u64, bytes: u64) {
        if !self.is_empty() {
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
            cut_out(&mut ranges.lost, start, end);
            cut_out(&mut ranges.injected, start, end);
        });
    }

    /// Returns whether nothing is lost.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a range that is added at this very moment may be missed, as if it had been added a moment later.
        self.known.load(Ordering::Relaxed) == 0
    }

    /// Returns the first lost byte among `bytes` bytes from `at` on.
    #[inline]
    pub(crate) fn first_in(&self, at: u64, bytes: u64) -> Option<u64> {
        if self.is_empty() { None } else { self.search(at, bytes) }
    }

    #[cold]
    fn search(&self, at: u64, bytes: u64) -> Option<u64> {
        let end = at.saturating_add(bytes);
        self.change(|ranges| {
            let found = ranges.lost.iter().find(|&&(start, stop)| start < end && at < stop);
            found.map(|&(start, _)| start.max(at))
        })
    }

    /// Returns the first lost line that a store to `bytes` bytes from `at` on would write in part only: bytes that are
    /// stored into such a line are lost with it.
    #[inline]
    pub(crate) fn torn_by(&self, at: u64, bytes: u64) -> Option<u64> {
        if self.is_empty() { None } else { self.search_torn(at, bytes) }
    }

    #[cold]
    fn search_torn(&self, at: u64, bytes: u64) -> Option<u64> {
        let end = at.saturating_add(bytes);
        if bytes == 0 || at.is_multiple_of(LINE_BYTES) && end.is_multiple_of(LINE_BYTES) {
            return None;
        }
        let line = |inside: u64| inside / LINE_BYTES * LINE_BYTES;
        let [head, tail] = [at, end - 1].map(line);
        let lost = |line: u64| self.first_in(line, LINE_BYTES).map(|_| line);
        let in_part = |line: &u64| *line < at || *line + LINE_BYTES > end;
        [head, tail].into_iter().filter(in_part).find_map(lost)
    }

    /// Returns all ranges that touch the `bytes` bytes from `at` on, as offset and length, cut to them.
    pub(crate) fn all_in(&self, at: u64, bytes: u64) -> Vec<(u64, u64)> {
        let end = at.saturating_add(bytes);
        let cut = |&(s, e): &(u64, u64)| (s.max(at), e.min(end));
        self.change(|ranges| ranges.lost.iter().map(cut).filter(|(s, e)| s < e).map(|(s, e)| (s, e - s)).collect())
    }

    /// Takes the reports in, and runs `how` on the ranges.
    fn change<T>(&self, how: impl FnOnce(&mut Ranges) -> T) -> T {
        let mut ranges = self.ranges.lock();
        if self.known.fetch_and(!Self::NEWS, Ordering::AcqRel) & Self::NEWS != 0 {
            for entry in self.inbox.iter().map(|slot| slot.swap(0, Ordering::AcqRel)).filter(|entry| *entry != 0) {
                let lines = 1_u64 << ((entry & Self::LENGTH) - 1);
                insert(&mut ranges.lost, entry & !Self::LENGTH, lines.saturating_mul(LINE_BYTES));
            }
        }
        let result = how(&mut ranges);
        // NEWS is left alone: a handler may have set it again meanwhile.
        if ranges.lost.is_empty() {
            self.known.fetch_and(!Self::RANGES, Ordering::Relaxed);
        } else {
            self.known.fetch_or(Self::RANGES, Ordering::Relaxed);
        }
        result
    }
}

/// Takes the bytes from `start` to `end`, line borders, out of the ranges.
fn cut_out(ranges: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    let left = |&(s, e): &(u64, u64)| [(s, e.min(start)), (s.max(end), e)];
    *ranges = ranges.iter().flat_map(left).filter(|(s, e)| s < e).collect();
}

/// Adds the lines that hold `bytes` bytes from `at` on to sorted ranges.
fn insert(ranges: &mut Vec<(u64, u64)>, at: u64, bytes: u64) {
    let mut start = at / LINE_BYTES * LINE_BYTES;
    // Reports come from hardware: what leaves 64 bits is cut there.
    let mut end = at.saturating_add(bytes).checked_next_multiple_of(LINE_BYTES).unwrap_or(u64::MAX);
    // Ranges that touch it are merged with it.
    ranges.retain(|&(other, stop)| {
        let apart = stop < start || end < other;
        if !apart {
            (start, end) = (start.min(other), end.max(stop));
        }
        apart
    });
    let place = ranges.partition_point(|&(other, _)| other < start);
    if ranges.len() < RANGES_MAX && ranges.try_reserve(1).is_ok() {
        ranges.insert(place, (start, end));
        return;
    }
    // There is no room for one more: the nearest range is extended to hold it.
    let before = place.checked_sub(1).map(|index| (start - ranges[index].1, index));
    let after = ranges.get(place).map(|(other, _)| (other - end, place));
    if let Some((_, nearest)) = before.into_iter().chain(after).min() {
        let (other, stop) = ranges[nearest];
        ranges[nearest] = (other.min(start), stop.max(end));
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
    fn reports_are_forgotten_and_what_was_injected_is_not() {
        let bad = BadRanges::default();
        bad.inject(64, 64);
        bad.add(0, 256);
        assert_eq!(bad.report(512, 64), Ok(()));
        bad.forget_reports(10, 118);
        assert_eq!(bad.all_in(0, u64::MAX), vec![(64, 192), (512, 64)], "only of the first two lines");
        bad.forget_reports(0, u64::MAX);
        assert_eq!(bad.all_in(0, u64::MAX), vec![(64, 64)]);
        bad.written(64, 64);
        bad.add(64, 64);
        bad.forget_reports(64, 64);
        assert_eq!(bad.all_in(0, u64::MAX), vec![], "what was written is not injected any more");
    }

    #[test]
    fn what_is_reported_is_lost_at_the_next_look_and_too_much_is_refused() {
        let bad = BadRanges::default();
        assert_eq!((bad.report(0x1234, 1), bad.report(0x1234, 1), bad.report(0, 100)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((bad.first_in(0x1000, 0x1000), bad.first_in(64, 64)), (Some(0x1200), Some(64)));
        assert_eq!(bad.all_in(0, u64::MAX), vec![(0, 128), (0x1200, 64)]);
        bad.written(0, 0x2000);
        assert_eq!((bad.first_in(0, u64::MAX), bad.report(1 << 62, u64::MAX)), (None, Ok(())));
        assert_eq!(bad.first_in(0, u64::MAX), Some(1 << 62));
        bad.written(0, u64::MAX);
        let taken = (0..).map(|line| bad.report(line * 4096, 64)).take_while(Result::is_ok).count();
        assert_eq!(taken, INBOX);
        assert_eq!(bad.all_in(0, 1 << 40).len(), INBOX);
        assert_eq!(bad.report(64, 64), Ok(()));
    }

    #[test]
    fn more_ranges_than_are_kept_apart_lose_what_is_between_two_and_never_less() {
        let bad = BadRanges::default();
        let all: Vec<u64> = (0..RANGES_MAX as u64).map(|n| n * 1024).collect();
        all.iter().for_each(|at| bad.add(*at, 64));
        // Nearer to the one behind it, and past the last.
        bad.add(1024 - 128, 64);
        bad.add(RANGES_MAX as u64 * 1024, 64);
        let kept = bad.all_in(0, u64::MAX);
        assert_eq!((kept.len(), kept[0], kept[1]), (RANGES_MAX, (0, 64), (1024 - 128, 192)));
        assert_eq!(kept[RANGES_MAX - 1], ((RANGES_MAX as u64 - 1) * 1024, 1024 + 64));
        assert!(all.iter().all(|at| bad.first_in(*at, 64) == Some(*at)));
    }

    #[test]
    fn a_store_to_a_part_of_a_lost_line_is_noticed_whichever_end_it_is() {
        let bad = BadRanges::default();
        bad.add(128, 64);
        assert_eq!((bad.torn_by(128, 64), bad.torn_by(64, 192), bad.torn_by(0, 130)), (None, None, Some(128)));
        assert_eq!((bad.torn_by(190, 100), bad.torn_by(136, 8), bad.torn_by(100, 28)), (Some(128), Some(128), None));
        assert_eq!((bad.torn_by(192, 8), bad.torn_by(1, 0)), (None, None));
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
