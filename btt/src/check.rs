//! Looking at the whole of a BTT: every info block, every flog group, every map entry; every block owned just once.
//!
//! Reports, and writes nothing. It streams: memory is one bit for each block of a window, and where the memory for all
//! blocks of an arena is not there, the map is read once for each window.

use crate::arena::{Found, find_all};
use crate::device::Placement;
use crate::error::OpenError;
use crate::flog::{self, FlogError};
use crate::info_block::{InfoBlock, InfoBlockError};
use crate::layout::{MAP_ENTRY_BYTES, RawFlogGroup};
use crate::map::MapEntry;
use crate::media::{MediaError, Namespace, NsOffset};
use crate::recover::{Findings, with_capacity};
use crate::units::{ArenaIndex, PostmapAba, PremapAba};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use zerocopy::{FromZeros, IntoBytes};

/// One thing that is not as it should be, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// An info block is not sound; nothing behind it could be looked at.
    InfoBlock {
        /// Which arena.
        arena: ArenaIndex,
        /// Where its info block is.
        at: NsOffset,
        /// What is wrong.
        why: InfoBlockError,
        /// Where a sound copy is, if there is one.
        backup: Option<NsOffset>,
    },
    /// The chain of arenas breaks off for another reason.
    Chain(OpenError),
    /// The copy of an info block differs from it.
    Backup {
        /// Which arena.
        arena: ArenaIndex,
        /// Where the copy is.
        at: NsOffset,
    },
    /// The info block carries the error flag.
    ErrorFlag {
        /// Which arena.
        arena: ArenaIndex,
        /// Where the info block is.
        at: NsOffset,
    },
    /// A flog group is not sound.
    Flog {
        /// Which arena.
        arena: ArenaIndex,
        /// Which group.
        group: u32,
        /// Where it is.
        at: NsOffset,
        /// What is wrong.
        why: FlogError,
    },
    /// A write was cut between flog and map. Opening the device finishes it; no damage.
    Interrupted {
        /// Which arena.
        arena: ArenaIndex,
        /// The sector.
        premap: PremapAba,
        /// Where its map entry is.
        at: NsOffset,
    },
    /// A map entry names a block past the arena's end.
    MapOutOfBounds {
        /// Which arena.
        arena: ArenaIndex,
        /// The sector.
        premap: PremapAba,
        /// Where its map entry is.
        at: NsOffset,
        /// The word that stands there.
        found: u32,
    },
    /// A sector's block has another owner: another sector, or the free list.
    BlockOwnedTwice {
        /// Which arena.
        arena: ArenaIndex,
        /// The block.
        block: PostmapAba,
        /// The sector that comes second.
        premap: PremapAba,
        /// Where its map entry is.
        at: NsOffset,
    },
    /// A block is neither mapped nor free.
    BlockLost {
        /// Which arena.
        arena: ArenaIndex,
        /// The block.
        block: PostmapAba,
    },
    /// The medium could not be read.
    Media(MediaError),
}

impl Finding {
    /// Whether it is damage, and not just a write that waits to be finished.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        !matches!(self, Self::Interrupted { .. })
    }

    /// Where in the namespace, if it has one place.
    #[must_use]
    pub const fn at(&self) -> Option<NsOffset> {
        match self {
            Self::InfoBlock { at, .. }
            | Self::Backup { at, .. }
            | Self::ErrorFlag { at, .. }
            | Self::Flog { at, .. }
            | Self::Interrupted { at, .. }
            | Self::MapOutOfBounds { at, .. }
            | Self::BlockOwnedTwice { at, .. } => Some(*at),
            Self::Chain(_) | Self::BlockLost { .. } | Self::Media(_) => None,
        }
    }

    /// Which arena, if it is one's.
    #[must_use]
    pub const fn arena(&self) -> Option<ArenaIndex> {
        match self {
            Self::InfoBlock { arena, .. }
            | Self::Backup { arena, .. }
            | Self::ErrorFlag { arena, .. }
            | Self::Flog { arena, .. }
            | Self::Interrupted { arena, .. }
            | Self::MapOutOfBounds { arena, .. }
            | Self::BlockOwnedTwice { arena, .. }
            | Self::BlockLost { arena, .. } => Some(*arena),
            Self::Chain(_) | Self::Media(_) => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InfoBlock { why, backup, .. } => {
                write!(f, "info block: {why}")?;
                match backup {
                    Some(copy) => write!(f, "; a sound copy is at {copy}"),
                    None => write!(f, "; there is no sound copy"),
                }
            }
            Self::Chain(why) => why.fmt(f),
            Self::Backup { .. } => write!(f, "the backup info block differs from the first"),
            Self::ErrorFlag { .. } => write!(f, "the info block carries the error flag"),
            Self::Flog { group, why, .. } => write!(f, "flog group {group}: {why}"),
            Self::Interrupted { premap, .. } => {
                write!(f, "map entry {premap}: a write was interrupted, and is finished when the namespace is opened")
            }
            Self::MapOutOfBounds { premap, found, .. } => {
                write!(f, "map entry {premap}: {found:#010x} is past the arena's end")
            }
            Self::BlockOwnedTwice { block, premap, .. } => {
                write!(f, "map entry {premap}: block {block} has another owner")
            }
            Self::BlockLost { block, .. } => write!(f, "block {block} is neither mapped nor free"),
            Self::Media(why) => why.fmt(f),
        }
    }
}

