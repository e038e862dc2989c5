//! A TCP connection: one queue of a controller (NVMe/TCP 1.0, section 3).
//!
//! Its owner has the socket, and calls in turn:
//!
//! | call | with | does |
//! |---|---|---|
//! | [`Connection::input`] | bytes that came | takes commands and data in; asks no storage |
//! | [`Connection::step`] | the storage | carries out one bounded step: a batch of writes, a part of a long command, some admin commands |
//! | [`Connection::output`] | the storage, room in the socket | fills it: reads are done here, straight into that room, a step's worth at most |
//!
//! Bytes that `input` does not take are to be offered again: the connection has no room for them until it has done
//! more, or until the host has read. So a host that does not read stops itself alone. [`Connection::is_closed`] tells
//! when the socket is to be closed; what is in flight is dropped with the connection, and never done later. Nothing here
//! wakes by itself: a connection that is idle is looked at (`step`) some times a second, so that a silent host's
//! controller ends in time.

mod input;
mod output;

use core::fmt;

use crate::admin::{AdminQueue, Outcome, Surroundings};
use crate::auth::Dialogue;
use crate::command::{Completion, Transfer};
use crate::controller::Association;
use crate::fabrics::{self, Connect};
use crate::io::{self, StepOutcome};
use crate::limits::{HANDSHAKE_MS, LAST_WORDS_MS, STEP_COMMANDS};
use crate::queue::{Queue, Tag};
use crate::status::Status;
use crate::storage::Storage;
use crate::subsystem::View;
use crate::target::{Endpoint, Permit, Target};
use crate::units::{DiskId, Millis, QueueId};
use crate::wire::{Receiver, Violation};
use input::{Fused, Sink};
use output::Sender;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// ICReq is awaited.
    New,
    /// It serves a queue, or is about to.
    Open,
    /// Its last words are being sent; what comes in is dropped.
    Closing {
        until: Millis,
    },
    Closed,
}

/// What it is a queue of.
enum Role {
    /// Nothing yet: Connect is awaited.
    Stranger,
    Admin(AdminQueue, Association),
    Io(View, Association),
}

impl Role {
    fn association(&self) -> Option<&Association> {
        match self {
            Self::Stranger => None,
            Self::Admin(_, association) | Self::Io(_, association) => Some(association),
        }
    }
}

/// The connection.
pub struct Connection {
    phase: Phase,
    role: Role,
    receiver: Receiver,
    sender: Sender,
    queue: Queue,
    /// Where the data go that come now.
    sink: Sink,
    /// The first half of a fused operation, whose second has not come.
    fused: Option<Fused>,
    /// A command whose data find no room yet.
    stuck: Option<(Tag, usize)>,
    /// How its host proves itself, if it must.
    auth: Option<Dialogue>,
    /// What discovery shows.
    endpoint: Endpoint,
    /// By then it is a queue of a controller, and its host has proved itself.
    deadline: Millis,
    /// Why it ended, if the host broke the rules.
    violation: Option<Violation>,
    permit: Permit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let association = self.role.association();
        f.debug_struct("Connection")
            .field("phase", &self.phase)
            .field("controller", &association.map(|it| it.controller.id))
            .field("queue", &association.map(|it| it.queue))
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection of a host that reached us at `endpoint`, which is what discovery shows it. `None` if there are too many,
    /// or there is no memory: then the socket is to be closed.
    #[must_use]
    pub fn accept(target: &Target, endpoint: Endpoint, now: Millis) -> Option<Self> {
        let permit = target.permit()?;
        // Room for Connect alone.
        let queue = Queue::new(1, true).ok()?;
        Some(Self {
            phase: Phase::New,
            role: Role::Stranger,
            receiver: Receiver::new(),
            sender: Sender::new(),
            queue,
            sink: Sink::None,
            fused: None,
            stuck: None,
            auth: None,
            endpoint,
            deadline: now.plus(HANDSHAKE_MS),
            violation: None,
            permit,
        })
    }

    /// Whether the socket is to be closed: all is sent, or there is nobody to send it to.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The disk that its commands are for, if it is an I/O queue of one.
    #[must_use]
    pub fn disk(&self) -> Option<DiskId> {
        match &self.role {
            Role::Io(view, _) => view.namespace().map(|namespace| namespace.disk),
            Role::Stranger | Role::Admin(..) => None,
        }
    }

    /// Whether it has been a queue of a controller: a host has connected by it.
    #[must_use]
    pub const fn has_connected(&self) -> bool {
        !matches!(self.role, Role::Stranger)
    }

    /// How the host broke the transport's rules, if it did.
    #[must_use]
    pub const fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Whether [`Connection::output`] has something to send.
    #[must_use]
    pub fn has_output(&self) -> bool {
        // A termination is the last word: commands get no reply after it.
        let replies = self.violation.is_none() && self.queue.outgoing().is_some();
        self.phase != Phase::Closed && (self.sender.has_some() || replies)
    }

