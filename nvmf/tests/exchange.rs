//! What Linux does from connect to disconnect, and what it is told.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test ends where it is surprised")]

mod common;

use nvmf::{Allowed, Millis, Namespace, Nqn};

use common::disk::RamDisk;
use common::host::{Host, Reply, Sqe, identify, io, log, property_get, property_set, set_feature};
use common::{DISCOVERY, HOST, NAMESPACE, SECTORS, SUBSYSTEM, UUID, target};

fn disk() -> RamDisk {
    RamDisk::new(512, SECTORS)
}

#[test]
fn linux_connects_reads_and_disconnects() {
    let (target, mut disk) = (target(), disk());
    let mut admin = Host::greet(&target, &mut disk, 0);
    let (status, id) = admin.connect(&mut disk, SUBSYSTEM, HOST, 0, 0xffff, 5000, 0);
    assert_eq!((status, id), (0, 1), "the controller's number, and no authentication");

    // CAP: 128 entries, CQR, TO, the NVM command set.
    let (status, cap, _) = admin.command(&mut disk, property_get(1, 0, true));
    assert_eq!((status, cap & 0xffff, cap >> 16 & 1, cap >> 37 & 0xff), (0, 127, 1, 1));
    assert!(cap >> 24 & 0xff >= 40);
    for (value, ready) in [(0x46_0000, 0), (0x46_0001, 1)] {
        assert_eq!(admin.command(&mut disk, property_set(2, 0x14, value)).0, 0);
        assert_eq!(admin.command(&mut disk, property_get(3, 0x14, false)).1, u64::from(value));
        assert_eq!(admin.command(&mut disk, property_get(4, 0x1c, false)).1, ready);
    }
    assert_eq!(admin.command(&mut disk, property_get(5, 8, false)).1, 0x1_0400);

    let (status, _, ctrl) = admin.command(&mut disk, identify(6, 1, 0));
    assert_eq!((status, ctrl.len()), (0, 4096));
    let at =
        |at: usize, bytes: usize| ctrl[at..at + bytes].iter().rev().fold(0_u64, |all, it| all << 8 | u64::from(*it));
    for (what, offset, bytes, value) in [
        ("MDTS", 77, 1, 5),
        ("CNTLID", 78, 2, 1),
        ("VER", 80, 4, 0x1_0400),
        ("OAES", 92, 4, 0x100),
        ("CNTRLTYPE", 111, 1, 1),
        ("ACL, AERL", 258, 2, 0x303),
        ("LPA", 261, 1, 6),
        ("KAS", 320, 2, 10),
        ("SQES, CQES", 512, 2, 0x4466),
        ("MAXCMD", 514, 2, 128),
        ("NN", 516, 4, 1),
        ("ONCS", 520, 2, 0xd),
        ("FUSES", 522, 2, 1),
        ("VWC", 525, 1, 0),
        ("AWUN, AWUPF", 526, 4, 0),
        ("SGLS", 536, 4, 0x10_0001),
        ("IOCCSZ", 1792, 4, 516),
        ("IORCSZ", 1796, 4, 1),
        ("ICDOFF", 1800, 2, 0),
    ] {
        assert_eq!(at(offset, bytes), value, "{what}");
    }
    assert_eq!(&ctrl[4..24], b"0123456789abcdef0123");
    assert_eq!(&ctrl[24..32], b"untorn  ");
    assert_eq!(&ctrl[768..768 + SUBSYSTEM.len() + 1], format!("{SUBSYSTEM}\0").as_bytes());

    let (status, _, smart) = admin.command(&mut disk, log(7, 2, 512, 0));
    assert_eq!((status, smart.len()), (0, 512));
    assert_eq!(admin.command(&mut disk, set_feature(8, 7, 0x0001_0001)).1, 0x0001_0001, "two I/O queues, as asked");

    let mut queues = [1, 2].map(|qid| Host::io(&target, &mut disk, 1, qid, 0, 0));
    assert_eq!(admin.command(&mut disk, set_feature(9, 0x0b, 0x100)).0, 0);
    admin.capsule(Sqe::new(0x0c, 31, 0), &[]);
    assert_eq!(admin.run(&mut disk), [], "an event is waited for");

    let (_, _, list) = admin.command(&mut disk, identify(10, 2, 0));
    assert_eq!(list[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    let (status, _, zeroes) = admin.command(&mut disk, identify(11, 6, 0));
    assert_eq!((status, zeroes), (0, vec![0; 4096]));
    let (_, _, ids) = admin.command(&mut disk, identify(12, 3, 1));
    assert_eq!(ids[..4], [3, 16, 0, 0]);
    assert_eq!(&ids[4..20], UUID.as_bytes());
    assert_eq!(ids[20..24], [2, 16, 0, 0]);
    assert_eq!(&ids[24..40], UUID.as_bytes());
    assert_eq!(ids[40..46], [4, 1, 0, 0, 0, 0]);
    let (_, _, ns) = admin.command(&mut disk, identify(13, 0, 1));
    for at in [0, 8, 16] {
        assert_eq!(ns[at..at + 8], SECTORS.to_le_bytes());
    }
    assert_eq!((ns[25], ns[26], ns[33], ns[99]), (0, 0, 1, 0));
    assert_eq!(ns[34..48], [0; 14], "NAWUN, NAWUPF, NACWU, and no boundaries");
    assert_eq!(&ns[104..120], UUID.as_bytes());
    assert_eq!(ns[128..132], [0, 0, 9, 0]);

    for (queue, lba) in queues.iter_mut().zip([0, 3]) {
        let (status, _, data) = queue.command(&mut disk, io(2, 0x1fff, lba, 8));
        assert_eq!((status, data.len(), data[0], data[512]), (0, 4096, lba as u8, lba as u8 + 1));
    }
    let (_, _, smart) = admin.command(&mut disk, log(14, 2, 512, 0));
    assert_eq!((smart[32], smart[48], smart[64], smart[80]), (1, 0, 2, 0), "read: units, commands");
    assert_eq!(admin.command(&mut disk, Sqe::new(0x18, 15, 0)).0, 0, "keep alive");

    drop(queues);
    assert_eq!(admin.command(&mut disk, property_set(16, 0x14, 0x46_4001)).0, 0);
    assert_eq!(admin.command(&mut disk, property_get(17, 0x1c, false)).1, 9, "ready, and its shutdown complete");
    drop(admin);
    assert_eq!((target.connections(), target.controllers().len()), (0, 0));
}

#[test]
fn discovery_shows_a_host_what_it_may_use() {
    let (target, mut disk) = (target(), disk());
    let other = Namespace { disk: nvmf::DiskId(8), ..NAMESPACE };
    target.export(Nqn::new("nqn.other").unwrap(), other).unwrap();
    target.deny(&Allowed::Host(Nqn::new(HOST).unwrap()), None);
    target.allow(Allowed::Host(Nqn::new(HOST).unwrap()), Some(&Nqn::of_uuid(&UUID)), None);

    let (mut host, _) = Host::admin(&target, &mut disk, DISCOVERY, 0);
    let (_, _, ctrl) = host.command(&mut disk, identify(1, 1, 0));
    assert_eq!((ctrl[111], ctrl[95] & 0x80), (2, 0x80), "a discovery controller that tells changes");
    assert_eq!(host.command(&mut disk, identify(1, 0, 1)).0, 0x4002, "and no more than that");
    assert_eq!(host.command(&mut disk, set_feature(1, 0x0b, 1 << 31)).0, 0);
    host.capsule(Sqe::new(0x0c, 2, 0), &[]);
    host.run(&mut disk);
    let (_, _, header) = host.command(&mut disk, log(3, 0x70, 1024, 0));
    assert_eq!(header[8..18], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "one record, format 0");
    let (_, _, all) = host.command(&mut disk, log(4, 0x70, 2048, 0));
    assert_eq!(all[..1024], header[..]);
    let (_, _, record) = host.command(&mut disk, log(4, 0x70, 1024, 1024));
    assert_eq!(all[1024..], record[..], "the log's offset counts");
    assert_eq!(record[..4], [3, 1, 2, 4]);
    assert_eq!(record[6..10], [0xff, 0xff, 32, 0]);
    assert_eq!(record[32..37], *b"4420 ");
    assert!(record[256..].starts_with(format!("{SUBSYSTEM}\0").as_bytes()));
    assert!(record[512..].starts_with(b"10.0.2.2 "));
    assert_eq!(host.command(&mut disk, log(4, 0x70, 1024, 2052)).0, 0x4002, "past the end");
    assert_eq!(host.command(&mut disk, log(4, 0x70, 1024, 2048)).2, [0; 1024], "at the end");
    assert_eq!(host.command(&mut disk, log(4, 2, 512, 0)).0, 0x4109);

    target.allow(Allowed::Any, Some(&Nqn::new("nqn.other").unwrap()), None);
    let event = host.run(&mut disk);
    assert!(matches!(event[..], [Reply::End { cid: 2, status: 0, result: 0x70_f0_02, .. }]), "{event:?}");
    let (_, _, header) = host.command(&mut disk, log(3, 0x70, 1024, 0));
    assert_eq!(header[8], 2);
    let mut stranger = Host::greet(&target, &mut disk, 0);
    assert_eq!(stranger.connect(&mut disk, DISCOVERY, "nqn.stranger", 0, 0xffff, 0, 0).0, 0);
    stranger.enable(&mut disk);
    let (_, _, header) = stranger.command(&mut disk, log(3, 0x70, 1024, 0));
    assert_eq!(header[8], 1, "only what is for any host");
}

#[test]
fn connect_is_refused_with_its_reason() {
    let (target, mut disk) = (target(), disk());
    let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let data = 1 << 16;
    for (what, subsystem, host, qid, cntlid, status, result) in [
        ("a host that is not allowed", SUBSYSTEM, "nqn.stranger", 0, 0xffff, 0x4184, 0),
        ("no such subsystem", "nqn.none", HOST, 0, 0xffff, 0x4182, data | 256),
        ("no name of a subsystem", "", HOST, 0, 0xffff, 0x4182, data | 256),
        ("no name of a host", SUBSYSTEM, "", 0, 0xffff, 0x4182, data | 512),
        ("a static controller", SUBSYSTEM, HOST, 0, 1, 0x4182, data | 16),
        ("no such controller", SUBSYSTEM, HOST, 1, 77, 0x4182, data | 16),
        ("another host's controller", SUBSYSTEM, "nqn.stranger", 1, id, 0x4182, data | 512),
        ("another subsystem's controller", DISCOVERY, HOST, 1, id, 0x4182, data | 256),
        ("a queue beyond those granted", SUBSYSTEM, HOST, 9, id, 0x4182, 42),
    ] {
        let mut queue = Host::greet(&target, &mut disk, 0);
        let refused = queue.connect(&mut disk, subsystem, host, qid, cntlid, 0, 0);
        assert_eq!(refused, (status, result), "{what}");
        // The connection goes on, and may try again.
        assert_eq!(queue.connect(&mut disk, SUBSYSTEM, HOST, 1, id, 0, 0).0, 0, "{what}");
    }
    assert_eq!(target.refusals().hosts, 9, "each is counted");
    let _first = Host::io(&target, &mut disk, id, 1, 0, 0);
    let mut second = Host::greet(&target, &mut disk, 0);
    assert_eq!(second.connect(&mut disk, SUBSYSTEM, HOST, 1, id, 0, 0).0, 0x400c, "a queue that is connected");
}

#[test]
fn a_silent_host_loses_its_controller_and_may_come_back() {
    let (target, mut disk) = (target(), disk());
    let (mut admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 5000);
    let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
    queue.now = Millis(5900);
    assert_eq!(queue.command(&mut disk, io(2, 1, 0, 1)).0, 0, "any command restarts the timer");
    // A write is on its way when the host falls silent.
    queue.capsule(io(1, 2, 0, 32), &[]);
    let asked = queue.run(&mut disk);
    assert!(matches!(asked[..], [Reply::Ask { .. }]), "{asked:?}");
    admin.now = Millis(11_000);
    admin.run(&mut disk);
    assert!(!admin.connection.is_closed());
    // The same host comes again before we know.
    let (_, new) = Host::admin(&target, &mut disk, SUBSYSTEM, 5000);
    assert_ne!(new, id);
    admin.now = Millis(11_901);
    admin.run(&mut disk);
    assert!(admin.connection.is_closed());
    queue.run(&mut disk);
    assert!(queue.connection.is_closed(), "its I/O queues go with it");
    assert!(!disk.calls.iter().any(|(what, ..)| what.starts_with("write")), "what it had not sent is not written");
}

#[test]
fn a_connection_that_stays_silent_is_closed() {
    let (target, mut disk) = (target(), disk());
    for greeted in [false, true] {
        let mut host = if greeted { Host::greet(&target, &mut disk, 0) } else { Host::open(&target) };
        host.now = Millis(9_999);
        host.run(&mut disk);
        assert!(!host.connection.is_closed());
        host.now = Millis(10_000);
        host.run(&mut disk);
        assert!(host.connection.is_closed());
    }
    assert_eq!(target.connections(), 0);
}

#[test]
fn hosts_are_told_when_the_namespace_changes() {
    let (target, mut disk) = (target(), disk());
    let (mut admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
    admin.command(&mut disk, set_feature(1, 0x0b, 0x100));
    admin.capsule(Sqe::new(0x0c, 2, 0), &[]);
    admin.run(&mut disk);
    let nqn = Nqn::of_uuid(&UUID);
    assert!(target.change(&nqn, None));
    let told = admin.run(&mut disk);
    assert!(matches!(told[..], [Reply::End { cid: 2, status: 0, result: 0x04_0002, .. }]), "{told:?}");
    assert_eq!(queue.command(&mut disk, io(2, 1, 0, 1)).0, 0x400b, "it is gone");
    admin.capsule(Sqe::new(0x0c, 3, 0), &[]);
    target.change(&nqn, Some(Namespace { sectors: 100, ..NAMESPACE }));
    assert_eq!(admin.run(&mut disk), [], "told once until the list is read");
    admin.capsule(log(4, 4, 4096, 0), &[]);
    let told = admin.run(&mut disk);
    let [Reply::Data { cid: 4, data: list, .. }, rest @ ..] = &told[..] else { panic!("{told:?}") };
    assert_eq!(list[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    let is_end = |wanted| rest.iter().any(|it| matches!(it, Reply::End { cid, status: 0, .. } if *cid == wanted));
    assert!(rest.len() == 2 && is_end(4) && is_end(3), "the list's end, and the next event: {rest:?}");
    let (_, _, ns) = admin.command(&mut disk, identify(5, 0, 1));
    assert_eq!(ns[0], 100);
    assert_eq!(queue.command(&mut disk, io(2, 1, 100, 1)).0, 0x4080, "its new size counts");
    assert!(target.unexport(&nqn));
    for host in [&mut admin, &mut queue] {
        host.run(&mut disk);
        assert!(host.connection.is_closed());
    }
}

#[test]
fn a_host_that_is_denied_loses_its_connections() {
    let (target, mut disk) = (target(), disk());
    let (mut admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let mut queue = Host::io(&target, &mut disk, id, 1, 0, 0);
    assert!(target.deny(&Allowed::Host(Nqn::new(HOST).unwrap()), None));
    for host in [&mut admin, &mut queue] {
        host.run(&mut disk);
        assert!(host.connection.is_closed());
    }
    let mut again = Host::greet(&target, &mut disk, 0);
    assert_eq!(again.connect(&mut disk, SUBSYSTEM, HOST, 0, 0xffff, 0, 0).0, 0x4184);
}

#[test]
fn admin_commands_have_their_statuses() {
    let (target, mut disk) = (target(), disk());
    let mut host = Host::greet(&target, &mut disk, 0);
    assert_eq!(host.command(&mut disk, identify(1, 1, 0)).0, 0x400c, "before Connect");
    host.connect(&mut disk, SUBSYSTEM, HOST, 0, 0xffff, 0, 0);
    assert_eq!(host.command(&mut disk, identify(1, 1, 0)).0, 0x400c, "before it is enabled");
    host.enable(&mut disk);
    for (what, command, status) in [
        ("an unknown opcode", Sqe::new(0xc1, 1, 0), 0x4001),
        ("an unknown Fabrics command", Sqe::new(0x7f, 1, 0x33), 0x4002),
        ("Connect again", Sqe::new(0x7f, 1, 1).carries(0), 0x400c),
        ("Identify of the UUID list", identify(1, 0x17, 0), 0x4002),
        ("a namespace that is not there", identify(1, 0, 2), 0x400b),
        ("all namespaces", identify(1, 0, u32::MAX), 0x400b),
        ("identifiers of none", identify(1, 3, 2), 0x400b),
        ("a list from the end on", identify(1, 2, 0xffff_fffe), 0x400b),
        ("Identify without room", Sqe::new(6, 1, 0).dword(10, 1).moves(512), 0x400f),
        ("Identify into the capsule", Sqe::new(6, 1, 0).dword(10, 1).carries(4096), 0x4011),
        ("Identify with PRPs", identify(1, 1, 0).flags(0), 0x4002),
        ("an unknown log page", log(1, 0xc0, 512, 0), 0x4109),
        ("discovery's", log(1, 0x70, 512, 0), 0x4109),
        ("a log page beyond MDTS", log(1, 2, (128 << 10) + 4, 0), 0x4002),
        ("a log page past its end", log(1, 2, 512, 1 << 20), 0x4002),
        ("an unknown feature", set_feature(1, 0x42, 0), 0x4002),
        ("a saved feature", set_feature(1, 0x8000_000b, 0), 0x410d),
        ("65536 queues", set_feature(1, 7, 0xffff), 0x4002),
        ("Disconnect of an admin queue", Sqe::new(0x7f, 1, 8), 0x4002),
        ("an unknown property", property_get(1, 0x28, false), 0x4002),
        ("half of CAP", property_get(1, 0, false), 0x4002),
        ("a property that is read-only", property_set(1, 0x1c, 0), 0x4002),
        ("a fused admin command", identify(1, 1, 0).flags(0x41), 0x4002),
    ] {
        assert_eq!(host.command(&mut disk, command).0, status, "{what}");
    }
    assert_eq!(host.command(&mut disk, Sqe::new(8, 1, 0)).1, 1, "Abort aborts nothing");
    for (feature, value) in [(6, 0), (7, 0x7_0007), (0x0b, 0), (0x0f, 0)] {
        let get = Sqe::new(0x0a, 1, 0).dword(10, feature);
        assert_eq!(host.command(&mut disk, get), (0, value, vec![]), "feature {feature:#x}");
    }
    assert_eq!(host.command(&mut disk, set_feature(1, 0x0f, 1)).0, 0);
    assert_eq!(
        host.command(&mut disk, Sqe::new(0x0a, 1, 0).dword(10, 0x0f)).1,
        1000,
        "a keep-alive time is rounded up"
    );
    for cid in 10..14 {
        host.capsule(Sqe::new(0x0c, cid, 0), &[]);
    }
    assert_eq!(host.run(&mut disk), []);
    assert_eq!(host.command(&mut disk, Sqe::new(0x0c, 14, 0)).0, 0x4105, "a fifth event request");
    assert_eq!(host.command(&mut disk, Sqe::new(0x0c, 13, 0)).0, 0x4003, "a name that is in use");
    for page in [1, 2, 3, 4, 5] {
        let (status, _, data) = host.command(&mut disk, log(1, page, 64, 0));
        assert_eq!((status, data.len()), (0, 64), "log page {page}");
    }
}
