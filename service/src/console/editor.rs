//! The line that a person is writing, and how it looks on a VT100.
//!
//! The line is shown in one row, however wide the terminal is; a longer one scrolls within it. Every character counts as one
//! column. ^R looks for an older line: its row shows what is looked for, and what is found.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use super::history::History;
use super::keys::Key;
use super::output::Output;
use super::screen::{Screen, Size};
use crate::admin::line::LINE_BYTES_MAX;
use crate::link::ByteLink;

/// The prompt. Scripts wait for it: before it, a console takes no line.
pub const PROMPT: &str = "untorn> ";

/// The longest text that is looked for, bytes.
const SEARCH_BYTES_MAX: usize = 64;

/// ^G, which ends a look for an older line without it.
const BELL: u8 = 0x07;

/// A line that was entered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// Text.
    Line(String),
    /// A line with a byte that is neither text nor a key, in that column.
    Binary { byte: u8, column: usize },
    /// A line that is longer than [`LINE_BYTES_MAX`].
    TooLong,
}

/// The line and its history.
#[derive(Debug, Default)]
pub(super) struct Editor {
    line: Vec<char>,
    /// Bytes of the line in UTF-8.
    bytes: usize,
    /// Characters before the cursor; at most all.
    cursor: usize,
    /// The first character shown.
    first: usize,
    /// The first byte that was neither text nor a key.
    binary: Option<(u8, usize)>,
    /// Whether something was dropped at the line's limit.
    too_long: bool,
    history: History,
    search: Option<Search>,
    screen: Screen,
}

/// A look for an older line.
#[derive(Debug, Default)]
struct Search {
    /// What it has.
    text: String,
    /// How far back it is in history.
    back: usize,
    /// It: empty before anything is found.
    found: String,
    /// Whether the text was not found.
    failed: bool,
}

/// The keys that only a terminal sends, so that it can be asked for its size.
const fn is_of_terminal(key: Key) -> bool {
    matches!(key, Key::Left | Key::Right | Key::Up | Key::Down | Key::Search | Key::Tab | Key::Redraw | Key::Backspace)
}

impl Editor {
    /// The lines that were entered.
    pub(super) const fn history(&mut self) -> &mut History {
        &mut self.history
    }

