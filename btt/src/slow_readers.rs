//! Readers on the slow path: while one copies, no lane writes to a free block of its arena.
//!
//! Invariant 8 (ARCHITECTURE.md). (In Linux each read stores its block in a table, the RTT. Here a read stores nothing.
//! It takes this path only if its sector has been written again and again, or seems to be lost, so that one reader at a
//! time is enough.)
//!
//! | who | what |
//! |---|---|
//! | a reader | takes its turn; locks the stripes of its run, loads the entries, marks that it copies, unlocks; then copies |
//! | a lane | waits for the reader that copies, if there is one, before it writes to its free blocks, which have left the map |
//!
//! No fence is needed. A block that a reader finds in the map is still there when the reader marks that it copies. The
//! lane that takes the block out locks the same stripe later, so it sees the mark when it looks after that. One look is
//! enough: a reader whose turn comes later does not find the block in the map.
//!
//! Locks: lane → turn → stripes (invariant 9).

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering};

/// The slow readers of an arena.
pub(crate) struct SlowReaders {
    turn: Mutex<()>,
    /// 1 while a reader copies, otherwise 0. Only the holder of the turn stores it.
    copying: AtomicU32,
}

/// A slow reader's turn, which ends when this is dropped.
pub(crate) struct Turn<'a> {
    copying: &'a AtomicU32,
    _lock: MutexGuard<'a, ()>,
}

impl SlowReaders {
    pub(crate) fn new() -> Self {
        Self { turn: Mutex::new(()), copying: AtomicU32::new(0) }
    }

    /// Waits until the readers that came before are done. The caller holds no stripe.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn { _lock: self.turn.lock(), copying: &self.copying }
    }

    /// Waits until no reader copies a block that has left the map. The caller holds no stripe.
    #[inline]
    pub(crate) fn wait(&self) {
        // Acquire: pairs with the release in `Turn::drop`. A reader whose turn has ended has copied.
        if self.copying.load(Ordering::Acquire) != 0 {
            drop(self.turn.lock());
        }
    }
}

impl Turn<'_> {
    /// Marks that the reader copies the blocks that it has found in the map. The caller holds their stripes.
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
