//! A page of RAM that a device reads and writes by itself.

use service::memory::{MemoryOffset, SharedMemory as _};

use crate::phys::PhysAddr;
use crate::shared::SharedWindow;

/// The bytes of a page.
pub const DMA_PAGE_BYTES: u32 = 4096;

/// A page of RAM that a device reads and writes, for good: a device that was given up may write late. Its bytes are never a Rust
/// object ([`crate::shared`]), and those that the device wrote are copied before they are looked at.
#[derive(Debug)]
pub struct DmaPage {
    memory: SharedWindow,
    at: PhysAddr,
}

impl DmaPage {
    /// The page that `memory` shows, which lies at physical `at`, and which nothing else uses from now on.
    ///
    /// # Panics
    /// If it is shorter than a page, or `at` is no page's address.
    #[must_use]
    pub fn new(memory: SharedWindow, at: PhysAddr) -> Self {
        let page = u64::from(DMA_PAGE_BYTES);
        assert!(memory.len_bytes() >= page && at.0.is_multiple_of(page), "a device's memory is a page");
        Self { memory, at }
    }

    /// Returns the physical address of a place in the page.
    #[must_use]
    pub const fn physical(&self, at: MemoryOffset) -> PhysAddr {
        PhysAddr(self.at.0 + at.0)
    }

    /// Copies bytes into the page.
    ///
    /// # Panics
    /// Beyond the page, as all accesses: places are ours, never the device's.
    pub fn write(&self, at: MemoryOffset, bytes: &[u8]) {
        self.memory.write(at, bytes).expect("in the page");
    }

    /// Copies bytes out of the page.
    pub fn read(&self, at: MemoryOffset, into: &mut [u8]) {
        self.memory.read(at, into).expect("in the page");
    }

    /// Stores a word, which a device that sees it sees after all that was written before.
    pub fn store(&self, at: MemoryOffset, value: u16) {
        self.memory.store_u16(at, value).expect("in the page, and aligned");
    }

    /// Loads a word: what the device wrote before it is visible behind it.
    #[must_use]
    pub fn load(&self, at: MemoryOffset) -> u16 {
        self.memory.load_u16(at).expect("in the page, and aligned")
    }

    /// Copies a double word out of the page.
    #[must_use]
    pub fn double(&self, at: MemoryOffset) -> u32 {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }
}
