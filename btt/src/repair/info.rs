//! Mending info blocks: from the copy, from another arena, or from flog and map.
//!
//! | source | accepted when |
//! |---|---|
//! | the copy in the arena's last page, or where the damaged block's own `info2off` leads | it is sound |
//! | another arena, for sector size, uuids and version; this one's offsets are computed | every flog group at the computed place is sound |
//! | the damaged block or copy itself (another namespace's too: it becomes this one's), or any layout that Linux makes | it is the only one by which each block has just one owner in map and flog |
//!
//! A cut while a primary is written leaves it unsound, and its source as it is. What is computed is written to the copy
//! first.

use alloc::vec::Vec;
use core::slice::from_ref;

use uuid::Uuid;
use zerocopy::IntoBytes;

use super::RepairOptions;
use crate::chain::{FoundArena, OpenError, Placement, find_all};
use crate::check::Finding;
use crate::geometry::{Geometry, SECTOR_SIZES, SectorSize};
use crate::info_block::{InfoBlock, InfoBlockError, read_raw, store_both};
use crate::layout::{ARENA_MAX_BYTES, ARENA_MIN_BYTES, PAGE_BYTES, RawInfoBlock, SIGNATURE};
use crate::media::{MediaError, Medium, NsOffset};
use crate::survey::{Groups, Progress, Seen, survey};
use crate::units::ArenaIndex;

/// Alignments of internal blocks: Linux's, and that of the 2015 patches.
const INTERNAL_ALIGNMENTS: [u32; 2] = [64, 256];

/// Mends each info block that needs it. Returns whether the chain of arenas is sound afterwards; if not, its faults
/// have been reported.
pub(super) fn mend<M: Medium>(
    media: &M,
    placement: Placement,
    options: &RepairOptions,
    report: &mut dyn FnMut(Finding, bool),
    progress: &mut dyn FnMut(u64, u64),
) -> bool {
    let mut last = None;
    loop {
        let (arena, at, why, backup) = match find_all(media, placement.version, placement.parent_uuid) {
            Ok(_) => return true,
            Err(OpenError::InfoBlock { arena, at, why, backup }) => (arena, at, why, backup),
            Err(OpenError::NotABtt) => {
                (ArenaIndex(0), placement.version.initial_offset(), InfoBlockError::Signature, None)
            }
            // The look that follows reports it.
            Err(_) => return true,
        };
        let finding = Finding::InfoBlock { arena, at, why, backup };
        let place = Place { media, placement, at, remaining: media.len_bytes().saturating_sub(at.0) };
        // The same block twice: the repair did not take.
        let mended = last != Some(at) && place.mend(backup, options, progress).unwrap_or(false);
        report(finding, mended);
        if !mended {
            return false;
        }
        last = Some(at);
    }
}

/// Where an info block should be.
struct Place<'a, M> {
    media: &'a M,
    placement: Placement,
    at: NsOffset,
    remaining: u64,
}

