//! Rewriting the flog from the old layout, slots (0,2), to (0,1), or any flog to one record a group.
//!
//! A group that uses slot 1 beside groups that use slot 2 is refused by Linux, so no group may use slot 1 before all are
//! done. Each group is led, by records that move nothing (old = new = its free block), to where its newest record stands
//! in slot 0 with sequence 1, as the very first record of a group does; then the other slot is cleared, its commit half
//! first. A group with one slot fits both layouts, so a cut between any two stores leaves a flog that all readers accept.

use alloc::vec::Vec;

use crate::chain::FoundArena;
use crate::flog::{FlogEntry, Slots, group_at};
use crate::map::MapEntry;
use crate::media::{MediaError, Medium};
use crate::recover::Recovery;
use crate::repair::Failure;
use crate::units::ArenaIndex;

/// Leaves each group with one record, in slot 0. The arena's flog is sound.
///
/// # Errors
/// The medium's error, or what is wrong with the flog: then nothing is written.
pub(super) fn single_slot_groups<M: Medium>(media: &M, one: &FoundArena) -> Result<(), Failure> {
    let Ok(recovery) = Recovery::inspect(media, ArenaIndex(0), one.at, &one.info, &mut Vec::new()) else {
        // The second look reports it.
        return Ok(());
    };
    // The records of interrupted writes are about to be replaced.
    recovery.finish(media, one.map_at())?;
    let flog = one.at.plus(one.info.geometry.logoff);
    for (index, mut entry) in (0..).zip(recovery.entries) {
        while !entry.is_first_record() {
            append_nothing(media, &mut entry)?;
        }
        clear_other_slot(media, group_at(flog, index), recovery.slots)?;
    }
    Ok(())
}

/// Appends a record that moves nothing.
fn append_nothing<M: Medium>(media: &M, entry: &mut FlogEntry) -> Result<(), MediaError> {
    entry.store_body_of_nothing(media)?;
    entry.start_write_back(media)?;
    // Whatever the medium: a flog that others aligned to 8 bytes only may have the halves in two lines.
    media.fence()?;
    entry.store_commit(media)?;
    entry.start_write_back(media)?;
    // Crash before this fence: the older record stands, and frees the same block.
    media.fence()?;
    entry.advance(if entry.suspect { MapEntry::Error(entry.free) } else { MapEntry::Normal(entry.free) });
    Ok(())
}

fn clear_other_slot<M: Medium>(media: &M, group: crate::media::NsOffset, slots: Slots) -> Result<(), MediaError> {
    let slot = group.plus(slots.indices()[1] as u64 * crate::layout::FLOG_SLOT_BYTES);
    if media.load_u64(slot)? == 0 && media.load_u64(slot.plus(8))? == 0 {
        return Ok(());
    }
    for half in [slot.plus(8), slot] {
        media.store_u64(half, 0)?;
        media.start_write_back(half, 8)?;
        media.fence()?;
    }
    Ok(())
}
