//! TCP connections that other machines open: listening ports with a bound on connections and their memory.
//!
//! A socket is made when a connection's first segment comes, just before smoltcp sees it, with both buffers: what has been
//! accepted can always be received. Beyond the bound the connection that has been half open for the longest time gives way; if
//! there is none, or no memory, smoltcp refuses the new one by a reset. Before it one that is over and is kept for late segments
//! gives way.
//!
//! | a socket is | until |
//! |---|---|
//! | waiting | its connection is open, and is accepted; 3 seconds at most if it stays half open |
//! | accepted | [`Tcp::close`] or [`Tcp::abort`] |
//! | leaving | what was sent has arrived and both sides have closed, or 10 seconds have passed |

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

/// How long a connection may be half open.
const HALF_OPEN_NS: u64 = 3_000_000_000;

/// How long a connection that was closed may take to end.
const LINGER_NS: u64 = 10_000_000_000;

/// How long a peer may be silent before it is asked whether it is there, and before its connection ends.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);

/// The bounds of a listening port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections, those included that are half open and those that are leaving.
    pub connections: usize,
    /// What a connection receives before it is read, in bytes.
    pub receive_bytes: usize,
    /// What it has to send, in bytes.
    pub send_bytes: usize,
}

/// A connection that was accepted. No other ever gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Both sides may send.
    Open,
    /// The peer has sent its last byte, and all of them have been read. It may still receive.
    PeerDone,
    /// It has ended. Nothing that was not sent will be.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It listens, or is half open since then.
    Waiting {
        half_open_ns: Option<u64>,
    },
    Accepted,
    /// Since then.
    Leaving {
        since_ns: u64,
    },
}

#[derive(Debug)]
struct Slot {
    id: ConnectionId,
    handle: SocketHandle,
    port: u16,
    stage: Stage,
}

#[derive(Debug)]
struct Listener {
    port: u16,
    limits: Limits,
}

/// The first segment of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// The peer.
    from: SocketAddr,
    /// The port that it connects to.
    port: u16,
}

impl First {
    /// Returns the first segment of a connection, if a frame is one. Nothing about it has been checked but its form.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        let (address, segment): (IpAddr, &[u8]) = match frame.ethertype() {
            EthernetProtocol::Ipv4 => {
                let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
                (packet.next_header() == IpProtocol::Tcp).then(|| (packet.src_addr().into(), packet.payload()))?
            }
            EthernetProtocol::Ipv6 => {
                let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
                (packet.next_header() == IpProtocol::Tcp).then(|| (packet.src_addr().into(), packet.payload()))?
            }
            _ => return None,
        };
        let segment = TcpPacket::new_checked(segment).ok().filter(|segment| segment.syn() && !segment.ack())?;
        Some(Self { from: SocketAddr::new(address, segment.src_port()), port: segment.dst_port() })
    }
}

/// The listening ports of an interface, and their connections.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    ports: Vec<Listener>,
    slots: Vec<Slot>,
    next_id: u64,
}

impl Listeners {
    /// Moves sockets from stage to stage, and makes those that are missing.
    pub(crate) fn tend(&mut self, sockets: &mut SocketSet<'static>, now_ns: u64) {
        let mut at = 0;
        while at < self.slots.len() {
            if self.tend_one(at, sockets, now_ns) {
                at += 1;
            } else {
                let Slot { handle, .. } = self.slots.swap_remove(at);
                sockets.remove(handle);
            }
        }
    }

    /// Returns false if the slot is to go.
    fn tend_one(&mut self, at: usize, sockets: &mut SocketSet<'static>, now_ns: u64) -> bool {
        let slot = &mut self.slots[at];
        let socket = sockets.get_mut::<Socket<'_>>(slot.handle);
        match slot.stage {
            Stage::Accepted => true,
            Stage::Leaving { since_ns } => {
                let left_ns = now_ns.saturating_sub(since_ns);
                if left_ns >= LINGER_NS {
                    socket.abort();
                }
                // An aborted one sends its reset first, if its neighbour can be reached.
                let is_over = socket.state() == State::Closed && socket.remote_endpoint().is_none();
                !is_over && left_ns < 2 * LINGER_NS
            }
            Stage::Waiting { half_open_ns } => match socket.state() {
                State::Listen => {
                    slot.stage = Stage::Waiting { half_open_ns: None };
                    true
                }
                State::SynReceived => {
                    let since = half_open_ns.unwrap_or(now_ns);
                    slot.stage = Stage::Waiting { half_open_ns: Some(since) };
                    now_ns.saturating_sub(since) < HALF_OPEN_NS
                }
                // Open, or closed by its peer at once: its data are read all the same.
                State::Established | State::CloseWait => true,
                _ => false,
            },
        }
    }

