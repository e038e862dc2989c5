//! The commands that a session executes by itself: `help`, `version`, `mode`, `exit`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::admin::grammar::{CommandSpec, long_flag, optional, word};
use crate::admin::help;
use crate::admin::reply::{Mode, Object, Outcome, Reply};
use crate::admin::request::{Command, Look, Request};
use crate::admin::schema;
use crate::admin::suggest::what_there_is;
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
            options: &[long_flag("schema", "the requests and replies of mode json as a JSON Schema")],
            details: "Numbers are decimal, or hexadecimal after 0x. Sizes may end in K, M, G or T (powers of 1024).\n\
                      Blanks separate words; '...' and \"...\" keep them together. -- ends the options,\n\
                      and # where a word could begin starts a comment. CMD -h and CMD --help are help CMD.\n\
                      A program's line may have a number (#7 status), or be an object ({\"id\":7,\"command\":\"status\"}):\n\
                      its reply has the id, too.\n",
        },
        parse: |line| {
            let topic = line.word(0).map(Into::into);
            Ok(if line.flag("schema") { Box::new(Schema) } else { Box::new(Help { topic }) })
        },
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
            options: &[long_flag("progress", "text, json: lines before a reply tell how far a long command is")],
            details: "console: prompt, echo, line editing; replies for people.\n\
                      text: the same replies without prompt and echo, each followed by a line of the byte 0x1e and the\n\
                      exit status: 0 ok, 1 failed, 2 usage, 3 not found, 4 damaged.\n\
                      json: one object a line for each request line; never anything else.\n\
                      --progress: a line before the reply begins with the byte 0x1f, or is an object with progress.\n\
                      The reply to mode itself is already in the new mode.\n",
        },
        parse: |line| {
            let name = line.required(0)?;
            match Mode::ALL.into_iter().find(|mode| mode.as_str() == name) {
                Some(mode) => Ok(Box::new(ChangeMode { mode, progress: line.flag("progress") })),
                None => Err(line.usage(format!("MODE: \"{name}\" is not console, text or json"))),
            }
        },
    },
    Command {
        spec: CommandSpec {
            name: "exit",
            summary: "how to leave the console (quit)",
            words: &[],
            options: &[],
            details: "",
        },
        parse: |_| Ok(Box::new(Exit)),
    },
];

/// `help`: all commands, or one.
#[derive(Debug)]
pub struct Help {
    /// The command to explain.
    pub topic: Option<String>,
}

/// `help --schema`.
#[derive(Debug)]
pub struct Schema;

/// `help` for the command of this name.
pub(in crate::admin) fn help(name: &str) -> Box<dyn Request<Part>> {
    Box::new(Help { topic: Some(name.into()) })
}

/// `version`.
#[derive(Debug)]
pub struct Version;

/// `exit`.
#[derive(Debug)]
pub struct Exit;

/// What a person is told who wants to leave: nobody logs in here, so nobody can log out.
pub const HOW_TO_LEAVE: &str = "the console stays: poweroff stops the machine. A serial line is left in the terminal program \
                                (Ctrl-A and X in QEMU, Ctrl-A and K in screen); in untornctl Ctrl-] pulls the machine's plug.";

/// `mode`.
#[derive(Debug)]
pub struct ChangeMode {
    /// The new mode.
    pub mode: Mode,
    /// Whether long commands tell how far they are, in a mode for programs.
    pub progress: bool,
}

impl Look<Part> for Help {
    fn look(&self, manual: &Part) -> Result<Outcome, AdminError> {
        let Some(topic) = &self.topic else { return Ok(Commands(manual.0.clone()).into()) };
        match manual.0.iter().find(|spec| spec.is_called(topic)) {
            Some(spec) => Ok(Explained(spec).into()),
            None => Err(AdminError::not_found(format!(
                "no command \"{topic}\": {}",
                what_there_is(topic, manual.0.iter().map(|spec| spec.name))
            ))),
        }
    }
}

impl Look<Part> for Schema {
    fn look(&self, manual: &Part) -> Result<Outcome, AdminError> {
        Ok(Described(schema::of(manual.0.iter().copied())).into())
    }
}

impl Look<Part> for Version {
    fn look(&self, _: &Part) -> Result<Outcome, AdminError> {
        Ok(Build { name: "untorn", version: crate::VERSION }.into())
    }
}

impl Look<Part> for Exit {
    fn look(&self, _: &Part) -> Result<Outcome, AdminError> {
        Ok(Leaving.into())
    }
}

impl Request<Part> for ChangeMode {
    fn is_change(&self) -> bool {
        false
    }

    fn execute(self: Box<Self>, _: &mut Part) -> Result<Outcome, AdminError> {
        Ok(Outcome::Mode { mode: self.mode, progress: self.progress })
    }

    fn mode(&self) -> Option<(Mode, bool)> {
        Some((self.mode, self.progress))
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

/// The reply to `help --schema`.
#[derive(Debug)]
struct Described(Value);

impl Reply for Described {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{}", self.0)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("schema", &self.0)
    }
}

/// The reply to `exit`.
#[derive(Debug)]
struct Leaving;

impl Reply for Leaving {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "{HOW_TO_LEAVE}")
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.member("how", HOW_TO_LEAVE)
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
