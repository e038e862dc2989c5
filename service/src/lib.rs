//! Serves a block back end, free of hardware: its sectors to consumers, its administration to people and programs.
//!
//! | for consumers | |
//! |---|---|
//! | [`memory`] | a consumer's memory, which it shares: checked places, guest addresses, scattered buffers |
//! | [`virtqueue`] | the device side of a split virtqueue in that memory |
//! | [`blk`] | virtio-blk: features, configuration space, requests |
//! | [`backend`] | the trait of a disk's sectors, where requests end |
//! | [`control`] | the protocol by which the bridge places, starts and stops queues |
//!
//! | for people and programs | |
//! |---|---|
//! | [`link`] | the trait of a byte stream to one of them |
//! | [`console`] | a session on a link: editor, history, modes |
//! | [`admin`] | the commands: grammar, requests, execution, replies; the machine is behind [`admin::Appliance`] |
//! | [`config`] | what an appliance is told to be: keys, values, the bytes that a medium keeps |
//! | [`web`] | the pages that are served over the network: for people, and for Prometheus |
//! | [`events`] | what happens to the appliance, as they and the log show it |
//! | [`error`] | the error of a command: code, message, exit status |
//! | [`inventory`] | buses, DIMMs, regions and namespaces, as `list` shows them |
//!
//! | for both | |
//! |---|---|
//! | [`mod@lba`] | the number of a sector |
//! | [`stats`] | counters |
//! | [`latency`] | how long requests took |
//! | [`pattern`] | sectors that show when they are torn, for `bench` |

#![no_std]
#![deny(unsafe_code)] // but for one unsafe trait, in `memory`

extern crate alloc;

/// The version of the image.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod admin;
pub mod backend;
pub mod blk;
pub mod config;
pub mod console;
pub mod control;
pub mod error;
pub mod events;
pub mod inventory;
pub mod latency;
pub mod lba;
pub mod link;
pub mod memory;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
pub mod pattern;
pub mod progress;
pub mod stats;
pub mod virtqueue;
pub mod web;
