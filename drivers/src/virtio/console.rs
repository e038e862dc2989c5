//! virtio-console: a port of bytes (virtio 1.2, 5.3), polled.
//!
//! | the device has | the port |
//! |---|---|
//! | several ports (MULTIPORT), as QEMU's virtio-serial-pci | number 1, if its name is [`NAME`] |
//! | one port, as other hypervisors' | that one |
//!
//! Port 0 of several is a console to the host, and QEMU drops what its reader does not take at once; of other ports it takes
//! no more than that reader does. Ports of other names are others' and stay closed.
//!
//! - Receiving never waits.
//! - What is sent is gathered in buffers of a page; the last one goes by [`ConsolePort::flush`], which ends a message. All
//!   waits of one message for its peer have a common bound. If it strikes, the rest of the message is dropped, and later ones
//!   are dropped at once until the peer takes something.
//! - QEMU keeps a buffer for good when its peer goes in the midst of a message (seen in 7.2: the chain is detached and never
//!   used). When too few are left the device is to be started anew ([`ConsolePort::restarted`]): as soon as nobody is there, or
//!   when a message cannot be sent.
//! - A device that does what it must not is faulty for good ([`PortFault`]): nothing is received from it, and what is sent is
//!   dropped.

use alloc::vec::Vec;
use core::fmt;

use service::link::{ByteLink, PartLink};

use super::buffers::Ring;
use super::error::VirtioError;
use super::queue::Misuse;
use super::registers::{Registers, Width};
use super::set_up::{self, Wanted};
use super::structure::Structure;
use crate::dma::{DMA_PAGE_BYTES, DmaPage, Shape};
use crate::flush::NowNs;
use crate::pci::Function;

/// The vendor, and the id of a modern device of kind 3.
const ID: (u16, u16) = (0x1af4, 0x1040 + 3);

/// The name of our port, among several.
pub const NAME: &[u8] = b"org.untorn.admin";

/// The feature of a device with several ports, and two queues for messages about them (5.3.3).
const MULTIPORT: u32 = 1 << 1;

/// The most ports of such a device, in its configuration (5.3.4).
const CONFIG_PORTS_MAX: u32 = 4;

// Queues (5.3.2).
const PORT_0: [u16; 2] = [0, 1];
const CONTROL: [u16; 2] = [2, 3];
const PORT_1: [u16; 2] = [4, 5];

/// The port that is ours, among several.
const NUMBER: u32 = 1;

/// The number in messages about no port.
const NO_PORT: u32 = u32::MAX;

/// The bytes of a message, before a name: the port's number, what happens, a value (5.3.6.2).
const MESSAGE_BYTES: usize = 8;

/// What happens.
mod event {
    pub(super) const DEVICE_READY: u16 = 0;
    pub(super) const PORT_ADD: u16 = 1;
    pub(super) const PORT_REMOVE: u16 = 2;
    pub(super) const PORT_READY: u16 = 3;
    pub(super) const PORT_OPEN: u16 = 6;
    pub(super) const PORT_NAME: u16 = 7;
}

/// The most buffers in use: the device has few bytes for us, and takes many from us.
const RECEIVE_BUFFERS: u16 = 8;
const TRANSMIT_BUFFERS: u16 = 32;
const CONTROL_BUFFERS: u16 = 8;

const BUFFER_BYTES: usize = DMA_PAGE_BYTES as usize;

/// The message that all queues send.
const VECTOR: u16 = 0;

/// The longest time that the waits of one message may take together.
const PATIENCE_NS: u64 = 5_000_000_000;

/// The time between two looks at a device that is waited for.
const LOOK_NS: u64 = 1_000_000;

/// Returns whether a function is such a device.
#[must_use]
pub fn is_virtio_console(function: &Function) -> bool {
    (function.vendor, function.device) == ID
}

/// Why a device is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortFault {
    /// It used a buffer that it did not have, or more than there are.
    NotItsBuffer,
    /// It wrote more than its buffer can hold.
    Length {
        /// The length that it names, in bytes.
        bytes: u32,
    },
    /// It stopped, and asks for a reset.
    Stopped,
    /// Its registers are gone.
    Gone,
}

