//! Drivers that mean harm: every class of fault that was a bug somewhere, one by one, and at random in a memory that
//! changes between reads. Nothing panics, hangs, or leaves the consumer's memory or the disk; the offending request or
//! queue gets an error; the next good request is served.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use proptest::prelude::*;
use service::blk::{DiskProperties, Features, RequestError, STATUS_IOERR};
use service::memory::{GuestAddress, MemoryOffset, SharedMemory, Watched, Words};
use service::mock::{Consumer, Descriptor, INDIRECT, NEXT, Parts, WRITE, harm};
use service::virtqueue::{CHAIN_MAX, ChainFault, QueueError};

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
const SIZE: u16 = 16;
const MEMORY: u64 = Consumer::<Words>::MEMORY_BYTES;
/// The place for a request's status.
const STATUS_AT: u64 = 0x9000;

fn gpa(offset: u64) -> u64 {
    Consumer::<Words>::gpa(offset)
}

fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor { addr, len, flags, next }
}

/// What a hostile driver does, and how the queue ends.
type Case = (&'static str, fn(&mut Consumer), QueueError);

/// Writes the descriptors to the queue's table and publishes the first.
fn publish(consumer: &mut Consumer, chain: &[Descriptor]) {
    for (index, descriptor) in (0..).zip(chain) {
        consumer.driver.set_descriptor(&consumer.memory, index, *descriptor);
    }
    consumer.driver.publish(&consumer.memory, 0);
}

/// A read of so many pieces of data, all of them the same byte of memory.
fn read_of_pieces(pieces: usize) -> Vec<Descriptor> {
    let data = (2..).map(|next| descriptor(gpa(0xA000), 1, NEXT | WRITE, next));
    let mut chain = vec![descriptor(gpa(0x8000), 16, NEXT, 1)];
    chain.extend(data.take(pieces));
    chain.push(descriptor(gpa(STATUS_AT), 1, WRITE, 0));
    chain
}

/// A read of a sector.
fn good_read() -> [Descriptor; 3] {
    let header = descriptor(gpa(0x8000), 16, NEXT, 1);
    [header, descriptor(gpa(0xA000), 512, NEXT | WRITE, 2), descriptor(gpa(STATUS_AT), 1, WRITE, 0)]
}

/// Writes the descriptors to a table of their own, and publishes one that names it, with these flags.
fn publish_indirect(consumer: &mut Consumer, chain: &[Descriptor], flags: u16) {
    let bytes: Vec<u8> = chain.iter().copied().flat_map(Descriptor::encode).collect();
    let at = consumer.buffers_at();
    consumer.memory.write(MemoryOffset(at), &bytes).unwrap();
    let len = u32::try_from(bytes.len()).unwrap();
    publish(consumer, &[descriptor(gpa(at), len, INDIRECT | flags, 1)]);
}

#[test]
fn a_driver_that_breaks_its_queue_has_it_stopped_and_is_served_after_a_reset() {
    let cases: [Case; 7] = [
        (
            "the available index jumps past the queue's size",
            |c| c.driver.set_available_index(&c.memory, SIZE + 1),
            QueueError::AvailableIndex { found: SIZE + 1, next: 0 },
        ),
        (
            "the available index goes back",
            |c| c.driver.set_available_index(&c.memory, u16::MAX),
            QueueError::AvailableIndex { found: u16::MAX, next: 0 },
        ),
        ("a head that is no descriptor", |c| c.driver.publish(&c.memory, SIZE), QueueError::Head { found: SIZE }),
        ("the highest head", |c| c.driver.publish(&c.memory, u16::MAX), QueueError::Head { found: u16::MAX }),
        (
            "a next that is no descriptor",
            |c| publish(c, &[descriptor(gpa(0x8000), 16, NEXT, SIZE)]),
            QueueError::Next { found: SIZE },
        ),
        (
            "a descriptor that follows itself",
            |c| publish(c, &[descriptor(gpa(0x8000), 16, NEXT, 0)]),
            QueueError::Loop { head: 0 },
        ),
        (
            "a loop of two",
            |c| publish(c, &[descriptor(gpa(0x8000), 16, NEXT, 1), descriptor(gpa(0x8000), 1, NEXT | WRITE, 1)]),
            QueueError::Loop { head: 0 },
        ),
    ];
    for (what, act, why) in cases {
        let mut consumer = Consumer::new(DISK, SIZE);
        act(&mut consumer);
        let progress = consumer.poll();
        assert_eq!((progress.broken, progress.more), (Some(why), false), "{what}");
        assert_eq!(consumer.queue.broken(), Some(why), "{what}");
        assert_eq!(consumer.queue.rest(&consumer.memory), Ok(true), "{what}: nothing more to do");
        assert_eq!(consumer.poll().broken, None, "{what}: it is said once");
        assert_eq!(consumer.driver.used_index(&consumer.memory), 0, "{what}");
        assert!(consumer.disk.runs.is_empty(), "{what}");
        consumer.reset();
        consumer.is_served();
    }
}

/// A buffer that can't be served, and how its request ends: with a status where the chain has an end with a byte for one.
type Faulty = (&'static str, fn(&mut Consumer), ChainFault, bool);

/// An indirect table is the driver's own buffer, and so is the order of a chain: what is wrong with them costs that
/// request, never the queue.
#[test]
fn a_buffer_that_is_not_as_it_should_be_fails_alone() {
    fn table(consumer: &mut Consumer, chain: &[Descriptor], bytes: u32, flags: u16) {
        publish_indirect(consumer, chain, flags);
        let named = descriptor(gpa(consumer.buffers_at()), bytes, INDIRECT | flags, 1);
        consumer.driver.set_descriptor(&consumer.memory, 0, named);
    }
    let cases: [Faulty; 14] = [
        (
            "readable after writable",
            |c| {
                let [header, data, status] = good_read();
                let late = descriptor(gpa(0x8000), 16, NEXT, 3);
                publish(c, &[header, data, late, status]);
            },
            ChainFault::ReadableAfterWritable,
            true,
        ),
        (
            "an indirect table of odd length",
            |c| table(c, &good_read(), 49, 0),
            ChainFault::IndirectLength { found: 49 },
            true,
        ),
        ("less than a descriptor", |c| table(c, &good_read(), 15, 0), ChainFault::IndirectLength { found: 15 }, false),
        ("an empty indirect table", |c| table(c, &good_read(), 0, 0), ChainFault::IndirectLength { found: 0 }, false),
        ("an indirect table with a next", |c| table(c, &good_read(), 48, NEXT), ChainFault::IndirectNotAllowed, true),
        (
            "a nested indirect table",
            |c| publish_indirect(c, &[good_read()[0], descriptor(gpa(0x8000), 16, INDIRECT, 0)], 0),
            ChainFault::IndirectNotAllowed,
            false,
        ),
        (
            "an indirect table outside memory",
            |c| publish(c, &[descriptor(u64::MAX - 15, 32, INDIRECT, 0)]),
            ChainFault::IndirectOutside { at: GuestAddress(u64::MAX - 15) },
            false,
        ),
        (
            "an indirect table that ends outside memory",
            |c| {
                c.memory.write(MemoryOffset(MEMORY - 16), &good_read()[0].encode()).unwrap();
                publish(c, &[descriptor(gpa(MEMORY - 16), u32::MAX - 15, INDIRECT, 0)]);
            },
            ChainFault::IndirectOutside { at: GuestAddress(gpa(MEMORY - 16)) },
            false,
        ),
        (
            "a loop in an indirect table",
            |c| publish_indirect(c, &[good_read()[0], descriptor(gpa(STATUS_AT), 1, NEXT | WRITE, 0)], 0),
            ChainFault::Loop,
            false,
        ),
        (
            "a descriptor that follows itself in an indirect table",
            |c| publish_indirect(c, &[descriptor(gpa(0x8000), 16, NEXT, 0)], 0),
            ChainFault::Loop,
            false,
        ),
        (
            "a loop in a table that is longer than any chain",
            |c| table(c, &[descriptor(gpa(0x8000), 16, NEXT, 0)], 1 << 20, 0),
            ChainFault::TooLong,
            false,
        ),
        (
            "a next that is not in the indirect table, but in the queue's",
            |c| publish_indirect(c, &good_read()[..1], 0),
            ChainFault::Next { found: 1 },
            false,
        ),
        (
            "one descriptor more than are served",
            |c| publish_indirect(c, &read_of_pieces(CHAIN_MAX - 1), 0),
            ChainFault::TooLong,
            true,
        ),
        (
            "as many as an indirect table can have",
            |c| publish_indirect(c, &read_of_pieces(0x1000), 0),
            ChainFault::TooLong,
            true,
        ),
    ];
    for (what, act, why, has_status) in cases {
        let mut consumer = Consumer::new(DISK, SIZE);
        consumer.memory.write(MemoryOffset(STATUS_AT), &[0xEE]).unwrap();
        act(&mut consumer);
        let mut result = None;
        let progress = consumer.poll_with(64, |served| result = Some(served.result));
        assert_eq!((progress.served, progress.failed, progress.broken), (1, 1, None), "{what}");
        assert_eq!(result, Some(Err(RequestError::Buffer(why))), "{what}");
        assert_eq!(consumer.driver.collect(&consumer.memory), Some((0, 0)), "{what}");
        assert_eq!(consumer.bytes(STATUS_AT, 1), [if has_status { STATUS_IOERR } else { 0xEE }], "{what}");
        assert!(consumer.disk.runs.is_empty(), "{what}");
        consumer.is_served();
    }
}

#[test]
fn an_indirect_table_that_was_not_negotiated_fails_alone() {
    let features = DISK.features().difference(Features::INDIRECT_DESC);
    let mut consumer = Consumer::with_features(DISK, SIZE, features.bits());
    publish_indirect(&mut consumer, &read_of_pieces(1), 0);
    let progress = consumer.poll();
    assert_eq!((progress.served, progress.failed, progress.broken), (1, 1, None));
    assert_eq!(consumer.driver.collect(&consumer.memory), Some((0, 0)));
    assert_eq!(consumer.bytes(STATUS_AT, 1), [STATUS_IOERR]);
    consumer.is_served();
}

#[test]
fn what_was_answered_before_the_queue_broke_is_called_for() {
    let mut consumer = Consumer::new(DISK, SIZE);
    let at = consumer.buffers_at();
    consumer.place(0, at, &[0; 16], 513, &Parts::default());
    consumer.driver.offer(&consumer.memory, 0);
    consumer.driver.publish(&consumer.memory, SIZE);
    let progress = consumer.poll();
    assert_eq!((progress.served, progress.call, progress.broken), (1, true, Some(QueueError::Head { found: SIZE })));
    assert_eq!(consumer.driver.collect(&consumer.memory), Some((0, 514 - 1)));
}

/// A buffer that can't be served is given back, so that the queue does not stall: with a status where there is a byte
/// for one.
#[test]
fn a_buffer_that_is_not_in_memory_fails_alone() {
    let header = descriptor(gpa(0x8000), 16, NEXT, 1);
    let status = descriptor(gpa(0x9000), 1, WRITE, 0);
    let data = |addr, len| [header, descriptor(addr, len, NEXT | WRITE, 2), status].to_vec();
    let cases = [
        ("address and length wrap", data(u64::MAX - 511, 512), true),
        ("the end wraps to 0", data(u64::MAX, 1), true),
        ("it begins below the memory", data(gpa(0) - 1, 512), true),
        ("it ends past the memory", data(gpa(MEMORY) - 511, 512), true),
        ("it begins past the memory", data(gpa(MEMORY), 512), true),
        ("the offset instead of the address", data(0x8000, 512), true),
        ("as long as can be", data(gpa(0), u32::MAX), true),
        ("the header is outside", vec![descriptor(0, 16, NEXT, 1), descriptor(gpa(0x9000), 1, WRITE, 0)], true),
        ("the status is outside", vec![header, descriptor(gpa(MEMORY), 1, WRITE, 0)], false),
        ("the status wraps", vec![header, descriptor(u64::MAX, u32::MAX, WRITE, 0)], false),
    ];
    for (what, chain, has_status) in cases {
        let mut consumer = Consumer::new(DISK, SIZE);
        consumer.memory.write(MemoryOffset(0x9000), &[0xEE]).unwrap();
        publish(&mut consumer, &chain);
        let mut result = None;
        let progress = consumer.poll_with(8, |served| result = Some(served.result));
        assert_eq!((progress.served, progress.failed, progress.broken), (1, 1, None), "{what}");
        assert!(matches!(result, Some(Err(RequestError::Buffer(ChainFault::Outside { .. })))), "{what}: {result:?}");
        assert_eq!(consumer.driver.collect(&consumer.memory), Some((0, 0)), "{what}");
        assert_eq!(consumer.bytes(0x9000, 1), [if has_status { STATUS_IOERR } else { 0xEE }], "{what}");
        assert!(consumer.disk.runs.is_empty(), "{what}");
        consumer.is_served();
    }
}

#[test]
fn buffers_without_the_parts_of_a_request_fail_alone() {
    let header = descriptor(gpa(0x8000), 16, NEXT, 1);
    let cases = [
        ("no status", vec![descriptor(gpa(0x8000), 16, 0, 0)], (0, 0)),
        ("an empty status", vec![header, descriptor(gpa(0x9000), 0, WRITE, 0)], (0, 0)),
        ("nothing at all", vec![descriptor(gpa(0x8000), 0, 0, 0)], (0, 0)),
        ("no header", vec![descriptor(gpa(0x9000), 1, WRITE, 0)], (0, 1)),
        ("half a header", vec![descriptor(gpa(0x8000), 15, NEXT, 1), descriptor(gpa(0x9000), 1, WRITE, 0)], (0, 1)),
    ];
    for (what, chain, used) in cases {
        let mut consumer = Consumer::new(DISK, SIZE);
        publish(&mut consumer, &chain);
        let progress = consumer.poll();
        assert_eq!((progress.served, progress.failed, progress.broken), (1, 1, None), "{what}");
        assert_eq!(consumer.driver.collect(&consumer.memory), Some(used), "{what}");
        let status = if used.1 == 1 { STATUS_IOERR } else { 0 };
        assert_eq!(consumer.bytes(0x9000, 1), [status], "{what}");
        consumer.is_served();
    }
}

fn watched() -> Consumer<Watched> {
    Consumer::with_memory(DISK, SIZE, DISK.features().bits(), Watched::new(usize::try_from(MEMORY).unwrap(), 0x1000))
}

/// "Header or descriptor read twice while the driver rewrites it": no byte is read twice.
#[test]
fn every_byte_of_a_request_is_read_once() {
    let range = [&3_u64.to_le_bytes()[..], &2_u32.to_le_bytes(), &[0; 4]].concat();
    let requests: [(u32, &[u8], usize); 5] =
        [(0, &[], 1024), (1, &[5; 1024], 0), (8, &[], 20), (11, &range, 0), (13, &range, 0)];
    for (kind, output, input) in requests {
        for indirect_from in [None, Some(0), Some(2)] {
            let mut consumer = watched();
            let parts = Parts { readable: vec![9, 8, 600], writable: vec![100, 500], indirect_from };
            let at = consumer.buffers_at();
            let readable = [&kind.to_le_bytes()[..], &[0; 12], output].concat();
            consumer.place(0, at, &readable, input + 1, &parts);
            consumer.driver.publish(&consumer.memory, 0);
            consumer.memory.reads.borrow_mut().fill(0);
            let progress = consumer.poll();
            assert_eq!((progress.served, progress.failed), (1, 0), "{kind} {indirect_from:?}");
            let reads = consumer.memory.reads.borrow();
            let read = |times| reads.iter().filter(|reads| **reads == times).count();
            assert!(read(1) >= readable.len() + 32, "the descriptors and the request were read");
            assert_eq!(read(0) + read(1), reads.len(), "{kind} {indirect_from:?}");
        }
    }
}

/// Headers of requests, known and unknown.
fn hostile_header() -> impl Strategy<Value = [u8; 16]> {
    let kind = prop_oneof![6 => prop::sample::select(vec![0_u32, 1, 4, 8, 11, 13]), 1 => any::<u32>()];
    let unit = prop_oneof![6 => 0_u64..70, 1 => any::<u64>()];
    (kind, any::<u32>(), unit).prop_map(|(kind, reserved, unit)| {
        [&kind.to_le_bytes()[..], &reserved.to_le_bytes(), &unit.to_le_bytes()].concat().try_into().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_driver_does_while_we_look_it_harms_only_itself(bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
        harm(&bytes);
    }

    /// Without a reset, too: a request that can't be served does not hold up the next one.
    #[test]
    fn after_any_request_of_a_sound_queue_a_good_one_is_served(
        header in hostile_header(), output in 0_usize..3000, input in 0_usize..3000,
        lengths in prop::collection::vec(0_u32..700, 0..6), spoilt in prop::option::of((0_u16..4, any::<u64>())),
    ) {
        let mut consumer = watched();
        let parts = Parts { readable: lengths.clone(), writable: lengths, indirect_from: None };
        let at = consumer.buffers_at();
        let readable = [&header[..], &vec![1; output]].concat();
        consumer.place(0, at, &readable, input, &parts);
        if let Some((index, addr)) = spoilt {
            let mut bytes = [0; 16];
            let place = MemoryOffset(0x1000 + 16 * u64::from(index));
            consumer.memory.words.read(place, &mut bytes).unwrap();
            bytes[..8].copy_from_slice(&addr.to_le_bytes());
            consumer.memory.words.write(place, &bytes).unwrap();
        }
        consumer.driver.publish(&consumer.memory.words, 0);
        let progress = consumer.poll();
        prop_assert_eq!((progress.served, progress.broken), (1, None));
        prop_assert_eq!(consumer.driver.collect(&consumer.memory).map(|(head, _)| head), Some(0));
        consumer.is_served();
    }
}
