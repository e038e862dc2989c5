//! The admin commands: a line becomes a [`command::Command`] ([`parse()`]), a command a [`Reply`] ([`execute()`]), a reply
//! text ([`text`]) or a line of JSON ([`machine`]).
//!
//! [`table`] is the one place that names the commands.

pub mod command;
mod execute;
mod help;
mod hexdump;
pub mod line;
pub mod list;
pub mod machine;
mod parse;
mod pretty;
mod prometheus;
pub mod table;
pub mod text;
pub mod values;
pub mod words;

pub use execute::{Data, Reply, execute};
pub use parse::{Arguments, parse};

/// The longest request line, bytes, its end not counted.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The most data that one `read` answers, bytes.
pub const READ_BYTES_MAX: u64 = 1 << 20;