impl fmt::Display for PortFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotItsBuffer => write!(f, "it used a buffer that it was not given"),
            Self::Length { bytes } => write!(f, "it names {bytes} bytes, which its buffer cannot hold"),
            Self::Stopped => write!(f, "it stopped, and asks for a reset"),
            Self::Gone => write!(f, "its registers are gone"),
        }
    }
}

impl core::error::Error for PortFault {}

/// Buffers that the device fills.
#[derive(Debug)]
struct Incoming(Ring);

impl Incoming {
    /// Gives the device all buffers.
    fn begin(&mut self, registers: &impl Registers) {
        self.0.heads().for_each(|head| self.0.queue.offer(head));
        self.0.queue.publish(registers);
    }

    /// Replaces `into` by what the device put in its next buffer, which it gets back. Returns whether there was one.
    fn take(&mut self, registers: &impl Registers, into: &mut Vec<u8>) -> Result<bool, PortFault> {
        let Some(used) = self.0.queue.take().map_err(|Misuse| PortFault::NotItsBuffer)? else { return Ok(false) };
        if used.bytes > self.0.buffers.shape().bytes() {
            return Err(PortFault::Length { bytes: used.bytes });
        }
        into.clear();
        into.resize(used.bytes as usize, 0);
        self.0.buffers.read(used.head, 0, into);
        self.0.queue.offer(used.head);
        self.0.queue.publish(registers);
        Ok(true)
    }
}

/// Buffers that the device empties.
#[derive(Debug)]
struct Outgoing {
    ring: Ring,
    /// The chains that the device does not have.
    free: Vec<u16>,
}

impl Outgoing {
    /// Takes back what the device has emptied. Returns whether there was something.
    fn reclaim(&mut self) -> Result<bool, PortFault> {
        let before = self.free.len();
        // At most as many as there are chains.
        while let Some(used) = self.ring.queue.take().map_err(|Misuse| PortFault::NotItsBuffer)? {
            self.free.push(used.head);
        }
        Ok(self.free.len() > before)
    }

    /// Gives the device the first `bytes` bytes of a buffer.
    fn give(&mut self, head: u16, bytes: usize, registers: &impl Registers) {
        self.ring.describe(head, u32::try_from(bytes).expect("a buffer is short"));
        self.ring.queue.offer(head);
        self.ring.queue.publish(registers);
    }
}

/// How far a port among several has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The device has not told of it, or has taken it away.
    Absent,
    /// Its name is to come.
    Unnamed,
    Open,
}

/// The messages of a device with several ports.
#[derive(Debug)]
struct Control {
    incoming: Incoming,
    outgoing: Outgoing,
    stage: Stage,
}

impl Control {
    /// Says something of a port. Returns whether there was room to say it.
    fn say(&mut self, port: u32, event: u16, registers: &impl Registers) -> Result<bool, PortFault> {
        self.outgoing.reclaim()?;
        let Some(head) = self.outgoing.free.pop() else { return Ok(false) };
        let [a, b, c, d] = port.to_le_bytes();
        let [e, f] = event.to_le_bytes();
        self.outgoing.ring.buffers.write(head, 0, &[a, b, c, d, e, f, 1, 0]);
        self.outgoing.give(head, MESSAGE_BYTES, registers);
        Ok(true)
    }

    /// Takes in what the device says. Returns who came and went at its end of our port.
    fn mind(&mut self, registers: &impl Registers) -> Result<Peers, PortFault> {
        let (mut message, mut peers) = (Vec::new(), Peers::default());
        // A device that talks without end is heard again in the next round.
        for _ in 0..CONTROL_BUFFERS {
            if !self.incoming.take(registers, &mut message)? {
                break;
            }
            let Some((&[a, b, c, d, e, f, value, _], name)) = message.split_first_chunk::<MESSAGE_BYTES>() else {
                continue;
            };
            if u32::from_le_bytes([a, b, c, d]) != NUMBER {
                continue;
            }
            match (u16::from_le_bytes([e, f]), self.stage) {
                (event::PORT_ADD, Stage::Absent) if self.say(NUMBER, event::PORT_READY, registers)? => {
                    self.stage = Stage::Unnamed;
                }
                (event::PORT_NAME, Stage::Unnamed)
                    if name.strip_suffix(b"\0").unwrap_or(name) == NAME
                        && self.say(NUMBER, event::PORT_OPEN, registers)? =>
                {
                    (self.stage, peers.is_new) = (Stage::Open, true);
                }
                (event::PORT_REMOVE, _) => self.stage = Stage::Absent,
                (event::PORT_OPEN, _) => {
                    peers.is_new |= value == 1;
                    peers.gone += u32::from(value == 0);
                    peers.is_away = value == 0;
                }
                _ => {}
            }
        }
        Ok(peers)
    }
}

