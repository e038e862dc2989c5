//! The reply to `errors`: what is known to be lost.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::reply::{Object, Reply};
use crate::admin::text::{bytes, sectors};
use crate::lba::Lba;

/// What is known to be lost. A sector whose loss no read has met yet is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Sectors that the map marks as errors, in order.
    pub errors: Vec<SectorErrors>,
    /// Ranges that the medium has lost.
    pub media: Vec<MediaErrors>,
    /// How many further ranges of sectors there are.
    pub more: u64,
}

impl Errors {
    /// The most ranges of sectors that are named.
    pub const SHOWN_MAX: usize = 1000;
}

/// Sectors that follow one another and fail to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SectorErrors {
    /// The block device.
    pub dev: String,
    /// The first sector.
    pub lba: Lba,
    /// How many.
    pub count: u64,
}

/// Bytes of a namespace that the medium has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MediaErrors {
    /// The namespace.
    pub dev: String,
    /// Bytes from its start.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

impl Reply for Errors {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for found in &self.errors {
            writeln!(out, "{} from LBA {} on: {} in error", found.dev, found.lba.0, sectors(found.count))?;
        }
        if self.more > 0 {
            writeln!(out, "{} further ranges are not shown", self.more)?;
        }
        for lost in &self.media {
            writeln!(out, "{} at {:#x}: the medium has lost {}", lost.dev, lost.offset, bytes(lost.length))?;
        }
        if self.errors.is_empty() && self.media.is_empty() {
            writeln!(out, "no errors known")?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }
}
