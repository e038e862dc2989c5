//! What serves a block back end, free of hardware: the admin side of it.
//!
//! A person or a program sends lines over a [`link`]; each line is one command ([`admin`]), each command gets one reply
//! ([`mod@reply`], [`inventory`]) or an [`error`]. The machine stands behind one trait, [`appliance::Appliance`].
//! [`stats`] counts, [`pattern`] makes sectors that tell when they are torn.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

/// The version of the image.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub mod admin;
pub mod appliance;
pub mod console;
pub mod control;
pub mod error;
pub mod inventory;
pub mod link;
pub mod pattern;
pub mod reply;
pub mod stats;
