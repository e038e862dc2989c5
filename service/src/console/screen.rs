//! How large a person's terminal is.
//!
//! Nobody tells a serial line that. So a line that may not fit asks the terminal, once a line: the cursor goes as far down and
//! right as it can, and the terminal reports its place (ECMA-48's CPR). A program that types at a console does not answer, and
//! is not waited for. Until there is an answer a line has [`COLUMNS_UNKNOWN`], and nothing waits for a key at a screen's end.
//! A program that knows the size (`untornctl console`) tells it, too: xterm's report, CSI 8 ; rows ; columns t.

use crate::link::ByteLink;

/// Columns that every terminal has.
const COLUMNS_UNKNOWN: usize = 40;

/// A line that gets this long asks: there is room for what is typed until the answer comes.
const ASK_AT_COLUMN: usize = 32;

/// What asks: save the cursor, go to the corner, report, come back.
pub const ASK: &[u8] = b"\x1b7\x1b[999;999H\x1b[6n\x1b8";

/// The sizes that are believed. Less is no screen but another key's bytes.
const ROWS: core::ops::RangeInclusive<u16> = 4..=1000;
const COLUMNS: core::ops::RangeInclusive<u16> = 20..=1000;

/// Rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// What is known of the terminal.
#[derive(Debug, Default)]
pub(super) struct Screen {
    size: Option<Size>,
    /// Whether it was asked since the line began.
    asked: bool,
    /// Whether an answer is still to come.
    awaits: bool,
}

impl Screen {
    /// Its size, if it was told.
    pub(super) const fn size(&self) -> Option<Size> {
        self.size
    }

    /// Columns that can be written without a wrap.
    pub(super) fn columns(&self) -> usize {
        // One stays free, since a terminal wraps when its last one is written.
        self.size.map_or(COLUMNS_UNKNOWN, |size| size.columns) - 1
    }

    /// A new line begins.
    pub(super) const fn line_begins(&mut self) {
        self.asked = false;
    }

    /// The line ends in this column. Asks if that is far to the right.
    pub(super) fn line_ends_at<L: ByteLink + ?Sized>(&mut self, column: usize, link: &mut L) {
        if column >= ASK_AT_COLUMN {
            self.ask(link);
        }
    }

    /// Asks, unless it was asked in this line.
    pub(super) fn ask<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        if !self.asked {
            (self.asked, self.awaits) = (true, true);
            link.send(ASK);
        }
    }

    /// A report came, `told` without being asked for. Returns whether the size is another one now.
    pub(super) fn report(&mut self, rows: u16, columns: u16, told: bool) -> bool {
        if !(told || self.awaits) || !ROWS.contains(&rows) || !COLUMNS.contains(&columns) {
            return false;
        }
        self.awaits &= told;
        let size = Some(Size { rows: rows.into(), columns: columns.into() });
        core::mem::replace(&mut self.size, size) != size
    }
}
