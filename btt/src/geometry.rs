//! How an arena is cut up: computed for a new one, judged for one that was read.
//!
//! A reader goes by the stored offsets and never by assumption: other makers order the areas differently.

use core::fmt;

use crate::layout::{
    ARENA_MAX_BYTES, ARENA_MIN_BYTES, FLOG_GROUP_BYTES, INTERNAL_ALIGN_BYTES, MAP_ENTRY_BYTES, NFREE, PAGE_BYTES,
};
use crate::units::clamp_u32;

/// The sector sizes that Linux knows: 512 or 4096 data bytes, the rest metadata of the sector.
pub const SECTOR_SIZES: [u32; 7] = [512, 520, 528, 4096, 4104, 4160, 4224];

/// The largest post-map number a map entry can hold, plus one.
const POSTMAP_LIMIT: u32 = 1 << 30;

/// The most free blocks an arena is opened with: 4 MiB of flog. All implementations write 256.
pub const NFREE_MAX: u32 = 1 << 16;

/// A sector size that a BTT can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorSize(u32);

impl SectorSize {
    /// The size in bytes, metadata included, if it is one of [`SECTOR_SIZES`].
    #[must_use]
    pub fn new(bytes: u32) -> Option<Self> {
        SECTOR_SIZES.contains(&bytes).then_some(Self(bytes))
    }

    /// What stands in an info block, to be judged with the rest of it ([`Geometry::judge`]).
    pub(crate) const fn unjudged(bytes: u32) -> Self {
        Self(bytes)
    }

    /// The whole sector, metadata included.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The part a block device shows: 512 or 4096. The rest is metadata, stored right after it.
    #[must_use]
    pub const fn data_bytes(self) -> u32 {
        if self.0 >= 4096 { 4096 } else { 512 }
    }
}

/// An arena's sizes and the offsets of its areas, relative to its info block, all in bytes or blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of the info block's fields, documented in `layout`
pub struct Geometry {
    pub external_lbasize: SectorSize,
    pub external_nlba: u32,
    pub internal_lbasize: u32,
    pub internal_nlba: u32,
    pub nfree: u32,
    pub nextoff: u64,
    pub dataoff: u64,
    pub mapoff: u64,
    pub logoff: u64,
    pub info2off: u64,
}

/// What is wrong with an arena's geometry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeometryError {
    /// The space is below 16 MiB.
    TooSmall {
        /// How many bytes there are.
        bytes: u64,
    },
    /// Not one of [`SECTOR_SIZES`]. Nothing else is wrong.
    SectorSize {
        /// What stands there.
        found: u32,
    },
    /// An internal block is smaller than a sector.
    InternalBlock {
        /// What stands there.
        found: u32,
    },
    /// `nfree` is 0.
    NoFreeBlocks,
    /// `nfree` is above [`NFREE_MAX`]. Nothing else is wrong.
    Nfree {
        /// What stands there.
        found: u32,
    },
    /// `internal_nlba` is not `external_nlba + nfree`, is out of range, or there is no sector at all.
    BlockCount {
        /// `external_nlba`.
        external: u32,
        /// `internal_nlba`.
        internal: u32,
    },
    /// An area leaves the arena.
    AreaLeaves {
        /// Which one.
        area: Area,
    },
    /// Two areas share bytes.
    AreasOverlap {
        /// The one that begins first.
        first: Area,
        /// The one it runs into.
        second: Area,
    },
    /// The map or the flog is not aligned to its entries.
    Misaligned {
        /// Which one.
        area: Area,
    },
    /// `nextoff` leads out of the namespace.
    NextArena {
        /// What stands there.
        nextoff: u64,
    },
}

/// A part of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The info block.
    Info,
    /// The data blocks.
    Data,
    /// The map.
    Map,
    /// The flog.
    Flog,
    /// The copy of the info block.
    Info2,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info block",
            Self::Data => "data area",
            Self::Map => "map",
            Self::Flog => "flog",
            Self::Info2 => "backup info block",
        })
    }
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { bytes } => write!(f, "{bytes} bytes are too small for an arena (16 MiB)"),
            Self::SectorSize { found } => write!(f, "sector size {found} is none of {SECTOR_SIZES:?}"),
            Self::InternalBlock { found } => write!(f, "internal block size {found} does not hold a sector"),
            Self::NoFreeBlocks => write!(f, "nfree is 0"),
            Self::Nfree { found } => write!(f, "nfree {found} is above {NFREE_MAX}"),
            Self::BlockCount { external, internal } => {
                write!(f, "{internal} internal blocks do not fit {external} sectors and nfree")
            }
            Self::AreaLeaves { area } => write!(f, "the {area} leaves the arena"),
            Self::AreasOverlap { first, second } => write!(f, "the {first} runs into the {second}"),
            Self::Misaligned { area } => write!(f, "the {area} is not aligned"),
            Self::NextArena { nextoff } => write!(f, "nextoff {nextoff:#x} leads nowhere"),
        }
    }
}

