//! Several admin commands in a row: the text of `--exec`, and how it is run.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use crate::appliance::{Appliance, ApplianceError};
use crate::deadline::Deadline;
use crate::session::{Mode, command_name};

/// A command that a script may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInScript;

impl fmt::Display for NotInScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`mode` is not for scripts: the form of the replies is chosen with --json")
    }
}

/// The commands of a script.
///
/// # Errors
/// [`NotInScript`] for `mode`: it would take the replies' form away from under the reader.
pub fn parse(script: &str) -> Result<Vec<&str>, NotInScript> {
    let commands = split(script);
    match commands.iter().any(|command| command_name(command) == "mode") {
        true => Err(NotInScript),
        false => Ok(commands),
    }
}

/// Splits a script at its semicolons, but for those inside quotes. What counts as quoted is the admin grammar's to say
/// (`service::admin::words`): the quotes stay, for the appliance reads them, too. Empty commands are left out.
fn split(script: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let (mut start, mut quote, mut escaped) = (0, None, false);
    for (at, char) in script.char_indices() {
        match (char, quote) {
            _ if escaped => escaped = false,
            ('\\', Some('"')) => escaped = true,
            ('"' | '\'', None) => quote = Some(char),
            (_, Some(open)) if char == open => quote = None,
            // A line is one command: an unclosed quote ends with it.
            (';' | '\n' | '\r', None) | ('\n' | '\r', _) => {
                commands.push(&script[start..at]);
                (start, quote) = (at + 1, None);
            }
            _ => {}
        }
    }
    commands.push(&script[start..]);
    commands.into_iter().map(str::trim).filter(|command| !command.is_empty()).collect()
}

/// Runs `commands` on an appliance that is in a mode for programs, in order, also after one that failed, and powers
/// off. `replies` gets the replies and nothing else.
///
/// Returns the exit code of the first command that failed, or 0.
///
/// # Errors
/// What is wrong with the appliance, or with `replies`.
pub fn run(
    appliance: &mut Appliance,
    mode: Mode,
    commands: &[&str],
    replies: &mut impl Write,
    deadline: Deadline,
) -> Result<u8, ScriptError> {
    /// The appliance answers within it, or is dead: `bench` and checks of whole media take their time.
    const COMMAND: Duration = Duration::from_secs(3600);
    let mut first_failed = 0;
    for command in commands {
        let reply = appliance.command(command, deadline.or_after(COMMAND))?;
        replies.write_all(reply.text.as_bytes())?;
        replies.flush()?;
        if first_failed == 0 {
            first_failed = reply.exit_code;
        }
        match command_name(command).as_str() {
            "poweroff" if reply.exit_code == 0 => break,
            // It comes up again on its console.
            "reboot" if reply.exit_code == 0 => appliance.enter(mode, deadline, |line| eprintln!("{line}"))?,
            _ => {}
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
    /// Nobody takes the replies.
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
    use super::{NotInScript, parse, split};

    #[test]
    fn a_script_may_not_change_the_mode() {
        for script in ["status;  mode console; list", "'mode' json", "m\"ode\" text"] {
            assert_eq!(parse(script), Err(NotInScript), "{script}");
        }
        assert_eq!(parse("modes; help mode"), Ok(vec!["modes", "help mode"]));
    }

    #[test]
    fn a_script_is_split_at_semicolons_outside_quotes() {
        let cases: [(&str, &[&str]); 8] = [
            ("", &[]),
            (" ; ;; ", &[]),
            ("status", &["status"]),
            ("status; list -N ;poweroff", &["status", "list -N", "poweroff"]),
            (r#"create-namespace -n "a;b"; list"#, &[r#"create-namespace -n "a;b""#, "list"]),
            (r"create-namespace -n 'a;\'; list", &[r"create-namespace -n 'a;\'", "list"]),
            (r#"a "\";" b; c \; d"#, &[r#"a "\";" b"#, r"c \", "d"]),
            ("open 'quote\nnext; last", &["open 'quote", "next", "last"]),
        ];
        for (script, commands) in cases {
            assert_eq!(split(script), commands, "{script}");
        }
    }
}
