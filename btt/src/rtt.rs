//! Read tracking table (RTT): keeps a block that is being read from being handed to a writer.
//!
//! Invariant 8 (ARCHITECTURE.md): while `rtt[lane]` names block B and the map has been re-read since, no lane writes B.
//!
//! | who | what | with which fence |
//! |---|---|---|
//! | the reader that holds the lane | publishes the blocks of its run, then re-reads their map entries | [`Rtt::publish`] |
//! | any writer | after its target blocks left the map, looks at all lanes | [`Rtt::wait_for_readers`] |
//!
//! Both fences are full (store before load). Whichever comes first in their single order decides: if the reader's
//! does, the writer sees the block published and waits; if the writer's does, the reader sees that the map has moved
//! on, and tries again. With either missing, both can look too early, and a reader returns half of another sector.

use crate::sync::{AtomicU32, Ordering, fence, relax};
use crate::units::{LaneIndex, PostmapAba, RUN_MAX};
use alloc::boxed::Box;
use core::array::from_fn;

/// No block: post-map numbers have 30 bits.
const NONE: u32 = u32::MAX;

/// The blocks that one lane is reading.
struct Reader {
    /// How many of `blocks` count.
    count: AtomicU32,
    blocks: [AtomicU32; RUN_MAX],
}

/// The table of one arena: one row a lane.
pub(crate) struct Rtt(Box<[Reader]>);

impl Rtt {
    /// Bytes of memory for each lane.
    pub(crate) const LANE_BYTES: usize = size_of::<Reader>();

    pub(crate) fn new(lanes: u32) -> Self {
        let reader = |_| Reader { count: AtomicU32::new(0), blocks: from_fn(|_| AtomicU32::new(NONE)) };
        Self((0..lanes).map(reader).collect())
    }

    /// Publishes what the holder of `lane` is about to read: `None` for a sector that needs no block. The caller
    /// re-reads the map after this, and publishes again what has changed.
    #[allow(clippy::cast_possible_truncation)] // at most RUN_MAX
    #[inline]
    pub(crate) fn publish(&self, lane: LaneIndex, blocks: impl Iterator<Item = Option<PostmapAba>>) {
        let reader = &self.0[lane.0 as usize];
        let mut count = 0;
        for (slot, block) in reader.blocks.iter().zip(blocks) {
            // Release, as is the count: a writer that skips an earlier run because it sees this one instead has also seen
            // that run end.
            slot.store(block.map_or(NONE, |b| b.0), Ordering::Release);
            count += 1;
        }
        reader.count.store(count, Ordering::Release);
        // Pairs with the fence in `wait_for_readers`: either the writer sees these blocks, or our caller, re-reading
        // the map, sees that they have been replaced.
        fence(Ordering::SeqCst);
    }

    /// Withdraws what `lane` has published: its holder has the data.
    #[inline]
    pub(crate) fn clear(&self, lane: LaneIndex) {
        // Release: the copying is over before the count is seen to fall; pairs with the acquire load in
        // `wait_for_readers`.
        self.0[lane.0 as usize].count.store(0, Ordering::Release);
    }

    /// Waits until no lane reads any of `targets`, which no map entry names any more.
    #[inline]
    pub(crate) fn wait_for_readers(&self, targets: &[PostmapAba]) {
        // Pairs with the fence in `publish`.
        fence(Ordering::SeqCst);
        for reader in &self.0 {
            while reader.reads_one_of(targets) {
                relax();
            }
        }
    }
}

impl Reader {
    #[inline]
    fn reads_one_of(&self, targets: &[PostmapAba]) -> bool {
        let count = self.count.load(Ordering::Acquire) as usize;
        self.blocks.iter().take(count).any(|slot| {
            let block = slot.load(Ordering::Acquire);
            block != NONE && targets.iter().any(|target| target.0 == block)
        })
    }
}

#[cfg(all(test, not(any(feature = "loom", feature = "shuttle"))))] // their atomics exist in a model only
mod tests {
    use super::*;

    #[test]
    fn a_published_block_is_seen_until_it_is_cleared() {
        let rtt = Rtt::new(2);
        let reads = |block| rtt.0.iter().any(|r| r.reads_one_of(&[PostmapAba(block)]));
        rtt.publish(LaneIndex(1), [Some(PostmapAba(4)), None, Some(PostmapAba(9))].into_iter());
        assert!(reads(4) && reads(9) && !reads(5) && !reads(NONE));
        rtt.clear(LaneIndex(1));
        assert!(!reads(4));
        rtt.publish(LaneIndex(1), [Some(PostmapAba(9))].into_iter());
        assert!(!reads(4) && reads(9));
    }
}
