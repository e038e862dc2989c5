//! What the appliance is told to be: `config`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::{Arguments, CommandSpec, flag, option, optional};
use crate::admin::reply::{Object, Outcome, Reply};
use crate::admin::request::{Command, Look, Parsed, Request};
use crate::config::Source;
use crate::error::AdminError;

/// The settings, in force and stored.
pub trait ConfigAdmin {
    /// All of it.
    fn config(&self) -> Configuration;

    /// Gives a key a value, which is in force when this returns. `config save` keeps it.
    ///
    /// # Errors
    /// Not found: there is no such key, or what the value names; usage: the value is none; failed: it cannot be put in force.
    /// Nothing has changed then.
    fn set_config(&mut self, key: &str, value: &str) -> Result<Entry, AdminError>;

    /// Gives a key its default.
    ///
    /// # Errors
    /// As [`ConfigAdmin::set_config`].
    fn unset_config(&mut self, key: &str) -> Result<Entry, AdminError>;

    /// Gives every key its default. `config save` keeps that.
    ///
    /// # Errors
    /// The first key's that cannot have it; those before it have it.
    fn reset_config(&mut self) -> Result<(), AdminError>;

    /// Stores what is set, durably.
    ///
    /// # Errors
    /// Failed: there is no place, or not enough room; damaged: no medium keeps it.
    fn save_config(&mut self, request: &SaveConfig) -> Result<Saved, AdminError>;
}

/// The part of the appliance that the commands are for.
pub type Part = dyn ConfigAdmin;

/// The commands.
pub static COMMANDS: &[Command<Part>] = &[Command {
    spec: CommandSpec {
        name: "config",
        summary: "what the appliance is told to be: show, set, unset, save, reset",
        words: &[
            optional("ACTION", "show (if left out), set KEY VALUE, unset KEY, save, or reset"),
            optional("KEY", "the key"),
            optional("VALUE", "its value; items have a comma between, and none is none"),
        ],
        options: &[
            option('r', "region", "REGION", "save: also in a namespace of its own there, untorn-config"),
            flag('f', "force", "save: over what a newer version wrote"),
        ],
        details: "A value is in force at once, and kept by save: on the media, in two copies each. export, allow, disable-namespace\n\
                  and the like set their keys, too. The image's command line comes before what is stored, for one boot.\n\
                  reset gives every key its default; save keeps that. Secrets are stored and not shown.\n",
    },
    parse,
}];

fn parse(line: &Arguments<'_>) -> Parsed<Part> {
    let action = line.word(0).unwrap_or("show");
    let (key, value) = (line.word(1), line.word(2));
    let is_save = action == "save";
    if !is_save && (line.flag("region") || line.flag("force")) {
        return Err(line.usage("-r and -f go with save"));
    }
    let missing = |what| line.usage(format!("{action}: {what} is missing"));
    let too_many = |word| line.usage(format!("\"{word}\" is a word too many"));
    match (action, key, value) {
        ("set", Some(key), Some(value)) => Ok(Box::new(SetConfig { key: key.into(), value: Hidden(value.into()) })),
        ("set", None, _) | ("unset", None, _) => Err(missing("KEY")),
        ("set", Some(_), None) => Err(missing("VALUE")),
        ("unset", Some(key), None) => Ok(Box::new(UnsetConfig { key: key.into() })),
        ("unset", _, Some(word)) | ("show" | "save" | "reset", Some(word), _) => Err(too_many(word)),
        ("show", None, _) => Ok(Box::new(ShowConfig)),
        ("reset", None, _) => Ok(Box::new(ResetConfig)),
        ("save", None, _) => {
            Ok(Box::new(SaveConfig { region: line.value("region").map(Into::into), force: line.flag("force") }))
        }
        (other, ..) => Err(line.usage(format!("ACTION: \"{other}\" is none of show, set, unset, save and reset"))),
    }
}

