//! A medium of any size that keeps only the pages that were stored to, and counts what is read.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use btt::media::{MediaError, Medium, NsOffset};

const PAGE: u64 = 4096;

/// Bytes that are zero until they are stored. Every store is durable at once.
pub struct Sparse {
    bytes: u64,
    pages: Mutex<BTreeMap<u64, Box<[u8; PAGE as usize]>>>,
    read: AtomicU64,
}

impl Sparse {
    pub fn new(bytes: u64) -> Self {
        Self { bytes, pages: Mutex::default(), read: AtomicU64::new(0) }
    }

    /// The places of the pages that were ever stored to.
    pub fn stored(&self) -> Vec<u64> {
        self.pages.lock().expect("no panic").keys().map(|page| page * PAGE).collect()
    }

    /// How many bytes have been read since this was last asked.
    pub fn take_read(&self) -> u64 {
        self.read.swap(0, Ordering::Relaxed)
    }

    /// The pieces of a range that lie in one page each: the page, the place in it, the place in the range.
    fn pieces(at: u64, bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let here = at + done as u64;
            let start = (here % PAGE) as usize;
            let count = (bytes - done).min(PAGE as usize - start);
            let piece = (here / PAGE, start..start + count, done..done + count);
            done += count;
            (count > 0).then_some(piece)
        })
    }

    fn check(&self, at: NsOffset, bytes: usize, aligned: bool) -> Result<(), MediaError> {
        if aligned && !at.0.is_multiple_of(bytes as u64) {
            return Err(MediaError::Misaligned { at });
        }
        let end = at.0.checked_add(bytes as u64);
        if end.is_some_and(|end| end <= self.bytes) {
            Ok(())
        } else {
            Err(MediaError::OutOfRange { at, bytes: bytes as u64 })
        }
    }

    fn get(&self, at: NsOffset, into: &mut [u8], aligned: bool) -> Result<(), MediaError> {
        self.check(at, into.len(), aligned)?;
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        let pages = self.pages.lock().expect("no panic");
        into.fill(0);
        let last = (at.0 + into.len() as u64).div_ceil(PAGE);
        if pages.range(at.0 / PAGE..last).next().is_some() {
            for (page, there, here) in Self::pieces(at.0, into.len()) {
                if let Some(page) = pages.get(&page) {
                    into[here].copy_from_slice(&page[there]);
                }
            }
        }
        Ok(())
    }

    fn put(&self, at: NsOffset, from: &[u8], aligned: bool) -> Result<(), MediaError> {
        self.check(at, from.len(), aligned)?;
        let mut pages = self.pages.lock().expect("no panic");
        for (page, there, here) in Self::pieces(at.0, from.len()) {
            pages.entry(page).or_insert_with(|| Box::new([0; PAGE as usize]))[there].copy_from_slice(&from[here]);
        }
        Ok(())
    }
}

impl Medium for Sparse {
    fn len_bytes(&self) -> u64 {
        self.bytes
    }
    fn read_only(&self) -> bool {
        false
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
        self.get(at, &mut word, true).map(|()| u32::from_le_bytes(word))
    }
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        let mut word = [0; 8];
        self.get(at, &mut word, true).map(|()| u64::from_le_bytes(word))
    }
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        self.put(at, &value.to_le_bytes(), true)
    }
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        self.put(at, &value.to_le_bytes(), true)
    }
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.check(at, usize::try_from(bytes).expect("small"), false)
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
