//! What comes in: PDUs become commands and their data. Nothing is carried out here.

use super::{Connection, Phase, Role};
use crate::admin;
use crate::auth::Dialogue;
use crate::command::{Command, Completion, Fuse, SglDescriptor, Transfer};
use crate::fabrics;
use crate::io::{self, IoTask, IoWork, fail_fused};
use crate::limits::{H2C_DATA_BYTES, LAST_WORDS_MS};
use crate::queue::{Stage, Tag, Task};
use crate::status::Status;
use crate::target::Target;
use crate::units::{CommandId, Lba, Millis};
use crate::wire::{ALIGNMENT_MAX, Digests, Event, FatalError, Pdu, Violation};

/// Where the data of a PDU go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// There are none.
    None,
    /// To the data of a command.
    Command(Tag),
    /// Nowhere: the command was refused, or one whose data had a fault before.
    Nowhere(Tag),
}

/// The first half of a fused operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fused {
    /// Its command, unless that has failed.
    tag: Option<Tag>,
    first: Lba,
    count: u64,
}

/// How a command's data move.
enum Way {
    None,
    InCapsule(usize),
    AskFor(usize),
    ToHost,
}

impl Connection {
    /// Takes bytes that came, and returns how many: the others are to be offered again. It takes all of them unless there
    /// is no room for the data of a command.
    pub fn input(&mut self, target: &Target, bytes: &[u8], now: Millis) -> usize {
        let mut taken = 0;
        loop {
            match self.phase {
                Phase::New | Phase::Open => {}
                // The host may still be sending.
                Phase::Closing { .. } | Phase::Closed => return bytes.len(),
            }
            if let Some((tag, wanted)) = self.stuck {
                if !self.queue.reserve_in_capsule(tag, wanted) {
                    return taken;
                }
                self.stuck = None;
            }
            let event = match self.receiver.take(&bytes[taken..]) {
                Ok((more, event)) => {
                    taken += more;
                    event
                }
                Err(violation) => {
                    self.violate(violation, now);
                    continue;
                }
            };
            let result = match event {
                None => return taken,
                Some(Event::Header(pdu)) => self.begin(pdu, target, now),
                Some(Event::Data(piece)) => {
                    if let Sink::Command(tag) = self.sink {
                        self.queue.entry_mut(tag).data.extend_from_slice(piece);
                    }
                    Ok(())
                }
                Some(Event::End { intact }) => {
                    self.finish_data(intact);
                    Ok(())
                }
            };
            if let Err(violation) = result {
                self.violate(violation, now);
            }
        }
    }

    /// The host broke the rules: it is told how, and the connection ends.
    fn violate(&mut self, violation: Violation, now: Millis) {
        self.violation = Some(violation);
        self.sender.terminate(violation, self.receiver.header());
        self.phase = Phase::Closing { until: now.plus(LAST_WORDS_MS) };
    }

    fn begin(&mut self, pdu: Pdu, target: &Target, now: Millis) -> Result<(), Violation> {
        match (pdu, self.phase) {
            (Pdu::Init { version, alignment, digests }, Phase::New) => self.init(version, alignment, digests),
            (Pdu::Termination, _) => {
                self.phase = Phase::Closed;
                Ok(())
            }
            (Pdu::Command { command, data_bytes }, Phase::Open) => self.command(command, data_bytes, target, now),
            (Pdu::Data { cid, tag, offset, bytes, last }, Phase::Open) => {
                self.data(CommandId(cid), tag, offset, bytes, last)
            }
            _ => Err(Violation::of(FatalError::PduSequence)),
        }
    }

    /// ICReq (section 3.6.2.2).
    fn init(&mut self, version: u16, alignment: u8, digests: u8) -> Result<(), Violation> {
        const AT_VERSION: u32 = 8;
        const AT_ALIGNMENT: u32 = 10;
        const AT_DIGESTS: u32 = 11;
        let unsupported = |at| Violation { error: FatalError::UnsupportedParameter, information: at };
        if version != 0 {
            return Err(unsupported(AT_VERSION));
        }
        if alignment > ALIGNMENT_MAX {
            return Err(Violation::field(AT_ALIGNMENT));
        }
        let digests = Digests::from_bits(digests).ok_or(Violation::field(AT_DIGESTS))?;
        self.sender.begin(digests, alignment, H2C_DATA_BYTES);
        self.receiver.set_digests(digests);
        self.phase = Phase::Open;
        Ok(())
    }

