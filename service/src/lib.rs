//! What serves a block back end, free of hardware: to consumers, and to whoever administers it.
//!
//! A consumer's requests come by virtqueues ([`virtqueue`]) in memory that it shares ([`memory`]); they are virtio-blk's
//! ([`blk`]) and end at a [`backend`]. Where those queues are comes from a bridge, by the [`control`] protocol.
//!
//! A person or a program sends lines over a [`link`] to a [`console`]; each line is one command ([`admin`]), each command
//! gets one reply or an [`error`]. The machine stands behind one trait, [`admin::Appliance`]; [`inventory`] is what it has.
//! [`stats`] counts, [`pattern`] makes sectors that tell when they are torn, [`mod@lba`] numbers them.

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
