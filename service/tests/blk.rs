//! The block device as a driver sees it: every request, by the paragraphs of the specification.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::cell::{Cell, RefCell};

use proptest::prelude::*;
use service::backend::BackendError;
use service::blk::{
    BlkDevice, Budget, DiskProperties, Features, RequestError, SEG_MAX, STATUS_IOERR, STATUS_OK, STATUS_UNSUPP,
    STEP_BYTES, STEP_SECTORS, STEP_UNITS, ZEROES_UNITS_MAX,
};
use service::memory::{MemoryOffset, SharedMemory, Words};
use service::mock::{Consumer, Descriptor, NEXT, Parts, WRITE};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const DISK: DiskProperties = DiskProperties {
    sector_bytes: 512,
    sectors: 256,
    read_only: false,
    discard: true,
    write_zeroes: true,
    queues: 1,
    run_sectors: 32,
    serial: *b"0123456789abcdef0123",
};
const DISK_4096: DiskProperties = DiskProperties { sector_bytes: 4096, sectors: 32, ..DISK };

fn gpa(offset: u64) -> u64 {
    Consumer::<Words>::gpa(offset)
}

fn range(unit: u64, units: u32, flags: u32) -> Vec<u8> {
    [&unit.to_le_bytes()[..], &units.to_le_bytes(), &flags.to_le_bytes()].concat()
}

fn parts() -> impl Strategy<Value = Parts> {
    let lengths = || prop::collection::vec(0_u32..700, 0..6);
    (lengths(), lengths(), prop::option::of(0_usize..4)).prop_map(|(readable, writable, indirect_from)| Parts {
        readable,
        writable,
        indirect_from,
    })
}

