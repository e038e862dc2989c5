//! Reads and writes: every way that data move, in pieces of any size, with and without digests.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test ends where it is surprised")]

mod common;

use nvmf::{Namespace, SectorBytes, StorageError, Target};

use common::disk::RamDisk;
use common::host::{Host, Reply, Sqe, icreq, io};
use common::{HOST, NAMESPACE, SECTORS, SUBSYSTEM, target, target_of};

/// Opcodes.
const FLUSH: u8 = 0;
const WRITE: u8 = 1;
const READ: u8 = 2;
const COMPARE: u8 = 5;
const ZEROES: u8 = 8;
const DSM: u8 = 9;

/// The first of two, and the second.
const FIRST: u8 = 0x41;
const SECOND: u8 = 0x42;

fn disk() -> RamDisk {
    RamDisk::new(512, SECTORS)
}

/// An enabled controller, and an I/O queue of it.
fn pair<'a>(target: &'a Target, disk: &mut RamDisk, attributes: u8, digests: u8) -> (Host<'a>, Host<'a>) {
    let (admin, id) = Host::admin(target, disk, SUBSYSTEM, 0);
    let queue = Host::io(target, disk, id, 1, attributes, digests);
    (admin, queue)
}

/// Bytes that differ everywhere.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..bytes).map(next).collect()
}

/// The statuses of commands that ended.
fn ends(replies: &[Reply]) -> Vec<(u16, u16)> {
    let end = |reply: &Reply| match reply {
        Reply::End { cid, status, .. } => Some((*cid, *status)),
        _ => None,
    };
    replies.iter().filter_map(end).collect()
}

#[test]
fn what_is_written_is_read_however_it_moves() {
    for digests in 0..4 {
        for segment in [1, 7, 100, 4096, 1 << 16] {
            let (target, mut disk) = (target(), disk());
            let (_admin, mut queue) = pair(&target, &mut disk, 0, digests);
            queue.segment = segment;
            let small = noise(4096, u64::from(digests) + 1);
            queue.capsule(io(WRITE, 0xfff1, 100, 8).carries(4096), &small);
            assert_eq!(ends(&queue.run(&mut disk)), [(0xfff1, 0)]);
            // 64 KiB in pieces that are no whole sectors.
            let large = noise(64 << 10, 3);
            assert_eq!(queue.write(&mut disk, io(WRITE, 2, 200, 128), &large, 5000), 0);
            let (status, _, data) = queue.command(&mut disk, io(READ, 3, 100, 228));
            assert_eq!(status, 0);
            assert!(data[..4096] == small && data[100 * 512..] == large, "digests {digests}, segments of {segment}");
        }
    }
}

#[test]
fn sectors_of_4096_bytes_are_served_too() {
    let namespace = Namespace { sector_bytes: SectorBytes::B4096, sectors: 512, ..NAMESPACE };
    let (target, mut disk) = (target_of(namespace), RamDisk::new(4096, 512));
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 3);
    for segment in [1, 5000, 1 << 20] {
        queue.segment = segment;
        let data = noise(128 << 10, segment as u64);
        assert_eq!(queue.write(&mut disk, io(WRITE, 1, 480, 32).moves(128 << 10), &data, 128 << 10), 0);
        let (status, _, read) = queue.command(&mut disk, io(READ, 2, 480, 32).moves(128 << 10));
        assert!(status == 0 && read == data, "segments of {segment}");
    }
    assert_eq!(queue.command(&mut disk, io(READ, 2, 470, 33).moves(132 << 10)).0, 0x4002, "beyond MDTS");
}

