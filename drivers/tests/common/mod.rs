//! What tests of drivers on devices of ours share: a clock, and the machine's pages that a device reaches.
#![allow(dead_code, reason = "no test uses all of it")]

pub(crate) mod virtio;

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use drivers::dma::DmaPage;
use drivers::phys::PhysAddr;
use drivers::shared::SharedWindow;
use service::memory::{MemoryOffset, SharedMemory as _};

/// A clock on which each look takes a millisecond.
pub(crate) fn quick() -> u64 {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    LOOKS.fetch_add(1, Ordering::Relaxed) * 1_000_000
}

/// The pages that a driver has given a device, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<u64, SharedWindow>);

impl Pages {
    /// Makes one more.
    pub(crate) fn make(&mut self) -> DmaPage {
        let memory: &'static mut [u64; 512] = Box::leak(Box::new([0xeeee_eeee_eeee_eeee; 512]));
        // SAFETY: the page is never freed, aligned to 8, and from here on reached through the window only.
        let memory = unsafe { SharedWindow::new(NonNull::from(memory).cast(), 4096) };
        // No two neighbours, and above 4 GiB.
        let at = 0x1_0000_0000 + self.0.len() as u64 * 0x3000;
        self.0.insert(at, memory);
        DmaPage::new(memory, PhysAddr(at))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The page of an address, and the place in it. An access to anything else is the driver's fault.
    pub(crate) fn place(&self, at: u64, bytes: u64) -> (SharedWindow, MemoryOffset) {
        let (start, window) = self.0.range(..=at).next_back().expect("one of our pages");
        assert!(at + bytes <= start + 4096, "{at:#x}: {bytes} bytes leave the pages that the device was given");
        (*window, MemoryOffset(at - start))
    }

    /// Reads as the device does.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) {
        let (window, place) = self.place(at, into.len() as u64);
        window.read(place, into).expect("in the page");
    }

    /// Writes as the device does.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        let (window, place) = self.place(at, bytes.len() as u64);
        window.write(place, bytes).expect("in the page");
    }
}
