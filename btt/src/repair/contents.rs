//! Mending an arena's flog and map.
//!
//! Every block has one owner: a sector or a flog group. The unsound groups and map entries must have owned the blocks
//! that the sound ones leave over. If only groups are unsound, any of them may get any of those blocks, so the repair
//! is certain. (The content of a sector whose last write was only in the lost record is not: docs/repair.md. If the
//! record can still be read, its sector is doubtful.) A map entry that is lost, or shares its block, has no certain
//! repair: by force it becomes an error, with a block of its own.
//!
//! The order, each step durable before the next:
//! 1. Interrupted writes are finished.
//! 2. Each sector that shares its block is marked as an error where it stands, and so is each doubtful one. (Otherwise a
//!    cut after one of two sectors got another block would leave the other one looking sound.)
//! 3. Those that may not keep their block, and those whose entries are lost, get one that is left over.
//! 4. The unsound groups get the rest.

use alloc::vec::Vec;
use core::slice::from_ref;

use super::{Failure, RepairOptions, group};
use crate::chain::FoundArena;
use crate::flog::FlogError;
use crate::layout::{LINE_ENTRIES, MAP_ENTRY_BYTES};
use crate::map::{self, MapEntry};
use crate::media::{MediaError, Medium, NsOffset};
use crate::survey::{Groups, Progress, Read, Seen, read_map, survey};
use crate::units::{PostmapAba, PremapAba};

/// The most of each kind of damage that is mended in an arena. More is not an accident of some lines.
const MOST: usize = 1 << 16;

/// What has to be mended.
#[derive(Default)]
struct Damage {
    /// Blocks without an owner. Sorted, as a survey meets them.
    missing: Vec<PostmapAba>,
    /// Blocks that several own. Sorted, each once.
    contested: Vec<PostmapAba>,
    /// Sectors without a block: entries that are lost or lead out of the arena.
    without_block: Vec<PremapAba>,
    /// How often a block came up again.
    again: usize,
    /// There is more than is remembered.
    too_much: bool,
}

