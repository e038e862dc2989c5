//! The commands of a queue that are in flight, where each of them stands, and the memory for their data.
//!
//! | stage | the command | leaves it by |
//! |---|---|---|
//! | `Capsule` | its data come in its capsule | [`Queue::ready`], or [`Queue::end`] |
//! | `Waiting` | waits for room for its data | [`Queue::finish`] of another |
//! | `AskForData` | is to be sent an R2T | the R2T is sent |
//! | `Data` | its data come in H2CData | as `Capsule` |
//! | `Held` | waits for an event, or for the other half of a fused operation | as `Capsule` |
//! | `Ready` | is to be carried out | [`Queue::end`], [`Queue::send`], [`Queue::hold`] |
//! | `Reading` | its sectors are to be read and sent | the last one is sent, or [`Queue::end`] |
//! | `Sending` | its data are to be sent | the last byte is sent |
//! | `Ended` | its completion is to be sent | [`Queue::finish`] |
//!
//! Nothing here grows but a command's data, and those are bounded. What is asked for, or made, waits for room within
//! [`DATA_ROOM_BYTES`]; what comes in capsules is taken from the stream when there is some within [`CAPSULE_ROOM_BYTES`].
//! These are two, as data that were asked for may stand in the stream behind a capsule: if that waited for their room, nothing
//! would ever move. Data of a capsule wait for nothing that is still to come, but for the second half of a fused operation.

use alloc::collections::{TryReserveError, VecDeque};
use alloc::vec::Vec;

use crate::command::{Command, Completion, RawCompletion, Transfer};
use crate::io::IoTask;
use crate::limits::{CAPSULE_ROOM_BYTES, DATA_ROOM_BYTES};
use crate::status::Status;
use crate::units::CommandId;

/// Our name for a command in flight: what R2T gives the host as a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u16);

impl Tag {
    /// On the wire.
    pub(crate) const fn number(self) -> u16 {
        self.0
    }

    fn index(self) -> usize {
        self.0.into()
    }
}

/// Where a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Free,
    Capsule,
    Waiting,
    AskForData,
    Data,
    Held,
    Ready,
    Reading,
    Sending,
    Ended(Completion),
}

/// What carries a command out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// A Fabrics or admin command.
    Control,
    /// A command of the NVM command set.
    Io(IoTask),
    /// A message of authentication.
    Authentication,
    /// It was refused; [`Entry::fault`] says why.
    Refused,
}

/// A command in flight.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) command: Command,
    pub(crate) task: Task,
    pub(crate) transfer: Transfer,
    pub(crate) stage: Stage,
    /// From the host or to it.
    pub(crate) data: Vec<u8>,
    /// Bytes of data that it has in all.
    pub(crate) data_bytes: usize,
    /// Whether they came in its capsule.
    in_capsule: bool,
    /// How far it was carried out, or sent: in its own units.
    pub(crate) done: u64,
    /// What it will end with, whatever else comes.
    pub(crate) fault: Option<Status>,
    /// The other half of a fused operation.
    pub(crate) partner: Option<Tag>,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    entries: Vec<Entry>,
    /// How many entries there may be.
    size: u16,
    free: Vec<Tag>,
    ready: VecDeque<Tag>,
    outgoing: VecDeque<Tag>,
    waiting: VecDeque<Tag>,
    /// Bytes that there is room for, of data that are asked for or made.
    room: usize,
    /// The same of data in capsules.
    capsule_room: usize,
    /// The next submission queue entry, modulo the queue's size; `None` if the host wants no flow control.
    head: Option<u16>,
}

