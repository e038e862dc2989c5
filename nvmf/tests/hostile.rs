//! Hosts that break the rules: each breach has its end, and the next good request of another host is served.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test ends where it is surprised")]

mod common;

use nvmf::{Connection, Millis, Target};

use common::disk::RamDisk;
use common::host::{Host, Reply, Sqe, connect, icreq, io, pdu};
use common::{ENDPOINT, HOST, SECTORS, SUBSYSTEM, target};

/// Fatal errors (FES).
const FIELD: u16 = 1;
const SEQUENCE: u16 = 2;
const DIGEST: u16 = 3;
const RANGE: u16 = 4;
const LIMIT: u16 = 5;
const UNSUPPORTED: u16 = 6;

fn disk() -> RamDisk {
    RamDisk::new(512, SECTORS)
}

/// What was sent is fatal, and then nothing else is done.
fn assert_ends(host: &mut Host<'_>, disk: &mut RamDisk, what: &str, error: u16, information: u32) {
    let replies = host.run(disk);
    assert_eq!(replies.last(), Some(&Reply::Terminated { error, information }), "{what}");
    assert!(host.connection.is_closed(), "{what}");
    host.capsule(io(2, 9, 0, 1), &[]);
    assert_eq!(host.run(disk), [], "{what}");
}

/// A good host, from its first byte to a sector.
fn is_served(target: &Target, disk: &mut RamDisk) {
    let (_admin, id) = Host::admin(target, disk, SUBSYSTEM, 0);
    let mut queue = Host::io(target, disk, id, 1, 0, 0);
    let (status, _, data) = queue.command(disk, io(2, 1, 33, 1));
    assert_eq!((status, data.len(), data[0]), (0, 512, 33), "a good host is served");
}

/// A command capsule whose bytes from `at` on are others.
fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut capsule = pdu(4, 0, &io(1, 1, 0, 1).carries(512).0, &[1; 512], 0);
    capsule[at..at + bytes.len()].copy_from_slice(bytes);
    capsule
}

#[test]
fn a_pdu_that_breaks_the_rules_ends_its_connection() {
    let (target, mut disk) = (target(), disk());
    let before = disk.data.clone();
    for (what, bytes, error, information) in [
        ("a type that only controllers send", with(0, &[5]), FIELD, 0),
        ("a type that is not defined", with(0, &[0x42]), FIELD, 0),
        ("a header digest that was not agreed on", with(1, &[1]), FIELD, 1),
        ("a data digest that was not agreed on", with(1, &[2]), FIELD, 1),
        ("a header that is too short", with(2, &[24]), FIELD, 2),
        ("a header that is too long", with(2, &[255]), FIELD, 2),
        ("data in the header", with(3, &[8]), FIELD, 3),
        ("data at no dword", with(3, &[73]), FIELD, 3),
        ("data without an offset", with(3, &[0]), FIELD, 3),
        ("data that go on behind their PDU", with(4, &76_u32.to_le_bytes()), FIELD, 0),
        ("a PDU shorter than its header", with(4, &71_u32.to_le_bytes()), FIELD, 4),
        ("a PDU of no length", with(4, &[0; 4]), FIELD, 4),
        ("a PDU of 4 GiB", with(4, &[0xff; 4]), FIELD, 4),
        ("more than a capsule holds", with(4, &(72 + 8192 + 4_u32).to_le_bytes()), FIELD, 4),
        ("ICReq again", icreq(0, 0, 0), SEQUENCE, 0),
        ("H2CData without its length", pdu(6, 4, &[0; 16], &[], 0), FIELD, 16),
        ("H2CData nobody asked for", pdu(6, 4, &data_header(1, 0, 0, 512), &[0; 512], 0), FIELD, 10),
        ("H2CData with any tag", pdu(6, 4, &data_header(1, 0xffff, 0, 512), &[0; 512], 0), FIELD, 10),
        ("H2CData of another length", pdu(6, 4, &data_header(1, 0, 0, 512), &[0; 516], 0), FIELD, 16),
        ("H2CData beyond MAXH2CDATA", huge_data(), LIMIT, 0),
    ] {
        let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
        let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
        queue.send(&bytes);
        assert_ends(&mut queue, &mut disk, what, error, information);
        is_served(&target, &mut disk);
    }
    assert!(disk.data == before, "nothing was written");
}

fn data_header(cid: u16, tag: u16, offset: u32, bytes: u32) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend_from_slice(&cid.to_le_bytes());
    header.extend_from_slice(&tag.to_le_bytes());
    header.extend_from_slice(&offset.to_le_bytes());
    header.extend_from_slice(&bytes.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header
}

