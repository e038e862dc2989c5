//! The info block: read with every check before its meaning is trusted, written so that a cut leaves the old state.

use core::fmt;
use core::mem::offset_of;

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use crate::checksum::fletcher64_before;
use crate::geometry::{Geometry, GeometryError, SectorSize};
use crate::layout::{PAGE_BYTES, RawInfoBlock, SIGNATURE};
use crate::media::{MediaError, Medium, NsOffset};

/// The layout's version, which also fixes where the first info block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.1: the first info block is at +4096, whatever is before it stays untouched.
    V1_1,
    /// 2.0: the first info block is at +0.
    V2_0,
}

impl Version {
    /// Major and minor number.
    #[must_use]
    pub const fn numbers(self) -> (u16, u16) {
        match self {
            Self::V1_1 => (1, 1),
            Self::V2_0 => (2, 0),
        }
    }

    /// Where in the namespace the first info block is.
    #[must_use]
    pub const fn initial_offset(self) -> NsOffset {
        match self {
            Self::V1_1 => NsOffset(PAGE_BYTES),
            Self::V2_0 => NsOffset(0),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.numbers();
        write!(f, "{major}.{minor}")
    }
}

/// An info block's content, once it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InfoBlock {
    /// The uuid of the BTT, the same in every arena.
    pub uuid: Uuid,
    /// The uuid of the namespace; nil is not checked.
    pub parent_uuid: Uuid,
    /// Bit 0 ([`InfoBlock::ERROR_FLAG`]): the arena was found damaged. Bit 31: [`InfoBlock::ZERO_ENTRIES`].
    pub flags: u32,
    /// The layout's version.
    pub version: Version,
    /// Sizes and offsets; only as sound as [`Geometry::judge`] finds it.
    pub geometry: Geometry,
}

/// Why the bytes at an info block's place are not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InfoBlockError {
    /// The medium lost it.
    Lost,
    /// No signature: there is no BTT here.
    Signature,
    /// The checksum is wrong: it was damaged, or its writing was cut.
    Checksum {
        /// What stands there.
        found: u64,
        /// What the block's bytes add up to.
        computed: u64,
    },
    /// A version that this place cannot have.
    Version {
        /// Major number found.
        major: u16,
        /// Minor number found.
        minor: u16,
    },
    /// The block belongs to another namespace.
    ForeignParent {
        /// The namespace's uuid that stands there.
        found: Uuid,
    },
    /// The block's own size is not 4096.
    InfoSize {
        /// What stands there.
        found: u32,
    },
    /// Sizes or offsets that cannot be.
    Geometry(GeometryError),
}

impl fmt::Display for InfoBlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost => write!(f, "the medium lost it"),
            Self::Signature => write!(f, "no BTT signature"),
            Self::Checksum { found, computed } => {
                write!(f, "checksum {found:#018x} is wrong, the bytes give {computed:#018x}")
            }
            Self::Version { major, minor } => write!(f, "version {major}.{minor} does not belong here"),
            Self::ForeignParent { found } => write!(f, "it belongs to namespace {found}"),
            Self::InfoSize { found } => write!(f, "infosize is {found}, not 4096"),
            Self::Geometry(why) => why.fmt(f),
        }
    }
}

impl InfoBlock {
    /// The flag of an arena that was found damaged: writes are refused.
    pub const ERROR_FLAG: u32 = 1;
    /// Ours: zeroing sectors may leave TRIM entries (state Z) in the map. Other implementations ignore the bit.
    pub const ZERO_ENTRIES: u32 = 1 << 31;

    /// Checks and decodes a block that stands where `version` has its info blocks, `remaining_bytes` before the end of
    /// the namespace `parent`.
    ///
    /// # Errors
    /// What is wrong first, signature before checksum before meaning.
    pub fn decode(
        raw: &RawInfoBlock,
        version: Version,
        parent: Uuid,
        remaining_bytes: u64,
    ) -> Result<Self, InfoBlockError> {
        if raw.signature != SIGNATURE {
            return Err(InfoBlockError::Signature);
        }
        let computed = checksum(raw);
        let found = raw.checksum.get();
        if computed != found {
            return Err(InfoBlockError::Checksum { found, computed });
        }
        let numbers = (raw.major.get(), raw.minor.get());
        if numbers != version.numbers() {
            return Err(InfoBlockError::Version { major: numbers.0, minor: numbers.1 });
        }
        let parent_uuid = Uuid::from_bytes(raw.parent_uuid);
        if !parent_uuid.is_nil() && parent_uuid != parent {
            return Err(InfoBlockError::ForeignParent { found: parent_uuid });
        }
        if u64::from(raw.infosize.get()) != PAGE_BYTES {
            return Err(InfoBlockError::InfoSize { found: raw.infosize.get() });
        }
        let geometry = Self::geometry_of(raw);
        geometry.judge(remaining_bytes).map_err(InfoBlockError::Geometry)?;
        Ok(Self { uuid: Uuid::from_bytes(raw.uuid), parent_uuid, flags: raw.flags.get(), version, geometry })
    }

    /// The geometry that stands in a block, sound or not.
    pub(crate) fn geometry_of(raw: &RawInfoBlock) -> Geometry {
        Geometry {
            external_lbasize: SectorSize::unjudged(raw.external_lbasize.get()),
            external_nlba: raw.external_nlba.get(),
            internal_lbasize: raw.internal_lbasize.get(),
            internal_nlba: raw.internal_nlba.get(),
            nfree: raw.nfree.get(),
            nextoff: raw.nextoff.get(),
            dataoff: raw.dataoff.get(),
            mapoff: raw.mapoff.get(),
            logoff: raw.logoff.get(),
            info2off: raw.info2off.get(),
        }
    }

