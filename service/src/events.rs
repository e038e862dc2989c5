//! What happens to the appliance: events, as `events`, `trace` and the log show them.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It goes as it should.
    Info,
    /// Less is served than there is, or not as it should be.
    Warning,
    /// Data are lost, damaged or out of reach.
    Error,
}

impl Severity {
    /// All, from the least.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Error];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The appliance starts, is ready, or ends.
    Boot,
    /// What was found while the machine was brought up.
    Machine,
    /// A namespace is opened, closed, created, destroyed, or found damaged.
    Namespace,
    /// Writes that a power cut had interrupted were finished.
    Recovery,
    /// Memory is lost, cannot be made durable, or takes no writes any more.
    Media,
    /// An interface's link, addresses and faults.
    Network,
    /// A consumer or its bridge comes, goes, or breaks a rule.
    Consumer,
    /// An NVMe host comes, goes, or is refused.
    Host,
    /// Somebody has changed something by a command.
    Admin,
    /// The configuration.
    Config,
    /// A CPU made no step for too long.
    Watchdog,
    /// A mistake of the appliance's own ended it.
    Panic,
}

impl Kind {
    /// All, by number.
    pub const ALL: [Self; 12] = [
        Self::Boot,
        Self::Machine,
        Self::Namespace,
        Self::Recovery,
        Self::Media,
        Self::Network,
        Self::Consumer,
        Self::Host,
        Self::Admin,
        Self::Config,
        Self::Watchdog,
        Self::Panic,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Machine => "machine",
            Self::Namespace => "namespace",
            Self::Recovery => "recovery",
            Self::Media => "media",
            Self::Network => "network",
            Self::Consumer => "consumer",
            Self::Host => "host",
            Self::Admin => "admin",
            Self::Config => "config",
            Self::Watchdog => "watchdog",
            Self::Panic => "panic",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The events of a boot count from 1.
    pub number: u64,
    /// When: nanoseconds since the image began.
    #[serde(rename = "time", with = "seconds")]
    pub at_ns: u64,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// Where: a device, a region, a host, the one who asked. May be empty.
    #[serde(rename = "where")]
    pub place: String,
    /// What, in a sentence.
    pub what: String,
    /// The CPU that saw it.
    pub cpu: u32,
}

/// A line of the log: where, and what.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.what),
            place => write!(f, "{place}: {}", self.what),
        }
    }
}

/// A time in JSON: seconds, as `status` has it, exact to the microsecond for 285 years.
mod seconds {
    use core::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's")]
    pub(super) fn serialize<S: Serializer>(at_ns: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((at_ns / 1000) as f64 / 1e6)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        // The next microsecond from below is this one.
        let time =
            Duration::try_from_secs_f64(f64::deserialize(deserializer)? + 0.000_000_2).map_err(D::Error::custom)?;
        let ns = u64::try_from(time.as_micros()).ok().and_then(|micros| micros.checked_mul(1000));
        ns.ok_or_else(|| D::Error::custom("a time of more than 584 years"))
    }
}

/// Which events are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The least severity.
    pub severity: Option<Severity>,
    /// The kind.
    pub kind: Option<Kind>,
    /// Only those with a greater number.
    pub after: u64,
}

impl Filter {
    /// Whether an event is asked for.
    #[must_use]
    pub fn takes(&self, event: &Event) -> bool {
        event.number > self.after
            && self.severity.is_none_or(|least| event.severity >= least)
            && self.kind.is_none_or(|kind| event.kind == kind)
    }
}

/// The events of the boot before this one, where memory kept them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastBoot {
    /// Its number: boots count from 1 since the power came.
    pub boot: u64,
    /// How it ended.
    pub ended: Ended,
    /// What is left of its events, oldest first.
    pub events: alloc::vec::Vec<Event>,
}

/// How a boot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// By a reset from outside: nothing of ours had asked for one.
    Reset,
    /// By `reboot`.
    Reboot,
    /// By `poweroff`, and the machine did not lose its power.
    Poweroff,
    /// By a mistake of its own.
    Panic,
    /// By the watchdog: a CPU was stuck.
    Watchdog,
}

impl Ended {
    /// All, by number.
    pub const ALL: [Self; 5] = [Self::Reset, Self::Reboot, Self::Poweroff, Self::Panic, Self::Watchdog];

    /// In words, after "it ended".
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Reset => "by a reset from outside, with nothing said",
            Self::Reboot => "by reboot",
            Self::Poweroff => "by poweroff, and the memory kept its power",
            Self::Panic => "by a panic",
            Self::Watchdog => "by the watchdog: a CPU was stuck",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written_to_the_microsecond() {
        for (severity, kind) in Kind::ALL.into_iter().enumerate().map(|(at, kind)| (Severity::ALL[at % 3], kind)) {
            for at_ns in [0, 1, 999, 1000, 12_345_678, 1_499_999_000, 86_399_999_999_000, 9_007_199_254_740_991_000] {
                let event =
                    Event { number: 7, at_ns, severity, kind, place: "a \"b\"".into(), what: "c".into(), cpu: 3 };
                let text = serde_json::to_string(&event).expect("text");
                let (severity, kind) = (severity.as_str(), kind.as_str());
                let rest = alloc::format!(
                    r#","severity":"{severity}","kind":"{kind}","where":"a \"b\"","what":"c","cpu":3}}"#
                );
                assert!(text.starts_with(r#"{"number":7,"time":"#) && text.ends_with(&rest), "{text}");
                let read: Event = serde_json::from_str(&text).expect("an event");
                assert_eq!(read, Event { at_ns: at_ns / 1000 * 1000, ..event }, "{text}");
                for other in ["-1", "1e300", "2e10", "\"1\"", "null"] {
                    let time = &text[18..text.find(",\"severity").expect("one")];
                    let wrong = text.replacen(time, other, 1);
                    assert!(serde_json::from_str::<Event>(&wrong).is_err(), "{wrong}");
                }
            }
        }
    }
}
