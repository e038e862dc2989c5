//! The mailbox: a device's commands, one at a time (8.2.8.4, 8.2.9).
//!
//! The device answers into registers, which are bounded by what the mailbox says that it holds, and by the block. A command
//! that it does not finish in time is the last one, and so is one that takes more time than is left of a piece of work.

use alloc::vec::Vec;

use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore};

use super::{CxlError, MailboxError, PATIENCE_NS, WORK_NS};
use crate::flush::{NowNs, wait};
use crate::registers::Registers;

/// The ids of what a device's registers hold (8.2.8.2).
const MAILBOX: u64 = 2;
const MEMORY_STATUS: u64 = 0x4000;

/// The array's entries: 16 bytes each, behind its header of 16.
const ENTRY_BYTES: u32 = 16;

/// More entries than any device has: further ones are ignored.
const MAX_ENTRIES: u32 = 64;

/// In the memory device's status (8.2.8.5.1).
const FATAL_OR_HALTED: u32 = 0b11;
const MEDIA: u32 = 0b11 << 2;
const MEDIA_READY: u32 = 0b01 << 2;
const MAILBOX_READY: u32 = 1 << 4;

/// In the mailbox.
const CONTROL: u32 = 4;
const DOORBELL: u32 = 1;
const COMMAND: u32 = 8;
const STATUS: u32 = 0x10;
const PAYLOAD: u32 = 0x20;

/// The least and the largest payload, as powers of two.
const PAYLOAD_BITS: core::ops::RangeInclusive<u32> = 8..=20;

const IDENTIFY: u16 = 0x4000;
const PARTITIONS: u16 = 0x4100;
const GET_LSA: u16 = 0x4102;
const SET_LSA: u16 = 0x4103;

/// What is read of the replies: the fields that every version of the specification has.
const IDENTITY_BYTES: usize = 0x43;
const PARTITIONS_BYTES: usize = 0x20;

/// The bytes in front of the label data of a write: offset, and a reserved double word.
const SET_LSA_HEADER_BYTES: usize = 8;

impl From<MailboxError> for LabelError {
    fn from(why: MailboxError) -> Self {
        match why {
            MailboxError::Silent | MailboxError::Slow => Self::NoAnswer,
            MailboxError::Refused { code, .. } => Self::Status(code.into()),
            MailboxError::BadReply { .. } => Self::BadAnswer,
        }
    }
}

/// What a device says about its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// All of it.
    pub total: u64,
    /// What is persistent now.
    pub persistent: u64,
    /// The label area.
    pub label_area: u32,
}

/// A device's mailbox.
#[derive(Debug)]
pub struct Mailbox<R> {
    registers: R,
    /// Where it is in the block.
    at: u32,
    payload_bytes: usize,
    now_ns: NowNs,
    /// When this piece of work is to be over.
    end_ns: u64,
    /// Why it is given up: it did not finish a command, and no other one is begun.
    given_up: Option<MailboxError>,
}

impl<R: Registers> Mailbox<R> {
    /// Finds the mailbox in a device's registers.
    ///
    /// # Errors
    /// It is not there, or the device is not ready.
    pub fn find(registers: R, now_ns: NowNs) -> Result<Self, CxlError> {
        let head = registers.read_wide(0);
        let entries = u32::try_from(head >> 32 & 0xffff).expect("16 bits").min(MAX_ENTRIES);
        let place = |wanted: u64| {
            let mut entries = (1..=entries).map(|number| number * ENTRY_BYTES);
            let entry = entries.find(|at| registers.read_wide(*at) & 0xffff == wanted)?;
            let offset = registers.read(entry + 4);
            // What lies there is read and written within the block only; a sum must not wrap.
            (head & 0xffff == 0 && offset.is_multiple_of(8) && offset <= u32::MAX >> 1).then_some(offset)
        };
        let at = place(MAILBOX).ok_or(CxlError::NoRegisters { what: "mailbox" })?;
        let status_at = place(MEMORY_STATUS).ok_or(CxlError::NoRegisters { what: "status" })?;
        let bits = registers.read(at) & 0x1f;
        if !PAYLOAD_BITS.contains(&bits) {
            return Err(CxlError::NoRegisters { what: "mailbox" });
        }
        let end_ns = now_ns().saturating_add(WORK_NS);
        let mailbox = Self { registers, at, payload_bytes: 1 << bits, now_ns, end_ns, given_up: None };
        let ready =
            |status: u32| status & FATAL_OR_HALTED == 0 && status & MEDIA == MEDIA_READY && status & MAILBOX_READY != 0;
        if !wait(now_ns, PATIENCE_NS, || ready(mailbox.registers.read(status_at))) {
            return Err(CxlError::NotReady { status: mailbox.registers.read(status_at) });
        }
        Ok(mailbox)
    }

    /// Waits until no command is under way.
    fn idle(&mut self) -> Result<(), MailboxError> {
        if let Some(why) = self.given_up {
            return Err(why);
        }
        let left = self.end_ns.saturating_sub((self.now_ns)());
        let why = if left < PATIENCE_NS { MailboxError::Slow } else { MailboxError::Silent };
        let is_idle = || self.registers.read(self.at + CONTROL) & DOORBELL == 0;
        if left > 0 && wait(self.now_ns, PATIENCE_NS.min(left), is_idle) {
            return Ok(());
        }
        self.given_up = Some(why);
        Err(why)
    }

