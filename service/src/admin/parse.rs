//! A line against the table of commands.

use alloc::format;

use super::suggest::what_there_is;
use super::table::{self, AnyRequest};
use super::words;
use crate::error::{AdminError, ErrorCode};

/// Makes a request of a request line.
///
/// # Errors
/// Unknown command; usage, with the command's synopsis.
pub fn parse(line: &str) -> Result<AnyRequest, AdminError> {
    let words = words::split(line)?;
    let Some((name, rest)) = words.split_first() else {
        return Err(AdminError::usage("the line is empty: help lists the commands"));
    };
    table::request(name, rest).unwrap_or_else(|| Err(no_command(name)))
}

/// The error for a name that names no command.
pub(super) fn no_command(name: &str) -> AdminError {
    let how = match name.contains(';') {
        true => "a line has one command here".into(),
        false => what_there_is(name, table::specs().map(|spec| spec.name)),
    };
    AdminError::new(ErrorCode::UnknownCommand, format!("no command \"{name}\": {how}"))
}
