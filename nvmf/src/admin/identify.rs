//! Identify (NVMe Base 2.0, section 5.17; NVM Command Set 1.0, section 4.1.5).

use alloc::vec::Vec;

use uuid::Uuid;

use super::{Surroundings, put_text, zeroes};
use crate::command::Command;
use crate::fabrics;
use crate::limits::{
    ASYNC_EVENTS_LESS_ONE, COMMAND_BYTES, IN_CAPSULE_BYTES, KEEP_ALIVE_GRANULARITY, QUEUE_ENTRIES_LESS_ONE,
    TRANSFER_PAGES_LOG2,
};
use crate::name::DISCOVERY_NQN;
use crate::namespace::Namespace;
use crate::status::Status;
use crate::units::{NamespaceId, wire_length};

/// All of its data structures.
pub(super) const IDENTIFY_BYTES: u32 = 4096;

/// OAES and Asynchronous Event Configuration: the namespace's attributes changed.
pub(super) const OAES_NAMESPACE: u32 = 1 << 8;
/// The same: the discovery log changed.
pub(super) const OAES_DISCOVERY: u32 = 1 << 31;

/// The data structures (CNS, figure 273).
const NAMESPACE: u8 = 0x00;
const CONTROLLER: u8 = 0x01;
const ACTIVE_NAMESPACES: u8 = 0x02;
const NAMESPACE_DESCRIPTORS: u8 = 0x03;
const COMMAND_SET_CONTROLLER: u8 = 0x06;

/// Types of controllers (CNTRLTYPE).
const IO_CONTROLLER: u8 = 1;
const DISCOVERY_CONTROLLER: u8 = 2;

/// Carries it out.
///
/// # Errors
/// There is no such data structure, or no such namespace.
pub(super) fn identify(command: &Command, around: &Surroundings<'_>) -> Result<Vec<u8>, Status> {
    let [structure, ..] = command.dword(10).to_le_bytes();
    let [.., command_set] = command.dword(11).to_le_bytes();
    let id = command.namespace();
    let subsystem = around.controller.subsystem.as_ref();
    let namespace = subsystem.and_then(|subsystem| subsystem.namespace());
    let mut page = zeroes(IDENTIFY_BYTES)?;
    match structure {
        CONTROLLER => controller(&mut page, around),
        // Discovery controllers have no more than that.
        _ if subsystem.is_none() => return Err(Status::INVALID_FIELD),
        NAMESPACE => match (id, namespace) {
            (NamespaceId::ONLY, Some(namespace)) => describe(&mut page, &namespace),
            // It is not active: zeroes.
            (NamespaceId::ONLY, None) => {}
            _ => return Err(Status::INVALID_NAMESPACE),
        },
        // Those above the given one.
        ACTIVE_NAMESPACES if id.0 < u32::MAX - 1 => {
            if namespace.is_some() && id < NamespaceId::ONLY {
                page[..4].copy_from_slice(&NamespaceId::ONLY.0.to_le_bytes());
            }
        }
        NAMESPACE_DESCRIPTORS => match (id, namespace) {
            (NamespaceId::ONLY, Some(namespace)) => descriptors(&mut page, &namespace.uuid),
            _ => return Err(Status::INVALID_NAMESPACE),
        },
        ACTIVE_NAMESPACES => return Err(Status::INVALID_NAMESPACE),
        // No limits but those of all commands.
        COMMAND_SET_CONTROLLER if command_set == 0 => {}
        _ => return Err(Status::INVALID_FIELD),
    }
    Ok(page)
}

