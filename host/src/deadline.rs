//! A point in time by which something has to be done.

use std::time::{Duration, Instant};

/// The time by which something has to be done, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No bound. For a person's session only: a program's steps all have one.
    pub const NEVER: Self = Self(None);

    /// From now on `time`. A time past what the clock can say is none.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// This one, or from now on `time`: whichever comes first.
    #[must_use]
    pub fn or_after(self, time: Duration) -> Self {
        match (self.0, Self::after(time).0) {
            (Some(one), Some(other)) => Self(Some(one.min(other))),
            (one, other) => Self(one.or(other)),
        }
    }

    /// The time that is left: zero once it has passed, `None` without a bound.
    #[must_use]
    pub fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Whether it has passed.
    #[must_use]
    pub fn passed(self) -> bool {
        self.left() == Some(Duration::ZERO)
    }
}
