//! Get Log Page (NVMe Base 2.0, section 5.16).

use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::Ordering;

use super::{
    ABORT, ASYNC_EVENT_REQUEST, AdminQueue, GET_FEATURES, GET_LOG_PAGE, IDENTIFY, KEEP_ALIVE, SET_FEATURES,
    Surroundings, put_text, zeroes,
};
use crate::command::Command;
use crate::io::{COMPARE, DEALLOCATE, FLUSH, READ, WRITE, WRITE_ZEROES};
use crate::limits::TRANSFER_BYTES;
use crate::name::NQN_FIELD_BYTES;
use crate::status::Status;
use crate::target::Endpoint;
use crate::units::NamespaceId;

/// The pages (figure 202).
const ERRORS: u8 = 0x01;
const SMART: u8 = 0x02;
const FIRMWARE: u8 = 0x03;
pub(super) const CHANGED_NAMESPACES: u8 = 0x04;
const EFFECTS: u8 = 0x05;
pub(super) const DISCOVERY: u8 = 0x70;

/// Dword 10, RAE: the page is read, and its events stay masked.
const RETAIN_EVENT: u32 = 1 << 15;

const DISCOVERY_RECORD_BYTES: usize = 1024;

/// How many bytes of a page a host wants.
///
/// # Errors
/// More than a command may move.
pub(super) fn bytes(command: &Command) -> Result<u32, Status> {
    let dwords = u64::from(command.dword(11) & 0xffff) << 16 | u64::from(command.dword(10) >> 16);
    let bytes = (dwords + 1) * 4;
    u32::try_from(bytes).ok().filter(|bytes| *bytes <= TRANSFER_BYTES).ok_or(Status::INVALID_FIELD)
}

impl AdminQueue {
    /// Returns the part of a page that a host wants. What is past its end are zeroes.
    ///
    /// # Errors
    /// There is no such page, or no such place in it.
    pub(super) fn log_page(&mut self, command: &Command, around: &Surroundings<'_>) -> Result<Vec<u8>, Status> {
        let [id, ..] = command.dword(10).to_le_bytes();
        let page = match (id, around.controller.subsystem.is_some()) {
            (DISCOVERY, false) => discovery(&self.endpoint, around)?,
            // No error is kept: one entry, and it is empty.
            (ERRORS, _) => zeroes(64)?,
            (SMART, true) if matches!(command.namespace(), NamespaceId(0) | NamespaceId::ALL | NamespaceId::ONLY) => {
                smart(around)?
            }
            (SMART, true) => return Err(Status::INVALID_NAMESPACE),
            (FIRMWARE, true) => firmware()?,
            (CHANGED_NAMESPACES, true) => {
                let mut page = zeroes(4096)?;
                if self.namespace_changed {
                    page[..4].copy_from_slice(&NamespaceId::ONLY.0.to_le_bytes());
                }
                page
            }
            (EFFECTS, true) => effects()?,
            _ => return Err(Status::INVALID_LOG_PAGE),
        };
        let offset = usize::try_from(command.dwords(12)).ok().filter(|at| *at <= page.len() && at.is_multiple_of(4));
        let from = &page[offset.ok_or(Status::INVALID_FIELD)?..];
        let mut wanted = zeroes(bytes(command)?)?;
        let count = wanted.len().min(from.len());
        wanted[..count].copy_from_slice(&from[..count]);
        if id == CHANGED_NAMESPACES {
            self.namespace_changed = false;
        }
        if command.dword(10) & RETAIN_EVENT == 0 {
            self.unmask(id);
        }
        Ok(wanted)
    }
}