#[test]
fn without_flow_control_the_last_data_say_that_the_read_is_done() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 4, 0);
    queue.capsule(io(READ, 1, 5, 2), &[]);
    let replies = queue.run(&mut disk);
    let [Reply::Data { cid: 1, offset: 0, last: true, success: true, .. }] = replies[..] else { panic!("{replies:?}") };
    disk.bad = Some((6, StorageError::Media));
    queue.capsule(io(READ, 2, 5, 2), &[]);
    let replies = queue.run(&mut disk);
    let [Reply::End { cid: 2, status: 0x4281, head: 0xffff, .. }] = replies[..] else { panic!("{replies:?}") };
    // With it they don't, and each end counts the commands that were taken.
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    for head in 1..200 {
        queue.capsule(io(READ, 1, 10, 1), &[]);
        let replies = queue.run(&mut disk);
        let [Reply::Data { success: false, last: true, .. }, Reply::End { head: found, .. }] = replies[..] else {
            panic!("{replies:?}")
        };
        // Connect was the first one.
        assert_eq!(found, (head + 1) % 128);
    }
}

#[test]
fn data_are_aligned_as_the_host_asks() {
    let (target, mut disk) = (target(), disk());
    let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    for dwords in [1, 2, 8, 32] {
        let mut queue = Host::open(&target);
        queue.alignment = dwords * 4;
        queue.init(&mut disk, 3);
        assert_eq!(queue.connect(&mut disk, SUBSYSTEM, HOST, 1, id, 0, 0).0, 0);
        let (status, _, data) = queue.command(&mut disk, io(READ, 1, 9, 8));
        assert_eq!((status, data.len(), data[0]), (0, 4096, 9));
    }
}

#[test]
fn writes_that_wait_go_to_the_storage_together() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    queue.segment = 1 << 20;
    disk.calls.clear();
    disk.bad = Some((60, StorageError::Media));
    for (cid, lba) in [(1, 10), (2, 30), (3, 60), (4, 10)] {
        queue.capsule(io(WRITE, cid, lba, 2).carries(1024), &[cid as u8; 1024]);
    }
    queue.capsule(io(READ, 5, 10, 1), &[]);
    let replies = queue.run(&mut disk);
    assert_eq!(ends(&replies), [(5, 0), (1, 0), (2, 0), (3, 0x4280), (4, 0)], "each ends by itself");
    let together: Vec<_> = disk.calls.iter().filter(|(what, ..)| *what == "write together").collect();
    assert_eq!(together.len(), 4);
    assert_eq!(disk.data[10 * 512], 4, "the later one counts");
    // A long one is done in steps, and those behind it need not wait for its end.
    disk.calls.clear();
    queue.capsule(io(WRITE, 6, 100, 128), &[]);
    let replies = queue.run(&mut disk);
    let [Reply::Ask { tag, .. }] = replies[..] else { panic!("{replies:?}") };
    queue.data(6, tag, 0, &noise(64 << 10, 1), true);
    queue.capsule(io(WRITE, 7, 500, 1).carries(512), &[7; 512]);
    assert_eq!(ends(&queue.run(&mut disk)), [(7, 0), (6, 0)]);
    assert!(disk.calls.iter().all(|(.., sectors)| *sectors <= 32));
}

#[test]
fn many_large_writes_wait_for_room() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    for cid in 0..20 {
        queue.capsule(io(WRITE, cid, u64::from(cid) * 128, 128), &[]);
    }
    let (mut asked, mut ended) = (queue.run(&mut disk), 0);
    assert_eq!(asked.len(), 8, "512 KiB are in flight, and no more");
    while let Some(reply) = asked.pop() {
        let Reply::Ask { cid, tag, offset: 0, bytes: 65536 } = reply else { panic!("{reply:?}") };
        queue.data(cid, tag, 0, &[cid as u8 + 1; 65536], true);
        for reply in queue.run(&mut disk) {
            match reply {
                Reply::End { status: 0, .. } => ended += 1,
                other => asked.push(other),
            }
        }
    }
    assert_eq!(ended, 20);
    assert!((0..20).all(|cid| disk.data[cid * 65536..][..65536].iter().all(|byte| *byte == cid as u8 + 1)));
}

#[test]
fn small_writes_pass_large_ones_that_wait_for_their_data() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    for cid in 0..20 {
        queue.capsule(io(WRITE, cid, u64::from(cid) * 128, 128), &[]);
    }
    let asked = queue.run(&mut disk);
    // The host's data stand in the stream behind capsules: those must not wait for the room that the data will free.
    for cid in 100..170 {
        queue.capsule(io(WRITE, cid, 3000, 16).carries(8192), &[1; 8192]);
    }
    for reply in &asked {
        let Reply::Ask { cid, tag, bytes, .. } = reply else { panic!("{reply:?}") };
        queue.data(*cid, *tag, 0, &vec![2; *bytes as usize], true);
    }
    assert_eq!(ends(&queue.run(&mut disk)).len(), 70 + asked.len());
}

