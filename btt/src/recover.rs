//! Recovery of an arena after a power cut, from its flog: which blocks are free, which writes are still to be finished.
//!
//! Looking at all groups comes first and writes nothing ([`Recovery::inspect`]); finishing the interrupted writes
//! ([`Recovery::finish`]) comes after every group of every arena has been found sound. Both take O(nfree), whatever
//! the capacity. Looking at all arenas before any is written is invariant 6.
//!
//! A group's newer record `lba: old → new` is in one of these states, by the map entry of `lba`:
//!
//! | map says | meaning | what is free |
//! |---|---|---|
//! | `new` | the write was finished | `old` |
//! | `old` | cut between flog and map: the write is acknowledged or about to be, so the map is moved to `new` | `old` |
//! | another block | the sector was written again since, through another group | `old` |
//! | (`old` = `new`) | the group was never used | `old` |
//!
//! At most one record of a sector can be waiting for its map entry (invariant 4): a writer makes the entry it finds
//! durable before it commits the next record of that sector. So the order in which they are finished does not matter.
//!
//! If the map entry of a record cannot be read, the record's state is unknown: the sector has no certain content then
//! ([`Unknown`]), and the arena takes no writes; what recovery would have written for its other sectors is an overlay.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::chain::OpenError;
use crate::flog::{self, FlogEntry, FlogError, Record, Slots};
use crate::info_block::InfoBlock;
use crate::layout::{MAP_ENTRY_BYTES, RawFlogGroup};
use crate::map::{self, MapEntry};
use crate::media::{MediaError, Medium, NsOffset};
use crate::units::{ArenaIndex, PostmapAba, PremapAba};

/// A map entry that a cut kept from being written: the sector's data are in this block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) premap: PremapAba,
    pub(crate) block: PostmapAba,
}

/// What recovery learns from the flog of one arena.
pub(crate) struct Recovery {
    pub(crate) slots: Slots,
    /// One for each group, in order.
    pub(crate) entries: Vec<FlogEntry>,
    /// Sorted by sector.
    pub(crate) pending: Vec<Pending>,
    pub(crate) unknown: Unknown,
}

/// Sectors that records name whose map entries could not be read.
#[derive(Default)]
pub(crate) struct Unknown {
    /// The first failure.
    pub(crate) why: Option<MediaError>,
    /// Sorted.
    pub(crate) sectors: Vec<PremapAba>,
}

impl Unknown {
    fn add(&mut self, premap: PremapAba, why: MediaError) -> Result<(), OpenError> {
        self.why.get_or_insert(why);
        self.sectors.try_reserve(1).map_err(|_| OpenError::OutOfMemory)?;
        self.sectors.push(premap);
        Ok(())
    }
}

/// Bytes of memory that looking at a flog takes for each group, beside what stays in [`Recovery`].
pub(crate) const LOOK_BYTES: usize =
    size_of::<RawFlogGroup>() + 2 * size_of::<(PostmapAba, u32)>() + size_of::<(PremapAba, PostmapAba, u32)>();
/// Bytes of memory that stay for each group. (The list of unknown sectors may have grown to twice its length.)
pub(crate) const KEPT_BYTES: usize = size_of::<FlogEntry>() + size_of::<Pending>() + 2 * size_of::<PremapAba>();

