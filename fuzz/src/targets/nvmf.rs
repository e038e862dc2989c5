//! A host's bytes on connections of an NVMe/TCP target.
//!
//! The bytes are decisions, one after the other: a command, mostly a possible one; data that an R2T may have asked for; bytes
//! as they are on the wire; time that passes; a change of what is exported. Whatever they are, the target never panics and
//! comes to rest, the storage is asked for nothing but what it has (the test's disk asserts that), and a good host is served.

use nvmf::{Millis, Namespace, Nqn};

use super::initiator::disk::RamDisk;
use super::initiator::host::{Host, Sqe, connect, icreq, io, property_set};
use super::initiator::{HOST, NAMESPACE, SUBSYSTEM, UUID, target_of};
use crate::choices::Choices;

/// More turns than any input needs.
const DECISIONS_MAX: u32 = 200;

/// A small disk is made in no time.
const SECTORS: u64 = 300;

pub(super) fn run(bytes: &[u8]) {
    let namespace = Namespace { sectors: SECTORS, ..NAMESPACE };
    let target = target_of(namespace);
    let mut disk = RamDisk::new(512, SECTORS);
    let mut choices = Choices(bytes);
    let start = choices.byte();
    let (_admin, id) = Host::admin(&target, &mut disk, SUBSYSTEM, 0);
    let mut peer = Host::open(&target);
    peer.segment = [1 << 16, 500, 13, 1][usize::from(start >> 4 & 3)];
    let digests = start >> 2 & 3;
    if start & 1 == 0 {
        peer.send(&icreq(0, 0, digests));
        peer.digests = digests;
        if start & 2 == 0 {
            let (command, data) =
                connect(SUBSYSTEM, HOST, u16::from(start >> 6), if start >> 6 == 0 { 0xffff } else { id }, 5000, 4);
            peer.capsule(command, &data);
            peer.pass(&mut disk);
            if start >> 6 == 0 {
                peer.capsule(property_set(1, 0x14, 0x46_0001), &[]);
            }
        }
    }
    for _ in 0..DECISIONS_MAX {
        if choices.is_empty() || peer.connection.is_closed() {
            break;
        }
        match choices.byte() {
            0..=139 => {
                let (command, data) = command(&mut choices);
                peer.capsule(command, &data);
            }
            140..=189 => {
                let (cid, tag, offset) = (choices.below(4), choices.below(4), choices.u16());
                let data = vec![choices.byte(); usize::from(choices.below(1024)) * 4];
                peer.data(cid, tag, u32::from(offset) * 4, &data, choices.byte() & 1 == 0);
            }
            190..=219 => {
                let count = choices.byte();
                peer.send(choices.take(usize::from(count)));
            }
            220..=229 => peer.now = Millis(peer.now.0 + u64::from(choices.u16())),
            230..=239 => {
                let change = Namespace {
                    sectors: 1 + u64::from(choices.below(300)),
                    read_only: choices.byte() & 1 == 1,
                    ..namespace
                };
                let change = (choices.byte() & 1 == 0).then_some(change);
                assert!(target.change(&Nqn::of_uuid(&UUID), change), "there is that subsystem");
            }
            240.. => peer.pass(&mut disk),
        }
    }
    peer.pass(&mut disk);
    drop(peer);
    is_served(&target, &mut disk, namespace);
}

/// A command, and what is in its capsule.
fn command(choices: &mut Choices<'_>) -> (Sqe, Vec<u8>) {
    const OPCODES: [u8; 16] = [0, 1, 1, 1, 2, 2, 5, 8, 9, 9, 0x7f, 6, 2, 9, 0x0c, 0x0a];
    let opcode = OPCODES[usize::from(choices.byte()) % OPCODES.len()];
    let (first, sectors) = (choices.below(300), 1 + u32::from(choices.below(40)));
    let mut command = io(opcode, choices.below(4), first.into(), sectors);
    let bytes = match choices.byte() {
        0..=99 => 0,
        100..=179 => usize::try_from(sectors).unwrap_or(0) * 512,
        180..=209 => 4096,
        210.. => usize::from(choices.u16()),
    };
    let data = vec![choices.byte(); bytes.min(8192)];
    if !data.is_empty() {
        command = command.carries(u32::try_from(data.len()).unwrap_or(0));
    }
    match choices.byte() {
        0..=159 => {}
        160..=199 => command = command.flags(0x41 + choices.byte() % 3),
        200.. => {
            let at = usize::from(choices.byte()) % 64;
            command.0[at] = choices.byte();
        }
    }
    (command, data)
}

/// A good host, from its first byte on: a sector is written, and read.
fn is_served(target: &nvmf::Target, disk: &mut RamDisk, namespace: Namespace) {
    assert!(target.change(&Nqn::of_uuid(&UUID), Some(namespace)), "there is that subsystem");
    let (_admin, id) = Host::admin(target, disk, SUBSYSTEM, 0);
    let mut queue = Host::io(target, disk, id, 1, 0, 3);
    assert_eq!(queue.write(disk, io(1, 1, 7, 1), &[0x42; 512], 512), 0, "a good write is done");
    assert_eq!(queue.command(disk, io(2, 2, 7, 1)), (0, 0, vec![0x42; 512]), "what was written is read");
}
