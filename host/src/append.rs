//! The image's command line: `KEY=VALUE …`, as every way to start the image can pass it on.

/// The longest command line that the image keeps, in bytes (`boot::loader::COMMAND_LINE_BYTES`, which is not below us).
pub const BYTES_MAX: usize = 2048;

/// Words of the form `KEY=VALUE`, of printable ASCII without quotes and backslashes: GRUB would add some of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Append(String);

impl Append {
    /// Reads the words.
    ///
    /// # Errors
    /// The fault, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        for word in &words {
            let fits = |byte: u8| byte.is_ascii_graphic() && !br#""'\"#.contains(&byte);
            if !word.bytes().all(fits) {
                return Err(format!("'{word}' has more than printable ASCII without quotes and backslashes"));
            }
            if word.split_once('=').is_none_or(|(key, _)| key.is_empty()) {
                return Err(format!("'{word}' is not KEY=VALUE"));
            }
        }
        let text = words.join(" ");
        if text.len() > BYTES_MAX {
            return Err(format!("it has {} bytes, and the image keeps {BYTES_MAX}", text.len()));
        }
        Ok(Self(text))
    }

    /// Returns the words, and after them one more key, which the program needs for itself: it cannot be among them.
    ///
    /// # Errors
    /// It is, for people.
    pub fn with(&self, key: &str, value: &str) -> Result<Self, String> {
        if self.words().any(|word| word.split_once('=').is_some_and(|(found, _)| found == key)) {
            return Err(format!("{key} is {value} here: this program reads the console as a person does"));
        }
        Self::parse(&format!("{} {key}={value}", self.0))
    }

    /// Returns the words, one space between.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }
}

#[cfg(test)]
mod tests {
    use super::Append;

    #[test]
    fn only_words_that_every_loader_passes_on_unchanged_are_taken() {
        assert_eq!(
            Append::parse("  a=b   net0=10.0.0.2/24,gateway=fe80::1 ").as_ref().map(Append::text),
            Ok("a=b net0=10.0.0.2/24,gateway=fe80::1")
        );
        assert_eq!(Append::parse(""), Ok(Append::default()));
        for wrong in ["a", "=b", "a=\"b\"", "a='b'", "a=\\b", "a=\u{e4}", "a=b c"] {
            assert!(Append::parse(wrong).is_err(), "{wrong}");
        }
        let own = Append::parse("a=b").expect("a word");
        assert_eq!(own.with("c", "d").as_ref().map(Append::text), Ok("a=b c=d"));
        assert!(own.with("a", "d").is_err());
        assert!(Append::parse(&format!("a={}", "x".repeat(2046))).is_ok());
        assert!(Append::parse(&format!("a={}", "x".repeat(2047))).is_err());
    }
}
