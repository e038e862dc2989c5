//! DH-HMAC-CHAP: a host proves that it knows a secret, and the controller, too, if it is asked.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test ends where it is surprised")]

use hmac::{Hmac, Mac};
use nvmf::{Allowed, Millis, Nqn, Secret, Secrets, Target};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

mod common;

use common::disk::RamDisk;
use common::host::{Host, Reply, Sqe, identify, io, property_get, property_set};
use common::{HOST, SECTORS, SUBSYSTEM, target};

/// A secret without a hash, and one with SHA-384: made by nvme gen-dhchap-key.
const HOST_SECRET: &str = "DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:";
const CONTROLLER_SECRET: &str = "DHHC-1:02:jByMymiSTNnOrfoudRS+oq7YLgsWAhnXX3ZdLtonK5/VYfDeKx3Fdd9g57EISx5FXc2Plw==:";

/// Failure1's explanations.
const FAILED: u8 = 1;
const NOT_USABLE: u8 = 2;
const CONCATENATION: u8 = 3;
const HASH: u8 = 4;
const GROUP: u8 = 5;
const PAYLOAD: u8 = 6;
const MESSAGE: u8 = 7;

const TRANSACTION: u16 = 0x1234;

fn guarded(controller: bool) -> Target {
    let target = target();
    let controller = controller.then(|| Secret::parse(CONTROLLER_SECRET).unwrap());
    let secrets = Secrets { host: Secret::parse(HOST_SECRET).unwrap(), controller };
    target.allow(Allowed::Host(Nqn::new(HOST).unwrap()), None, Some(secrets));
    target
}

fn base64(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        bits = bits << 6 | digits.iter().position(|digit| *digit == byte).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// The bytes of a secret, without their checksum.
fn bytes_of(secret: &str) -> Vec<u8> {
    let mut bytes = base64(secret.split(':').nth(2).unwrap());
    bytes.truncate(bytes.len() - 4);
    bytes
}

fn hmac(hash: u8, key: &[u8], data: &[u8]) -> Vec<u8> {
    match hash {
        1 => Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec(),
        2 => Hmac::<Sha384>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec(),
        _ => Hmac::<Sha512>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec(),
    }
}

/// A response to a challenge.
fn response(hash: u8, key: &[u8], challenge: &[u8], sequence: &[u8], role: &[u8], names: [&str; 2]) -> Vec<u8> {
    let mut data = challenge.to_vec();
    data.extend_from_slice(sequence);
    data.extend_from_slice(&TRANSACTION.to_le_bytes());
    data.push(0);
    data.extend_from_slice(role);
    data.extend_from_slice(names[0].as_bytes());
    data.push(0);
    data.extend_from_slice(names[1].as_bytes());
    hmac(hash, key, &data)
}

fn send(bytes: usize) -> Sqe {
    Sqe::new(0x7f, 0x77, 5).dword(10, 0xe901_0100).dword(11, bytes as u32).carries(bytes as u32)
}

fn receive(bytes: u32) -> Sqe {
    Sqe::new(0x7f, 0x78, 6).dword(10, 0xe901_0100).dword(11, bytes).moves(bytes)
}

/// Negotiate with these hashes and groups.
fn negotiate(hashes: &[u8], groups: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 72];
    message[4..6].copy_from_slice(&TRANSACTION.to_le_bytes());
    message[7] = 1;
    message[8..12].copy_from_slice(&[1, 0, hashes.len() as u8, groups.len() as u8]);
    message[12..12 + hashes.len()].copy_from_slice(hashes);
    message[42..42 + groups.len()].copy_from_slice(groups);
    message
}

/// Sends a message, and returns its status.
fn say(host: &mut Host<'_>, disk: &mut RamDisk, message: &[u8]) -> u16 {
    host.capsule(send(message.len()), message);
    match host.run(disk)[..] {
        [Reply::End { status, .. }] => status,
        ref other => panic!("{other:?}"),
    }
}

/// Receives a message.
fn hear(host: &mut Host<'_>, disk: &mut RamDisk) -> Vec<u8> {
    let (status, _, data) = host.command(disk, receive(4096));
    assert_eq!((status, data.len()), (0, 4096));
    data
}

