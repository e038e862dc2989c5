//! Writing a flog group anew, so that it is never a sound one in between.
//!
//! | step, then a fence | Linux and we read the group as |
//! |---|---|
//! | the first slot's commit half gets a sequence number that none has | unsound |
//! | the whole line becomes that slot alone, still with that number | unsound |
//! | the commit half gets its block and sequence 1 | the new record |
//!
//! (A zero sequence number would not do: Linux takes an empty first slot for the older one, and block 0 for free.)

use zerocopy::IntoBytes;

use crate::flog::{self, Slots};
use crate::layout::{RawFlogGroup, RawFlogSlot};
use crate::media::{MediaError, Medium, NsOffset};
use crate::units::PostmapAba;

/// A sequence number that no sum of two sound ones allows.
const IMPOSSIBLE_SEQ: u32 = 7;

/// Rebuilds groups with one record each, which frees this block.
///
/// # Errors
/// The medium's error; the groups not done yet are unsound then.
pub(super) fn rebuild<M: Medium>(
    media: &M,
    flog: NsOffset,
    slots: Slots,
    groups: &[(u32, PostmapAba)],
) -> Result<(), MediaError> {
    // Both layouts have their first slot in the same place.
    debug_assert_eq!(slots.indices()[0], 0);
    let commit_at = |group| flog::group_at(flog, group).plus(8);
    for &(group, _) in groups {
        match media.store_u64(commit_at(group), u64::from(IMPOSSIBLE_SEQ) << 32) {
            Ok(()) => media.start_write_back(commit_at(group), 8)?,
            // A group that the medium lost is unsound as it is.
            Err(MediaError::Poisoned { .. }) => {}
            Err(why) => return Err(why),
        }
    }
    media.fence()?;
    for &(group, block) in groups {
        let mut raw = RawFlogGroup::default();
        raw[0] =
            RawFlogSlot { lba: group.into(), old_map: block.0.into(), new_map: 0.into(), seq: IMPOSSIBLE_SEQ.into() };
        media.write(flog::group_at(flog, group), raw.as_bytes())?;
    }
    media.fence()?;
    for &(group, block) in groups {
        media.store_u64(commit_at(group), u64::from(block.0) | 1 << 32)?;
        media.start_write_back(commit_at(group), 8)?;
    }
    media.fence()
}
