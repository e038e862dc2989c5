//! A driver that takes each step from given bytes: a fuzzer's, or a test's random ones.

use super::consumer::{Consumer, MEMORY_BYTES};
use super::driver::{Descriptor, INDIRECT, NEXT, WRITE};
use crate::blk::DiskProperties;
use crate::memory::{MemoryOffset, SharedMemory, Watched, Words};

const SIZE: u16 = 16;
const INDIRECT_ENTRIES: u16 = 40;
/// The number of bytes that follow the consumer's memory. The device must not touch them.
const NOBODYS_BYTES: usize = 0x1000;

#[allow(clippy::cast_possible_truncation)] // it is small
const CONSUMERS_BYTES: usize = MEMORY_BYTES as usize;

const DISK: DiskProperties = DiskProperties {
    sector_bytes: 512,
    sectors: 64,
    read_only: false,
    discard: true,
    write_zeroes: true,
    queues: 1,
    run_sectors: 32,
    serial: [7; 20],
};

/// The bytes that determine what the driver does next; zeroes once they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        out[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        out
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Mostly below `limit`; sometimes just above it, or anything.
    fn number(&mut self, limit: u16) -> u16 {
        match self.byte() {
            0..=239 => self.word() % limit,
            240..=247 => limit + self.word() % 2,
            248.. => self.word(),
        }
    }

    /// Mostly in the consumer's memory; sometimes at its edges, at the end of all addresses, or anywhere.
    fn address(&mut self) -> u64 {
        match self.byte() {
            0..=191 => Consumer::<Words>::gpa(u64::from(u32::from_le_bytes(self.array())) % MEMORY_BYTES),
            192..=215 => Consumer::<Words>::gpa(MEMORY_BYTES) - 600 + u64::from(self.word() % 1200),
            216..=223 => Consumer::<Words>::gpa(0) - 600 + u64::from(self.word() % 1200),
            224..=239 => u64::MAX - u64::from(self.word() % 600),
            240.. => u64::from_le_bytes(self.array()),
        }
    }

    fn length(&mut self) -> u32 {
        match self.byte() {
            0..=63 => 16,
            64..=127 => 1,
            128..=191 => u32::from(self.byte() % 6) * 512,
            192..=223 => u32::from(self.byte() % 48) * 16,
            224..=239 => u32::from(self.word() % 2000),
            240.. => u32::from_le_bytes(self.array()),
        }
    }

    fn descriptor(&mut self, entries: u16) -> Descriptor {
        let flags = match self.byte() {
            0..=47 => 0,
            48..=127 => NEXT,
            128..=175 => WRITE,
            176..=223 => NEXT | WRITE,
            224..=239 => INDIRECT,
            240.. => self.word(),
        };
        Descriptor { addr: self.address(), len: self.length(), flags, next: self.number(entries) }
    }

    fn header(&mut self) -> [u8; 16] {
        let mut header = [0; 16];
        let kind = match self.byte() {
            known @ 0..=239 => [0_u32, 1, 4, 8, 11, 13][usize::from(known % 6)],
            240.. => u32::from_le_bytes(self.array()),
        };
        let unit = match self.byte() {
            0..=239 => u64::from(self.byte() % 70),
            240.. => u64::from_le_bytes(self.array()),
        };
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&unit.to_le_bytes());
        header
    }
}

/// Lets a driver fill its queue and its memory from `bytes`, and change them while the device reads. Then lets a good
/// driver take over.
///
/// # Panics
/// If the device leaves the consumer's memory or the disk, answers more than it was asked, or does not serve the good
/// driver.
pub fn harm(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut consumer =
        Consumer::with_memory(DISK, SIZE, DISK.features().bits(), Watched::new(CONSUMERS_BYTES, NOBODYS_BYTES));
    let start = choices.word();
    consumer.driver.start_at(&consumer.memory.words, start);
    consumer.restart_device();
    fill(&mut consumer, &mut choices);
    for _ in 0..SIZE {
        let head = choices.number(SIZE);
        consumer.driver.offer(&consumer.memory.words, head);
    }
    let available = choices.number(SIZE + 1);
    consumer.driver.set_available_index(&consumer.memory.words, start.wrapping_add(available));
    // The remaining bytes determine what the driver changes while the device reads.
    consumer.memory.changes.borrow_mut().extend_from_slice(choices.0);
    for _ in 0..4 {
        let progress = consumer.poll_with(u32::from(SIZE), |_| ());
        assert!(progress.served <= u32::from(SIZE) && progress.failed <= progress.served, "no more than the budget");
        let _ = consumer.queue.rest(&consumer.memory);
    }
    let mut nobodys = [0; NOBODYS_BYTES];
    let read = consumer.memory.words.read(MemoryOffset(MEMORY_BYTES), &mut nobodys);
    assert!(read.is_ok() && nobodys == [0; NOBODYS_BYTES], "nobody's memory is as it was");
    consumer.memory.changes.borrow_mut().clear();
    consumer.reset();
    consumer.is_served();
}

/// The descriptors, an indirect table that one of them names, and headers wherever else a descriptor may point.
fn fill(consumer: &mut Consumer<Watched>, choices: &mut Choices<'_>) {
    let words = &consumer.memory.words;
    let behind = consumer.buffers_at();
    let header = choices.header();
    let mut at = behind;
    while words.write(MemoryOffset(at), &header).is_ok() && at + 16 < MEMORY_BYTES {
        at += 16;
    }
    for index in 0..SIZE {
        consumer.driver.set_descriptor(words, index, choices.descriptor(SIZE));
    }
    let inner_at = behind + u64::from(choices.word()) % 0x4000 * 4;
    for index in 0..INDIRECT_ENTRIES {
        let inner = choices.descriptor(INDIRECT_ENTRIES).encode();
        let _ = words.write(MemoryOffset(inner_at + 16 * u64::from(index)), &inner);
    }
    let outer = choices.number(SIZE);
    if outer < SIZE {
        let addr = Consumer::<Words>::gpa(inner_at);
        let len = u32::from(INDIRECT_ENTRIES) * 16;
        consumer.driver.set_descriptor(words, outer, Descriptor { addr, len, flags: INDIRECT, next: 0 });
    }
}