#[test]
fn a_host_that_does_not_read_stops_itself() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    // Its replies pile up in no memory: commands are done, and then nothing more is taken.
    let mut taken = 0;
    for cid in 0..128 {
        let mut sent = common::host::pdu(4, 0, &io(WRITE, cid, 0, 16).carries(8192).0, &[1; 8192], 0);
        while !sent.is_empty() {
            let more = queue.connection.input(&target, &sent, queue.now);
            sent.drain(..more);
            if !queue.connection.step(&target, &mut disk, queue.now) && more == 0 {
                break;
            }
        }
        taken += usize::from(sent.is_empty());
    }
    assert_eq!(taken, 128, "as many as the queue has entries");
    assert_eq!(ends(&queue.run(&mut disk)).len(), 128);
    // Another host is served meanwhile.
    let (_admin, mut other) = pair(&target, &mut disk, 0, 0);
    assert_eq!(other.command(&mut disk, io(READ, 1, 0, 1)).0, 0);
}

#[test]
fn data_with_a_bad_digest_fail_their_command_alone() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 3);
    let before = disk.data.clone();
    let mut bad = common::host::pdu(4, 0, &io(WRITE, 1, 0, 1).carries(512).0, &[1; 512], 3);
    *bad.last_mut().unwrap() ^= 1;
    queue.send(&bad);
    assert_eq!(ends(&queue.run(&mut disk)), [(1, 0x22)]);
    // In the first of two pieces.
    queue.capsule(io(WRITE, 2, 0, 16), &[]);
    let replies = queue.run(&mut disk);
    let [Reply::Ask { tag, .. }] = replies[..] else { panic!("{replies:?}") };
    queue.data(2, tag, 0, &[1; 4096], false);
    *queue.unsent.last_mut().unwrap() ^= 1;
    assert_eq!(queue.run(&mut disk), []);
    queue.data(2, tag, 4096, &[1; 4096], true);
    assert_eq!(ends(&queue.run(&mut disk)), [(2, 0x22)]);
    assert!(disk.data == before, "nothing of it is written");
    assert_eq!(queue.write(&mut disk, io(WRITE, 3, 0, 16), &[3; 8192], 8192), 0);
}

