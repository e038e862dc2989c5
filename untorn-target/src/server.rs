//! The sockets, and the loop that serves them: one thread, which sleeps in poll(2) while there is nothing to do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nvmf::{Connection, Endpoint, Millis, Target};

use crate::disks::Disks;

/// Bytes that wait in each direction of a connection, beside those in the kernel.
const BUFFER_BYTES: usize = 256 << 10;

/// How often connections are looked at that nothing comes from, so that a silent host's controller ends.
const TICK_MS: u16 = 100;

/// How long a connection may be silent before TCP asks whether its host is still there, and how often it asks, in seconds. It
/// ends those whose hosts have no keep-alive time.
const SILENCE_S: u32 = 30;
const ASKS: u32 = 3;

/// How many steps a connection does before the next one has its turn.
const STEPS_A_TURN: usize = 2;

/// How many connections are accepted before those that there are have their turn.
const ACCEPTS_A_TURN: usize = 64;

/// The sockets and what they serve.
pub struct Server {
    target: Target,
    disks: Disks,
    listeners: Vec<TcpListener>,
    /// What discovery shows, if it is not the address that a host reached.
    advertised: Option<SocketAddr>,
    connections: Vec<Peer>,
    /// A listener has connections, as far as is known.
    knocked: bool,
    /// The last accept failed for want of descriptors or memory: the next one waits for a tick.
    short: bool,
    start: Instant,
}

/// A connection and its socket.
struct Peer {
    socket: TcpStream,
    connection: Connection,
    /// Received, and not taken: from `taken` up to `received`.
    input: Vec<u8>,
    taken: usize,
    received: usize,
    /// There may be more to receive.
    readable: bool,
    /// Made, and not sent: from `sent` up to `made`.
    output: Vec<u8>,
    sent: usize,
    made: usize,
    /// The host sends no more.
    ended: bool,
}

impl Server {
    /// Serves these disks at these sockets.
    ///
    /// # Errors
    /// The operating system's, for a socket.
    pub fn new(
        target: Target,
        disks: Disks,
        listeners: Vec<TcpListener>,
        advertised: Option<SocketAddr>,
    ) -> io::Result<Self> {
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        Ok(Self {
            target,
            disks,
            listeners,
            advertised,
            connections: Vec::new(),
            knocked: false,
            short: false,
            start: Instant::now(),
        })
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Serves until the operating system refuses to wait.
    ///
    /// # Errors
    /// Its error.
    pub fn run(&mut self) -> io::Result<()> {
        let mut busy = false;
        loop {
            self.wait(busy)?;
            if self.knocked {
                self.accept();
            }
            let now = self.now();
            busy = false;
            for peer in &mut self.connections {
                busy |= peer.serve(&self.target, &mut self.disks, now);
            }
            self.connections.retain(|peer| !peer.is_gone());
        }
    }

    /// Sleeps until something can move; not at all if there is work.
    fn wait(&mut self, busy: bool) -> io::Result<()> {
        let peers = self.connections.iter().map(|peer| PollFd::new(peer.socket.as_fd(), peer.interest()));
        let listens = if self.short { PollFlags::empty() } else { PollFlags::POLLIN };
        let listeners = self.listeners.iter().map(|it| PollFd::new(it.as_fd(), listens));
        let mut all: Vec<_> = peers.chain(listeners).collect();
        let timeout = if busy { PollTimeout::ZERO } else { PollTimeout::from(TICK_MS) };
        match poll(&mut all, timeout) {
            Ok(0) if !busy => self.disks.drain(),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
        let seen: Vec<PollFlags> = all.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        let (peers, listeners) = seen.split_at(self.connections.len());
        for (peer, seen) in self.connections.iter_mut().zip(peers) {
            // Also one whose bytes find no room: nothing would be read of it that tells its end.
            peer.ended |= seen.intersects(PollFlags::POLLERR | PollFlags::POLLHUP);
            peer.readable |= seen.contains(PollFlags::POLLIN);
        }
        // After a failure it is tried again, whatever is seen.
        self.knocked = self.short || listeners.iter().any(|seen| seen.contains(PollFlags::POLLIN));
        Ok(())
    }

    fn accept(&mut self) {
        let now = self.now();
        self.short = false;
        for listener in &self.listeners {
            for _ in 0..ACCEPTS_A_TURN {
                let socket = match listener.accept() {
                    Ok((socket, _)) => socket,
                    Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                    // One that was gone before it was accepted, too: it costs a tick.
                    Err(_) => {
                        self.short = true;
                        break;
                    }
                };
                let Ok(reached) = socket.local_addr() else { continue };
                let shown = self.advertised.unwrap_or(reached);
                let endpoint = Endpoint { address: shown.ip().to_canonical(), port: shown.port() };
                if socket.set_nonblocking(true).is_err() || socket.set_nodelay(true).is_err() {
                    continue;
                }
                if watch(&socket).is_err() {
                    continue;
                }
                // One too many is closed.
                if let Some(connection) = Connection::accept(&self.target, endpoint, now) {
                    self.connections.push(Peer::new(socket, connection));
                }
            }
        }
    }
}

/// Lets TCP find out that a host is gone.
fn watch(socket: &TcpStream) -> nix::Result<()> {
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &SILENCE_S)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &SILENCE_S)?;
    setsockopt(socket, sockopt::TcpKeepCount, &ASKS)
}