    /// Makes sure that a socket listens for a connection whose first segment has come, if there may be one more.
    pub(crate) fn make_room(&mut self, first: First, sockets: &mut SocketSet<'static>) {
        let First { from, port } = first;
        let Some(limits) = self.ports.iter().find(|listener| listener.port == port).map(|it| it.limits) else { return };
        let slots = self.slots.iter_mut().filter(|slot| slot.port == port);
        let (mut all, mut oldest) = (0, None);
        for slot in slots {
            let socket = sockets.get::<Socket<'_>>(slot.handle);
            let peer = socket.remote_endpoint().map(|it| SocketAddr::new(it.addr.into(), it.port));
            if socket.state() == State::Listen || peer == Some(from) {
                return; // it listens already, or the segment comes again
            }
            all += 1;
            // One that is over on both sides, and is kept for segments that come late, goes first.
            let rank = match (slot.stage, socket.state()) {
                (Stage::Leaving { .. }, State::TimeWait) => 0,
                (Stage::Waiting { .. }, State::SynReceived) => 1,
                _ => continue,
            };
            if oldest.as_ref().is_none_or(|(least, other): &(u8, &mut Slot)| (rank, slot.id) < (*least, other.id)) {
                oldest = Some((rank, slot));
            }
        }
        if all < limits.connections {
            if let Some(socket) = new_socket(port, limits) {
                self.next_id += 1;
                let (id, handle) = (ConnectionId(self.next_id), sockets.add(socket));
                self.slots.push(Slot { id, handle, port, stage: Stage::Waiting { half_open_ns: None } });
            }
        } else if let Some((_, slot)) = oldest {
            // It is the youngest one now.
            self.next_id += 1;
            (slot.id, slot.stage) = (ConnectionId(self.next_id), Stage::Waiting { half_open_ns: None });
            let socket = sockets.get_mut::<Socket<'_>>(slot.handle);
            socket.abort();
            let _ = socket.listen(port); // it is closed, and the port is not 0
        }
    }

    /// Returns when a socket's time is over.
    pub(crate) fn due_ns(&self, now_ns: u64) -> u64 {
        let times = self.slots.iter().filter_map(|slot| match slot.stage {
            Stage::Waiting { half_open_ns } => Some(half_open_ns?.saturating_add(HALF_OPEN_NS)),
            Stage::Leaving { since_ns } => {
                let ends = [since_ns.saturating_add(LINGER_NS), since_ns.saturating_add(2 * LINGER_NS)];
                ends.into_iter().find(|end| *end > now_ns)
            }
            Stage::Accepted => None,
        });
        times.min().unwrap_or(u64::MAX)
    }
}

/// A socket that listens; `None`: there is no memory for its buffers.
fn new_socket(port: u16, limits: Limits) -> Option<Socket<'static>> {
    let buffer = |bytes: usize| {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(bytes).ok()?;
        buffer.resize(bytes, 0);
        Some(SocketBuffer::new(buffer))
    };
    let mut socket = Socket::new(buffer(limits.receive_bytes)?, buffer(limits.send_bytes)?);
    socket.set_nagle_enabled(false);
    socket.set_keep_alive(Some(KEEP_ALIVE));
    socket.set_timeout(Some(SILENCE));
    socket.set_congestion_control(CongestionControl::Reno);
    socket.listen(port).ok()?;
    Some(socket)
}

/// What a [`Service`] sees of TCP in a step.
#[derive(Debug)]
pub struct Tcp<'a> {
    pub(crate) listeners: &'a mut Listeners,
    pub(crate) sockets: &'a mut SocketSet<'static>,
    pub(crate) now_ns: u64,
}

