//! Readers on the slow path: while one copies, no lane writes to a free block of its arena.
//!
//! Invariant 8 (ARCHITECTURE.md). (Linux names the blocks that are being read in a table, its RTT, which each read stores
//! to. Here a read stores nothing, and comes to this path when its sector has been written again and again, or seems to be
//! lost: then one reader at a time is enough.)
//!
//! | who | what |
//! |---|---|
//! | a reader | takes its turn; under the stripes of its run, whose entries it loads there, says that it copies; and copies after them |
//! | a lane | before it writes to its free blocks, which have left the map, waits for the reader that copies, if there is one |
//!
//! No fence is needed. A block that a reader finds in the map is there when the reader says that it copies; the lane that
//! takes it out holds the same stripe later, and so sees that whenever it looks after it. One look is enough: a reader whose
//! turn comes later finds the block no more.
//!
//! Locks: lane → turn → stripes (invariant 9).

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering};

/// Those of an arena.
pub(crate) struct SlowReaders {
    turn: Mutex<()>,
    /// 1 while a reader copies, otherwise 0. Only the holder of the turn stores it.
    copying: AtomicU32,
}

/// A slow reader's turn. It has left when this is dropped.
pub(crate) struct Turn<'a> {
    copying: &'a AtomicU32,
    _lock: MutexGuard<'a, ()>,
}

impl SlowReaders {
    pub(crate) fn new() -> Self {
        Self { turn: Mutex::new(()), copying: AtomicU32::new(0) }
    }

    /// Waits for the readers before. The caller holds no stripe.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn { _lock: self.turn.lock(), copying: &self.copying }
    }

    /// Waits until no reader copies a block that has left the map. The caller holds no stripe.
    #[inline]
    pub(crate) fn wait(&self) {
        // Acquire: pairs with the release in `Turn::drop`. A reader that has left has copied.
        if self.copying.load(Ordering::Acquire) != 0 {
            drop(self.turn.lock());
        }
    }
}

impl Turn<'_> {
    /// The reader is about to copy what it has found in the map. The caller holds the stripes of that.
    pub(crate) fn begin(&self) {
        // The stripe's lock orders this before the look of a lane that takes the stripe later.
        self.copying.store(1, Ordering::Relaxed);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Release: the copying is over before this is seen.
        self.copying.store(0, Ordering::Release);
    }
}