/// Who came and went at the device's end of our port.
#[derive(Clone, Copy, Debug, Default)]
struct Peers {
    is_new: bool,
    /// How many have gone.
    gone: u32,
    /// Whether the last one has.
    is_away: bool,
}

/// A port, started.
#[derive(Debug)]
pub struct ConsolePort<R> {
    registers: R,
    now_ns: NowNs,
    incoming: Incoming,
    outgoing: Outgoing,
    /// `None`: the device has this port only, which is open from the start.
    control: Option<Control>,
    /// Bytes that the device sent, and how many of them were taken.
    inbox: Vec<u8>,
    taken: usize,
    /// The buffer that is gathered, and how many bytes are in it.
    gathered: Option<(u16, usize)>,
    /// How long this message has waited for its peer, since when it does, and when the device was last looked at meanwhile.
    waited_ns: u64,
    waits_since: Option<u64>,
    looked_ns: Option<u64>,
    /// The rest of this message is dropped.
    drops: bool,
    /// The peer took nothing of the last message for too long, and nothing since.
    is_dead: bool,
    is_new: bool,
    /// How many peers have gone since the start.
    gone: u32,
    /// Whether the device keeps most buffers, though no peer is there to take what is in them.
    keeps_buffers: bool,
    has_interrupt: bool,
    fault: Option<PortFault>,
}

impl<R: Registers> ConsolePort<R> {
    /// Takes a device into use. `page` returns pages for its queues and buffers as long as there are some; `has_interrupt`
    /// tells whether its MSI-X vector 0 wakes a CPU.
    ///
    /// # Errors
    /// [`VirtioError`]. The device is out of use then, if it is sound.
    pub fn new(
        registers: R,
        page: &mut dyn FnMut() -> Option<DmaPage>,
        has_interrupt: bool,
        now_ns: NowNs,
    ) -> Result<Self, VirtioError> {
        let started = Self::start(&registers, page, has_interrupt, now_ns);
        let (mut incoming, outgoing, mut control) = started.inspect_err(|_| set_up::give_up(&registers))?;
        incoming.begin(&registers);
        if let Some(control) = &mut control {
            control.incoming.begin(&registers);
            // The device has used nothing yet, so there is room; one that lies about it is found out by the next look.
            let _ = control.say(NO_PORT, event::DEVICE_READY, &registers);
        }
        Ok(Self {
            registers,
            now_ns,
            incoming,
            outgoing,
            control,
            inbox: Vec::with_capacity(BUFFER_BYTES),
            taken: 0,
            gathered: None,
            waited_ns: 0,
            waits_since: None,
            looked_ns: None,
            drops: false,
            is_dead: false,
            is_new: false,
            gone: 0,
            keeps_buffers: false,
            has_interrupt,
            fault: None,
        })
    }

    /// Returns whether the device keeps most of our buffers for good, and is to be started anew. What a peer has sent that is
    /// not received yet is lost then.
    #[must_use]
    pub fn is_worn(&self) -> bool {
        // Of each that went it may keep one.
        let may_keep_all = self.gone >= u32::from(TRANSMIT_BUFFERS / 2) && self.is_dead;
        self.fault.is_none() && (self.keeps_buffers || may_keep_all)
    }

    /// Starts the device anew, with the same memory, which it leaves alone once it is reset. Peers are told of anew, too.
    ///
    /// # Errors
    /// As [`ConsolePort::new`].
    pub fn restarted(self) -> Result<Self, VirtioError> {
        let Self { registers, now_ns, has_interrupt, incoming, outgoing, control, .. } = self;
        let of_control = control.into_iter().flat_map(|it| [it.incoming.0, it.outgoing.ring]);
        let mut pages = of_control.chain([incoming.0, outgoing.ring]).flat_map(Ring::into_pages);
        Self::new(registers, &mut || pages.next(), has_interrupt, now_ns)
    }

