//! A buffer that a driver made available: its descriptors, copied and checked.

use super::queue::Queue;
use super::{CHAIN_MAX, QueueError};
use crate::memory::{GuestAddress, MemoryOffset, MemoryTable, Segments, SharedMemory};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR_BYTES: u32 = 16;

/// A descriptor, as it was at one moment (2.7.5).
struct Descriptor {
    addr: GuestAddress,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn decode(bytes: [u8; DESCRIPTOR_BYTES as usize]) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
        Self {
            addr: GuestAddress(u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7])),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u16::from_le_bytes([f0, f1]),
            next: u16::from_le_bytes([n0, n1]),
        }
    }

    const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Which table a chain is in.
#[derive(Clone, Copy)]
enum Table {
    Ring,
    Indirect { at: GuestAddress, entries: u32 },
}

/// Why a buffer can't be served. Its request fails; the queue goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainFault {
    /// A descriptor names bytes that are not the consumer's memory.
    Outside {
        /// Where they begin.
        at: GuestAddress,
        /// How many there are.
        bytes: u32,
    },
}

impl core::fmt::Display for ChainFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Outside { at, bytes } => write!(f, "{bytes} bytes at {at} are not the consumer's memory"),
        }
    }
}

impl core::error::Error for ChainFault {}

/// The room for one buffer; it is used over and over.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    readable: Segments,
    writable: Segments,
    last: Option<MemoryOffset>,
    fault: Option<ChainFault>,
}

impl Chain {
    /// Room for a buffer, all that it will ever need.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn with_room() -> Result<Self, alloc::collections::TryReserveError> {
        let (readable, writable) = (Segments::with_room()?, Segments::with_room()?);
        Ok(Self { head: 0, readable, writable, last: None, fault: None })
    }

    /// Its first descriptor: what the used ring names.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// What the driver wrote for the device.
    #[must_use]
    pub const fn readable(&self) -> &Segments {
        &self.readable
    }

    /// Where the device may write.
    #[must_use]
    pub const fn writable(&self) -> &Segments {
        &self.writable
    }

    /// The last byte that the device may write, if it is in the consumer's memory: known even if the buffer has a
    /// fault elsewhere.
    #[must_use]
    pub const fn last_writable(&self) -> Option<MemoryOffset> {
        self.last
    }

    /// Why it can't be served. What [`Chain::readable`] and [`Chain::writable`] hold is then not all of it.
    #[must_use]
    pub const fn fault(&self) -> Option<ChainFault> {
        self.fault
    }

    /// Follows the chain from `head` on. Each descriptor is read once.
    pub(super) fn follow<M: SharedMemory + ?Sized>(
        &mut self,
        queue: &Queue,
        memory: &M,
        memory_table: &MemoryTable,
        head: u16,
    ) -> Result<(), QueueError> {
        self.head = head;
        self.readable.clear();
        self.writable.clear();
        self.last = None;
        self.fault = None;
        let mut table = Table::Ring;
        let mut index = head;
        let mut written = false;
        // Indirect descriptors and the one that names their table count, too: a loop ends here.
        for _ in 0..CHAIN_MAX {
            let mut bytes = [0; DESCRIPTOR_BYTES as usize];
            match table {
                Table::Ring if index < queue.layout().size() => {
                    memory.read(queue.layout().descriptor(index), &mut bytes)?;
                }
                Table::Indirect { at, entries } if u32::from(index) < entries => {
                    let at = at.0.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES));
                    if !at.is_some_and(|at| memory_table.read(memory, GuestAddress(at), &mut bytes)) {
                        return Err(QueueError::IndirectOutside { head });
                    }
                }
                _ => return Err(QueueError::Next { found: index }),
            }
            let descriptor = Descriptor::decode(bytes);
            if descriptor.has(INDIRECT) {
                table = self.enter(queue, table, &descriptor)?;
                index = 0;
                continue;
            }
            if written && !descriptor.has(WRITE) {
                return Err(QueueError::ReadableAfterWritable { head });
            }
            written = descriptor.has(WRITE);
            self.take(memory_table, &descriptor);
            if !descriptor.has(NEXT) {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(QueueError::ChainTooLong { head })
    }

    /// The indirect table that a descriptor names (2.7.5.3). Its write flag is ignored, as 2.7.5.3.2 wants it.
    fn enter(&self, queue: &Queue, table: Table, descriptor: &Descriptor) -> Result<Table, QueueError> {
        if !queue.indirect() || descriptor.has(NEXT) || matches!(table, Table::Indirect { .. }) {
            return Err(QueueError::IndirectNotAllowed { head: self.head });
        }
        if descriptor.len == 0 || !descriptor.len.is_multiple_of(DESCRIPTOR_BYTES) {
            return Err(QueueError::IndirectLength { found: descriptor.len });
        }
        Ok(Table::Indirect { at: descriptor.addr, entries: descriptor.len / DESCRIPTOR_BYTES })
    }

    fn take(&mut self, memory_table: &MemoryTable, descriptor: &Descriptor) {
        let &Descriptor { addr, len, .. } = descriptor;
        let into = if descriptor.has(WRITE) { &mut self.writable } else { &mut self.readable };
        if !memory_table.translate(addr, len, into) {
            self.fault = self.fault.or(Some(ChainFault::Outside { at: addr, bytes: len }));
        }
        if descriptor.has(WRITE) && len > 0 {
            let last = addr.0.checked_add(u64::from(len) - 1);
            self.last = last.and_then(|last| memory_table.byte(GuestAddress(last)));
        }
    }
}
