//! A consumer's requests on a disk: data move once, between the consumer's memory and persistent memory.

use btt::media::MediaError;
use btt::{BttError, CpuIndex};
use drivers::medium::AnyMedium;
use drivers::transfer::Transfer;
use service::backend::{BackendError, BlockBackend, Sector};
use service::memory::{Scatter, SharedMemory};

use crate::node::disk::Disk;

/// A disk as one CPU uses it.
pub(super) struct OnDisk<'a> {
    /// None once it is withdrawn: nothing is there.
    pub(super) disk: Option<&'a Disk<AnyMedium>>,
    pub(super) cpu: CpuIndex,
}

impl<'a> OnDisk<'a> {
    fn disk(&self) -> Result<&'a Disk<AnyMedium>, BackendError> {
        self.disk.ok_or(BackendError::OutOfRange)
    }
}

impl BlockBackend for OnDisk<'_> {
    fn read<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        into: &Scatter<'_, M>,
    ) -> Result<(), BackendError> {
        let disk = self.disk()?;
        let mut sink = Transfer::new(into, disk.btt.sector_size().bytes());
        disk.read_to(self.cpu, first.0, count, &mut sink).map_err(|why| backend_error(&why))
    }

    fn write<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        from: &Scatter<'_, M>,
    ) -> Result<(), BackendError> {
        let disk = self.disk()?;
        let source = Transfer::new(from, disk.btt.sector_size().bytes());
        disk.write_from(self.cpu, first.0, count, &source).map_err(|why| backend_error(&why))
    }

    /// Every write that was answered is durable.
    fn flush(&mut self) -> Result<(), BackendError> {
        self.disk().map(|_| ())
    }

    /// What is discarded reads as zeroes: a consumer that is moved to another appliance finds no old data.
    fn discard(&mut self, first: Sector, count: u64) -> Result<(), BackendError> {
        self.disk()?.zero(self.cpu, first.0, count).map_err(|why| backend_error(&why))
    }

    fn write_zeroes(&mut self, first: Sector, count: u64, _unmap: bool) -> Result<(), BackendError> {
        self.disk()?.zero(self.cpu, first.0, count).map_err(|why| backend_error(&why))
    }
}

/// A disk's error as a consumer's request has it. The one place where they meet.
const fn backend_error(why: &BttError) -> BackendError {
    match why {
        BttError::OutOfRange { .. } => BackendError::OutOfRange,
        BttError::ReadOnly { .. } => BackendError::ReadOnly,
        BttError::Data { why: MediaError::CallersMemory, .. } => BackendError::Memory,
        BttError::SectorError { .. } | BttError::Data { .. } | BttError::Drain { .. } => BackendError::Media,
    }
}
