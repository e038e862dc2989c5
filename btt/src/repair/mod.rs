//! Mending a BTT: what has one certain repair is mended; what has none is left alone, or made an error when that is
//! asked for.
//!
//! | damage | what is done | module |
//! |---|---|---|
//! | an info block without a sound copy of it in its place | taken from its backup, computed from another arena, or regenerated where flog and map agree with just one layout | `info` |
//! | a backup that differs | written anew | `info` |
//! | writes that a cut interrupted | finished | `contents` |
//! | unsound flog groups | rebuilt, if all other metadata leave just as many blocks without an owner | `contents`, `group` |
//! | sectors that share a block, map entries that are lost or lead out of the arena | only by force: those sectors become errors | `contents` |
//! | the error flag | cleared, once nothing is wrong any more | here |
//! | the flog's old layout | rewritten, when asked | `rewrite` |
//!
//! The repairing code does not decide whether a finding is repaired: everything is looked at a second time, and what is
//! found again is not repaired.
//!
//! A cut at any point of a repair leaves a medium that is as damaged as before, or less; the same repair then goes on.
//! Nothing may have the BTT open meanwhile.

mod contents;
mod group;
mod info;
mod rewrite;

use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::slice::from_ref;

use uuid::Uuid;

use crate::chain::{FoundArena, OpenError, Placement, find_all};
use crate::check::{Finding, Summary, check, check_arena};
use crate::info_block::{InfoBlock, store_both};
use crate::media::{MediaError, Medium};
use crate::survey::Progress;
use crate::units::ArenaIndex;

/// What may be done to the medium.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    /// Repair what has one answer.
    pub repair: bool,
    /// Write every flog group anew as a single record, so that the old layout (0,2) is gone.
    pub rewrite_log: bool,
    /// Make errors of the sectors that have no answer.
    pub force: bool,
    /// The uuid of a BTT whose own is lost.
    pub fresh_uuid: Uuid,
    /// Bounds the memory: a bit for each of so many blocks.
    pub window_blocks: u32,
}

/// How many findings of an arena are remembered between the two looks.
const FINDINGS_MAX: usize = 1 << 14;

/// Looks at everything, and mends what it may. `report` gets each finding with whether it is repaired, `progress` how
/// much of how much has been read (the count starts anew for each look).
///
/// On a medium that may not be written nothing is.
pub fn repair<M: Medium>(
    media: &M,
    placement: Placement,
    options: &RepairOptions,
    report: &mut dyn FnMut(Finding, bool),
    progress: &mut dyn FnMut(u64, u64),
) -> Summary {
    let may_write = !media.read_only() && (options.repair || options.rewrite_log);
    if may_write && options.repair && !info::mend(media, placement, options, report, progress) {
        return Summary::default();
    }
    let found = match find_all(media, placement.version, placement.parent_uuid) {
        Ok(found) if may_write => found,
        _ => {
            let mut report = |finding| report(finding, false);
            let mut progress = |done, total| {
                progress(done, total);
                ControlFlow::Continue(())
            };
            return check(media, placement, options.window_blocks, &mut report, &mut progress);
        }
    };
    let mut summary = Summary::default();
    for (index, one) in (0..).zip(&found) {
        let arena = ArenaIndex(index);
        if let Err(why) = mend_arena(media, arena, one, options, report, progress, &mut summary) {
            report(why.into(), false);
        }
    }
    summary
}

/// Takes back the permission to leave TRIM entries in the map ([`InfoBlock::ZERO_ENTRIES`]). Those that are there have
/// been written out before ([`crate::guard::LaneGuard::write_out_zero_entries`]).
///
/// # Errors
/// What keeps the BTT from being opened; the medium's error.
pub fn forbid_zero_entries<M: Medium>(media: &M, placement: Placement) -> Result<(), OpenError> {
    for mut one in find_all(media, placement.version, placement.parent_uuid)? {
        if one.info.flags & InfoBlock::ZERO_ENTRIES != 0 {
            one.info.flags &= !InfoBlock::ZERO_ENTRIES;
            store_both(media, one.at, &one.info)?;
        }
    }
    Ok(())
}

/// Why an arena's repair ended early.
enum Failure {
    Media(MediaError),
    Open(OpenError),
}

impl From<MediaError> for Failure {
    fn from(why: MediaError) -> Self {
        Self::Media(why)
    }
}

impl From<OpenError> for Failure {
    fn from(why: OpenError) -> Self {
        Self::Open(why)
    }
}

impl From<Failure> for Finding {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Media(why) => Self::Media(why),
            Failure::Open(why) => Self::Chain(why),
        }
    }
}

fn mend_arena<M: Medium>(
    media: &M,
    arena: ArenaIndex,
    one: &FoundArena,
    options: &RepairOptions,
    report: &mut dyn FnMut(Finding, bool),
    progress: &mut dyn FnMut(u64, u64),
    summary: &mut Summary,
) -> Result<(), Failure> {
    let window = options.window_blocks;
    let look = |one: &FoundArena, each: &mut dyn FnMut(Finding), progress: &mut dyn FnMut(u64, u64)| {
        let mut counted = Summary::default();
        let mut progress = Progress::new(from_ref(one), window, progress);
        check_arena(media, arena, one, window, each, &mut progress, &mut counted);
        counted
    };
    let mut before = Vec::new();
    let mut more = 0_u64;
    let mut remember = |finding| if before.len() < FINDINGS_MAX { before.push(finding) } else { more += 1 };
    let counted = look(one, &mut remember, progress);
    if before.is_empty() && !options.rewrite_log {
        summary.add(&counted);
        return Ok(());
    }
    let mut one = *one;
    if options.repair {
        if !one.backup_agrees {
            store_both(media, one.at, &one.info)?;
            one.backup_agrees = true;
        }
        contents::mend(media, &one, options, more == 0, progress)?;
    }
    if options.rewrite_log {
        rewrite::single_slot_groups(media, &one)?;
    }
    // The second look decides what is repaired.
    let mut after = Vec::new();
    let mut remember = |finding| if after.len() < FINDINGS_MAX { after.push(finding) } else { more += 1 };
    let mut counted = look(&one, &mut remember, progress);
    let flag_only = after.iter().all(|finding| matches!(finding, Finding::ErrorFlag { .. }));
    if options.repair && more == 0 && flag_only && !after.is_empty() {
        one.info.flags &= !InfoBlock::ERROR_FLAG;
        store_both(media, one.at, &one.info)?;
        after.clear();
        counted = look(&one, &mut |finding| after.push(finding), progress);
    }
    summary.add(&counted);
    for finding in &before {
        report(*finding, !after.contains(finding));
    }
    for finding in after.iter().filter(|finding| !before.contains(finding)) {
        report(*finding, false);
    }
    Ok(())
}
