//! What runs beside the appliance on a host: a client of its admin service, and a way to start it in QEMU.
//!
//! From the bottom up:
//! - [`deadline`]: nothing here waits without a bound;
//! - [`session`]: the admin service at the end of a byte stream: prompt, modes, commands and their replies;
//! - [`appliance`]: a program (QEMU) that is an appliance, its console on standard input and output;
//! - [`bridge`]: gives its disks to other QEMU machines by vhost-user;
//! - [`options`]: its command line;
//! - [`script`]: several commands in a row, as `run-qemu.sh --exec` has them;
//! - [`admin`]: a socket at which programs ask for commands while the appliance runs;
//! - [`client`]: such a program;
//! - [`beside`]: how they are asked for on the person's console;
//! - [`console`]: a person's terminal joined to the appliance's console.

pub mod admin;
pub mod appliance;
pub mod beside;
pub mod bridge;
pub mod client;
pub mod console;
pub mod deadline;
pub mod options;
pub mod script;
pub mod session;
