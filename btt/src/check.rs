//! Looking at the whole of a BTT: every info block, every flog group, every map entry; every block owned just once.
//!
//! Reports, and writes nothing.

use core::fmt;
use core::ops::ControlFlow;

use crate::chain::{FoundArena, OpenError, Placement, find_all};
use crate::flog::{self, FlogError};
use crate::info_block::{InfoBlock, InfoBlockError};
use crate::map::MapEntry;
use crate::media::{MediaError, Medium, NsOffset};
use crate::survey::{Groups, Progress, Seen, survey};
use crate::units::{ArenaIndex, PostmapAba, PremapAba};

/// One thing that is not as it should be, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant says what its fields are")]
pub enum Finding {
    /// An arena's info block, at `at`, is not sound, and nothing behind it could be looked at. `backup`: where a sound
    /// copy of it is, if there is one.
    InfoBlock { arena: ArenaIndex, at: NsOffset, why: InfoBlockError, backup: Option<NsOffset> },
    /// The chain of arenas breaks off for another reason.
    Chain(OpenError),
    /// The copy of an arena's info block, at `at`, differs from it.
    Backup { arena: ArenaIndex, at: NsOffset },
    /// The info block at `at` carries the error flag.
    ErrorFlag { arena: ArenaIndex, at: NsOffset },
    /// The flog group at `at` is not sound.
    Flog { arena: ArenaIndex, group: u32, at: NsOffset, why: FlogError },
    /// A write was cut between flog and map: the sector's map entry, at `at`, is not moved yet. Opening the device finishes
    /// it; no damage.
    Interrupted { arena: ArenaIndex, premap: PremapAba, at: NsOffset },
    /// The sector's map entry, the word `found` at `at`, names a block past the arena's end.
    MapOutOfBounds { arena: ArenaIndex, premap: PremapAba, at: NsOffset, found: u32 },
    /// The medium lost the sector's map entry, at `at`.
    MapLost { arena: ArenaIndex, premap: PremapAba, at: NsOffset },
    /// A block has two owners. The sector is the second of them, with its map entry at `at`; the other is another sector or
    /// the free list.
    BlockOwnedTwice { arena: ArenaIndex, block: PostmapAba, premap: PremapAba, at: NsOffset },
    /// A block is neither mapped nor free.
    BlockLost { arena: ArenaIndex, block: PostmapAba },
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
            | Self::MapLost { at, .. }
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
            | Self::MapLost { arena, .. }
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
            Self::MapLost { premap, .. } => write!(f, "map entry {premap}: the medium lost it"),
            Self::BlockOwnedTwice { block, premap, .. } => {
                write!(f, "map entry {premap}: block {block} has another owner")
            }
            Self::BlockLost { block, .. } => write!(f, "block {block} is neither mapped nor free"),
            Self::Media(why) => why.fmt(f),
        }
    }
}

impl Summary {
    pub(crate) fn add(&mut self, other: &Self) {
        self.arenas += other.arenas;
        self.initial += other.initial;
        self.normal += other.normal;
        self.error += other.error;
        self.zero += other.zero;
    }

    fn count(&mut self, entry: MapEntry) {
        *match entry {
            MapEntry::Initial(_) => &mut self.initial,
            MapEntry::Normal(_) => &mut self.normal,
            MapEntry::Error(_) => &mut self.error,
            MapEntry::Zero(_) => &mut self.zero,
        } += 1;
    }
}

/// How many arenas there are, and how many of each kind of map entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Arenas that were looked at.
    pub arenas: u32,
    /// Sectors that were never written.
    pub initial: u64,
    /// Sectors with data.
    pub normal: u64,
    /// Sectors that read as an error.
    pub error: u64,
    /// Sectors that read zeroes.
    pub zero: u64,
    /// The look was ended before it was through: what was not reported may still be wrong.
    pub ended_early: bool,
}

/// Looks at everything. A caller that has the BTT open lets no CPU write meanwhile
/// ([`crate::Btt::exclusively`]).
///
/// `window_blocks` bounds the memory: a bit for each of so many blocks. `report` gets each finding, `progress` how many
/// of how many map entries have been read, and may end the look ([`Summary::ended_early`]).
pub fn check<M: Medium>(
    media: &M,
    placement: Placement,
    window_blocks: u32,
    report: &mut dyn FnMut(Finding),
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
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
    let mut progress = Progress::that_may_end(&found, window_blocks, progress);
    let mut summary = Summary::default();
    for (index, one) in (0..).zip(&found) {
        check_arena(media, ArenaIndex(index), one, window_blocks, report, &mut progress, &mut summary);
        if summary.ended_early {
            break;
        }
    }
    summary
}

/// Looks at one arena.
pub(crate) fn check_arena<M: Medium>(
    media: &M,
    arena: ArenaIndex,
    one: &FoundArena,
    window_blocks: u32,
    report: &mut dyn FnMut(Finding),
    progress: &mut Progress<'_>,
    summary: &mut Summary,
) {
    let geometry = &one.info.geometry;
    summary.arenas += 1;
    if !one.backup_agrees {
        report(Finding::Backup { arena, at: one.at.plus(geometry.info2off) });
    }
    if one.info.flags & InfoBlock::ERROR_FLAG != 0 {
        report(Finding::ErrorFlag { arena, at: one.at });
    }
    let groups = match Groups::read(media, one) {
        Ok(groups) => groups,
        Err(why) => return report(Finding::Chain(why)),
    };
    let flog = one.flog_at();
    let mut unsound = 0;
    for (group, why) in groups.unsound() {
        unsound += 1;
        // A flog that was never written is one finding, not one for each group.
        if unsound == 1 || why != FlogError::NeverWritten {
            report(Finding::Flog { arena, group, at: flog::group_at(flog, group), why });
        }
    }
    let mut see = |seen| {
        let at = |premap: PremapAba| one.entry_at(premap);
        match seen {
            Seen::Blank { count } => summary.initial += u64::from(count),
            Seen::Entry { premap, entry, interrupted } => {
                summary.count(entry);
                if interrupted {
                    report(Finding::Interrupted { arena, premap, at: at(premap) });
                }
            }
            Seen::OutOfBounds { premap, word } => {
                report(Finding::MapOutOfBounds { arena, premap, at: at(premap), found: word });
            }
            Seen::EntryLost { premap } => report(Finding::MapLost { arena, premap, at: at(premap) }),
            Seen::Again { premap, block } => {
                report(Finding::BlockOwnedTwice { arena, block, premap, at: at(premap) });
            }
            // Where groups are unsound, the blocks that they free are unknown.
            Seen::Missing(block) if unsound == 0 => report(Finding::BlockLost { arena, block }),
            Seen::Missing(_) => {}
        }
    };
    match survey(media, one, &groups, window_blocks, &mut see, progress) {
        Ok(ended) => summary.ended_early |= ended.is_break(),
        Err(why) => report(Finding::Media(why)),
    }
}
