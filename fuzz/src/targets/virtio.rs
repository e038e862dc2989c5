//! A virtio-pmem device: its registers and its configuration, and what it makes of FLUSHes.
//!
//! It is a sound device that goes wrong where the input says so: each register that is read takes a byte, and one of 0xf0
//! and more has it read as the next four bytes. A FLUSH takes bytes for its answer, for the descriptor that is named, and for
//! how far the used ring goes.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use drivers::dma::DmaPage;
use drivers::flush::{Flush as _, Flusher};
use drivers::phys::PhysAddr;
use drivers::shared::SharedWindow;
use drivers::virtio::Structure;
use drivers::virtio::pmem::VirtioPmem;
use drivers::virtio::registers::{Registers, Width};
use service::memory::{MemoryOffset, SharedMemory as _};

use crate::choices::Choices;

/// Where the queue's page seems to lie.
const PAGE_AT: u64 = 0x1234_5000;
const PAGE_BYTES: usize = 4096;

/// How many FLUSHes are tried.
const FLUSHES: usize = 4;

thread_local! {
    /// The queue's page, blank again for each device: its driver is gone by then.
    static PAGE: SharedWindow = {
        let page: &'static mut [u64; 512] = Box::leak(Box::new([0; 512]));
        // SAFETY: the page is never freed, aligned to 8, and from here on reached through the window only.
        unsafe { SharedWindow::new(NonNull::from(page).cast(), PAGE_BYTES) }
    };
}

/// A clock on which each look takes 100 ms.
fn quick() -> u64 {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    LOOKS.fetch_add(1, Ordering::Relaxed) * 100_000_000
}

#[derive(Debug)]
struct State {
    input: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
    memory: SharedWindow,
    status: u32,
    select: u32,
    queue_size: u32,
    addresses: [u32; 6],
    used: u16,
}

#[derive(Clone, Debug)]
struct Wild(Arc<Mutex<State>>);

impl Wild {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next bytes of the input; zeroes behind it.
    fn next<const N: usize>(&mut self) -> [u8; N] {
        let mut left = Choices(self.input.get(self.taken..).unwrap_or_default());
        self.taken += N;
        left.array()
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.next())
    }

    /// What a sound device has in a register.
    fn sound(&self, structure: Structure, at: u32) -> u32 {
        match (structure, at) {
            (Structure::Common, 4) => [0x3000_0000, 1].get(self.select as usize).copied().unwrap_or(0),
            (Structure::Common, 18) => 1,
            (Structure::Common, 20) => self.status,
            (Structure::Common, 24) => self.queue_size,
            // 128 MiB at 4 GiB.
            (Structure::Device, 4) => 1,
            (Structure::Device, 8) => 128 << 20,
            _ => 0,
        }
    }

    /// Where a part of the queue is in the page, if it is there.
    fn place(&self, part: usize, offset: u64) -> Option<MemoryOffset> {
        let address = u64::from(self.addresses[2 * part + 1]) << 32 | u64::from(self.addresses[2 * part]);
        let at = address.checked_sub(PAGE_AT)?.checked_add(offset)?;
        (at.is_multiple_of(2) && at < PAGE_BYTES as u64).then_some(MemoryOffset(at))
    }

    fn put(&self, part: usize, offset: u64, bytes: &[u8]) {
        if let Some(at) = self.place(part, offset) {
            let _ = self.memory.write(at, bytes);
        }
    }

    fn flush(&mut self) {
        let [bits] = self.next();
        let entry = u64::from(self.used) % u64::from(self.queue_size.max(1));
        // The answer lies where the second descriptor says.
        let mut reply = [0; 4];
        if let Some(at) = self.place(0, 16) {
            let _ = self.memory.read(at, &mut reply);
        }
        let reply = u64::from(u32::from_le_bytes(reply)).checked_sub(PAGE_AT).filter(|at| at + 4 <= PAGE_BYTES as u64);
        if let Some(reply) = reply {
            let answer = if bits & 1 == 0 { 0 } else { self.word() };
            let _ = self.memory.write(MemoryOffset(reply), &answer.to_le_bytes());
        }
        let id = if bits & 2 == 0 { 0 } else { self.word() };
        let length = if bits & 4 == 0 { 4 } else { self.word() };
        self.put(2, 4 + 8 * entry, &id.to_le_bytes());
        self.put(2, 8 + 8 * entry, &length.to_le_bytes());
        let step = if bits & 8 == 0 { 1 } else { u16::from_le_bytes(self.next()) };
        self.used = self.used.wrapping_add(step);
        self.put(2, 2, &self.used.to_le_bytes());
        if bits & 0xf0 == 0xf0 {
            self.status = self.word();
        }
    }
}

impl Registers for Wild {
    fn read(&self, structure: Structure, at: u32, width: Width) -> u32 {
        let mut state = self.state();
        let [odd] = state.next();
        let value = if odd >= 0xf0 { state.word() } else { state.sound(structure, at) };
        match width {
            Width::Byte => value & 0xff,
            Width::Word => value & 0xffff,
            Width::Double => value,
        }
    }

    fn write(&self, structure: Structure, at: u32, _: Width, value: u32) {
        let mut state = self.state();
        match (structure, at) {
            (Structure::Common, 0) => state.select = value,
            (Structure::Common, 20) => state.status = value,
            (Structure::Common, 24) => state.queue_size = value,
            (Structure::Common, 32..=52) => state.addresses[(at as usize - 32) / 4] = value,
            (Structure::Notify, _) => state.flush(),
            _ => {}
        }
    }

    fn notify_multiplier(&self) -> u32 {
        self.state().word()
    }
}

/// Starts such a device, and has it flush.
pub(super) fn run(bytes: &[u8]) {
    let memory = PAGE.with(|page| *page);
    memory.write(MemoryOffset(0), &[0; PAGE_BYTES]).expect("the page");
    let state = State {
        input: bytes.to_vec(),
        taken: 0,
        memory,
        status: 0,
        select: 0,
        queue_size: 128,
        addresses: [0; 6],
        used: 0,
    };
    let device = Wild(Arc::new(Mutex::new(state)));
    let page = DmaPage::new(memory, PhysAddr(PAGE_AT));
    let Ok(driver) = VirtioPmem::new(device, page, quick) else { return };
    // Whether that is a range of memory is for others to say.
    let _ = (driver.start(), driver.len_bytes());
    let flusher = Flusher::new(driver, quick);
    for _ in 0..FLUSHES {
        let failed_before = flusher.fault().is_some();
        let result = flusher.flush();
        assert!(result.is_err() || !failed_before, "a FLUSH that failed is never made up for");
        assert_eq!(result.is_err(), flusher.fault().is_some());
    }
}