proptest! {
    /// VirtIO 1.3, 2.7.4.1: "The device MUST NOT make assumptions about the particular arrangement of descriptors."
    /// 2.7.5.3.2: "The device MUST handle the case of zero or more normal chained descriptors followed by a single
    /// descriptor with flags&VIRTQ_DESC_F_INDIRECT", and "MUST ignore the write-only flag" in it.
    #[test]
    fn data_go_through_however_the_buffer_is_cut(
        first in 0_u64..240, sectors in 1_usize..16, seed: u8, write in parts(), read in parts(), event_idx: bool,
    ) {
        let features = DISK.features().difference(if event_idx { Features::empty() } else { Features::EVENT_IDX });
        let mut consumer = Consumer::with_features(DISK, 16, features.bits());
        let data: Vec<u8> = (0..sectors * 512).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect();
        let wrote = consumer.ask(OUT, first, &data, 0, &write);
        prop_assert_eq!((wrote.status, wrote.written), (STATUS_OK, 1));
        let at = usize::try_from(first).unwrap() * 512;
        prop_assert_eq!(&consumer.disk.data[at..at + data.len()], &data[..]);
        prop_assert!(consumer.disk.data[..at].iter().chain(&consumer.disk.data[at + data.len()..]).all(|byte| *byte == 0));
        let back = consumer.ask(IN, first, &[], data.len(), &read);
        // 2.7.8.2: "The device MUST write at least len bytes to descriptor."
        prop_assert_eq!((back.status, back.written as usize), (STATUS_OK, data.len() + 1));
        prop_assert_eq!(back.data, data);
        let count = sectors as u64;
        prop_assert_eq!(&consumer.disk.runs, &[("write", first, count), ("read", first, count)], "a request is one run");
    }

    /// VirtIO 1.3, 5.2.6.1: "A driver MUST NOT submit a request which would cause a read or write beyond capacity", and
    /// "The length of data MUST be a multiple of 512 bytes". One that does gets an error and moves nothing.
    #[test]
    fn requests_that_are_not_whole_sectors_of_the_disk_fail_and_move_nothing(
        unit in prop_oneof![0_u64..300, any::<u64>(), (u64::MAX - 300)..],
        bytes in prop_oneof![0_usize..9000, (0_usize..20).prop_map(|sectors| sectors * 512)],
        large: bool, write: bool,
    ) {
        let disk = if large { DISK_4096 } else { DISK };
        let sector_bytes = disk.sector_bytes as usize;
        let mut consumer = Consumer::new(disk, 16);
        consumer.disk.data.fill(0x11);
        let before = consumer.disk.data.clone();
        let answer = if write {
            consumer.ask(OUT, unit, &vec![0x22; bytes], 0, &Parts::default())
        } else {
            consumer.ask(IN, unit, &[], bytes, &Parts::default())
        };
        let from = u128::from(unit) * 512;
        let whole = bytes % sector_bytes == 0 && from % (sector_bytes as u128) == 0;
        if whole && from + bytes as u128 <= before.len() as u128 {
            prop_assert_eq!(answer.status, STATUS_OK);
        } else {
            prop_assert_eq!((answer.status, answer.written > 1), (STATUS_IOERR, false));
            prop_assert_eq!(&consumer.disk.data, &before);
            prop_assert!(answer.data.iter().all(|byte| *byte == 0xEE));
            prop_assert!(consumer.disk.runs.is_empty());
        }
        consumer.is_served();
    }

    /// Unknown types are answered, too: VIRTIO_BLK_S_UNSUPP is "for a request unsupported by device" (5.2.6).
    #[test]
    fn unknown_requests_are_unsupported(kind: u32, unit: u64, output in 0_usize..40, input in 0_usize..40) {
        prop_assume!(![IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES].contains(&kind));
        let mut consumer = Consumer::new(DISK, 16);
        let answer = consumer.ask(kind, unit, &vec![1; output], input, &Parts::default());
        prop_assert_eq!(answer.status, STATUS_UNSUPP);
        consumer.is_served();
    }

    /// The same for ranges to discard or to zero, whatever they say.
    #[test]
    fn ranges_of_any_kind_touch_only_the_disk(
        kind in prop::sample::select(vec![DISCARD, WRITE_ZEROES]),
        unit in prop_oneof![4 => 0_u64..300, 1 => any::<u64>()], units in prop_oneof![4 => 0_u32..40, 1 => any::<u32>()],
        flags in prop_oneof![4 => 0_u32..4, 1 => any::<u32>()], large: bool,
    ) {
        let disk = if large { DISK_4096 } else { DISK };
        let mut consumer = Consumer::new(disk, 16);
        consumer.disk.data.fill(0x11);
        let before = consumer.disk.data.len();
        let answer = consumer.ask(kind, 0, &range(unit, units, flags), 0, &Parts::default());
        let sector_units = disk.sector_bytes / 512;
        let inside = unit.checked_add(u64::from(units)).is_some_and(|end| end <= 256)
            && unit % u64::from(sector_units) == 0 && units % sector_units == 0;
        // 5.2.6.2: "the device MUST set the status byte to VIRTIO_BLK_S_UNSUPP for discard, secure erase and write
        // zeroes commands if any unknown flag is set. Furthermore ... for discard commands if the unmap flag is set."
        let expected = match (flags, inside) {
            (2.., _) => STATUS_UNSUPP,
            (_, false) => STATUS_IOERR,
            (1, true) if kind == DISCARD => STATUS_UNSUPP,
            (_, true) => STATUS_OK,
        };
        prop_assert_eq!(answer.status, expected);
        // 5.2.6.2: "After a write zeroes command is completed, reads of the specified ranges of sectors MUST return
        // zeroes. This is true independent of whether unmap was set or clear."
        let zero = |at: usize| {
            let at = u64::try_from(at / 512).unwrap();
            expected == STATUS_OK && kind == WRITE_ZEROES && (unit..unit.saturating_add(u64::from(units))).contains(&at)
        };
        let expected: Vec<u8> = (0..before).map(|at| if zero(at) { 0 } else { 0x11 }).collect();
        prop_assert_eq!(&consumer.disk.data, &expected);
        consumer.is_served();
    }
}