    /// The block as it goes to the medium, checksum included.
    #[must_use]
    pub fn encode(&self) -> RawInfoBlock {
        let g = &self.geometry;
        let (major, minor) = self.version.numbers();
        let mut raw = RawInfoBlock::new_zeroed();
        raw.signature = SIGNATURE;
        raw.uuid = *self.uuid.as_bytes();
        raw.parent_uuid = *self.parent_uuid.as_bytes();
        raw.flags = U32::new(self.flags);
        raw.major = U16::new(major);
        raw.minor = U16::new(minor);
        raw.external_lbasize = U32::new(g.external_lbasize.bytes());
        raw.external_nlba = U32::new(g.external_nlba);
        raw.internal_lbasize = U32::new(g.internal_lbasize);
        raw.internal_nlba = U32::new(g.internal_nlba);
        raw.nfree = U32::new(g.nfree);
        raw.infosize = U32::new(4096);
        raw.nextoff = U64::new(g.nextoff);
        raw.dataoff = U64::new(g.dataoff);
        raw.mapoff = U64::new(g.mapoff);
        raw.logoff = U64::new(g.logoff);
        raw.info2off = U64::new(g.info2off);
        raw.checksum = U64::new(checksum(&raw));
        raw
    }
}

/// The block's checksum, its own field taken as zero.
fn checksum(raw: &RawInfoBlock) -> u64 {
    // The field, two words, comes last.
    fletcher64_before(&raw.as_bytes()[..offset_of!(RawInfoBlock, checksum)], 2)
}

/// Writes an info block over the one at `at`, and its copy.
///
/// The two are never on the way at once: a cut in the first fence leaves a copy that is torn beside a primary that is
/// whole, a cut in the second the other way round. (Flags and checksum lie in different lines; a torn primary without a
/// copy would look to Linux like a namespace that may be formatted.)
///
/// # Errors
/// The medium's error.
pub(crate) fn store_both<M: Medium + ?Sized>(media: &M, at: NsOffset, info: &InfoBlock) -> Result<(), MediaError> {
    let raw = info.encode();
    for place in [at.plus(info.geometry.info2off), at] {
        media.write(place, raw.as_bytes())?;
        media.fence()?;
    }
    Ok(())
}

/// Reads the bytes at an info block's place.
///
/// # Errors
/// The medium's error.
pub fn read_raw<M: Medium + ?Sized>(media: &M, at: NsOffset) -> Result<RawInfoBlock, MediaError> {
    let mut raw = RawInfoBlock::new_zeroed();
    media.read(at, raw.as_mut_bytes())?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Area;

    const BYTES: u64 = 32 << 20;

    fn block() -> InfoBlock {
        InfoBlock {
            uuid: Uuid::from_u128(7),
            parent_uuid: Uuid::from_u128(9),
            flags: 0,
            version: Version::V2_0,
            geometry: Geometry::for_new(BYTES, SectorSize::new(512).expect("known"), false).expect("large enough"),
        }
    }

    fn read(raw: &RawInfoBlock) -> Result<InfoBlock, InfoBlockError> {
        InfoBlock::decode(raw, Version::V2_0, Uuid::from_u128(9), BYTES)
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(read(&block().encode()), Ok(block()));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let good = block().encode();
        for byte in 0..4096 {
            let mut raw = good.clone();
            raw.as_mut_bytes()[byte] ^= 1 << (byte % 8);
            assert!(read(&raw).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn a_block_of_another_namespace_or_version_is_refused() {
        let raw = block().encode();
        let other = InfoBlock::decode(&raw, Version::V2_0, Uuid::from_u128(8), BYTES);
        assert_eq!(other, Err(InfoBlockError::ForeignParent { found: Uuid::from_u128(9) }));
        let other = InfoBlock::decode(&raw, Version::V1_1, Uuid::from_u128(9), BYTES);
        assert_eq!(other, Err(InfoBlockError::Version { major: 2, minor: 0 }));
        let any = InfoBlock { parent_uuid: Uuid::nil(), ..block() };
        assert!(InfoBlock::decode(&any.encode(), Version::V2_0, Uuid::from_u128(1), BYTES).is_ok());
    }

    #[test]
    fn a_sound_checksum_does_not_excuse_a_wrong_size() {
        let judged = |external, internal| {
            let mut raw = block().encode();
            raw.external_lbasize = U32::new(external);
            raw.internal_lbasize = U32::new(internal);
            raw.checksum = U64::new(checksum(&raw));
            read(&raw).map_err(|why| match why {
                InfoBlockError::Geometry(why) => why,
                other => panic!("{other}"),
            })
        };
        // An unsupported size is reported only where all else is sound.
        assert_eq!(judged(500, 512), Err(GeometryError::SectorSize { found: 500 }));
        assert_eq!(judged(1024, 512), Err(GeometryError::InternalBlock { found: 512 }));
        assert_eq!(judged(0, 512), Err(GeometryError::InternalBlock { found: 512 }));
        assert_eq!(judged(1024, 1024), Err(GeometryError::AreaLeaves { area: Area::Data }));
    }
}