/// Reply to a challenge; with a challenge of our own if there is one.
fn reply(challenge: &[u8], secret: &[u8], ours: Option<&[u8]>) -> Vec<u8> {
    assert_eq!(challenge[..2], [1, 1]);
    assert_eq!(challenge[4..6], TRANSACTION.to_le_bytes());
    let (length, hash) = (usize::from(challenge[6]), challenge[8]);
    assert_eq!((challenge[9], &challenge[10..12]), (0, &[0, 0][..]), "the NULL group");
    let response =
        response(hash, secret, &challenge[16..16 + length], &challenge[12..16], b"HostHost", [HOST, SUBSYSTEM]);
    let mut message = vec![1, 2, 0, 0, 0x34, 0x12, length as u8, 0, ours.is_some().into(), 0, 0, 0, 7, 0, 0, 0];
    message.extend_from_slice(&response);
    message.extend_from_slice(ours.unwrap_or(&vec![0; length]));
    message
}

/// A reply to a challenge with a group's value: ours is 1.
fn bad_value(challenge: &[u8]) -> Vec<u8> {
    assert_eq!(challenge[9..12], [1, 0, 1], "ffdhe2048, and 256 bytes of it");
    let mut message = vec![1, 2, 0, 0, 0x34, 0x12, 32, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    message.extend_from_slice(&[0; 64 + 255]);
    message.push(1);
    message
}

/// A queue that has to authenticate.
fn connected<'a>(target: &'a Target, disk: &mut RamDisk, qid: u16, cntlid: u16) -> (Host<'a>, u16) {
    let mut host = Host::greet(target, disk, 0);
    let (status, result) = host.connect(disk, SUBSYSTEM, HOST, qid, cntlid, 5000, 0);
    assert_eq!((status, result >> 16), (0, 2), "authentication is required");
    (host, result as u16)
}

fn authenticate(host: &mut Host<'_>, disk: &mut RamDisk, hash: u8) {
    assert_eq!(say(host, disk, &negotiate(&[hash], &[0])), 0);
    let challenge = hear(host, disk);
    assert_eq!(challenge[8], hash);
    assert_eq!(say(host, disk, &reply(&challenge, &bytes_of(HOST_SECRET), None)), 0);
    let success = hear(host, disk);
    assert_eq!((&success[..2], success[8]), (&[1, 3][..], 0));
}

#[test]
fn each_queue_of_a_host_proves_itself() {
    let (target, mut disk) = (guarded(false), RamDisk::new(512, SECTORS));
    for hash in 1..=3 {
        let (mut admin, id) = connected(&target, &mut disk, 0, 0xffff);
        for command in
            [property_get(1, 0, true), property_set(1, 0x14, 0x46_0001), identify(1, 1, 0), Sqe::new(0x18, 1, 0)]
        {
            assert_eq!(admin.command(&mut disk, command).0, 0x4191, "nothing before that");
        }
        authenticate(&mut admin, &mut disk, hash);
        admin.enable(&mut disk);
        let (mut queue, _) = connected(&target, &mut disk, 1, id);
        assert_eq!(queue.command(&mut disk, io(2, 1, 0, 1)).0, 0x4191);
        authenticate(&mut queue, &mut disk, hash);
        assert_eq!(queue.command(&mut disk, io(2, 1, 0, 1)).0, 0);
        // And again whenever it likes.
        authenticate(&mut queue, &mut disk, 4 - hash);
        assert_eq!(queue.command(&mut disk, io(2, 1, 0, 1)).0, 0);
    }
}

#[test]
fn the_controller_proves_itself_if_it_is_asked() {
    let (target, mut disk) = (guarded(true), RamDisk::new(512, SECTORS));
    let (mut admin, _) = connected(&target, &mut disk, 0, 0xffff);
    say(&mut admin, &mut disk, &negotiate(&[9, 2, 1], &[0]));
    let challenge = hear(&mut admin, &mut disk);
    let ours = [0x5a; 48];
    say(&mut admin, &mut disk, &reply(&challenge, &bytes_of(HOST_SECRET), Some(&ours)));
    let success = hear(&mut admin, &mut disk);
    assert_eq!((&success[..2], success[6], success[8]), (&[1, 3][..], 48, 1));
    let named = [SUBSYSTEM.as_bytes(), b"NVMe-over-Fabrics"].concat();
    let key = hmac(2, &bytes_of(CONTROLLER_SECRET), &named);
    let expected = response(2, &key, &ours, &[7, 0, 0, 0], b"Controller", [SUBSYSTEM, HOST]);
    assert_eq!(success[16..64], expected);
    assert_eq!(admin.command(&mut disk, identify(1, 1, 0)).0, 0x4191, "until the host says that it believes it");
    let mut success2 = vec![0; 16];
    success2[..6].copy_from_slice(&[1, 4, 0, 0, 0x34, 0x12]);
    assert_eq!(say(&mut admin, &mut disk, &success2), 0);
    admin.enable(&mut disk);
}

