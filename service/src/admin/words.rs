//! A line's words: separated by blanks; quotes keep blanks together.
//!
//! `'…'` is taken as it stands; in `"…"` a backslash takes the next character as it stands. Quotes may begin inside a
//! word. A `#` where a word could begin starts a comment, up to the end of the line. There are no variables and no
//! wildcards. [`commands`] has the same rules for several commands in one text.

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

/// The meaning of a character in the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Separates words.
    Blank,
    /// Opens or closes a quotation, or is a backslash that takes the next character as it stands.
    Mark,
    /// A character of a word, outside quotes.
    Bare,
    /// A character of a word, inside quotes.
    Quoted,
    /// Belongs to a comment.
    Comment,
}

/// Where a line is between two of its characters.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// A word may begin.
    #[default]
    Between,
    InWord,
    /// The quote, and the column where it opened.
    Quoted(char, usize),
    /// After a backslash between such quotes.
    Escaped(char, usize),
    Comment,
}

impl Place {
    /// Returns the meaning of the next character, which stands in `column`.
    fn step(&mut self, next: char, column: usize) -> Part {
        let (place, part) = match (*self, next) {
            (Self::Comment, _) | (Self::Between, '#') => (Self::Comment, Part::Comment),
            (Self::Between | Self::InWord, ' ' | '\t') => (Self::Between, Part::Blank),
            (Self::Between | Self::InWord, '\'' | '"') => (Self::Quoted(next, column), Part::Mark),
            (Self::Between | Self::InWord, _) => (Self::InWord, Part::Bare),
            (Self::Quoted(quote, _), _) if next == quote => (Self::InWord, Part::Mark),
            (Self::Quoted('"', opened), '\\') => (Self::Escaped('"', opened), Part::Mark),
            (Self::Quoted(quote, opened) | Self::Escaped(quote, opened), _) => {
                (Self::Quoted(quote, opened), Part::Quoted)
            }
        };
        *self = place;
        part
    }
}

/// Splits a line into words.
///
/// # Errors
/// Usage: a quote that is not closed, with its column.
pub fn split(line: &str) -> Result<Vec<String>, AdminError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut place = Place::default();
    for (next, column) in line.chars().zip(1_usize..) {
        match place.step(next, column) {
            Part::Blank => words.extend(word.take()),
            Part::Mark => drop(word.get_or_insert_default()),
            Part::Bare | Part::Quoted => word.get_or_insert_default().push(next),
            Part::Comment => break,
        }
    }
    if let Place::Quoted(quote, opened) | Place::Escaped(quote, opened) = place {
        return Err(AdminError::usage(format!("the quote {quote} in column {opened} is not closed")));
    }
    words.extend(word);
    Ok(words)
}

/// A line's first word: the command's name. Empty where there is none, or a quote is not closed.
#[must_use]
pub fn first(line: &str) -> String {
    split(line).ok().and_then(|words| words.into_iter().next()).unwrap_or_default()
}

/// Whether a line holds no word: nothing but blanks, or a comment.
#[must_use]
pub fn is_blank(line: &str) -> bool {
    line.chars().find(|next| !matches!(next, ' ' | '\t')).is_none_or(|first| first == '#')
}

/// The commands of a text: separated by semicolons outside quotes and comments, and by the ends of lines, whatever is
/// open there. Blank ones and comments are left out.
pub fn commands(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', '\r']).flat_map(commands_of_line).filter(|command| !command.is_empty())
}

/// The command that the end of a line belongs to, as it stands, from its first word on. `None` in a comment.
#[must_use]
pub fn last_command(line: &str) -> Option<&str> {
    let (mut start, mut place) = (0, Place::default());
    for (at, next) in line.char_indices() {
        match place.step(next, 0) {
            Part::Bare if next == ';' => (start, place) = (at + 1, Place::default()),
            Part::Comment => return None,
            _ => {}
        }
    }
    Some(line[start..].trim_start())
}

fn commands_of_line(line: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    let (mut start, mut end) = (0, line.len());
    let mut place = Place::default();
    for (column, (at, next)) in (1..).zip(line.char_indices()) {
        match place.step(next, column) {
            Part::Bare if next == ';' => {
                commands.push(line[start..at].trim());
                (start, place) = (at + 1, Place::default());
            }
            Part::Comment => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    commands.push(line[start..end].trim());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_at_blanks_and_quotes_keep_them() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str]); 14] = [
            ("",                        &[]),
            ("  \t ",                   &[]),
            ("list",                    &["list"]),
            (" read  pmem0s\t0 ",       &["read", "pmem0s", "0"]),
            ("a 'b c' d",               &["a", "b c", "d"]),
            (r#"--name="my \"disk\"""#, &[r#"--name=my "disk""#]),
            (r"x'\'y",                  &[r"x\y"]),
            ("'' \"\"",                 &["", ""]),
            ("# nothing",               &[]),
            ("list # 'all",             &["list"]),
            ("a#b c# #d e",             &["a#b", "c#"]),
            ("'#' \"# b\" ''#' '",       &["#", "# b", "# "]),
            ("x \t#y",                  &["x"]),
            ("\"\\\"#\" z",             &["\"#", "z"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
    }

    #[test]
    fn a_line_is_blank_if_it_has_no_words() {
        for line in ["", " ", "\t ", "#", "  # list", "list", "''", " a#", "\"#\""] {
            assert_eq!(is_blank(line), split(line).expect(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_text_is_split_at_semicolons_and_line_ends_outside_quotes_and_comments() {
        let cases: [(&str, &[&str]); 12] = [
            ("", &[]),
            (" ; ;; ", &[]),
            ("status", &["status"]),
            ("status; list -N ;poweroff", &["status", "list -N", "poweroff"]),
            (r#"create-namespace -n "a;b"; list"#, &[r#"create-namespace -n "a;b""#, "list"]),
            (r"create-namespace -n 'a;\'; list", &[r"create-namespace -n 'a;\'", "list"]),
            (r#"a "\";" b; c \; d"#, &[r#"a "\";" b"#, r"c \", "d"]),
            ("open 'quote\nnext; last", &["open 'quote", "next", "last"]),
            ("list # one; two\nstatus", &["list", "status"]),
            ("# nothing\n;# 'nothing\r\nlist", &["list"]),
            ("a '# b'; c#d # e", &["a '# b'", "c#d"]),
            ("a;#b\nc", &["a", "c"]),
        ];
        for (text, expected) in cases {
            assert_eq!(commands(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn the_end_of_a_line_belongs_to_its_last_command() {
        for (line, command) in [
            ("", Some("")),
            ("list -", Some("list -")),
            ("list;  st", Some("st")),
            ("list ; stats ", Some("stats ")),
            ("a ';' b", Some("a ';' b")),
            ("a \";\\\";", Some("a \";\\\";")),
            ("a;", Some("")),
            ("a # b; c", None),
        ] {
            assert_eq!(last_command(line), command, "{line}");
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
