//! Serves BTT files by NVMe/TCP as an ordinary process (docs/network.md).
//!
//! | module | is |
//! |---|---|
//! | [`disk`] | a file with a BTT on it |
//! | [`disks`] | all of them, as the target's storage |
//! | [`server`] | the sockets, and the loop that serves them |
//! | [`options`] | the command line |
//! | [`random`] | random bytes |

#![forbid(unsafe_code)]

pub mod disk;
pub mod disks;
pub mod options;
pub mod random;
pub mod server;