    /// Shows the prompt, and the line if there is one.
    pub(super) fn prompt<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        if self.search.is_some() {
            return self.redraw_search(link);
        }
        link.send(PROMPT.as_bytes());
        if !self.line.is_empty() {
            self.redraw(link);
        }
    }

    /// The size of the terminal, if it has told it.
    pub(super) const fn size(&self) -> Option<Size> {
        self.screen.size()
    }

    /// Columns of a row that can be written without a wrap.
    pub(super) fn row_columns(&self) -> usize {
        self.screen.columns()
    }

    /// Whether nothing is written in the line.
    pub(super) const fn is_empty(&self) -> bool {
        self.line.is_empty() && self.search.is_none()
    }

    /// Ends a look for an older line, if there is one: the line that was found is the one that is edited now.
    pub(super) fn end_search<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        let Some(search) = self.search.take() else { return };
        if !search.found.is_empty() {
            self.show(Some(search.found));
        }
        link.send(b"\r\x1b[K");
        self.prompt(link);
    }

    /// Takes a key while an older line is looked for. Returns it back if it ends that.
    fn press_in_search<L: ByteLink + ?Sized>(&mut self, key: Key, link: &mut L) -> Option<Key> {
        let search = self.search.as_mut()?;
        let from = match key {
            Key::Text(text) if search.text.len() < SEARCH_BYTES_MAX => {
                search.text.push(text);
                search.back
            }
            Key::Text(_) => search.back,
            Key::Search => search.back + usize::from(!search.failed && !search.found.is_empty()),
            Key::Backspace => {
                search.text.pop();
                0
            }
            Key::Cancel | Key::Binary(BELL) => {
                search.found.clear();
                self.end_search(link);
                return None;
            }
            other => {
                self.end_search(link);
                return Some(other);
            }
        };
        let found = Some(search.text.as_str()).filter(|text| !text.is_empty());
        let found = found.and_then(|text| self.history.find(text, from));
        search.failed = found.is_none() && !search.text.is_empty();
        if let Some((back, line)) = found {
            (search.back, search.found) = (back, line.into());
        }
        self.redraw_search(link);
        None
    }

    fn redraw_search<L: ByteLink + ?Sized>(&self, link: &mut L) {
        let Some(search) = &self.search else { return };
        let how = if search.failed { "not found" } else { "search" };
        let row = format!("({how}) {}: {}", search.text, search.found);
        let row: String = row.chars().take(self.screen.columns()).collect();
        // A link takes all that is written.
        let _ = write!(Output::terminal(link), "\r\x1b[K{row}");
    }

    /// Takes a key other than Enter and Tab, and shows what it does.
    pub(super) fn press<L: ByteLink + ?Sized>(&mut self, key: Key, link: &mut L) {
        if let Key::Size { rows, columns, told } = key {
            if self.screen.report(rows, columns, told) && !self.is_empty() {
                match self.search {
                    Some(_) => self.redraw_search(link),
                    None => self.redraw(link),
                }
            }
            return;
        }
        if is_of_terminal(key) {
            self.screen.ask(link);
        }
        if self.search.is_some() && self.press_in_search(key, link).is_none() {
            return;
        }
        match key {
            Key::Text(text) => return self.insert(text, link),
            Key::Backspace => self.delete(self.cursor.saturating_sub(1)..self.cursor),
            Key::Delete | Key::EndOfFile => {
                self.delete(self.cursor..self.cursor.saturating_add(1).min(self.line.len()))
            }
            Key::KillToEnd => self.delete(self.cursor..self.line.len()),
            Key::KillToStart => self.delete(0..self.cursor),
            Key::KillWord => self.delete(self.word_start()..self.cursor),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = self.cursor.saturating_add(1).min(self.line.len()),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => {
                let shown: String = self.line.iter().collect();
                let older = self.history.older(&shown).map(String::from);
                self.show(older);
            }
            Key::Down => {
                let newer = self.history.newer().map(String::from);
                self.show(newer);
            }
            Key::Redraw => {
                link.send(b"\x1b[H\x1b[2J");
                link.send(PROMPT.as_bytes());
            }
            Key::Search => {
                self.search = Some(Search::default());
                return self.redraw_search(link);
            }
            Key::Cancel => {
                self.clear();
                self.screen.line_begins();
                self.history.leave();
                link.send(b"\r\n");
                link.send(PROMPT.as_bytes());
                return;
            }
            Key::Binary(byte) => {
                self.binary.get_or_insert((byte, self.cursor + 1));
                return;
            }
            Key::Enter | Key::Tab | Key::Beside(_) | Key::Size { .. } => return,
        }
        self.redraw(link);
    }

    /// Ends the line: shows that, and hands it over.
    pub(super) fn enter<L: ByteLink + ?Sized>(&mut self, link: &mut L) -> Entered {
        self.end_search(link);
        link.send(b"\r\n");
        self.screen.line_begins();
        let line: String = self.line.iter().collect();
        let entered = match (self.binary, self.too_long) {
            (Some((byte, column)), _) => Entered::Binary { byte, column },
            (None, true) => Entered::TooLong,
            (None, false) => Entered::Line(line.clone()),
        };
        self.history.add(&line);
        self.clear();
        entered
    }

    /// The text before the cursor.
    pub(super) fn before_cursor(&self) -> String {
        self.line.iter().take(self.cursor).collect()
    }

    /// Inserts text at the cursor, and shows it.
    pub(super) fn insert_all<L: ByteLink + ?Sized>(&mut self, text: &str, link: &mut L) {
        for next in text.chars() {
            self.insert(next, link);
        }
    }

    /// Draws the line anew after its prompt, wherever in the row the terminal's cursor is.
    pub(super) fn redraw<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        let columns = self.columns();
        if self.line.len() < columns {
            // It fits: it may not have, before the terminal told its size.
            self.first = 0;
        }
        if self.cursor < self.first || self.cursor >= self.first + columns {
            // Half a row from its edge, so that writing on does not scroll at each character.
            self.first = self.cursor.saturating_sub(columns / 2);
        }
        let mut out = Output::terminal(link);
        let shown: String = self.line.iter().skip(self.first).take(columns).collect();
        // A link takes all that is written.
        let _ = write!(out, "\r\x1b[{}C{shown}\x1b[K\r\x1b[{}C", PROMPT.len(), PROMPT.len() + self.cursor - self.first);
    }

    /// Columns for the line.
    fn columns(&self) -> usize {
        self.screen.columns() - PROMPT.len()
    }

    fn insert<L: ByteLink + ?Sized>(&mut self, text: char, link: &mut L) {
        if self.bytes + text.len_utf8() > LINE_BYTES_MAX {
            self.too_long = true;
            return;
        }
        self.line.insert(self.cursor, text);
        self.bytes += text.len_utf8();
        self.cursor += 1;
        if self.cursor == self.line.len() && self.cursor < self.first + self.columns() {
            link.send(text.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            self.redraw(link);
        }
        self.screen.line_ends_at(PROMPT.len() + self.line.len(), link);
    }

    fn delete(&mut self, range: core::ops::Range<usize>) {
        self.cursor = range.start;
        self.bytes -= self.line.drain(range).map(char::len_utf8).sum::<usize>();
        if self.line.is_empty() {
            // The faulty input is gone.
            self.clear();
        }
    }

    /// Where the word before the cursor starts.
    fn word_start(&self) -> usize {
        let before = &self.line[..self.cursor];
        let word_end = before.iter().rposition(|text| *text != ' ').map_or(0, |last| last + 1);
        before[..word_end].iter().rposition(|text| *text == ' ').map_or(0, |blank| blank + 1)
    }

    /// Replaces the line by one from history, if there is one.
    fn show(&mut self, line: Option<String>) {
        if let Some(line) = line {
            self.clear();
            self.bytes = line.len();
            self.line = line.chars().collect();
            self.cursor = self.line.len();
        }
    }

    fn clear(&mut self) {
        self.line = Vec::new();
        (self.bytes, self.cursor, self.first) = (0, 0, 0);
        (self.binary, self.too_long) = (None, false);
    }
}
