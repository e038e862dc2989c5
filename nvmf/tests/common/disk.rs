//! Disks in memory, which note what they are asked for and fail on request.

use nvmf::{DiskId, Lba, Storage, StorageError, Write};

/// The disk.
pub(crate) struct RamDisk {
    pub(crate) sector_bytes: usize,
    pub(crate) data: Vec<u8>,
    /// The calls: what, where, how many sectors.
    pub(crate) calls: Vec<(&'static str, u64, u64)>,
    /// A read or write of that sector fails.
    pub(crate) bad: Option<(u64, StorageError)>,
}

impl RamDisk {
    pub(crate) fn new(sector_bytes: usize, sectors: u64) -> Self {
        let data = (0..sectors * sector_bytes as u64).map(|at| (at / sector_bytes as u64) as u8).collect();
        Self { sector_bytes, data, calls: Vec::new(), bad: None }
    }

    fn at(&mut self, what: &'static str, first: Lba, sectors: usize) -> Result<&mut [u8], StorageError> {
        assert!((1..=nvmf::limits::STEP_SECTORS).contains(&sectors), "a step is bounded: {sectors}");
        self.calls.push((what, first.0, sectors as u64));
        let from = first.0 as usize * self.sector_bytes;
        let to = from + sectors * self.sector_bytes;
        assert!(to <= self.data.len(), "the target keeps to the disk");
        if let Some((bad, why)) = self.bad
            && (first.0..first.0 + sectors as u64).contains(&bad)
        {
            return Err(why);
        }
        Ok(&mut self.data[from..to])
    }
}

impl Storage for RamDisk {
    fn read(&mut self, disk: DiskId, first: Lba, into: &mut [u8]) -> Result<(), StorageError> {
        assert_eq!(disk, DiskId(7));
        let sectors = into.len() / self.sector_bytes;
        assert_eq!(sectors * self.sector_bytes, into.len(), "whole sectors");
        into.copy_from_slice(self.at("read", first, sectors)?);
        Ok(())
    }

    fn write_all(&mut self, _: DiskId, writes: &[Write<'_>], done: &mut dyn FnMut(Result<(), StorageError>)) {
        let what = if writes.len() > 1 { "write together" } else { "write" };
        let sectors: usize = writes.iter().map(|write| write.data.len() / self.sector_bytes).sum();
        assert!(sectors <= nvmf::limits::STEP_SECTORS, "a step is bounded");
        for write in writes {
            let sectors = write.data.len() / self.sector_bytes;
            done(self.at(what, write.first, sectors).map(|place| place.copy_from_slice(write.data)));
        }
    }

    fn compare_and_write(&mut self, _: DiskId, at: Lba, expected: &[u8], data: &[u8]) -> Result<(), StorageError> {
        let place = self.at("compare and write", at, 1)?;
        if place != expected {
            return Err(StorageError::Differs);
        }
        place.copy_from_slice(data);
        Ok(())
    }

    fn write_zeroes(&mut self, _: DiskId, first: Lba, count: u64) -> Result<(), StorageError> {
        self.at("zero", first, count as usize).map(|place| place.fill(0))
    }

    fn deallocate(&mut self, _: DiskId, first: Lba, count: u64) -> Result<(), StorageError> {
        self.at("deallocate", first, count as usize).map(|place| place.fill(0))
    }
}