    /// A command capsule.
    fn command(&mut self, command: Command, data_bytes: u32, _: &Target, now: Millis) -> Result<(), Violation> {
        if let Some(association) = self.role.association() {
            association.controller.hear(now);
        }
        let conflict = self.queue.has(command.id());
        // More commands than the queue has entries.
        let tag = self.queue.begin(command).ok_or(Violation::of(FatalError::PduSequence))?;
        self.sink = Sink::Nowhere(tag);
        let planned = if conflict { Err(Status::COMMAND_ID_CONFLICT) } else { self.plan(tag, &command, data_bytes) };
        match planned {
            Ok(Way::InCapsule(bytes)) => {
                self.sink = Sink::Command(tag);
                if !self.queue.reserve_in_capsule(tag, bytes) {
                    self.stuck = Some((tag, bytes));
                }
            }
            Ok(Way::AskFor(bytes)) => self.queue.ask_for_data(tag, bytes),
            Ok(Way::ToHost) => match self.queue.entry(tag).task {
                Task::Io(_) => self.queue.read(tag),
                Task::Authentication => self.arrived(tag),
                _ => self.queue.ready(tag),
            },
            Ok(Way::None) => self.arrived(tag),
            Err(status) => {
                self.queue.entry_mut(tag).fault = Some(status);
                // Otherwise it ends when its data have passed.
                if data_bytes == 0 {
                    self.arrived(tag);
                }
            }
        }
        Ok(())
    }

    /// What a command asks for, and how its data move.
    fn plan(&mut self, tag: Tag, command: &Command, data_bytes: u32) -> Result<Way, Status> {
        // Before all else: a fused operation fails with either of its halves.
        let before = self.fused.take();
        let planned = self.task(command).and_then(|(task, transfer)| {
            let way = way(command, transfer, data_bytes)?;
            Ok((task, transfer, way))
        });
        let planned = match (before, command.fuse()) {
            (None, Fuse::None) => planned,
            (before, fuse) => self.fuse(tag, before, fuse, planned),
        };
        let (task, transfer, way) = planned?;
        let entry = self.queue.entry_mut(tag);
        (entry.task, entry.transfer) = (task, transfer);
        Ok(way)
    }

    /// What a command asks for.
    fn task(&mut self, command: &Command) -> Result<(Task, Transfer), Status> {
        if !command.has_sgl() {
            return Err(Status::INVALID_FIELD);
        }
        if self.auth.is_some()
            && let Some(transfer) = fabrics::authentication(command)
        {
            return transfer.map(|transfer| (Task::Authentication, transfer));
        }
        if self.must_authenticate() {
            return Err(Status::AUTHENTICATION_REQUIRED);
        }
        let is_fabrics = command.opcode == fabrics::FABRICS;
        let control = |transfer| (Task::Control, transfer);
        match &mut self.role {
            Role::Stranger if is_fabrics && command.fabrics_type() == fabrics::CONNECT => {
                Ok(control(Transfer::FromHost(fabrics::CONNECT_DATA_BYTES)))
            }
            Role::Stranger => Err(Status::COMMAND_SEQUENCE_ERROR),
            Role::Admin(..) if is_fabrics => fabrics::transfer(command, true).map(control),
            Role::Admin(_, association) if !association.controller.is_enabled() => Err(Status::COMMAND_SEQUENCE_ERROR),
            Role::Admin(..) => admin::transfer(command).map(control),
            Role::Io(..) if is_fabrics => fabrics::transfer(command, false).map(control),
            Role::Io(view, association) => {
                if let Some(subsystem) = &association.controller.subsystem {
                    view.refresh(subsystem);
                }
                let (task, transfer) = io::plan(command, view.namespace())?;
                Ok((Task::Io(task), transfer))
            }
        }
    }