/// A sector of 4096 bytes is what never tears: parts of one are not served, as QEMU does not.
#[test]
fn parts_of_a_large_sector_are_refused() {
    let mut consumer = Consumer::new(DISK_4096, 16);
    for (unit, bytes) in [(1, 4096), (4, 4096), (0, 512), (0, 4096 + 512), (8, 3584)] {
        assert_eq!(consumer.ask(IN, unit, &[], bytes, &Parts::default()).status, STATUS_IOERR, "{unit} {bytes}");
        assert_eq!(consumer.ask(OUT, unit, &vec![1; bytes], 0, &Parts::default()).status, STATUS_IOERR);
    }
    assert!(consumer.disk.runs.is_empty());
    assert_eq!(consumer.ask(IN, 8, &[], 8192, &Parts::default()).status, STATUS_OK);
    assert_eq!(consumer.disk.runs, [("read", 1, 2)]);
}

#[test]
fn a_flush_reaches_the_back_end_and_its_failure_the_driver() {
    let mut consumer = Consumer::new(DISK, 16);
    assert_eq!(consumer.ask(FLUSH, 0, &[], 0, &Parts::default()).status, STATUS_OK);
    consumer.disk.fails = Some(BackendError::Media);
    assert_eq!(consumer.ask(FLUSH, 0, &[], 0, &Parts::default()).status, STATUS_IOERR);
    assert_eq!(consumer.disk.runs, [("flush", 0, 0); 2]);
}

/// VirtIO 1.3, 5.2.6.1: "The length of data MUST be 20 bytes for VIRTIO_BLK_T_GET_ID requests." A shorter one gets the
/// beginning.
#[test]
fn the_id_is_the_disks_serial() {
    let mut consumer = Consumer::new(DISK, 16);
    let answer = consumer.ask(GET_ID, 0, &[], 20, &Parts::default());
    assert_eq!((answer.status, &answer.data[..], answer.written), (STATUS_OK, &DISK.serial[..], 21));
    let short = consumer.ask(GET_ID, 0, &[], 3, &Parts::default());
    assert_eq!((short.status, &short.data[..], short.written), (STATUS_OK, &b"012"[..], 4));
    let long = consumer.ask(GET_ID, 0, &[], 24, &Parts::default());
    assert_eq!((long.status, &long.data[..20], long.written), (STATUS_OK, &DISK.serial[..], 20));
}

/// VirtIO 1.3, 5.2.6.2: "A device MUST set the status byte to VIRTIO_BLK_S_IOERR for a write request if the
/// VIRTIO_BLK_F_RO feature if offered, and MUST NOT write any data."
#[test]
fn a_read_only_disk_is_never_written() {
    let mut consumer = Consumer::new(DiskProperties { read_only: true, ..DISK }, 16);
    assert_eq!(consumer.ask(OUT, 0, &[7; 512], 0, &Parts::default()).status, STATUS_IOERR);
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(consumer.ask(kind, 0, &range(0, 1, 0), 0, &Parts::default()).status, STATUS_IOERR);
    }
    assert_eq!(consumer.ask(IN, 0, &[], 512, &Parts::default()).status, STATUS_OK);
    assert_eq!(consumer.disk.runs, [("read", 0, 1)]);
}

#[test]
fn features_that_are_not_offered_make_no_device() {
    const PACKED: u64 = 1 << 34;
    let offered = BlkDevice::new(DISK, Features::VERSION_1.bits()).unwrap().disk.features().bits();
    assert_eq!(offered & PACKED, 0);
    assert!(BlkDevice::new(DISK, offered).is_ok());
    for accepted in [0, offered & !Features::VERSION_1.bits(), offered | PACKED, offered | 1 << 63] {
        assert!(BlkDevice::new(DISK, accepted).is_err(), "{accepted:#x}");
    }
    let read_only = DiskProperties { read_only: true, ..DISK };
    assert!(BlkDevice::new(read_only, Features::VERSION_1.bits()).is_ok());
    assert!(BlkDevice::new(DISK, (Features::VERSION_1 | Features::RO).bits()).is_err());
}

