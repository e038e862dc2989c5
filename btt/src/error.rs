//! What can go wrong, with its place.

use crate::flog::FlogError;
use crate::geometry::{Area, GeometryError, SECTOR_SIZES};
use crate::info_block::InfoBlockError;
use crate::media::{MediaError, NsOffset};
use crate::units::{ArenaIndex, ExternalLba, PremapAba};
use core::fmt;

/// Why an arena takes no writes. Reads go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnlyReason {
    /// The medium itself may not be written.
    Medium,
    /// The info block carries the error flag: somebody found the arena damaged.
    ErrorFlag,
    /// An area of metadata is not aligned to 64 bytes, so its updates could tear.
    Misaligned(Area),
    /// A map entry names a block past the arena's end.
    MapOutOfBounds {
        /// The sector whose entry it is.
        premap: PremapAba,
        /// The word that stands there.
        found: u32,
    },
    /// An access to map or flog failed: what stands there is not known.
    Metadata(MediaError),
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
        }
    }
}

/// Why sectors were not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BttError {
    /// Sectors past the end were asked for. Nothing was done.
    OutOfRange {
        /// The first sector asked for.
        lba: ExternalLba,
        /// How many.
        count: u64,
        /// How many sectors there are.
        capacity: u64,
    },
    /// The sector's map entry carries the error flag: it has no data until it is written.
    SectorError {
        /// Which.
        lba: ExternalLba,
    },
    /// The medium failed while moving the data of a sector. Its old content stands.
    Data {
        /// The first sector of the run, or the sector itself.
        lba: ExternalLba,
        /// What the medium says.
        why: MediaError,
    },
    /// The arena takes no writes, or its map cannot be followed.
    ReadOnly {
        /// Which.
        arena: ArenaIndex,
        /// Why.
        why: ReadOnlyReason,
    },
}

impl fmt::Display for BttError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange { lba, count, capacity } => {
                write!(f, "{count} sectors from LBA {lba} on: the device has {capacity}")
            }
            Self::SectorError { lba } => write!(f, "LBA {lba} is marked as an error; a write clears it"),
            Self::Data { lba, why } => write!(f, "LBA {lba}: {why}"),
            Self::ReadOnly { arena, why } => write!(f, "arena {arena} is read-only: {why}"),
        }
    }
}

impl core::error::Error for BttError {}

/// Why a namespace could not be opened as a BTT. Nothing was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no BTT: neither an info block nor a copy of one.
    NotABtt,
    /// The namespace is too small to hold one.
    TooSmall {
        /// Its length.
        bytes: u64,
    },
    /// There is a BTT, whose sectors have a size that is none of [`crate::geometry::SECTOR_SIZES`]. Nothing else is known
    /// to be wrong with it.
    SectorSize {
        /// Bytes of a sector.
        found: u32,
    },
    /// An arena's info block is not sound.
    InfoBlock {
        /// Which arena.
        arena: ArenaIndex,
        /// Where its info block is.
        at: NsOffset,
        /// What is wrong with it.
        why: InfoBlockError,
        /// Where a sound copy of it is, if there is one.
        backup: Option<NsOffset>,
    },
    /// An arena's uuid, sector size or version is not that of the first one.
    ArenaDiffers {
        /// Which arena.
        arena: ArenaIndex,
        /// Where its info block is.
        at: NsOffset,
    },
    /// More arenas than a namespace of this size can have.
    TooManyArenas,
    /// A flog group is not sound.
    Flog {
        /// Which arena.
        arena: ArenaIndex,
        /// Which group.
        group: u32,
        /// Where it is.
        at: NsOffset,
        /// What is wrong with it.
        why: FlogError,
    },
    /// The medium failed.
    Media(MediaError),
    /// There is not enough memory for the arenas' free lists.
    OutOfMemory,
    /// The arenas' free lists would take more memory than the caller allows.
    OverBudget {
        /// How many free blocks there are, in all arenas.
        free_blocks: u64,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are allowed.
        most: u64,
    },
}

impl OpenError {
    /// Whether the medium holds a BTT that is damaged, rather than none at all.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        !matches!(
            self,
            Self::NotABtt
                | Self::TooSmall { .. }
                | Self::SectorSize { .. }
                | Self::OutOfMemory
                | Self::OverBudget { .. }
        )
    }
}

impl From<MediaError> for OpenError {
    fn from(why: MediaError) -> Self {
        Self::Media(why)
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABtt => write!(f, "no BTT"),
            Self::TooSmall { bytes } => write!(f, "{bytes} bytes are too small for a BTT"),
            Self::SectorSize { found } => {
                write!(f, "a BTT with sectors of {found} bytes: those of {SECTOR_SIZES:?} are supported")
            }
            Self::InfoBlock { arena, at, why, backup } => {
                write!(f, "arena {arena}, info block at {at}: {why}")?;
                match backup {
                    Some(copy) => write!(f, "; a sound copy is at {copy}"),
                    None => write!(f, "; there is no sound copy"),
                }
            }
            Self::ArenaDiffers { arena, at } => {
                write!(f, "arena {arena}, info block at {at}: uuid, sector size or version differ from arena 0")
            }
            Self::TooManyArenas => write!(f, "more arenas than the namespace can hold"),
            Self::Flog { arena, group, at, why } => write!(f, "arena {arena}, flog group {group} at {at}: {why}"),
            Self::Media(why) => why.fmt(f),
            Self::OutOfMemory => write!(f, "not enough memory for the free lists"),
            Self::OverBudget { free_blocks, needed, most } => {
                write!(f, "{needed} bytes of memory are needed for its {free_blocks} free blocks, and {most} are left")
            }
        }
    }
}

impl core::error::Error for OpenError {}

/// Why a namespace could not be formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// There is no room for an arena.
    Geometry(GeometryError),
    /// The medium failed; the namespace holds no BTT.
    Media(MediaError),
}

impl From<MediaError> for FormatError {
    fn from(why: MediaError) -> Self {
        Self::Media(why)
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Geometry(why) => why.fmt(f),
            Self::Media(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for FormatError {}
