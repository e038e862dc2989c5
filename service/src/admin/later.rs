//! What the grammar has and this version has not: options of later versions.
//!
//! They parse like all others, so that a wrong line is a usage error today as it will be then; a right one is answered
//! "unavailable", with what to do meanwhile. Whoever adds one removes its line here.

use alloc::format;

use super::parse::Arguments;
use crate::error::AdminError;

/// An option that is still to come.
#[derive(Debug)]
struct Later {
    command: &'static str,
    /// Its long name.
    option: &'static str,
    /// The one value that is meant, if not all.
    value: Option<&'static str>,
    meanwhile: &'static str,
}

const fn value(command: &'static str, option: &'static str, value: &'static str, meanwhile: &'static str) -> Later {
    Later { command, option, value: Some(value), meanwhile }
}

const LATER: &[Later] = &[value("create-namespace", "type", "blk", "use a pmem region")];

/// Refuses what this version has not.
///
/// # Errors
/// Unavailable, with what to do meanwhile.
pub(super) fn check(arguments: &Arguments<'_>) -> Result<(), AdminError> {
    let name = arguments.spec().name;
    for later in LATER.iter().filter(|later| later.command == name) {
        let option = later.option;
        let what = match later.value {
            None if arguments.flag(option) => format!("{name} --{option}"),
            Some(value) if arguments.value(option) == Some(value) => format!("{name} --{option}={value}"),
            _ => continue,
        };
        return Err(AdminError::unavailable(format!("this version has no {what} yet; {}", later.meanwhile)));
    }
    Ok(())
}

/// What `help` adds to an option, if it is still to come.
pub(super) fn of_option(name: &str, long: &str) -> Option<&'static str> {
    LATER
        .iter()
        .find(|later| later.command == name && later.option == long && later.value.is_none())
        .map(|later| later.meanwhile)
}
