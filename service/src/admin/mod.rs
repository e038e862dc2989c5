//! The admin commands: a line becomes a [`command::Command`], a command a reply.

pub mod command;

/// The longest request line, bytes, its end not counted.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The most data that one `read` answers, bytes.
pub const READ_BYTES_MAX: u64 = 1 << 20;
