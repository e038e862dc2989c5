//! Bytes from a terminal become keys: UTF-8 text, control characters, VT100 escape sequences.
//!
//! Every byte belongs to exactly one key, an ignored escape sequence, or is reported as [`Key::Binary`]; nothing waits
//! for time to pass, and a line's end is a key whatever came before it.

use crate::admin::Mode;
use crate::admin::words::is_text;

/// A key that a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A character of the line.
    Text(char),
    /// The line is complete.
    Enter,
    /// Complete the word.
    Tab,
    /// Delete before the cursor.
    Backspace,
    /// Delete under the cursor.
    Delete,
    /// One to the left.
    Left,
    /// One to the right.
    Right,
    /// To the start.
    Home,
    /// To the end.
    End,
    /// An older line.
    Up,
    /// A newer line.
    Down,
    /// Delete to the end.
    KillToEnd,
    /// Delete to the start.
    KillToStart,
    /// Delete the word before the cursor.
    KillWord,
    /// Clear the screen and draw the line again.
    Redraw,
    /// Forget the line.
    Cancel,
    /// Nothing more is to come, if the line is empty; else delete under the cursor.
    EndOfFile,
    /// Look for an older line.
    Search,
    /// The terminal has this many rows and columns, which it was asked for, or has told.
    Size { rows: u16, columns: u16, told: bool },
    /// A program's request begins, for a reply in that mode.
    Beside(Mode),
    /// A byte that is neither text nor a key.
    Binary(u8),
}

/// The longest escape sequence that is waited for, bytes after ESC.
const SEQUENCE_BYTES_MAX: u8 = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC O.
    Ss3,
    /// After ESC [: the parameters so far, which of them is the last, and the bytes so far.
    Csi { parameters: [u16; 3], at: usize, bytes: u8 },
}

/// The decoder.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
    /// A UTF-8 sequence that is not complete yet.
    partial: [u8; 4],
    partial_bytes: usize,
}

impl Keys {
    /// Takes the next byte. It may complete a key, and may first show that the bytes before it were no key.
    pub(super) fn feed(&mut self, byte: u8) -> [Option<Key>; 2] {
        match self.state {
            // A control character within a sequence acts at once, as on a VT100; ESC starts anew.
            _ if byte < 0x20 || byte == 0x7f => self.control(byte),
            State::Ground => self.text(byte),
            State::Escape => {
                let beside = match byte {
                    b'_' => Some(Key::Beside(Mode::Json)),
                    b'^' => Some(Key::Beside(Mode::Text)),
                    _ => None,
                };
                self.state = match byte {
                    b'[' => State::Csi { parameters: [0; 3], at: 0, bytes: 0 },
                    b'O' => State::Ss3,
                    _ => State::Ground,
                };
                [beside, None]
            }
            State::Ss3 => {
                self.state = State::Ground;
                [cursor_key(byte), None]
            }
            State::Csi { parameters, at, bytes } => self.csi(byte, parameters, at, bytes),
        }
    }

    fn control(&mut self, byte: u8) -> [Option<Key>; 2] {
        let broken = self.broken();
        self.state = State::Ground;
        let key = match byte {
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Cancel,
            0x04 => Key::EndOfFile,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Tab,
            b'\n' | b'\r' => Key::Enter,
            0x0b => Key::KillToEnd,
            0x0c => Key::Redraw,
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x12 => Key::Search,
            0x15 => Key::KillToStart,
            0x17 => Key::KillWord,
            0x1b => {
                self.state = State::Escape;
                return [broken, None];
            }
            _ => Key::Binary(byte),
        };
        [broken, Some(key)]
    }

    fn csi(&mut self, byte: u8, mut parameters: [u16; 3], at: usize, bytes: u8) -> [Option<Key>; 2] {
        self.state = State::Ground;
        match byte {
            b'0'..=b'?' if bytes < SEQUENCE_BYTES_MAX => {
                let at = if byte == b';' { at + 1 } else { at };
                if let (b'0'..=b'9', Some(parameter)) = (byte, parameters.get_mut(at)) {
                    *parameter = parameter.saturating_mul(10).saturating_add(u16::from(byte - b'0'));
                }
                self.state = State::Csi { parameters, at, bytes: bytes + 1 };
                [None, None]
            }
            // Intermediate bytes: none of our keys has them, but the sequence goes on.
            b' '..=b'/' if bytes < SEQUENCE_BYTES_MAX => {
                self.state = State::Csi { parameters, at: parameters.len(), bytes: bytes + 1 };
                [None, None]
            }
            b'~' => match parameters[0] {
                1 | 7 => [Some(Key::Home), None],
                4 | 8 => [Some(Key::End), None],
                3 => [Some(Key::Delete), None],
                _ => [None, None],
            },
            b'R' if at == 1 => [Some(Key::Size { rows: parameters[0], columns: parameters[1], told: false }), None],
            b't' if at == 2 && parameters[0] == 8 => {
                [Some(Key::Size { rows: parameters[1], columns: parameters[2], told: true }), None]
            }
            b'@'..=b'~' => [cursor_key(byte), None],
            // Not a sequence at all: the byte counts as what it is.
            _ => self.text(byte),
        }
    }

