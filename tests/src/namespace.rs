//! A part of a file as the medium of a BTT.
//!
//! By ordinary reads and writes, for tests in one thread: as durable as a file is while its machine runs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use btt::media::{MediaError, Medium, NsOffset};

/// `bytes` bytes of a file, from `start` on.
#[derive(Debug)]
pub struct FileNamespace {
    /// The file.
    pub file: File,
    /// Where the namespace starts in it.
    pub start: u64,
    /// How long it is.
    pub bytes: u64,
    /// Whether stores are refused.
    pub read_only: bool,
}

impl FileNamespace {
    fn place(&self, at: NsOffset, bytes: usize, aligned: bool) -> Result<u64, MediaError> {
        let bytes = bytes as u64;
        if aligned && !at.0.is_multiple_of(bytes) {
            return Err(MediaError::Misaligned { at });
        }
        let end = at.0.checked_add(bytes).filter(|&end| end <= self.bytes);
        end.map(|_| self.start + at.0).ok_or(MediaError::OutOfRange { at, bytes })
    }

    fn get(&self, at: NsOffset, into: &mut [u8], aligned: bool) -> Result<(), MediaError> {
        let place = self.place(at, into.len(), aligned)?;
        self.file.read_exact_at(into, place).map_err(|_| MediaError::Device { at, status: 1 })
    }

    fn put(&self, at: NsOffset, from: &[u8], aligned: bool) -> Result<(), MediaError> {
        let place = self.place(at, from.len(), aligned)?;
        if self.read_only {
            return Err(MediaError::ReadOnly);
        }
        self.file.write_all_at(from, place).map_err(|_| MediaError::Device { at, status: 1 })
    }
}

impl Medium for FileNamespace {
    fn len_bytes(&self) -> u64 {
        self.bytes
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn keeps_line_order(&self) -> bool {
        true
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.get(at, into, false)
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.put(at, from, false)
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        let mut word = [0; 4];
        self.get(at, &mut word, true)?;
        Ok(u32::from_le_bytes(word))
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        let mut word = [0; 8];
        self.get(at, &mut word, true)?;
        Ok(u64::from_le_bytes(word))
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.put(at, &value.to_le_bytes(), true)
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.put(at, &value.to_le_bytes(), true)
    }

    fn start_write_back(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn fence(&self) -> Result<(), MediaError> {
        Ok(())
    }
}