#[test]
fn what_was_not_negotiated_is_unsupported() {
    let features = Features::VERSION_1 | Features::INDIRECT_DESC;
    let mut consumer = Consumer::with_features(DISK, 16, features.bits());
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(consumer.ask(kind, 0, &range(0, 1, 0), 0, &Parts::default()).status, STATUS_UNSUPP);
    }
    consumer.is_served();
}

#[test]
fn discard_and_write_zeroes_take_one_range_within_their_limit() {
    let disk = DiskProperties { sectors: u64::from(ZEROES_UNITS_MAX) * 2, ..DISK };
    let mut consumer = Consumer::new(disk, 16);
    let most = range(0, ZEROES_UNITS_MAX, 0);
    assert_eq!(consumer.ask(DISCARD, 0, &most, 0, &Parts::default()).status, STATUS_OK);
    assert_eq!(consumer.ask(WRITE_ZEROES, 0, &range(8, 8, 1), 0, &Parts::default()).status, STATUS_OK);
    let step = STEP_SECTORS;
    let mut done: Vec<_> = (0..u64::from(ZEROES_UNITS_MAX) / step).map(|at| ("discard", at * step, step)).collect();
    done.push(("write zeroes, unmap", 8, 8));
    assert_eq!(consumer.disk.runs, done);
    for bad in [range(0, ZEROES_UNITS_MAX + 1, 0), most.repeat(2), most[..15].to_vec(), Vec::new()] {
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(consumer.ask(kind, 0, &bad, 0, &Parts::default()).status, STATUS_IOERR);
        }
    }
    assert_eq!(consumer.disk.runs, done, "nothing more was done");
}

/// Windows' viostor sends 515 descriptors whatever `seg_max` says, and QEMU takes 1024 of them: in a table of their own, as
/// a queue of 128 has no room for them, or in a queue that has.
#[test]
fn requests_of_as_many_pieces_as_drivers_send_are_served() {
    for pieces in [1, SEG_MAX, SEG_MAX + 3, 253, 254, 513, 1022] {
        for (queue, indirect_from) in [(128, Some(0)), (1024, None), (1024, Some(1022))] {
            let disk = DiskProperties { sectors: 1022, ..DISK };
            let mut consumer = Consumer::new(disk, queue);
            let bytes = pieces as usize * 40;
            let (sectors, rest) = (bytes / 512, bytes % 512);
            // The last piece brings the request to whole sectors.
            let bytes = if rest == 0 { bytes } else { (sectors + 1) * 512 };
            let data: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let cut = vec![40; pieces as usize - 1];
            let write = Parts { readable: [vec![16], cut.clone()].concat(), writable: Vec::new(), indirect_from };
            let wrote = consumer.ask(OUT, 1, &data, 0, &write);
            assert_eq!((wrote.status, wrote.written), (STATUS_OK, 1), "{pieces} pieces, {indirect_from:?}");
            // Its last piece of data and its status are in one.
            let read = Parts { readable: Vec::new(), writable: cut, indirect_from };
            let back = consumer.ask(IN, 1, &[], bytes, &read);
            assert_eq!(
                (back.status, back.written as usize),
                (STATUS_OK, bytes + 1),
                "{pieces} pieces, {indirect_from:?}"
            );
            assert!(back.data == data, "{pieces} pieces, {indirect_from:?}");
        }
    }
}

