//! A consumer, a queue, our device and a disk in one: requests go in, answers come out.

use alloc::vec;
use alloc::vec::Vec;

use super::{Descriptor, Driver, INDIRECT, NEXT, RamDisk, WRITE};
use crate::blk::{BlkDevice, BlkQueue, Budget, DiskProperties, Progress, Served};
use crate::control::MemoryRegion;
use crate::memory::{MemoryOffset, MemoryTable, SharedMemory, Words};

/// How a request's buffer is cut into descriptors.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The lengths of the readable ones; what is left over makes the last.
    pub readable: Vec<u32>,
    /// The lengths of the writable ones; what is left over makes the last.
    pub writable: Vec<u32>,
    /// The number of them that stay in the queue's table; the others go into an indirect one.
    pub indirect_from: Option<usize>,
}

/// The buffer as the driver got it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status byte.
    pub status: u8,
    /// The bytes of the data that the device could write.
    pub data: Vec<u8>,
    /// The number of bytes that the used ring reports as written.
    pub written: u32,
}

/// The consumer with all its parts. The fields are public, so that a test can change any of them.
pub struct Consumer<M = Words> {
    /// The consumer's memory.
    pub memory: M,
    /// Where its addresses are.
    pub table: MemoryTable,
    /// The driver.
    pub driver: Driver,
    /// The device's queue.
    pub queue: BlkQueue,
    /// The device.
    pub device: BlkDevice,
    /// The back end.
    pub disk: RamDisk,
}

/// The queue's rings are here in it.
const RINGS_AT: u64 = 0x1000;
/// Its guest-physical addresses are so far from the offsets that a mix-up misses the memory.
const GPA_FROM: u64 = 0x4000_0000;

/// The consumer's memory is this long.
pub(super) const MEMORY_BYTES: u64 = 128 << 10;

impl Consumer {
    /// A queue of that many entries on a disk, with all features that it offers.
    #[must_use]
    pub fn new(disk: DiskProperties, queue_size: u16) -> Self {
        Self::with_features(disk, queue_size, disk.features().bits())
    }

    /// As [`Consumer::new`], with these features only.
    ///
    /// # Panics
    /// If they were not offered.
    #[must_use]
    pub fn with_features(disk: DiskProperties, queue_size: u16, features: u64) -> Self {
        Self::with_memory(disk, queue_size, features, Words::new(usize::try_from(MEMORY_BYTES).expect("it is small")))
    }
}

impl<M: SharedMemory> Consumer<M> {
    /// The consumer's memory is this long, whatever the shared memory is.
    pub const MEMORY_BYTES: u64 = MEMORY_BYTES;

    /// As [`Consumer::with_features`], in a memory of at least [`Consumer::MEMORY_BYTES`].
    ///
    /// # Panics
    /// If the features were not offered, or the memory is too short.
    #[must_use]
    pub fn with_memory(disk: DiskProperties, queue_size: u16, features: u64, memory: M) -> Self {
        let region = MemoryRegion { gpa: GPA_FROM, bytes: MEMORY_BYTES, offset: 0 };
        let table = MemoryTable::new(&[region], memory.len_bytes()).expect("a sound table");
        let driver = Driver::new(queue_size, RINGS_AT);
        let device = BlkDevice::new(disk, features).expect("features that were offered");
        let queue = start(&driver, &device, &memory);
        let sectors = usize::try_from(disk.sectors).expect("a small disk");
        let disk = RamDisk::new(disk.sector_bytes as usize, sectors);
        Self { memory, table, driver, queue, device, disk }
    }

    /// The guest-physical address of an offset.
    #[must_use]
    pub const fn gpa(offset: u64) -> u64 {
        GPA_FROM + offset
    }

    /// The first place that is free for buffers.
    #[must_use]
    pub fn buffers_at(&self) -> u64 {
        self.driver.end().next_multiple_of(0x1000)
    }

    /// Lets the device be killed and start anew: only what is in the memory is left.
    pub fn restart_device(&mut self) {
        self.queue = start(&self.driver, &self.device, &self.memory);
    }

    /// Lets the driver reset the device and start anew, too, as after a fault.
    pub fn reset(&mut self) {
        let size = self.driver.layout(Self::MEMORY_BYTES).expect("a sound layout").size();
        self.driver = Driver::new(size, RINGS_AT);
        self.memory.write(MemoryOffset(RINGS_AT), &vec![0; ring_bytes(&self.driver)]).expect("in memory");
        self.restart_device();
    }

    /// Lets the device serve all that is there, in as many polls as it takes.
    pub fn poll(&mut self) -> Progress {
        let mut all = Progress::default();
        loop {
            let Progress { served, failed, call, more, broken } = self.poll_with(u32::from(u16::MAX), |_| ());
            all = Progress {
                served: all.served + served,
                failed: all.failed + failed,
                call: all.call | call,
                more,
                broken,
            };
            if !more {
                return all;
            }
        }
    }

