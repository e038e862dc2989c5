//! Answers requests in a queue that nobody serves: with an I/O error, so that the consumer's file systems and RAIDs go
//! on where a disk that is silent would hang them for good (Linux's `virtio_blk` never gives up).
//!
//! A split virtqueue needs little for that (VIRTIO 1.2, 2.7): each chain's last byte is the request's status. All that
//! the driver wrote is read once, and is only ever an offset that is checked against the memory table. What cannot be
//! a queue is an error, and nothing more is touched.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

use super::memory_table::MemoryTable;
use super::ram::RamFile;
use super::state::Rings;

/// `VIRTIO_BLK_S_IOERR`.
const IO_ERROR: u8 = 1;

const DESC_BYTES: u64 = 16;
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;

/// `VIRTIO_F_EVENT_IDX`.
const EVENT_IDX: u64 = 1 << 29;

/// What a driver did to its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueError {
    /// More requests than the queue has room for.
    AvailIndex {
        /// The available index that was found.
        found: u16,
        /// Where we are.
        next: u16,
    },
    /// A chain starts at a descriptor that does not exist.
    Head(u16),
    /// The rings are not in memory, or not aligned.
    Rings,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AvailIndex { found, next } => write!(f, "the available index jumped from {next} to {found}"),
            Self::Head(head) => write!(f, "descriptor {head} is past the table"),
            Self::Rings => f.write_str("its rings are not in the consumer's memory"),
        }
    }
}

impl std::error::Error for QueueError {}

/// used.idx, as it stands in the ring: all before it is answered.
pub(super) fn used_index(ram: &RamFile, rings: Rings) -> u16 {
    ram.load16(rings.used + 2).unwrap_or(0)
}

/// Answers every request that waits in a queue of `size` entries with an I/O error, and asks the driver to kick for the
/// next one. Goes on at `base`, or else where the used ring ends. Returns how many it were.
///
/// # Errors
/// [`QueueError`], with all before it answered.
pub(super) fn refuse_all(
    ram: &RamFile,
    table: &MemoryTable,
    features: u64,
    rings: Rings,
    size: u16,
    base: Option<u16>,
) -> Result<usize, QueueError> {
    let slots = u64::from(size);
    let mut refused = 0;
    let mut used = ram.load16(rings.used + 2).ok_or(QueueError::Rings)?;
    let mut next = base.unwrap_or(used);
    // A driver that adds requests as fast as they fail is served again at its next kick.
    for _ in 0..2 {
        let avail = ram.load16(rings.avail + 2).ok_or(QueueError::Rings)?;
        if avail.wrapping_sub(next) > size {
            return Err(QueueError::AvailIndex { found: avail, next });
        }
        fence(Ordering::Acquire); // pairs with the driver's, between its ring entry and the index
        while next != avail {
            let at = rings.avail + 4 + 2 * (u64::from(next) % slots);
            let head = ram.load16(at).ok_or(QueueError::Rings)?;
            if head >= size {
                return Err(QueueError::Head(head));
            }
            // A chain without a place for its status is given back all the same, or the queue would stall.
            let written = match status_place(ram, table, rings.desc, size, head) {
                Some(place) if ram.store8(place, IO_ERROR) => 1,
                _ => 0,
            };
            let element = rings.used + 4 + 8 * (u64::from(used) % slots);
            if !(ram.store32(element, head.into()) && ram.store32(element + 4, written)) {
                return Err(QueueError::Rings);
            }
            used = used.wrapping_add(1);
            next = next.wrapping_add(1);
            fence(Ordering::Release); // the driver sees the index only after the status and the element
            ram.store16(rings.used + 2, used);
            refused += 1;
        }
        // "Kick me": whoever served the queue before may have said otherwise.
        ram.store16(rings.used, 0);
        if features & EVENT_IDX != 0 {
            ram.store16(rings.used + 4 + 8 * slots, next);
        }
        fence(Ordering::SeqCst); // pairs with the driver's between index and event: it kicks, or we see its request
    }
    Ok(refused)
}

/// Where the status byte of the chain at `head` is: the last byte of its last descriptor, if that one is ours to write.
fn status_place(ram: &RamFile, table: &MemoryTable, desc: u64, size: u16, head: u16) -> Option<u64> {
    let (mut at, mut count, mut index) = (desc, u64::from(size), u64::from(head));
    let mut indirect = false;
    // A chain has at most as many descriptors as its table, and one more that names an indirect table.
    let mut left = u64::from(size) + 1;
    loop {
        left = left.checked_sub(1)?;
        let place = at + DESC_BYTES * index;
        let address = u64::from(ram.load32(place)?) | u64::from(ram.load32(place + 4)?) << 32;
        let length = u64::from(ram.load32(place + 8)?);
        let (flags, next) = (ram.load16(place + 12)?, ram.load16(place + 14)?);
        if flags & DESC_INDIRECT != 0 {
            if indirect || flags & DESC_NEXT != 0 || !length.is_multiple_of(DESC_BYTES) {
                return None;
            }
            (at, count, index, indirect) = (table.offset_of_guest(address, length)?, length / DESC_BYTES, 0, true);
            left = count.min(u64::from(size));
        } else if flags & DESC_NEXT != 0 {
            index = Some(u64::from(next)).filter(|next| *next < count)?;
        } else {
            let last = length.checked_sub(1).filter(|_| flags & DESC_WRITE != 0)?;
            return table.offset_of_guest(address, length).map(|offset| offset + last);
        }
        if index >= count {
            return None;
        }
    }
}
