//! One arena: where its areas are, whether it takes writes, and how a map entry is followed.

use alloc::vec::Vec;

use crate::chain::FoundArena;
use crate::error::{BttError, ReadOnlyReason};
use crate::flog::Slots;
use crate::geometry::Area;
use crate::info_block::{self, InfoBlock};
use crate::map::{MapEntry, MapLocks};
use crate::media::{LINE_BYTES, MediaError, Medium, NsOffset};
use crate::recover::{Pending, Recovery, Unknown};
use crate::slow_readers::SlowReaders;
use crate::sync::Once;
use crate::units::{ArenaIndex, ExternalLba, PostmapAba, PremapAba};

/// The map entries of an arena without writes that differ from those on the medium, or are unknown. Empty if it takes
/// writes.
pub(crate) struct Overlay {
    /// Map entries that recovery would write. Sorted.
    pub(crate) pending: Vec<Pending>,
    /// Sectors whose content is not certain.
    pub(crate) unknown: Unknown,
}

impl Overlay {
    #[inline]
    fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.unknown.sectors.is_empty()
    }
}

/// An arena in use.
pub(crate) struct Arena {
    pub(crate) index: ArenaIndex,
    pub(crate) found: FoundArena,
    pub(crate) first_lba: ExternalLba,
    pub(crate) slots: Slots,
    pub(crate) locks: MapLocks,
    pub(crate) slow_readers: SlowReaders,
    overlay: Overlay,
    read_only: Once<ReadOnlyReason>,
    /// Whether the info block on the medium has got the error flag from us.
    flagged: Once<bool>,
}

impl Arena {
    pub(crate) fn new(
        index: ArenaIndex,
        found: FoundArena,
        first_lba: ExternalLba,
        slots: Slots,
        stripes: usize,
        overlay: Overlay,
        read_only: Option<ReadOnlyReason>,
    ) -> Self {
        let arena = Self {
            index,
            found,
            first_lba,
            slots,
            locks: MapLocks::new(stripes),
            slow_readers: SlowReaders::new(),
            overlay,
            read_only: Once::new(),
            flagged: Once::new(),
        };
        if let Some(why) = read_only {
            arena.turn_read_only(why);
        }
        arena
    }

    /// Bytes of memory that an arena with so many stripes takes beside its free lists.
    pub(crate) const fn memory_bytes(stripes: usize) -> u64 {
        (size_of::<Self>() + size_of::<Recovery>() + MapLocks::memory_bytes(stripes)) as u64
    }

    /// Where a block is.
    #[inline]
    pub(crate) fn block_at(&self, block: PostmapAba) -> NsOffset {
        let geometry = &self.found.info.geometry;
        self.found.at.plus(geometry.dataoff + u64::from(block.0) * u64::from(geometry.internal_lbasize))
    }

    /// The sector's number as the user counts.
    #[inline]
    pub(crate) fn lba(&self, premap: PremapAba) -> ExternalLba {
        ExternalLba(self.first_lba.0 + u64::from(premap.0))
    }

    /// The sector's number in this arena, if it is one of this arena's.
    #[inline]
    pub(crate) fn premap(&self, lba: ExternalLba) -> Option<PremapAba> {
        let premap = u32::try_from(lba.0.checked_sub(self.first_lba.0)?).ok()?;
        (premap < self.found.info.geometry.external_nlba).then_some(PremapAba(premap))
    }

    /// Follows the map. An entry past the arena's end turns the arena read-only.
    #[inline(always)]
    pub(crate) fn entry<M: Medium>(&self, media: &M, premap: PremapAba) -> Result<MapEntry, BttError> {
        self.word(media, premap).and_then(|word| self.decode(media, premap, word))
    }

    /// The word of a sector's map entry, as it is once interrupted writes are finished.
    #[inline(always)]
    pub(crate) fn word<M: Medium>(&self, media: &M, premap: PremapAba) -> Result<u32, BttError> {
        if !self.overlay.is_empty()
            && let Some(known) = self.overlaid(premap)
        {
            return known.map(MapEntry::encode);
        }
        media.load_u32(self.found.entry_at(premap)).map_err(|why| match why {
            MediaError::Poisoned { .. } => self.found_damage(media, ReadOnlyReason::Metadata(why)),
            why => self.metadata_failed(why),
        })
    }

