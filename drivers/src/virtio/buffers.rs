//! A queue with a buffer for each chain: its pieces never change, each with its descriptor.

use super::queue::{Piece, Queue};
use crate::dma::{DmaBuffers, DmaPage, Shape};

/// A queue, all of whose descriptors describe buffers.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) queue: Queue,
    pub(super) buffers: DmaBuffers,
    device_writes: bool,
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
        let buffers = DmaBuffers::new(queue.size() / shape.pieces, shape, page)?;
        let ring = Self { queue, buffers, device_writes };
        ring.heads().for_each(|head| ring.describe(head, shape.bytes()));
        Some(ring)
    }

    /// Returns its pages, when the device does not use them any more.
    pub(super) fn into_pages(self) -> impl Iterator<Item = DmaPage> {
        core::iter::once(self.queue.into_page()).chain(self.buffers.into_pages())
    }

    /// Returns the first descriptor of each buffer's chain.
    pub(super) fn heads(&self) -> impl Iterator<Item = u16> + use<> {
        let pieces = self.buffers.shape().pieces;
        (0..self.queue.size() / pieces).map(move |number| number * pieces)
    }

    /// Describes the first `bytes` bytes of a buffer, one at least.
    pub(super) fn describe(&self, head: u16, bytes: u32) {
        let Shape { pieces, piece_bytes } = self.buffers.shape();
        let mut left = bytes;
        for descriptor in head..head + pieces {
            let here = left.min(piece_bytes);
            left -= here;
            let at = self.buffers.physical(descriptor);
            let piece = Piece { at, bytes: here, device_writes: self.device_writes };
            self.queue.describe(descriptor, piece, (left > 0).then_some(descriptor + 1));
            if left == 0 {
                return;
            }
        }
    }

    /// Fills a buffer that the device does not have with these bytes, and describes them. It is long enough.
    pub(super) fn fill(&self, head: u16, prefix: &[u8], bytes: &[u8]) {
        self.buffers.write(head, 0, prefix);
        self.buffers.write(head, prefix.len(), bytes);
        self.describe(head, u32::try_from(prefix.len() + bytes.len()).expect("a buffer is short"));
    }
}