    /// One poll with this budget; `seen` gets each request that was served.
    pub fn poll_with(&mut self, budget: u32, seen: impl FnMut(&Served)) -> Progress {
        let budget = Budget::units(budget);
        self.queue.poll_with(&self.device, &self.table, &self.memory, &mut self.disk, budget, seen)
    }

    /// Reads bytes of the consumer's memory.
    #[must_use]
    pub fn bytes(&self, offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.read(MemoryOffset(offset), &mut bytes).expect("in memory");
        bytes
    }

    /// Puts a request's readable bytes into the memory and its descriptors into the table, from descriptor `first` and
    /// place `at` on. Returns where its writable bytes are; they hold 0xEE.
    pub fn place(&mut self, first: u16, at: u64, readable: &[u8], writable: usize, parts: &Parts) -> u64 {
        let writable_at = (at + readable.len() as u64).next_multiple_of(16);
        self.memory.write(MemoryOffset(at), readable).expect("in memory");
        self.memory.write(MemoryOffset(writable_at), &vec![0xEE; writable]).expect("in memory");
        let mut chain = cut(Self::gpa(at), readable.len(), &parts.readable, 0);
        chain.extend(cut(Self::gpa(writable_at), writable, &parts.writable, WRITE));
        let own = parts.indirect_from.map_or(chain.len(), |from| from.min(chain.len()));
        if own < chain.len() {
            let inside = chain.split_off(own);
            let table_at = (writable_at + writable as u64).next_multiple_of(16);
            let bytes: Vec<u8> = link(inside, 0).into_iter().flat_map(Descriptor::encode).collect();
            self.memory.write(MemoryOffset(table_at), &bytes).expect("in memory");
            let len = u32::try_from(bytes.len()).expect("a small table");
            // The device must ignore WRITE here.
            chain.push(Descriptor { addr: Self::gpa(table_at), len, flags: INDIRECT | WRITE, next: 0 });
        }
        for (index, descriptor) in (first..).zip(link(chain, first)) {
            self.driver.set_descriptor(&self.memory, index, descriptor);
        }
        writable_at
    }

    /// One request: made available, served, collected.
    ///
    /// # Panics
    /// If it does not come back, alone, under its own number.
    pub fn ask(&mut self, kind: u32, unit: u64, output: &[u8], input: usize, parts: &Parts) -> Answer {
        let readable = [&header(kind, unit), output].concat();
        let at = self.buffers_at();
        let writable_at = self.place(0, at, &readable, input + 1, parts);
        self.driver.publish(&self.memory, 0);
        let progress = self.poll();
        assert_eq!((progress.served, progress.broken), (1, None), "one request is served");
        let (head, written) = self.driver.collect(&self.memory).expect("it came back");
        assert_eq!(head, 0, "under its own number");
        let mut data = self.bytes(writable_at, input + 1);
        let status = data.pop().expect("the status");
        Answer { status, data, written }
    }

    /// Asserts that the device serves a good request: a write of sector 0, and a read of it.
    ///
    /// # Panics
    /// If it does not.
    pub fn is_served(&mut self) {
        let sector = vec![self.disk.data.first().map_or(1, |byte| byte.wrapping_add(1)); self.disk.sector_bytes];
        let wrote = self.ask(1, 0, &sector, 0, &Parts::default());
        assert_eq!((wrote.status, wrote.written), (0, 1), "a good write is served");
        let read = self.ask(0, 0, &[], sector.len(), &Parts::default());
        assert_eq!((read.status, read.data), (0, sector), "a good read is served");
    }
}

fn start<M: SharedMemory>(driver: &Driver, device: &BlkDevice, memory: &M) -> BlkQueue {
    let layout = driver.layout(memory.len_bytes()).expect("a sound layout");
    BlkQueue::start(layout, device.features(), memory).expect("a sound queue")
}

fn ring_bytes(driver: &Driver) -> usize {
    usize::try_from(driver.end() - RINGS_AT).expect("small rings")
}

/// A request's header.
#[must_use]
fn header(kind: u32, unit: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&unit.to_le_bytes());
    header
}

/// Descriptors for `bytes` bytes from guest-physical `at` on, of these lengths.
fn cut(mut at: u64, bytes: usize, lengths: &[u32], flags: u16) -> Vec<Descriptor> {
    let mut out = Vec::new();
    let mut left = u32::try_from(bytes).expect("a small request");
    for length in lengths.iter().copied().chain([u32::MAX]) {
        let len = length.min(left);
        out.push(Descriptor { addr: at, len, flags, next: 0 });
        at += u64::from(len);
        left -= len;
        if left == 0 {
            break;
        }
    }
    out
}

/// Chains them, one after the other from number `first` on.
fn link(mut chain: Vec<Descriptor>, first: u16) -> Vec<Descriptor> {
    let last = chain.len().saturating_sub(1);
    for (next, descriptor) in (first + 1..).zip(&mut chain[..last]) {
        descriptor.flags |= NEXT;
        descriptor.next = next;
    }
    chain
}
