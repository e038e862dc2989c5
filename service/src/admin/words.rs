//! A line's words: separated by blanks; quotes keep blanks together.
//!
//! `'…'` is taken as it stands; in `"…"` a backslash takes the next character as it stands. Quotes may begin inside a
//! word. There are no variables, no wildcards, no comments.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::AdminError;

/// The text of a request line.
///
/// # Errors
/// Usage, naming the first byte that is not text: a control character or a byte that is not UTF-8.
pub fn text(line: &[u8]) -> Result<&str, AdminError> {
    let (valid, broken) = match core::str::from_utf8(line) {
        Ok(text) => (text, None),
        Err(error) => {
            let (valid, rest) = line.split_at(error.valid_up_to());
            (core::str::from_utf8(valid).unwrap_or_default(), rest.first().copied())
        }
    };
    for (index, found) in valid.chars().enumerate() {
        if !is_text(found) {
            return Err(not_text(u32::from(found), index + 1));
        }
    }
    match broken {
        None => Ok(valid),
        Some(byte) => Err(not_text(byte.into(), valid.chars().count() + 1)),
    }
}

/// Whether a character may stand in a request line.
#[must_use]
pub fn is_text(found: char) -> bool {
    found == '\t' || !found.is_control()
}

/// The error for a byte (or control character) in column `column`, counted from 1.
#[must_use]
pub fn not_text(code: u32, column: usize) -> AdminError {
    AdminError::usage(format!("byte {code:#04x} in column {column} is not text"))
}

/// Splits a line into words.
///
/// # Errors
/// Usage: a quote that is not closed, with its column.
pub fn split(line: &str) -> Result<Vec<String>, AdminError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().zip(1_usize..);
    while let Some((next, column)) = chars.next() {
        match next {
            ' ' | '\t' => words.extend(word.take()),
            '\'' | '"' => quoted(next, column, &mut chars, word.get_or_insert_default())?,
            _ => word.get_or_insert_default().push(next),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Appends what stands up to the closing quote.
fn quoted(
    quote: char,
    column: usize,
    chars: &mut impl Iterator<Item = (char, usize)>,
    word: &mut String,
) -> Result<(), AdminError> {
    while let Some((next, _)) = chars.next() {
        match next {
            _ if next == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                Some((escaped, _)) => word.push(escaped),
                None => break,
            },
            _ => word.push(next),
        }
    }
    Err(AdminError::usage(format!("the quote {quote} in column {column} is not closed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_at_blanks_and_quotes_keep_them() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str]); 8] = [
            ("",                        &[]),
            ("  \t ",                   &[]),
            ("list",                    &["list"]),
            (" read  pmem0s\t0 ",       &["read", "pmem0s", "0"]),
            ("a 'b c' d",               &["a", "b c", "d"]),
            (r#"--name="my \"disk\"""#, &[r#"--name=my "disk""#]),
            (r"x'\'y",                  &[r"x\y"]),
            ("'' \"\"",                 &["", ""]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
    }

    #[test]
    fn an_open_quote_is_named_with_its_column() {
        for (line, column) in [("a 'b", 3), ("\"", 1), ("say \"x\\", 5)] {
            let message = split(line).expect_err(line).message;
            assert!(message.contains(&format!("column {column} ")), "{line}: {message}");
        }
    }

    #[test]
    fn binary_bytes_are_named_with_their_column() {
        #[rustfmt::skip]
        let cases: [(&[u8], &str); 6] = [
            (b"li\x00st",         "byte 0x00 in column 3 is not text"),
            (b"\x7f",             "byte 0x7f in column 1 is not text"),
            (b"ab\xff",           "byte 0xff in column 3 is not text"),
            (b"\xc3\xa4\xc3",     "byte 0xc3 in column 2 is not text"),
            (b"\xc2\x9b2J",       "byte 0x9b in column 1 is not text"),
            (b"x\x1b\xff",        "byte 0x1b in column 2 is not text"),
        ];
        for (line, message) in cases {
            assert_eq!(text(line).expect_err(message).message, message);
        }
        assert_eq!(text("créer\tü".as_bytes()), Ok("créer\tü"));
    }
}
