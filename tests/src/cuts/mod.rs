//! Power cuts of a real machine: QEMU is killed or reset while it writes, and what is left is judged.
//!
//! - [`campaign`]: one cut under `bench`, chosen by a seed, and the judges' verdicts on it;
//! - [`consumer`]: cuts while an unmodified Linux uses the disks by virtio-blk;
//! - [`stamps`]: what that Linux writes, and knows to have been acknowledged;
//! - [`reader`]: a reader of BTTs that shares no code with `btt`: it returns what sectors read, whose blocks are whose, and
//!   what stands in the flog;
//! - [`history`]: what a load has written by the time of the cut, computed anew.
//!
//! A killed QEMU keeps every store that its machine made, in the order of the program: so these cuts test the real
//! binary, and never a lost or a reordered line. The crash explorer has those.

pub mod campaign;
pub mod consumer;
pub mod history;
pub mod reader;
pub mod stamps;
