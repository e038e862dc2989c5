//! How far a long command is, for who waits for it: no more often than eyes follow, and nothing of what is soon done.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

use serde::{Deserialize, Serialize};

/// Begins a line that tells how far a long command is, in mode text where that is asked for: US.
pub const PROGRESS_MARK: char = '\x1f';

/// Nothing is shown of a command before it has taken this long.
const FIRST_NS: u64 = 1_000_000_000;

/// The time between two.
const BETWEEN_NS: u64 = 500_000_000;

/// How far a command is.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// What it does, and to what: `namespace0.0: checked`.
    pub what: &'a dyn fmt::Display,
    /// How much is done.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// The unit of both: `blocks`. Empty if it is time that passes, whose rate says nothing.
    pub unit: &'static str,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressForm {
    /// In a row of a person's terminal, which is written anew, and has so many columns.
    Row {
        /// The columns that can be written without a wrap.
        columns: usize,
    },
    /// As lines that begin with [`PROGRESS_MARK`].
    Lines,
    /// As lines of JSON.
    Json,
}

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Figures {
    what: String,
    done: u64,
    total: u64,
    unit: String,
    per_second: u64,
    /// Seconds that it takes yet at that rate; `None` if it does not move.
    left: Option<u64>,
}

/// Judges what is shown, and when.
#[derive(Debug, Default)]
pub struct Meter {
    /// When the part that is under way began, how far it was, and how much it is.
    begun: Option<(u64, u64, u64)>,
    done: u64,
    shown_ns: u64,
}

impl Meter {
    /// Nothing is under way.
    #[must_use]
    pub const fn new() -> Self {
        Self { begun: None, done: 0, shown_ns: 0 }
    }

    /// Takes how far it is now. Returns what is to be shown, if it is time for that.
    pub fn look(&mut self, now_ns: u64, progress: &Progress<'_>) -> Option<Figures> {
        let Progress { what, done, total, unit } = *progress;
        let last = core::mem::replace(&mut self.done, done);
        let (begun_ns, begun_at) = match self.begun {
            Some((at, from, of)) if of == total && done >= last => (at, from),
            _ => {
                // Another part of it: its rate is another one, too.
                self.begun = Some((now_ns, done, total));
                self.shown_ns = now_ns.saturating_add(FIRST_NS - BETWEEN_NS);
                return None;
            }
        };
        if now_ns < self.shown_ns.saturating_add(BETWEEN_NS) {
            return None;
        }
        self.shown_ns = now_ns;
        let moved = u128::from(done - begun_at);
        let per_second = moved * 1_000_000_000 / u128::from(now_ns.saturating_sub(begun_ns)).max(1);
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        let left = total.saturating_sub(done).checked_div(per_second);
        Some(Figures { what: what.to_string(), done, total, unit: unit.into(), per_second, left })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, done, total, unit, per_second, left } = self;
        let percent = u128::from(*done) * 100 / u128::from(*total).max(1);
        write!(f, "{what} {percent} %")?;
        if !unit.is_empty() {
            write!(f, ", {per_second} {unit}/s")?;
        }
        match left {
            Some(left) if *left >= 120 => write!(f, ", {} min left", left / 60),
            Some(left) => write!(f, ", {left} s left"),
            None => Ok(()),
        }
    }
}

impl ProgressForm {
    /// The bytes that show it.
    #[must_use]
    pub fn text(self, figures: &Figures) -> String {
        match self {
            Self::Row { columns } => {
                let row: String = figures.to_string().chars().take(columns).collect();
                format!("\r\x1b[K{row}")
            }
            Self::Lines => format!("{PROGRESS_MARK}{figures}\n"),
            Self::Json => {
                format!("{{\"progress\":{}}}\n", serde_json::to_string(figures).expect("texts and numbers"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64, total: u64) -> Progress<'static> {
        Progress { what: &"namespace0.0: checked", done, total, unit: "blocks" }
    }

    #[test]
    fn progress_is_shown_after_a_second_and_twice_a_second_with_rate_and_time_left() {
        const S: u64 = 1_000_000_000;
        let mut meter = Meter::new();
        assert_eq!(meter.look(10 * S, &at(0, 1000)), None);
        assert_eq!(meter.look(11 * S - 1, &at(99, 1000)), None);
        let shown = meter.look(11 * S, &at(100, 1000)).expect("a second has passed");
        let (lines, json) = (ProgressForm::Lines.text(&shown), ProgressForm::Json.text(&shown));
        assert_eq!(lines, "\x1fnamespace0.0: checked 10 %, 100 blocks/s, 9 s left\n");
        assert_eq!(
            json,
            "{\"progress\":{\"what\":\"namespace0.0: checked\",\"done\":100,\"total\":1000,\"unit\":\"blocks\",\
             \"per_second\":100,\"left\":9}}\n"
        );
        assert_eq!(ProgressForm::Row { columns: 15 }.text(&shown), "\r\x1b[Knamespace0.0: c");
        assert_eq!(meter.look(11 * S + S / 2 - 1, &at(150, 1000)), None);
        assert!(meter.look(11 * S + S / 2, &at(150, 1000)).is_some());
        // The next part begins anew, also one that is as large.
        assert_eq!(meter.look(20 * S, &at(5, 1000)), None);
        assert_eq!(meter.look(20 * S, &at(5, 2000)), None);
        let slow = meter.look(21 * S, &at(5, 2000)).expect("a second has passed");
        assert_eq!((slow.left, slow.to_string().as_str()), (None, "namespace0.0: checked 0 %, 0 blocks/s"));
        let long = meter.look(22 * S, &at(7, 2000)).expect("half a second has passed");
        assert!(long.to_string().ends_with("0 %, 1 blocks/s, 33 min left"), "{long}");
        assert!(Meter::new().look(u64::MAX, &at(u64::MAX, 0)).is_none());
    }
}