/// Mends what the options allow. `all` says whether everything that was found is known to be within bounds.
///
/// # Errors
/// The medium's error. What is not mended is found by the next look.
pub(super) fn mend<M: Medium>(
    media: &M,
    one: &FoundArena,
    options: &RepairOptions,
    all: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Failure> {
    let groups = Groups::read(media, one)?;
    let map = Map { media, at: one.map_at() };
    for pending in &groups.pending {
        map.store(pending.premap, MapEntry::Normal(pending.block))?;
    }
    media.fence()?;
    let mut damage = Damage::find(media, one, &groups, options.window_blocks, progress)?;
    let unsound: Vec<u32> = groups.unsound().map(|(index, _)| index).collect();
    let certain = damage.again == 0 && damage.without_block.is_empty();
    let needed = damage.again + damage.without_block.len() + unsound.len();
    if !all || damage.too_much || needed == 0 || damage.missing.len() != needed || !(certain || options.force) {
        return Ok(());
    }
    let doubtful = doubtful_sectors(media, one, &groups, &damage.missing)?;
    if !doubtful.is_empty() {
        if !options.force {
            return Ok(());
        }
        for (premap, block) in doubtful {
            map.store(premap, MapEntry::Error(block))?;
        }
    }
    let mut spare = core::mem::take(&mut damage.missing);
    map.separate(one, &groups, &damage, &mut spare, progress)?;
    let given: Vec<(u32, PostmapAba)> = unsound.into_iter().zip(spare).collect();
    if !given.is_empty() {
        group::rebuild(media, one.at.plus(one.info.geometry.logoff), groups.slots, &given)?;
    }
    Ok(())
}

impl Damage {
    fn find<M: Medium>(
        media: &M,
        one: &FoundArena,
        groups: &Groups,
        window_blocks: u32,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, MediaError> {
        let mut damage = Self::default();
        let mut too_much = false;
        let mut see = |seen| {
            too_much |= match seen {
                Seen::Entry { .. } | Seen::Blank { .. } => false,
                Seen::OutOfBounds { premap, .. } | Seen::EntryLost { premap } => {
                    push(&mut damage.without_block, premap)
                }
                Seen::Again { block, .. } => {
                    damage.again += 1;
                    push(&mut damage.contested, block)
                }
                Seen::Missing(block) => push(&mut damage.missing, block),
            };
        };
        let mut progress = Progress::new(from_ref(one), window_blocks, progress);
        // It is gone through with.
        let _ = survey(media, one, groups, window_blocks, &mut see, &mut progress)?;
        damage.too_much = too_much;
        damage.contested.sort_unstable();
        damage.contested.dedup();
        Ok(damage)
    }
}

/// Remembers one more. Returns whether there is no room for it.
fn push<T>(list: &mut Vec<T>, one: T) -> bool {
    let full = list.len() == MOST;
    if !full {
        list.push(one);
    }
    full
}

/// Sectors of which an unsound group holds a record that may be an interrupted write: the map names the record's old
/// block, and its new one has no owner. Whether the old data or the new ones are right is unknown.
fn doubtful_sectors<M: Medium>(
    media: &M,
    one: &FoundArena,
    groups: &Groups,
    missing: &[PostmapAba],
) -> Result<Vec<(PremapAba, PostmapAba)>, MediaError> {
    let geometry = &one.info.geometry;
    let mut found = Vec::new();
    for (index, why) in groups.unsound() {
        if why == FlogError::Lost {
            continue;
        }
        for slot in groups.raw[index as usize] {
            let lba = PremapAba(slot.lba.get());
            let [old, new] = [slot.old_map, slot.new_map].map(|word| PostmapAba(word.get() & MapEntry::BLOCK));
            let unowned = missing.binary_search(&new).is_ok();
            if slot.is_padding() || old == new || lba.0 >= geometry.external_nlba || !unowned {
                continue;
            }
            let at = one.entry_at(lba);
            match media.load_u32(at) {
                Ok(word) if MapEntry::decode(word, lba).block() == old => found.push((lba, old)),
                Ok(_) | Err(MediaError::Poisoned { .. }) => {}
                Err(why) => return Err(why),
            }
        }
    }
    Ok(found)
}

/// The map of the arena.
struct Map<'a, M> {
    media: &'a M,
    at: NsOffset,
}

impl<M: Medium> Map<'_, M> {
    fn store(&self, premap: PremapAba, entry: MapEntry) -> Result<(), MediaError> {
        let at = map::entry_at(self.at, premap);
        self.media.store_u32(at, entry.encode())?;
        self.media.start_write_back(at, MAP_ENTRY_BYTES)
    }

    /// Makes errors of the sectors that share a block or have none, each with a block of its own out of `spare`.
    fn separate(
        &self,
        one: &FoundArena,
        groups: &Groups,
        damage: &Damage,
        spare: &mut Vec<PostmapAba>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), MediaError> {
        let mut claims: Vec<(PostmapAba, PremapAba)> = Vec::new();
        if !damage.contested.is_empty() {
            let mut look = |read| match read {
                Read::Word(premap, word) => {
                    let block = MapEntry::decode(word, premap).block();
                    if damage.contested.binary_search(&block).is_ok() {
                        claims.push((block, premap));
                    }
                }
                Read::Blank { first, count } => {
                    let from = damage.contested.partition_point(|block| block.0 < first.0);
                    let own = damage.contested[from..].iter().take_while(|block| block.0 - first.0 < count);
                    claims.extend(own.map(|block| (*block, PremapAba(block.0))));
                }
                Read::Lost(_) => {}
            };
            let mut progress = Progress::new(from_ref(one), u32::MAX, progress);
            let _ = read_map(self.media, one, &mut look, &mut progress)?;
        }
        for &(block, premap) in &claims {
            self.store(premap, MapEntry::Error(block))?;
        }
        self.media.fence()?;
        claims.sort_unstable();
        let mut free: Vec<PostmapAba> = groups.free().collect();
        free.sort_unstable();
        let mut owner = None;
        for &(block, premap) in &claims {
            // The first of them keeps the block, unless a group frees it.
            let keeps = owner != Some(block) && free.binary_search(&block).is_err();
            owner = Some(block);
            if !keeps {
                self.give(premap, spare)?;
            }
        }
        self.mend_lost_lines(one, damage)?;
        for &premap in &damage.without_block {
            self.give(premap, spare)?;
        }
        self.media.fence()
    }

    fn give(&self, premap: PremapAba, spare: &mut Vec<PostmapAba>) -> Result<(), MediaError> {
        match spare.pop() {
            Some(block) => self.store(premap, MapEntry::Error(block)),
            // As many are missing as are needed: the caller has counted.
            None => Ok(()),
        }
    }

    /// Media forget that they lost a line once it is written as a whole: it is filled with entries that lead nowhere, which
    /// a cut leaves as damaged as they were.
    fn mend_lost_lines(&self, one: &FoundArena, damage: &Damage) -> Result<(), MediaError> {
        for premap in &damage.without_block {
            let lost = self.media.load_u32(map::entry_at(self.at, *premap)).is_err();
            if lost {
                let first = premap.0 / LINE_ENTRIES * LINE_ENTRIES;
                let mut line = [0_u8; LINE_ENTRIES as usize * size_of::<u32>()];
                for (_, entry) in (first..one.info.geometry.external_nlba).zip(line.as_chunks_mut().0) {
                    *entry = u32::MAX.to_le_bytes();
                }
                self.media.write(map::entry_at(self.at, PremapAba(first)), &line)?;
            }
        }
        // The lines have arrived: a CPU that changes a part of one may load the rest of it first.
        self.media.fence()
    }
}