/// OVMF sends requests of up to 1 GiB in one piece. They are served in steps, between which others have their turn.
#[test]
fn a_request_of_any_size_is_served_in_steps() {
    const PIECES: u16 = 3;
    const PIECE_SECTORS: u32 = 60;
    let disk = DiskProperties { sectors: u64::from(u32::from(PIECES) * PIECE_SECTORS), ..DISK };
    let begin = || {
        let mut consumer = Consumer::new(disk, 128);
        // The same memory over and over, which has room for no more.
        let piece = |next| Descriptor { addr: gpa(0), len: PIECE_SECTORS * 512, flags: NEXT, next };
        let chain = (2..2 + PIECES).map(piece);
        let header = Descriptor { addr: gpa(0x8000), len: 16, flags: NEXT, next: 1 };
        let status = Descriptor { addr: gpa(0x9000), len: 1, flags: WRITE, next: 0 };
        for (index, descriptor) in (0..).zip([header].into_iter().chain(chain).chain([status])) {
            consumer.driver.set_descriptor(&consumer.memory, index, descriptor);
        }
        consumer.memory.write(MemoryOffset(0x8000), &[1]).unwrap();
        consumer.driver.publish(&consumer.memory, 0);
        consumer
    };
    let step = |at: u64, sectors: u64| ("write", at * STEP_SECTORS, sectors);
    let whole = [0, 1, 2, 3, 4].map(|at| step(at, STEP_SECTORS));

    let mut consumer = begin();
    for steps in 1..=5 {
        let progress = consumer.poll_with(1, |_| ());
        assert_eq!((progress.served, progress.more), (0, true));
        assert_eq!(consumer.disk.runs, whole[..steps], "a step a poll");
        assert_eq!(consumer.queue.rest(&consumer.memory), Ok(false), "it does not rest over a request");
        assert_eq!(consumer.queue.base(), 0, "and another device would begin it anew");
    }
    let progress = consumer.poll_with(1, |_| ());
    assert_eq!((progress.served, progress.failed, progress.call), (1, 0, true));
    assert_eq!(consumer.disk.runs[5..], [step(5, 20)]);
    assert_eq!(consumer.bytes(0x9000, 1), [STATUS_OK]);
    consumer.is_served();

    // Killed between two steps: the next device begins it anew.
    let mut consumer = begin();
    consumer.poll_with(1, |_| ());
    consumer.restart_device();
    assert_eq!(consumer.poll().served, 1);
    assert_eq!(consumer.disk.runs[1..6], whole);
    consumer.is_served();

    // Withdrawn between two steps.
    let mut consumer = begin();
    consumer.poll_with(1, |_| ());
    consumer.device.disk.sectors = 0;
    let progress = consumer.poll_with(1, |_| ());
    assert_eq!((progress.served, progress.failed), (1, 1));
    assert_eq!((consumer.disk.runs.len(), consumer.bytes(0x9000, 1)), (1, vec![STATUS_IOERR]));
    consumer.device.disk = disk;
    consumer.is_served();
}

/// Whatever a consumer asks for, another has its turn after a step.
#[test]
fn a_poll_does_a_step_and_no_more() {
    let disk = DiskProperties { sectors: 1 << 20, ..DISK };
    let sectors = |consumer: &Consumer<Words>| consumer.disk.runs.iter().map(|(_, _, count)| *count).sum::<u64>();
    let range = range(0, ZEROES_UNITS_MAX, 0);
    let small = vec![0; 4 * 512];
    let empty: &[u8] = &[];
    for (kind, data, room, in_a_step) in [
        (OUT, &small[..], 1, STEP_SECTORS),
        (IN, empty, 4 * 512 + 1, u64::from(STEP_UNITS) * 4),
        (IN, empty, 72 * 512 + 1, STEP_BYTES / 512 / 72 * 72),
        (DISCARD, &range[..], 1, STEP_SECTORS),
        (WRITE_ZEROES, &range[..], 1, STEP_SECTORS),
    ] {
        let mut consumer = Consumer::new(disk, 128);
        for slot in 0..64 {
            let readable = [&u64::from(kind).to_le_bytes()[..], &(8 * u64::from(slot)).to_le_bytes(), data].concat();
            // In one place: what is read does not matter.
            consumer.place(slot * 2, 0x8000, &readable, room, &Parts::default());
            consumer.driver.publish(&consumer.memory, slot * 2);
        }
        for polls in 1..=2 {
            let progress = consumer.poll_with(STEP_UNITS, |_| ());
            assert!(progress.more, "{kind}");
            assert_eq!(sectors(&consumer), polls * in_a_step, "request {kind} of {room} bytes");
        }
    }
}