#[test]
fn commands_have_their_statuses() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    for (what, command, status) in [
        ("Flush", Sqe::new(FLUSH, 1, 1), 0),
        ("a second half alone", io(WRITE, 1, 0, 1).flags(SECOND), 0x000a),
        ("Flush of all", Sqe::new(FLUSH, 1, u32::MAX), 0),
        ("Flush of another", Sqe::new(FLUSH, 1, 2), 0x400b),
        ("an unknown opcode", Sqe::new(0x11, 1, 1), 0x4001),
        ("past the end", io(READ, 1, SECTORS, 1), 0x4080),
        ("over the end", io(READ, 1, SECTORS - 1, 2), 0x4080),
        ("over all numbers", io(READ, 1, u64::MAX, 2), 0x4080),
        ("another namespace", Sqe::new(READ, 1, 2).moves(512), 0x400b),
        ("all namespaces", Sqe::new(READ, 1, u32::MAX).moves(512), 0x400b),
        ("beyond MDTS", io(READ, 1, 0, 257), 0x4002),
        ("an SGL that is too short", io(READ, 1, 0, 2).moves(512), 0x400f),
        ("an SGL that is too long", io(READ, 1, 0, 2).moves(2048), 0x400f),
        ("a read into the capsule", io(READ, 1, 0, 2).carries(1024), 0x4011),
        ("PRPs", io(READ, 1, 0, 2).flags(0), 0x4002),
        ("a write without its data", io(WRITE, 1, 0, 1).carries(512), 0x400f),
        ("Write Zeroes", io(ZEROES, 1, 0, 3000).moves(0), 0),
        ("Write Zeroes over the end", io(ZEROES, 1, 1, 4096).moves(0), 0x4080),
        ("Connect", Sqe::new(0x7f, 1, 1), 0x400c),
        ("a property", Sqe::new(0x7f, 1, 4), 0x4002),
        ("half a fused read", io(READ, 1, 0, 1).flags(FIRST), 0x4002),
        ("both halves", io(READ, 1, 0, 1).flags(0x43), 0x4002),
    ] {
        assert_eq!(queue.command(&mut disk, command).0, status, "{what}");
    }
    assert!(disk.data[..3000 * 512].iter().all(|byte| *byte == 0));
    // What is in a capsule that is refused is passed over.
    let mut offset = io(WRITE, 1, 0, 1).carries(512);
    offset.0[24] = 8;
    for (command, status) in [
        (offset, 0x4016),
        (io(WRITE, 1, 0, 2).carries(1024), 0x400f),
        (io(WRITE, 1, 0, 1), 0x4002),
        (io(ZEROES, 1, 0, 1).carries(512), 0x4002),
        (io(WRITE, 1, SECTORS, 1).carries(512), 0x4080),
    ] {
        queue.capsule(command, &[0xee; 512]);
        assert_eq!(ends(&queue.run(&mut disk)), [(1, status)]);
    }
    for (why, read, written) in [
        (StorageError::Media, 0x4281, 0x4280),
        (StorageError::OutOfRange, 0x4080, 0x4080),
        (StorageError::ReadOnly, 0x4020, 0x4020),
        (StorageError::Unsupported, 0x4001, 0x4001),
        (StorageError::Gone, 0x400b, 0x400b),
        (StorageError::Internal, 6, 6),
    ] {
        disk.bad = Some((77, why));
        assert_eq!(queue.command(&mut disk, io(READ, 1, 70, 8)).0, read);
        assert_eq!(queue.write(&mut disk, io(WRITE, 2, 70, 8), &[1; 4096], 4096), written);
        assert_eq!(queue.write(&mut disk, io(COMPARE, 3, 70, 8), &[1; 4096], 4096), read);
        assert_eq!(queue.command(&mut disk, io(ZEROES, 4, 70, 8).moves(0)).0, written);
    }
}

#[test]
fn a_read_only_namespace_refuses_what_would_change_it() {
    let (target, mut disk) = (target_of(Namespace { read_only: true, ..NAMESPACE }), disk());
    let (mut admin, mut queue) = pair(&target, &mut disk, 0, 0);
    let (_, _, ns) = admin.command(&mut disk, common::host::identify(1, 0, 1));
    assert_eq!(ns[99], 1);
    assert_eq!(queue.command(&mut disk, io(READ, 1, 0, 1)).0, 0);
    assert_eq!(queue.command(&mut disk, io(ZEROES, 1, 0, 1).moves(0)).0, 0x4020);
    for command in [io(WRITE, 1, 0, 8), Sqe::new(DSM, 1, 1).dword(11, 4)] {
        queue.capsule(command.carries(4096), &[0; 4096]);
        assert_eq!(ends(&queue.run(&mut disk)), [(1, 0x4020)]);
    }
}

