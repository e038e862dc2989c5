//! A reply that is longer than the screen, a page at a time.

use alloc::string::String;
use core::fmt::Write as _;

use super::keys::Key;
use super::output::Output;
use super::screen::Size;
use crate::link::ByteLink;

/// Stands below a page, and waits for a key. The command is done by then: a program that asks beside the person is served.
pub const MORE: &str = "--More-- (space, enter, q)";

/// The rest of a reply.
#[derive(Debug)]
pub(super) struct Pager {
    text: String,
    /// How much of it is shown.
    shown: usize,
    size: Size,
}

/// Rows that a line takes.
fn rows_of(line: &str, columns: usize) -> usize {
    line.chars().count().div_ceil(columns).max(1)
}

impl Pager {
    /// A pager, if the reply does not fit the screen with the prompt below it.
    pub(super) fn new(text: String, size: Size) -> Result<Self, String> {
        let rows: usize = text.lines().map(|line| rows_of(line, size.columns)).sum();
        match rows >= size.rows {
            true => Ok(Self { text, shown: 0, size }),
            false => Err(text),
        }
    }

    /// Shows the next page. Returns whether that was the last.
    pub(super) fn page<L: ByteLink + ?Sized>(&mut self, link: &mut L) -> bool {
        self.show(self.size.rows - 1, link)
    }

    /// A key below a page. Returns whether the reply has been seen.
    pub(super) fn press<L: ByteLink + ?Sized>(&mut self, key: Key, link: &mut L) -> bool {
        match key {
            Key::Text(' ' | 'f') => self.page(link),
            Key::Enter | Key::Down | Key::Text('j') => self.show(1, link),
            Key::Text('q' | 'Q') | Key::Cancel | Key::EndOfFile => {
                link.send(b"\r\x1b[K");
                true
            }
            _ => false,
        }
    }

    /// Shows lines of this many rows together, at least one.
    fn show<L: ByteLink + ?Sized>(&mut self, rows: usize, link: &mut L) -> bool {
        let rest = &self.text[self.shown..];
        let (mut end, mut left) = (0, rows);
        for line in rest.split_inclusive('\n') {
            let needed = rows_of(line.trim_end_matches('\n'), self.size.columns);
            if needed > left && end > 0 {
                break;
            }
            (end, left) = (end + line.len(), left.saturating_sub(needed));
        }
        let mut out = Output::terminal(link);
        // A link takes all that is written.
        let _ = write!(out, "\r\x1b[K{}", &rest[..end]);
        self.shown += end;
        let is_last = self.shown == self.text.len();
        if !is_last {
            let _ = out.write_str(MORE);
        }
        is_last
    }
}