#[test]
fn challenges_are_bound_to_the_secret_of_the_exchange() {
    for (group, bytes) in [(1, 256), (2, 384), (3, 512), (4, 768), (5, 1024)] {
        let (target, mut disk) = (guarded(true), RamDisk::new(512, SECTORS));
        let (mut host, _) = connected(&target, &mut disk, 0, 0xffff);
        say(&mut host, &mut disk, &negotiate(&[1], &[0, group]));
        let challenge = hear(&mut host, &mut disk);
        assert_eq!(challenge[8..10], [1, group], "a group counts before the NULL group");
        assert_eq!(usize::from(u16::from_le_bytes([challenge[10], challenge[11]])), bytes);
        // With a private exponent of 1 our value is the generator, and the secret is the other's value.
        let key = Sha256::digest(&challenge[48..48 + bytes]);
        let bound = |challenge: &[u8]| hmac(1, &key, challenge);
        let (ours, names) = ([0x5a; 32], [HOST, SUBSYSTEM]);
        let mine =
            response(1, &bytes_of(HOST_SECRET), &bound(&challenge[16..48]), &challenge[12..16], b"HostHost", names);
        let mut message = vec![1, 2, 0, 0, 0x34, 0x12, 32, 0, 1, 0, challenge[10], challenge[11], 7, 0, 0, 0];
        message.extend_from_slice(&[&mine[..], &ours].concat());
        message.extend_from_slice(&vec![0; bytes - 1]);
        message.push(2);
        say(&mut host, &mut disk, &message);
        let success = hear(&mut host, &mut disk);
        assert_eq!((&success[..2], success[8]), (&[1, 3][..], 1), "group {group}");
        let named = [SUBSYSTEM.as_bytes(), b"NVMe-over-Fabrics"].concat();
        let key = hmac(2, &bytes_of(CONTROLLER_SECRET), &named);
        let expected = response(1, &key, &bound(&ours), &[7, 0, 0, 0], b"Controller", [SUBSYSTEM, HOST]);
        assert_eq!(success[16..48], expected);
    }
}

#[test]
fn whatever_fails_ends_the_connection() {
    let good = |challenge: &[u8]| reply(challenge, &bytes_of(HOST_SECRET), None);
    let first = negotiate(&[1], &[0]);
    let with = |at: usize, byte: u8| {
        let mut message = first.clone();
        message[at] = byte;
        message
    };
    type Break<'a> = (&'a str, Vec<u8>, Option<&'a dyn Fn(&[u8]) -> Vec<u8>>, u8);
    let broken: [Break<'_>; 16] = [
        ("a wrong secret", first.clone(), Some(&|it| reply(it, &[0; 32], None)), FAILED),
        (
            "a challenge to a controller without a secret",
            first.clone(),
            Some(&|it| reply(it, &bytes_of(HOST_SECRET), Some(&[1; 32]))),
            FAILED,
        ),
        ("a response that is cut short", first.clone(), Some(&|it| good(it)[..79].to_vec()), PAYLOAD),
        ("another transaction", first.clone(), Some(&|it| [&good(it)[..4], &[0; 2], &good(it)[6..]].concat()), PAYLOAD),
        (
            "the length of another hash",
            first.clone(),
            Some(&|it| [&good(it)[..6], &[48], &good(it)[7..]].concat()),
            PAYLOAD,
        ),
        ("a value of a group", first.clone(), Some(&|it| [&good(it)[..10], &[1], &good(it)[11..]].concat()), PAYLOAD),
        (
            "success before its time",
            first.clone(),
            Some(&|_| [&[1, 4, 0, 0, 0x34, 0x12][..], &[0; 10]].concat()),
            MESSAGE,
        ),
        ("an unknown message", first.clone(), Some(&|_| [&[9, 9, 0, 0, 0x34, 0x12][..], &[0; 10]].concat()), MESSAGE),
        ("a reply before the challenge", vec![1, 2, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0], None, MESSAGE),
        ("five bytes", vec![0; 5], None, PAYLOAD),
        ("a secure channel", with(6, 1), None, CONCATENATION),
        ("another protocol", with(8, 2), None, NOT_USABLE),
        ("a list beyond its room", with(10, 31), None, PAYLOAD),
        ("hashes that are not known", negotiate(&[0, 4, 0xff], &[0]), None, HASH),
        ("groups that are not known", negotiate(&[1], &[6, 0xff]), None, GROUP),
        ("a value that gives the secret away", negotiate(&[1], &[1]), Some(&|it| bad_value(it)), PAYLOAD),
    ];
    for (what, negotiate, answer, reason) in broken {
        let (target, mut disk) = (guarded(false), RamDisk::new(512, SECTORS));
        let (mut host, _) = connected(&target, &mut disk, 0, 0xffff);
        assert_eq!(say(&mut host, &mut disk, &negotiate), 0, "{what}");
        if let Some(answer) = answer {
            let challenge = hear(&mut host, &mut disk);
            assert_eq!(say(&mut host, &mut disk, &answer(&challenge)), 0, "{what}");
        }
        let failure = hear(&mut host, &mut disk);
        assert_eq!((&failure[..2], failure[6], failure[7]), (&[0, 0xf1][..], 1, reason), "{what}");
        assert!(host.connection.is_closed(), "{what}");
        assert_eq!(target.refusals().hosts, 1, "{what}");
    }
}

