//! Peers for tests: a driver that does what a test wants of it, and an appliance in memory.
//!
//! | part | plays |
//! |---|---|
//! | [`Driver`] | a driver's side of a split virtqueue, with every byte of it in reach |
//! | [`RamDisk`] | a back end in memory that remembers its runs and fails when told |
//! | [`Consumer`] | both, and our device between them: requests go in, answers come out |
//! | [`FakeAppliance`] | the machine behind the admin commands |
//! | [`exposition`] | a scraper that accepts nothing but Prometheus's text format |
//! | [`harm()`] | a driver that takes each step from given bytes: the body of a fuzz target |

mod appliance;
mod consumer;
mod disk;
mod driver;
pub mod exposition;
mod harm;

pub use appliance::{FakeAppliance, arena, labelled, unlabelled};
pub use consumer::{Answer, Consumer, Parts};
pub use disk::RamDisk;
pub use driver::{Descriptor, Driver, INDIRECT, NEXT, WRITE};
pub use harm::harm;