impl Queue {
    /// A queue of so many entries: room for all of them.
    ///
    /// # Errors
    /// There is no memory left.
    pub(crate) fn new(size: u16, flow_control: bool) -> Result<Self, TryReserveError> {
        let mut queue = Self {
            entries: Vec::new(),
            size,
            free: Vec::new(),
            ready: VecDeque::new(),
            outgoing: VecDeque::new(),
            waiting: VecDeque::new(),
            room: DATA_ROOM_BYTES,
            capsule_room: CAPSULE_ROOM_BYTES,
            head: flow_control.then_some(0),
        };
        queue.entries.try_reserve_exact(size.into())?;
        queue.free.try_reserve_exact(size.into())?;
        for list in [&mut queue.ready, &mut queue.outgoing, &mut queue.waiting] {
            list.try_reserve_exact(size.into())?;
        }
        queue.free.extend((0..size).rev().map(Tag));
        Ok(queue)
    }

    /// Takes a command in. `None` if the queue is full: the host has sent more than it may.
    pub(crate) fn begin(&mut self, command: Command) -> Option<Tag> {
        let tag = self.free.pop()?;
        let entry = Entry {
            command,
            task: Task::Refused,
            transfer: Transfer::None,
            stage: Stage::Capsule,
            data: Vec::new(),
            data_bytes: 0,
            in_capsule: false,
            done: 0,
            fault: None,
            partner: None,
        };
        match self.entries.get_mut(tag.index()) {
            Some(place) => *place = entry,
            // Tags are first used in ascending order.
            None => self.entries.push(entry),
        }
        self.head = self.head.map(|head| (head + 1) % self.size);
        Some(tag)
    }

    /// Whether a command of that name is in flight.
    pub(crate) fn has(&self, id: CommandId) -> bool {
        self.entries.iter().any(|entry| entry.stage != Stage::Free && entry.command.id() == id)
    }

    /// The command in flight that has this tag on the wire.
    pub(crate) fn find(&self, number: u16) -> Option<Tag> {
        let entry = self.entries.get(usize::from(number))?;
        (entry.stage != Stage::Free).then_some(Tag(number))
    }

    /// A command in flight.
    pub(crate) fn entry(&self, tag: Tag) -> &Entry {
        &self.entries[tag.index()]
    }

    /// The same, to be changed.
    pub(crate) fn entry_mut(&mut self, tag: Tag) -> &mut Entry {
        &mut self.entries[tag.index()]
    }

    /// Makes room for data of a command that are asked for, or made. Returns false if there is none now.
    pub(crate) fn reserve(&mut self, tag: Tag, bytes: usize) -> bool {
        self.reserve_within(tag, bytes, false)
    }

    /// The same for data in its capsule.
    pub(crate) fn reserve_in_capsule(&mut self, tag: Tag, bytes: usize) -> bool {
        self.reserve_within(tag, bytes, true)
    }

    fn reserve_within(&mut self, tag: Tag, bytes: usize, in_capsule: bool) -> bool {
        let entry = &mut self.entries[tag.index()];
        let room = if in_capsule { &mut self.capsule_room } else { &mut self.room };
        if bytes > *room || entry.data.try_reserve_exact(bytes).is_err() {
            return false;
        }
        (entry.data_bytes, entry.in_capsule) = (bytes, in_capsule);
        *room -= bytes;
        true
    }

    /// Asks the host for a command's data, as soon as there is room for them.
    pub(crate) fn ask_for_data(&mut self, tag: Tag, bytes: usize) {
        // In turn: large ones must not wait for ever behind small ones.
        if self.waiting.is_empty() && self.reserve(tag, bytes) {
            self.entry_mut(tag).stage = Stage::AskForData;
            self.outgoing.push_back(tag);
        } else {
            let entry = self.entry_mut(tag);
            (entry.stage, entry.data_bytes) = (Stage::Waiting, bytes);
            self.waiting.push_back(tag);
        }
    }

    /// A command is to be carried out.
    pub(crate) fn ready(&mut self, tag: Tag) {
        self.entry_mut(tag).stage = Stage::Ready;
        self.ready.push_back(tag);
    }