/// SMART / Health Information (figure 207): of the subsystem since it was exported.
fn smart(around: &Surroundings<'_>) -> Result<Vec<u8>, Status> {
    const UNIT_BYTES: u64 = 512_000;
    let mut page = zeroes(512)?;
    page[3] = 100; // available spare, in percent: nothing wears out
    if let Some(subsystem) = &around.controller.subsystem {
        let counters = &subsystem.counters;
        let units = |bytes: u64| bytes.div_ceil(UNIT_BYTES);
        let mut put = |at: usize, value: u64| page[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(32, units(counters.read_bytes.load(Ordering::Relaxed)));
        put(48, units(counters.written_bytes.load(Ordering::Relaxed)));
        put(64, counters.reads.load(Ordering::Relaxed));
        put(80, counters.writes.load(Ordering::Relaxed));
        put(128, around.now.0.saturating_sub(around.target.since.0) / 3_600_000); // power on hours
        put(160, counters.media_errors.load(Ordering::Relaxed));
    }
    Ok(page)
}

/// Firmware Slot Information (figure 208): one slot, which is active.
fn firmware() -> Result<Vec<u8>, Status> {
    let mut page = zeroes(512)?;
    page[0] = 1;
    put_text(&mut page[8..16], env!("CARGO_PKG_VERSION"), b' ');
    Ok(page)
}

/// Commands Supported and Effects (figure 210).
fn effects() -> Result<Vec<u8>, Status> {
    const SUPPORTED: u8 = 1;
    const CHANGES_DATA: u8 = 1 << 1;
    const IO: usize = 1024;
    let mut page = zeroes(4096)?;
    for opcode in [GET_LOG_PAGE, IDENTIFY, ABORT, SET_FEATURES, GET_FEATURES, ASYNC_EVENT_REQUEST, KEEP_ALIVE] {
        page[usize::from(opcode) * 4] = SUPPORTED;
    }
    for opcode in [FLUSH, READ, COMPARE] {
        page[IO + usize::from(opcode) * 4] = SUPPORTED;
    }
    for opcode in [WRITE, WRITE_ZEROES, DEALLOCATE] {
        page[IO + usize::from(opcode) * 4] = SUPPORTED | CHANGES_DATA;
    }
    Ok(page)
}

/// The discovery log (figures 264 and 265): what this host may use, at the address where it reached us.
fn discovery(endpoint: &Endpoint, around: &Surroundings<'_>) -> Result<Vec<u8>, Status> {
    const TCP: u8 = 3;
    const IPV4: u8 = 1;
    const IPV6: u8 = 2;
    const NVM_SUBSYSTEM: u8 = 2;
    /// TREQ: a queue may do without flow control.
    const NO_FLOW_CONTROL: u8 = 1 << 2;
    const ADMIN_ENTRIES: u16 = 32;

    let (changes, visible) = around.target.visible_to(&around.controller.host.nqn);
    let bytes = (visible.len() + 1).checked_mul(DISCOVERY_RECORD_BYTES).and_then(|bytes| u32::try_from(bytes).ok());
    let mut page = zeroes(bytes.ok_or(Status::INTERNAL_ERROR)?)?;
    page[0..8].copy_from_slice(&changes.to_le_bytes());
    page[8..16].copy_from_slice(&(visible.len() as u64).to_le_bytes());
    for (subsystem, record) in visible.iter().zip(page[DISCOVERY_RECORD_BYTES..].chunks_mut(DISCOVERY_RECORD_BYTES)) {
        let family = if endpoint.address.is_ipv4() { IPV4 } else { IPV6 };
        record[..4].copy_from_slice(&[TCP, family, NVM_SUBSYSTEM, NO_FLOW_CONTROL]);
        record[6..8].copy_from_slice(&u16::MAX.to_le_bytes()); // CNTLID: any
        record[8..10].copy_from_slice(&ADMIN_ENTRIES.to_le_bytes());
        put_text(&mut record[32..64], &alloc::format!("{}", endpoint.port), b' ');
        record[256..256 + subsystem.nqn.as_str().len()].copy_from_slice(subsystem.nqn.as_str().as_bytes());
        put_text(&mut record[512..512 + NQN_FIELD_BYTES], &address(&endpoint.address), b' ');
    }
    Ok(page)
}

fn address(address: &IpAddr) -> alloc::string::String {
    alloc::format!("{address}")
}
