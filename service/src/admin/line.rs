//! The request lines of a program, out of the bytes of its stream: one rule for the serial port and for sockets.
//!
//! - A line is what ends in LF. A CR directly before the LF belongs to the end.
//! - What comes before the end of the stream without an LF is no line: its sender was cut off.
//! - A line may begin with `#`, a number and a blank ([`number_bytes`]): so its reply is known (`admin::object`).
//! - A line over [`LINE_BYTES_MAX`], its number not counted, and one with a byte that is not text (a control character other
//!   than TAB, or no UTF-8), is one error. Nothing of it is a command, and the next line begins after its LF.
//!
//! A person's keys are `service::console`'s: there Enter is CR, and ^C takes the line back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::words;
use crate::error::AdminError;

/// The longest request line, bytes, its number and its end not counted.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The longest number of a line, with its mark and its blank.
const NUMBER_BYTES_MAX: usize = 12;

/// The line that is being received.
#[derive(Debug, Default)]
pub struct LineBuffer {
    /// At most a line and its CR.
    bytes: Vec<u8>,
    /// Whether bytes were dropped at the limit.
    too_long: bool,
}

impl LineBuffer {
    /// Takes the next byte; returns the line that it ends.
    ///
    /// # Errors
    /// `Some` at the end of a line; the result is an error if the line is no text, or too long.
    pub fn push(&mut self, byte: u8) -> Option<Result<String, AdminError>> {
        if byte == b'\n' {
            return Some(self.end());
        }
        if self.bytes.len() <= LINE_BYTES_MAX + NUMBER_BYTES_MAX {
            self.bytes.push(byte);
        } else {
            self.too_long = true;
        }
        None
    }

    /// Whether the buffer holds no byte of a line.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The number of the line, with its mark and its blank, if that is all of the line so far.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        let is_all = !self.bytes.is_empty() && number_bytes(&self.bytes) == self.bytes.len();
        str::from_utf8(&self.bytes).ok().filter(|_| is_all)
    }

    /// Drops the bytes of the line so far.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn end(&mut self) -> Result<String, AdminError> {
        let Self { bytes, too_long } = core::mem::take(self);
        let line = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        if too_long || line.len() - number_bytes(line) > LINE_BYTES_MAX {
            return Err(too_long_error());
        }
        words::text(line).map(String::from)
    }
}

/// The bytes of a line's number, with its mark `#` and its blank: 0 if it has none.
#[must_use]
pub fn number_bytes(line: &[u8]) -> usize {
    let begin = &line[..line.len().min(NUMBER_BYTES_MAX)];
    match begin.iter().position(|byte| *byte == b' ') {
        Some(blank @ 2..) if begin[0] == b'#' && begin[1..blank].iter().all(u8::is_ascii_digit) => blank + 1,
        _ => 0,
    }
}

/// Checks that a text may be sent as one request line: `line` without its end.
///
/// # Errors
/// As [`LineBuffer::push`]; a line break counts as a byte that is not text.
pub fn check(line: &str) -> Result<(), AdminError> {
    if line.len() > LINE_BYTES_MAX {
        return Err(too_long_error());
    }
    words::text(line.as_bytes()).map(|_| ())
}

/// The error for a line over [`LINE_BYTES_MAX`].
#[must_use]
pub fn too_long_error() -> AdminError {
    AdminError::too_long(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::error::ErrorCode;

    type Line = Result<String, ErrorCode>;

    /// The lines, and whether something without an end is left.
    fn lines(bytes: &[u8]) -> (Vec<Line>, bool) {
        let mut buffer = LineBuffer::default();
        let lines = bytes.iter().filter_map(|byte| buffer.push(*byte)).map(|line| line.map_err(|error| error.code));
        let lines = lines.collect();
        (lines, !buffer.is_empty())
    }

    #[test]
    fn a_line_is_what_ends_in_lf() {
        let line = |text: &str| Ok(String::from(text));
        #[rustfmt::skip]
        let cases: [(&[u8], Vec<Line>, bool); 9] = [
            (b"status\n",            vec![line("status")],                     false),
            (b"status\r\n",          vec![line("status")],                     false),
            (b"\n\r\n",              vec![line(""), line("")],                 false),
            (b"a\nb",                vec![line("a")],                          true),
            (b"status\r",            vec![],                                   true),
            (b"a\rb\nc\n",           vec![Err(ErrorCode::Usage), line("c")],   false),
            (b"a\r\r\n",             vec![Err(ErrorCode::Usage)],              false),
            (b"a\x00\nb\n",          vec![Err(ErrorCode::Usage), line("b")],   false),
            (b"status \xff\nb\n",    vec![Err(ErrorCode::Usage), line("b")],   false),
        ];
        for (bytes, expected, rest) in cases {
            assert_eq!(lines(bytes), (expected, rest), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error_and_keeps_no_memory() {
        for end in [&b"\n"[..], b"\r\n"] {
            let fits = [&vec![b'x'; LINE_BYTES_MAX], end].concat();
            assert!(matches!(&lines(&fits).0[..], [Ok(line)] if line.len() == LINE_BYTES_MAX));
            let numbered = [&b"#4294967295 "[..], &fits].concat();
            assert!(matches!(&lines(&numbered).0[..], [Ok(line)] if line.len() == LINE_BYTES_MAX + NUMBER_BYTES_MAX));
            for more in [1, 2, 100, 1 << 20] {
                let long = vec![b'x'; LINE_BYTES_MAX + more];
                let bytes = [&long, b"write pmem0s 0 --fill 1".as_slice(), end, b"a\n"].concat();
                assert_eq!(lines(&bytes).0, [Err(ErrorCode::TooLong), Ok("a".into())], "{more}");
            }
        }
        let mut buffer = LineBuffer::default();
        assert!((0..1 << 20).all(|_| buffer.push(b'x').is_none()));
        assert!(buffer.bytes.len() <= LINE_BYTES_MAX + NUMBER_BYTES_MAX + 1);
    }

    #[test]
    fn what_is_sent_is_one_line_of_text() {
        assert!(check("list -N").is_ok());
        for bad in ["a\nb", "a\rb", "a\0"] {
            assert_eq!(check(bad).map_err(|error| error.code), Err(ErrorCode::Usage), "{bad:?}");
        }
        assert_eq!(check(&"x".repeat(LINE_BYTES_MAX + 1)).map_err(|error| error.code), Err(ErrorCode::TooLong));
    }
}