/// A lease may end at any moment: while a buffer is taken, a step waits for the medium, or one is answered.
#[test]
fn memory_that_may_not_be_touched_any_more_is_left_as_it_is_and_each_request_is_done_once() {
    let large = (STEP_SECTORS + 20) * 512;
    let disk = DiskProperties { sectors: 2 * large / 512, ..DISK };
    for looks in 0_u32.. {
        let mut consumer = Consumer::new(disk, 128);
        // A write in two steps, of the same memory over and over; one that ends at once; a read.
        let pieces = 4;
        let piece = u32::try_from(large / pieces).unwrap();
        let chain = (2..=1 + u16::try_from(pieces).unwrap()).map(|next| Descriptor {
            addr: gpa(0x10000),
            len: piece,
            flags: NEXT,
            next: next + 1,
        });
        let header = Descriptor { addr: gpa(0x8000), len: 16, flags: NEXT, next: 2 };
        let status = Descriptor { addr: gpa(0x9000), len: 1, flags: WRITE, next: 0 };
        consumer.memory.write(MemoryOffset(0x8000), &[1]).unwrap();
        consumer.driver.set_descriptor(&consumer.memory, 0, header);
        for (index, descriptor) in (2..).zip(chain.chain([status])) {
            consumer.driver.set_descriptor(&consumer.memory, index, descriptor);
        }
        let id = consumer.place(100, 0xa000, &[&[8][..], &[0; 15]].concat(), 21, &Parts::default());
        let read = consumer.place(110, 0xb000, &[0; 16], 513, &Parts::default());
        for head in [0, 100, 110] {
            consumer.driver.publish(&consumer.memory, head);
        }

        let (asked, frozen) = (Cell::new(0), RefCell::new(None));
        let all = |memory: &Words| {
            let mut bytes = vec![0; 128 << 10];
            memory.read(MemoryOffset(0), &mut bytes).unwrap();
            bytes
        };
        let Consumer { queue, device, table, memory, disk, .. } = &mut consumer;
        let memory = &*memory;
        let may = || {
            asked.set(asked.get() + 1);
            let may = asked.get() <= looks;
            if !may {
                frozen.borrow_mut().get_or_insert_with(|| all(memory));
            }
            may
        };
        let progress = queue.poll(device, table, memory, disk, Budget { units: 1000, may: &may });
        let frozen = frozen.into_inner();
        if let Some(frozen) = &frozen {
            assert!(all(memory) == *frozen, "{looks} looks: it is touched afterwards");
            assert!(!progress.call && !progress.more && progress.broken.is_none(), "{looks} looks: {progress:?}");
        }
        let rest = consumer.poll();
        assert_eq!((progress.served + rest.served, progress.failed + rest.failed), (3, 0), "{looks} looks");
        assert!(progress.call || rest.call, "{looks} looks: the driver is called with the next poll");
        let runs: Vec<_> = consumer.disk.runs.iter().map(|(what, ..)| *what).collect();
        assert_eq!(runs, ["write", "write", "read"], "{looks} looks: each step once");
        for at in [0x9000, id + 20, read + 512] {
            assert_eq!(consumer.bytes(at, 1), [STATUS_OK], "{looks} looks");
        }
        if frozen.is_none() {
            assert!(looks > 7, "three buffers, four steps, three answers");
            return;
        }
    }
}