#[test]
fn ranges_are_deallocated_in_steps() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    let ranges = |list: &[(u32, u64)]| {
        let mut data = vec![0xee; 4096];
        for (place, (sectors, first)) in data.chunks_mut(16).zip(list) {
            place[4..8].copy_from_slice(&sectors.to_le_bytes());
            place[8..].copy_from_slice(&first.to_le_bytes());
        }
        data
    };
    let dsm =
        |count: u32, attributes: u32| Sqe::new(DSM, 1, 1).dword(10, count - 1).dword(11, attributes).carries(4096);
    let mut ask = |queue: &mut Host<'_>, command, data: &[u8]| {
        queue.capsule(command, data);
        ends(&queue.run(&mut disk))
    };
    let before = ask(&mut queue, dsm(3, 0), &ranges(&[(100, 10), (0, 0), (1, 300)]));
    assert_eq!(before, [(1, 0)], "a hint that means nothing");
    assert_eq!(ask(&mut queue, dsm(3, 4), &ranges(&[(100, 10), (0, 0), (1, 300)])), [(1, 0)]);
    assert_eq!(ask(&mut queue, dsm(1, 4), &ranges(&[(1, SECTORS)])), [(1, 0x4080)]);
    assert_eq!(ask(&mut queue, dsm(1, 4), &ranges(&[(u32::MAX, 1)])), [(1, 0x4080)]);
    assert_eq!(ask(&mut queue, dsm(2, 4).carries(16), &[0; 16]), [(1, 0x400f)], "fewer ranges than it says");
    let calls: Vec<_> = disk.calls.iter().filter(|(what, ..)| *what == "deallocate").map(|it| (it.1, it.2)).collect();
    assert_eq!(calls, [(10, 32), (42, 32), (74, 32), (106, 4), (300, 1)]);
}

#[test]
fn compare_tells_whether_the_bytes_are_there() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    let there = disk.data[..64 << 10].to_vec();
    assert_eq!(queue.write(&mut disk, io(COMPARE, 1, 0, 128), &there, 1 << 16), 0);
    for at in [0, 20_000, 65_535] {
        let mut other = there.clone();
        other[at] ^= 1;
        assert_eq!(queue.write(&mut disk, io(COMPARE, 1, 0, 128), &other, 1 << 16), 0x4285, "byte {at}");
    }
}

#[test]
fn a_fused_compare_and_write_is_one() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    let old = disk.data[9 * 512..10 * 512].to_vec();
    let pair = |queue: &mut Host<'_>, disk: &mut RamDisk, expected: &[u8], byte: u8| {
        queue.capsule(io(COMPARE, 1, 9, 1).carries(512).flags(FIRST), expected);
        queue.capsule(io(WRITE, 2, 9, 1).carries(512).flags(SECOND), &[byte; 512]);
        let mut ends = ends(&queue.run(disk));
        ends.sort_unstable();
        ends
    };
    assert_eq!(pair(&mut queue, &mut disk, &[0xee; 512], 1), [(1, 0x4285), (2, 9)]);
    assert_eq!(pair(&mut queue, &mut disk, &old, 2), [(1, 0), (2, 0)]);
    assert_eq!(disk.data[9 * 512..10 * 512], [2; 512]);
    disk.bad = Some((9, StorageError::Media));
    assert_eq!(pair(&mut queue, &mut disk, &old, 3), [(1, 0x4280), (2, 9)]);
    disk.bad = None;

    // The write's data are asked for, and other commands come between.
    queue.capsule(io(COMPARE, 1, 9, 1).flags(FIRST), &[]);
    queue.capsule(io(WRITE, 2, 9, 1).flags(SECOND), &[]);
    queue.capsule(io(READ, 3, 9, 1), &[]);
    let replies = queue.run(&mut disk);
    let ask = |reply: &Reply| if let Reply::Ask { cid, tag, .. } = reply { Some((*cid, *tag)) } else { None };
    let asks: Vec<_> = replies.iter().filter_map(ask).collect();
    assert_eq!((asks.len(), ends(&replies)), (2, vec![(3, 0)]));
    queue.data(2, asks[1].1, 0, &[4; 512], true);
    assert_eq!(queue.run(&mut disk), []);
    queue.data(1, asks[0].1, 0, &[2; 512], true);
    assert_eq!(ends(&queue.run(&mut disk)), [(1, 0), (2, 0)]);
    assert_eq!(disk.data[9 * 512], 4);
}

