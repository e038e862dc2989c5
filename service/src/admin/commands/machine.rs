//! The machine while it runs, and its end: `stats`, `trace`, `poweroff`, `reboot`.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::{CommandSpec, long_flag};
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Look, Request};
use crate::admin::{figures, prometheus};
use crate::error::AdminError;
use crate::events::Ended;
use crate::stats::Stats;

/// The machine's counters and log, and its end.
pub trait MachineAdmin {
    /// The counters.
    fn stats(&self) -> Stats;

    /// The newest events.
    fn trace(&self) -> Trace;

    /// Leaves the media as a clean shutdown should, so that no write waits for recovery: before the machine stops or starts
    /// anew.
    ///
    /// # Errors
    /// Failed: some writes could not be made durable. The machine goes on.
    fn quiesce(&mut self) -> Result<(), AdminError>;
}

/// The part of the appliance that the commands are for.
pub type Part = dyn MachineAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[
    Command {
        spec: CommandSpec {
            name: "stats",
            summary: "counters",
            words: &[],
            options: &[long_flag("prometheus", "in Prometheus's text format")],
            details: "A disk's since it was opened, a queue's since it was started, all others since boot.\n\
                      latency: from when the appliance begins a request until it is done.\n\
                      tried again: reads whose sector was written meanwhile; writes whose free block the medium refused.\n\
                      by CPU: those that have done anything.\n",
        },
        parse: |line| Ok(Box::new(ShowStats { prometheus: line.flag("prometheus") })),
    },
    Command {
        spec: CommandSpec {
            name: "trace",
            summary: "the newest steps of queues, and events",
            words: &[],
            options: &[],
            details: "",
        },
        parse: |_| Ok(Box::new(ShowTrace)),
    },
    Command {
        spec: CommandSpec {
            name: "poweroff",
            summary: "make everything durable and stop the machine",
            words: &[],
            options: &[],
            details: "",
        },
        parse: |_| Ok(Box::new(Poweroff)),
    },
    Command {
        spec: CommandSpec {
            name: "reboot",
            summary: "make everything durable and start the machine anew",
            words: &[],
            options: &[],
            details: "",
        },
        parse: |_| Ok(Box::new(Reboot)),
    },
];

/// `stats`.
#[derive(Debug)]
pub struct ShowStats {
    /// In Prometheus's text format.
    pub prometheus: bool,
}

/// `trace`.
#[derive(Debug)]
pub struct ShowTrace;

/// `poweroff`.
#[derive(Debug)]
pub struct Poweroff;

/// `reboot`.
#[derive(Debug)]
pub struct Reboot;

impl Look<Part> for ShowStats {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        let stats = part.stats();
        Ok(if self.prometheus { Prometheus(stats).into() } else { stats.into() })
    }
}

impl Look<Part> for ShowTrace {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(part.trace().into())
    }
}

impl Request<Part> for Poweroff {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        part.quiesce()?;
        Ok(Outcome::Poweroff)
    }

    fn ends_machine(&self) -> Option<Ended> {
        Some(Ended::Poweroff)
    }
}

impl Request<Part> for Reboot {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        part.quiesce()?;
        Ok(Outcome::Reboot)
    }

    fn ends_machine(&self) -> Option<Ended> {
        Some(Ended::Reboot)
    }
}

impl Reply for Stats {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        figures::write(self, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

/// The reply to `stats --prometheus`.
#[derive(Debug)]
struct Prometheus(Stats);

impl Reply for Prometheus {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        prometheus::write(&self.0, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("prometheus", &prometheus::text(&self.0))
    }
}

/// The reply to `trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The newest events, oldest first.
    pub events: Vec<TraceEvent>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceEvent {
    /// When: microseconds since the image began.
    pub at: u64,
    /// The CPU that saw it.
    pub cpu: u32,
    /// The event, in words.
    pub event: String,
}

impl Reply for Trace {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for TraceEvent { at, cpu, event } in &self.events {
            writeln!(out, "{:>6}.{:06} cpu {cpu}: {event}", at / 1_000_000, at % 1_000_000)?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
