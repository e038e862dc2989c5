//! The commands that a session executes by itself: `help`, `version`, `mode`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::{CommandSpec, optional, word};
use crate::admin::help;
use crate::admin::reply::{Mode, Object, Outcome, Reply};
use crate::admin::request::{Command, Look, Request};
use crate::error::AdminError;

/// The context of a session's commands: the specifications of all commands.
#[derive(Debug)]
pub struct Manual(pub Vec<&'static CommandSpec>);

/// The part that the commands are for: none of the appliance's.
pub type Part = Manual;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[
    Command {
        spec: CommandSpec {
            name: "help",
            summary: "list the commands, or explain one",
            words: &[optional("CMD", "the command to explain")],
            options: &[],
            details: "Numbers are decimal, or hexadecimal after 0x. Sizes may end in K, M, G or T (powers of 1024).\n\
                      Blanks separate words; '...' and \"...\" keep them together. -- ends the options,\n\
                      and # where a word could begin starts a comment.\n",
        },
        parse: |line| Ok(Box::new(Help { topic: line.word(0).map(Into::into) })),
    },
    Command {
        spec: CommandSpec { name: "version", summary: "which build this is", words: &[], options: &[], details: "" },
        parse: |_| Ok(Box::new(Version)),
    },
    Command {
        spec: CommandSpec {
            name: "mode",
            summary: "talk as a console, as plain text, or in JSON lines",
            words: &[word("MODE", "console, text or json")],
            options: &[],
            details: "console: prompt, echo, line editing; replies for people.\n\
                      text: the same replies without prompt and echo, each followed by a line of the byte 0x1e and the\n\
                      exit status: 0 ok, 1 failed, 2 usage, 3 not found, 4 damaged.\n\
                      json: one object a line for each request line; never anything else.\n\
                      The reply to mode itself is already in the new mode.\n",
        },
        parse: |line| {
            let name = line.required(0)?;
            match Mode::ALL.into_iter().find(|mode| mode.as_str() == name) {
                Some(mode) => Ok(Box::new(ChangeMode(mode))),
                None => Err(line.usage(format!("MODE: \"{name}\" is not console, text or json"))),
            }
        },
    },
];

/// `help`: all commands, or one.
#[derive(Debug)]
pub struct Help {
    /// The command to explain.
    pub topic: Option<String>,
}

/// `version`.
#[derive(Debug)]
pub struct Version;

/// `mode`.
#[derive(Debug)]
pub struct ChangeMode(pub Mode);

impl Look<Part> for Help {
    fn look(&self, manual: &Part) -> Result<Outcome, AdminError> {
        let Some(topic) = &self.topic else { return Ok(Commands(manual.0.clone()).into()) };
        match manual.0.iter().find(|spec| spec.is_called(topic)) {
            Some(spec) => Ok(Explained(spec).into()),
            None => Err(AdminError::not_found(format!("no command \"{topic}\": help lists the commands"))),
        }
    }
}

impl Look<Part> for Version {
    fn look(&self, _: &Part) -> Result<Outcome, AdminError> {
        Ok(Build { name: "untorn", version: crate::VERSION }.into())
    }
}

impl Request<Part> for ChangeMode {
    fn is_change(&self) -> bool {
        false
    }

    fn execute(self: Box<Self>, _: &mut Part) -> Result<Outcome, AdminError> {
        Ok(Outcome::Mode(self.0))
    }

    fn mode(&self) -> Option<Mode> {
        Some(self.0)
    }
}

/// The reply to `help`.
#[derive(Debug)]
struct Commands(Vec<&'static CommandSpec>);

impl Reply for Commands {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        help::all(&self.0, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("commands", &self.0.iter().map(|spec| help::brief(spec)).collect::<Vec<_>>())
    }
}

/// The reply to `help CMD`.
#[derive(Debug)]
struct Explained(&'static CommandSpec);

impl Reply for Explained {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        help::of(self.0, out)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(&help::in_full(self.0))
    }
}

/// The reply to `version`.
#[derive(Debug, Serialize)]
struct Build {
    name: &'static str,
    version: &'static str,
}

impl Reply for Build {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{} {}", self.name, self.version)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
