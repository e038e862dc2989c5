//! Device side of split virtqueues (VirtIO 1.3, section 2.7): small, strict, and without trust in the driver.
//!
//! # Invariants
//! 1. Every byte that the driver wrote is copied once into private memory, and only the copy is looked at.
//! 2. Every access lies in the shared memory, whatever the driver wrote; every loop is bounded by the queue's size, by an
//!    indirect table's, or by the largest queue that the specification knows.
//! 3. Buffers are used in the order in which they were made available, one at a time. So the index of the available
//!    ring that is taken next *is* used.idx, and a device that was killed goes on at the used.idx that stands in the ring.
//! 4. A driver whose rings or descriptor table are broken gets a [`QueueError`], after which the queue does nothing until
//!    it is started anew. Anything else is a [`ChainFault`] of that buffer, which is returned and does not hold up the
//!    next one.
//!
//! | class of fault | ends in |
//! |---|---|
//! | avail.idx more than the queue's size ahead, a head that is no descriptor | the queue's error |
//! | in the queue's own table: a loop, a `next` that is no descriptor | the queue's error |
//! | a chain longer than [`CHAIN_MAX`], readable after writable | that buffer's fault |
//! | indirect tables nested, chained, empty, of odd length, not negotiated, not in memory | that buffer's fault |
//! | in an indirect table: a loop, a `next` that is no descriptor | that buffer's fault |
//! | a buffer that wraps, or is not wholly in the consumer's memory | that buffer's fault |

mod chain;
mod layout;
mod queue;

use core::fmt;

pub use chain::{Chain, ChainFault};
pub use layout::{Layout, LayoutError, QUEUE_SIZE_MAX};
pub use queue::Queue;

use crate::memory::OutsideMemory;

/// The most descriptors in a chain that is served, those in an indirect table included. VirtIO 1.3, 2.7.4.1: "The device
/// MAY have a reasonable limit of descriptors it will allow in a chain." Drivers rely on QEMU's, which is this one: some
/// send more than the queue has entries, and more than `seg_max` (docs/export.md).
pub const CHAIN_MAX: usize = 1024;

/// How a driver broke its queue. The device needs a reset; nothing more is taken from the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueError {
    /// avail.idx is more than the queue's size ahead.
    AvailableIndex {
        /// What it is.
        found: u16,
        /// The next index to take.
        next: u16,
    },
    /// The available ring names a descriptor that does not exist.
    Head {
        /// Its number.
        found: u16,
    },
    /// A descriptor's `next` is no descriptor of the queue's table.
    Next {
        /// Its number.
        found: u16,
    },
    /// A chain loops in the queue's table.
    Loop {
        /// Its first descriptor.
        head: u16,
    },
    /// The rings are not in the shared memory any more.
    Memory(OutsideMemory),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AvailableIndex { found, next } => {
                write!(f, "the available index jumped to {found}, {next} is next")
            }
            Self::Head { found } => write!(f, "the available ring names descriptor {found}, there is none"),
            Self::Next { found } => write!(f, "a descriptor is followed by {found}, there is none"),
            Self::Loop { head } => write!(f, "the chain at {head} loops"),
            Self::Memory(outside) => outside.fmt(f),
        }
    }
}

impl core::error::Error for QueueError {}

impl From<OutsideMemory> for QueueError {
    fn from(outside: OutsideMemory) -> Self {
        Self::Memory(outside)
    }
}