impl Recovery {
    /// Reads the flog and the map entries that it names. Writes nothing. `groups` is room for the flog, which grows if it is
    /// too small: a caller that looks at several arenas lends the same.
    ///
    /// # Errors
    /// The first group that writes and cuts cannot explain, or a block with two owners among those seen here; a flog that
    /// cannot be read. A map entry that cannot be read is no error: see [`Unknown`].
    pub(crate) fn inspect<M: Medium>(
        media: &M,
        arena: ArenaIndex,
        base: NsOffset,
        info: &InfoBlock,
        groups: &mut Vec<RawFlogGroup>,
    ) -> Result<Self, OpenError> {
        let geometry = &info.geometry;
        let flog = base.plus(geometry.logoff);
        let map = base.plus(geometry.mapoff);
        let fault = |(group, why)| OpenError::Flog { arena, group, at: flog::group_at(flog, group), why };

        let nfree = geometry.nfree as usize;
        if groups.len() < nfree {
            groups.try_reserve_exact(nfree - groups.len()).map_err(|_| OpenError::OutOfMemory)?;
            groups.resize(nfree, RawFlogGroup::default());
        }
        let groups = &mut groups[..nfree];
        media.read(flog, groups.as_mut_bytes())?;
        let slots = flog::find_slots(groups).map_err(fault)?;

        let mut entries = with_capacity(geometry.nfree)?;
        let mut pending = with_capacity(geometry.nfree)?;
        let mut unknown = Unknown::default();
        // Each group's free block, and the block of the sector that it names.
        let mut owners: Vec<(PostmapAba, u32)> = with_capacity(2 * geometry.nfree)?;
        let mut named: Vec<(PremapAba, PostmapAba, u32)> = with_capacity(geometry.nfree)?;
        for (group, raw) in (0..).zip(&*groups) {
            let record = flog::newest(raw, slots, geometry.external_nlba, geometry.internal_nlba)
                .map_err(|why| fault((group, why)))?;
            entries.push(FlogEntry::new(flog::group_at(flog, group), slots, &record));
            owners.push((record.old, group));
            if record.old != record.new {
                let block = match look_up(media, map, &record) {
                    Ok(State::Finished) => record.new,
                    Ok(State::Pending) => {
                        pending.push(Pending { premap: record.lba, block: record.new });
                        record.new
                    }
                    Ok(State::Elsewhere(block)) => block,
                    Err(why) => {
                        unknown.add(record.lba, why)?;
                        continue;
                    }
                };
                named.push((record.lba, block, group));
            }
        }
        pending.sort_unstable_by_key(|p: &Pending| p.premap);
        unknown.sectors.sort_unstable();
        // Another record may name such a sector, and have met its entry in a moment when it could be read.
        named.retain(|(premap, ..)| unknown.sectors.binary_search(premap).is_err());
        check_owners(owners, named, &pending).map_err(fault)?;
        Ok(Self { slots, entries, pending, unknown })
    }

    /// Moves the map on for every write that was cut short.
    ///
    /// A crash in here leaves some of the entries written, and the next inspection finds the others again: nothing
    /// else is stored, and the flog stays as it is.
    ///
    /// # Errors
    /// The medium's error.
    pub(crate) fn finish<M: Medium>(&self, media: &M, map: NsOffset) -> Result<(), MediaError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        for p in &self.pending {
            let at = map::entry_at(map, p.premap);
            media.store_u32(at, MapEntry::Normal(p.block).encode())?;
            media.start_write_back(at, MAP_ENTRY_BYTES)?;
        }
        // Before this fence, any of the entries may be old: then they are found again. After it, the arena is as if
        // the writes had never been interrupted, and their groups may be used.
        media.fence()
    }
}

enum State {
    Finished,
    Pending,
    Elsewhere(PostmapAba),
}

fn look_up<M: Medium>(media: &M, map: NsOffset, record: &Record) -> Result<State, MediaError> {
    let word = media.load_u32(map::entry_at(map, record.lba))?;
    let block = MapEntry::decode(word, record.lba).block();
    Ok(if block == record.new {
        State::Finished
    } else if block == record.old {
        State::Pending
    } else {
        State::Elsewhere(block)
    })
}

/// No block may be free twice, nor free and in use by a sector that the flog names, nor in use by two of those.
fn check_owners(
    mut owners: Vec<(PostmapAba, u32)>,
    mut named: Vec<(PremapAba, PostmapAba, u32)>,
    pending: &[Pending],
) -> Result<(), (u32, FlogError)> {
    // Several groups may name one sector; after recovery it has one block all the same.
    named.sort_unstable();
    for (premap, block, _) in &mut named {
        if let Ok(found) = pending.binary_search_by_key(premap, |p| p.premap) {
            *block = pending[found].block;
        }
    }
    named.dedup_by_key(|(premap, _, _)| *premap);
    owners.extend(named.iter().map(|&(_, block, group)| (block, group)));
    owners.sort_unstable();
    match owners.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err((pair[1].1, FlogError::BlockOwnedTwice { block: pair[1].0 })),
        None => Ok(()),
    }
}

/// A vector whose size comes from the medium.
pub(crate) fn with_capacity<T>(count: u32) -> Result<Vec<T>, OpenError> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(count as usize).map_err(|_| OpenError::OutOfMemory)?;
    Ok(vector)
}
