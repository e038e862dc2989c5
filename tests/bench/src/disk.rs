//! A BTT on a file that is mapped into memory. The file has no name while it is used: nothing of it is left, however the
//! program ends.

use std::error::Error;
use std::fs::OpenOptions;
use std::path::Path;
use std::ptr::NonNull;

use btt::bytes::Sectors;
use btt::format::{FormatOptions, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::{Btt, CpuIndex, ExternalLba, OpenError, Placement};
use drivers::persist::Persist;
use drivers::pmem::{Access, Pmem, PmemRegion};
use memmap2::MmapMut;
use uuid::Uuid;

use crate::load::stamp;

const PLACEMENT: Placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };

/// Sectors of one write while the disk is filled.
const FILL_SECTORS: u64 = 64;

/// A file with a BTT on it.
pub struct Disk {
    medium: Pmem,
    /// Dropped after what reaches into it.
    _mapping: MmapMut,
}

impl Disk {
    /// Makes the file, so many MiB, and lays a BTT on it. Lines are written back, unless `caches_survive` a power cut.
    ///
    /// # Errors
    /// The file is there already or cannot be made; it is too small for a BTT; the sector size is none.
    pub fn create(file: &Path, mib: u64, sector_bytes: u32, caches_survive: bool) -> Result<Self, Box<dyn Error>> {
        let sector_size = SectorSize::new(sector_bytes).ok_or("not a sector size")?;
        let named = |error| format!("{}: {error}", file.display());
        let opened = OpenOptions::new().read(true).write(true).create_new(true).open(file).map_err(named)?;
        std::fs::remove_file(file).map_err(named)?;
        opened.set_len(mib << 20).map_err(named)?;
        // SAFETY: the file was made for this program and has no name by which another one could change it.
        let mut mapping = unsafe { MmapMut::map_mut(&opened)? };
        let base = NonNull::new(mapping.as_mut_ptr()).ok_or("no mapping")?;
        let persist = Persist::detect();
        let persist = if caches_survive { persist.without_write_backs() } else { persist };
        // SAFETY: the mapping lives as long as the disk, and is reached through the region only.
        let region = unsafe { PmemRegion::from_mapping(base, mapping.len(), Access::ReadWrite, persist) };
        let medium = region.namespace(0, mib << 20, Access::ReadWrite)?;
        let options = FormatOptions {
            sector_size,
            uuid: Uuid::from_u128(1),
            parent_uuid: PLACEMENT.parent_uuid,
            version: PLACEMENT.version,
            zero_data: false,
            zero_entries: false,
        };
        format(&medium, &options, &mut |_, _| ())?;
        Ok(Self { medium, _mapping: mapping })
    }

    /// Opens the BTT for so many threads. One open BTT at a time may write.
    ///
    /// # Errors
    /// btt's.
    pub fn open(&self, threads: u32) -> Result<OpenDisk<'_>, OpenError> {
        Ok(OpenDisk { btt: Btt::open(self.medium.clone(), PLACEMENT, threads)?, _disk: self })
    }
}

/// An open BTT.
pub struct OpenDisk<'disk> {
    /// It.
    pub btt: Btt<Pmem>,
    _disk: &'disk Disk,
}

impl OpenDisk<'_> {
    /// Writes every sector once.
    ///
    /// # Errors
    /// btt's.
    pub fn fill(&self) -> Result<(), Box<dyn Error>> {
        let btt = &self.btt;
        let sector_bytes = btt.sector_size().bytes() as usize;
        let mut bytes = vec![0x5a; sector_bytes * usize::try_from(FILL_SECTORS)?];
        let mut lba = 0;
        while lba < btt.capacity_sectors() {
            let count = (btt.capacity_sectors() - lba).min(FILL_SECTORS);
            for (sector, lba) in bytes.chunks_exact_mut(sector_bytes).zip(lba..) {
                stamp(sector, lba, 0);
            }
            let part = &bytes[..sector_bytes * usize::try_from(count)?];
            let sectors = Sectors::new(part, btt.sector_size()).ok_or("whole sectors")?;
            btt.lane(CpuIndex(0)).write(ExternalLba(lba), count, &sectors)?;
            lba += count;
        }
        Ok(())
    }
}
