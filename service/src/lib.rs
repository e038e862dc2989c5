//! Serves a block back end, free of hardware: to consumers, and to administrators.
//!
//! | for consumers | |
//! |---|---|
//! | [`virtqueue`] | the device side of virtio's split queues |
//! | [`memory`] | the memory that a consumer shares, where the queues are |
//! | [`blk`] | virtio-blk's requests |
//! | [`backend`] | where a request ends: a disk |
//! | [`control`] | the protocol with the bridge, which tells where the queues are |
//!
//! | for administrators | |
//! |---|---|
//! | [`link`] | the bytes of a line to a person or a program |
//! | [`console`] | a session on it: editing, history, completion, modes |
//! | [`admin`] | the commands, one a line, and their replies |
//! | [`error`] | the errors of commands |
//! | [`inventory`] | what the machine has |
//! | [`pattern`] | sectors that tell when they are torn |
//! | [`stats`] | counters |
//! | [`mod@lba`] | sector numbers |
//!
//! `mock`, behind the feature of that name, has peers for the tests of either side.

#![no_std]
#![deny(unsafe_code)] // but for one unsafe trait, in `memory`

extern crate alloc;

/// The version of the image.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod admin;
pub mod backend;
pub mod blk;
pub mod console;
pub mod control;
pub mod error;
pub mod inventory;
pub mod lba;
pub mod link;
pub mod memory;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
pub mod pattern;
pub mod stats;
pub mod virtqueue;