impl Tcp<'_> {
    /// Listens on a port, which is not 0. One that it listens on already gets these limits for what comes.
    pub fn listen(&mut self, port: u16, limits: Limits) {
        assert!(port != 0, "a port that others name");
        match self.listeners.ports.iter_mut().find(|listener| listener.port == port) {
            Some(listener) => listener.limits = limits,
            None => self.listeners.ports.push(Listener { port, limits }),
        }
    }

    /// Listens on a port no more. Those that were accepted stay, and others are reset.
    pub fn unlisten(&mut self, port: u16) {
        self.listeners.ports.retain(|listener| listener.port != port);
        for slot in self.listeners.slots.iter_mut().filter(|slot| slot.port == port) {
            if matches!(slot.stage, Stage::Waiting { .. }) {
                slot.stage = Stage::Leaving { since_ns: self.now_ns };
                self.sockets.get_mut::<Socket<'_>>(slot.handle).abort();
            }
        }
    }

    /// Returns the next connection to a port that was opened.
    pub fn accept(&mut self, port: u16) -> Option<ConnectionId> {
        let waiting = self.listeners.slots.iter_mut().filter(|slot| slot.port == port);
        let mut waiting = waiting.filter(|slot| matches!(slot.stage, Stage::Waiting { .. }));
        let open = |state| matches!(state, State::Established | State::CloseWait);
        let slot = waiting.find(|slot| open(self.sockets.get::<Socket<'_>>(slot.handle).state()))?;
        slot.stage = Stage::Accepted;
        Some(slot.id)
    }

    /// Returns an accepted connection, until it is closed or aborted.
    pub fn connection(&mut self, id: ConnectionId) -> Option<Connection<'_>> {
        let slot = self.listeners.slots.iter().find(|slot| slot.id == id && slot.stage == Stage::Accepted)?;
        Some(Connection { socket: self.sockets.get_mut(slot.handle) })
    }

    /// Ends a connection after all that was written. It is not the caller's any more.
    pub fn close(&mut self, id: ConnectionId) {
        self.leave(id, Socket::close);
    }

    /// Ends a connection at once, with a reset. It is not the caller's any more.
    pub fn abort(&mut self, id: ConnectionId) {
        self.leave(id, Socket::abort);
    }

    fn leave(&mut self, id: ConnectionId, how: impl FnOnce(&mut Socket<'static>)) {
        let mut slots = self.listeners.slots.iter_mut();
        if let Some(slot) = slots.find(|slot| slot.id == id && slot.stage == Stage::Accepted) {
            slot.stage = Stage::Leaving { since_ns: self.now_ns };
            how(self.sockets.get_mut(slot.handle));
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Connection<'a> {
    socket: &'a mut Socket<'static>,
}

impl Connection<'_> {
    /// Returns how it is.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match self.socket.state() {
            State::Closed | State::Listen | State::TimeWait => ConnectionState::Ended,
            _ if self.socket.may_recv() => ConnectionState::Open,
            _ => ConnectionState::PeerDone,
        }
    }

    /// Returns the address and port of the peer; `None` after the end.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket.remote_endpoint().map(|it| SocketAddr::new(it.addr.into(), it.port))
    }

    /// Returns the address and port that the peer connected to; `None` after the end.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.socket.local_endpoint().map(|it| SocketAddr::new(it.addr.into(), it.port))
    }

    /// Returns how many bytes have been received and not read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.socket.recv_queue()
    }

    /// Calls `take` with received bytes where they lie, which returns how many of them are done with; not without any. They may
    /// be fewer than [`Connection::waiting`] where the buffer wraps: then another call has the rest.
    ///
    /// # Panics
    /// If more are done with than there were.
    pub fn read(&mut self, take: impl FnOnce(&[u8]) -> usize) {
        if self.socket.can_recv() {
            // The only error is a state in which nothing can be received.
            let _ = self.socket.recv(|bytes| (take(bytes), ()));
        }
    }

    /// Returns how many bytes there is room for, none after the end.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.socket.may_send() { self.socket.send_capacity() - self.socket.send_queue() } else { 0 }
    }

    /// Calls `fill` with room for bytes to send, where they will lie, which returns how many it has written; not without any
    /// room. They may be fewer than [`Connection::room`] where the buffer wraps.
    ///
    /// # Panics
    /// If more were written than there was room for.
    pub fn write(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) {
        if self.socket.can_send() {
            // The only error is a state in which nothing can be sent.
            let _ = self.socket.send(|room| (fill(room), ()));
        }
    }

    /// Writes as much of `bytes` as there is room for, and returns how much.
    pub fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        // Around the buffer's end at most once.
        for _ in 0..2 {
            self.write(|room| {
                let here = room.len().min(bytes.len() - written);
                room[..here].copy_from_slice(&bytes[written..written + here]);
                written += here;
                here
            });
        }
        written
    }
}

/// What is served over an interface. It is called in the interface's steps, on its CPU, and keeps each call short: a step is
/// bounded for the sake of all others.
pub trait Service: Send {
    /// Serves connections. Returns when it is to be called again at the latest, whether there are frames or not: `now_ns` if it
    /// has more to do, `u64::MAX` for not at all.
    fn serve(&mut self, tcp: &mut Tcp<'_>, now_ns: u64) -> u64;
}
