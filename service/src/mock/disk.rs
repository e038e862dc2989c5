//! A back end in memory.

use alloc::vec;
use alloc::vec::Vec;

use crate::backend::{BackendError, BlockBackend, Sector, SectorRun};
use crate::memory::{Scatter, SharedMemory};

/// Sectors in a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RamDisk {
    /// Bytes of a sector.
    pub sector_bytes: usize,
    /// The bytes of the sectors.
    pub data: Vec<u8>,
    /// The runs that were asked for, oldest first: what, where, how many.
    pub runs: Vec<(&'static str, u64, u64)>,
    /// The error of the next call.
    pub fails: Option<BackendError>,
}

impl RamDisk {
    /// Zeroes.
    #[must_use]
    pub fn new(sector_bytes: usize, sectors: usize) -> Self {
        Self { sector_bytes, data: vec![0; sector_bytes * sectors], runs: Vec::new(), fails: None }
    }

    fn run(&mut self, what: &'static str, first: Sector, count: u64) -> Result<&mut [u8], BackendError> {
        self.runs.push((what, first.0, count));
        if let Some(why) = self.fails.take() {
            return Err(why);
        }
        let place = |sectors: u64| usize::try_from(sectors).ok()?.checked_mul(self.sector_bytes);
        let range = place(first.0).zip(first.0.checked_add(count).and_then(place));
        assert!(count > 0, "the caller asks for one sector at least");
        let (from, to) = range.expect("the caller keeps to the disk");
        Ok(self.data.get_mut(from..to).expect("the caller keeps to the disk"))
    }
}

impl BlockBackend for RamDisk {
    fn read<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        into: &Scatter<'_, M>,
    ) -> Result<(), BackendError> {
        let data = self.run("read", first, count)?;
        assert_eq!(into.bytes(), data.len() as u64, "the data are whole sectors");
        into.write(0, data).map(|_| ()).map_err(|_| BackendError::Memory)
    }

    fn write<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        from: &Scatter<'_, M>,
    ) -> Result<(), BackendError> {
        let data = self.run("write", first, count)?;
        assert_eq!(from.bytes(), data.len() as u64, "the data are whole sectors");
        from.read(0, data).map(|_| ()).map_err(|_| BackendError::Memory)
    }

    fn write_all<M: SharedMemory + ?Sized>(
        &mut self,
        runs: &[SectorRun],
        from: &Scatter<'_, M>,
        mut done: impl FnMut(Result<(), BackendError>),
    ) {
        let mut skip = 0;
        for run in runs {
            let result = self.run("write together", run.first, run.count).and_then(|data| {
                let copied = from.read(skip, data).map_err(|_| BackendError::Memory)?;
                assert_eq!(copied, data.len(), "the data are whole sectors");
                Ok(())
            });
            skip += run.count * self.sector_bytes as u64;
            done(result);
        }
        assert_eq!(skip, from.bytes(), "the data are those of the runs");
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        self.runs.push(("flush", 0, 0));
        self.fails.take().map_or(Ok(()), Err)
    }

    fn discard(&mut self, first: Sector, count: u64) -> Result<(), BackendError> {
        self.run("discard", first, count).map(|_| ())
    }

    fn write_zeroes(&mut self, first: Sector, count: u64, unmap: bool) -> Result<(), BackendError> {
        let what = if unmap { "write zeroes, unmap" } else { "write zeroes" };
        self.run(what, first, count).map(|data| data.fill(0))
    }
}