/// How many of each kind of map entry there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sectors that were never written.
    pub initial: u64,
    /// Sectors with data.
    pub normal: u64,
    /// Sectors that read as an error.
    pub error: u64,
    /// Sectors that read zeroes.
    pub zero: u64,
}

/// How many map entries are read at a time.
const CHUNK_ENTRIES: u32 = 1 << 14;
/// A map entry's size, as memory counts.
const ENTRY: usize = size_of::<u32>();
const _: () = assert!(ENTRY as u64 == MAP_ENTRY_BYTES);

/// Looks at everything. Whoever has the BTT open sees to it that nobody writes meanwhile
/// ([`crate::Btt::exclusively`]).
///
/// `window_blocks` bounds the memory: a bit for each of so many blocks. `report` gets each finding, `progress` how many
/// of how many map entries have been read.
pub fn check<N: Namespace>(
    media: &N,
    placement: Placement,
    window_blocks: u32,
    report: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Summary {
    let found = match find_all(media, placement.version, placement.parent_uuid) {
        Ok(found) => found,
        Err(OpenError::InfoBlock { arena, at, why, backup }) => {
            report(Finding::InfoBlock { arena, at, why, backup });
            return Summary::default();
        }
        Err(why) => {
            report(Finding::Chain(why));
            return Summary::default();
        }
    };
    let window_blocks = window_blocks.max(64);
    let passes = |found: &Found| u64::from(found.info.geometry.internal_nlba.div_ceil(window_blocks));
    let total = found.iter().map(|one| passes(one) * u64::from(one.info.geometry.external_nlba)).sum();
    let mut done = 0;
    let mut summary = Summary::default();
    for (index, one) in (0..).zip(&found) {
        let arena = ArenaIndex(index);
        if !one.backup_agrees {
            report(Finding::Backup { arena, at: one.at.plus(one.info.geometry.info2off) });
        }
        if one.info.flags & InfoBlock::ERROR_FLAG != 0 {
            report(Finding::ErrorFlag { arena, at: one.at });
        }
        let findings = match Findings::inspect(media, arena, one.at, &one.info) {
            Ok(findings) => Some(findings),
            Err(why) => {
                report_flog(media, arena, one, why, report);
                None
            }
        };
        let mut look = ArenaCheck { media, arena, one, findings, report, summary: &mut summary };
        let mut step = |entries| {
            done += entries;
            progress(done, total);
        };
        if let Err(why) = look.map(window_blocks, &mut step) {
            report(Finding::Media(why));
        }
    }
    summary
}

/// Reports every group that is not sound, not only the first.
fn report_flog<N: Namespace>(
    media: &N,
    arena: ArenaIndex,
    one: &Found,
    first: OpenError,
    report: &mut dyn FnMut(Finding),
) {
    let OpenError::Flog { group, at, why, .. } = first else {
        report(Finding::Chain(first));
        return;
    };
    let geometry = &one.info.geometry;
    let flog = one.at.plus(geometry.logoff);
    let mut groups: Vec<RawFlogGroup> = Vec::new();
    if let Ok(room) = with_capacity(geometry.nfree) {
        groups = room;
        groups.resize_with(geometry.nfree as usize, RawFlogGroup::new_zeroed);
    }
    let mut reported = false;
    if media.read(flog, groups.as_mut_slice().as_mut_bytes()).is_ok()
        && let Ok(slots) = flog::find_slots(&groups)
    {
        for (group, raw) in (0..).zip(&groups) {
            if let Err(why) = flog::newest(raw, slots, geometry.external_nlba, geometry.internal_nlba) {
                report(Finding::Flog { arena, group, at: flog::group_at(flog, group), why });
                reported = true;
            }
        }
    }
    if !reported {
        report(Finding::Flog { arena, group, at, why });
    }
}

struct ArenaCheck<'a, N> {
    media: &'a N,
    arena: ArenaIndex,
    one: &'a Found,
    /// `None`: the flog is not sound, so nobody knows which blocks are free.
    findings: Option<Findings>,
    report: &'a mut dyn FnMut(Finding),
    summary: &'a mut Summary,
}

