//! What goes out: completions, R2Ts and data, made when there is room for them.
//!
//! A PDU that fits is made in the caller's room: a read's sectors go straight there. One that does not fit is made in
//! `stage`, which holds a sector and its header at most, and is sent from there in pieces.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::{Connection, Phase, Role};
use crate::command::Completion;
use crate::io::{IoTask, IoWork};
use crate::limits::{STEP_BYTES, STEP_SECTORS};
use crate::queue::{Queue, Stage, Tag, Task};
use crate::status::Status;
use crate::storage::{Storage, StorageError};
use crate::subsystem::Counters;
use crate::units::{Lba, wire_length};
use crate::wire::{
    CommonHeader, DATA_HEADER_BYTES, DataHeader, Digest, Digests, FLAG_DATA_DIGEST, FLAG_HEADER_DIGEST, FLAG_LAST,
    FLAG_SUCCESS, INIT_BYTES, InitResponse, PduType, R2t, Response, TERMINATION_BYTES, Termination, Violation,
};

/// A piece of data that is made in the stage has so many bytes at most, or is a sector.
const STAGED_DATA_BYTES: usize = 4096;

/// The header of each PDU that we send, but for ICResp.
const HEADER_BYTES: u8 = 24;
const _: () = assert!(HEADER_BYTES as usize == TERMINATION_BYTES && HEADER_BYTES as usize == DATA_HEADER_BYTES);
/// ICResp's.
const INIT_HEADER_BYTES: u8 = 128;
const _: () = assert!(INIT_HEADER_BYTES as usize == INIT_BYTES);

/// The sending half.
pub(super) struct Sender {
    /// Bytes that were made and not sent, from `at` on.
    stage: Vec<u8>,
    at: usize,
    digests: Digests,
    /// The host wants data aligned to so many bytes.
    alignment: usize,
    /// The host asked to disconnect.
    disconnects: bool,
}

impl Sender {
    pub(super) const fn new() -> Self {
        let digests = Digests { header: false, data: false };
        Self { stage: Vec::new(), at: 0, digests, alignment: 4, disconnects: false }
    }

    /// Whether there are bytes that were made and not sent.
    pub(super) fn has_some(&self) -> bool {
        self.at < self.stage.len()
    }

    /// The connection closes when all is sent.
    pub(super) const fn disconnect(&mut self) {
        self.disconnects = true;
    }

    /// Whether it does.
    pub(super) const fn disconnects(&self) -> bool {
        self.disconnects
    }

    /// Replies to ICReq (section 3.6.2.3), and takes what it asked for.
    pub(super) fn begin(&mut self, digests: Digests, alignment: u8, data_bytes_max: u32) {
        let response = InitResponse {
            common: CommonHeader::new(PduType::InitResponse, INIT_HEADER_BYTES),
            version: 0.into(),
            alignment: 0,
            digests: digests.bits(),
            data_bytes_max: data_bytes_max.into(),
            reserved: [0; 112],
        };
        self.stage.extend_from_slice(response.as_bytes());
        self.digests = digests;
        self.alignment = (usize::from(alignment) + 1) * 4;
    }

    /// Tells the host which rule it broke (section 3.6.2.5). What was made before goes first.
    pub(super) fn terminate(&mut self, violation: Violation, header: &[u8]) {
        let mut common = CommonHeader::new(PduType::TerminationByController, HEADER_BYTES);
        common.pdu_bytes = U32::new(wire_length(TERMINATION_BYTES + header.len()));
        let error = violation.fatal_error_status().into();
        let information = violation.information.to_le_bytes();
        let termination = Termination { common, error, information, reserved: [0; 10] };
        self.stage.extend_from_slice(termination.as_bytes());
        self.stage.extend_from_slice(header);
    }

    /// Moves what was made before. Returns how many bytes.
    fn drain(&mut self, into: &mut [u8]) -> usize {
        let count = (self.stage.len() - self.at).min(into.len());
        into[..count].copy_from_slice(&self.stage[self.at..self.at + count]);
        self.at += count;
        if self.at == self.stage.len() {
            self.stage.clear();
            self.at = 0;
        }
        count
    }

    /// Sends a PDU of a header alone.
    fn header(&mut self, mut header: [u8; 24], into: &mut [u8]) -> usize {
        let digests = self.digests;
        let bytes = header.len() + digests.header_bytes();
        if digests.header {
            header[1] |= FLAG_HEADER_DIGEST;
        }
        header[4..8].copy_from_slice(&wire_length(bytes).to_le_bytes());
        let mut pdu = [0; 28];
        pdu[..24].copy_from_slice(&header);
        pdu[24..].copy_from_slice(&Digest::of(&header));
        self.stage.extend_from_slice(&pdu[..bytes]);
        self.drain(into)
    }

