//! A line against the table of commands.

use alloc::format;

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
    table::request(name, rest).unwrap_or_else(|| {
        let message = format!("no command \"{name}\": help lists the commands");
        Err(AdminError::new(ErrorCode::UnknownCommand, message))
    })
}
