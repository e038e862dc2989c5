//! Tells a CPU that is stuck from one that is busy, and from one that halts.
//!
//! Each CPU counts its turns: a turn is a bounded step of its loop, or of a long command. Another one looks at the count
//! [`LOOKS`] times in the watchdog's time. It is stuck if it made no turn from the first of these looks to the last, and did
//! not halt. Looks are counted, not time: if all CPUs stand still for a while, because their hypervisor does or is stopped,
//! that is one look, and nobody is stuck.

use core::fmt;

/// How often a CPU is looked at in the watchdog's time.
pub const LOOKS: u64 = 8;

/// The shortest time, in seconds: a hypervisor that is busy may well let a CPU wait for some.
pub const SECONDS_MIN: u32 = 5;

/// The longest.
pub const SECONDS_MAX: u32 = 3600;

/// Returns the seconds of the key `watchdog`: `None` for off.
///
/// # Errors
/// What it is not.
pub fn parse(value: &str) -> Result<Option<u32>, &'static str> {
    const HOW: &str = "neither off nor from 5 to 3600 seconds";
    match value {
        "off" => Ok(None),
        // parse would take a sign.
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let seconds = digits.parse().map_err(|_| HOW)?;
            (SECONDS_MIN..=SECONDS_MAX).contains(&seconds).then_some(Some(seconds)).ok_or(HOW)
        }
        _ => Err(HOW),
    }
}

/// What is seen of a CPU in a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How many turns it has made.
    pub turns: u64,
    /// Whether it halts.
    pub halts: bool,
}

/// One CPU's looks at another one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watcher {
    last: Option<u64>,
    same: u64,
    looked_ns: Option<u64>,
}

impl Watcher {
    /// One that has not looked.
    #[must_use]
    pub const fn new() -> Self {
        Self { last: None, same: 0, looked_ns: None }
    }

    /// Returns when the next look is due, with this time.
    #[must_use]
    pub fn due_ns(&self, period_ns: u64) -> u64 {
        self.looked_ns.map_or(0, |looked| looked.saturating_add(period_ns / LOOKS))
    }

    /// Looks, if it is due. Returns whether the CPU is stuck.
    pub fn look(&mut self, now_ns: u64, period_ns: u64, seen: impl FnOnce() -> Seen) -> bool {
        if now_ns < self.due_ns(period_ns) {
            return false;
        }
        self.looked_ns = Some(now_ns);
        let seen = seen();
        if seen.halts || self.last != Some(seen.turns) {
            (self.last, self.same) = (Some(seen.turns), 0);
            return false;
        }
        self.same += 1;
        self.same >= LOOKS
    }
}

/// What a CPU did last: for the report when it is stuck or panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Nothing yet.
    Nothing,
    /// A queue of an export.
    Queue {
        /// The export.
        export: u16,
        /// Its queue.
        queue: u16,
    },
    /// Its network interfaces.
    Network,
    /// What all CPUs do at once, for a command.
    Job,
    /// The console and its commands.
    Console,
}

impl Serving {
    /// As a word that a CPU can store at once.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Queue { export, queue } => 1 << 32 | (export as u64) << 16 | queue as u64,
            Self::Network => 2 << 32,
            Self::Job => 3 << 32,
            Self::Console => 4 << 32,
        }
    }

    /// Of such a word.
    #[must_use]
    pub const fn of_word(word: u64) -> Self {
        let [q0, q1, e0, e1, kind, ..] = word.to_le_bytes();
        match kind {
            1 => Self::Queue { export: u16::from_le_bytes([e0, e1]), queue: u16::from_le_bytes([q0, q1]) },
            2 => Self::Network,
            3 => Self::Job,
            4 => Self::Console,
            _ => Self::Nothing,
        }
    }
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "nothing"),
            Self::Queue { export, queue } => write!(f, "export {export} queue {queue}"),
            Self::Network => write!(f, "the network"),
            Self::Job => write!(f, "a command of all CPUs"),
            Self::Console => write!(f, "the console"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: u64 = 8_000;

    /// Looks at these turns, one look each due time, and once too early. Returns whether it is stuck at the last, and at none
    /// before.
    fn is_stuck_at_last(seen: &[Seen]) -> bool {
        let mut watcher = Watcher::new();
        let mut stuck = false;
        for (seen, now) in seen.iter().zip((0..).map(|look: u64| look * (PERIOD / LOOKS))) {
            assert!(!stuck, "only the last");
            stuck = watcher.look(now, PERIOD, || *seen);
            assert!(!watcher.look(now + PERIOD / LOOKS - 1, PERIOD, || unreachable!("it is not due")));
        }
        stuck
    }

    fn turns(turns: u64) -> Seen {
        Seen { turns, halts: false }
    }

    #[test]
    fn a_cpu_without_a_turn_in_the_whole_time_is_stuck_and_no_other() {
        assert!(is_stuck_at_last(&[turns(7); 9]));
        assert!(!is_stuck_at_last(&[turns(7); 8]));
        let busy: [Seen; 30] = core::array::from_fn(|at| turns(at as u64 / 6));
        assert!(!is_stuck_at_last(&busy), "a turn in three quarters of the time");
        assert!(!is_stuck_at_last(&[Seen { turns: 7, halts: true }; 30]));
        let mut late = [turns(7); 9];
        late[8].halts = true;
        assert!(!is_stuck_at_last(&late));
    }

    #[test]
    fn a_machine_that_stood_still_has_had_one_look() {
        let mut watcher = Watcher::new();
        assert!(!watcher.look(0, PERIOD, || turns(7)));
        for pause in 1..LOOKS {
            assert!(!watcher.look(pause * 1_000_000_000, PERIOD, || turns(7)));
        }
        assert!(watcher.look(LOOKS * 1_000_000_000, PERIOD, || turns(7)));
    }

    #[test]
    fn another_time_counts_from_the_last_look() {
        let mut watcher = Watcher::new();
        assert!(!watcher.look(1000, 1000 * PERIOD, || turns(7)));
        assert_eq!(watcher.due_ns(1000 * PERIOD), 1000 + 1000 * PERIOD / LOOKS);
        assert_eq!(watcher.due_ns(PERIOD), 1000 + PERIOD / LOOKS);
        for look in 1..LOOKS {
            assert!(!watcher.look(1000 + look * PERIOD / LOOKS, PERIOD, || turns(7)));
        }
        assert!(watcher.look(1000 + PERIOD, PERIOD, || turns(7)));
    }

    #[test]
    fn the_key_is_off_or_seconds() {
        assert_eq!(parse("off"), Ok(None));
        assert_eq!(parse("5"), Ok(Some(5)));
        assert_eq!(parse("3600"), Ok(Some(3600)));
        for wrong in ["", "on", "0", "4", "3601", "+5", "5s", "99999999999999999999"] {
            parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn what_a_cpu_serves_is_a_word() {
        let queue = Serving::Queue { export: 300, queue: 65_535 };
        for serving in [Serving::Nothing, queue, Serving::Network, Serving::Job, Serving::Console] {
            assert_eq!(Serving::of_word(serving.to_word()), serving);
        }
    }
}