    /// A byte of a character.
    fn text(&mut self, byte: u8) -> [Option<Key>; 2] {
        let Some(slot) = self.partial.get_mut(self.partial_bytes) else {
            // Four bytes are always a character or broken; kept total all the same.
            return [self.broken(), Some(Key::Binary(byte))];
        };
        *slot = byte;
        self.partial_bytes += 1;
        match core::str::from_utf8(&self.partial[..self.partial_bytes]) {
            Ok(text) => {
                let key = text.chars().next().map(|found| match u8::try_from(u32::from(found)) {
                    Ok(code) if !is_text(found) => Key::Binary(code),
                    _ => Key::Text(found),
                });
                self.partial_bytes = 0;
                [key, None]
            }
            Err(error) if error.error_len().is_none() => [None, None],
            Err(_) if self.partial_bytes == 1 => [self.broken(), None],
            Err(_) => {
                // The byte does not continue the sequence before it: it may begin one itself.
                self.partial_bytes -= 1;
                let broken = self.broken();
                [broken, self.text(byte)[0]]
            }
        }
    }

    /// The first byte of a character that did not become one, if there is such.
    fn broken(&mut self) -> Option<Key> {
        (core::mem::take(&mut self.partial_bytes) > 0).then_some(Key::Binary(self.partial[0]))
    }
}

/// The final byte of a cursor key's sequence.
const fn cursor_key(byte: u8) -> Option<Key> {
    match byte {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'C' => Some(Key::Right),
        b'D' => Some(Key::Left),
        b'H' => Some(Key::Home),
        b'F' => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        bytes.iter().flat_map(|byte| keys.feed(*byte)).flatten().collect()
    }

    #[test]
    fn terminals_keys_are_known_in_their_spellings() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[1;5C", Key::Right),
            (b"\x1b[D", Key::Left),
            (b"\x1b[H", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x1b[8~", Key::End),
            (b"\x1b[3~", Key::Delete),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\x04", Key::EndOfFile),
            (b"\x12", Key::Search),
            (b"\x1b[24;80R", Key::Size { rows: 24, columns: 80, told: false }),
            (b"\x1b[8;24;132t", Key::Size { rows: 24, columns: 132, told: true }),
            (b"\x1b[99999;1R", Key::Size { rows: u16::MAX, columns: 1, told: false }),
            (b"\xc3\xa9", Key::Text('é')),
            (b"\xf0\x9f\x92\xbe", Key::Text('💾')),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:x?}");
        }
    }

    #[test]
    fn unknown_sequences_are_swallowed_whole() {
        assert_eq!(
            keys(b"\x1b[200~x\x1b[?25hy\x1bqz\x1b[R\x1b[8;1t\x1b[1;2;3R\x1b[1;2;3;4;5A"),
            [Key::Text('x'), Key::Text('y'), Key::Text('z'), Key::Up]
        );
    }

    #[test]
    fn enter_is_enter_within_anything() {
        for prefix in [&b"\x1b"[..], b"\x1b[", b"\x1b[12", b"\x1bO", b"\xf0\x9f", b"\x1b[1;2;3;4;5;6;7;8;9;0;1;2;3"] {
            let mut bytes = prefix.to_vec();
            bytes.push(b'\r');
            assert_eq!(keys(&bytes).last(), Some(&Key::Enter), "{prefix:x?}");
        }
    }

    #[test]
    fn what_is_not_text_is_reported_once_and_the_rest_stands() {
        assert_eq!(keys(b"\x00\xffa"), [Key::Binary(0), Key::Binary(0xff), Key::Text('a')]);
        assert_eq!(keys(b"\xc3a"), [Key::Binary(0xc3), Key::Text('a')]);
        assert_eq!(keys(b"\xe2\x82\xc3\xa9"), [Key::Binary(0xe2), Key::Text('é')]);
        assert_eq!(keys(b"\xc2\x9b"), [Key::Binary(0x9b)]);
    }
}
