//! An ordinary file as a namespace: any driver that reads and writes bytes can carry a BTT.
//!
//! Durability is the file system's: a fence is `fdatasync`. Aligned words are read and written by one system call each,
//! under a lock, which makes them atomic among the users of this value.

use btt::media::{MediaError, Medium, NsOffset};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::RwLock;

/// A file that is a namespace.
pub(crate) struct FileNamespace {
    file: RwLock<File>,
    bytes: u64,
    read_only: bool,
}

impl FileNamespace {
    /// The file, all of it, as a namespace.
    ///
    /// # Errors
    /// The operating system's error for the file's size.
    pub(crate) fn new(file: File, read_only: bool) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file: RwLock::new(file), bytes, read_only })
    }

    fn check(&self, at: NsOffset, bytes: usize, align: u64) -> Result<(), MediaError> {
        let bytes = bytes as u64;
        if at.0.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            return Err(MediaError::OutOfRange { at, bytes });
        }
        if at.0.is_multiple_of(align) { Ok(()) } else { Err(MediaError::Misaligned { at }) }
    }

    fn load<const SIZE: usize>(&self, at: NsOffset) -> Result<[u8; SIZE], MediaError> {
        self.check(at, SIZE, SIZE as u64)?;
        let mut value = [0; SIZE];
        self.file.read().map_err(|_| poisoned(at))?.read_exact_at(&mut value, at.0).map_err(|why| failed(at, &why))?;
        Ok(value)
    }

    fn store(&self, at: NsOffset, value: &[u8], align: u64) -> Result<(), MediaError> {
        self.check(at, value.len(), align)?;
        if self.read_only {
            return Err(MediaError::ReadOnly);
        }
        let file = self.file.write().map_err(|_| poisoned(at))?;
        file.write_all_at(value, at.0).map_err(|why| failed(at, &why))
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

impl Medium for FileNamespace {
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
        self.check(at, into.len(), 1)?;
        let file = self.file.read().map_err(|_| poisoned(at))?;
        file.read_exact_at(into, at.0).map_err(|why| failed(at, &why))
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
        self.check(at, usize::try_from(bytes).unwrap_or(usize::MAX), 1)
    }

    fn fence(&self) -> Result<(), MediaError> {
        let at = NsOffset(0);
        self.file.read().map_err(|_| poisoned(at))?.sync_data().map_err(|why| failed(at, &why))
    }
}
