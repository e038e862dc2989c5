//! What runs beside the appliance on a host: a client of its admin service, and a way to start it in QEMU.
//!
//! From the bottom up:
//! - [`deadline`]: nothing here waits without a bound;
//! - [`session`]: the admin service at the end of a byte stream: prompt, modes, commands and their replies;
//! - [`appliance`]: a program (QEMU) that is an appliance, its console on standard input and output;
//! - [`bridge`]: gives its disks to other QEMU machines by vhost-user;
//! - [`script`]: several commands in a row, as `run-qemu.sh --exec` has them;
//! - [`console`]: a person's terminal joined to the appliance's console.

pub mod appliance;
pub mod bridge;
pub mod console;
pub mod deadline;
pub mod script;
pub mod session;