fn huge_data() -> Vec<u8> {
    let mut bytes = pdu(6, 4, &data_header(1, 0, 0, 1 << 20), &[0; 4], 0);
    bytes[4..8].copy_from_slice(&((1 << 20) + 24_u32).to_le_bytes());
    bytes
}

#[test]
fn the_greeting_is_checked() {
    let (target, mut disk) = (target(), disk());
    let mut short = icreq(0, 0, 0);
    short[4] = 127;
    for (what, bytes, error, information) in [
        ("another version", icreq(1, 0, 0), UNSUPPORTED, 8),
        ("an alignment beyond 32 dwords", icreq(0, 32, 0), FIELD, 10),
        ("digests that are not defined", icreq(0, 0, 4), FIELD, 11),
        ("a short ICReq", short, FIELD, 4),
        ("a command first", pdu(4, 0, &io(2, 1, 0, 1).0, &[], 0), SEQUENCE, 0),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec(), FIELD, 0),
    ] {
        let mut host = Host::open(&target);
        host.send(&bytes);
        assert_ends(&mut host, &mut disk, what, error, information);
        is_served(&target, &mut disk);
    }
    // A termination by the host is the end, and has no reply.
    let mut host = Host::open(&target);
    host.send(&pdu(2, 0, &[0; 16], &[], 0));
    assert_eq!(host.run(&mut disk), []);
    assert!(host.connection.is_closed());
}

#[test]
fn a_bad_header_digest_is_fatal() {
    let (target, mut disk) = (target(), disk());
    let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let mut queue = Host::io(&target, &mut disk, id, 1, 0, 1);
    let mut capsule = pdu(4, 0, &io(2, 1, 0, 1).0, &[], 1);
    capsule[75] ^= 1;
    let received = u32::from_le_bytes(capsule[72..76].try_into().unwrap());
    queue.send(&capsule);
    assert_ends(&mut queue, &mut disk, "a bad digest", DIGEST, received);
    is_served(&target, &mut disk);
}

#[test]
fn data_must_be_those_that_were_asked_for() {
    let (target, mut disk) = (target(), disk());
    let before = disk.data.clone();
    for (what, offset, bytes, last, cid, error, information) in [
        ("not the first byte", 4096, 4096, true, 1, RANGE, 0),
        ("more than was asked for", 0, 8196, true, 1, RANGE, 0),
        ("at the end of numbers", u32::MAX - 3, 4096, true, 1, RANGE, 0),
        ("the last without the rest", 0, 4096, true, 1, SEQUENCE, 0),
        ("all, and not the last", 0, 8192, false, 1, SEQUENCE, 0),
        ("another command's", 0, 8192, true, 2, FIELD, 8),
    ] {
        let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
        let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
        queue.capsule(io(1, 1, 0, 16), &[]);
        let replies = queue.run(&mut disk);
        let [Reply::Ask { tag, bytes: 8192, .. }] = replies[..] else { panic!("{replies:?}") };
        queue.data(cid, tag, offset, &vec![9; bytes], last);
        assert_ends(&mut queue, &mut disk, what, error, information);
        is_served(&target, &mut disk);
    }
    // After the last one nothing is asked for.
    let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
    queue.capsule(io(1, 1, 0, 16), &[]);
    let replies = queue.run(&mut disk);
    let [Reply::Ask { tag, .. }] = replies[..] else { panic!("{replies:?}") };
    assert!(disk.data == before, "nothing was written");
    queue.data(1, tag, 0, &[9; 8192], true);
    queue.data(1, tag, 0, &[9; 8192], true);
    assert_ends(&mut queue, &mut disk, "data twice", FIELD, 10);
}

#[test]
fn more_commands_than_the_queue_has_entries_are_fatal() {
    let (target, mut disk) = (target(), disk());
    let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
    queue.segment = 1 << 20;
    for cid in 0..129 {
        queue.capsule(io(2, cid, 0, 1), &[]);
    }
    assert_ends(&mut queue, &mut disk, "129 commands", SEQUENCE, 0);
    let mut host = Host::greet(&target, &mut disk, 0);
    let (command, data) = connect(SUBSYSTEM, HOST, 0, 0xffff, 0, 0);
    host.capsule(command, &data);
    host.capsule(command, &data);
    assert_ends(&mut host, &mut disk, "two Connects at once", SEQUENCE, 0);
    is_served(&target, &mut disk);
}