impl Peer {
    fn new(socket: TcpStream, connection: Connection) -> Self {
        // Not touched, and so no memory, before they are used.
        let [input, output] = [(); 2].map(|()| vec![0; BUFFER_BYTES]);
        Self {
            socket,
            connection,
            input,
            taken: 0,
            received: 0,
            readable: true,
            output,
            sent: 0,
            made: 0,
            ended: false,
        }
    }

    /// What is waited for.
    fn interest(&self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, !self.ended && self.received < BUFFER_BYTES);
        flags.set(PollFlags::POLLOUT, self.sent < self.made);
        flags
    }

    fn is_gone(&self) -> bool {
        self.ended || self.connection.is_closed() && self.sent == self.made
    }

    /// Moves what can be moved, and does some steps. Returns whether there is more to do at once.
    fn serve(&mut self, target: &Target, disks: &mut Disks, now: Millis) -> bool {
        // Mostly the second one finds that there is nothing left, which spares a look at all sockets.
        (0..STEPS_A_TURN).all(|_| self.serve_step(target, disks, now))
    }

    /// Does one of them.
    fn serve_step(&mut self, target: &Target, disks: &mut Disks, now: Millis) -> bool {
        self.receive();
        // What it sent again by another connection must not be overtaken.
        if self.ended {
            return false;
        }
        self.taken += self.connection.input(target, &self.input[self.taken..self.received], now);
        if self.taken == self.received {
            (self.taken, self.received) = (0, 0);
        }
        let more = self.connection.step(target, disks, now);
        if self.sent == self.made {
            (self.sent, self.made) = (0, self.connection.output(disks, &mut self.output));
        }
        self.send();
        more || self.sent == self.made && self.connection.has_output()
    }

    fn receive(&mut self) {
        if self.ended || !self.readable || self.received == BUFFER_BYTES {
            return;
        }
        match self.socket.read(&mut self.input[self.received..]) {
            Ok(0) => self.ended = true,
            Ok(got) => {
                // A socket that had less than there was room for has no more, or is seen to have.
                self.readable = self.received + got == BUFFER_BYTES;
                self.received += got;
            }
            Err(why) => {
                self.readable = why.kind() == ErrorKind::Interrupted;
                self.ended = !matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        }
    }

    fn send(&mut self) {
        while self.sent < self.made {
            match self.socket.write(&self.output[self.sent..self.made]) {
                Ok(0) => self.ended = true,
                Ok(more) => {
                    self.sent += more;
                    continue;
                }
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => self.ended |= why.kind() != ErrorKind::WouldBlock,
            }
            return;
        }
    }
}
