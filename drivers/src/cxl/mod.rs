//! CXL memory devices (type 3): from a function on PCI to persistent memory in the address space, and its labels.
//!
//! What is served is one device behind a root port of one host bridge, all of it persistent, not interleaved. A device
//! that is anything else is refused with a [`CxlError`] that names it.
//!
//! | module | is |
//! |---|---|
//! | [`config`] | configuration space: where a function's registers are, its serial number, the root port above it |
//! | [`decoder`] | the decoders that lead addresses to the device, in the device and in the host bridge |
//! | [`mailbox`] | the device's commands: who it is, its label area |
//! | [`memory`] | takes a device into use |
//!
//! Sections are those of the CXL specification 3.0. All that a device says is checked, and every wait has a bound.

pub mod config;
pub mod decoder;
mod error;
pub mod mailbox;
pub mod memory;

pub use error::{CxlError, MailboxError, Which};

/// How long a device may take for a command or a commit. The specification allows 2 s for the one, and far less for the
/// other.
pub const PATIENCE_SECONDS: u64 = 5;

const PATIENCE_NS: u64 = PATIENCE_SECONDS * 1_000_000_000;

/// How long all commands of one piece of work may take together: who the device is, or all that is read or written of its
/// labels at once. No consumer is served meanwhile.
pub const WORK_SECONDS: u64 = 30;

const WORK_NS: u64 = WORK_SECONDS * 1_000_000_000;