impl<M: Medium> Place<'_, M> {
    fn mend(
        &self,
        backup: Option<NsOffset>,
        options: &RepairOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<bool, MediaError> {
        let damaged = self.raw(self.at)?;
        let own_copy = damaged.as_ref().and_then(|raw| self.own_copy(raw));
        for copy in backup.into_iter().chain(own_copy) {
            if let Some(raw) = self.raw(copy)?
                && self.decode(&raw).is_some()
            {
                self.media.write(self.at, raw.as_bytes())?;
                self.media.fence()?;
                return Ok(true);
            }
        }
        let computed = match self.computed_from_another_arena()? {
            Some(info) => Some(info),
            None => self.told_by_contents(damaged.as_ref(), options, progress)?,
        };
        if let Some(info) = &computed {
            store_both(self.media, self.at, info)?;
        }
        Ok(computed.is_some())
    }

    /// The bytes of an info block; none where the medium lost them, or there is no room for one.
    fn raw(&self, at: NsOffset) -> Result<Option<RawInfoBlock>, MediaError> {
        match read_raw(self.media, at) {
            Ok(raw) => Ok(Some(raw)),
            Err(MediaError::Poisoned { .. } | MediaError::OutOfRange { .. }) => Ok(None),
            Err(why) => Err(why),
        }
    }

    fn decode(&self, raw: &RawInfoBlock) -> Option<InfoBlock> {
        InfoBlock::decode(raw, self.placement.version, self.placement.parent_uuid, self.remaining).ok()
    }

    /// Where its copy is by the damaged block.
    fn own_copy(&self, damaged: &RawInfoBlock) -> Option<NsOffset> {
        let offset = damaged.info2off.get();
        (offset > 0 && offset.checked_add(PAGE_BYTES)? <= self.remaining).then(|| self.at.plus(offset))
    }

    fn arena_bytes(&self) -> u64 {
        self.remaining.min(ARENA_MAX_BYTES)
    }

    /// Whether another arena follows this one, where all are cut as Linux cuts them.
    fn more(&self) -> bool {
        self.remaining - self.arena_bytes() >= ARENA_MIN_BYTES
    }

    /// The block computed from that of any other arena.
    fn computed_from_another_arena(&self) -> Result<Option<InfoBlock>, MediaError> {
        let start = self.placement.version.initial_offset();
        let mut at = start;
        while self.media.len_bytes().saturating_sub(at.0) >= ARENA_MIN_BYTES {
            let remaining = self.media.len_bytes() - at.0;
            if at != self.at {
                let other = Self { media: self.media, placement: self.placement, at, remaining };
                let last_page = remaining.min(ARENA_MAX_BYTES) / PAGE_BYTES * PAGE_BYTES - PAGE_BYTES;
                for copy in [at, at.plus(last_page)] {
                    let Some(donor) = self.raw(copy)?.and_then(|raw| other.decode(&raw)) else { continue };
                    if let Some(info) = self.with_uuids_of(&donor)?
                        && self.flog_is_sound(&info)?
                    {
                        return Ok(Some(info));
                    }
                }
            }
            at = at.plus(ARENA_MAX_BYTES);
        }
        Ok(None)
    }

    fn with_uuids_of(&self, donor: &InfoBlock) -> Result<Option<InfoBlock>, MediaError> {
        let g = &donor.geometry;
        let geometry = Geometry::with_blocks(self.arena_bytes(), g.external_lbasize, g.internal_lbasize, self.more());
        let fits = |geometry: &Geometry| geometry.judge(self.remaining).is_ok() && geometry.nfree == g.nfree;
        let flags = donor.flags & !InfoBlock::ERROR_FLAG;
        Ok(geometry.ok().filter(fits).map(|geometry| InfoBlock { geometry, flags, ..*donor }))
    }

    fn flog_is_sound(&self, info: &InfoBlock) -> Result<bool, MediaError> {
        match Groups::read(self.media, &self.as_found(info)) {
            Ok(groups) => Ok(groups.unsound().next().is_none()),
            Err(OpenError::Media(why)) => Err(why),
            Err(_) => Ok(false),
        }
    }

    const fn as_found(&self, info: &InfoBlock) -> FoundArena {
        FoundArena { at: self.at, info: *info, backup_agrees: true }
    }

    /// The only layout with which flog and map agree, if there is just one.
    fn told_by_contents(
        &self,
        damaged: Option<&RawInfoBlock>,
        options: &RepairOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Option<InfoBlock>, MediaError> {
        let last_page = self.arena_bytes() / PAGE_BYTES * PAGE_BYTES - PAGE_BYTES;
        let copy = self.raw(self.at.plus(last_page))?;
        let remains: Vec<&RawInfoBlock> = [damaged, copy.as_ref()].into_iter().flatten().collect();
        let told: Vec<Geometry> = remains.iter().map(|raw| InfoBlock::geometry_of(raw)).collect();
        let mut computed = Vec::new();
        for size in SECTOR_SIZES.into_iter().filter_map(SectorSize::new) {
            for align in INTERNAL_ALIGNMENTS {
                let internal = size.bytes().next_multiple_of(align);
                computed.extend(Geometry::with_blocks(self.arena_bytes(), size, internal, self.more()));
            }
        }
        // The uuid is the first that is left of either copy; with a wrong one nothing is lost but its name.
        let left = remains.iter().find(|raw| raw.signature == SIGNATURE);
        let uuid = left.map_or(options.fresh_uuid, |raw| Uuid::from_bytes(raw.uuid));
        let (version, parent_uuid) = (self.placement.version, self.placement.parent_uuid);
        // What is left of either copy tells sizes apart that lead to the same layout (520 and 528, 4104 and 4160).
        for layouts in [told, computed] {
            let mut fitting: Vec<InfoBlock> = Vec::new();
            for geometry in layouts {
                let info = InfoBlock { uuid, parent_uuid, flags: 0, version, geometry };
                let known = fitting.iter().any(|other| other.geometry == geometry);
                if !known
                    && geometry.judge(self.remaining).is_ok()
                    && self.owns_all_blocks_once(&info, options, progress)?
                {
                    fitting.push(info);
                }
            }
            match fitting.as_slice() {
                [] => {}
                [only] => return Ok(Some(*only)),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn owns_all_blocks_once(
        &self,
        info: &InfoBlock,
        options: &RepairOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<bool, MediaError> {
        if !self.flog_is_sound(info)? {
            return Ok(false);
        }
        let found = self.as_found(info);
        let groups = match Groups::read(self.media, &found) {
            Ok(groups) => groups,
            Err(OpenError::Media(why)) => return Err(why),
            Err(_) => return Ok(false),
        };
        let mut sound = true;
        let mut see = |seen| sound &= matches!(seen, Seen::Entry { .. } | Seen::Blank { .. });
        let mut progress = Progress::new(from_ref(&found), options.window_blocks, progress);
        // It is gone through with.
        let _ = survey(self.media, &found, &groups, options.window_blocks, &mut see, &mut progress)?;
        Ok(sound)
    }
}
