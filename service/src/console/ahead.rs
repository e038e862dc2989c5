//! What arrives while a command is carried out. It is kept for the session, but for the byte that ends the command, and for
//! requests of programs that are carried out between two steps of it ([`super::beside`]).
//!
//! | carried out for | ended by |
//! |---|---|
//! | a person | ^C; what was typed before it is dropped, as by a terminal |
//! | a program in a mode of its own | ^C, likewise |
//! | a program beside a person | CAN (0x18), or the person's ^C: whoever is at the console can end what keeps it |
//! | a program beside a person, with a number | also CAN after its number, as in a request that is not at its end; so a job ends, and a request that waits is taken back |
//! | another link | nothing on this one; but what keeps the console is ended there by ^C, for whichever link it is |
//!
//! At most 256 KiB are kept. What comes after that waits on the link, also what would end the command.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::{BESIDE_START, BESIDE_START_TEXT, CANCEL, CANCEL_BESIDE};
use crate::admin::Mode;
use crate::admin::line::number_bytes;
use crate::link::{Asker, ByteLink};

/// The most bytes that are kept: some pasted pages, or a few of the longest requests.
const BYTES_MAX: usize = 256 << 10;

/// Bytes that one look takes at most.
const BYTES_A_LOOK: usize = 4096;

const ESC: u8 = BESIDE_START[0];

/// A whole request of a program beside a person, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FramedRequest {
    bytes: Vec<u8>,
    /// Whether none that came before it waits for the session.
    is_first: bool,
    /// Whether the link lost bytes as it came.
    is_damaged: bool,
}

impl FramedRequest {
    /// The form of its reply.
    #[must_use]
    pub fn mode(&self) -> Mode {
        if self.bytes.starts_with(BESIDE_START_TEXT) { Mode::Text } else { Mode::Json }
    }

    /// Its line, with its end.
    #[must_use]
    pub fn line(&self) -> &[u8] {
        &self.bytes[BESIDE_START.len()..]
    }

    /// Whether none that came before it waits for the session.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.is_first
    }

    /// Whether the link lost bytes as it came.
    #[must_use]
    pub const fn is_damaged(&self) -> bool {
        self.is_damaged
    }
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The command that is carried out is to end.
    End,
    /// The job of this number, with its mark and its blank, is to end.
    EndJob(String),
    /// This request, which waited for the session, is taken back, and not carried out any more.
    TakenBack(FramedRequest),
    /// A program asks for something. One that has to wait is given back by [`ReadAhead::put_back`].
    Request(FramedRequest),
}

/// What has been read ahead of the session.
#[derive(Debug, Default)]
pub struct ReadAhead {
    /// Whole requests beside a person.
    requests: VecDeque<u8>,
    /// All else.
    typed: VecDeque<u8>,
    /// An ESC that may begin a request, or a request that is not at its end.
    begun: VecDeque<u8>,
    /// The number of the line whose command is carried out, or nothing.
    number: String,
    /// Whether the link lost bytes since the session asked, and since the last request began.
    has_lost: bool,
    has_lost_of_request: bool,
}

