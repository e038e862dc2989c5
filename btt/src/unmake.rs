//! Taking a BTT away: its info blocks are zeroed, the copies first, so that no reader finds one any more, and no repair
//! brings it back from a copy.

use alloc::vec::Vec;
use core::fmt;

use crate::bytes::ZEROES;
use crate::chain::{Placement, find_all};
use crate::layout::{PAGE_BYTES, RawInfoBlock, SIGNATURE};
use crate::media::{MediaError, Medium, NsOffset};

/// Where the info blocks of a namespace are, in the order in which they are to go: those of a sound chain, all copies
/// before the first block, or else [`signed_pages`].
pub fn info_blocks<M: Medium>(media: &M, placement: Option<Placement>) -> Vec<NsOffset> {
    let chain = placement.and_then(|it| find_all(media, it.version, it.parent_uuid).ok());
    let places = |chain: Vec<crate::chain::FoundArena>| {
        let copies = chain.iter().map(|one| one.at.plus(one.info.geometry.info2off));
        copies.chain(chain.iter().map(|one| one.at)).collect()
    };
    chain.map_or_else(|| signed_pages(media), places)
}

/// Pages that begin as an info block does, where one may be without any other: the last page, which has the last
/// arena's copy, and where any version begins.
pub fn signed_pages<M: Medium>(media: &M) -> Vec<NsOffset> {
    let last = (media.len_bytes() / PAGE_BYTES).saturating_sub(1) * PAGE_BYTES;
    let signed = |at: &NsOffset| {
        let mut found = [0; SIGNATURE.len()];
        media.read(*at, &mut found).is_ok() && found == SIGNATURE
    };
    [last, 0, PAGE_BYTES].map(NsOffset).into_iter().filter(signed).collect()
}

/// Why info blocks are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EraseError {
    /// The medium failed.
    Media(MediaError),
    /// This place does not read as zeroes afterwards.
    NotKept(NsOffset),
}

impl fmt::Display for EraseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Media(why) => why.fmt(f),
            Self::NotKept(at) => write!(f, "the medium does not keep the zeroes stored at {at}"),
        }
    }
}

impl core::error::Error for EraseError {}

impl From<MediaError> for EraseError {
    fn from(why: MediaError) -> Self {
        Self::Media(why)
    }
}

/// The bytes of a signature that arrive wholly or not at all.
const COMMIT_BYTES: usize = 8;

/// Zeroes info blocks, in this order, each durable before the next. Each reads as zeroes when it returns.
///
/// A crash leaves the BTT, perhaps without copies, until the signature of its first block is gone; from then on there is
/// no BTT, and creation treats what is left as it treats any bytes. (The media of a BTT that was damaged before may stay
/// so until then.)
///
/// # Errors
/// [`EraseError`]; blocks after that place are still there.
pub fn erase<M: Medium>(media: &M, info_blocks: &[NsOffset]) -> Result<(), EraseError> {
    for &at in info_blocks {
        match media.write(at, &ZEROES[..COMMIT_BYTES]) {
            // Crash before this fence: the signature is there, or it is not. After it: it is not.
            Ok(()) => media.fence()?,
            // The signature is lost already.
            Err(MediaError::Poisoned { .. }) => {}
            Err(why) => return Err(why.into()),
        }
        media.write(at, &ZEROES[..size_of::<RawInfoBlock>()])?;
        media.fence()?;
        let mut page = [0xff; size_of::<RawInfoBlock>()];
        media.read(at, &mut page)?;
        if page.iter().any(|byte| *byte != 0) {
            return Err(EraseError::NotKept(at));
        }
    }
    Ok(())
}
