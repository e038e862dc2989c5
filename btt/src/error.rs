//! What can go wrong with sectors and arenas that are in use, with its place.

use core::fmt;

use crate::geometry::Area;
use crate::media::{FenceFault, MediaError};
use crate::units::{ArenaIndex, ExternalLba, PremapAba};

/// Why an arena takes no writes. Reads go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum ReadOnlyReason {
    /// The medium itself may not be written.
    Medium,
    /// The info block carries the error flag: the arena was found damaged.
    ErrorFlag,
    /// An area of metadata is not aligned to 64 bytes, so its updates could tear.
    Misaligned(Area),
    /// The map entry of the sector `premap`, the word `found`, names a block past the arena's end.
    MapOutOfBounds { premap: PremapAba, found: u32 },
    /// An access to map or flog failed: what stands there is not known.
    Metadata(MediaError),
    /// A fence failed: what was stored last may not survive a power cut, map entries of finished writes included.
    NotDurable(FenceFault),
}

impl fmt::Display for ReadOnlyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Medium => write!(f, "the medium is read-only"),
            Self::ErrorFlag => write!(f, "the info block carries the error flag"),
            Self::Misaligned(area) => write!(f, "the {area} is not aligned to 64 bytes"),
            Self::MapOutOfBounds { premap, found } => {
                write!(f, "map entry {premap} ({found:#010x}) is past the arena's end")
            }
            Self::Metadata(why) => write!(f, "metadata: {why}"),
            Self::NotDurable(why) => write!(f, "what was stored last may not be durable: its device failed: {why}"),
        }
    }
}

/// Why sectors were not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum BttError {
    /// `count` sectors from `lba` on were asked for, and the device has `capacity`. Nothing was done.
    OutOfRange { lba: ExternalLba, count: u64, capacity: u64 },
    /// The sector's map entry carries the error flag: it has no data until it is written.
    SectorError { lba: ExternalLba },
    /// The medium failed while moving the data of sector `lba`, or of the run that begins there. The old content stands.
    Data { lba: ExternalLba, why: MediaError },
    /// The medium failed while the map entries of finished writes were made durable. Recovery would finish those writes.
    Drain { why: MediaError },
    /// The arena takes no writes, or its map cannot be followed.
    ReadOnly { arena: ArenaIndex, why: ReadOnlyReason },
}

impl fmt::Display for BttError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { lba, count, capacity } => {
                write!(f, "{count} sectors from LBA {lba} on: the device has {capacity}")
            }
            Self::SectorError { lba } => write!(f, "LBA {lba} is marked as an error; a write clears it"),
            Self::Data { lba, why } => write!(f, "LBA {lba}: {why}"),
            Self::Drain { why } => write!(f, "map entries of finished writes are not durable yet: {why}"),
            Self::ReadOnly { arena, why } => write!(f, "arena {arena} is read-only: {why}"),
        }
    }
}

impl core::error::Error for BttError {}