/// `config show`.
#[derive(Debug)]
pub struct ShowConfig;

/// `config set`.
#[derive(Debug)]
pub struct SetConfig {
    key: String,
    value: Hidden,
}

/// A value, which may have a secret in it.
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
}

/// `config unset`.
#[derive(Debug)]
pub struct UnsetConfig {
    key: String,
}

/// `config reset`.
#[derive(Debug)]
pub struct ResetConfig;

/// `config save`.
#[derive(Debug)]
pub struct SaveConfig {
    /// `-r`: also in a namespace of its own in this region.
    pub region: Option<String>,
    /// `-f`: over what a newer version wrote.
    pub force: bool,
}

impl Look<Part> for ShowConfig {
    fn look(&self, part: &Part) -> Result<Outcome, AdminError> {
        Ok(part.config().into())
    }
}

impl Request<Part> for SetConfig {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(part.set_config(&self.key, &self.value.0)?.into())
    }
}

impl Request<Part> for UnsetConfig {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(part.unset_config(&self.key)?.into())
    }
}

impl Request<Part> for ResetConfig {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        part.reset_config()?;
        Ok(part.config().into())
    }
}

impl Request<Part> for SaveConfig {
    fn execute(self: Box<Self>, part: &mut Part) -> Result<Outcome, AdminError> {
        Ok(part.save_config(&self)?.into())
    }
}

/// The reply to `config show`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// The keys, by name.
    pub keys: Vec<Entry>,
    /// Whether something is set that is not saved.
    pub unsaved: bool,
    /// Where copies are stored.
    pub copies: Vec<StoredCopy>,
}

/// A key with its value: the reply to `config set` and `config unset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// The value that is in force. Secrets in it are hidden.
    pub value: String,
    /// Where it is from.
    pub from: Source,
    /// What it is by default.
    pub default: String,
    /// What it does.
    pub what: String,
}

/// A place where the configuration is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredCopy {
    /// Its namespace.
    pub dev: String,
    /// How often what it has was saved; `None` if none of it is sound.
    pub saved: Option<u64>,
    /// Whether both of its copies are sound.
    pub is_whole: bool,
    /// The major version of the newer untorn that has written it; what it says is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newer: Option<u16>,
}

/// The reply to `config save`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// How often it has been saved.
    pub saved: u64,
    /// The namespaces that have it now.
    pub copies: Vec<String>,
    /// Those that do not, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

fn row(out: &mut dyn fmt::Write, key: &str, from: &str, value: &str) -> fmt::Result {
    writeln!(out, "{key:<14} {from:<13} {value}")
}

impl Reply for Configuration {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        row(out, "KEY", "FROM", "VALUE")?;
        self.keys.iter().try_for_each(|entry| row(out, &entry.key, entry.from.as_str(), &entry.value))?;
        match self.copies.as_slice() {
            [] => writeln!(out, "nothing is stored: config save keeps what is set")?,
            copies => copies.iter().try_for_each(|copy| {
                let state = match (copy.saved, copy.is_whole, copy.newer) {
                    (None, _, Some(major)) => format!("of a newer untorn (version {major}), and left alone"),
                    (None, ..) => "damaged".into(),
                    (Some(times), whole, _) => {
                        let (s, rest) =
                            (if times == 1 { "" } else { "s" }, if whole { "" } else { ", one copy damaged" });
                        format!("saved {times} time{s}{rest}")
                    }
                };
                writeln!(out, "stored in {}: {state}", copy.dev)
            })?,
        }
        if self.unsaved {
            writeln!(out, "some of it is not saved: config save keeps it")?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

impl Reply for Entry {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let kept = if self.from == Source::Set { "; config save keeps it" } else { "" };
        writeln!(out, "{} is {}{kept}", self.key, self.value)
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}

impl Reply for Saved {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(out, "saved in {}", self.copies.join(" "))?;
        self.failed.iter().try_for_each(|why| writeln!(out, "not in {why}"))
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
