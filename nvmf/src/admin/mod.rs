//! Admin commands (NVMe Base 2.0, section 5), of a controller's admin queue.

mod features;
mod identify;
mod log;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::command::{Command, Completion, Transfer};
use crate::controller::{Controller, EVENT_DISCOVERY, EVENT_NAMESPACE};
use crate::fabrics::{self, Properties};
use crate::limits::ASYNC_EVENTS_LESS_ONE;
use crate::queue::Tag;
use crate::status::Status;
use crate::target::{Endpoint, Target};
use crate::units::Millis;

/// The opcodes (figure 138).
pub(crate) const GET_LOG_PAGE: u8 = 0x02;
pub(crate) const IDENTIFY: u8 = 0x06;
pub(crate) const ABORT: u8 = 0x08;
pub(crate) const SET_FEATURES: u8 = 0x09;
pub(crate) const GET_FEATURES: u8 = 0x0a;
pub(crate) const ASYNC_EVENT_REQUEST: u8 = 0x0c;
pub(crate) const KEEP_ALIVE: u8 = 0x18;

/// Abort's result: the command was not aborted.
const NOT_ABORTED: u64 = 1;

/// The kinds of events: what the controller notes, the bit of Asynchronous Event Configuration that lets it be told, the event
/// (dword 0: log page, information, type 2, a notice), and the log page that ends it.
const EVENTS: [(u32, u32, u64, u8); 2] = [
    (EVENT_NAMESPACE, identify::OAES_NAMESPACE, 0x04_00_02, log::CHANGED_NAMESPACES),
    (EVENT_DISCOVERY, identify::OAES_DISCOVERY, 0x70_f0_02, log::DISCOVERY),
];

/// The state of an admin queue.
#[derive(Debug)]
pub(crate) struct AdminQueue {
    properties: Properties,
    /// Asynchronous Event Configuration.
    event_configuration: u32,
    /// Asynchronous Event Requests.
    requests: VecDeque<Tag>,
    /// Events that were not told yet.
    untold: u32,
    /// Events that were told, and whose log page was not read since.
    masked: u32,
    /// Whether the namespace changed since the host read that.
    namespace_changed: bool,
    /// What discovery shows: where the host reached us.
    endpoint: Endpoint,
}

/// What came of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended.
    Done(Completion),
    /// These are its data; then it ends well.
    Data(Vec<u8>),
    /// It waits for an event.
    Held,
}

/// All that a command may look at.
pub(crate) struct Surroundings<'a> {
    pub(crate) target: &'a Target,
    pub(crate) controller: &'a Controller,
    pub(crate) now: Millis,
}

impl AdminQueue {
    /// Of a host that reached us there.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            properties: Properties::default(),
            event_configuration: 0,
            requests: VecDeque::new(),
            untold: 0,
            masked: 0,
            namespace_changed: false,
            endpoint,
        }
    }

    /// Carries out a command.
    pub(crate) fn execute(&mut self, tag: Tag, command: &Command, around: &Surroundings<'_>) -> Outcome {
        self.try_execute(tag, command, around).unwrap_or_else(|status| Outcome::Done(Completion::of(status)))
    }

    fn try_execute(&mut self, tag: Tag, command: &Command, around: &Surroundings<'_>) -> Result<Outcome, Status> {
        let done = |result| Ok(Outcome::Done(Completion::with(result)));
        match (command.opcode, command.fabrics_type()) {
            (fabrics::FABRICS, fabrics::PROPERTY_GET) => done(fabrics::get(command, &self.properties)?),
            (fabrics::FABRICS, _) => {
                fabrics::set(command, &mut self.properties, around.controller)?;
                done(0)
            }
            (IDENTIFY, _) => identify::identify(command, around).map(Outcome::Data),
            (GET_LOG_PAGE, _) => self.log_page(command, around).map(Outcome::Data),
            (SET_FEATURES, _) => done(self.set_feature(command, around.controller)?),
            (GET_FEATURES, _) => done(self.get_feature(command, around.controller)?),
            (ABORT, _) => done(NOT_ABORTED),
            (KEEP_ALIVE, _) => done(0),
            (ASYNC_EVENT_REQUEST, _) if self.requests.len() > usize::from(ASYNC_EVENTS_LESS_ONE) => {
                Err(Status::ASYNC_EVENT_LIMIT_EXCEEDED)
            }
            (ASYNC_EVENT_REQUEST, _) => {
                self.requests.push_back(tag);
                Ok(Outcome::Held)
            }
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// A request that an event answers, if there are both.
    pub(crate) fn next_event(&mut self, controller: &Controller) -> Option<(Tag, Completion)> {
        let news = controller.take_events();
        self.namespace_changed |= news & EVENT_NAMESPACE != 0;
        self.untold |= news;
        let (event, _, result, _) = EVENTS.into_iter().find(|(event, enable, ..)| {
            self.untold & !self.masked & event != 0 && self.event_configuration & enable != 0
        })?;
        let tag = self.requests.pop_front()?;
        self.untold &= !event;
        self.masked |= event;
        Some((tag, Completion::with(result)))
    }

    /// The host has read a log page: its events may be told again.
    fn unmask(&mut self, page: u8) {
        for (event, _, _, ends) in EVENTS {
            if ends == page {
                self.masked &= !event;
            }
        }
    }
}

/// The data of an admin command.
///
/// # Errors
/// There is no such command, or not with so much data.
pub(crate) fn transfer(command: &Command) -> Result<Transfer, Status> {
    match command.opcode {
        IDENTIFY => Ok(Transfer::ToHost(identify::IDENTIFY_BYTES)),
        GET_LOG_PAGE => log::bytes(command).map(Transfer::ToHost),
        SET_FEATURES | GET_FEATURES | ABORT | KEEP_ALIVE | ASYNC_EVENT_REQUEST => Ok(Transfer::None),
        _ => Err(Status::INVALID_OPCODE),
    }
}

/// Zeroes to be filled in.
fn zeroes(bytes: u32) -> Result<Vec<u8>, Status> {
    let bytes = bytes as usize;
    let mut page = Vec::new();
    page.try_reserve_exact(bytes).map_err(|_| Status::INTERNAL_ERROR)?;
    page.resize(bytes, 0);
    Ok(page)
}

/// Stores text at the beginning of a field, and pads the rest.
fn put_text(field: &mut [u8], text: &str, pad: u8) {
    let count = text.len().min(field.len());
    field[..count].copy_from_slice(&text.as_bytes()[..count]);
    field[count..].fill(pad);
}
