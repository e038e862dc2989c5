//! Our end of the appliance's admin port: requests of programs and their replies, in the bytes that they have beside a person
//! at the console ([`crate::beside`]), without that person's bytes in between.
//!
//! The port is asked whether somebody listens each time that the appliance shows its prompt. Until it answers, and with an
//! appliance that has no such port, requests go by the console.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;

use crate::beside::{self, Replies};
use crate::session::ReplyForm;

/// The number of the request that asks whether somebody listens. Those of programs count from 1.
const PROBE: u32 = 0;

/// How far it is known that somebody listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Unknown,
    Asked,
    Answered,
}

/// Our end.
#[derive(Debug)]
pub struct Port {
    stream: UnixStream,
    stage: Stage,
    replies: Replies,
    unsent: Vec<u8>,
}

impl Port {
    /// Nothing has been asked by `stream` yet.
    ///
    /// # Errors
    /// The system's.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, stage: Stage::Unknown, replies: Replies::default(), unsent: Vec::new() })
    }

    /// The stream, and what is to be waited for.
    #[must_use]
    pub fn watched(&self) -> (BorrowedFd<'_>, PollFlags) {
        let writes = if self.unsent.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        (self.stream.as_fd(), PollFlags::POLLIN | writes)
    }

    /// Whether requests go this way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.stage == Stage::Answered
    }

    /// Whether the appliance has not taken yet what was sent.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Notes whether the appliance is up: when it has come up, it is asked whether it listens.
    pub fn appliance_is(&mut self, up: bool) {
        match (up, self.stage) {
            (true, Stage::Unknown) => {
                self.stage = Stage::Asked;
                self.send(&beside::request(ReplyForm::Json, PROBE, "version"));
            }
            (false, Stage::Asked | Stage::Answered) => {
                (self.stage, self.replies) = (Stage::Unknown, Replies::default());
                self.unsent.clear();
            }
            _ => {}
        }
    }

    /// Sends bytes as soon as they are taken.
    pub fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Sends and receives what can be without a wait. Returns the replies to programs' requests.
    ///
    /// # Errors
    /// When the port is good for nothing any more.
    pub fn turn(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut taken = Vec::new();
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => {
                // Nothing but replies comes here.
                let all = self.replies.take(&piece[..bytes], &mut Vec::new());
                taken = all.map_err(|_| io::Error::other("a reply without an end"))?;
            }
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(error),
        }
        if !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(bytes) => drop(self.unsent.drain(..bytes)),
                Err(error) if is_for_later(&error) => {}
                // What it said last may be read already; that it is gone is seen by the next read.
                Err(_) => self.unsent.clear(),
            }
        }
        taken.retain(|reply| {
            let is_probe = beside::numbered(reply).is_some_and(|(number, _)| number == PROBE);
            if is_probe && self.stage == Stage::Asked {
                self.stage = Stage::Answered;
            }
            !is_probe
        });
        Ok(taken)
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::Port;

    #[test]
    fn requests_go_by_a_port_that_has_answered_since_the_appliance_came_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut port = Port::new(ours).unwrap();
        let mut asked = [0; 64];
        for _ in 0..2 {
            assert!(!port.is_ready() && !port.has_unsent());
            port.appliance_is(true);
            assert!(port.has_unsent());
            assert_eq!(port.turn().unwrap(), Vec::<Vec<u8>>::new());
            let bytes = theirs.read(&mut asked).unwrap();
            assert_eq!(&asked[..bytes], b"\x1b_#0 version\n");
            assert!(!port.is_ready());
            // Another one's reply is none to that.
            theirs.write_all(b"noise\x1b_#7 {}\n\x1b\\\x1b_#0 {\"ok\":true}\n").unwrap();
            assert_eq!(port.turn().unwrap(), [b"#7 {}\n"]);
            assert!(!port.is_ready());
            theirs.write_all(b"\x1b\\").unwrap();
            assert!(port.turn().unwrap().is_empty() && port.is_ready());
            // It starts anew in the middle of a reply.
            theirs.write_all(b"\x1b_#8 {").unwrap();
            assert!(port.turn().unwrap().is_empty());
            port.appliance_is(false);
        }
        drop(theirs);
        assert!(port.turn().is_err());
    }
}