    /// A command that is half of a fused operation, or comes where the second half should (Base 2.0, section 3.4.2). The
    /// one that there is, Compare and Write, is of one sector.
    fn fuse(
        &mut self,
        tag: Tag,
        before: Option<Fused>,
        fuse: Fuse,
        planned: Result<(Task, Transfer, Way), Status>,
    ) -> Result<(Task, Transfer, Way), Status> {
        if let Some(first) = before
            && fuse != Fuse::Second
        {
            first.tag.into_iter().for_each(|first| self.fail_first(first, Status::MISSING_FUSED));
        }
        match (fuse, before) {
            (Fuse::None, _) => planned,
            (Fuse::Reserved, _) | (Fuse::First | Fuse::Second, _) if !matches!(self.role, Role::Io(..)) => {
                Err(Status::INVALID_FIELD)
            }
            (Fuse::Reserved, _) => Err(Status::INVALID_FIELD),
            (Fuse::First, _) => {
                let planned = planned.and_then(|planned| match planned.0 {
                    Task::Io(IoTask { work: IoWork::Compare { first, count: 1 }, .. }) => Ok((planned, first)),
                    Task::Io(IoTask { work: IoWork::Compare { .. }, .. }) => Err(Status::ATOMIC_WRITE_UNIT_EXCEEDED),
                    _ => Err(Status::INVALID_FIELD),
                });
                // Remembered also if it has failed: so the second one fails, too.
                let (tag, first) = planned.as_ref().map_or((None, Lba(0)), |(_, first)| (Some(tag), *first));
                self.fused = Some(Fused { tag, first, count: 1 });
                planned.map(|(planned, _)| planned)
            }
            (Fuse::Second, None) => Err(Status::MISSING_FUSED),
            (Fuse::Second, Some(Fused { tag: None, .. })) => Err(Status::FAILED_FUSED),
            (Fuse::Second, Some(Fused { tag: Some(first_tag), first, count })) => {
                let is_pair = |task: &Task| {
                    matches!(task, Task::Io(IoTask { work: IoWork::Write { first: at, count: sectors }, .. })
                        if (*at, *sectors) == (first, count))
                };
                match planned {
                    Ok(planned) if is_pair(&planned.0) => {
                        self.queue.entry_mut(first_tag).partner = Some(tag);
                        self.queue.entry_mut(tag).partner = Some(first_tag);
                        Ok(planned)
                    }
                    other => {
                        self.fail_first(first_tag, Status::FAILED_FUSED);
                        Err(other.err().unwrap_or(Status::INVALID_FIELD))
                    }
                }
            }
        }
    }

    /// The first half of a fused operation ends without a second.
    fn fail_first(&mut self, tag: Tag, status: Status) {
        match self.queue.entry(tag).stage {
            Stage::Held => self.queue.end(tag, Completion::of(status)),
            _ => drop(self.queue.entry_mut(tag).fault.get_or_insert(status)),
        }
    }

    /// All of a command is there.
    fn arrived(&mut self, tag: Tag) {
        let entry = self.queue.entry(tag);
        let (fault, partner, command) = (entry.fault, entry.partner, entry.command);
        if let Some(status) = fault {
            self.queue.end(tag, Completion::of(status));
            if let Some(partner) = partner {
                self.queue.entry_mut(partner).partner = None;
                fail_fused(&mut self.queue, partner);
            }
            if let Some(fused) = &mut self.fused
                && fused.tag == Some(tag)
            {
                fused.tag = None;
            }
            return;
        }
        if matches!(self.queue.entry(tag).task, Task::Control)
            && command.opcode == fabrics::FABRICS
            && command.fabrics_type() == fabrics::DISCONNECT
        {
            self.sender.disconnect();
            self.queue.end(tag, Completion::SUCCESS);
            return;
        }
        if matches!(self.queue.entry(tag).task, Task::Authentication) {
            self.authenticate(tag);
            return;
        }
        match (command.fuse(), partner) {
            (Fuse::First | Fuse::Second, None) => self.queue.hold(tag),
            (fuse @ (Fuse::First | Fuse::Second), Some(partner)) => {
                self.queue.hold(tag);
                if self.queue.entry(partner).stage == Stage::Held {
                    // It is carried out as the second one, which knows the first.
                    self.queue.ready(if fuse == Fuse::Second { tag } else { partner });
                }
            }
            _ => self.queue.ready(tag),
        }
    }

