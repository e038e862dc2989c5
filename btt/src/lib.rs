//! Power-fail-atomic sectors on byte-addressable persistent media: the Block Translation Table (BTT) of Linux, ndctl
//! and PMDK, bit for bit.
//!
//! Every sector is wholly old or wholly new whenever the power goes, and an acknowledged write survives. The crate
//! knows no hardware: it stands on [`media::Medium`], which anything that reads and writes bytes can be.
//!
//! # An example
//! A BTT in ordinary memory ([`ram`]); the example `file` does the same on a mapped file.
//! ```
//! use btt::bytes::{Sectors, SectorsMut};
//! use btt::format::{FormatOptions, format};
//! use btt::geometry::SectorSize;
//! use btt::info_block::Version;
//! use btt::ram::Ram;
//! use btt::{Btt, CpuIndex, ExternalLba, Placement};
//! use uuid::Uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let size = SectorSize::new(512).expect("a size that a BTT can have");
//! let placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };
//! let options = FormatOptions {
//!     sector_size: size,
//!     uuid: Uuid::from_u128(0x2170_4d23_024c_4b18_8e35_7a42_a8bc_db46),
//!     parent_uuid: placement.parent_uuid,
//!     version: placement.version,
//!     zero_data: false, // the medium is zero already
//!     zero_entries: false,
//! };
//! let medium = Ram::new(32 << 20);
//! format(&medium, &options, &mut |_, _| ())?;
//!
//! let btt = Btt::open(&medium, placement, 1)?;
//! let data = [7; 2 * 512];
//! let sectors = Sectors::new(&data, size).expect("whole sectors");
//! btt.lane(CpuIndex(0)).write(ExternalLba(9), 2, &sectors)?;
//!
//! // The power goes: nothing is closed or drained. Only the bytes on the medium are left, and opening recovers them.
//! drop(btt);
//! let medium = Ram::from_image(medium.into_image());
//! let btt = Btt::open(&medium, placement, 1)?;
//! let mut back = [0; 2 * 512];
//! let mut room = SectorsMut::new(&mut back, size).expect("whole sectors");
//! btt.reader(CpuIndex(0)).read(ExternalLba(9), 2, &mut room)?;
//! assert_eq!(back, data);
//! # Ok(())
//! # }
//! ```
//! What a medium may lose at a cut is in [`media`]. The feature `sim` has a medium that loses as much as it may.
//!
//! # Modules
//! | module | one thing |
//! |---|---|
//! | [`media`] | the medium's trait, and what a power cut may leave |
//! | [`ram`] | a medium in ordinary memory |
//! | `file` (feature `file`) | a medium in a file |
//! | [`layout`], [`checksum`] | the bytes on the medium |
//! | [`geometry`], [`info_block`] | how an arena is cut up, and the block that records it |
//! | [`map`], [`flog`] | sector to block; the log of free blocks |
//! | [`lane`], `slow_readers` | keeping writers apart, and readers from them |
//! | [`chain`], `recover`, `arena`, [`device`] | opening |
//! | [`guard`] | a lane in use: the way to change sectors |
//! | `write`, [`commit`], [`read`](mod@read), [`bytes`] | runs of sectors: one after the other, scattered |
//! | `edit`, [`scan`] | sectors that read zeroes or an error, set and found |
//! | [`format`](mod@format), [`unmake`] | making one, and taking it away |
//! | [`check`], `survey` | looking at the whole of it |
//! | [`repair`] | mending what is damaged, where the answer is certain |
//! | `sim` (feature `sim`) | a medium that remembers, and makes crashes |
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod arena;
pub mod bytes;
pub mod chain;
pub mod check;
pub mod checksum;
pub mod commit;
pub mod device;
mod edit;
pub mod error;
#[cfg(feature = "file")]
pub mod file;
pub mod flog;
pub mod format;
pub mod geometry;
pub mod guard;
pub mod info_block;
pub mod lane;
pub mod layout;
pub mod map;
pub mod media;
pub mod ram;
pub mod read;
mod recover;
pub mod repair;
pub mod runs;
pub mod scan;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod slow_readers;
mod survey;
mod sync;
mod units;
pub mod unmake;
mod write;

pub use chain::{OpenError, Placement};
pub use device::{ArenaInfo, Btt};
pub use error::{BttError, ReadOnlyReason};
pub use format::FormatError;
pub use units::{ArenaIndex, CpuIndex, ExternalLba, LaneIndex, PostmapAba, PremapAba, RUN_MAX};
