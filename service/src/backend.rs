//! The seam below the disk: [`BlockBackend`], which the kernel implements on a BTT.

use core::fmt;

use crate::memory::{Scatter, SharedMemory};

/// A sector of the disk, in units of its own sector size (not of virtio's 512 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector(pub u64);

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a back end did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// Not all of the sectors exist.
    OutOfRange,
    /// The medium lost or refused something.
    Media,
    /// It takes no writes.
    ReadOnly,
    /// It has no such operation.
    Unsupported,
    /// The consumer's memory went away meanwhile.
    Memory,
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "sectors past the end",
            Self::Media => "a media error",
            Self::ReadOnly => "the disk is read-only",
            Self::Unsupported => "the disk has no such operation",
            Self::Memory => "the consumer's memory is gone",
        })
    }
}

impl core::error::Error for BackendError {}

/// Sectors that follow one another: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorRun {
    /// The first one.
    pub first: Sector,
    /// How many.
    pub count: u64,
}

/// The storage of a disk's sectors. One value a queue, used by one CPU at a time.
///
/// The caller keeps to the disk: `count` is at least 1, all sectors exist, and the data are exactly `count` sectors.
/// Data move once: an implementation copies each piece straight between the consumer's memory and its medium.
pub trait BlockBackend {
    /// Reads a run of sectors.
    ///
    /// # Errors
    /// The fault; `into` then holds anything.
    fn read<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        into: &Scatter<'_, M>,
    ) -> Result<(), BackendError>;

    /// Writes a run of sectors. They are durable when it returns. Each is copied once, and is then wholly what was
    /// copied, or wholly old.
    ///
    /// # Errors
    /// The fault; each sector is then old or new.
    fn write<M: SharedMemory + ?Sized>(
        &mut self,
        first: Sector,
        count: u64,
        from: &Scatter<'_, M>,
    ) -> Result<(), BackendError>;

    /// Writes several runs of sectors, of which a later one counts where two meet. The data of all stand in `from`, one run's
    /// after the other's. `done` gets what became of each, in order: of one that is done, the sectors are durable by then.
    fn write_all<M: SharedMemory + ?Sized>(
        &mut self,
        runs: &[SectorRun],
        from: &Scatter<'_, M>,
        done: impl FnMut(Result<(), BackendError>),
    );

    /// Makes durable what was written. A write is durable already when [`BlockBackend::write`] returns.
    ///
    /// # Errors
    /// The fault.
    fn flush(&mut self) -> Result<(), BackendError>;

    /// The consumer needs these sectors no more; what they read as then is anything.
    ///
    /// # Errors
    /// The fault.
    fn discard(&mut self, first: Sector, count: u64) -> Result<(), BackendError>;

    /// Makes these sectors read as zeroes, durably; with `unmap` their blocks may be given up.
    ///
    /// # Errors
    /// The fault; each sector is then old or zero.
    fn write_zeroes(&mut self, first: Sector, count: u64, unmap: bool) -> Result<(), BackendError>;
}
