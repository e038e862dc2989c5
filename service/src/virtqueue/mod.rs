//! Device side of split virtqueues (VirtIO 1.3, section 2.7): small, strict, and without trust in the driver.
//!
//! # Invariants
//! 1. Every byte that the driver wrote is copied once into private memory, and only the copy is looked at.
//! 2. Every access lies in the shared memory, whatever the driver wrote; every loop is bounded by [`CHAIN_MAX`] or the
//!    queue's size.
//! 3. Buffers are used in the order in which they were made available, one at a time. So the index of the available
//!    ring that is taken next *is* used.idx, and a device that was killed goes on at the used.idx that stands in the ring.
//! 4. What a driver does wrong ends in a [`QueueError`], after which the queue does nothing until it is started anew, or
//!    in a [`ChainFault`] of that buffer, which is returned and does not hold up the next one.
//!
//! | class of fault | ends in |
//! |---|---|
//! | avail.idx more than the queue's size ahead, a head or `next` that is no descriptor | the queue's error |
//! | a loop, a chain longer than [`CHAIN_MAX`], readable after writable | the queue's error |
//! | indirect tables nested, chained, empty, of odd length, not negotiated, not in memory | the queue's error |
//! | a buffer that wraps, or is not wholly in the consumer's memory | that buffer's fault |

mod chain;
mod layout;
mod queue;

use core::fmt;

pub use chain::{Chain, ChainFault};
pub use layout::{Layout, LayoutError, QUEUE_SIZE_MAX};
pub use queue::Queue;

use crate::memory::OutsideMemory;

/// The most descriptors in a chain, indirect ones included. VirtIO 1.3, 2.7.4.1: "The device MAY have a reasonable limit
/// of descriptors it will allow in a chain."
pub const CHAIN_MAX: usize = 256;

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
    /// The available ring names a descriptor that is none.
    Head {
        /// Its number.
        found: u16,
    },
    /// A descriptor's `next` is none of its table.
    Next {
        /// Its number.
        found: u16,
    },
    /// A chain loops or has more than [`CHAIN_MAX`] descriptors.
    ChainTooLong {
        /// Its first descriptor.
        head: u16,
    },
    /// A device-readable descriptor follows a device-writable one.
    ReadableAfterWritable {
        /// The first descriptor of the chain.
        head: u16,
    },
    /// An indirect table that was not negotiated, in another table, or with `next`.
    IndirectNotAllowed {
        /// The first descriptor of the chain.
        head: u16,
    },
    /// An indirect table's length is no number of descriptors.
    IndirectLength {
        /// The length in bytes.
        found: u32,
    },
    /// An indirect table is not in the consumer's memory.
    IndirectOutside {
        /// The first descriptor of the chain.
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
            Self::ChainTooLong { head } => write!(f, "the chain at {head} loops or is longer than {CHAIN_MAX}"),
            Self::ReadableAfterWritable { head } => {
                write!(f, "the chain at {head} has a readable descriptor after a writable one")
            }
            Self::IndirectNotAllowed { head } => {
                write!(f, "the chain at {head} has an indirect table where there may be none")
            }
            Self::IndirectLength { found } => write!(f, "an indirect table has {found} bytes"),
            Self::IndirectOutside { head } => {
                write!(f, "the chain at {head} has an indirect table that is not in memory")
            }
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
