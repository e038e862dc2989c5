//! Replies, and how each mode writes them.
//!
//! | mode | a reply | an error |
//! |---|---|---|
//! | console | its text | `error (CODE): …` |
//! | text | its text, then a line of [`RS`] and the exit status | the same |
//! | json | one object on one line, its own members after `"ok":true` | `{"ok":false,"error":…}` |

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use serde::Serialize;

use super::request_id::RequestId;
use crate::error::AdminError;

/// Begins the line that ends a reply in mode text: the exit status follows it.
pub const RS: char = '\x1e';

/// How a session talks: to a person, or to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To a person: a prompt, echo and line editing; replies as text.
    Console,
    /// To a program: the replies' texts, each followed by a line with its exit status.
    Text,
    /// To a program: one JSON object a line for each request line.
    Json,
}

impl Mode {
    /// All modes, in the order of their help.
    pub const ALL: [Self; 3] = [Self::Console, Self::Text, Self::Json];

    /// Its name in the `mode` command.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The reply to `reboot`, as text. By it a program at the console knows that the machine starts anew.
pub const REBOOTING: &str = "rebooting";

/// The outcome of a request, as far as a session must know it.
#[derive(Debug)]
pub enum Outcome {
    /// A reply; the session goes on as it is.
    Reply(Box<dyn Reply>),
    /// `mode`: the reply to it is in that mode already.
    Mode {
        /// The new mode.
        mode: Mode,
        /// Whether long commands tell how far they are.
        progress: bool,
    },
    /// `poweroff`: everything is durable; the machine is to be stopped once the reply is sent.
    Poweroff,
    /// `reboot`, likewise.
    Reboot,
}

/// The reply to a command that was carried out.
pub trait Reply: fmt::Debug + Send {
    /// Writes its lines for a person, each with its end.
    ///
    /// # Errors
    /// The writer's.
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes its members of the JSON object for a program.
    ///
    /// # Errors
    /// The writer's.
    fn json(&self, object: &mut Object<'_>) -> fmt::Result;

    /// The exit status of a script whose command got this reply. Other than 0 where the command did its work and found
    /// something wrong.
    fn exit_code(&self) -> u8 {
        0
    }

    /// Whether the command was ended before it was done.
    fn is_interrupted(&self) -> bool {
        false
    }
}

impl<R: Reply + 'static> From<R> for Outcome {
    fn from(reply: R) -> Self {
        Self::Reply(Box::new(reply))
    }
}

impl Outcome {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::Reply(reply) => reply.text(out),
            Self::Mode { .. } => Ok(()),
            Self::Poweroff => writeln!(out, "powering off"),
            Self::Reboot => writeln!(out, "{REBOOTING}"),
        }
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        match self {
            Self::Reply(reply) => reply.json(object),
            Self::Mode { mode, .. } => object.member("mode", mode.as_str()),
            Self::Poweroff | Self::Reboot => Ok(()),
        }
    }

    /// Whether the command was ended before it was done.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Self::Reply(reply) if reply.is_interrupted())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Reply(reply) => reply.exit_code(),
            Self::Mode { .. } | Self::Poweroff | Self::Reboot => 0,
        }
    }
}

/// Writes a reply or an error as `mode` has it, all of it.
///
/// # Errors
/// The writer's.
pub fn write(mode: Mode, outcome: &Result<Outcome, AdminError>, out: &mut dyn fmt::Write) -> fmt::Result {
    write_with_id(mode, None, outcome, out)
}

/// Writes the reply to a request that may have an id, which the reply then has, too: in mode json as the member `id`, in mode
/// text behind the exit status.
///
/// # Errors
/// The writer's.
pub fn write_with_id(
    mode: Mode,
    id: Option<&RequestId>,
    outcome: &Result<Outcome, AdminError>,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    match mode {
        Mode::Console => write_text(outcome, out),
        Mode::Text => {
            write_text(outcome, out)?;
            write_end(id, outcome.as_ref().map_or_else(|error| error.code.exit_code(), Outcome::exit_code), out)
        }
        Mode::Json => {
            write_json(id, outcome, out)?;
            out.write_char('\n')
        }
    }
}

/// Writes the line that ends a reply in mode text.
///
/// # Errors
/// The writer's.
pub fn write_end(id: Option<&RequestId>, exit_code: u8, out: &mut dyn fmt::Write) -> fmt::Result {
    match id {
        Some(id) => writeln!(out, "{RS}{exit_code} {}", id.as_json()),
        None => writeln!(out, "{RS}{exit_code}"),
    }
}

fn write_text(outcome: &Result<Outcome, AdminError>, out: &mut dyn fmt::Write) -> fmt::Result {
    match outcome {
        Ok(outcome) => outcome.text(out),
        Err(error) => writeln!(out, "error ({}): {error}", error.code),
    }
}

/// A command that did its work and found something wrong has its exit status as the last member: `"exit":4`.
pub(crate) fn write_json(
    id: Option<&RequestId>,
    outcome: &Result<Outcome, AdminError>,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    write!(out, "{{\"ok\":{}", outcome.is_ok())?;
    if let Some(id) = id {
        write!(out, ",\"id\":{}", id.as_json())?;
    }
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return write!(out, ",\"error\":{}}}", json(error)),
    };
    outcome.json(&mut Object(out))?;
    if outcome.exit_code() != 0 {
        write!(out, ",\"exit\":{}", outcome.exit_code())?;
    }
    out.write_str("}")
}

/// A reply's JSON object, which has a first member already.
pub struct Object<'out>(&'out mut dyn fmt::Write);

impl Object<'_> {
    /// Adds the members of `object`, which serialises as an object.
    ///
    /// # Errors
    /// The writer's.
    pub fn members(&mut self, object: &impl Serialize) -> fmt::Result {
        self.raw_members(&json(object))
    }

    /// Adds the members of an object that is JSON already.
    ///
    /// # Errors
    /// The writer's.
    pub fn raw_members(&mut self, object: &str) -> fmt::Result {
        match object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some("") | None => Ok(()),
            Some(members) => write!(self.0, ",{members}"),
        }
    }

    /// Adds one member.
    ///
    /// # Errors
    /// The writer's.
    pub fn member<V: Serialize + ?Sized>(&mut self, name: &str, value: &V) -> fmt::Result {
        self.raw_member(name, json(value))
    }

    /// Adds one member whose value is JSON already.
    ///
    /// # Errors
    /// The writer's.
    pub fn raw_member(&mut self, name: &str, json: impl fmt::Display) -> fmt::Result {
        write!(self.0, ",\"{name}\":{json}")
    }
}

/// Replies have string keys and plain values, which always serialise.
fn json<V: Serialize + ?Sized>(value: &V) -> String {
    serde_json::to_string(value).expect("string keys and plain values")
}
