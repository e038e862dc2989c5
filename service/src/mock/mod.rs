//! A driver for tests: it does what a driver does, and whatever else a test wants of it.
//!
//! | part | plays |
//! |---|---|
//! | [`Driver`] | a driver's side of a split virtqueue, with every byte of it in reach |
//! | [`RamDisk`] | a back end in memory that remembers its runs and fails when told |
//! | [`Consumer`] | both, and our device between them: requests in, answers out |
//! | [`harm()`] | a driver that does what any bytes say: the body of a fuzz target |

mod consumer;
mod disk;
mod driver;
mod harm;

pub use consumer::{Answer, Consumer, Parts};
pub use disk::RamDisk;
pub use driver::{Descriptor, Driver, INDIRECT, NEXT, WRITE};
pub use harm::harm;
