//! Refuses the requests in a queue that the appliance does not serve, with an I/O error. The consumer's file systems and
//! RAIDs then go on, where a silent disk would hang them for good (Linux's `virtio_blk` never gives up).
//!
//! The queue is `service`'s, as strict as the appliance's own: a request needs nothing but its last byte, the status.

use std::fmt;

use service::backend::BackendError;
use service::blk::{self, Features, RequestError};
use service::control::MemoryRegion;
use service::memory::{MemoryOffset, MemoryTable, SharedMemory, TableError};
use service::virtqueue::{Chain, Layout, LayoutError, Queue, QueueError};

use super::ram::RamFile;
use super::state::Rings;

/// Why a queue is not answered in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefuseError {
    /// It cannot be a queue.
    Layout(LayoutError),
    /// The driver broke it.
    Queue(QueueError),
    /// The consumer's memory has a piece that no appliance takes.
    Table(TableError),
    /// There is no memory for a request.
    OutOfMemory,
}

impl fmt::Display for RefuseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(why) => why.fmt(f),
            Self::Queue(why) => why.fmt(f),
            Self::Table(why) => why.fmt(f),
            Self::OutOfMemory => f.write_str("there is no memory for a request"),
        }
    }
}

impl std::error::Error for RefuseError {}

impl From<QueueError> for RefuseError {
    fn from(why: QueueError) -> Self {
        Self::Queue(why)
    }
}

/// used.idx, as it stands in the ring: all before it is answered.
pub(super) fn used_index(ram: &RamFile, rings: Rings) -> u16 {
    ram.load_u16(MemoryOffset(rings.used).plus(2)).unwrap_or(0)
}

/// Refuses every request that waits in a queue of `size` entries with an I/O error, from where the used ring ends, and
/// asks the driver to kick for the next one. Returns how many it were.
///
/// # Errors
/// [`RefuseError`], with all before it answered.
pub(super) fn refuse_all(
    ram: &RamFile,
    regions: &[MemoryRegion],
    features: u64,
    rings: Rings,
    size: u16,
) -> Result<usize, RefuseError> {
    let [desc, avail, used] = [rings.desc, rings.avail, rings.used].map(MemoryOffset);
    let layout = Layout::new(size, desc, avail, used, ram.file_bytes()).map_err(RefuseError::Layout)?;
    let table = MemoryTable::new(regions, ram.file_bytes()).map_err(RefuseError::Table)?;
    let [event_idx, indirect] =
        [Features::EVENT_IDX, Features::INDIRECT_DESC].map(|feature| features & feature.bits() != 0);
    let mut chain = Chain::with_room().map_err(|_| RefuseError::OutOfMemory)?;
    let mut queue = Queue::start(layout, event_idx, indirect, ram).map_err(QueueError::from)?;
    let mut refused = 0;
    // A driver that adds requests as fast as they fail is served again at its next kick.
    for _ in 0..2 {
        while refused < usize::from(size) * 2 && queue.take(0, ram, &table, &mut chain)? {
            // One without a place for its status is given back all the same, or the queue would stall.
            let served = blk::refuse(&chain, ram, None, RequestError::Backend(BackendError::Media));
            queue.give(ram, chain.head(), served.written)?;
            refused += 1;
        }
        // "Kick me": the last server of the queue may have asked for no kicks.
        if queue.rest(ram)? {
            break;
        }
    }
    Ok(refused)
}
