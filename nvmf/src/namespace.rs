//! A namespace: a disk as hosts see it.

use core::fmt;

use uuid::Uuid;

use crate::units::{DiskId, Lba};

/// The properties of a namespace. They change only by another taking its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// What the storage is asked by.
    pub disk: DiskId,
    /// Its UUID and NGUID: the BTT's, so that they outlive every restart. Linux takes a disk away whose identifiers change.
    pub uuid: Uuid,
    /// Bytes of a sector: 512 or 4096, without metadata.
    pub sector_bytes: SectorBytes,
    /// How many sectors it has: at least one.
    pub sectors: u64,
    /// It takes no writes.
    pub read_only: bool,
    /// What was deallocated reads as zeroes.
    pub deallocated_reads_zero: bool,
    /// How many sectors are best written at a time.
    pub run_sectors: u16,
}

/// A sector size that hosts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectorBytes {
    /// 512.
    B512,
    /// 4096.
    B4096,
}

impl SectorBytes {
    /// The size of so many bytes; `None` if hosts don't take it: BTT sectors with metadata bytes, for one, which Linux gives a
    /// capacity of 0.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        1 << self.log2()
    }

    /// As identify data have it (LBADS).
    #[must_use]
    pub const fn log2(self) -> u8 {
        match self {
            Self::B512 => 9,
            Self::B4096 => 12,
        }
    }

    /// Bytes, as memory counts.
    pub(crate) const fn in_memory(self) -> usize {
        1 << self.log2()
    }
}

impl fmt::Display for SectorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

impl Namespace {
    /// Whether so many sectors from `first` on exist.
    pub(crate) fn has(&self, first: Lba, count: u64) -> bool {
        first.0.checked_add(count).is_some_and(|end| end <= self.sectors)
    }
}
