//! A consumer's requests on a disk: data move once, between the consumer's memory and persistent memory.

use btt::commit::Writes;
use btt::media::{MediaError, NsOffset, SectorSource};
use btt::{BttError, CpuIndex, ExternalLba};
use drivers::medium::AnyMedium;
use drivers::transfer::Transfer;
use service::backend::{BackendError, BlockBackend, Sector, SectorRun};
use service::memory::{Scatter, SharedMemory};

use crate::node::disk::BttDisk;

/// A disk as one CPU uses it.
pub(super) struct DiskBackend<'a> {
    /// `None` after the disk was withdrawn: then every sector is out of range.
    pub(super) disk: Option<&'a BttDisk<AnyMedium>>,
    pub(super) cpu: CpuIndex,
}

impl<'a> DiskBackend<'a> {
    fn disk(&self) -> Result<&'a BttDisk<AnyMedium>, BackendError> {
        self.disk.ok_or(BackendError::OutOfRange)
    }
}

impl BlockBackend for DiskBackend<'_> {
    fn read<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        into: &Scatter<'_, M>,
    ) -> Result<(), BackendError> {
        let disk = self.disk()?;
        let mut sink = Transfer::new(into, disk.btt.sector_size().bytes());
        disk.read_to(self.cpu, external(first), count, &mut sink).map_err(|why| backend_error(&why))
    }

    fn write<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        from: &Scatter<'_, M>,
    ) -> Result<(), BackendError> {
        let disk = self.disk()?;
        let source = Transfer::new(from, disk.btt.sector_size().bytes());
        disk.write_from(self.cpu, external(first), count, &source).map_err(|why| backend_error(&why))
    }

    fn write_all<M: SharedMemory + ?Sized>(
        &mut self,
        runs: &[SectorRun],
        from: &Scatter<'_, M>,
        mut done: impl FnMut(Result<(), BackendError>),
    ) {
        let disk = match self.disk() {
            Ok(disk) => disk,
            Err(why) => return runs.iter().for_each(|_| done(Err(why))),
        };
        let source = Gathered { data: Transfer::new(from, disk.btt.sector_size().bytes()), runs };
        let counts = runs.iter().map(|run| run.count);
        disk.commit_from(self.cpu, counts, &source, |result| done(result.map_err(|why| backend_error(&why))));
    }

    /// Does nothing: a write is durable before its request is in the used ring (invariant 12).
    fn flush(&mut self) -> Result<(), BackendError> {
        self.disk().map(|_| ())
    }

    /// Zeroes the sectors: a consumer that is moved to another appliance finds no old data.
    fn discard(&mut self, first: Sector, count: u64) -> Result<(), BackendError> {
        self.disk()?.zero(self.cpu, external(first), count).map_err(|why| backend_error(&why))
    }

    fn write_zeroes(&mut self, first: Sector, count: u64, _unmap: bool) -> Result<(), BackendError> {
        self.disk()?.zero(self.cpu, external(first), count).map_err(|why| backend_error(&why))
    }
}

/// Several requests' sectors, as writes of a commit.
struct Gathered<'a, M: ?Sized> {
    data: Transfer<'a, M>,
    runs: &'a [SectorRun],
}

impl<M: SharedMemory + ?Sized> SectorSource<AnyMedium> for Gathered<'_, M> {
    fn store(&self, index: usize, media: &AnyMedium, at: NsOffset) -> Result<(), MediaError> {
        self.data.store(index, media, at)
    }
}

impl<M: SharedMemory + ?Sized> Writes<AnyMedium> for Gathered<'_, M> {
    fn count(&self) -> usize {
        self.runs.iter().map(|run| in_memory(run.count)).sum()
    }

    fn lba(&self, index: usize) -> ExternalLba {
        let mut left = index;
        for run in self.runs {
            if left < in_memory(run.count) {
                return external(Sector(run.first.0 + left as u64));
            }
            left -= in_memory(run.count);
        }
        unreachable!("there is no write {index}")
    }
}

/// A number of sectors whose data are in memory.
fn in_memory(sectors: u64) -> usize {
    usize::try_from(sectors).expect("a batch's sectors are in memory")
}

/// A sector number in btt's words: a disk shows its BTT's sectors as they are.
const fn external(sector: Sector) -> ExternalLba {
    ExternalLba(sector.0)
}

/// Translates a disk's error to a consumer's. It is translated here only.
const fn backend_error(why: &BttError) -> BackendError {
    match why {
        BttError::OutOfRange { .. } => BackendError::OutOfRange,
        BttError::ReadOnly { .. } => BackendError::ReadOnly,
        BttError::Data { why: MediaError::CallersMemory, .. } => BackendError::Memory,
        BttError::SectorError { .. } | BttError::Data { .. } | BttError::Drain { .. } => BackendError::Media,
    }
}