    /// Those that are to be carried out, the oldest first.
    pub(crate) fn all_ready(&self) -> impl Iterator<Item = Tag> + '_ {
        self.ready.iter().copied()
    }

    /// The oldest command that is to be carried out; it is not in that list any more.
    pub(crate) fn take_ready(&mut self) -> Option<Tag> {
        self.ready.pop_front()
    }

    /// It is to be carried out next: it goes on, or found no room.
    pub(crate) fn ready_again(&mut self, tag: Tag) {
        self.ready.push_front(tag);
    }

    /// It is to be carried out after those that wait: it goes on, and is long.
    pub(crate) fn ready_later(&mut self, tag: Tag) {
        self.ready.push_back(tag);
    }

    /// A command waits for something that is no bytes.
    pub(crate) fn hold(&mut self, tag: Tag) {
        self.entry_mut(tag).stage = Stage::Held;
    }

    /// A command's sectors are to be read and sent.
    pub(crate) fn read(&mut self, tag: Tag) {
        self.entry_mut(tag).stage = Stage::Reading;
        self.outgoing.push_back(tag);
    }

    /// A command's data, which stand in its entry, are to be sent.
    pub(crate) fn send(&mut self, tag: Tag) {
        let entry = self.entry_mut(tag);
        (entry.stage, entry.done) = (Stage::Sending, 0);
        self.outgoing.push_back(tag);
    }

    /// A command ended: its completion is to be sent.
    pub(crate) fn end(&mut self, tag: Tag, completion: Completion) {
        self.release(tag);
        self.entry_mut(tag).stage = Stage::Ended(completion);
        self.outgoing.push_back(tag);
    }

    /// The same, before all else: its data have just been sent.
    pub(crate) fn end_at_once(&mut self, tag: Tag, completion: Completion) {
        self.release(tag);
        self.entry_mut(tag).stage = Stage::Ended(completion);
        self.outgoing.push_front(tag);
    }

    /// The command that something is to be sent of next.
    pub(crate) fn outgoing(&self) -> Option<Tag> {
        self.outgoing.front().copied()
    }

    /// Something was sent of it.
    pub(crate) fn sent(&mut self) {
        self.outgoing.pop_front();
    }

    /// Something was sent of it, and others come before the rest.
    pub(crate) fn sent_some(&mut self) {
        self.outgoing.rotate_left(1);
    }

    /// A command's end was told. Its name is free, and so is its room, which goes to one that waits.
    pub(crate) fn finish(&mut self, tag: Tag) {
        self.release(tag);
        self.entry_mut(tag).stage = Stage::Free;
        self.free.push(tag);
    }

    fn release(&mut self, tag: Tag) {
        let entry = &mut self.entries[tag.index()];
        if entry.data.capacity() > 0 {
            let room = if entry.in_capsule { &mut self.capsule_room } else { &mut self.room };
            *room += core::mem::take(&mut entry.data_bytes);
            entry.data = Vec::new();
        }
        self.admit();
    }

    /// Gives room to those that wait for it.
    pub(crate) fn admit(&mut self) {
        while let Some(next) = self.waiting.front().copied() {
            let bytes = self.entry(next).data_bytes;
            if !self.reserve(next, bytes) {
                break;
            }
            self.waiting.pop_front();
            self.entry_mut(next).stage = Stage::AskForData;
            self.outgoing.push_back(next);
        }
    }

    /// Whether the host wants flow control.
    pub(crate) const fn has_flow_control(&self) -> bool {
        self.head.is_some()
    }

    /// A completion as it stands on the wire.
    pub(crate) fn raw(&self, tag: Tag, completion: &Completion) -> RawCompletion {
        RawCompletion {
            result: completion.result.into(),
            // Without flow control it means nothing (TCP transport, section 3.4.2).
            sq_head: self.head.unwrap_or(u16::MAX).into(),
            sq_id: 0.into(),
            cid: self.entry(tag).command.id().0.into(),
            status: (completion.status.0 << 1).into(),
        }
    }
}