    /// Carries out a bounded step, and looks at the time. Returns whether there may be more to do right away.
    pub fn step(&mut self, target: &Target, storage: &mut impl Storage, now: Millis) -> bool {
        match self.phase {
            Phase::Closed => return false,
            Phase::Closing { until } if now >= until || !self.has_output() => {
                self.phase = Phase::Closed;
                return false;
            }
            Phase::Closing { .. } => return false,
            Phase::New | Phase::Open => {}
        }
        if !self.lives(now) {
            // What it has not done is never done.
            self.phase = Phase::Closed;
            return false;
        }
        // Some may wait because memory was short, and not for others of this queue.
        self.queue.admit();
        let more = match &mut self.role {
            Role::Io(view, association) => {
                let Some(subsystem) = &association.controller.subsystem else { return false };
                view.refresh(subsystem);
                io::step(&mut self.queue, view.namespace(), storage, &subsystem.counters) == StepOutcome::Done
            }
            Role::Admin(..) => self.step_admin(target, now),
            Role::Stranger => self.step_stranger(target, now),
        };
        if !more && self.sender.disconnects() {
            if self.auth.as_ref().is_some_and(Dialogue::is_over)
                && let Role::Admin(_, association) | Role::Io(_, association) = &self.role
                && let Some(subsystem) = &association.controller.subsystem
            {
                target.note_refusal(&association.controller.host.nqn, &subsystem.nqn, "it did not prove who it is");
            }
            // It closes when the reply is sent.
            self.phase = Phase::Closing { until: now.plus(LAST_WORDS_MS) };
        }
        more
    }

    /// Whether its controller lives, and whether there is time left for what comes before it serves.
    fn lives(&self, now: Millis) -> bool {
        if self.must_authenticate() && now >= self.deadline {
            return false;
        }
        match &self.role {
            Role::Stranger => now < self.deadline,
            Role::Admin(_, association) => association.controller.lives(now),
            // Without CC.EN there are no I/O queues.
            Role::Io(_, association) => association.controller.lives(now) && association.controller.is_enabled(),
        }
    }

    /// Whether its host has still to prove itself.
    fn must_authenticate(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| !auth.is_authenticated())
    }

    fn step_admin(&mut self, target: &Target, now: Millis) -> bool {
        let Role::Admin(admin, association) = &mut self.role else { return false };
        let around = Surroundings { target, controller: &association.controller, now };
        let mut more = false;
        for _ in 0..STEP_COMMANDS {
            let Some(tag) = self.queue.take_ready() else { break };
            // Its data need room before they are made.
            let bytes = match self.queue.entry(tag).transfer {
                Transfer::ToHost(bytes) => bytes as usize,
                _ => 0,
            };
            if bytes > 0 && !self.queue.reserve(tag, bytes) {
                self.queue.ready_again(tag);
                break;
            }
            more = true;
            let command = self.queue.entry(tag).command;
            match admin.execute(tag, &command, &around) {
                Outcome::Done(completion) => self.queue.end(tag, completion),
                Outcome::Held => self.queue.hold(tag),
                Outcome::Data(data) => {
                    assert_eq!(data.len(), bytes, "a command's data are as long as was planned");
                    self.queue.entry_mut(tag).data = data;
                    self.queue.send(tag);
                }
            }
        }
        while let Some((tag, completion)) = admin.next_event(&association.controller) {
            self.queue.end(tag, completion);
        }
        more
    }

    /// Connect, or what came instead.
    fn step_stranger(&mut self, target: &Target, now: Millis) -> bool {
        let Some(tag) = self.queue.take_ready() else { return false };
        let entry = self.queue.entry(tag);
        let Some(data) = entry.data.first_chunk().filter(|_| entry.data.len() == fabrics::CONNECT_DATA_BYTES as usize)
        else {
            self.queue.end(tag, Completion::of(Status::DATA_SGL_LENGTH_INVALID));
            return true;
        };
        let connect = Connect::read(&entry.command);
        let connected = match fabrics::connect(&connect, data, target, now) {
            Ok(connected) => connected,
            Err(completion) => {
                self.permit.refuse_host();
                self.queue.end(tag, completion);
                return true;
            }
        };
        let association = connected.association;
        let Ok(mut queue) = Queue::new(connected.size, connected.flow_control) else {
            self.queue.end(tag, Completion::of(Status::CONNECT_CONTROLLER_BUSY));
            return true;
        };
        // Its reply is the new queue's first one.
        let tag = queue.begin(entry.command).expect("an empty queue has room");
        let controller = &association.controller;
        self.auth = match (&controller.secrets, &controller.subsystem) {
            (Some(secrets), Some(subsystem)) => {
                let names = (controller.host.nqn.clone(), subsystem.nqn.clone());
                Some(Dialogue::new(secrets.clone(), names.0, names.1, target.settings.random.clone()))
            }
            _ => None,
        };
        let required = if self.auth.is_some() { fabrics::AUTHENTICATION_REQUIRED } else { 0 };
        queue.end(tag, Completion::with(u64::from(controller.id.0) | required));
        self.queue = queue;
        self.role = match &association.controller.subsystem {
            Some(subsystem) if association.queue != QueueId::ADMIN => Role::Io(View::new(subsystem), association),
            _ => Role::Admin(AdminQueue::new(self.endpoint), association),
        };
        true
    }
}
