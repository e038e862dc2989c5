//! The server side of QEMU's ivshmem-doorbell protocol, for one device of the appliance's: it gets the consumer's RAM
//! file as BAR2, interrupt vectors of its own, and a peer for each way to the consumer's interrupts.
//!
//! A message is a 64-bit little-endian number, some with one file descriptor (QEMU, docs/specs/ivshmem-spec.txt,
//! "Interrupts", "Client-Server protocol"). What QEMU 7.2 makes of the unexpected decides the order here:
//! - its own vector before the shared memory crashes it, so the greeting goes version, id, memory, vectors;
//! - a peer id that comes again after its disconnect aborts it, so no id is ever used twice in one connection;
//! - it takes no second file descriptor for a vector of its own, so each is used once; and no more than it has.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::limits::{EXPORTS_MAX, QUEUES_MAX};

/// The protocol's version.
const VERSION: i64 = 0;
/// Comes with the shared memory.
const SHARED_MEMORY: i64 = -1;

/// How long QEMU may take to take a message. It reads in its main loop: what takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(5);

/// The greatest id that the doorbell register has room for.
const PEER_MAX: u16 = u16::MAX;

/// How many ids of a connection are kept back: for ways to interrupts that last ([`Server::lasting_peer`]), one for each
/// queue that a consumer can have.
pub const LASTING_PEERS: u16 = 2048;
const _: () = assert!(EXPORTS_MAX * QUEUES_MAX as usize <= LASTING_PEERS as usize);

/// A peer's id, as the doorbell register wants it in its upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub u16);

/// Our end of a connection with an ivshmem-doorbell device.
#[derive(Debug)]
pub struct Server {
    stream: UnixStream,
    /// The next id for a peer that comes and goes.
    next: u16,
    /// The next id for one that lasts, counted from the top.
    next_lasting: u16,
    /// Its own id.
    own: PeerId,
    /// The next of its own vectors, and how many it has.
    vector: u16,
    vectors: u16,
}

impl Server {
    /// Greets the device at the other end of `stream`, which may not be there yet: all fits in the socket's buffer.
    ///
    /// `own` is the id that it reads in its IVPosition register; `first` are its first vectors, of `vectors` that it has.
    ///
    /// # Errors
    /// When the socket takes no messages.
    pub fn greet(
        stream: UnixStream,
        own: PeerId,
        memory: BorrowedFd<'_>,
        first: &[BorrowedFd<'_>],
        vectors: u16,
    ) -> io::Result<Self> {
        stream.set_write_timeout(Some(PATIENCE))?;
        // Its own id is below all others.
        let next = own.0.checked_add(1).ok_or(ErrorKind::InvalidInput)?;
        let mut server = Self { stream, next, next_lasting: PEER_MAX, own, vector: 0, vectors };
        server.send(VERSION, None)?;
        server.send(own.0.into(), None)?;
        server.send(SHARED_MEMORY, Some(memory))?;
        for eventfd in first {
            server.add_vector(*eventfd)?;
        }
        Ok(server)
    }

    /// Lets an event descriptor interrupt the device, by the next of its vectors, for good. `None` when they are used up.
    ///
    /// # Errors
    /// When the socket takes no messages.
    pub fn add_vector(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<Option<u16>> {
        let vector = self.vector;
        if vector >= self.vectors {
            return Ok(None);
        }
        self.vector += 1;
        self.send(self.own.0.into(), Some(eventfd)).map(|()| Some(vector))
    }

    /// Adds a peer: ringing its doorbell at vector 0 signals `eventfd`. `None` when the ids for such peers are used up.
    ///
    /// # Errors
    /// When the socket takes no messages.
    pub fn add_peer(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<Option<PeerId>> {
        if self.next >= PEER_MAX - LASTING_PEERS {
            return Ok(None);
        }
        let id = PeerId(self.next);
        self.next += 1;
        self.send(id.0.into(), Some(eventfd)).map(|()| Some(id))
    }

    /// Adds a peer that will stay as long as the connection. `None` when their ids are used up: ask once a queue.
    ///
    /// # Errors
    /// When the socket takes no messages.
    pub fn lasting_peer(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<Option<PeerId>> {
        if self.next_lasting <= PEER_MAX - LASTING_PEERS {
            return Ok(None);
        }
        let id = PeerId(self.next_lasting);
        self.next_lasting -= 1;
        self.send(id.0.into(), Some(eventfd)).map(|()| Some(id))
    }

    /// Takes a peer away. Its doorbell does nothing any more, and its id never comes again.
    ///
    /// # Errors
    /// When the socket takes no messages.
    pub fn remove_peer(&mut self, peer: PeerId) -> io::Result<()> {
        self.send(peer.0.into(), None)
    }

    fn send(&self, number: i64, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = number.to_le_bytes();
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let attached: Vec<_> = fd.iter().map(|_| ControlMessage::ScmRights(&fds)).collect();
        let stream = self.stream.as_raw_fd();
        loop {
            match sendmsg::<()>(stream, &[IoSlice::new(&bytes)], &attached, MsgFlags::MSG_NOSIGNAL, None) {
                // A stream socket with room takes eight bytes whole.
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(_) => return Err(ErrorKind::WriteZero.into()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
