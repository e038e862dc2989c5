//! A split queue (virtio 1.2, 2.7), in a page that the device reads and writes, too.
//!
//! | bytes | written by | what |
//! |---|---|---|
//! | 0 | us | descriptor table: what the queue's user describes |
//! | 2048 | us | available ring: flags, idx, the first descriptor of the chain in each place |
//! | 2560 | the device | used ring: flags, idx, places of an id and a length |
//! | [`OWN`] | both | the user's own |
//!
//! A chain is the device's from [`Queue::offer`] on until [`Queue::take`] returns it. Only such a chain can be taken: what
//! else the device writes to the used ring is [`Misuse`].

use core::sync::atomic::{Ordering, fence};

use service::memory::MemoryOffset;

use super::registers::{Registers, Width};
use super::structure::Structure;
use crate::dma::{DMA_PAGE_BYTES, DmaPage};
use crate::phys::PhysAddr;

/// The most descriptors, and places, of a queue.
pub(super) const SIZE_MAX: u16 = 128;

const DESCRIPTORS: MemoryOffset = MemoryOffset(0);
const AVAILABLE: MemoryOffset = MemoryOffset(2048);
const USED: MemoryOffset = MemoryOffset(2560);

/// Where the part of the page begins that the queue leaves to its user.
pub(super) const OWN: MemoryOffset = MemoryOffset(3648);

const _: () = assert!(16 * SIZE_MAX as u64 <= AVAILABLE.0 && AVAILABLE.0 + 6 + 2 * SIZE_MAX as u64 <= USED.0);
const _: () = assert!(USED.0 + 6 + 8 * SIZE_MAX as u64 <= OWN.0);

/// A descriptor's flags (2.7.5): another follows, which is named; the device writes it.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// The available ring's flag (2.7.6): the device need not interrupt.
const NO_INTERRUPT: u16 = 1;

/// The used ring's flag (2.7.8): the driver need not notify.
const NO_NOTIFY: u16 = 1;

/// What a descriptor describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// Where it is.
    pub(super) at: PhysAddr,
    /// Its length.
    pub(super) bytes: u32,
    /// Whether the device writes it, or reads it.
    pub(super) device_writes: bool,
}

/// A chain that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    /// Its first descriptor.
    pub(super) head: u16,
    /// How many bytes the device says that it wrote. Nothing about it has been checked.
    pub(super) bytes: u32,
}

/// The device used what it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misuse;

/// A queue that the device has.
#[derive(Debug)]
pub(super) struct Queue {
    page: DmaPage,
    number: u16,
    size: u16,
    /// Where in the notify structure it is rung.
    notify_at: u32,
    /// The number of chains that were offered, modulo 2^16.
    available: u16,
    /// The number of those that the device was shown.
    shown: u16,
    /// The number of those that were taken back.
    used: u16,
    /// The chains that the device has, a bit for each first descriptor.
    given: u128,
}

impl Queue {
    /// A queue with nothing in it. `size` is a power of two, at most [`SIZE_MAX`].
    pub(super) fn new(page: DmaPage, number: u16, size: u16, notify_at: u32) -> Self {
        assert!(size.is_power_of_two() && size <= SIZE_MAX, "it fits the page");
        page.write(MemoryOffset(0), &[0; DMA_PAGE_BYTES as usize]);
        page.store(AVAILABLE, NO_INTERRUPT);
        Self { page, number, size, notify_at, available: 0, shown: 0, used: 0, given: 0 }
    }

    /// Returns its page, when the device does not use it any more.
    pub(super) fn into_page(self) -> DmaPage {
        self.page
    }

    /// Returns how many descriptors it has.
    pub(super) const fn size(&self) -> u16 {
        self.size
    }

    /// Returns where descriptor table, available ring and used ring lie.
    pub(super) fn addresses(&self) -> [PhysAddr; 3] {
        [DESCRIPTORS, AVAILABLE, USED].map(|place| self.page.physical(place))
    }

    /// Returns the page, of which the part from [`OWN`] on is the caller's.
    pub(super) const fn page(&self) -> &DmaPage {
        &self.page
    }

    /// Writes a descriptor of a chain that the device does not have.
    pub(super) fn describe(&self, descriptor: u16, piece: Piece, next: Option<u16>) {
        assert!(descriptor < self.size && next.is_none_or(|next| next < self.size), "it is in the table");
        let mut bytes = [0; 16];
        let flags = (u16::from(piece.device_writes) * WRITE) | (u16::from(next.is_some()) * NEXT);
        bytes[..8].copy_from_slice(&piece.at.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&piece.bytes.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.unwrap_or(0).to_le_bytes());
        self.page.write(DESCRIPTORS.plus(16 * u64::from(descriptor)), &bytes);
    }

    /// Gives the device a chain that it does not have. It sees it after [`Queue::publish`].
    pub(super) fn offer(&mut self, head: u16) {
        assert!(head < self.size && self.given & (1 << head) == 0, "it is in the table, and ours");
        self.given |= 1 << head;
        // At most as many chains as descriptors, so the place is free.
        let place = u64::from(self.available % self.size);
        self.page.store(AVAILABLE.plus(4 + 2 * place), head);
        self.available = self.available.wrapping_add(1);
    }

    /// Shows the device what was offered, and notifies it if it wants that.
    pub(super) fn publish(&mut self, registers: &impl Registers) {
        if self.shown == self.available {
            return;
        }
        self.shown = self.available;
        // A release store: the device that reads it sees the chains.
        self.page.store(AVAILABLE.plus(2), self.available);
        // Before the flag is read, so that either the device sees the chains or this sees that it wants to be notified
        // (2.7.13.4.1); and before the notification, whatever the register's memory type is.
        fence(Ordering::SeqCst);
        if self.page.load(USED) & NO_NOTIFY == 0 {
            registers.write(Structure::Notify, self.notify_at, Width::Word, self.number.into());
        }
    }

    /// Returns whether the device has used a chain that was not taken.
    pub(super) fn has_used(&self) -> bool {
        self.page.load(USED.plus(2)) != self.used
    }

    /// Takes back a chain that the device has used, if there is one.
    ///
    /// # Errors
    /// [`Misuse`].
    pub(super) fn take(&mut self) -> Result<Option<Used>, Misuse> {
        // An acquire load: what the device wrote before it is visible behind it.
        let used = self.page.load(USED.plus(2));
        let waiting = used.wrapping_sub(self.used);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.shown.wrapping_sub(self.used) {
            return Err(Misuse);
        }
        let place = USED.plus(4 + 8 * u64::from(self.used % self.size));
        let head = u16::try_from(self.page.double(place)).map_err(|_| Misuse)?;
        if head >= self.size || self.given & (1 << head) == 0 {
            return Err(Misuse);
        }
        self.given &= !(1 << head);
        self.used = self.used.wrapping_add(1);
        Ok(Some(Used { head, bytes: self.page.double(place.plus(4)) }))
    }

    /// Asks the device for an interrupt when it uses a chain, or for none. Returns whether there is a used one already.
    pub(super) fn want_interrupt(&self, wanted: bool) -> bool {
        self.page.store(AVAILABLE, if wanted { 0 } else { NO_INTERRUPT });
        // Before the used ring is read: either the device sees the flag or this sees the chain (2.7.14).
        fence(Ordering::SeqCst);
        self.has_used()
    }
}