    /// Authentication Send, or Authentication Receive.
    fn authenticate(&mut self, tag: Tag) {
        let Some(auth) = &mut self.auth else { unreachable!("there is a dialogue") };
        let entry = self.queue.entry(tag);
        match entry.transfer {
            Transfer::ToHost(bytes) => {
                let bytes = bytes as usize;
                let mut message = auth.next();
                if message.len() > bytes {
                    self.queue.end(tag, Completion::of(Status::INVALID_FIELD));
                } else if !self.queue.reserve(tag, bytes) {
                    self.queue.end(tag, Completion::of(Status::INTERNAL_ERROR));
                } else {
                    message.resize(bytes, 0);
                    self.queue.entry_mut(tag).data = message;
                    self.queue.send(tag);
                }
            }
            _ => {
                auth.take(&entry.data);
                self.queue.end(tag, Completion::SUCCESS);
            }
        }
        if self.auth.as_ref().is_some_and(Dialogue::is_over) {
            self.permit.refuse_host();
            self.sender.disconnect();
        }
    }

    /// H2CData (section 3.6.2.8): a piece of what an R2T asked for.
    fn data(&mut self, cid: CommandId, tag: u16, offset: u32, bytes: u32, last: bool) -> Result<(), Violation> {
        const AT_CID: u32 = 8;
        const AT_TAG: u32 = 10;
        let tag = self.queue.find(tag).filter(|tag| self.queue.entry(*tag).stage == Stage::Data);
        let tag = tag.ok_or(Violation::field(AT_TAG))?;
        let entry = self.queue.entry_mut(tag);
        if entry.command.id() != cid {
            return Err(Violation::field(AT_CID));
        }
        let (offset, end) = (u64::from(offset), u64::from(offset) + u64::from(bytes));
        let whole = entry.data_bytes as u64;
        // In order, and no more than was asked for.
        if offset != entry.done || end > whole {
            return Err(Violation::of(FatalError::DataOutOfRange));
        }
        if last != (end == whole) {
            return Err(Violation::of(FatalError::PduSequence));
        }
        entry.done = end;
        self.sink = if entry.fault.is_some() { Sink::Nowhere(tag) } else { Sink::Command(tag) };
        Ok(())
    }

    /// The data of a PDU are all there.
    fn finish_data(&mut self, intact: bool) {
        let (Sink::Command(tag) | Sink::Nowhere(tag)) = core::mem::replace(&mut self.sink, Sink::None) else { return };
        let entry = self.queue.entry_mut(tag);
        if !intact {
            // Section 3.3.1.1: the command fails, and the connection goes on.
            entry.fault.get_or_insert(Status::TRANSIENT_TRANSPORT_ERROR);
        }
        let whole = entry.stage != Stage::Data || entry.done == entry.data_bytes as u64;
        if whole {
            entry.done = 0;
            self.arrived(tag);
        }
    }
}

/// How a command's data move, by its SGL (Base 2.0, section 4.1.2).
fn way(command: &Command, transfer: Transfer, data_bytes: u32) -> Result<Way, Status> {
    let sgl = &command.sgl;
    let length = sgl.length.get();
    let exactly = |bytes| if length == bytes { Ok(bytes as usize) } else { Err(Status::DATA_SGL_LENGTH_INVALID) };
    match (transfer, sgl.kind) {
        (Transfer::None, _) if data_bytes > 0 => Err(Status::INVALID_FIELD),
        (Transfer::None, _) => Ok(Way::None),
        (Transfer::FromHost(_), SglDescriptor::OFFSET) if sgl.address.get() != 0 => Err(Status::SGL_OFFSET_INVALID),
        (Transfer::FromHost(bytes), SglDescriptor::OFFSET) => {
            let bytes = exactly(bytes)?;
            // The capsule has what its SGL says.
            if data_bytes as usize == bytes { Ok(Way::InCapsule(bytes)) } else { Err(Status::DATA_SGL_LENGTH_INVALID) }
        }
        (_, SglDescriptor::TRANSPORT) if data_bytes > 0 => Err(Status::INVALID_FIELD),
        (Transfer::FromHost(bytes), SglDescriptor::TRANSPORT) => exactly(bytes).map(Way::AskFor),
        (Transfer::ToHost(bytes), SglDescriptor::TRANSPORT) => exactly(bytes).map(|_| Way::ToHost),
        _ => Err(Status::SGL_TYPE_INVALID),
    }
}
