//! A peer, a machine and a terminal to test sessions with.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;

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
        // Every poll takes at least a byte, so this many are enough.
        for _ in 0..=bytes.len() {
            self.last = self.session.poll(&mut self.link, &mut self.machine);
            if self.last != Activity::Busy {
                break;
            }
        }
        assert!(self.last != Activity::Busy, "the session stalled");
        String::from_utf8(std::mem::take(&mut self.link.output)).expect("replies are UTF-8")
    }
}

/// What a person sees: a VT100's screen as far as the console uses it.
#[derive(Default)]
pub(crate) struct Screen {
    pub(crate) rows: Vec<Vec<char>>,
    pub(crate) column: usize,
}

impl Screen {
    pub(crate) fn show(&mut self, output: &str) {
        let mut chars = output.chars();
        while let Some(next) = chars.next() {
            if self.rows.is_empty() {
                self.rows.push(Vec::new());
            }
            match next {
                '\r' => self.column = 0,
                '\n' => self.rows.push(Vec::new()),
                '\x1b' => self.escape(&mut chars),
                _ => {
                    let row = self.rows.last_mut().expect("a row");
                    row.resize(row.len().max(self.column + 1), ' ');
                    row[self.column] = next;
                    self.column += 1;
                    // Replies may be wider than the terminal; the line that is edited may not.
                    let edited = row.starts_with(&['u', 'n', 't', 'o', 'r', 'n', '>', ' ']);
                    assert!(!edited || self.column < 80, "the line wraps");
                }
            }
        }
    }

    fn escape(&mut self, chars: &mut std::str::Chars<'_>) {
        assert_eq!(chars.next(), Some('['), "only CSI sequences are used");
        let mut parameter = String::new();
        for next in chars {
            match next {
                '0'..='9' => parameter.push(next),
                'C' => return self.column += parameter.parse::<usize>().expect("a number"),
                'K' => return self.rows.last_mut().expect("a row").truncate(self.column),
                'H' => {
                    self.column = 0;
                    return;
                }
                'J' => return self.rows = vec![Vec::new()],
                other => panic!("unexpected final byte {other}"),
            }
        }
    }

    /// The last row, without blanks at its end.
    pub(crate) fn row(&self) -> String {
        let row: String = self.rows.last().expect("a row").iter().collect();
        row.trim_end().into()
    }
}
