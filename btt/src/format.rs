//! Making a BTT on a namespace.
//!
//! Invariant 5: the namespace becomes a BTT with one 8-byte store, the first half of the first info block's signature. A
//! cut before it leaves a namespace without a BTT, a cut after it a complete one, its backup included.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use uuid::Uuid;
use zerocopy::IntoBytes;

use crate::bytes::{ZEROES, is_all};
use crate::flog::initial_group;
use crate::geometry::{Geometry, GeometryError, SectorSize, arena_sizes};
use crate::info_block::{InfoBlock, Version};
use crate::layout::{ARENA_MIN_BYTES, RawInfoBlock, SIGNATURE};
use crate::media::{MediaError, Medium, NsOffset};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct FormatOptions {
    /// The sector size, metadata included.
    pub sector_size: SectorSize,
    /// The new BTT's uuid.
    pub uuid: Uuid,
    /// The namespace's uuid; nil where it has none.
    pub parent_uuid: Uuid,
    /// The version that the namespace's claim class asks for.
    pub version: Version,
    /// Whether to zero what the data area holds. An entry of a new map reads its own block, so without this the
    /// sectors show whatever stood there.
    pub zero_data: bool,
    /// Whether zeroing sectors may leave TRIM entries in the map, which today's Linux misreads
    /// ([`InfoBlock::ZERO_ENTRIES`]).
    pub zero_entries: bool,
}

/// How much is read and zeroed at a time.
const CHUNK_BYTES: usize = 1 << 16;
/// An info block's size, and the unit in which what is not zero is zeroed.
const PAGE: usize = size_of::<RawInfoBlock>();

