//! Power-fail-atomic sectors on byte-addressable persistent media: the Block Translation Table (BTT) of Linux, ndctl
//! and PMDK, bit for bit.
//!
//! Every sector is wholly old or wholly new whenever the power goes, and an acknowledged write survives. The crate
//! knows no hardware: it stands on [`media::Namespace`], which anything that reads and writes bytes can be.
//!
//! | module | one thing |
//! |---|---|
//! | [`media`] | the medium's trait, and what a power cut may leave |
//! | [`layout`], [`checksum`] | the bytes on the medium |
//! | [`geometry`], [`info_block`] | how an arena is cut up, and the block that says so |
//! | [`map`], [`flog`] | sector to block; the log of free blocks |
//! | `rtt`, [`lane`] | keeping readers and writers apart |
//! | `arena`, `recover`, [`device`] | opening |
//! | `write`, `read`, [`bytes`] | runs of sectors |
//! | `edit`, [`scan`] | sectors that read zeroes or an error, set and found |
//! | [`format`](mod@format) | making one |
//! | [`check`], `survey` | looking at the whole of it |
//! | [`repair`] | mending what is damaged, where the answer is certain |
//! | [`sim`] (feature `sim`) | a medium that remembers, and makes crashes |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod arena;
pub mod bytes;
pub mod check;
pub mod checksum;
pub mod device;
mod edit;
pub mod error;
pub mod flog;
pub mod format;
pub mod geometry;
pub mod info_block;
pub mod lane;
pub mod layout;
pub mod map;
pub mod media;
mod read;
mod recover;
pub mod repair;
mod rtt;
pub mod scan;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod survey;
mod sync;
mod units;
mod write;

pub use device::{ArenaInfo, Btt, Placement, RUN_MAX};
pub use error::{BttError, FormatError, OpenError, ReadOnlyReason};
pub use units::{ArenaIndex, CpuIndex, ExternalLba, LaneIndex, PostmapAba, PremapAba};
