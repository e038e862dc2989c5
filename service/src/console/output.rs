//! Text on its way to a link.

use alloc::string::String;
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

/// The most of a reply that is kept for a pager. A longer one goes on to the terminal as it comes.
const COLLECTED_BYTES_MAX: usize = 256 << 10;

/// Keeps a reply, if it is not too long.
pub(super) struct Collected<'a, L: ?Sized> {
    text: Option<String>,
    link: &'a mut L,
}

impl<'a, L: ByteLink + ?Sized> Collected<'a, L> {
    /// Nothing is kept yet.
    pub(super) const fn new(link: &'a mut L) -> Self {
        Self { text: Some(String::new()), link }
    }

    /// What was kept. `None`: it was too long, and all of it is sent.
    pub(super) fn end(self) -> Option<String> {
        self.text
    }
}

impl<L: ByteLink + ?Sized> fmt::Write for Collected<'_, L> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(kept) = self.text.as_mut().filter(|kept| kept.len() + text.len() <= COLLECTED_BYTES_MAX) {
            kept.push_str(text);
            return Ok(());
        }
        let mut out = Output::terminal(self.link);
        if let Some(kept) = self.text.take() {
            out.write_str(&kept)?;
        }
        out.write_str(text)
    }
}

/// The text with its long lines broken between words, where they have blanks.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    let mut fitted = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some((end, next)) = rest.trim_end_matches('\n').char_indices().nth(columns) {
            // The blank may stand just behind the last column. What is before the first word stays with it.
            let begin = rest.len() - rest.trim_start().len();
            let Some(blank) = rest[..end + next.len_utf8()].rfind(' ').filter(|blank| *blank > begin) else { break };
            fitted.push_str(rest[..blank].trim_end());
            fitted.push('\n');
            rest = rest[blank..].trim_start_matches(' ');
        }
        fitted.push_str(rest);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::fitted;

    #[test]
    fn long_lines_are_broken_between_words() {
        for (text, columns, fits) in [
            ("short\nlines\n", 5, "short\nlines\n"),
            ("two words\n", 5, "two\nwords\n"),
            ("two words\n", 3, "two\nwords\n"),
            ("  in and out\n", 6, "  in\nand\nout\n"),
            ("tooLongToBreak it\n", 4, "tooLongToBreak it\n"),
            ("a   b", 2, "a\nb"),
            ("\u{e9}\u{e9}\u{e9} \u{e9}\u{e9}\n\n", 4, "\u{e9}\u{e9}\u{e9}\n\u{e9}\u{e9}\n\n"),
        ] {
            assert_eq!(fitted(text, columns), fits, "{text:?}");
        }
    }
}
