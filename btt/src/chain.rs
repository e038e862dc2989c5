//! The chain of info blocks: what arenas a namespace holds, and why it cannot be opened.

use alloc::vec::Vec;
use core::fmt;

use uuid::Uuid;
use zerocopy::{FromZeros, IntoBytes};

use crate::flog::FlogError;
use crate::geometry::{GeometryError, NFREE_MAX, SECTOR_SIZES};
use crate::info_block::{InfoBlock, InfoBlockError, Version, read_raw};
use crate::layout::{ARENA_MAX_BYTES, ARENA_MIN_BYTES, PAGE_BYTES, RawInfoBlock};
use crate::map;
use crate::media::{MediaError, Medium, NsOffset};
use crate::units::{ArenaIndex, PremapAba};

/// Where a namespace's BTT is and whose it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The version that the namespace's claim class asks for; it fixes the first info block's place.
    pub version: Version,
    /// The namespace's own uuid; nil where it has none.
    pub parent_uuid: Uuid,
}

/// An info block that was found sound, and its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FoundArena {
    pub(crate) at: NsOffset,
    pub(crate) info: InfoBlock,
    /// Whether the copy at the arena's end is the same, byte for byte.
    pub(crate) backup_agrees: bool,
}

impl FoundArena {
    /// How many stripes it has as one of so many arenas, for so many lanes.
    pub(crate) fn stripes(&self, arenas: usize, lanes: u32) -> usize {
        let geometry = &self.info.geometry;
        map::stripe_count(geometry.external_nlba, geometry.info2off, arenas, lanes)
    }

    /// Where the map is.
    #[inline]
    pub(crate) fn map_at(&self) -> NsOffset {
        self.at.plus(self.info.geometry.mapoff)
    }

    /// Where a sector's map entry is.
    #[inline]
    pub(crate) fn entry_at(&self, premap: PremapAba) -> NsOffset {
        map::entry_at(self.map_at(), premap)
    }

    /// Where the flog is.
    pub(crate) fn flog_at(&self) -> NsOffset {
        self.at.plus(self.info.geometry.logoff)
    }
}