    /// Where data begin in their PDU.
    fn data_offset(&self) -> usize {
        (DATA_HEADER_BYTES + self.digests.header_bytes()).next_multiple_of(self.alignment)
    }

    /// Bytes of a PDU beside its data.
    fn overhead(&self) -> usize {
        self.data_offset() + self.digests.data_bytes()
    }

    /// Finishes a PDU whose data stand in it already.
    fn finish_data(&self, pdu: &mut [u8], cid: u16, offset: usize, flags: u8) {
        let at = self.data_offset();
        let bytes = pdu.len() - self.overhead();
        let mut common = CommonHeader::new(PduType::DataToHost, HEADER_BYTES);
        common.flags = flags;
        common.flags |= if self.digests.header { FLAG_HEADER_DIGEST } else { 0 };
        common.flags |= if self.digests.data { FLAG_DATA_DIGEST } else { 0 };
        common.data_offset = u8::try_from(at).expect("at most 128");
        common.pdu_bytes = U32::new(wire_length(pdu.len()));
        let header = DataHeader {
            common,
            cid: cid.into(),
            tag: 0.into(),
            offset: wire_length(offset).into(),
            bytes: wire_length(bytes).into(),
            reserved: [0; 4],
        };
        let (before, data) = pdu.split_at_mut(at);
        before.fill(0);
        before[..DATA_HEADER_BYTES].copy_from_slice(header.as_bytes());
        if self.digests.header {
            before[DATA_HEADER_BYTES..DATA_HEADER_BYTES + 4].copy_from_slice(&Digest::of(header.as_bytes()));
        }
        let (data, digest) = data.split_at_mut(bytes);
        if self.digests.data {
            digest.copy_from_slice(&Digest::of(data));
        }
    }
}

/// Whether a command's last data say that it is done (section 3.3.2.2): only without flow control.
fn success_in_data(queue: &Queue) -> u8 {
    if queue.has_flow_control() { 0 } else { FLAG_SUCCESS }
}

impl Connection {
    /// Fills room in the socket, and returns how many bytes are to be sent. It reads a step's worth of sectors at most;
    /// [`Connection::has_output`] tells whether there is more.
    pub fn output(&mut self, storage: &mut impl Storage, into: &mut [u8]) -> usize {
        if self.phase == Phase::Closed {
            return 0;
        }
        let mut made = self.sender.drain(into);
        let mut budget = STEP_SECTORS;
        while made < into.len() && !self.sender.has_some() {
            let Some(tag) = self.queue.outgoing().filter(|_| self.violation.is_none()) else { break };
            let room = &mut into[made..];
            let entry = self.queue.entry(tag);
            made += match entry.stage {
                Stage::Ended(completion) => self.send_completion(tag, completion, room),
                Stage::AskForData => self.send_r2t(tag, room),
                Stage::Sending => self.send_data(tag, room),
                Stage::Reading if budget == 0 => break,
                Stage::Reading => {
                    let (sent, sectors) = self.send_sectors(tag, storage, room, budget);
                    budget -= sectors;
                    sent
                }
                _ => unreachable!("a command that nothing is to be sent of"),
            };
        }
        made
    }

    fn send_completion(&mut self, tag: Tag, completion: Completion, into: &mut [u8]) -> usize {
        let common = CommonHeader::new(PduType::Response, HEADER_BYTES);
        let response = Response { common, completion: self.queue.raw(tag, &completion) };
        self.queue.sent();
        self.queue.finish(tag);
        let mut header = [0; 24];
        header.copy_from_slice(response.as_bytes());
        self.sender.header(header, into)
    }

    fn send_r2t(&mut self, tag: Tag, into: &mut [u8]) -> usize {
        let entry = self.queue.entry_mut(tag);
        let r2t = R2t {
            common: CommonHeader::new(PduType::ReadyToTransfer, HEADER_BYTES),
            cid: entry.command.id().0.into(),
            tag: tag.number().into(),
            offset: 0.into(),
            bytes: wire_length(entry.data_bytes).into(),
            reserved: [0; 4],
        };
        entry.stage = Stage::Data;
        self.queue.sent();
        let mut header = [0; 24];
        header.copy_from_slice(r2t.as_bytes());
        self.sender.header(header, into)
    }

    /// After a command's last data.
    fn data_sent(&mut self, tag: Tag, flags: u8) {
        self.queue.sent();
        if flags & FLAG_SUCCESS != 0 {
            self.queue.finish(tag);
        } else {
            self.queue.end_at_once(tag, Completion::SUCCESS);
        }
    }

