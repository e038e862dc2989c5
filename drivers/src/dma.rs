//! Pages of RAM that a device reads and writes by itself, and buffers in them.

use alloc::vec::Vec;

use service::memory::{MemoryOffset, SharedMemory as _};

use crate::phys::PhysAddr;
use crate::shared::SharedWindow;

/// The bytes of a page.
pub const DMA_PAGE_BYTES: u32 = 4096;

/// A page of RAM that a device reads and writes, for good: a device that was given up may write late. Its bytes are never a Rust
/// object ([`crate::shared`]), and those that the device wrote are copied before they are looked at.
#[derive(Debug)]
pub struct DmaPage {
    memory: SharedWindow,
    at: PhysAddr,
}

impl DmaPage {
    /// The page that `memory` shows, which lies at physical `at`, and which nothing else uses from now on.
    ///
    /// # Panics
    /// If it is shorter than a page, or `at` is no page's address.
    #[must_use]
    pub fn new(memory: SharedWindow, at: PhysAddr) -> Self {
        let page = u64::from(DMA_PAGE_BYTES);
        assert!(memory.len_bytes() >= page && at.0.is_multiple_of(page), "a device's memory is a page");
        Self { memory, at }
    }

    /// Returns the physical address of a place in the page.
    #[must_use]
    pub const fn physical(&self, at: MemoryOffset) -> PhysAddr {
        PhysAddr(self.at.0 + at.0)
    }

    /// Copies bytes into the page.
    ///
    /// # Panics
    /// Beyond the page, as all accesses: places are ours, never the device's.
    pub fn write(&self, at: MemoryOffset, bytes: &[u8]) {
        self.memory.write(at, bytes).expect("in the page");
    }

    /// Copies bytes out of the page.
    pub fn read(&self, at: MemoryOffset, into: &mut [u8]) {
        self.memory.read(at, into).expect("in the page");
    }

    /// Stores a word, which a device that sees it sees after all that was written before.
    pub fn store(&self, at: MemoryOffset, value: u16) {
        self.memory.store_u16(at, value).expect("in the page, and aligned");
    }

    /// Loads a word: what the device wrote before it is visible behind it.
    #[must_use]
    pub fn load(&self, at: MemoryOffset) -> u16 {
        self.memory.load_u16(at).expect("in the page, and aligned")
    }

    /// Copies a double word out of the page.
    #[must_use]
    pub fn double(&self, at: MemoryOffset) -> u32 {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}

/// How a buffer is made of pieces that lie in a page each: half a page, or as many pages as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The pieces of a buffer.
    pub pieces: u16,
    /// The bytes of a piece, a page's or half a page's.
    pub piece_bytes: u32,
}

impl Shape {
    /// The shape of buffers of at least so many bytes.
    ///
    /// # Panics
    /// If they are longer than any frame.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).expect("a frame is short");
        if bytes <= DMA_PAGE_BYTES / 2 {
            return Self { pieces: 1, piece_bytes: DMA_PAGE_BYTES / 2 };
        }
        let pieces = u16::try_from(bytes.div_ceil(DMA_PAGE_BYTES)).expect("a frame is short");
        Self { pieces, piece_bytes: DMA_PAGE_BYTES }
    }

    /// Returns the bytes of a buffer.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.pieces as u32 * self.piece_bytes
    }

    const fn pieces_in_page(self) -> usize {
        (DMA_PAGE_BYTES / self.piece_bytes) as usize
    }
}

/// Buffers of one shape. A buffer is called by the number of its first piece; its other pieces follow.
#[derive(Debug)]
pub struct DmaBuffers {
    shape: Shape,
    pages: Vec<DmaPage>,
}

impl DmaBuffers {
    /// So many buffers. `None`: there are not enough pages.
    pub fn new(count: u16, shape: Shape, page: &mut dyn FnMut() -> Option<DmaPage>) -> Option<Self> {
        let pages_needed = (usize::from(count) * usize::from(shape.pieces)).div_ceil(shape.pieces_in_page());
        let pages: Vec<DmaPage> = core::iter::from_fn(page).take(pages_needed).collect();
        (pages.len() == pages_needed).then_some(Self { shape, pages })
    }

    /// Returns their pages, when no device uses them any more.
    pub(crate) fn into_pages(self) -> Vec<DmaPage> {
        self.pages
    }

    /// Returns their shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// Returns where a piece lies.
    ///
    /// # Panics
    /// If there is no such piece.
    #[must_use]
    pub fn physical(&self, piece: u16) -> PhysAddr {
        let (page, start) = self.piece(piece.into());
        page.physical(start)
    }

    /// Copies out of a buffer, from byte `skip` on.
    ///
    /// # Panics
    /// If it is not long enough.
    pub fn read(&self, first: u16, skip: usize, into: &mut [u8]) {
        let mut at = skip;
        let mut left = into;
        while !left.is_empty() {
            let (page, offset, room) = self.place(first, at);
            let (here, rest) = left.split_at_mut(room.min(left.len()));
            page.read(offset, here);
            at += here.len();
            left = rest;
        }
    }

    /// Copies into a buffer, from byte `skip` on.
    ///
    /// # Panics
    /// If it is not long enough.
    pub fn write(&self, first: u16, skip: usize, bytes: &[u8]) {
        let mut at = skip;
        let mut left = bytes;
        while !left.is_empty() {
            let (page, offset, room) = self.place(first, at);
            let (here, rest) = left.split_at(room.min(left.len()));
            page.write(offset, here);
            at += here.len();
            left = rest;
        }
    }

    /// Returns the page and the offset in it of a buffer's byte, and how many bytes there are to its piece's end.
    fn place(&self, first: u16, at: usize) -> (&DmaPage, MemoryOffset, usize) {
        let piece_bytes = self.shape.piece_bytes as usize;
        assert!(at < piece_bytes * usize::from(self.shape.pieces), "it is in the buffer");
        let (page, start) = self.piece(usize::from(first) + at / piece_bytes);
        (page, start.plus((at % piece_bytes) as u64), piece_bytes - at % piece_bytes)
    }

    fn piece(&self, number: usize) -> (&DmaPage, MemoryOffset) {
        let in_page = self.shape.pieces_in_page();
        let offset = (number % in_page) as u64 * u64::from(self.shape.piece_bytes);
        (&self.pages[number / in_page], MemoryOffset(offset))
    }
}