/// Why a namespace could not be opened as a BTT. Nothing was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum OpenError {
    /// There is no BTT: neither an info block nor a copy of one.
    NotABtt,
    /// The namespace has `bytes` bytes, and one takes `least`.
    TooSmall { bytes: u64, least: u64 },
    /// There is a BTT, whose sectors have `found` bytes: none of [`crate::geometry::SECTOR_SIZES`]. Nothing else is known to
    /// be wrong with it.
    SectorSize { found: u32 },
    /// There is a BTT, an arena of which has `found` free blocks: more than [`crate::geometry::NFREE_MAX`]. Nothing else is
    /// known to be wrong with it.
    Nfree { found: u32 },
    /// An arena's info block, at `at`, is not sound. `backup`: where a sound copy of it is, if there is one.
    InfoBlock { arena: ArenaIndex, at: NsOffset, why: InfoBlockError, backup: Option<NsOffset> },
    /// An arena's info block, at `at`, has another uuid, sector size or version than the first one.
    ArenaDiffers { arena: ArenaIndex, at: NsOffset },
    /// More arenas than a namespace of this size can have.
    TooManyArenas,
    /// The flog group at `at` is not sound.
    Flog { arena: ArenaIndex, group: u32, at: NsOffset, why: FlogError },
    /// The medium failed.
    Media(MediaError),
    /// There is not enough memory for the arenas' free lists.
    OutOfMemory,
    /// The free lists of all arenas, with `free_blocks` blocks, need `needed` bytes of memory; the caller allows `most`.
    OverBudget { free_blocks: u64, needed: u64, most: u64 },
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
                | Self::Nfree { .. }
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
            Self::TooSmall { bytes, least } => write!(f, "too small for a BTT: {bytes} of {least} bytes"),
            Self::SectorSize { found } => {
                write!(f, "a BTT with sectors of {found} bytes: those of {SECTOR_SIZES:?} are supported")
            }
            Self::Nfree { found } => {
                write!(f, "a BTT with {found} free blocks in an arena: at most {NFREE_MAX} are supported")
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

/// Walks the chain of info blocks. Writes nothing.
///
/// # Errors
/// The first block that is not sound, and where a sound copy of it is.
pub(crate) fn find_all<M: Medium>(media: &M, version: Version, parent: Uuid) -> Result<Vec<FoundArena>, OpenError> {
    let bytes = media.len_bytes();
    let start = version.initial_offset();
    let mut remaining = bytes.saturating_sub(start.0);
    if remaining < ARENA_MIN_BYTES {
        return Err(OpenError::TooSmall { bytes, least: start.0 + ARENA_MIN_BYTES });
    }
    let most = arenas_max(bytes);
    let mut all: Vec<FoundArena> = Vec::new();
    let mut at = start;
    // A block and its copy: pages, that are made once and not moved.
    let (mut raw, mut copy) = (RawInfoBlock::new_zeroed(), RawInfoBlock::new_zeroed());
    loop {
        let index = ArenaIndex(u32::try_from(all.len()).map_err(|_| OpenError::TooManyArenas)?);
        let block = match media.read(at, raw.as_mut_bytes()) {
            Ok(()) => InfoBlock::decode(&raw, version, parent, remaining),
            Err(MediaError::Poisoned { .. }) => Err(InfoBlockError::Lost),
            Err(why) => return Err(why.into()),
        };
        let info = match block {
            Ok(info) => info,
            // The later arenas are to be like the first one.
            Err(InfoBlockError::Geometry(GeometryError::SectorSize { found })) if index.0 == 0 => {
                return Err(OpenError::SectorSize { found });
            }
            Err(InfoBlockError::Geometry(GeometryError::Nfree { found })) => return Err(OpenError::Nfree { found }),
            Err(why) => {
                let backup = find_backup(media, version, parent, at, remaining)?;
                if index.0 == 0 && why == InfoBlockError::Signature && backup.is_none() {
                    return Err(OpenError::NotABtt);
                }
                return Err(OpenError::InfoBlock { arena: index, at, why, backup });
            }
        };
        let backup_agrees = match media.read(at.plus(info.geometry.info2off), copy.as_mut_bytes()) {
            Ok(()) => copy.as_bytes() == raw.as_bytes(),
            Err(MediaError::Poisoned { .. }) => false,
            Err(why) => return Err(why.into()),
        };
        if let Some(first) = all.first() {
            let (a, b) = (&first.info, &info);
            if a.uuid != b.uuid || a.geometry.external_lbasize != b.geometry.external_lbasize {
                return Err(OpenError::ArenaDiffers { arena: index, at });
            }
        }
        all.try_reserve(1).map_err(|_| OpenError::OutOfMemory)?;
        all.push(FoundArena { at, info, backup_agrees });
        let next = info.geometry.nextoff;
        if next == 0 {
            return Ok(all);
        }
        if all.len() as u64 >= most {
            return Err(OpenError::TooManyArenas);
        }
        at = at.plus(next);
        remaining -= next;
        if remaining < ARENA_MIN_BYTES {
            let why = InfoBlockError::Geometry(GeometryError::NextArena { nextoff: next });
            return Err(OpenError::InfoBlock { arena: index, at: NsOffset(at.0 - next), why, backup: None });
        }
    }
}

/// The most arenas of a medium that are followed. Only the last one is below 512 GiB on media as they are made: a few more do
/// no harm, and many would cost memory.
#[must_use]
pub const fn arenas_max(bytes: u64) -> u64 {
    bytes / ARENA_MAX_BYTES + 16
}

/// Where the copy of a lost info block is, of an arena at `at` with `remaining` bytes from there on, at least
/// [`ARENA_MIN_BYTES`]: in the arena's last page, which is 512 GiB on, or the namespace's last whole page.
#[must_use]
pub const fn backup_at(at: NsOffset, remaining: u64) -> NsOffset {
    let most = if remaining < ARENA_MAX_BYTES { remaining } else { ARENA_MAX_BYTES };
    at.plus(most / PAGE_BYTES * PAGE_BYTES - PAGE_BYTES)
}

/// The sound copy of a lost info block, if there is one.
fn find_backup<M: Medium>(
    media: &M,
    version: Version,
    parent: Uuid,
    at: NsOffset,
    remaining: u64,
) -> Result<Option<NsOffset>, MediaError> {
    let copy = backup_at(at, remaining);
    match read_raw(media, copy) {
        Ok(raw) => Ok(InfoBlock::decode(&raw, version, parent, remaining).is_ok().then_some(copy)),
        // The copy is lost as well: the caller reports the primary.
        Err(MediaError::Poisoned { .. }) => Ok(None),
        Err(why) => Err(why),
    }
}

/// Whether each arena's info block and its copy at the arena's end are the same.
///
/// # Errors
/// The first block that is not sound.
pub fn copies_agree<M: Medium>(media: &M, placement: Placement) -> Result<bool, OpenError> {
    let found = find_all(media, placement.version, placement.parent_uuid)?;
    Ok(found.iter().all(|one| one.backup_agrees))
}

/// Whether any arena's info block lets TRIM entries be left in the map ([`InfoBlock::ZERO_ENTRIES`]).
///
/// # Errors
/// The first block that is not sound.
pub fn allows_zero_entries<M: Medium>(media: &M, placement: Placement) -> Result<bool, OpenError> {
    let found = find_all(media, placement.version, placement.parent_uuid)?;
    Ok(found.iter().any(|one| one.info.flags & InfoBlock::ZERO_ENTRIES != 0))
}