    fn start(
        registers: &R,
        page: &mut dyn FnMut() -> Option<DmaPage>,
        has_interrupt: bool,
        now_ns: NowNs,
    ) -> Result<(Incoming, Outgoing, Option<Control>), VirtioError> {
        let has_several = set_up::negotiate(registers, MULTIPORT, now_ns)? & MULTIPORT != 0;
        if has_several {
            let ports = || registers.read(Structure::Device, CONFIG_PORTS_MAX, Width::Double);
            if set_up::read_config(registers, ports)? <= NUMBER {
                return Err(VirtioError::NoPort);
            }
        }
        let vector = has_interrupt.then_some(VECTOR);
        let mut ring = |number, size_max, bytes, device_writes| {
            let wanted = Wanted { number, size_min: 2, size_max, vector };
            let own = page().ok_or(VirtioError::NoMemory)?;
            let queue = set_up::add_queue(registers, own, wanted)?;
            Ring::new(queue, Shape::new(bytes), device_writes, page).ok_or(VirtioError::NoMemory)
        };
        let mut pair = |[receive, transmit]: [u16; 2], [receives, transmits]: [u16; 2], bytes| {
            let incoming = Incoming(ring(receive, receives, bytes, true)?);
            let ring = ring(transmit, transmits, bytes, false)?;
            let free = ring.heads().collect();
            Ok::<_, VirtioError>((incoming, Outgoing { ring, free }))
        };
        let control = has_several.then(|| pair(CONTROL, [CONTROL_BUFFERS; 2], BUFFER_BYTES / 2)).transpose()?;
        let queues = if has_several { PORT_1 } else { PORT_0 };
        let (incoming, outgoing) = pair(queues, [RECEIVE_BUFFERS, TRANSMIT_BUFFERS], BUFFER_BYTES)?;
        set_up::start(registers)?;
        let control = control.map(|(incoming, outgoing)| Control { incoming, outgoing, stage: Stage::Absent });
        Ok((incoming, outgoing, control))
    }

    /// Returns why the device is not used any more.
    #[must_use]
    pub const fn fault(&self) -> Option<PortFault> {
        self.fault
    }

