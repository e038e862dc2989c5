//! The error that an admin command returns when it does not do what was asked.
//!
//! A code is for programs (a string, with the exit status a script ends with), the message for
//! people: it names the fault, its place, and what to do.

use alloc::string::String;
use core::fmt;

use serde::Serialize;

/// The kinds of failure that a program can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The command is right, but could not be done.
    Failed,
    /// The line is not a command: a bad option, a bad value, a word too many or too few.
    Usage,
    /// The first word names no command.
    UnknownCommand,
    /// The named device, namespace, region or DIMM does not exist.
    NotFound,
    /// Media or metadata are damaged.
    Damaged,
    /// Another command is under way: nothing was done, ask again.
    Busy,
    /// It was ended before it was done, by who asked for it.
    Interrupted,
    /// The target may not be written.
    ReadOnly,
    /// The request line, or the reply that it asks for, is longer than allowed.
    TooLong,
    /// The sectors asked for are not all on the device.
    OutOfRange,
}

impl ErrorCode {
    /// All codes.
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Usage,
        Self::UnknownCommand,
        Self::NotFound,
        Self::Damaged,
        Self::Busy,
        Self::Interrupted,
        Self::ReadOnly,
        Self::TooLong,
        Self::OutOfRange,
    ];

    /// The code as machine mode spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::UnknownCommand => "unknown-command",
            Self::NotFound => "not-found",
            Self::Damaged => "damaged",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
            Self::ReadOnly => "read-only",
            Self::TooLong => "too-long",
            Self::OutOfRange => "out-of-range",
        }
    }

    /// The exit status of a script whose command failed so.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Busy | Self::Interrupted | Self::ReadOnly => 1,
            Self::Usage | Self::UnknownCommand | Self::TooLong | Self::OutOfRange => 2,
            Self::NotFound => 3,
            Self::Damaged => EXIT_DAMAGED,
        }
    }
}

/// The exit status for damaged media or metadata. A command that did its work and found damage (a check, a
/// verification) ends with it too.
pub const EXIT_DAMAGED: u8 = 4;

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A command's failure. Serialises as machine mode's `error` object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdminError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What is wrong, where, and what to do: one sentence or two, without a full stop at the end or a line break.
    pub message: String,
}

impl AdminError {
    /// A failure of the given kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The command could not be done.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Failed, message)
    }

    /// The line is not a command as the grammar has it.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Usage, message)
    }

    /// The named thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// Media or metadata are damaged.
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Damaged, message)
    }

    /// Another command is under way.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Busy, message)
    }

    /// The command was ended before it was done: the message says how far it had come.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Interrupted, message)
    }

    /// The target may not be written.
    pub fn read_only(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ReadOnly, message)
    }

    /// The request or its reply is too long.
    pub fn too_long(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::TooLong, message)
    }

    /// The sectors are not on the device.
    pub fn out_of_range(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::OutOfRange, message)
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl core::error::Error for AdminError {}
