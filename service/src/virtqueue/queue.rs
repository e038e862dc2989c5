//! The queue: take from the available ring, give to the used ring, notify no more than is wanted.

use core::sync::atomic::{Ordering, fence};

use super::{Chain, Layout, QueueError};
use crate::memory::{MemoryTable, OutsideMemory, SharedMemory};

const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// A queue that is being served.
#[derive(Debug)]
pub struct Queue {
    layout: Layout,
    event_idx: bool,
    indirect: bool,
    /// The next entry of both rings: to take from the available one, to write in the used one.
    next: u16,
    /// avail.idx when it was last read.
    avail: u16,
    /// used.idx when it was last decided whether to call the driver; `None` if that is not known.
    called: Option<u16>,
    /// The driver kicks at its next buffer.
    resting: bool,
}

impl Queue {
    /// Continues at the used ring's index, where the last device stopped, and asks the driver for no kicks for now.
    ///
    /// # Errors
    /// The rings are not in the memory.
    pub fn start<M: SharedMemory + ?Sized>(
        layout: Layout,
        event_idx: bool,
        indirect: bool,
        memory: &M,
    ) -> Result<Self, OutsideMemory> {
        let next = memory.load_u16(layout.used_idx())?;
        let mut queue = Self { layout, event_idx, indirect, next, avail: next, called: None, resting: true };
        queue.quiet(memory)?;
        Ok(queue)
    }

    /// Where it is.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// used.idx, and the index in the available ring to take next: where another device would go on.
    #[must_use]
    pub const fn base(&self) -> u16 {
        self.next
    }

    /// Takes the buffer that is `ahead` after the next one into `chain`, if there is one. [`Queue::give`] gives the next one
    /// back, whichever were taken.
    ///
    /// # Errors
    /// The driver broke the queue.
    pub fn take<M: SharedMemory + ?Sized>(
        &mut self,
        ahead: u16,
        memory: &M,
        table: &MemoryTable,
        chain: &mut Chain,
    ) -> Result<bool, QueueError> {
        if self.avail.wrapping_sub(self.next) <= ahead {
            self.look(memory)?;
        }
        if self.avail.wrapping_sub(self.next) <= ahead {
            return Ok(false);
        }
        self.quiet(memory)?;
        let head = memory.load_u16(self.layout.avail_ring(self.next.wrapping_add(ahead)))?;
        if head >= self.layout.size() {
            return Err(QueueError::Head { found: head });
        }
        chain.follow(&self.layout, self.indirect, memory, table, head)?;
        Ok(true)
    }

    /// Reads avail.idx. It acquires: the entries and descriptors up to it are then as the driver published them.
    fn look<M: SharedMemory + ?Sized>(&mut self, memory: &M) -> Result<(), QueueError> {
        let found = memory.load_u16(self.layout.avail_idx())?;
        if found.wrapping_sub(self.next) > self.layout.size() {
            return Err(QueueError::AvailableIndex { found, next: self.next });
        }
        self.avail = found;
        Ok(())
    }

    /// Gives the buffer at `head` back, `written` bytes of it written. Everything stored before is there for the driver
    /// when it sees used.idx.
    ///
    /// # Errors
    /// The rings are not in the memory.
    pub fn give<M: SharedMemory + ?Sized>(&mut self, memory: &M, head: u16, written: u32) -> Result<(), QueueError> {
        let mut element = [0; 8];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        memory.write(self.layout.used_ring(self.next), &element)?;
        let next = self.next.wrapping_add(1);
        // 2.7.8.2: "The device MUST set len prior to updating the used idx." The store releases.
        memory.store_u16(self.layout.used_idx(), next)?;
        self.next = next;
        Ok(())
    }

    /// Whether the driver wants to be called for what was given back since this was last asked. After a start it
    /// is not known what the driver was called for: then it does.
    ///
    /// # Errors
    /// The rings are not in the memory.
    pub fn wants_call<M: SharedMemory + ?Sized>(&mut self, memory: &M) -> Result<bool, QueueError> {
        if self.called == Some(self.next) {
            return Ok(false);
        }
        // Pairs with the driver's barrier between asking for a call and looking at used.idx again: either it sees the
        // new index, or we see that it asked.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = memory.load_u16(self.layout.used_event())?;
            self.called.is_none_or(|called| passed(event, called, self.next))
        } else {
            memory.load_u16(self.layout.avail_flags())? & NO_INTERRUPT == 0
        };
        self.called = Some(self.next);
        Ok(wanted)
    }

    /// Asks the driver for a kick at its next buffer. Returns false if there is one already: then go on serving.
    ///
    /// # Errors
    /// The driver broke the queue.
    pub fn rest<M: SharedMemory + ?Sized>(&mut self, memory: &M) -> Result<bool, QueueError> {
        self.ask(memory)?;
        // Pairs with the driver's barrier between publishing avail.idx and looking whether to kick: either it sees that
        // we asked, or we see its buffer.
        fence(Ordering::SeqCst);
        self.look(memory)?;
        Ok(self.avail == self.next)
    }

    fn ask<M: SharedMemory + ?Sized>(&mut self, memory: &M) -> Result<(), OutsideMemory> {
        self.resting = true;
        if self.event_idx {
            memory.store_u16(self.layout.avail_event(), self.next)
        } else {
            memory.store_u16(self.layout.used_flags(), 0)
        }
    }

    /// Asks for no kicks while we look at the ring anyway. With event indices there is nothing to do: the one that
    /// stands there is behind.
    fn quiet<M: SharedMemory + ?Sized>(&mut self, memory: &M) -> Result<(), OutsideMemory> {
        if self.resting {
            memory.store_u16(self.layout.used_flags(), if self.event_idx { 0 } else { NO_NOTIFY })?;
            self.resting = false;
        }
        Ok(())
    }

    /// Leaves the queue to the next device: the driver kicks at its next buffer. Returns where to go on.
    ///
    /// # Errors
    /// The rings are not in the memory.
    pub fn stop<M: SharedMemory + ?Sized>(mut self, memory: &M) -> Result<u16, QueueError> {
        self.ask(memory)?;
        Ok(self.next)
    }
}

/// Whether an index that went from `old` to `new` passed `event` (2.7.7.2: "if the idx field ... was equal to
/// used_event").
const fn passed(event: u16, old: u16, new: u16) -> bool {
    event.wrapping_sub(old) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::passed;
    use proptest::prelude::*;

    proptest! {
        /// VirtIO 1.3, 2.7.7.2: "If the idx field in the used ring (which determined where that descriptor index was
        /// placed) was equal to used_event, the device MUST send a notification. Otherwise the device SHOULD NOT."
        #[test]
        fn a_call_is_wanted_if_an_element_was_placed_at_the_event(event: u16, old: u16, given in 0_u16..1024) {
            let placed = (0..given).any(|one| old.wrapping_add(one) == event);
            prop_assert_eq!(passed(event, old, old.wrapping_add(given)), placed);
        }
    }
}
