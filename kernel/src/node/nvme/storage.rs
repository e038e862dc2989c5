//! The disks as the target's storage, on one CPU.

use alloc::sync::Arc;

use btt::runs::Runs;
use btt::{BttError, CpuIndex, ExternalLba};
use drivers::medium::AnyMedium;
use nvmf::{DiskId, Lba, Storage, StorageError, Write};

use super::Nvme;
use crate::node::disk::BttDisk;

/// The disks, as a CPU uses them.
pub(super) struct DisksOn<'a> {
    pub(super) nvme: &'a Nvme,
    pub(super) cpu: CpuIndex,
}

impl DisksOn<'_> {
    fn disk(&self, disk: DiskId) -> Result<Arc<BttDisk<AnyMedium>>, StorageError> {
        self.nvme.disk(disk).ok_or(StorageError::Gone)
    }
}

impl Storage for DisksOn<'_> {
    fn read(&mut self, disk: DiskId, first: Lba, into: &mut [u8]) -> Result<(), StorageError> {
        self.disk(disk)?.read(self.cpu, external(first), into).map_err(|why| storage_error(&why))
    }

    fn write_all(&mut self, disk: DiskId, writes: &[Write<'_>], done: &mut dyn FnMut(Result<(), StorageError>)) {
        let disk = match self.disk(disk) {
            Ok(disk) => disk,
            Err(why) => return writes.iter().for_each(|_| done(Err(why))),
        };
        let runs = Runs::new(writes, |write| (external(write.first), write.data), disk.btt.sector_size());
        let counts = runs.counts().map(|count| count as u64);
        disk.commit_from(self.cpu, counts, &runs, |result| done(result.map_err(|why| storage_error(&why))));
    }

    fn compare_and_write(&mut self, disk: DiskId, at: Lba, expected: &[u8], data: &[u8]) -> Result<(), StorageError> {
        let written = self.disk(disk)?.compare_and_write(self.cpu, external(at), expected, data);
        match written.map_err(|why| storage_error(&why))? {
            true => Ok(()),
            false => Err(StorageError::Differs),
        }
    }

    fn write_zeroes(&mut self, disk: DiskId, first: Lba, count: u64) -> Result<(), StorageError> {
        self.disk(disk)?.zero(self.cpu, external(first), count).map_err(|why| storage_error(&why))
    }

    /// Zeroes the sectors: no old data come back, here or on another appliance.
    fn deallocate(&mut self, disk: DiskId, first: Lba, count: u64) -> Result<(), StorageError> {
        self.write_zeroes(disk, first, count)
    }
}

/// A sector number in btt's words.
const fn external(lba: Lba) -> ExternalLba {
    ExternalLba(lba.0)
}

/// Translates a disk's error to a host's. It is translated here only.
const fn storage_error(why: &BttError) -> StorageError {
    match why {
        BttError::OutOfRange { .. } => StorageError::OutOfRange,
        BttError::ReadOnly { .. } => StorageError::ReadOnly,
        BttError::SectorError { .. } | BttError::Data { .. } | BttError::Drain { .. } => StorageError::Media,
    }
}