    /// Returns whether bytes come and go: the port was found, and works.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.fault.is_none() && self.control.as_ref().is_none_or(|control| control.stage == Stage::Open)
    }

    /// Takes in what the device says of its ports. Returns whether since the last call somebody new has come to its end of
    /// ours: what was begun before is not theirs, and what had come before is dropped.
    pub fn look(&mut self) -> bool {
        if !self.is_new {
            self.hear();
            if self.is_new {
                (self.taken, self.inbox) = (0, Vec::new());
            }
        }
        core::mem::take(&mut self.is_new)
    }

    /// Takes in what the device says of its ports.
    fn hear(&mut self) {
        if self.fault.is_none()
            && let Some(control) = &mut self.control
        {
            match control.mind(&self.registers) {
                Ok(Peers { is_new, gone, is_away }) => {
                    self.is_new |= is_new;
                    self.gone = self.gone.saturating_add(gone);
                    if is_away {
                        self.count_buffers();
                    }
                }
                Err(why) => self.fail(why),
            }
        }
    }

    /// Nobody is there: what is in buffers is for nobody, and the device has used all that it does not keep for good.
    fn count_buffers(&mut self) {
        self.reclaim();
        let ours = self.outgoing.free.len() + usize::from(self.gathered.is_some());
        self.keeps_buffers = ours <= self.outgoing.ring.heads().count() / 2;
    }

    /// Takes the device out of use, for good. Its memory stays its own: it may write late.
    fn fail(&mut self, why: PortFault) {
        set_up::give_up(&self.registers);
        self.fault = Some(why);
        (self.inbox, self.taken, self.gathered) = (Vec::new(), 0, None);
    }

    /// Has a byte in the inbox, if the device has sent one.
    fn fill_inbox(&mut self) -> bool {
        // Empty buffers are no bytes; a device that sends nothing else is given up for this round.
        for _ in 0..RECEIVE_BUFFERS {
            // Of somebody new: they are heard after `look`.
            if self.is_new {
                return false;
            }
            if self.taken < self.inbox.len() {
                return true;
            }
            if !self.is_open() {
                return false;
            }
            self.taken = 0;
            self.inbox.clear();
            match self.incoming.take(&self.registers, &mut self.inbox) {
                // The device tells of a peer before it sends that one's bytes.
                Ok(true) => self.hear(),
                Ok(false) => return false,
                Err(why) => self.fail(why),
            }
        }
        !self.is_new && self.taken < self.inbox.len()
    }

    /// Takes back buffers that were sent.
    fn reclaim(&mut self) {
        match self.outgoing.reclaim() {
            Ok(has_taken) => self.is_dead &= !has_taken,
            Err(why) => self.fail(why),
        }
    }

    /// Gathers the first of these bytes, and returns how many: none without room.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut left = bytes;
        while !left.is_empty() && self.fault.is_none() {
            let Some((head, at)) = self.gathered.take().or_else(|| Some((self.outgoing.free.pop()?, 0))) else { break };
            let (here, rest) = left.split_at(left.len().min(BUFFER_BYTES - at));
            self.outgoing.ring.buffers.write(head, at, here);
            left = rest;
            match at + here.len() {
                BUFFER_BYTES => self.outgoing.give(head, BUFFER_BYTES, &self.registers),
                bytes => self.gathered = Some((head, bytes)),
            }
        }
        bytes.len() - left.len()
    }

    /// Returns whether this message may wait on.
    fn may_wait(&mut self) -> bool {
        let now = (self.now_ns)();
        // Each look exits to the hypervisor.
        if self.looked_ns.is_none_or(|looked| now.saturating_sub(looked) >= LOOK_NS) {
            self.looked_ns = Some(now);
            if set_up::is_gone(&self.registers) {
                self.fail(PortFault::Gone);
            } else if set_up::needs_reset(&self.registers) {
                self.fail(PortFault::Stopped);
            }
        }
        let since = *self.waits_since.get_or_insert(now);
        self.drops = self.is_dead || self.fault.is_some() || self.waited_ns + now.saturating_sub(since) > PATIENCE_NS;
        !self.drops
    }

    /// Returns how many bytes there is room for.
    pub fn room(&mut self) -> usize {
        if !self.is_open() {
            return 0;
        }
        self.reclaim();
        self.outgoing.free.len() * BUFFER_BYTES + self.gathered.map_or(0, |(_, at)| BUFFER_BYTES - at)
    }

    /// Ends a message: the device gets all of it that was not dropped.
    pub fn flush(&mut self) {
        if let Some((head, bytes)) = self.gathered.take().filter(|_| self.fault.is_none()) {
            self.outgoing.give(head, bytes, &self.registers);
        }
        self.is_dead |= core::mem::take(&mut self.drops);
        (self.waited_ns, self.waits_since, self.looked_ns) = (0, None, None);
    }

    /// Waits until the device has taken all that was sent, as long as a message may wait: before the power is turned off.
    pub fn drain(&mut self) {
        self.flush();
        while self.is_open() && self.outgoing.free.len() < self.outgoing.ring.heads().count() && self.may_wait() {
            self.reclaim();
            core::hint::spin_loop();
        }
        self.flush();
    }

    /// Called before a CPU halts: asks for an interrupt when the device sends something. Returns false if it has.
    pub fn rest(&mut self) -> bool {
        if self.fault.is_some() {
            return true;
        }
        let says = self.control.as_ref().is_some_and(|control| control.incoming.0.queue.want_interrupt(true));
        let sends = self.is_open() && self.incoming.0.queue.want_interrupt(true);
        !(says || sends || self.taken < self.inbox.len())
    }
}

impl<R: Registers> ByteLink for ConsolePort<R> {
    fn receive(&mut self) -> Option<u8> {
        self.fill_inbox().then(|| {
            self.taken += 1;
            self.inbox[self.taken - 1]
        })
    }

    fn is_waiting(&mut self) -> bool {
        self.fill_inbox()
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(sent) = self.send_part(rest) else { return };
            rest = &rest[sent..];
        }
    }
}

impl<R: Registers> PartLink for ConsolePort<R> {
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.is_open() || self.drops {
            return None;
        }
        self.reclaim();
        let sent = self.put(bytes);
        if sent > 0 || bytes.is_empty() {
            if let Some(since) = self.waits_since.take() {
                self.waited_ns += (self.now_ns)().saturating_sub(since);
            }
            return Some(sent);
        }
        self.may_wait().then_some(0)
    }
}
