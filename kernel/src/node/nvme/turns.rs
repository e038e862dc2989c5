//! The target on an interface: its TCP connections, each a queue of a host, in turns.
//!
//! Data move once from the interface's buffers to the target's commands, and from there to the medium; what is read goes from
//! the medium straight into the interface's buffers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use btt::CpuIndex;
use net::tcp::{ConnectionId, ConnectionState, Limits, Service, Tcp};
use nvmf::{Connection, Endpoint, Millis};

use super::storage::DisksOn;
use super::{DISCOVERY_PORT, Nvme, PORT};

/// What a connection receives before it is taken in: all data of a command, and more commands behind it.
const RECEIVE_BYTES: usize = 160 << 10;
/// What it has to send: the data of two commands.
const SEND_BYTES: usize = 256 << 10;

/// How many connections have their turn in a call: others wait meanwhile.
const TURNS_A_CALL: usize = 4;

/// How often connections are looked at that nothing comes from, so that a silent host's controller ends.
const TICK_NS: u64 = 100_000_000;

/// How often it is seen that something is exported now.
const IDLE_NS: u64 = 500_000_000;

/// The target, on one interface.
pub(super) struct NvmeService {
    nvme: Arc<Nvme>,
    cpu: CpuIndex,
    /// The most connections.
    connections: usize,
    listens: bool,
    peers: Vec<Peer>,
    /// The peer whose turn it is.
    turn: usize,
}

/// A connection and its socket.
struct Peer {
    id: ConnectionId,
    connection: Connection,
}

/// What a turn has left.
enum Turn {
    /// More to do at once.
    More,
    /// Nothing until something comes or goes.
    Waits,
    /// Nothing ever.
    Over,
}

impl NvmeService {
    /// The target on an interface of this CPU.
    pub(super) fn new(nvme: Arc<Nvme>, cpu: CpuIndex, connections: usize) -> Box<Self> {
        Box::new(Self { nvme, cpu, connections, listens: false, peers: Vec::new(), turn: 0 })
    }

    fn accept(&mut self, tcp: &mut Tcp<'_>, now: Millis) {
        for port in [PORT, DISCOVERY_PORT] {
            while let Some(id) = tcp.accept(port) {
                let local = tcp.connection(id).and_then(|connection| connection.local());
                let endpoint = local.map(|local| Endpoint { address: local.ip(), port: PORT });
                let connection = endpoint.and_then(|endpoint| Connection::accept(&self.nvme.target, endpoint, now));
                match connection {
                    Some(connection) if self.peers.try_reserve(1).is_ok() => self.peers.push(Peer { id, connection }),
                    // One too many.
                    _ => tcp.abort(id),
                }
            }
        }
    }

    /// Gives a connection its turn.
    fn serve_one(&mut self, at: usize, tcp: &mut Tcp<'_>, now: Millis) -> Turn {
        let Peer { id, connection } = &mut self.peers[at];
        let nvme = &*self.nvme;
        let mut disks = DisksOn { nvme, cpu: self.cpu };
        let Some(mut socket) = tcp.connection(*id) else { return Turn::Over };
        // What its host sent again by another connection must not be overtaken: what is in flight is dropped.
        if socket.state() != ConnectionState::Open {
            tcp.close(*id);
            return Turn::Over;
        }
        let mut taken = 0;
        // Around the buffer's end at most once.
        for _ in 0..2 {
            socket.read(|bytes| {
                let here = connection.input(&nvme.target, bytes, now);
                taken += here;
                here
            });
        }
        // Its commands wait while its disk is checked.
        if connection.disk().and_then(|disk| nvme.disk(disk)).is_some_and(|disk| disk.is_suspended()) {
            return Turn::Waits;
        }
        let stepped = connection.step(&nvme.target, &mut disks, now);
        let mut sent = 0;
        for _ in 0..2 {
            if connection.has_output() {
                socket.write(|room| {
                    let here = connection.output(&mut disks, room);
                    sent += here;
                    here
                });
            }
        }
        let more = stepped || taken > 0 && socket.waiting() > 0 || sent > 0 && connection.has_output();
        match (connection.is_closed(), more) {
            (true, _) => {
                // Who never connected is not waited for: others want its place. A host that was refused closes when it has
                // read why.
                if connection.has_connected() || connection.violation().is_some() {
                    tcp.close(*id);
                } else {
                    tcp.abort(*id);
                }
                Turn::Over
            }
            (false, true) => Turn::More,
            (false, false) => Turn::Waits,
        }
    }
}

impl Service for NvmeService {
    fn serve(&mut self, tcp: &mut Tcp<'_>, now_ns: u64) -> u64 {
        if !self.listens {
            if !self.nvme.exports_any() {
                return now_ns.saturating_add(IDLE_NS);
            }
            self.listens = true;
            let limits = Limits { connections: self.connections, receive_bytes: RECEIVE_BYTES, send_bytes: SEND_BYTES };
            tcp.listen(PORT, limits);
            tcp.listen(DISCOVERY_PORT, Limits { connections: self.connections.div_ceil(4), ..limits });
        }
        let now = Millis(now_ns / 1_000_000);
        self.accept(tcp, now);
        let mut more = false;
        let mut turns = 0;
        // All have a look each; those with work take the turns.
        for _ in 0..self.peers.len() {
            if turns == TURNS_A_CALL {
                more = true;
                break;
            }
            if self.turn >= self.peers.len() {
                self.turn = 0;
            }
            match self.serve_one(self.turn, tcp, now) {
                Turn::Over => {
                    self.peers.remove(self.turn);
                }
                Turn::More => {
                    more = true;
                    turns += 1;
                    self.turn += 1;
                }
                Turn::Waits => self.turn += 1,
            }
        }
        if more { now_ns } else { now_ns.saturating_add(TICK_NS) }
    }
}
