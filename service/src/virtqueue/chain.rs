//! A buffer that a driver made available: its descriptors, copied and checked.

use super::layout::Layout;
use super::{CHAIN_MAX, QueueError};
use crate::memory::{GuestAddress, MemoryOffset, MemoryTable, Segments, SharedMemory, Span, TranslateError};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR_BYTES: u32 = 16;

/// The most descriptors that are followed to find the end of a chain that is too long to be served. 2.7 knows no larger queue,
/// and 2.7.5.3.1 no chain that is longer than its queue.
const FOLLOWED_MAX: u32 = 32768;

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
    /// It has more than [`CHAIN_MAX`] descriptors, or crosses too many boundaries in the consumer's memory.
    TooLong,
    /// A device-readable descriptor follows a device-writable one.
    ReadableAfterWritable,
    /// An indirect table that was not negotiated, in another table, or with `next`.
    IndirectNotAllowed,
    /// An indirect table's length is no number of descriptors.
    IndirectLength {
        /// The length in bytes.
        found: u32,
    },
    /// An indirect table is not in the consumer's memory.
    IndirectOutside {
        /// Where it begins.
        at: GuestAddress,
    },
    /// A descriptor's `next` is no descriptor of its indirect table.
    Next {
        /// Its number.
        found: u16,
    },
    /// The chain loops in its indirect table.
    Loop,
}

impl core::fmt::Display for ChainFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Outside { at, bytes } => write!(f, "{bytes} bytes at {at} are not the consumer's memory"),
            Self::TooLong => write!(f, "a buffer of more than {CHAIN_MAX} pieces"),
            Self::ReadableAfterWritable => f.write_str("a readable descriptor after a writable one"),
            Self::IndirectNotAllowed => f.write_str("an indirect table where there may be none"),
            Self::IndirectLength { found } => write!(f, "an indirect table of {found} bytes"),
            Self::IndirectOutside { at } => write!(f, "the indirect table at {at} is not in the consumer's memory"),
            Self::Next { found } => write!(f, "descriptor {found} of an indirect table, which has fewer"),
            Self::Loop => f.write_str("a loop in an indirect table"),
        }
    }
}

impl core::error::Error for ChainFault {}

/// The room for one buffer; it is used over and over.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    /// The bytes that the device reads, and behind them those that it writes.
    segments: Segments,
    readable_bytes: u64,
    descriptors: u32,
    last: Option<MemoryOffset>,
    fault: Option<ChainFault>,
}

/// Which table a chain is in.
#[derive(Clone, Copy)]
enum Table {
    Ring,
    Indirect { at: GuestAddress, entries: u32 },
}