    /// Sends a piece of the data that stand in a command's entry.
    fn send_data(&mut self, tag: Tag, into: &mut [u8]) -> usize {
        let overhead = self.sender.overhead();
        let success = success_in_data(&self.queue);
        let entry = self.queue.entry(tag);
        let done = usize::try_from(entry.done).expect("within its data");
        let left = entry.data.len() - done;
        let direct = into.len().saturating_sub(overhead) & !3;
        let staged = direct < left.min(STAGED_DATA_BYTES);
        let bytes = if staged { left.min(STAGED_DATA_BYTES) } else { left.min(direct) };
        let flags = if bytes == left { FLAG_LAST | success } else { 0 };
        let cid = entry.command.id().0;
        let sent = self.sender.make(into, staged, bytes, |sender, pdu| {
            let at = sender.data_offset();
            pdu[at..at + bytes].copy_from_slice(&entry.data[done..done + bytes]);
            sender.finish_data(pdu, cid, done, flags);
            Ok(())
        });
        let sent = sent.unwrap_or_else(|never: core::convert::Infallible| match never {});
        self.queue.entry_mut(tag).done += bytes as u64;
        if bytes == left {
            self.data_sent(tag, flags);
        } else {
            self.queue.sent_some();
        }
        sent
    }

    /// Reads the next sectors of a command, `most` of them at most, and sends them. Returns how many bytes go out now, and how
    /// many sectors were read.
    fn send_sectors(&mut self, tag: Tag, storage: &mut impl Storage, into: &mut [u8], most: usize) -> (usize, usize) {
        let Role::Io(view, association) = &mut self.role else { unreachable!("only I/O queues read") };
        let Some(subsystem) = &association.controller.subsystem else { unreachable!("discovery has no I/O queue") };
        view.refresh(subsystem);
        let (task, first, count) = match self.queue.entry(tag).task {
            Task::Io(task @ IoTask { work: IoWork::Read { first, count }, .. }) => (task, first, count),
            _ => unreachable!("only reads are read"),
        };
        if view.namespace() != Some(&task.namespace) {
            return (self.fail_read(tag, Status::INVALID_NAMESPACE), 0);
        }
        let counters = &subsystem.counters;
        let (size, overhead) = (task.namespace.sector_bytes.in_memory(), self.sender.overhead());
        let success = success_in_data(&self.queue);
        let entry = self.queue.entry(tag);
        let (done, cid) = (entry.done, entry.command.id().0);
        let left = usize::try_from(count - done).expect("a command's sectors are few");
        let direct = into.len().saturating_sub(overhead) / size;
        let staged = direct == 0;
        let sectors = left.min(most).min(STEP_BYTES / size).min(direct.max(1));
        let flags = if sectors == left { FLAG_LAST | success } else { 0 };
        let offset = usize::try_from(done).expect("a command's sectors are few") * size;
        let result = self.sender.make(into, staged, sectors * size, |sender, pdu| {
            let at = sender.data_offset();
            storage.read(task.namespace.disk, Lba(first.0 + done), &mut pdu[at..at + sectors * size])?;
            sender.finish_data(pdu, cid, offset, flags);
            Ok::<(), StorageError>(())
        });
        let sent = match result {
            Ok(sent) => sent,
            Err(why) => {
                if why == StorageError::Media {
                    counters.media_errors.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
                }
                return (self.fail_read(tag, Status::of_read(why)), sectors);
            }
        };
        self.queue.entry_mut(tag).done += sectors as u64;
        if sectors == left {
            Counters::add(&counters.reads, &counters.read_bytes, offset + sectors * size);
            self.data_sent(tag, flags);
        } else {
            self.queue.sent_some();
        }
        (sent, sectors)
    }

    /// A read ends without the rest of its data.
    fn fail_read(&mut self, tag: Tag, status: Status) -> usize {
        self.queue.sent();
        self.queue.end_at_once(tag, Completion::of(status));
        0
    }
}

impl Sender {
    /// Makes a data PDU with so many bytes of data: in `into`, or in the stage, of which as much goes out as there is room for.
    /// Returns how many bytes go out now.
    fn make<E>(
        &mut self,
        into: &mut [u8],
        staged: bool,
        data_bytes: usize,
        fill: impl FnOnce(&Self, &mut [u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let bytes = self.overhead() + data_bytes;
        if !staged {
            return fill(self, &mut into[..bytes]).map(|()| bytes);
        }
        let mut stage = core::mem::take(&mut self.stage);
        stage.resize(bytes, 0);
        let result = fill(self, &mut stage);
        if result.is_err() {
            stage.clear();
        }
        self.stage = stage;
        result.map(|()| self.drain(into))
    }
}
