//! The disks as the target's storage. One thread serves all, so nothing comes between a compare and its write.

use btt::bytes::{Sectors, SectorsMut};
use btt::runs::Runs;
use btt::{BttError, CpuIndex, ExternalLba};
use nvmf::{DiskId, Lba, Storage, StorageError, Write};

use crate::disk::Disk;

const CPU: CpuIndex = CpuIndex(0);

/// All disks; their numbers are their places.
pub struct Disks(pub Vec<Disk>);

impl Disks {
    fn disk(&self, disk: DiskId) -> Result<&Disk, StorageError> {
        usize::try_from(disk.0).ok().and_then(|at| self.0.get(at)).ok_or(StorageError::Gone)
    }

    /// Makes the map entries of finished writes durable, so that a lost flog line takes none of them with it. A failure shows at
    /// the next write.
    pub fn drain(&self) {
        for disk in &self.0 {
            let _ = disk.btt.drain();
        }
    }
}

impl Storage for Disks {
    fn read(&mut self, disk: DiskId, first: Lba, into: &mut [u8]) -> Result<(), StorageError> {
        let disk = self.disk(disk)?;
        let count = (into.len() / sector_bytes(disk)) as u64;
        let mut sink = SectorsMut::new(into, disk.btt.sector_size()).ok_or(StorageError::OutOfRange)?;
        disk.btt.reader(CPU).read(external(first), count, &mut sink).map_err(|why| storage_error(&why))
    }

    fn write_all(&mut self, disk: DiskId, writes: &[Write<'_>], done: &mut dyn FnMut(Result<(), StorageError>)) {
        let disk = match self.disk(disk) {
            Ok(disk) => disk,
            Err(why) => return writes.iter().for_each(|_| done(Err(why))),
        };
        let runs = Runs::new(writes, |write| (external(write.first), write.data), disk.btt.sector_size());
        let mut lane = disk.btt.lane(CPU);
        lane.commit_each(&runs, runs.counts(), |_, result| done(result.map_err(|why| storage_error(&why))));
    }

    fn compare_and_write(&mut self, disk: DiskId, at: Lba, expected: &[u8], data: &[u8]) -> Result<(), StorageError> {
        let mut found = vec![0; expected.len()];
        self.read(disk, at, &mut found)?;
        if found != expected {
            return Err(StorageError::Differs);
        }
        let disk = self.disk(disk)?;
        let source = Sectors::new(data, disk.btt.sector_size()).ok_or(StorageError::OutOfRange)?;
        disk.btt.lane(CPU).write(external(at), 1, &source).map_err(|why| storage_error(&why))
    }

    fn write_zeroes(&mut self, disk: DiskId, first: Lba, count: u64) -> Result<(), StorageError> {
        self.disk(disk)?.btt.lane(CPU).zero(external(first), count).map_err(|why| storage_error(&why))
    }

    /// Zeroes the sectors, as the appliance does: no old data come back.
    fn deallocate(&mut self, disk: DiskId, first: Lba, count: u64) -> Result<(), StorageError> {
        self.write_zeroes(disk, first, count)
    }
}

const fn external(lba: Lba) -> ExternalLba {
    ExternalLba(lba.0)
}

fn sector_bytes(disk: &Disk) -> usize {
    disk.sector_bytes.bytes() as usize
}

/// Translates a disk's error to the target's. It is translated here only.
const fn storage_error(why: &BttError) -> StorageError {
    match why {
        BttError::OutOfRange { .. } => StorageError::OutOfRange,
        BttError::ReadOnly { .. } => StorageError::ReadOnly,
        BttError::SectorError { .. } | BttError::Data { .. } | BttError::Drain { .. } => StorageError::Media,
    }
}
