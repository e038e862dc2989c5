//! Bytes in ordinary memory: sectors, as the source or the sink of a run.

use crate::geometry::{SECTOR_SIZES, SectorSize};
use crate::media::{MediaError, Medium, NsOffset, SectorSink, SectorSource};

/// Whole external sectors, one after the other, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Sectors<'a> {
    bytes: &'a [u8],
    size: usize,
}

impl<'a> Sectors<'a> {
    /// The sectors in `bytes`, or `None` if it does not hold a whole number of them.
    #[must_use]
    pub fn new(bytes: &'a [u8], size: SectorSize) -> Option<Self> {
        let size = size.bytes() as usize;
        bytes.len().is_multiple_of(size).then_some(Self { bytes, size })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.bytes.len() / self.size
    }
}

impl<M: Medium + ?Sized> SectorSource<M> for Sectors<'_> {
    #[inline(always)]
    fn store(&self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        media.write(at, &self.bytes[index * self.size..][..self.size])
    }
}

/// Room for whole external sectors, one after the other.
#[derive(Debug)]
pub struct SectorsMut<'a> {
    bytes: &'a mut [u8],
    size: usize,
}

impl<'a> SectorsMut<'a> {
    /// The room in `bytes`, or `None` if it does not hold a whole number of sectors.
    #[must_use]
    pub fn new(bytes: &'a mut [u8], size: SectorSize) -> Option<Self> {
        let size = size.bytes() as usize;
        bytes.len().is_multiple_of(size).then_some(Self { bytes, size })
    }

    #[inline]
    fn sector(&mut self, index: usize) -> &mut [u8] {
        &mut self.bytes[index * self.size..][..self.size]
    }
}

impl<M: Medium + ?Sized> SectorSink<M> for SectorsMut<'_> {
    #[inline(always)]
    fn load(&mut self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        media.read(at, self.sector(index))
    }

    fn zero(&mut self, index: usize) {
        self.sector(index).fill(0);
    }
}

/// Whether all bytes are `byte`, which is looked at eight at a time.
#[must_use]
pub fn is_all(bytes: &[u8], byte: u8) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| u64::from_ne_bytes(*word) == u64::from_ne_bytes([byte; 8]))
        && rest.iter().all(|found| *found == byte)
}

/// Sectors of zeroes, to be written.
#[derive(Clone, Copy, Debug)]
pub struct Zeroes {
    size: usize,
}

/// As many zeroes as the largest sector has bytes.
pub(crate) static ZEROES: [u8; 4224] = [0; 4224];
const _: () = assert!(SECTOR_SIZES[SECTOR_SIZES.len() - 1] as usize == ZEROES.len());

impl Zeroes {
    /// Any number of sectors of this size.
    #[must_use]
    pub const fn new(size: SectorSize) -> Self {
        Self { size: size.bytes() as usize }
    }
}

impl<M: Medium + ?Sized> SectorSource<M> for Zeroes {
    fn store(&self, _: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        media.write(at, &ZEROES[..self.size])
    }
}
