//! A DIMM behind block data windows: no such DIMM was ever sold, so this model stands for all of them. It is strict where
//! the specification leaves a choice, so that a driver that works with it works with others.
//!
//! | module | one thing |
//! |---|---|
//! | [`layout`] | where its registers and apertures are, and the tables that describe it |
//! | [`model`] | what it does: registers, windows, media, errors, a log, power cuts |
//! | [`trap`] | the model in process: each access that the driver's instructions make is a page fault |
//! | [`proxy`] | the model beside an unmodified QEMU, behind its `x-pci-proxy-dev` |
//! | [`beside`] | a machine for QEMU that has the model, and memory if wanted, in one table |

pub mod beside;
pub mod layout;
pub mod model;
pub mod proxy;
pub mod trap;

pub use layout::{Interleave, Layout};
pub use model::{Access, Cut, Model};
