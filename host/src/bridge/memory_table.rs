//! The consumer's view of its RAM: the place in the RAM file of each of its addresses, from SET_MEM_TABLE.
//!
//! Every region must be the RAM file itself and lie within the consumer's part of it. Whatever else a front end sends,
//! it can name nothing of the tail, and no other file's memory.

use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use vhost::vhost_user::message::VhostUserMemoryRegion;

use super::ram::RamFile;
use crate::identity::Identity;

/// The most regions that a table may have: QEMU's q35 has two or three.
pub const REGIONS_MAX: usize = 8;

/// A piece of the consumer's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first guest-physical address.
    pub guest: u64,
    /// The address in the consumer's QEMU that it is mapped at: rings are named by it.
    pub user: u64,
    /// Its size.
    pub bytes: u64,
    /// Where it starts in the RAM file.
    pub offset: u64,
}

impl Region {
    /// The offset in the file of what is `into` the region, if all of it is.
    fn offset_of(&self, into: u64, bytes: u64) -> Option<u64> {
        (into.checked_add(bytes)? <= self.bytes).then_some(self.offset + into)
    }
}

/// All pieces of a consumer's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryTable {
    regions: Vec<Region>,
}

/// Why a memory table cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// More regions than [`REGIONS_MAX`].
    TooMany(usize),
    /// A region is of another file.
    OtherFile(PathBuf),
    /// A region reaches past the consumer's part of the RAM file.
    WrongSize {
        /// Where it would end in the file.
        end: u64,
        /// Bytes of the consumer's part.
        ram_bytes: u64,
    },
    /// Two regions share guest-physical or QEMU's addresses.
    Overlap,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany(count) => write!(f, "the consumer's memory has {count} pieces: {REGIONS_MAX} are the most"),
            Self::OtherFile(path) => write!(
                f,
                "the consumer's memory is not the file {0}: start it with -machine memory-backend=mem -object \
                 memory-backend-file,id=mem,share=on,mem-path={0},size=…",
                path.display()
            ),
            Self::WrongSize { end, ram_bytes } => write!(
                f,
                "the consumer has more memory than the {ram_bytes} bytes that it was announced with (it ends at {end}): \
                 give both the same size"
            ),
            Self::Overlap => f.write_str("pieces of the consumer's memory overlap"),
        }
    }
}

impl std::error::Error for TableError {}

impl MemoryTable {
    /// The table that a front end sent, with a file for each region.
    ///
    /// # Errors
    /// [`TableError`], when it does not fit the RAM file.
    pub fn new(sent: &[VhostUserMemoryRegion], files: &[File], ram: &RamFile) -> Result<Self, TableError> {
        if sent.len() > REGIONS_MAX {
            return Err(TableError::TooMany(sent.len()));
        }
        let mut table = Self::default();
        for (index, region) in sent.iter().enumerate() {
            let ours = files.get(index).and_then(|file| Identity::of(file).ok()) == Some(ram.identity());
            if !ours {
                return Err(TableError::OtherFile(ram.path().to_owned()));
            }
            let region = Region {
                guest: region.guest_phys_addr,
                user: region.user_addr,
                bytes: region.memory_size,
                offset: region.mmap_offset,
            };
            let end = region.offset.saturating_add(region.bytes);
            if end > ram.ram_bytes() {
                return Err(TableError::WrongSize { end, ram_bytes: ram.ram_bytes() });
            }
            let overlaps = |one: u64, other: u64, other_bytes: u64| {
                one < other.saturating_add(other_bytes) && other < one.saturating_add(region.bytes)
            };
            let clash = |other: &Region| {
                overlaps(region.guest, other.guest, other.bytes) || overlaps(region.user, other.user, other.bytes)
            };
            if table.regions.iter().any(clash) {
                return Err(TableError::Overlap);
            }
            table.regions.push(region);
        }
        Ok(table)
    }

    /// Its pieces.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Where `bytes` bytes at an address of the consumer's QEMU are in the RAM file, if they are in one piece.
    #[must_use]
    pub fn offset_of_user(&self, user: u64, bytes: u64) -> Option<u64> {
        self.regions.iter().find_map(|region| region.offset_of(user.checked_sub(region.user)?, bytes))
    }

    /// The same for the appliance: guest-physical addresses and offsets.
    #[must_use]
    pub fn on_the_wire(&self) -> Vec<service::control::MemoryRegion> {
        let region = |it: &Region| service::control::MemoryRegion { gpa: it.guest, bytes: it.bytes, offset: it.offset };
        self.regions.iter().map(region).collect()
    }
}