#[test]
fn queue_sizes_are_checked() {
    let (target, mut disk) = (target(), disk());
    let mut host = Host::greet(&target, &mut disk, 0);
    for size in [0, 128, 0xffff_u32] {
        let (command, data) = connect(SUBSYSTEM, HOST, 0, 0xffff, 0, 0);
        host.capsule(command.dword(11, size), &data);
        let replies = host.run(&mut disk);
        assert!(matches!(replies[..], [Reply::End { status: 0x4182, result: 44, .. }]), "{size}: {replies:?}");
    }
    // Other lengths of its data.
    let (command, _) = connect(SUBSYSTEM, HOST, 0, 0xffff, 0, 0);
    host.capsule(command.carries(512), &[0; 512]);
    let replies = host.run(&mut disk);
    assert!(matches!(replies[..], [Reply::End { status: 0x400f, .. }]), "{replies:?}");
    let (command, data) = connect(SUBSYSTEM, HOST, 0, 0xffff, 0, 0);
    host.capsule(command.dword(10, 1), &data);
    let replies = host.run(&mut disk);
    assert!(matches!(replies[..], [Reply::End { status: 0x4180, .. }]), "{replies:?}");
}

#[test]
fn connections_have_a_bound_and_silent_ones_make_room() {
    let target = target();
    let mut disk = disk();
    let open = |now| Connection::accept(&target, ENDPOINT, now);
    let mut silent: Vec<_> = (0..10_000).filter_map(|_| open(Millis(0))).collect();
    assert_eq!(silent.len(), 40);
    assert!(open(Millis(0)).is_none());
    assert_eq!(target.refusals().connections, 10_000 - 40 + 1);
    let _: Vec<_> = silent.iter_mut().map(|it| it.step(&target, &mut disk, Millis(10_000))).collect();
    assert!(silent.iter().all(Connection::is_closed));
    drop(silent);
    is_served(&target, &mut disk);
}

#[test]
fn last_words_that_are_not_read_are_not_waited_for() {
    let (target, mut disk) = (target(), disk());
    let mut host = Host::open(&target);
    assert_eq!(host.connection.input(&target, &[0xff; 100], Millis(0)), 100);
    host.connection.step(&target, &mut disk, Millis(4_999));
    assert!(!host.connection.is_closed() && host.connection.has_output());
    host.connection.step(&target, &mut disk, Millis(5_000));
    assert!(host.connection.is_closed());
    assert_eq!(host.connection.violation().map(|it| it.fatal_error_status()), Some(FIELD));
}

#[test]
fn a_thousand_controllers_come_and_go() {
    let (target, mut disk) = (target(), disk());
    for round in 0..1000 {
        let (admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 1);
        assert_eq!(usize::from(id), round % 100 + 1, "numbers are used again as late as possible");
        drop(admin);
    }
    assert_eq!(target.controllers(), []);
}

#[test]
fn no_bytes_do_harm() {
    // Mutations of good streams, by a seed; what is left of the target serves a good host.
    let (target, mut disk) = (target(), disk());
    let mut state = 1_u64;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..3000 {
        let digests = draw(4) as u8;
        let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
        let mut host = if draw(2) == 0 {
            Host::io(&target, &mut disk, id, 1, (draw(2) * 4) as u8, digests)
        } else {
            Host::greet(&target, &mut disk, digests)
        };
        host.segment = [1, 13, 500, 1 << 16][draw(4)];
        let mut bytes = Vec::new();
        for _ in 0..1 + draw(12) {
            let opcode = [0, 1, 2, 5, 8, 9, 0x7f, 6, 2, 0x0c][draw(10)];
            let mut sqe = io(opcode, draw(6) as u16, draw(5000) as u64, 1 + draw(300) as u32);
            let data = vec![draw(256) as u8; [0, 0, 512, 1024, 4096, 8192][draw(6)]];
            if !data.is_empty() {
                sqe = sqe.carries(data.len() as u32);
            }
            if draw(4) == 0 {
                sqe = sqe.flags(0x41 + draw(3) as u8);
            }
            if draw(3) == 0 {
                sqe.0[draw(64)] = draw(256) as u8;
            }
            let next = match draw(8) {
                0 => {
                    let data = vec![1; 4 + draw(3000) * 4];
                    let header = data_header(draw(6) as u16, draw(4) as u16, 0, data.len() as u32);
                    pdu(6, (draw(2) * 4) as u8, &header, &data, digests)
                }
                1 => {
                    let (command, data) = connect(SUBSYSTEM, HOST, draw(3) as u16, 0xffff, 0, 4);
                    pdu(4, 0, &command.0, &data, digests)
                }
                _ => pdu(4, 0, &sqe.0, &data, digests),
            };
            bytes.extend_from_slice(&next);
        }
        if round % 2 == 0 {
            let at = draw(bytes.len());
            bytes[at] = draw(256) as u8;
        }
        host.send(&bytes);
        host.run(&mut disk);
    }
    disk = RamDisk::new(512, SECTORS);
    is_served(&target, &mut disk);
    let _ = Sqe::new(0, 0, 0).cid();
}