    /// Has the device carry out a command, and copies the first bytes of its reply, which has `least` of them or more.
    /// Returns the reply's length. `input` fits the payload.
    fn command(&mut self, opcode: u16, input: &[u8], output: &mut [u8], least: usize) -> Result<usize, MailboxError> {
        assert!(input.len() <= self.payload_bytes, "callers cut what they send");
        self.idle()?;
        for (at, piece) in (self.at + PAYLOAD..).step_by(4).zip(input.chunks(4)) {
            let mut word = [0; 4];
            word[..piece.len()].copy_from_slice(piece);
            self.registers.write(at, u32::from_le_bytes(word));
        }
        self.registers.write_wide(self.at + COMMAND, (input.len() as u64) << 16 | u64::from(opcode));
        self.registers.write(self.at + CONTROL, DOORBELL);
        self.idle()?;
        let code = u16::try_from(self.registers.read_wide(self.at + STATUS) >> 32 & 0xffff).expect("16 bits");
        if code != 0 {
            return Err(MailboxError::Refused { opcode, code });
        }
        let length =
            usize::try_from(self.registers.read_wide(self.at + COMMAND) >> 16 & 0x1f_ffff).unwrap_or(usize::MAX);
        if length < least || length > self.payload_bytes {
            return Err(MailboxError::BadReply { opcode });
        }
        let copied = output.len().min(length);
        for (at, piece) in (self.at + PAYLOAD..).step_by(4).zip(output[..copied].chunks_mut(4)) {
            piece.copy_from_slice(&self.registers.read(at).to_le_bytes()[..piece.len()]);
        }
        Ok(length)
    }

    /// Asks the device about its memory.
    ///
    /// # Errors
    /// [`MailboxError`].
    pub fn identify(&mut self) -> Result<Identity, MailboxError> {
        // Capacities are counted in units of 256 MiB.
        let wide = |bytes: &[u8], at: usize| {
            let field = bytes[at..].first_chunk().expect("each field lies in its reply");
            u64::from_le_bytes(*field).checked_mul(super::decoder::UNIT_BYTES)
        };
        let mut reply = [0; IDENTITY_BYTES];
        self.command(IDENTIFY, &[], &mut reply, IDENTITY_BYTES)?;
        let [a, b, c, d] = [0x38, 0x39, 0x3a, 0x3b].map(|at: usize| reply[at]);
        let (total, fixed) = (wide(&reply, 0x10), [wide(&reply, 0x18), wide(&reply, 0x20)]);
        let [_, mut persistent] = fixed;
        // What is neither for good is one or the other, as the partitions say.
        if fixed.into_iter().try_fold(0_u64, |sum, part| sum.checked_add(part?)) != total {
            let mut reply = [0; PARTITIONS_BYTES];
            self.command(PARTITIONS, &[], &mut reply, PARTITIONS_BYTES)?;
            persistent = wide(&reply, 8);
        }
        match (total, persistent) {
            (Some(total), Some(persistent)) if persistent <= total => {
                Ok(Identity { total, persistent, label_area: u32::from_le_bytes([a, b, c, d]) })
            }
            _ => Err(MailboxError::BadReply { opcode: IDENTIFY }),
        }
    }
}

/// A device's label area (LSA; 8.2.9.8.4). A write is durable when the device has finished the command.
#[derive(Debug)]
pub struct LabelArea<R> {
    mailbox: Mailbox<R>,
    dimm: DeviceHandle,
    bytes: u32,
}

impl<R: Registers> LabelArea<R> {
    /// The label area behind a mailbox, of `bytes` bytes, for what calls the device `dimm`.
    pub const fn new(mailbox: Mailbox<R>, dimm: DeviceHandle, bytes: u32) -> Self {
        Self { mailbox, dimm, bytes }
    }

    /// Begins a piece of work: all reads and writes of it have [`super::WORK_SECONDS`] together.
    pub fn begin(&mut self) {
        self.mailbox.end_ns = (self.mailbox.now_ns)().saturating_add(WORK_NS);
    }

    /// Returns whether it is this device's.
    pub fn is_of(&self, dimm: DeviceHandle) -> bool {
        self.dimm == dimm
    }

    /// Returns where an access begins, if it lies in the area.
    fn start(&self, dimm: DeviceHandle, offset: u64, bytes: usize) -> Result<u32, LabelError> {
        let end = offset.checked_add(bytes as u64).filter(|end| *end <= u64::from(self.bytes));
        match (end, u32::try_from(offset)) {
            (Some(_), Ok(start)) if self.is_of(dimm) => Ok(start),
            _ => Err(LabelError::OutOfRange),
        }
    }
}

impl<R: Registers> LabelSource for LabelArea<R> {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(Some(u64::from(self.bytes)).filter(|bytes| *bytes > 0 && self.is_of(dimm)))
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let mut at = self.start(dimm, offset, into.len())?;
        for piece in into.chunks_mut(self.mailbox.payload_bytes) {
            let bytes = u32::try_from(piece.len()).expect("a payload is at most 1 MiB");
            let request = [at.to_le_bytes(), bytes.to_le_bytes()].concat();
            if self.mailbox.command(GET_LSA, &request, piece, piece.len())? != piece.len() {
                return Err(LabelError::BadAnswer);
            }
            at += bytes; // `start` has checked the end
        }
        Ok(())
    }
}

impl<R: Registers> LabelStore for LabelArea<R> {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let mut at = self.start(dimm, offset, from.len())?;
        for piece in from.chunks(self.mailbox.payload_bytes - SET_LSA_HEADER_BYTES) {
            let mut request = Vec::with_capacity(SET_LSA_HEADER_BYTES + piece.len());
            request.extend(at.to_le_bytes());
            request.extend([0; 4]);
            request.extend(piece);
            self.mailbox.command(SET_LSA, &request, &mut [], 0)?;
            at += u32::try_from(piece.len()).expect("a payload is at most 1 MiB"); // `start` has checked the end
        }
        Ok(())
    }
}