/// Why a namespace could not be formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// There is no room for an arena.
    TooSmall {
        /// The medium's bytes.
        bytes: u64,
        /// The fewest that hold a BTT.
        least: u64,
    },
    /// An arena would not be as arenas are.
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
            Self::TooSmall { bytes, least } => write!(f, "too small for a BTT: {bytes} of {least} bytes"),
            Self::Geometry(why) => why.fmt(f),
            Self::Media(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for FormatError {}

/// Makes a BTT of the whole namespace. What already reads zero is not written again, so that sparse files stay so.
/// `progress` gets the bytes done and the bytes of all.
///
/// # Errors
/// [`FormatError::TooSmall`] and [`FormatError::Geometry`] before anything is written; otherwise the medium's error.
pub fn format<M: Medium>(
    media: &M,
    options: &FormatOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), FormatError> {
    let arenas = plan(media.len_bytes(), options)?;
    erase(media, &arenas)?;
    let total = arenas.iter().map(|(_, info)| work_bytes(info, options)).sum();
    let mut done = 0;
    for (at, info) in &arenas {
        let geometry = &info.geometry;
        let mut step = |bytes| {
            done += bytes;
            progress(done, total);
        };
        if options.zero_data {
            zero(media, at.plus(geometry.dataoff), geometry.mapoff - geometry.dataoff, &mut step)?;
        }
        zero(media, at.plus(geometry.mapoff), geometry.logoff - geometry.mapoff, &mut step)?;
        let groups: Vec<_> = (0..geometry.nfree).map(|i| initial_group(i, geometry.external_nlba)).collect();
        media.write(at.plus(geometry.logoff), groups.as_bytes())?;
        let written = geometry.flog_bytes();
        zero(media, at.plus(geometry.logoff + written), geometry.info2off - geometry.logoff - written, &mut step)?;
    }
    // Crash before this fence: there is no info block anywhere, and what stands in the areas means nothing.
    media.fence()?;
    write_info_blocks(media, &arenas)?;
    Ok(())
}

/// The arenas that the namespace will have.
fn plan(bytes: u64, options: &FormatOptions) -> Result<Vec<(NsOffset, InfoBlock)>, FormatError> {
    let mut at = options.version.initial_offset();
    let room = bytes.saturating_sub(at.0);
    let sizes: Vec<u64> = arena_sizes(room).collect();
    if sizes.is_empty() {
        return Err(FormatError::TooSmall { bytes, least: at.0 + ARENA_MIN_BYTES });
    }
    let mut arenas = Vec::with_capacity(sizes.len());
    for (index, size) in sizes.iter().enumerate() {
        let more = index + 1 < sizes.len();
        let geometry = Geometry::for_new(*size, options.sector_size, more).map_err(FormatError::Geometry)?;
        let info = InfoBlock {
            uuid: options.uuid,
            parent_uuid: options.parent_uuid,
            flags: if options.zero_entries { InfoBlock::ZERO_ENTRIES } else { 0 },
            version: options.version,
            geometry,
        };
        arenas.push((at, info));
        at = at.plus(*size);
    }
    Ok(arenas)
}

fn work_bytes(info: &InfoBlock, options: &FormatOptions) -> u64 {
    let geometry = &info.geometry;
    let data = if options.zero_data { geometry.mapoff - geometry.dataoff } else { 0 };
    data + geometry.info2off - geometry.mapoff - geometry.flog_bytes()
}

/// Zeroes an old BTT's info block at the place of either version, in the order in which they count, so that no cut
/// leaves an old BTT over the new one's areas. At the places of the new info blocks everything is zeroed, not only
/// whole blocks: a creation that a cut ended may have left a block that lacks some pieces, and the first pieces of ours
/// to arrive could complete it.
fn erase<M: Medium>(media: &M, arenas: &[(NsOffset, InfoBlock)]) -> Result<(), MediaError> {
    for at in [Version::V1_1, Version::V2_0].map(Version::initial_offset) {
        erase_page(media, at, |page| page.starts_with(&SIGNATURE))?;
    }
    for at in arenas.iter().flat_map(|(at, info)| [*at, at.plus(info.geometry.info2off)]) {
        erase_page(media, at, |page| !is_zero(page))?;
    }
    Ok(())
}

/// Zeroes a page that `must_go`, or that the medium lost. Durable when it returns.
fn erase_page<M: Medium>(media: &M, at: NsOffset, must_go: impl Fn(&[u8]) -> bool) -> Result<(), MediaError> {
    let mut page = [0; PAGE];
    let must_go = match media.read(at, &mut page) {
        Ok(()) => must_go(&page),
        Err(MediaError::Poisoned { .. }) => true,
        Err(why) => return Err(why),
    };
    if must_go {
        media.write(at, &ZEROES[..PAGE])?;
        media.fence()?;
    }
    Ok(())
}

/// Zeroes what is not zero yet. Durable with the next fence.
fn zero<M: Medium>(media: &M, at: NsOffset, bytes: u64, step: &mut dyn FnMut(u64)) -> Result<(), MediaError> {
    let mut buffer = vec![0_u8; CHUNK_BYTES];
    let mut done = 0;
    while done < bytes {
        let size = usize::try_from((bytes - done).min(CHUNK_BYTES as u64)).expect("at most a chunk");
        let chunk = &mut buffer[..size];
        let here = at.plus(done);
        let lost = match media.read(here, chunk) {
            Ok(()) => false,
            Err(MediaError::Poisoned { .. }) => true,
            Err(why) => return Err(why),
        };
        for (page, offset) in chunk.chunks(PAGE).zip((0..).step_by(PAGE)) {
            if lost || !is_zero(page) {
                media.write(here.plus(offset), &ZEROES[..page.len()])?;
            }
        }
        done += size as u64;
        step(size as u64);
    }
    Ok(())
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    is_all(bytes, 0)
}

/// Backups first, then the primaries from the last arena to the first, whose signature makes the BTT.
fn write_info_blocks<M: Medium>(media: &M, arenas: &[(NsOffset, InfoBlock)]) -> Result<(), MediaError> {
    for (at, info) in arenas {
        media.write(at.plus(info.geometry.info2off), info.encode().as_bytes())?;
    }
    for (at, info) in arenas.iter().skip(1) {
        media.write(*at, info.encode().as_bytes())?;
    }
    let (first, info) = &arenas[0]; // `plan` returns at least one
    let raw = info.encode();
    let (commit, rest) = raw.as_bytes().split_at(8);
    media.write(first.plus(8), rest)?;
    // Crash before this fence: any part of the blocks may be there, but not the first one's signature.
    media.fence()?;
    let mut signature = [0; 8];
    signature.copy_from_slice(commit);
    media.store_u64(*first, u64::from_le_bytes(signature))?;
    media.start_write_back(*first, 8)?;
    // Crash before this fence: the BTT is there, or it is not. After it: it is.
    media.fence()
}