impl Geometry {
    /// The geometry of a new arena that takes `arena_bytes`; another one follows if `more`.
    ///
    /// # Errors
    /// [`GeometryError::TooSmall`].
    pub fn for_new(arena_bytes: u64, external_lbasize: SectorSize, more: bool) -> Result<Self, GeometryError> {
        let internal_lbasize = external_lbasize.bytes().next_multiple_of(INTERNAL_ALIGN_BYTES);
        Self::with_blocks(arena_bytes, external_lbasize, internal_lbasize, more)
    }

    /// The same for internal blocks of another size: older makers rounded it up to 256.
    ///
    /// # Errors
    /// [`GeometryError::TooSmall`].
    pub fn with_blocks(
        arena_bytes: u64,
        external_lbasize: SectorSize,
        internal_lbasize: u32,
        more: bool,
    ) -> Result<Self, GeometryError> {
        if arena_bytes < ARENA_MIN_BYTES || internal_lbasize < external_lbasize.bytes() {
            return Err(GeometryError::TooSmall { bytes: arena_bytes });
        }
        let log_bytes = (u64::from(NFREE) * FLOG_GROUP_BYTES).next_multiple_of(PAGE_BYTES);
        let available = arena_bytes / PAGE_BYTES * PAGE_BYTES - 2 * PAGE_BYTES - log_bytes;
        // One page is kept back so that rounding the map up to a page always fits.
        let blocks = (available - PAGE_BYTES) / (u64::from(internal_lbasize) + MAP_ENTRY_BYTES);
        let internal_nlba = clamp_u32(blocks, POSTMAP_LIMIT);
        let external_nlba = internal_nlba
            .checked_sub(NFREE)
            .filter(|count| *count > 0)
            .ok_or(GeometryError::TooSmall { bytes: arena_bytes })?;
        let map_bytes = (u64::from(external_nlba) * MAP_ENTRY_BYTES).next_multiple_of(PAGE_BYTES);
        let dataoff = PAGE_BYTES;
        let mapoff = dataoff + available - map_bytes;
        let logoff = mapoff + map_bytes;
        Ok(Self {
            external_lbasize,
            external_nlba,
            internal_lbasize,
            internal_nlba,
            nfree: NFREE,
            nextoff: if more { arena_bytes } else { 0 },
            dataoff,
            mapoff,
            logoff,
            info2off: logoff + log_bytes,
        })
    }

    /// Judges a geometry that was read from an info block with `remaining_bytes` from it to the end of the namespace.
    /// After this, every block, map entry and flog group lies in the arena, and none of them in another's place.
    ///
    /// # Errors
    /// What is wrong first; what is only beyond this implementation, a sector size or `nfree`, comes last.
    pub fn judge(&self, remaining_bytes: u64) -> Result<(), GeometryError> {
        if self.external_lbasize.bytes() == 0 || self.internal_lbasize < self.external_lbasize.bytes() {
            return Err(GeometryError::InternalBlock { found: self.internal_lbasize });
        }
        if self.nfree == 0 {
            return Err(GeometryError::NoFreeBlocks);
        }
        if self.external_nlba == 0
            || self.internal_nlba > POSTMAP_LIMIT
            || self.external_nlba.checked_add(self.nfree) != Some(self.internal_nlba)
        {
            return Err(GeometryError::BlockCount { external: self.external_nlba, internal: self.internal_nlba });
        }
        if self.nextoff > remaining_bytes || !self.nextoff.is_multiple_of(PAGE_BYTES) {
            return Err(GeometryError::NextArena { nextoff: self.nextoff });
        }
        let arena_bytes = if self.nextoff == 0 { remaining_bytes } else { self.nextoff };
        let mut areas = self.areas();
        areas.sort_unstable_by_key(|&(_, start, _)| start);
        for (area, start, bytes) in areas {
            if start.checked_add(bytes).is_none_or(|end| end > arena_bytes) {
                return Err(GeometryError::AreaLeaves { area });
            }
        }
        for pair in areas.windows(2) {
            let [(first, start, bytes), (second, next, _)] = [pair[0], pair[1]];
            if start + bytes > next {
                return Err(GeometryError::AreasOverlap { first, second });
            }
        }
        if !self.mapoff.is_multiple_of(MAP_ENTRY_BYTES) {
            return Err(GeometryError::Misaligned { area: Area::Map });
        }
        if !self.logoff.is_multiple_of(8) {
            return Err(GeometryError::Misaligned { area: Area::Flog });
        }
        match self.external_lbasize.bytes() {
            size if SectorSize::new(size).is_none() => Err(GeometryError::SectorSize { found: size }),
            _ if self.nfree > NFREE_MAX => Err(GeometryError::Nfree { found: self.nfree }),
            _ => Ok(()),
        }
    }

    /// Each area with its offset and its length in bytes.
    #[must_use]
    pub fn areas(&self) -> [(Area, u64, u64); 5] {
        [
            (Area::Info, 0, PAGE_BYTES),
            (Area::Data, self.dataoff, u64::from(self.internal_nlba) * u64::from(self.internal_lbasize)),
            (Area::Map, self.mapoff, self.map_bytes()),
            (Area::Flog, self.logoff, self.flog_bytes()),
            (Area::Info2, self.info2off, PAGE_BYTES),
        ]
    }

