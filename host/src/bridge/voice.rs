//! How many lines are said of one export: what its front end or its driver does over and over costs a line now and then.

use std::time::{Duration, Instant};

/// How many lines may follow each other at once.
const LINES_MAX: u32 = 20;

/// How long it takes until one more may follow.
const EACH: Duration = Duration::from_secs(10);

/// The lines of an export.
#[derive(Debug, Default)]
pub(super) struct Voice {
    /// The last complaint about its front ends.
    complaint: String,
    /// How many lines were said without a pause.
    said: u32,
    /// When the last of [`Voice::said`] was forgotten.
    since: Option<Instant>,
    /// How many lines were left out since.
    left_out: u64,
}

impl Voice {
    /// Returns a line as it is to be said at `now`, or `None` if there were too many.
    pub(super) fn says(&mut self, line: &str, now: Instant) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        let forgotten =
            u32::try_from(now.saturating_duration_since(since).as_nanos() / EACH.as_nanos()).unwrap_or(u32::MAX);
        match self.said.checked_sub(forgotten) {
            Some(said) if said > 0 => (self.said, self.since) = (said, Some(since + EACH * forgotten)),
            _ => (self.said, self.since) = (0, Some(now)),
        }
        if self.said >= LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        match std::mem::take(&mut self.left_out) {
            0 => Some(line.into()),
            count => Some(format!("{line} ({count} lines about this disk are left out before it)")),
        }
    }

    /// Returns a complaint as it is to be said: once only while the front end comes back with the same fault.
    pub(super) fn complains(&mut self, line: &str, now: Instant) -> Option<String> {
        if self.complaint == line {
            return None;
        }
        self.complaint = line.into();
        self.says(line, now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{EACH, LINES_MAX, Voice};

    #[test]
    fn a_flood_of_lines_costs_a_few_and_one_now_and_then() {
        let (mut voice, begun) = (Voice::default(), Instant::now());
        let said = |voice: &mut Voice, after| voice.says("broken", begun + after);
        for _ in 0..LINES_MAX {
            assert_eq!(said(&mut voice, Duration::ZERO).as_deref(), Some("broken"));
        }
        for _ in 0..7 {
            assert_eq!(said(&mut voice, EACH / 2), None);
        }
        let after = said(&mut voice, EACH).unwrap_or_default();
        assert_eq!(after, "broken (7 lines about this disk are left out before it)");
        assert_eq!(said(&mut voice, EACH), None);
        // After a pause all is as at first.
        for _ in 0..LINES_MAX {
            assert!(said(&mut voice, EACH * 100).is_some());
        }
        assert_eq!(said(&mut voice, EACH * 100), None);
    }

    #[test]
    fn the_same_complaint_is_said_once() {
        let (mut voice, now) = (Voice::default(), Instant::now());
        assert!(voice.complains("a", now).is_some() && voice.complains("a", now).is_none());
        assert!(voice.complains("b", now).is_some() && voice.complains("a", now).is_some());
    }
}
