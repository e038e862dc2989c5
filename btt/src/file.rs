//! A medium in an ordinary file, or in a part of one.
//!
//! Durability is the file system's: a fence is `fdatasync`. Aligned words are read and written by one system call each,
//! under a lock, which makes them atomic among the users of this value.

extern crate std;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::RwLock;
use std::sync::atomic::{Ordering, fence};

use crate::media::{MediaError, Medium, NsOffset};

/// The medium.
#[derive(Debug)]
pub struct FileMedium {
    file: RwLock<File>,
    start: u64,
    bytes: u64,
    read_only: bool,
    synced: bool,
}

impl FileMedium {
    /// All of the file. One that is `read_only` refuses stores.
    ///
    /// # Errors
    /// The operating system's error for the file's size.
    pub fn new(file: File, read_only: bool) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self::part(file, 0, bytes, read_only))
    }

    /// So many bytes of the file, from byte `start` on. What is past the file's end cannot be read.
    #[must_use]
    pub const fn part(file: File, start: u64, bytes: u64, read_only: bool) -> Self {
        Self { file: RwLock::new(file), start, bytes, read_only, synced: true }
    }

    /// The same, whose fences do nothing: what is stored survives the program, and not the machine. For tests.
    #[must_use]
    pub const fn unsynced(mut self) -> Self {
        self.synced = false;
        self
    }

    /// The place in the file of an access that keeps to the medium, and to its alignment.
    fn place(&self, at: NsOffset, bytes: u64, align: u64) -> Result<u64, MediaError> {
        let outside = MediaError::OutOfRange { at, bytes };
        at.0.checked_add(bytes).filter(|end| *end <= self.bytes).ok_or(outside)?;
        if !at.0.is_multiple_of(align) {
            return Err(MediaError::Misaligned { at });
        }
        self.start.checked_add(at.0).ok_or(outside)
    }

    fn load<const SIZE: usize>(&self, at: NsOffset) -> Result<[u8; SIZE], MediaError> {
        let place = self.place(at, SIZE as u64, SIZE as u64)?;
        let mut value = [0; SIZE];
        self.file.read().map_err(|_| poisoned(at))?.read_exact_at(&mut value, place).map_err(|why| failed(at, &why))?;
        Ok(value)
    }

    fn store(&self, at: NsOffset, value: &[u8], align: u64) -> Result<(), MediaError> {
        let place = self.place(at, value.len() as u64, align)?;
        if self.read_only {
            return Err(MediaError::ReadOnly);
        }
        let file = self.file.write().map_err(|_| poisoned(at))?;
        file.write_all_at(value, place).map_err(|why| failed(at, &why))
    }
}

/// The operating system's error number takes the place of a device's status.
fn failed(at: NsOffset, why: &io::Error) -> MediaError {
    MediaError::Device { at, status: why.raw_os_error().and_then(|number| u32::try_from(number).ok()).unwrap_or(0) }
}

/// Another user of the file panicked in the middle of an access.
fn poisoned(at: NsOffset) -> MediaError {
    MediaError::Device { at, status: 0 }
}

impl Medium for FileMedium {
    fn len_bytes(&self) -> u64 {
        self.bytes
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    /// A file system promises no order between two stores, wherever they are.
    fn keeps_line_order(&self) -> bool {
        false
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        let place = self.place(at, into.len() as u64, 1)?;
        let file = self.file.read().map_err(|_| poisoned(at))?;
        file.read_exact_at(into, place).map_err(|why| failed(at, &why))
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.store(at, from, 1)
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.load(at).map(u32::from_le_bytes)
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.load(at).map(u64::from_le_bytes)
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.store(at, &value.to_le_bytes(), 4)
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.store(at, &value.to_le_bytes(), 8)
    }

    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.place(at, bytes, 1).map(drop)
    }

    fn look_again(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn order_stores(&self) {
        fence(Ordering::Release);
    }

    fn fence(&self) -> Result<(), MediaError> {
        let at = NsOffset(0);
        if !self.synced {
            return Ok(());
        }
        self.file.read().map_err(|_| poisoned(at))?.sync_data().map_err(|why| failed(at, &why))
    }
}
