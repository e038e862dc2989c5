//! A peer, a machine and a terminal to test sessions with.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::num::NonZeroU16;

use service::console::{Activity, Session};
use service::link::ByteLink;
use service::mock::FakeAppliance;

/// Two queues.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) input: VecDeque<u8>,
    pub(crate) output: Vec<u8>,
    /// Bytes were lost since the session asked.
    pub(crate) lost: bool,
}

impl ByteLink for Queues {
    fn receive(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    fn is_waiting(&mut self) -> bool {
        !self.input.is_empty()
    }

    fn has_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }
}

/// A session with its link and its machine.
pub(crate) struct Terminal {
    pub(crate) session: Session,
    pub(crate) link: Queues,
    pub(crate) machine: FakeAppliance,
    pub(crate) last: Activity,
}

impl Default for Terminal {
    fn default() -> Self {
        let mut bench = Self {
            session: Session::new(),
            link: Queues::default(),
            machine: FakeAppliance::default(),
            last: Activity::Idle,
        };
        bench.session.start(&mut bench.link);
        bench
    }
}

impl Terminal {
    /// A session in a mode for programs; what it said on the way there is forgotten.
    pub(crate) fn in_mode(mode: &str) -> Self {
        let mut bench = Self::default();
        bench.say(format!("mode {mode}\n").as_bytes());
        bench
    }

    /// Sends bytes and takes all that comes back, until the session is idle or stops.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> String {
        self.link.input.extend(bytes);
        // Every poll takes at least a byte, or carries out a command of at least one of a line before.
        for _ in 0..=2 * bytes.len() + 1000 {
            self.last = self.session.poll(&mut self.link, &mut self.machine);
            if self.last != Activity::Busy {
                break;
            }
        }
        assert!(self.last != Activity::Busy, "the session stalled");
        String::from_utf8(std::mem::take(&mut self.link.output)).expect("replies are UTF-8")
    }
}

/// A person at a terminal of this size, which answers when it is asked for it, or does not.
pub(crate) struct Person {
    pub(crate) terminal: Terminal,
    screen: vt100::Parser,
    answers: bool,
}

impl Person {
    pub(crate) fn new(rows: u16, columns: u16) -> Self {
        let [height, width] = [rows, columns].map(|it| NonZeroU16::new(it).expect("a size"));
        let screen = vt100::Parser::new(height, width, 0);
        let mut person = Self { terminal: Terminal::default(), screen, answers: true };
        person.types(b"");
        person
    }

    /// At a terminal that tells nothing.
    pub(crate) fn at_dumb(rows: u16, columns: u16) -> Self {
        Self { answers: false, ..Self::new(rows, columns) }
    }

    /// At a terminal whose size a program has told.
    pub(crate) fn told(rows: u16, columns: u16) -> Self {
        let mut person = Self::at_dumb(rows, columns);
        person.types(format!("\x1b[8;{rows};{columns}t").as_bytes());
        person
    }

    /// Presses keys. Returns what the appliance sent.
    pub(crate) fn types(&mut self, bytes: &[u8]) -> String {
        let mut all = self.terminal.say(bytes);
        self.shows(&all.clone(), &mut all);
        all
    }

    /// Presses keys one after the other: each is seen before the next.
    pub(crate) fn types_slowly(&mut self, bytes: &[u8]) {
        for key in bytes {
            self.types(&[*key]);
        }
    }

    /// A log line comes.
    pub(crate) fn log(&mut self, line: &str) {
        self.terminal.session.log("", line, &mut self.terminal.link);
        self.types(b"");
    }

    fn shows(&mut self, output: &str, all: &mut String) {
        const REPORT: &str = "\x1b[6n";
        match output.split_once(REPORT) {
            Some((before, after)) => {
                self.screen.process(before.as_bytes());
                let (row, column) = self.screen.screen().cursor_position();
                self.shows(after, all);
                if self.answers {
                    let more = self.terminal.say(format!("\x1b[{};{}R", row + 1, column + 1).as_bytes());
                    *all += &more;
                    self.shows(&more, all);
                }
            }
            None => self.screen.process(output.as_bytes()),
        }
    }

    /// The rows on the screen, without the blank ones at its end.
    pub(crate) fn rows(&self) -> Vec<String> {
        let (_, columns) = self.screen.screen().size();
        let rows = self.screen.screen().rows(0, columns.get()).map(|row| row.trim_end().to_owned());
        let mut rows: Vec<String> = rows.collect();
        while rows.pop_if(|row| row.is_empty()).is_some() {}
        rows
    }

    /// The row with the cursor, without blanks at its end.
    pub(crate) fn row(&self) -> String {
        let (_, columns) = self.screen.screen().size();
        let (row, _) = self.screen.screen().cursor_position();
        self.screen.screen().rows(0, columns.get()).nth(row.into()).expect("a row").trim_end().into()
    }

    /// The cursor's column.
    pub(crate) fn column(&self) -> usize {
        self.screen.screen().cursor_position().1.into()
    }
}
