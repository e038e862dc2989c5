//! The driver's side of virtio over PCI: modern devices, polled (Virtual I/O Device version 1.2).
//!
//! | module | is |
//! |---|---|
//! | `structure`, `capabilities` | what registers a device has, and where: its vendor capabilities (4.1.4) |
//! | [`registers`] | the registers, with a trait that lets a test be the device |
//! | `set_up` | reset, features, queues (3.1) |
//! | `queue` | a split queue (2.7) |
//! | `buffers` | a queue with a buffer for each chain |
//! | [`pmem`] | virtio-pmem: where its memory is, and its FLUSH (5.19) |
//! | [`net`] | virtio-net: frames in and out (5.1) |
//! | [`console`] | virtio-console: a port of bytes (5.3) |
//!
//! The device is not trusted: every wait has a bound, every place is checked, and what it answers is looked at once.

mod buffers;
mod capabilities;
pub mod console;
mod error;
pub mod net;
pub mod pmem;
mod queue;
pub mod registers;
mod set_up;
mod structure;

pub use error::VirtioError;
pub use structure::Structure;