#[test]
fn a_host_that_begins_again_and_again_is_disconnected() {
    let (target, mut disk) = (guarded(false), RamDisk::new(512, SECTORS));
    let (mut host, _) = connected(&target, &mut disk, 0, 0xffff);
    for _ in 0..3 {
        assert_eq!(say(&mut host, &mut disk, &negotiate(&[1], &[5])), 0);
        assert_eq!(hear(&mut host, &mut disk)[..2], [1, 1]);
    }
    assert_eq!(say(&mut host, &mut disk, &negotiate(&[1], &[5])), 0);
    assert_eq!(hear(&mut host, &mut disk)[..2], [0, 0xf1]);
    assert!(host.connection.is_closed());
    // One that has proved itself may do so as often as it likes.
    let (mut host, _) = connected(&target, &mut disk, 0, 0xffff);
    for _ in 0..10 {
        authenticate(&mut host, &mut disk, 1);
    }
}

#[test]
fn the_commands_are_checked() {
    let (target, mut disk) = (guarded(false), RamDisk::new(512, SECTORS));
    let (mut host, _) = connected(&target, &mut disk, 0, 0xffff);
    for (what, command) in [
        ("another protocol", receive(4096).dword(10, 0xea01_0100)),
        ("another version", receive(4096).dword(10, 0xe901_0200)),
        ("no room", receive(4096).dword(11, 0)),
        ("more than a message has", receive(8192)),
        ("a message longer than the room", receive(4)),
    ] {
        assert_eq!(host.command(&mut disk, command).0, 0x4002, "{what}");
    }
    // Who need not authenticate, cannot.
    let open = common::target();
    let (mut host, _) = Host::admin(&open, &mut disk, SUBSYSTEM, 0);
    assert_eq!(host.command(&mut disk, receive(4096)).0, 0x4002);
}

#[test]
fn a_host_that_does_not_authenticate_is_not_waited_for() {
    let (target, mut disk) = (guarded(false), RamDisk::new(512, SECTORS));
    let (mut host, _) = connected(&target, &mut disk, 0, 0xffff);
    host.now = Millis(9_999);
    assert_eq!(host.command(&mut disk, identify(1, 1, 0)).0, 0x4191);
    host.now = Millis(10_000);
    host.run(&mut disk);
    assert!(host.connection.is_closed());
}

#[test]
fn the_rule_for_a_hosts_name_counts_before_that_for_any() {
    let (target, mut disk) = (guarded(false), RamDisk::new(512, SECTORS));
    target.allow(Allowed::Any, Some(&Nqn::of_uuid(&common::UUID)), None);
    connected(&target, &mut disk, 0, 0xffff);
    let mut other = Host::greet(&target, &mut disk, 0);
    let (status, result) = other.connect(&mut disk, SUBSYSTEM, "nqn.other", 0, 0xffff, 0, 0);
    assert_eq!((status, result >> 16), (0, 0));
}
