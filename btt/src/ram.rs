//! A medium in ordinary memory: to try the crate out, and a disk that lives as long as its owner.
//!
//! All stores are durable at once, with or without a fence: it does not show what real media lose. `sim` does that,
//! for tests.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use spin::Mutex;

use crate::media::{MediaError, Medium, NsOffset};

/// The medium.
#[derive(Debug)]
pub struct Ram {
    // One lock makes each access atomic, as the trait asks of words.
    bytes: Mutex<Vec<u8>>,
}

impl Ram {
    /// A medium of zeroes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self::from_image(vec![0; bytes])
    }

    /// A medium that holds these bytes.
    #[must_use]
    pub const fn from_image(image: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(image) }
    }

    /// What it holds.
    #[must_use]
    pub fn into_image(self) -> Vec<u8> {
        self.bytes.into_inner()
    }

    /// Does something with the bytes of an access, if it stays within the medium.
    fn at<T>(&self, at: NsOffset, bytes: usize, access: impl FnOnce(&mut [u8]) -> T) -> Result<T, MediaError> {
        let outside = MediaError::OutOfRange { at, bytes: bytes as u64 };
        let start = usize::try_from(at.0).map_err(|_| outside)?;
        let end = start.checked_add(bytes).ok_or(outside)?;
        self.bytes.lock().get_mut(start..end).map(access).ok_or(outside)
    }

    /// The same with those of a word.
    fn word<T, const BYTES: usize>(
        &self,
        at: NsOffset,
        access: impl FnOnce(&mut [u8; BYTES]) -> T,
    ) -> Result<T, MediaError> {
        if !at.0.is_multiple_of(BYTES as u64) {
            return Err(MediaError::Misaligned { at });
        }
        let outside = MediaError::OutOfRange { at, bytes: BYTES as u64 };
        self.at(at, BYTES, |bytes| bytes.as_mut_array().map(access))?.ok_or(outside)
    }
}

impl Medium for Ram {
    fn len_bytes(&self) -> u64 {
        self.bytes.lock().len() as u64
    }

    fn read_only(&self) -> bool {
        false
    }

    fn keeps_line_order(&self) -> bool {
        true
    }

    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.at(at, into.len(), |bytes| into.copy_from_slice(bytes))
    }

    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.at(at, from.len(), |bytes| bytes.copy_from_slice(from))
    }

    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        self.word(at, |bytes| u32::from_le_bytes(*bytes))
    }

    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        self.word(at, |bytes| u64::from_le_bytes(*bytes))
    }

    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.word(at, |bytes| *bytes = value.to_le_bytes())
    }

    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.word(at, |bytes| *bytes = value.to_le_bytes())
    }

    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        let outside = MediaError::OutOfRange { at, bytes };
        self.at(at, usize::try_from(bytes).map_err(|_| outside)?, |_| ())
    }

    fn look_again(&self, _at: NsOffset, _bytes: u64) -> Result<(), MediaError> {
        Ok(())
    }

    fn order_stores(&self) {
        fence(Ordering::Release);
    }

    fn fence(&self) -> Result<(), MediaError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_stay_within_the_medium_and_words_are_aligned_and_little_endian() {
        let ram = Ram::new(64);
        assert_eq!(ram.store_u64(NsOffset(8), 0x0102_0304_0506_0708), Ok(()));
        assert_eq!(ram.load_u32(NsOffset(8)), Ok(0x0506_0708));
        assert_eq!(ram.store_u32(NsOffset(12), 7), Ok(()));
        let mut bytes = [0; 8];
        assert_eq!(ram.read(NsOffset(8), &mut bytes), Ok(()));
        assert_eq!(bytes, [8, 7, 6, 5, 7, 0, 0, 0]);
        let outside = |at, bytes| Err(MediaError::OutOfRange { at: NsOffset(at), bytes });
        assert_eq!(ram.write(NsOffset(60), &[1; 5]), outside(60, 5));
        assert_eq!(ram.write(NsOffset(u64::MAX), &[1; 2]), outside(u64::MAX, 2));
        assert_eq!(ram.store_u64(NsOffset(64), 1), outside(64, 8));
        assert_eq!(ram.start_write_back(NsOffset(0), 65), outside(0, 65));
        assert_eq!(ram.load_u64(NsOffset(12)), Err(MediaError::Misaligned { at: NsOffset(12) }));
        assert_eq!(ram.store_u32(NsOffset(2), 1), Err(MediaError::Misaligned { at: NsOffset(2) }));
        assert!(ram.into_image()[16..].iter().all(|byte| *byte == 0));
    }
}