    /// The bytes of all map entries.
    #[must_use]
    pub const fn map_bytes(&self) -> u64 {
        self.external_nlba as u64 * MAP_ENTRY_BYTES
    }

    /// The bytes of all flog groups.
    #[must_use]
    pub const fn flog_bytes(&self) -> u64 {
        self.nfree as u64 * FLOG_GROUP_BYTES
    }
}

/// The sizes of the arenas that a new BTT on `bytes` bytes gets: 512 GiB each, and a tail of at least 16 MiB.
pub fn arena_sizes(bytes: u64) -> impl Iterator<Item = u64> {
    let whole = bytes / ARENA_MAX_BYTES;
    let tail = bytes % ARENA_MAX_BYTES;
    let tail = (tail >= ARENA_MIN_BYTES).then_some(tail);
    (0..whole).map(|_| ARENA_MAX_BYTES).chain(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(bytes: u64, sector: u32) -> Geometry {
        Geometry::for_new(bytes, SectorSize::new(sector).expect("a known size"), false).expect("large enough")
    }

    /// Measured on media that Linux made.
    #[test]
    fn new_arenas_are_cut_as_linux_cuts_them() {
        let g = made((40 << 20) - 4096, 4096);
        assert_eq!((g.internal_nlba, g.external_nlba), (0x27ee, 0x26ee));
        assert_eq!((g.mapoff, g.logoff, g.info2off), (0x27f_0000, 0x27f_a000, 0x27f_e000));
        let g = made((128 << 20) - 4096, 512);
        assert_eq!((g.internal_nlba, g.external_nlba), (0x3_f7d0, 0x3_f6d0));
        assert_eq!(made(40 << 20, 520).internal_lbasize, 576);
    }

    #[test]
    fn every_new_arena_is_judged_sound() {
        for sector in SECTOR_SIZES {
            for bytes in [ARENA_MIN_BYTES, ARENA_MIN_BYTES + 4095, (1 << 30) - 4096, ARENA_MAX_BYTES] {
                let g = made(bytes, sector);
                assert_eq!(g.judge(bytes), Ok(()), "{sector} {bytes}");
                assert_eq!(g.info2off + PAGE_BYTES, bytes / PAGE_BYTES * PAGE_BYTES);
            }
        }
    }

    #[test]
    fn an_arena_with_no_more_blocks_than_free_ones_is_too_small() {
        let size = SectorSize::new(512).expect("a known size");
        let with = |internal| Geometry::with_blocks(ARENA_MIN_BYTES, size, internal, false);
        for internal in [65_420, 65_536, 1 << 24, u32::MAX] {
            assert_eq!(with(internal), Err(GeometryError::TooSmall { bytes: ARENA_MIN_BYTES }), "{internal}");
        }
        assert_eq!(with(65_000).map(|g| g.external_nlba), Ok(1));
    }

    #[test]
    fn a_tail_below_16_mib_stays_unused() {
        assert_eq!(arena_sizes(ARENA_MIN_BYTES - 1).count(), 0);
        assert_eq!(arena_sizes(ARENA_MAX_BYTES + ARENA_MIN_BYTES - 1).count(), 1);
        let sizes: [u64; 2] = [ARENA_MAX_BYTES, ARENA_MIN_BYTES];
        assert!(arena_sizes(ARENA_MAX_BYTES + ARENA_MIN_BYTES).eq(sizes));
    }

    #[test]
    fn unsound_geometries_are_refused_with_the_area() {
        let bytes = 32 << 20;
        let good = made(bytes, 512);
        type Damage = fn(&mut Geometry);
        let cases: [(Damage, GeometryError); 9] = [
            (|g| g.nfree = 0, GeometryError::NoFreeBlocks),
            (|g| g.internal_lbasize = 448, GeometryError::InternalBlock { found: 448 }),
            (|g| g.mapoff -= 2, GeometryError::Misaligned { area: Area::Map }),
            (|g| g.mapoff -= 4096, GeometryError::AreasOverlap { first: Area::Data, second: Area::Map }),
            (|g| g.info2off = u64::MAX, GeometryError::AreaLeaves { area: Area::Info2 }),
            (|g| g.dataoff = 0, GeometryError::AreasOverlap { first: Area::Info, second: Area::Data }),
            (|g| g.nextoff = 64 << 20, GeometryError::NextArena { nextoff: 64 << 20 }),
            (|g| g.nextoff = 4096, GeometryError::AreaLeaves { area: Area::Data }),
            (|g| g.logoff = 1 << 40, GeometryError::AreaLeaves { area: Area::Flog }),
        ];
        for (damage, expected) in cases {
            let mut g = good;
            damage(&mut g);
            let found = g.judge(bytes);
            // a moved map may run into more than one neighbour: any overlap will do there
            assert!(
                found == Err(expected)
                    || matches!(
                        (found, expected),
                        (Err(GeometryError::AreasOverlap { .. }), GeometryError::AreasOverlap { .. })
                    ),
                "{found:?} instead of {expected:?}"
            );
        }
    }
}
