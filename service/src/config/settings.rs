//! Keys with their values, as lines `KEY=VALUE`: the form on a medium.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// The longest name of a key, in bytes.
const KEY_BYTES_MAX: usize = 64;

/// The most bytes of all lines: as many as a copy has room for at most.
pub const TEXT_BYTES_MAX: usize = 60 << 10;

/// Keys with their values. Both are printable ASCII without blanks, and a key has no `=`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

/// Why there is no such setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for SettingsError {}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Settings {
    /// Returns a key's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Returns the keys with their values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives a key a value.
    ///
    /// # Errors
    /// One of them could not be kept: too long, or other bytes than printable ASCII.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingsError> {
        let refused = |why: String| Err(SettingsError(why));
        if !is_plain(key) || key.contains('=') || key.len() > KEY_BYTES_MAX {
            return refused("a key is at most 64 characters of printable ASCII, without blanks and =".into());
        }
        if !is_plain(value) {
            return refused(format!("{key}: a value is printable ASCII, without blanks"));
        }
        let before = self.0.insert(key.into(), value.into());
        let bytes = self.text_bytes();
        if bytes > TEXT_BYTES_MAX {
            match before {
                Some(before) => self.0.insert(key.into(), before),
                None => self.0.remove(key),
            };
            return refused(format!("{key}: all settings would have {bytes} bytes, and {TEXT_BYTES_MAX} are kept"));
        }
        Ok(())
    }

    /// Gives a key a value that can be kept, whatever the bytes of all.
    pub(super) fn put(&mut self, key: &str, value: &str) {
        self.0.insert(key.into(), value.into());
    }

    /// Takes a key's value away.
    pub fn unset(&mut self, key: &str) {
        self.0.remove(key);
    }

    fn text_bytes(&self) -> usize {
        self.0.iter().map(|(key, value)| key.len() + value.len() + 2).sum()
    }

    /// Returns the lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.text_bytes());
        for (key, value) in &self.0 {
            text.extend([key, "=", value, "\n"]);
        }
        text
    }

    /// Reads lines.
    ///
    /// # Errors
    /// A line that [`Settings::text`] writes in no case, or two of one key.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let Some((key, value)) = line.split_once('=') else {
                return Err(SettingsError(format!("line {number} is not KEY=VALUE")));
            };
            if settings.0.contains_key(key) {
                return Err(SettingsError(format!("line {number}: {key} has a value already")));
            }
            settings.set(key, value)?;
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_can_be_kept_is_taken() {
        let mut settings = Settings::default();
        for (key, value) in
            [("", "x"), ("a b", "x"), ("a=b", "x"), ("a", ""), ("a", "x y"), ("a", "x\n"), ("\u{e4}", "x")]
        {
            assert!(settings.set(key, value).is_err(), "{key:?} {value:?}");
        }
        assert!(settings.set(&"k".repeat(65), "x").is_err());
        assert!(settings.is_empty());
        let room = TEXT_BYTES_MAX - "a=\n".len();
        assert_eq!(settings.set("a", &"x".repeat(room)), Ok(()));
        assert!(settings.set("b", "x").is_err() && settings.set("a", &"y".repeat(room + 1)).is_err());
        assert_eq!(settings.get("a").map(str::len), Some(room), "it stays as it was");
        assert_eq!((settings.get("b"), settings.text().len()), (None, TEXT_BYTES_MAX));
    }

    #[test]
    fn lines_that_were_not_written_so_are_refused() {
        for text in ["a", "=b", "a=", "a=b\na=c\n", "a=b\n\n", "a=b c\n"] {
            assert!(Settings::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_set_is_read_back(pairs in prop::collection::vec(("[!-<>-~]{1,64}", "[!-~]{1,40}"), 0..20)) {
            let mut settings = Settings::default();
            for (key, value) in &pairs {
                settings.set(key, value).expect("plain, and not too much");
            }
            prop_assert_eq!(Settings::parse(&settings.text()), Ok(settings));
        }
    }
}
