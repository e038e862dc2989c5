//! What has happened: `events`.
//!
//! `events --follow` is a session's own ([`crate::console`]): it goes on until a byte comes, and keeps nobody waiting.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::admin::grammar::{Arguments, CommandSpec, long_flag, long_option};
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Look};
use crate::admin::values::number;
use crate::error::AdminError;
use crate::events::{Event, Filter, Kind, LastBoot, Severity};
use crate::link::Asker;

/// The columns of a terminal.
const COLUMNS: usize = 80;

/// The columns before an event's words: time, severity, kind, a blank after each.
const INDENT: usize = 30;

/// The appliance's events.
pub trait EventAdmin {
    /// The number of the newest event.
    fn newest_event(&self) -> u64;

    /// The events that are still kept, oldest first: those that the filter takes.
    fn events(&self, filter: &Filter) -> Vec<Event>;

    /// Those of the boot before. `None`: nothing of them was kept.
    fn last_boot(&self) -> Option<LastBoot>;

    /// Keeps an event: a command that changes something was carried out for `by`, or failed. `command` has no secrets.
    fn note_change(&self, by: Asker, command: &str, failed: Option<&AdminError>);
}

/// The part of the appliance that the commands are for.
pub type Part = dyn EventAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[Command {
    spec: CommandSpec {
        name: "events",
        summary: "what has happened",
        words: &[],
        options: &[
            long_flag("follow", "go on, until a byte is typed"),
            long_option("severity", "S", "only those as bad as this: info, warning, error"),
            long_option("kind", "K", "only those about this"),
            long_option("after", "N", "only those after the one of this number"),
            long_flag("last-boot", "those of the boot before, if memory kept them"),
        ],
        details: "Kinds: boot, machine, namespace, recovery, media, network, consumer, host, admin,\n\
                  config, watchdog, panic. The newest 112 events are kept, over a reset too, but not\n\
                  without power. In mode json --follow sends each event as an object on a line of its\n\
                  own, and the reply when it ends.\n",
    },
    parse: |line| Ok(Box::new(ShowEvents::parse(line)?)),
}];

/// `events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShowEvents {
    filter: Filter,
    follow: bool,
    last_boot: bool,
}

impl ShowEvents {
    fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        let severity = line.value("severity").map(|text| {
            let found = Severity::ALL.into_iter().find(|severity| severity.as_str() == text);
            found.ok_or_else(|| line.usage(format!("--severity: \"{text}\" is not info, warning or error")))
        });
        let kind = line.value("kind").map(|text| {
            let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
            found.ok_or_else(|| {
                let all: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
                line.usage(format!("--kind: \"{text}\" is none of {}", all.join(", ")))
            })
        });
        let after = line.value("after").map(|text| line.check(number("--after", text))).transpose()?;
        let filter =
            Filter { severity: severity.transpose()?, kind: kind.transpose()?, after: after.unwrap_or_default() };
        let (follow, last_boot) = (line.flag("follow"), line.flag("last-boot"));
        if follow && last_boot {
            return Err(line.usage("--last-boot is over: there is nothing to follow"));
        }
        Ok(Self { filter, follow, last_boot })
    }
}

impl Look<Part> for ShowEvents {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        if self.follow {
            return Err(AdminError::usage(
                "a request beside a person's console ends with its reply: ask again with --after NUMBER",
            ));
        }
        if self.last_boot {
            let mut last = part.last_boot();
            if let Some(last) = &mut last {
                last.events.retain(|event| self.filter.takes(event));
            }
            return Ok(LastEvents(last).into());
        }
        let newest = part.newest_event();
        let events = part.events(&self.filter);
        // Some may have come meanwhile, of other CPUs.
        let newest = newest.max(events.last().map_or(0, |event| event.number));
        Ok(Events { events, newest }.into())
    }

    fn follow(&self) -> Option<Filter> {
        self.follow.then_some(self.filter)
    }
}

/// The reply to `events`.
#[derive(Debug)]
struct Events {
    events: Vec<Event>,
    newest: u64,
}

impl Reply for Events {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        table(&self.events, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("events", &self.events)?;
        object.member("newest", &self.newest)
    }
}

/// The reply to `events --last-boot`.
#[derive(Debug)]
struct LastEvents(Option<LastBoot>);

impl Reply for LastEvents {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let Some(last) = &self.0 else {
            return writeln!(
                out,
                "nothing was kept: the power was off, this is the first boot, or there is too little memory"
            );
        };
        writeln!(out, "boot {} ended {}", last.boot, last.ended.in_words())?;
        table(&last.events, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("kept", &self.0.is_some())?;
        if let Some(last) = &self.0 {
            object.member("boot", &last.boot)?;
            object.member("ended", &last.ended)?;
        }
        object.member("events", &self.0.as_ref().map_or(&[][..], |last| &last.events))
    }
}

/// The reply when `events --follow` ends.
#[derive(Debug)]
pub struct FollowEnds {
    /// The number of the last event that was looked at.
    pub newest: u64,
}

impl Reply for FollowEnds {
    fn text(&self, _: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("newest", &self.newest)
    }
}

fn table(events: &[Event], out: &mut dyn fmt::Write) -> fmt::Result {
    if events.is_empty() {
        return writeln!(out, "no events");
    }
    heading(out)?;
    events.iter().try_for_each(|event| row(event, out))
}

/// Writes the heading of a table of events.
///
/// # Errors
/// The writer's.
pub fn heading(out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(out, "       TIME SEVERITY KIND      EVENT")
}

/// Writes an event as rows of a table, each of which fits a terminal unless a word does not.
///
/// # Errors
/// The writer's.
pub fn row(event: &Event, out: &mut dyn fmt::Write) -> fmt::Result {
    let ms = event.at_ns / 1_000_000;
    let (severity, kind) = (event.severity.as_str(), event.kind.as_str());
    write!(out, "{:>7}.{:03} {severity:<8} {kind:<9}", ms / 1000, ms % 1000)?;
    let mut column = INDENT;
    for word in format!("{event}").split_whitespace() {
        let width = word.chars().count();
        if column + 1 + width > COLUMNS && column > INDENT {
            write!(out, "\n{:INDENT$}", "")?;
            column = INDENT;
        }
        write!(out, " {}", printable(word))?;
        column += 1 + width;
    }
    writeln!(out)
}

/// A word without control characters: hosts choose their names.
fn printable(word: &str) -> String {
    word.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}