impl ReadAhead {
    /// Nothing is read ahead.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            requests: VecDeque::new(),
            typed: VecDeque::new(),
            begun: VecDeque::new(),
            number: String::new(),
            has_lost: false,
            has_lost_of_request: false,
        }
    }

    /// A command is about to be carried out whose line has this number (`#7 `, or nothing).
    pub fn begins(&mut self, number: &str) {
        self.number.clear();
        self.number.push_str(number);
    }

    /// Returns the session's next byte.
    pub fn receive<L: ByteLink + ?Sized>(&mut self, link: &mut L) -> Option<u8> {
        let kept = [&mut self.requests, &mut self.typed, &mut self.begun].into_iter().find_map(VecDeque::pop_front);
        kept.or_else(|| link.receive())
    }

    /// Returns whether a byte waits here for the session.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !(self.requests.is_empty() && self.typed.is_empty() && self.begun.is_empty())
    }

    /// Reads what has arrived, up to what concerns the command that is carried out, for `asker`.
    pub fn look<L: ByteLink + ?Sized>(&mut self, link: &mut L, asker: Asker) -> Option<Found> {
        for _ in 0..BYTES_A_LOOK {
            if self.requests.len() + self.typed.len() + self.begun.len() >= BYTES_MAX {
                return None;
            }
            let byte = link.receive()?;
            let has_lost = link.has_lost();
            (self.has_lost, self.has_lost_of_request) = (self.has_lost | has_lost, self.has_lost_of_request | has_lost);
            let found = self.take(byte, asker);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Keeps a request for the session.
    pub fn put_back(&mut self, request: FramedRequest) {
        self.requests.extend(request.bytes);
    }

    /// Takes the request of this number out of those that wait for the session.
    fn take_back(&mut self, number: &[u8]) -> Option<FramedRequest> {
        let requests = self.requests.make_contiguous();
        let mut at = 0;
        for bytes in requests.split_inclusive(|byte| *byte == b'\n') {
            let end = at + bytes.len();
            if bytes.get(BESIDE_START.len()..).is_some_and(|line| line.starts_with(number)) {
                let bytes = self.requests.drain(at..end).collect();
                return Some(FramedRequest { bytes, is_first: at == 0, is_damaged: false });
            }
            at = end;
        }
        None
    }

    /// Returns whether bytes of what the session gets, or of what was found, were lost since the last call.
    pub fn has_lost(&mut self) -> bool {
        core::mem::take(&mut self.has_lost)
    }

    fn take(&mut self, byte: u8, asker: Asker) -> Option<Found> {
        match (self.begun.len(), byte) {
            (0, ESC) if asker != Asker::Program => {
                self.has_lost_of_request = false;
                self.begun.push_back(byte);
            }
            (0, CANCEL) if asker != Asker::Elsewhere => {
                self.typed.clear();
                return Some(Found::End);
            }
            (0, CANCEL_BESIDE) if asker == Asker::ProgramBeside => return Some(Found::End),
            (0, _) => self.typed.push_back(byte),
            (1, _) if [BESIDE_START[1], BESIDE_START_TEXT[1]].contains(&byte) => self.begun.push_back(byte),
            (1, _) => {
                // A key of the person's.
                self.typed.append(&mut self.begun);
                return self.take(byte, asker);
            }
            (_, CANCEL | CANCEL_BESIDE) => {
                let bytes: Vec<u8> = core::mem::take(&mut self.begun).into();
                let number = &bytes[BESIDE_START.len()..];
                if !number.is_empty() && number_bytes(number) == number.len() {
                    let is_it = asker == Asker::ProgramBeside && number == self.number.as_bytes();
                    if is_it {
                        return Some(Found::End);
                    }
                    let waiting = self.take_back(number).map(Found::TakenBack);
                    let number = number.iter().map(|byte| char::from(*byte)).collect();
                    return Some(waiting.unwrap_or(Found::EndJob(number)));
                }
            }
            (_, ESC) => {
                // Another one: a person's key may have begun this.
                self.begun.clear();
                return self.take(byte, asker);
            }
            (_, b'\n') => {
                self.begun.push_back(byte);
                let bytes = core::mem::take(&mut self.begun).into();
                let is_damaged = core::mem::take(&mut self.has_lost_of_request);
                return Some(Found::Request(FramedRequest { bytes, is_first: self.requests.is_empty(), is_damaged }));
            }
            (_, _) => self.begun.push_back(byte),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line(VecDeque<u8>);

    impl ByteLink for Line {
        fn receive(&mut self) -> Option<u8> {
            self.0.pop_front()
        }
        fn is_waiting(&mut self) -> bool {
            !self.0.is_empty()
        }
        fn send(&mut self, _: &[u8]) {}
    }

    fn line(bytes: &[u8]) -> Line {
        Line(bytes.iter().copied().collect())
    }

    /// All that the session gets.
    fn rest(ahead: &mut ReadAhead, line: &mut Line) -> String {
        let bytes: Vec<u8> = core::iter::from_fn(|| ahead.receive(line)).collect();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn what_concerns_no_command_is_kept_for_the_session_byte_for_byte() {
        for asker in [Asker::Person, Asker::Program, Asker::ProgramBeside, Asker::Elsewhere] {
            let (mut ahead, mut line) = (ReadAhead::new(), line(b"list\r\x1b[A\x1b\x1bOP\x1b"));
            assert_eq!(ahead.look(&mut line, asker), None);
            line.0.extend(b"[B");
            assert_eq!(rest(&mut ahead, &mut line), "list\r\x1b[A\x1b\x1bOP\x1b[B");
        }
    }

    #[test]
    fn a_request_that_a_key_began_does_not_take_the_next_one_with_it() {
        let (mut ahead, mut line) = (ReadAhead::new(), line(b"\x1b_\rlist\r\x1b_status\n"));
        let Some(Found::Request(request)) = ahead.look(&mut line, Asker::Person) else { panic!("a request") };
        assert_eq!((request.mode(), request.line()), (Mode::Json, &b"status\n"[..]));
        assert_eq!(rest(&mut ahead, &mut line), "");
    }

    #[test]
    fn a_persons_command_ends_by_a_persons_key_and_drops_what_was_typed() {
        let (mut ahead, mut line) = (ReadAhead::new(), line(b"bench pmem0s\r\x1b_status\n\x18\x03list\r"));
        let Some(Found::Request(request)) = ahead.look(&mut line, Asker::Person) else { panic!("a request") };
        assert_eq!((request.mode(), request.line()), (Mode::Json, &b"status\n"[..]));
        ahead.put_back(request);
        assert_eq!(ahead.look(&mut line, Asker::Person), Some(Found::End));
        assert_eq!(ahead.look(&mut line, Asker::Person), None);
        assert_eq!(rest(&mut ahead, &mut line), "\x1b_status\nlist\r");
    }

    #[test]
    fn a_programs_command_beside_a_person_ends_by_its_own_byte_or_by_the_persons() {
        let (mut ahead, mut line) = (ReadAhead::new(), line(b"li\x1b^stats\n\x18st"));
        let Some(Found::Request(request)) = ahead.look(&mut line, Asker::ProgramBeside) else { panic!("a request") };
        assert_eq!((request.mode(), request.line()), (Mode::Text, &b"stats\n"[..]));
        assert_eq!(ahead.look(&mut line, Asker::ProgramBeside), Some(Found::End));
        assert_eq!(rest(&mut ahead, &mut line), "list");
        line.0.extend(b"li\x03st");
        assert_eq!(ahead.look(&mut line, Asker::ProgramBeside), Some(Found::End));
        assert_eq!(rest(&mut ahead, &mut line), "st");
    }

    #[test]
    fn a_request_that_is_not_at_its_end_goes_on_in_the_session_or_is_taken_back() {
        let (mut ahead, mut line) = (ReadAhead::new(), line(b"\x1b_power"));
        assert_eq!(ahead.look(&mut line, Asker::Person), None);
        line.0.extend(b"off\n");
        assert_eq!(rest(&mut ahead, &mut line), "\x1b_poweroff\n");
        for taken_back in [CANCEL, CANCEL_BESIDE] {
            line.0.extend([&b"\x1b_poweroff"[..], &[taken_back], b"list"].concat());
            assert_eq!(ahead.look(&mut line, Asker::Person), None);
            assert_eq!(rest(&mut ahead, &mut line), "list");
        }
    }

    #[test]
    fn a_number_that_is_taken_back_ends_the_job_that_has_it() {
        let (mut ahead, mut line) =
            (ReadAhead::new(), line(b"li\x1b_#7 \x18s\x1b^#12 \x03t\x1b_#7\x18\x1b_#8 x\x18\x1b_#9 "));
        for number in ["#7 ", "#12 "] {
            assert_eq!(ahead.look(&mut line, Asker::Person), Some(Found::EndJob(number.into())));
        }
        assert_eq!(ahead.look(&mut line, Asker::Person), None);
        line.0.extend(b"status\n");
        assert_eq!(rest(&mut ahead, &mut line), "list\x1b_#9 status\n");
        // A request that waits is taken back, and those before and behind it stay.
        line.0.extend(b"\x1b_#1 trim pmem0s 0 1\n\x1b^#2 status\n\x1b_#13 list\n");
        while let Some(Found::Request(request)) = ahead.look(&mut line, Asker::Person) {
            ahead.put_back(request);
        }
        line.0.extend(b"\x1b_#2 \x18\x1b_#3 \x18");
        let Some(Found::TakenBack(request)) = ahead.look(&mut line, Asker::Person) else { panic!("it waits") };
        assert_eq!((request.mode(), request.line()), (Mode::Text, &b"#2 status\n"[..]));
        assert_eq!(ahead.look(&mut line, Asker::Person), Some(Found::EndJob("#3 ".into())));
        assert_eq!(rest(&mut ahead, &mut line), "\x1b_#1 trim pmem0s 0 1\n\x1b_#13 list\n");
        // A command that is none ends by its number, too, and by no other's.
        ahead.begins("#3 ");
        line.0.extend(b"\x1b_#7 \x18\x1b_#3 \x18");
        assert_eq!(ahead.look(&mut line, Asker::ProgramBeside), Some(Found::EndJob("#7 ".into())));
        assert_eq!(ahead.look(&mut line, Asker::ProgramBeside), Some(Found::End));
        ahead.begins("");
        line.0.extend(b"\x1b_#3 \x18");
        assert_eq!(ahead.look(&mut line, Asker::ProgramBeside), Some(Found::EndJob("#3 ".into())));
    }

    #[test]
    fn in_a_programs_own_mode_there_are_no_requests_beside_it() {
        let (mut ahead, mut line) = (ReadAhead::new(), line(b"\x1b_status\n\x03"));
        assert_eq!(ahead.look(&mut line, Asker::Program), Some(Found::End));
        assert_eq!(rest(&mut ahead, &mut line), "");
    }

    #[test]
    fn what_another_link_asked_for_goes_on_and_what_only_looks_is_found() {
        let (mut ahead, mut line) = (ReadAhead::new(), line(b"li\x03\x18st\x1b_status\n"));
        let Some(Found::Request(request)) = ahead.look(&mut line, Asker::Elsewhere) else { panic!("a request") };
        assert_eq!((request.mode(), request.line()), (Mode::Json, &b"status\n"[..]));
        assert_eq!(rest(&mut ahead, &mut line), "li\x03\x18st");
    }

    #[test]
    fn bytes_that_were_lost_spoil_their_own_request_and_the_sessions_next_line() {
        struct Lossy(Line);

        impl ByteLink for Lossy {
            fn receive(&mut self) -> Option<u8> {
                self.0.receive()
            }
            fn is_waiting(&mut self) -> bool {
                self.0.is_waiting()
            }
            fn has_lost(&mut self) -> bool {
                // One is missing before each of these.
                self.0.0.front() == Some(&b'?')
            }
            fn send(&mut self, _: &[u8]) {}
        }

        let (mut ahead, mut line) =
            (ReadAhead::new(), Lossy(line(b"a?\x1b_#1 status\n\x1b_#2 s?tatus\n\x1b_#3 status\n")));
        let found: Vec<_> = core::iter::from_fn(|| match ahead.look(&mut line, Asker::Person) {
            Some(Found::Request(request)) => Some(request.is_damaged()),
            _ => None,
        })
        .collect();
        assert_eq!(found, [false, true, false]);
        assert!(ahead.has_lost() && !ahead.has_lost());
    }

    #[test]
    fn a_flood_is_left_on_the_link() {
        let (mut ahead, mut line) = (ReadAhead::new(), Line(core::iter::repeat_n(b'x', 2 * BYTES_MAX).collect()));
        for _ in 0..2 * BYTES_MAX / BYTES_A_LOOK {
            assert_eq!(ahead.look(&mut line, Asker::Person), None);
        }
        assert_eq!(line.0.len(), BYTES_MAX);
    }
}