/// Small writes that wait one after the other are one call of the back end; what lies between them keeps its place, and each
/// has its own status.
#[test]
fn small_writes_that_wait_are_written_together_and_answered_each_by_itself() {
    let mut consumer = Consumer::new(DISK, 128);
    let offer = |consumer: &mut Consumer<Words>, kind: u32, unit: u64, data: &[u8], room: usize| {
        let slot = consumer.driver.published % 32;
        let (index, at) = (slot * 4, 0x8000 + u64::from(slot) * 0xc00);
        let readable = [&u64::from(kind).to_le_bytes()[..], &unit.to_le_bytes(), data].concat();
        consumer.place(index, at, &readable, room, &Parts::default());
        consumer.driver.publish(&consumer.memory, index);
    };
    let sector = |tag: u8| vec![tag; 512];
    // The second write of sector 5 counts, and the read between sees the first.
    offer(&mut consumer, OUT, 5, &sector(1), 1);
    offer(&mut consumer, OUT, 9, &[sector(2), sector(3)].concat(), 1);
    offer(&mut consumer, IN, 5, &[], 513);
    offer(&mut consumer, OUT, 5, &sector(4), 1);
    offer(&mut consumer, OUT, DISK.sectors, &sector(5), 1);
    offer(&mut consumer, OUT, 6, &sector(6), 1);
    offer(&mut consumer, FLUSH, 0, &[], 1);
    offer(&mut consumer, OUT, 7, &sector(7), 1);
    let mut results = Vec::new();
    let progress = consumer.poll_with(100, |served| results.push(served.result));
    assert_eq!((progress.served, progress.failed), (8, 1));
    assert_eq!(results[4], Err(RequestError::OutOfRange));
    let runs = [
        ("write together", 5, 1),
        ("write together", 9, 2),
        ("read", 5, 1),
        ("write", 5, 1),
        ("write", 6, 1),
        ("flush", 0, 0),
        ("write", 7, 1),
    ];
    assert_eq!(consumer.disk.runs, runs);
    assert_eq!([5, 6, 7, 9, 10].map(|at: usize| consumer.disk.data[at * 512]), [4, 6, 7, 2, 3]);

    // The back end's error is of one request.
    consumer.disk.runs.clear();
    consumer.disk.fails = Some(BackendError::Media);
    for unit in 20..23 {
        offer(&mut consumer, OUT, unit, &sector(8), 1);
    }
    let mut results = Vec::new();
    consumer.poll_with(100, |served| results.push(served.result));
    assert_eq!(results, [Err(RequestError::Backend(BackendError::Media)), Ok(()), Ok(())]);
    // A batch has its bounds: 32 sectors, and what the budget allows.
    for (budget, served, batched) in [(100, 11, 10), (15, 5, 5)] {
        consumer.disk.runs.clear();
        for unit in 0..11 {
            offer(&mut consumer, OUT, unit * 3, &sector(9).repeat(3), 1);
        }
        assert_eq!(consumer.poll_with(budget, |_| ()).served, served);
        let together = consumer.disk.runs.iter().filter(|(what, ..)| *what == "write together").count();
        assert_eq!(together, batched, "a budget of {budget}");
        consumer.poll();
    }
}

/// FreeBSD leaves a disk alone whose `size_max` is below 1 MiB, and it is not needed: a piece may have any length.
#[test]
fn no_limit_is_set_to_the_size_of_a_piece() {
    let size_max = 1 << 1;
    assert_eq!(DISK.features().bits() & size_max, 0);
    let device = BlkDevice::new(DISK, DISK.features().bits()).unwrap();
    assert_eq!(device.config()[8..12], [0; 4]);
}

#[test]
fn errors_of_the_back_end_have_their_status() {
    let cases = [
        (BackendError::OutOfRange, STATUS_IOERR),
        (BackendError::Media, STATUS_IOERR),
        (BackendError::ReadOnly, STATUS_IOERR),
        (BackendError::Memory, STATUS_IOERR),
        (BackendError::Unsupported, STATUS_UNSUPP),
    ];
    let mut consumer = Consumer::new(DISK, 16);
    for (why, status) in cases {
        consumer.disk.fails = Some(why);
        assert_eq!(consumer.ask(IN, 0, &[], 512, &Parts::default()).status, status);
        consumer.is_served();
    }
}

#[test]
fn a_withdrawn_disk_fails_every_request_and_serves_again_when_it_is_back() {
    let mut consumer = Consumer::new(DISK, 16);
    consumer.device.disk.sectors = 0;
    assert_eq!(consumer.ask(IN, 0, &[], 512, &Parts::default()).status, STATUS_IOERR);
    assert_eq!(consumer.ask(OUT, 0, &[1; 512], 0, &Parts::default()).status, STATUS_IOERR);
    consumer.device.disk.sectors = DISK.sectors;
    consumer.is_served();
}
