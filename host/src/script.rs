//! Several admin commands in a row: the text of `--exec`, and how it is run.

use std::fmt;
use std::io::{self, Write};

use service::admin::words;
use service::events::Ended;

use crate::appliance::{ApplianceError, ApplianceProcess};
use crate::deadline::Deadline;
use crate::limits::COMMAND;
use crate::session::{ReplyForm, ends, request};

/// A command that a script may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInScript {
    /// `mode`: it would take the replies' form away from under the reader.
    Mode,
    /// `events --follow`: it has no end by itself.
    Follow,
}

impl std::error::Error for NotInScript {}

impl fmt::Display for NotInScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mode => "`mode` is not for scripts: the form of the replies is chosen with --json",
            Self::Follow => {
                "`events --follow` is not for scripts: it goes on until a byte is typed; `events` lists them"
            }
        })
    }
}

/// The commands of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script(Vec<String>);

impl Script {
    /// The commands of `text`, as the admin grammar separates them.
    ///
    /// # Errors
    /// [`NotInScript`].
    pub fn parse(text: &str) -> Result<Self, NotInScript> {
        let commands: Vec<String> = words::commands(text).map(str::to_owned).collect();
        for command in &commands {
            let request = request(command);
            // Also without its word, which is no request.
            let is_mode = request.as_ref().map_or(words::first(command) == "mode", |request| request.mode().is_some());
            if is_mode {
                return Err(NotInScript::Mode);
            }
            if request.is_some_and(|request| request.follow().is_some()) {
                return Err(NotInScript::Follow);
            }
        }
        Ok(Self(commands))
    }
}

/// Runs a script on an appliance that is in a mode for programs, in order, also after one that failed, and powers
/// off. They go by its admin port, if it has one. `replies` gets the replies and nothing else.
///
/// Returns the exit code of the first command that failed, or 0.
///
/// # Errors
/// The fault of the appliance, or of `replies`.
pub fn run(
    appliance: &mut ApplianceProcess,
    mode: ReplyForm,
    script: &Script,
    replies: &mut impl Write,
    deadline: Deadline,
) -> Result<u8, ScriptError> {
    appliance.use_port(mode, deadline);
    let mut first_failed = 0;
    for command in &script.0 {
        let reply = appliance.command(command, deadline.or_after(COMMAND))?;
        replies.write_all(reply.text.as_bytes())?;
        replies.flush()?;
        if first_failed == 0 {
            first_failed = reply.exit_code;
        }
        match ends(command, reply.exit_code) {
            None => {}
            // It comes up again on its console.
            Some(Ended::Reboot) => {
                appliance.enter(mode, deadline, |line| eprintln!("{line}"))?;
                appliance.use_port(mode, deadline);
            }
            Some(_) => break,
        }
    }
    appliance.power_off(deadline)?;
    Ok(first_failed)
}

/// Why a script was not run to its end.
#[derive(Debug)]
pub enum ScriptError {
    /// The appliance.
    Appliance(ApplianceError),
    /// The replies cannot be written.
    Replies(io::Error),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appliance(error) => error.fmt(f),
            Self::Replies(error) => write!(f, "nobody takes the replies: {error}"),
        }
    }
}

impl std::error::Error for ScriptError {}

impl From<ApplianceError> for ScriptError {
    fn from(error: ApplianceError) -> Self {
        Self::Appliance(error)
    }
}

impl From<io::Error> for ScriptError {
    fn from(error: io::Error) -> Self {
        Self::Replies(error)
    }
}

#[cfg(test)]
mod tests {
    use super::{NotInScript, Script};

    #[test]
    fn a_script_may_not_change_the_mode_nor_follow_whichever_way_that_is_written() {
        for (script, why) in [
            ("status;  mode console; list", NotInScript::Mode),
            ("'mode' text", NotInScript::Mode),
            ("list # one\nmo\"de\" json", NotInScript::Mode),
            ("status; {\"command\":\"mode\",\"mode\":\"console\"}", NotInScript::Mode),
            ("events --kind boot --follow", NotInScript::Follow),
            ("{\"id\":7,\"command\":\"events\",\"follow\":true}", NotInScript::Follow),
        ] {
            assert_eq!(Script::parse(script), Err(why), "{script}");
        }
        let sound = ["modes", "help mode", "mode -h", "events", "{\"command\":\"events\",\"follow\":false}"];
        assert_eq!(Script::parse(&sound.join("; ")).expect("it changes no mode").0, sound);
    }
}
