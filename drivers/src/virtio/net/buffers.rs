//! A queue with a buffer for each chain: pieces of pages that never change, each with its descriptor.

use alloc::vec::Vec;

use service::memory::MemoryOffset;

use crate::dma::{DMA_PAGE_BYTES, DmaPage};
use crate::phys::PhysAddr;
use crate::virtio::queue::{Piece, Queue};

/// How a buffer is made of pieces: half a page, or as many pages as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The pieces of a buffer.
    pub(super) pieces: u16,
    /// The bytes of a piece, a page's or half a page's.
    piece_bytes: u32,
}

impl Shape {
    /// The shape of buffers of at least so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).expect("a frame is short");
        if bytes <= DMA_PAGE_BYTES / 2 {
            return Self { pieces: 1, piece_bytes: DMA_PAGE_BYTES / 2 };
        }
        let pieces = u16::try_from(bytes.div_ceil(DMA_PAGE_BYTES)).expect("a frame is short");
        Self { pieces, piece_bytes: DMA_PAGE_BYTES }
    }

    /// Returns the bytes of a buffer.
    pub(super) const fn bytes(self) -> u32 {
        self.pieces as u32 * self.piece_bytes
    }

    const fn pieces_in_page(self) -> usize {
        (DMA_PAGE_BYTES / self.piece_bytes) as usize
    }
}

/// A queue, all of whose descriptors describe buffers.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) queue: Queue,
    pub(super) shape: Shape,
    device_writes: bool,
    pages: Vec<DmaPage>,
}

impl Ring {
    /// Describes as many buffers as the queue has descriptors for; it has them for one at least. `None`: there are not enough
    /// pages.
    pub(super) fn new(
        queue: Queue,
        shape: Shape,
        device_writes: bool,
        page: &mut dyn FnMut() -> Option<DmaPage>,
    ) -> Option<Self> {
        let pieces = usize::from(queue.size() / shape.pieces * shape.pieces);
        let count = pieces.div_ceil(shape.pieces_in_page());
        let pages: Vec<DmaPage> = core::iter::from_fn(page).take(count).collect();
        if pages.len() < count {
            return None;
        }
        let ring = Self { queue, shape, device_writes, pages };
        ring.heads().for_each(|head| ring.describe(head, shape.bytes()));
        Some(ring)
    }

    /// Returns the first descriptor of each buffer's chain.
    pub(super) fn heads(&self) -> impl Iterator<Item = u16> + use<> {
        let (all, pieces) = (self.queue.size() / self.shape.pieces, self.shape.pieces);
        (0..all).map(move |number| number * pieces)
    }

    /// Describes the first `bytes` bytes of a buffer, one at least.
    fn describe(&self, head: u16, bytes: u32) {
        let mut left = bytes;
        for descriptor in head..head + self.shape.pieces {
            let here = left.min(self.shape.piece_bytes);
            left -= here;
            let piece = Piece { at: self.physical(descriptor), bytes: here, device_writes: self.device_writes };
            self.queue.describe(descriptor, piece, (left > 0).then_some(descriptor + 1));
            if left == 0 {
                return;
            }
        }
    }

    /// Copies out of a buffer that the device does not have, from byte `skip` on. It is long enough.
    pub(super) fn read(&self, head: u16, skip: usize, into: &mut [u8]) {
        let mut at = skip;
        let mut left = into;
        while !left.is_empty() {
            let (page, offset, room) = self.place(head, at);
            let (here, rest) = left.split_at_mut(room.min(left.len()));
            page.read(offset, here);
            at += here.len();
            left = rest;
        }
    }

    /// Fills a buffer that the device does not have with these bytes, and describes them. It is long enough.
    pub(super) fn write(&self, head: u16, prefix: &[u8], bytes: &[u8]) {
        let mut at = 0;
        for mut left in [prefix, bytes] {
            while !left.is_empty() {
                let (page, offset, room) = self.place(head, at);
                let (here, rest) = left.split_at(room.min(left.len()));
                page.write(offset, here);
                at += here.len();
                left = rest;
            }
        }
        self.describe(head, u32::try_from(at).expect("a frame is short"));
    }

    /// Returns the page and the offset in it of a buffer's byte, and how many bytes there are to its piece's end.
    fn place(&self, head: u16, at: usize) -> (&DmaPage, MemoryOffset, usize) {
        let piece_bytes = self.shape.piece_bytes as usize;
        assert!(at < piece_bytes * usize::from(self.shape.pieces), "it is in the buffer");
        let (page, start) = self.piece(usize::from(head) + at / piece_bytes);
        (page, start.plus((at % piece_bytes) as u64), piece_bytes - at % piece_bytes)
    }

    fn physical(&self, descriptor: u16) -> PhysAddr {
        let (page, start) = self.piece(descriptor.into());
        page.physical(start)
    }

    fn piece(&self, descriptor: usize) -> (&DmaPage, MemoryOffset) {
        let in_page = self.shape.pieces_in_page();
        (
            &self.pages[descriptor / in_page],
            MemoryOffset((descriptor % in_page) as u64 * u64::from(self.shape.piece_bytes)),
        )
    }
}