#[test]
fn halves_that_do_not_belong_together_fail() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 3);
    let compare = io(COMPARE, 1, 9, 1).carries(512).flags(FIRST);
    let write = io(WRITE, 2, 9, 1).carries(512).flags(SECOND);
    for (what, first, second, statuses) in [
        ("no second half", compare, io(WRITE, 2, 9, 1).carries(512), [(1, 0x000a), (2, 0)]),
        ("another sector", compare, io(WRITE, 2, 8, 1).carries(512).flags(SECOND), [(1, 9), (2, 0x4002)]),
        ("no write", compare, io(COMPARE, 2, 9, 1).carries(512).flags(SECOND), [(1, 9), (2, 0x4002)]),
        ("a first that fails", io(COMPARE, 1, SECTORS, 1).carries(512).flags(FIRST), write, [(1, 0x4080), (2, 9)]),
        ("a second that fails", compare, io(WRITE, 2, SECTORS, 1).carries(512).flags(SECOND), [(1, 9), (2, 0x4080)]),
    ] {
        queue.capsule(first, &[9; 512]);
        queue.capsule(second, &[8; 512]);
        let mut found = ends(&queue.run(&mut disk));
        found.sort_unstable();
        assert_eq!(found, statuses, "{what}");
    }
    // Two sectors are more than what never tears.
    queue.capsule(io(COMPARE, 1, 9, 2).carries(1024).flags(FIRST), &[9; 1024]);
    queue.capsule(io(WRITE, 2, 9, 2).carries(1024).flags(SECOND), &[9; 1024]);
    assert_eq!(ends(&queue.run(&mut disk)), [(1, 0x4014), (2, 9)]);
    // A bad digest in either half.
    for half in 0..2 {
        for (at, (command, bytes)) in [(compare, [9; 512]), (write, [7; 512])].into_iter().enumerate() {
            queue.capsule(command, &bytes);
            if at == half {
                *queue.unsent.last_mut().unwrap() ^= 1;
            }
        }
        let mut found = ends(&queue.run(&mut disk));
        found.sort_unstable();
        assert_eq!(found, if half == 0 { [(1, 0x22), (2, 9)] } else { [(1, 9), (2, 0x22)] });
    }
    // The first one's digest, known before the second one comes; and a queue that ends in between.
    queue.capsule(compare, &[9; 512]);
    *queue.unsent.last_mut().unwrap() ^= 1;
    assert_eq!(ends(&queue.run(&mut disk)), [(1, 0x22)]);
    queue.capsule(write, &[7; 512]);
    assert_eq!(ends(&queue.run(&mut disk)), [(2, 9)]);
    queue.capsule(compare, &[9; 512]);
    assert_eq!(queue.run(&mut disk), []);
}

#[test]
fn disconnect_is_answered_and_then_the_connection_closes() {
    let (target, mut disk) = (target(), disk());
    let (_admin, mut queue) = pair(&target, &mut disk, 0, 0);
    queue.capsule(Sqe::new(0x7f, 1, 8), &[]);
    assert_eq!(ends(&queue.run(&mut disk)), [(1, 0)]);
    assert!(queue.connection.is_closed());
    drop(queue);
    let _again = Host::io(&target, &mut disk, 1, 1, 0, 0);
}

#[test]
fn the_controller_reset_ends_its_io_queues() {
    let (target, mut disk) = (target(), disk());
    let (mut admin, mut queue) = pair(&target, &mut disk, 0, 0);
    assert_eq!(admin.command(&mut disk, common::host::property_set(1, 0x14, 0x46_0000)).0, 0);
    queue.run(&mut disk);
    assert!(queue.connection.is_closed());
    let mut early = Host::greet(&target, &mut disk, 0);
    assert_eq!(early.connect(&mut disk, SUBSYSTEM, HOST, 2, 1, 0, 0).0, 0x400c);
    admin.enable(&mut disk);
    assert_eq!(early.connect(&mut disk, SUBSYSTEM, HOST, 2, 1, 0, 0).0, 0);
}

#[test]
fn a_connection_may_come_in_single_bytes() {
    let (target, mut disk) = (target(), disk());
    let mut host = Host::open(&target);
    host.segment = 1;
    host.send(&icreq(0, 0, 3));
    host.run(&mut disk);
    host.digests = 3;
    assert_eq!(host.connect(&mut disk, SUBSYSTEM, HOST, 0, 0xffff, 0, 0).0, 0);
    host.enable(&mut disk);
    assert_eq!(host.command(&mut disk, common::host::identify(1, 1, 0)).2.len(), 4096);
}