impl Chain {
    /// Room for a buffer, all that it will ever need.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn with_room() -> Result<Self, alloc::collections::TryReserveError> {
        let segments = Segments::with_room()?;
        Ok(Self { head: 0, segments, readable_bytes: 0, descriptors: 0, last: None, fault: None })
    }

    /// Its first descriptor: what the used ring names.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// The bytes that the driver wrote for the device.
    #[must_use]
    pub fn readable(&self) -> Span<'_> {
        self.segments.span(0, self.readable_bytes)
    }

    /// Where the device may write.
    #[must_use]
    pub fn writable(&self) -> Span<'_> {
        self.segments.span(self.readable_bytes, u64::MAX)
    }

    /// How many descriptors were read for it.
    #[must_use]
    pub const fn descriptors(&self) -> u32 {
        self.descriptors
    }

    /// The last byte that the device may write, if the chain's end was found and it is in the consumer's memory: known
    /// even if the buffer has a fault.
    #[must_use]
    pub const fn last_writable(&self) -> Option<MemoryOffset> {
        self.last
    }

    /// Why it can't be served: the first reason. What [`Chain::readable`] and [`Chain::writable`] hold is then not all of
    /// it.
    #[must_use]
    pub const fn fault(&self) -> Option<ChainFault> {
        self.fault
    }

    /// Follows the chain from `head` on. Each descriptor is read once.
    ///
    /// # Errors
    /// The queue's own table is broken. An indirect one is the driver's buffer: what is wrong with it is this buffer's
    /// fault.
    pub(super) fn follow<M: SharedMemory + ?Sized>(
        &mut self,
        layout: &Layout,
        may_be_indirect: bool,
        memory: &M,
        memory_table: &MemoryTable,
        head: u16,
    ) -> Result<(), QueueError> {
        self.head = head;
        self.segments.clear();
        (self.readable_bytes, self.descriptors) = (0, 0);
        (self.last, self.fault) = (None, None);
        let mut table = Table::Ring;
        let mut index = head;
        let mut taken = 0;
        let mut written = false;
        // A chain that visits more descriptors than its table has visits one twice.
        let mut left = u32::from(layout.size());
        let end_found = loop {
            let mut bytes = [0; DESCRIPTOR_BYTES as usize];
            match table {
                Table::Ring if index >= layout.size() => return Err(QueueError::Next { found: index }),
                Table::Ring if left == 0 => return Err(QueueError::Loop { head }),
                Table::Ring => memory.read(layout.descriptor(index), &mut bytes)?,
                Table::Indirect { entries, .. } if u32::from(index) >= entries => {
                    self.fails(ChainFault::Next { found: index });
                    break false;
                }
                Table::Indirect { entries, .. } if left == 0 => {
                    self.fails(if entries > FOLLOWED_MAX { ChainFault::TooLong } else { ChainFault::Loop });
                    break false;
                }
                Table::Indirect { at, .. } => {
                    let entry = at.0.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES));
                    if !entry.is_some_and(|entry| memory_table.read(memory, GuestAddress(entry), &mut bytes)) {
                        self.fails(ChainFault::IndirectOutside { at });
                        break false;
                    }
                }
            }
            left -= 1;
            self.descriptors += 1;
            let descriptor = Descriptor::decode(bytes);
            if descriptor.has(INDIRECT) {
                let Some(entries) = self.enter(may_be_indirect, table, &descriptor) else { break false };
                table = Table::Indirect { at: descriptor.addr, entries };
                index = 0;
                left = entries.min(FOLLOWED_MAX);
                continue;
            }
            if written && !descriptor.has(WRITE) {
                self.fails(ChainFault::ReadableAfterWritable);
            }
            written = descriptor.has(WRITE);
            taken += 1;
            if taken > CHAIN_MAX {
                self.fails(ChainFault::TooLong);
            }
            self.take(memory_table, &descriptor);
            if !descriptor.has(NEXT) {
                break true;
            }
            index = descriptor.next;
        };
        if !end_found {
            self.last = None;
        }
        Ok(())
    }

    /// The first reason stands.
    fn fails(&mut self, why: ChainFault) {
        self.fault = self.fault.or(Some(why));
    }

    /// The length of the indirect table that a descriptor names (2.7.5.3). Its write flag is ignored, as 2.7.5.3.2 wants
    /// it. A table that may not be there is entered all the same, to find the chain's end; `None` if its length
    /// is not known.
    fn enter(&mut self, may_be_indirect: bool, table: Table, descriptor: &Descriptor) -> Option<u32> {
        let nested = matches!(table, Table::Indirect { .. });
        if nested || !may_be_indirect || descriptor.has(NEXT) {
            self.fails(ChainFault::IndirectNotAllowed);
        }
        if descriptor.len == 0 || !descriptor.len.is_multiple_of(DESCRIPTOR_BYTES) {
            self.fails(ChainFault::IndirectLength { found: descriptor.len });
        }
        (!nested).then_some(descriptor.len / DESCRIPTOR_BYTES).filter(|entries| *entries > 0)
    }

    fn take(&mut self, memory_table: &MemoryTable, descriptor: &Descriptor) {
        let &Descriptor { addr, len, .. } = descriptor;
        if self.fault.is_none() {
            match memory_table.translate(addr, len, &mut self.segments) {
                Ok(()) if descriptor.has(WRITE) => {}
                Ok(()) => self.readable_bytes = self.segments.bytes(),
                Err(TranslateError::Outside) => self.fails(ChainFault::Outside { at: addr, bytes: len }),
                Err(TranslateError::Full) => self.fails(ChainFault::TooLong),
            }
        }
        if descriptor.has(WRITE) && len > 0 {
            let last = addr.0.checked_add(u64::from(len) - 1);
            self.last = last.and_then(|last| memory_table.byte(GuestAddress(last)));
        }
    }
}