/// The controller (figure 275).
fn controller(page: &mut [u8], around: &Surroundings<'_>) {
    let subsystem = around.controller.subsystem.as_ref();
    let uuid = subsystem.map_or(around.target.settings.uuid, |subsystem| subsystem.uuid);
    let mut text = [0; uuid::fmt::Simple::LENGTH];
    let digits = &*uuid.simple().encode_lower(&mut text);
    put_text(&mut page[4..24], digits, b' '); // SN: the first digits, as virtio-blk's GET_ID has them
    put_text(&mut page[24..64], if subsystem.is_some() { "untorn" } else { "untorn discovery" }, b' '); // MN
    put_text(&mut page[64..72], env!("CARGO_PKG_VERSION"), b' '); // FR

    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    let (kind, events) =
        if subsystem.is_some() { (IO_CONTROLLER, OAES_NAMESPACE) } else { (DISCOVERY_CONTROLLER, OAES_DISCOVERY) };
    put(77, &[TRANSFER_PAGES_LOG2]); // MDTS
    put(78, &around.controller.id.0.to_le_bytes()); // CNTLID
    put(80, &fabrics::VERSION.to_le_bytes()); // VER
    put(92, &events.to_le_bytes()); // OAES
    put(96, &(1_u32 | 1 << 6).to_le_bytes()); // CTRATT: 128-bit host identifiers, TBKAS
    put(111, &[kind]); // CNTRLTYPE
    put(258, &[3, ASYNC_EVENTS_LESS_ONE]); // ACL, AERL
    put(260, &[3, 1 << 1 | 1 << 2]); // FRMW: one slot, read-only. LPA: effects, extended data
    put(320, &KEEP_ALIVE_GRANULARITY.to_le_bytes()); // KAS
    put(514, &(QUEUE_ENTRIES_LESS_ONE + 1).to_le_bytes()); // MAXCMD
    put(536, &(1_u32 | 1 << 20).to_le_bytes()); // SGLS: supported, with offsets in capsules
    let nqn = subsystem.map_or(DISCOVERY_NQN, |subsystem| subsystem.nqn.as_str());
    put(768, nqn.as_bytes()); // SUBNQN
    let Some(_) = subsystem else { return };
    put(512, &[0x66, 0x44]); // SQES, CQES: entries of 64 and 16 bytes
    put(516, &1_u32.to_le_bytes()); // NN
    put(520, &(1_u16 | 1 << 2 | 1 << 3).to_le_bytes()); // ONCS: Compare, Dataset Management, Write Zeroes
    put(522, &1_u16.to_le_bytes()); // FUSES: Compare and Write
    // 525: VWC 0, as a write is durable when it ends. 526, 528: AWUN, AWUPF, and 532: ACWU are 0: one sector.
    put(540, &1_u32.to_le_bytes()); // MNAN
    put(1792, &((wire_length(COMMAND_BYTES) + IN_CAPSULE_BYTES) / 16).to_le_bytes()); // IOCCSZ
    put(1796, &1_u32.to_le_bytes()); // IORCSZ
    put(1803, &[1]); // MSDBD
    put(1804, &1_u16.to_le_bytes()); // OFCS: Disconnect
}

/// The namespace (NVM Command Set 1.0, figure 97).
fn describe(page: &mut [u8], namespace: &Namespace) {
    let mut put = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    for at in [0, 8, 16] {
        put(at, &namespace.sectors.to_le_bytes()); // NSZE, NCAP, NUSE
    }
    put(24, &[1 << 4]); // NSFEAT: the hints below
    // 25: NLBAF 0, one format. 26: FLBAS 0. 34 to 39: NAWUN, NAWUPF, NACWU are 0: one sector never tears.
    put(33, &[u8::from(namespace.deallocated_reads_zero)]); // DLFEAT
    put(72, &namespace.run_sectors.saturating_sub(1).to_le_bytes()); // NOWS
    put(99, &[u8::from(namespace.read_only)]); // NSATTR
    put(104, namespace.uuid.as_bytes()); // NGUID
    put(130, &[namespace.sector_bytes.log2()]); // LBAF0: no metadata, the sector's size
}

/// Identifiers of the namespace (figure 277): type, length, two zeroes, identifier.
fn descriptors(page: &mut [u8], uuid: &Uuid) {
    const NGUID: u8 = 2;
    const UUID: u8 = 3;
    const COMMAND_SET: u8 = 4;
    let mut at = 0;
    for (kind, id) in [(UUID, &uuid.as_bytes()[..]), (NGUID, uuid.as_bytes()), (COMMAND_SET, &[0])] {
        page[at] = kind;
        page[at + 1] = if kind == COMMAND_SET { 1 } else { 16 };
        page[at + 4..at + 4 + id.len()].copy_from_slice(id);
        at += 4 + id.len();
    }
}
