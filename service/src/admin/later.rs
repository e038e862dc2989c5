//! What the grammar has and this version has not: commands and options of later versions.
//!
//! They parse like all others, so that a wrong line is a usage error today as it will be then; a right one is answered
//! "unavailable", with what to do meanwhile. Whoever adds one removes its line here.

use alloc::format;

use super::parse::Arguments;
use crate::error::AdminError;

/// A command or an option that is still to come.
#[derive(Debug)]
struct Later {
    command: &'static str,
    /// An option of it by its long name, and the one value that is meant if not all; None: the whole command.
    option: Option<(&'static str, Option<&'static str>)>,
    meanwhile: &'static str,
}

const fn command(command: &'static str, meanwhile: &'static str) -> Later {
    Later { command, option: None, meanwhile }
}

const fn option(command: &'static str, long: &'static str, meanwhile: &'static str) -> Later {
    Later { command, option: Some((long, None)), meanwhile }
}

const fn value(command: &'static str, long: &'static str, value: &'static str, meanwhile: &'static str) -> Later {
    Later { command, option: Some((long, Some(value))), meanwhile }
}

const LATER: &[Later] = &[
    value("create-namespace", "type", "blk", "use a pmem region"),
    option("check-namespace", "repair", "check without it, and repair with ndctl check-namespace on Linux"),
    option("check-namespace", "rewrite-log", "check without it, and rewrite with ndctl check-namespace on Linux"),
    option("check-namespace", "force", "leave it out: a check that only reports needs no force"),
];

/// Refuses what this version has not.
///
/// # Errors
/// Unavailable, with what to do meanwhile.
pub(super) fn check(arguments: &Arguments<'_>) -> Result<(), AdminError> {
    let name = arguments.spec().name;
    for later in LATER.iter().filter(|later| later.command == name) {
        let what = match later.option {
            None => name.into(),
            Some((long, None)) if arguments.flag(long) => format!("{name} --{long}"),
            Some((long, Some(value))) if arguments.value(long) == Some(value) => format!("{name} --{long}={value}"),
            Some(_) => continue,
        };
        return Err(AdminError::unavailable(format!("this version has no {what} yet; {}", later.meanwhile)));
    }
    Ok(())
}

/// What `help` adds to a command, if all of it is still to come.
pub(super) fn of_command(name: &str) -> Option<&'static str> {
    LATER.iter().find(|later| later.command == name && later.option.is_none()).map(|later| later.meanwhile)
}

/// What `help` adds to an option, if it is still to come.
pub(super) fn of_option(name: &str, long: &str) -> Option<&'static str> {
    LATER.iter().find(|later| later.command == name && later.option == Some((long, None))).map(|later| later.meanwhile)
}
