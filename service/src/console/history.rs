//! Lines that were entered before.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::secrets;

/// How many lines are kept.
pub(super) const LINES_MAX: usize = 64;

/// Longer lines are not kept, bytes: a history of pasted sectors would eat the heap.
const LINE_BYTES_MAX: usize = 4 << 10;

/// The newest lines, and where among them one is looking.
#[derive(Debug, Default)]
pub(super) struct History {
    lines: VecDeque<String>,
    /// How far back one is looking; 0 is the line being written.
    back: usize,
    /// The line being written, kept while one looks back.
    draft: String,
    /// Whether a line was added since that was asked.
    is_new: bool,
}

impl History {
    /// Keeps a line, unless it is blank, long, or the newest one again, or has a secret. Ends looking back.
    pub(super) fn add(&mut self, line: &str) {
        self.leave();
        let again = self.lines.back().is_some_and(|newest| newest == line);
        if again || line.trim().is_empty() || line.len() > LINE_BYTES_MAX || secrets::is_in(line) {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.into());
        self.is_new = true;
    }

    /// Takes lines that were entered before, oldest first.
    pub(super) fn remember(&mut self, lines: Vec<String>) {
        lines.iter().for_each(|line| self.add(line));
        self.is_new = false;
    }

    /// All lines, oldest first, if one was added since the last call.
    pub(super) fn new_lines(&mut self) -> Option<Vec<String>> {
        core::mem::take(&mut self.is_new).then(|| self.lines.iter().cloned().collect())
    }

    /// Returns the newest line with this text, `back` lines from the newest one or further, and how far back it is.
    pub(super) fn find(&self, text: &str, back: usize) -> Option<(usize, &str)> {
        let mut lines = self.lines.iter().rev().enumerate().skip(back);
        lines.find(|(_, line)| line.contains(text)).map(|(back, line)| (back, line.as_str()))
    }

    /// Ends looking back.
    pub(super) fn leave(&mut self) {
        self.back = 0;
        self.draft = String::new();
    }

    /// The line before the one that is shown, if there is one.
    pub(super) fn older(&mut self, shown: &str) -> Option<&str> {
        let back = self.back + 1;
        let index = self.lines.len().checked_sub(back)?;
        if self.back == 0 {
            self.draft = shown.into();
        }
        self.back = back;
        self.lines.get(index).map(String::as_str)
    }

    /// The line after the one that is shown, if one is looking back.
    pub(super) fn newer(&mut self) -> Option<&str> {
        self.back = self.back.checked_sub(1)?;
        match self.lines.len().checked_sub(self.back) {
            Some(index) if self.back > 0 => self.lines.get(index).map(String::as_str),
            _ => Some(&self.draft),
        }
    }
}
