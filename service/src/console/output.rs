//! Text on its way to a link.

use core::fmt;

use crate::link::ByteLink;

/// Writes text to a link; on a terminal, a line's end is CR LF.
pub(super) struct Output<'a, L: ?Sized> {
    link: &'a mut L,
    terminal: bool,
}

impl<'a, L: ByteLink + ?Sized> Output<'a, L> {
    /// For people at a terminal.
    pub(super) const fn terminal(link: &'a mut L) -> Self {
        Self { link, terminal: true }
    }

    /// For programs: bytes as they are.
    pub(super) const fn plain(link: &'a mut L) -> Self {
        Self { link, terminal: false }
    }
}

impl<L: ByteLink + ?Sized> fmt::Write for Output<'_, L> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.terminal {
            self.link.send(text.as_bytes());
            return Ok(());
        }
        for line in text.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => {
                    self.link.send(line.as_bytes());
                    self.link.send(b"\r\n");
                }
                None => self.link.send(line.as_bytes()),
            }
        }
        Ok(())
    }
}