impl<N: Namespace> ArenaCheck<'_, N> {
    /// Reads the map, once for each window of blocks.
    fn map(&mut self, window_blocks: u32, step: &mut dyn FnMut(u64)) -> Result<(), MediaError> {
        let blocks = self.one.info.geometry.internal_nlba;
        let mut first = 0;
        while first < blocks {
            let window = window_blocks.min(blocks - first);
            let mut owned = Bits::new(first, window);
            if let Some(findings) = &self.findings {
                for entry in &findings.entries {
                    owned.take(entry.free);
                }
            }
            self.window(&mut owned, first == 0, step)?;
            if self.findings.is_some() {
                for block in owned.absent() {
                    (self.report)(Finding::BlockLost { arena: self.arena, block });
                }
            }
            first += window;
        }
        Ok(())
    }

    fn window(&mut self, owned: &mut Bits, is_first: bool, step: &mut dyn FnMut(u64)) -> Result<(), MediaError> {
        let geometry = self.one.info.geometry;
        let map = self.one.at.plus(geometry.mapoff);
        let mut buffer = vec![0_u8; (CHUNK_ENTRIES as usize) * ENTRY];
        let mut first = 0;
        while first < geometry.external_nlba {
            let count = CHUNK_ENTRIES.min(geometry.external_nlba - first);
            let bytes = &mut buffer[..count as usize * ENTRY];
            self.media.read(map.plus(u64::from(first) * MAP_ENTRY_BYTES), bytes)?;
            let (words, _) = bytes.as_chunks::<ENTRY>();
            for (premap, word) in (first..).map(PremapAba).zip(words) {
                self.entry(premap, u32::from_le_bytes(*word), owned, is_first);
            }
            first += count;
            step(u64::from(count));
        }
        Ok(())
    }

    fn entry(&mut self, premap: PremapAba, word: u32, owned: &mut Bits, is_first: bool) {
        let geometry = &self.one.info.geometry;
        let (arena, at) = (self.arena, self.one.at.plus(geometry.mapoff + u64::from(premap.0) * MAP_ENTRY_BYTES));
        let mut entry = MapEntry::decode(word, premap);
        if let Some(findings) = &self.findings
            && let Ok(index) = findings.pending.binary_search_by_key(&premap, |p| p.premap)
        {
            entry = MapEntry::Normal(findings.pending[index].block);
            if is_first {
                (self.report)(Finding::Interrupted { arena, premap, at });
            }
        }
        if is_first {
            match entry {
                MapEntry::Initial(_) => self.summary.initial += 1,
                MapEntry::Normal(_) => self.summary.normal += 1,
                MapEntry::Error(_) => self.summary.error += 1,
                MapEntry::Zero(_) => self.summary.zero += 1,
            }
        }
        let block = entry.block();
        if block.0 >= geometry.internal_nlba {
            if is_first {
                (self.report)(Finding::MapOutOfBounds { arena, premap, at, found: word });
            }
        } else if owned.take(block) == Taken::Again {
            (self.report)(Finding::BlockOwnedTwice { arena, block, premap, at });
        }
    }
}

/// A bit for each block of a window.
struct Bits {
    first: u32,
    count: u32,
    words: Vec<u64>,
}

#[derive(PartialEq, Eq)]
enum Taken {
    First,
    Again,
    Outside,
}

impl Bits {
    fn new(first: u32, count: u32) -> Self {
        Self { first, count, words: vec![0; count.div_ceil(64) as usize] }
    }

    fn take(&mut self, block: PostmapAba) -> Taken {
        let Some(index) = block.0.checked_sub(self.first).filter(|index| *index < self.count) else {
            return Taken::Outside;
        };
        let (word, bit) = (&mut self.words[index as usize / 64], 1 << (index % 64));
        let again = *word & bit != 0;
        *word |= bit;
        if again { Taken::Again } else { Taken::First }
    }

    fn absent(&self) -> impl Iterator<Item = PostmapAba> {
        (0..self.count)
            .filter(|index| self.words[*index as usize / 64] & 1 << (index % 64) == 0)
            .map(|index| PostmapAba(self.first + index))
    }
}
