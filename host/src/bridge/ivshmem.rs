//! The server side of QEMU's ivshmem-doorbell protocol, for one device of the appliance's: it gets the consumer's RAM
//! file as BAR2, interrupt vectors of its own, and a peer for each way to the consumer's interrupts.
//!
//! A message is a 64-bit little-endian number, some with one file descriptor (QEMU, docs/specs/ivshmem-spec.txt,
//! "Interrupts", "Client-Server protocol"). What QEMU 7.2 makes of the unexpected decides the order here:
//! - its own vector before the shared memory crashes it, so the greeting goes version, id, memory, vectors;
//! - a peer id that comes again after its disconnect aborts it, so no id is ever used twice in one connection;
//! - it takes no second file descriptor for a vector of its own, so each is used once; and no more than it has.
//!
//! Nothing here waits for QEMU: what its socket has no room for is sent later ([`Server::flush`]).

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::limits::{EXPORTS_MAX, QUEUES_MAX};

/// The protocol's version.
const VERSION: i64 = 0;
/// Comes with the shared memory.
const SHARED_MEMORY: i64 = -1;

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
    /// Messages that the socket had no room for, in order.
    outbox: VecDeque<(i64, Option<OwnedFd>)>,
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
        stream.set_nonblocking(true)?;
        // Its own id is below all others.
        let next = own.0.checked_add(1).ok_or(ErrorKind::InvalidInput)?;
        let mut server =
            Self { stream, next, next_lasting: PEER_MAX, own, vector: 0, vectors, outbox: VecDeque::new() };
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
        self.send(self.own.0.into(), Some(eventfd))?;
        // The device counts what it gets.
        self.vector += 1;
        Ok(Some(vector))
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

    /// Whether messages wait to be sent: the device does not know of the last peers and vectors yet.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Sends what waits, as far as there is room.
    ///
    /// # Errors
    /// When the socket takes no messages any more.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((number, fd)) = self.outbox.front() {
            if !self.sends(*number, fd.as_ref().map(AsFd::as_fd))? {
                break;
            }
            self.outbox.pop_front();
        }
        Ok(())
    }

    fn send(&mut self, number: i64, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if self.outbox.is_empty() && self.sends(number, fd)? {
            return Ok(());
        }
        let fd = fd.map(|fd| fd.try_clone_to_owned()).transpose()?;
        self.outbox.push_back((number, fd));
        Ok(())
    }

    /// Sends a message, if there is room for it.
    fn sends(&self, number: i64, fd: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let bytes = number.to_le_bytes();
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let attached: Vec<_> = fd.iter().map(|_| ControlMessage::ScmRights(&fds)).collect();
        let stream = self.stream.as_raw_fd();
        loop {
            match sendmsg::<()>(stream, &[IoSlice::new(&bytes)], &attached, MsgFlags::MSG_NOSIGNAL, None) {
                // A stream socket with room takes eight bytes whole.
                Ok(sent) if sent == bytes.len() => return Ok(true),
                Ok(_) => return Err(ErrorKind::WriteZero.into()),
                Err(Errno::EINTR) => {}
                // Also when the descriptors that are on their way are as many as the system allows.
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::{PeerId, Server};
    use crate::event::eventfd;

    #[test]
    fn a_machine_that_takes_no_messages_is_not_waited_for_and_gets_all_in_order_later() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let event = eventfd().unwrap();
        let mut server = Server::greet(ours, PeerId(0), event.as_fd(), &[], 1).unwrap();
        // As many as there is room for, and some more. Each of these costs a descriptor, of which a process may have few.
        let mut peers = Vec::new();
        let mut more = 0;
        while more < 100 {
            more += usize::from(server.is_behind());
            peers.push(server.lasting_peer(event.as_fd()).unwrap().unwrap());
        }
        server.remove_peer(peers[0]).unwrap();
        let mut numbers = Vec::new();
        while numbers.len() < 3 + peers.len() + 1 {
            server.flush().unwrap();
            let mut number = [0; 8];
            // It discards the descriptors.
            theirs.read_exact(&mut number).unwrap();
            numbers.push(i64::from_le_bytes(number));
        }
        assert!(!server.is_behind());
        let expected = [0, 0, -1].into_iter().chain(peers.iter().chain([&peers[0]]).map(|peer| peer.0.into()));
        assert!(numbers.into_iter().eq(expected));
    }

    #[test]
    fn a_vector_that_was_not_sent_is_not_counted() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let event = eventfd().unwrap();
        let mut server = Server::greet(ours, PeerId(0), event.as_fd(), &[event.as_fd()], 9).unwrap();
        assert_eq!(server.add_vector(event.as_fd()).unwrap(), Some(1));
        drop(theirs);
        server.add_vector(event.as_fd()).unwrap_err();
        assert_eq!(server.vector, 2);
    }
}
