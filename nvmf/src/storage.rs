//! The seam below: [`Storage`], which the owner of a target implements on its disks.
//!
//! Data are in memory that is the target's own: the network's bytes were copied there, once, when they came.

use core::fmt;

use crate::units::{DiskId, Lba};

/// Why the storage did not do as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageError {
    /// Not all of the sectors exist.
    OutOfRange,
    /// The medium lost or refused something.
    Media,
    /// It takes no writes.
    ReadOnly,
    /// It has no such operation.
    Unsupported,
    /// There is no such disk any more.
    Gone,
    /// Anything else; another try may succeed.
    Internal,
    /// Of [`Storage::compare_and_write`]: the sector holds other bytes, and was left as it is.
    Differs,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "sectors past the end",
            Self::Media => "a media error",
            Self::ReadOnly => "the disk is read-only",
            Self::Unsupported => "the disk has no such operation",
            Self::Gone => "the disk is not there any more",
            Self::Internal => "a failure that may pass",
            Self::Differs => "the sector holds other bytes",
        })
    }
}

impl core::error::Error for StorageError {}

/// Sectors to be written: at least one, whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// The first one.
    pub first: Lba,
    /// The data of all of them.
    pub data: &'a [u8],
}

/// The disks of a target. The caller keeps to each disk as its [`crate::Namespace`] describes it: all sectors exist, data are
/// whole sectors, and a call is about at most [`crate::limits::STEP_SECTORS`] sectors and [`crate::limits::STEP_BYTES`] bytes.
pub trait Storage {
    /// Reads sectors, as many as `into` has room for.
    ///
    /// # Errors
    /// The fault; `into` then holds anything.
    fn read(&mut self, disk: DiskId, first: Lba, into: &mut [u8]) -> Result<(), StorageError>;

    /// Carries out several writes, of which a later one counts where two meet. `done` gets what became of each, in order: of
    /// one that is done, the sectors are durable by then. Each sector is wholly old or new, whatever happens.
    fn write_all(&mut self, disk: DiskId, writes: &[Write<'_>], done: &mut dyn FnMut(Result<(), StorageError>));

    /// Writes one sector if it holds exactly the bytes of `expected`. No other write to it comes between, whichever way
    /// it takes. Durable when it returns.
    ///
    /// # Errors
    /// [`StorageError::Differs`], or the fault; the sector is then old, or with a fault old or new.
    fn compare_and_write(&mut self, disk: DiskId, at: Lba, expected: &[u8], data: &[u8]) -> Result<(), StorageError>;

    /// Makes `count` sectors read as zeroes, durably.
    ///
    /// # Errors
    /// The fault; each sector is then old or zero.
    fn write_zeroes(&mut self, disk: DiskId, first: Lba, count: u64) -> Result<(), StorageError>;

    /// The host needs `count` sectors no more.
    ///
    /// # Errors
    /// The fault.
    fn deallocate(&mut self, disk: DiskId, first: Lba, count: u64) -> Result<(), StorageError>;
}
