//! The seam between the two kinds of medium and what moves a consumer's data: a [`Medium`] that copies to and from raw
//! memory, and that knows which of its lines are lost.

use alloc::vec::Vec;

use btt::media::{MediaError, Medium, NsOffset};

/// A namespace's medium as drivers have it.
pub trait RawMedium: Medium {
    /// Copies bytes out of the namespace, as [`Medium::read`] does, to memory that is no Rust object: a peer's. Each byte
    /// is stored once.
    ///
    /// # Errors
    /// As [`Medium::read`].
    ///
    /// # Safety
    /// `bytes` bytes from `to` on are writable and not this namespace's, and no Rust reference to them exists.
    unsafe fn read_raw(&self, at: NsOffset, to: *mut u8, bytes: usize) -> Result<(), MediaError>;

    /// Copies bytes into the namespace, as [`Medium::write`] does, from memory that is no Rust object: a peer's. Each byte
    /// is loaded once.
    ///
    /// # Errors
    /// As [`Medium::write`].
    ///
    /// # Safety
    /// `bytes` bytes from `from` on are readable and not this namespace's. They may change meanwhile.
    unsafe fn write_raw(&self, at: NsOffset, from: *const u8, bytes: usize) -> Result<(), MediaError>;

    /// Marks the lines that hold `bytes` bytes from `at` on as lost: reads of them fail with [`MediaError::Poisoned`]
    /// until they are written again as a whole. The mark is kept in memory only.
    ///
    /// # Errors
    /// [`MediaError::OutOfRange`].
    fn lose(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError>;

    /// Returns the ranges that the medium has lost: places and lengths in bytes.
    #[must_use]
    fn lost(&self) -> Vec<(NsOffset, u64)>;
}