    /// What the word of a map entry means. One that leads past the arena's end turns the arena read-only.
    #[inline(always)]
    pub(crate) fn decode<M: Medium>(&self, media: &M, premap: PremapAba, word: u32) -> Result<MapEntry, BttError> {
        let entry = MapEntry::decode(word, premap);
        if MapEntry::block_of(word, premap).0 < self.found.info.geometry.internal_nlba {
            return Ok(entry);
        }
        Err(self.found_damage(media, ReadOnlyReason::MapOutOfBounds { premap, found: word }))
    }

    /// The entry as recovery would write it, or an error if it is not certain. `None`: the entry on the medium counts.
    /// Invariant 6: recovery is an overlay where the medium could not be written when the arena was opened.
    fn overlaid(&self, premap: PremapAba) -> Option<Result<MapEntry, BttError>> {
        let Overlay { pending, unknown } = &self.overlay;
        // A record that waits is its sector's newest, whatever other records say.
        if let Ok(found) = pending.binary_search_by_key(&premap, |p| p.premap) {
            return Some(Ok(MapEntry::Normal(pending[found].block)));
        }
        let why = unknown.why.filter(|_| unknown.sectors.binary_search(&premap).is_ok())?;
        Some(Err(BttError::ReadOnly { arena: self.index, why: ReadOnlyReason::Metadata(why) }))
    }

    /// Why the arena takes no writes, if it takes none.
    #[inline]
    pub(crate) fn read_only(&self) -> Option<ReadOnlyReason> {
        self.read_only.get().copied()
    }

    /// Returns an error if the arena takes no writes.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<(), BttError> {
        self.read_only().map_or(Ok(()), |why| Err(BttError::ReadOnly { arena: self.index, why }))
    }

    /// Turns the arena read-only. The first reason stands.
    pub(crate) fn turn_read_only(&self, why: ReadOnlyReason) -> BttError {
        let why = *self.read_only.call_once(|| why);
        BttError::ReadOnly { arena: self.index, why }
    }

    /// Turns the arena, whose metadata are damaged, read-only, and sets the error flag in its info block for later
    /// readers. The flag is only set where the block's copy is sound, so that a cut meanwhile leaves nothing worse.
    #[cold]
    fn found_damage<M: Medium>(&self, media: &M, why: ReadOnlyReason) -> BttError {
        let error = self.turn_read_only(why);
        // The first reason stands: another place of the same kind, or one that has nothing to do with damage.
        let lost = |why| matches!(why, ReadOnlyReason::Metadata(MediaError::Poisoned { .. }));
        let is_damage = self.read_only().is_some_and(|first| first == why || (lost(first) && lost(why)));
        if is_damage && self.found.backup_agrees {
            self.flagged.call_once(|| {
                let mut info = self.found.info;
                info.flags |= InfoBlock::ERROR_FLAG;
                // If this fails, the damage is found again at the next boot.
                info_block::store_both(media, self.found.at, &info).is_ok()
            });
        }
        error
    }

    /// The info block as it stands on the medium now.
    pub(crate) fn info(&self) -> InfoBlock {
        let mut info = self.found.info;
        if self.flagged.get() == Some(&true) {
            info.flags |= InfoBlock::ERROR_FLAG;
        }
        info
    }

    /// Turns the arena read-only because an access to map or flog failed.
    #[cold]
    pub(crate) fn metadata_failed(&self, why: MediaError) -> BttError {
        self.turn_read_only(ReadOnlyReason::Metadata(why))
    }
}

/// Why an arena with this info block could not be written, before anything has gone wrong.
pub(crate) fn born_read_only<M: Medium>(media: &M, found: &FoundArena) -> Option<ReadOnlyReason> {
    let geometry = &found.info.geometry;
    let aligned = |offset: u64| (found.at.0 + offset).is_multiple_of(LINE_BYTES);
    if media.read_only() {
        Some(ReadOnlyReason::Medium)
    } else if found.info.flags & InfoBlock::ERROR_FLAG != 0 {
        Some(ReadOnlyReason::ErrorFlag)
    } else if !aligned(geometry.mapoff) {
        Some(ReadOnlyReason::Misaligned(Area::Map))
    } else if !aligned(geometry.logoff) {
        Some(ReadOnlyReason::Misaligned(Area::Flog))
    } else {
        None
    }
}
