//! A split queue that has one request at a time (virtio 1.2, 2.7), in a page that the device reads and writes, too.
//!
//! | bytes | written by | what |
//! |---|---|---|
//! | 0 | us | descriptor table: 0 is the request, 1 the answer |
//! | 128 | us | available ring: flags, idx, the number of the descriptor in each place |
//! | 256 | the device | used ring: flags, idx, places of an id and a length |
//! | 512 | us | the request: 4 bytes |
//! | 576 | the device | its answer: 4 bytes |

use core::sync::atomic::{Ordering, fence};

use btt::media::FenceFault;
use service::memory::{MemoryOffset, SharedMemory as _};

use super::registers::{Registers, Width};
use super::structure::Structure;
use crate::phys::PhysAddr;
use crate::shared::SharedWindow;

/// The most places of a queue that are used. One request needs two descriptors.
pub(super) const SIZE_MAX: u16 = 8;

const DESCRIPTORS: MemoryOffset = MemoryOffset(0);
const AVAILABLE: MemoryOffset = MemoryOffset(128);
const USED: MemoryOffset = MemoryOffset(256);
const REQUEST: MemoryOffset = MemoryOffset(512);
const ANSWER: MemoryOffset = MemoryOffset(576);

/// The bytes of the page that this layout takes.
const LAYOUT_BYTES: usize = 640;

/// A descriptor's flags (2.7.5): another follows, which is named; the device writes it.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// The available ring's flag (2.7.6): the device need not interrupt.
const NO_INTERRUPT: u16 = 1;

/// What stands in the answer before the device writes it. No answer of theirs, and none that counts as success.
const NO_ANSWER: u32 = u32::MAX;

/// A page of RAM that the device reads and writes, for good: a device that was given up may write late.
#[derive(Debug)]
pub struct QueuePage {
    memory: SharedWindow,
    at: PhysAddr,
}

impl QueuePage {
    /// The page that `memory` shows, which lies at physical `at`, and which nothing else uses from now on.
    ///
    /// # Panics
    /// If it is shorter than the layout, or `at` is no page's address.
    #[must_use]
    pub fn new(memory: SharedWindow, at: PhysAddr) -> Self {
        assert!(memory.len_bytes() >= LAYOUT_BYTES as u64 && at.0.is_multiple_of(4096), "a queue's memory is a page");
        Self { memory, at }
    }

    fn write(&self, at: MemoryOffset, bytes: &[u8]) {
        self.memory.write(at, bytes).expect("in the page");
    }

    fn store(&self, at: MemoryOffset, value: u16) {
        self.memory.store_u16(at, value).expect("in the page, and aligned");
    }

    fn double(&self, at: MemoryOffset) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(at, &mut bytes).expect("in the page");
        u32::from_le_bytes(bytes)
    }
}

/// A queue that the device has.
#[derive(Debug)]
pub(super) struct Queue {
    page: QueuePage,
    size: u16,
    /// Where in the notify structure it is rung.
    notify_at: u32,
    /// The number of requests that were made available, modulo 2^16.
    available: u16,
}

impl Queue {
    /// A queue with nothing in it.
    pub(super) fn new(page: QueuePage, size: u16, notify_at: u32) -> Self {
        page.write(MemoryOffset(0), &[0; LAYOUT_BYTES]);
        let address = |place: MemoryOffset| (page.at.0 + place.0).to_le_bytes();
        let descriptor = |number: u64, place: MemoryOffset, flags: u16, next: u16| {
            let at = DESCRIPTORS.plus(16 * number);
            page.write(at, &address(place));
            page.write(at.plus(8), &4_u32.to_le_bytes());
            page.write(at.plus(12), &flags.to_le_bytes());
            page.write(at.plus(14), &next.to_le_bytes());
        };
        descriptor(0, REQUEST, NEXT, 1);
        descriptor(1, ANSWER, WRITE, 0);
        page.store(AVAILABLE, NO_INTERRUPT);
        Self { page, size, notify_at, available: 0 }
    }

    /// Returns where descriptor table, available ring and used ring lie.
    pub(super) fn addresses(&self) -> [PhysAddr; 3] {
        [DESCRIPTORS, AVAILABLE, USED].map(|place| PhysAddr(self.page.at.0 + place.0))
    }

    /// Makes a request available. The one before has been answered.
    pub(super) fn submit(&mut self, registers: &impl Registers, request: u32) {
        self.page.write(REQUEST, &request.to_le_bytes());
        self.page.write(ANSWER, &NO_ANSWER.to_le_bytes());
        let place = u64::from(self.available % self.size);
        self.page.store(AVAILABLE.plus(4 + 2 * place), 0);
        self.available = self.available.wrapping_add(1);
        // A release store: the device that reads it sees the request.
        self.page.store(AVAILABLE.plus(2), self.available);
        // Before the notification, whatever the register's memory type is (2.7.13.4.1).
        fence(Ordering::SeqCst);
        registers.write(Structure::Notify, self.notify_at, Width::Word, 0);
    }

    /// Returns the answer, once it is there.
    ///
    /// # Errors
    /// [`FenceFault::Nonsense`]: the device used what it was not given.
    pub(super) fn poll(&self) -> Option<Result<u32, FenceFault>> {
        // An acquire load: what the device wrote before it is visible behind it.
        let used = self.page.memory.load_u16(USED.plus(2)).expect("in the page, and aligned");
        let before = self.available.wrapping_sub(1);
        if used == before {
            return None;
        }
        let place = u64::from(before % self.size);
        let id = self.page.double(USED.plus(4 + 8 * place));
        if used != self.available || id != 0 {
            return Some(Err(FenceFault::Nonsense));
        }
        Some(Ok(self.page.double(ANSWER)))
    }
}
