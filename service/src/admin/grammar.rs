//! How a command is written: its words and options, and a line's arguments sorted by them.
//!
//! The parser, its usage errors, `help` and completion all read a [`CommandSpec`].

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::suggest::nearest;
use crate::config::hosts::has_secret;
use crate::error::AdminError;

/// A command as a person sees it: what it is called, does and takes.
#[derive(Debug)]
pub struct CommandSpec {
    /// Its first word.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The words it takes, in order; those that may be left out come last.
    pub words: &'static [WordSpec],
    /// The options it takes, in any place.
    pub options: &'static [OptionSpec],
    /// More lines for `help`, each with its end, or nothing.
    pub details: &'static str,
}

/// A word that a command takes.
#[derive(Debug)]
pub struct WordSpec {
    /// Its name, in capitals.
    pub name: &'static str,
    /// Whether the command needs it.
    pub required: bool,
    /// What it is.
    pub help: &'static str,
}

/// An option that a command takes.
#[derive(Debug)]
pub struct OptionSpec {
    /// Its letter, after one dash.
    pub short: Option<char>,
    /// Its name, after two dashes.
    pub long: &'static str,
    /// The name of its value, in capitals; `None`: it is a flag.
    pub value: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl CommandSpec {
    /// Whether a line that begins with `word` is for this command: `?` is another name of `help`, `quit` of `exit`.
    #[must_use]
    pub fn is_called(&self, word: &str) -> bool {
        let name = match word {
            "?" => "help",
            "quit" => "exit",
            name => name,
        };
        self.name == name
    }

    /// How it is written: `read DEV LBA [COUNT]`.
    #[must_use]
    pub fn synopsis(&self) -> String {
        let mut synopsis = self.name.to_string();
        for word in self.words {
            synopsis += &if word.required { format!(" {}", word.name) } else { format!(" [{}]", word.name) };
        }
        for option in self.options {
            synopsis += &format!(" [{}]", option.usage());
        }
        synopsis
    }
}

impl OptionSpec {
    /// The shorter of its two names, with the name of its value: `-l SECTOR`.
    #[must_use]
    pub fn usage(&self) -> String {
        let value = self.value.map(|value| format!(" {value}")).unwrap_or_default();
        match self.short {
            Some(short) => format!("-{short}{value}"),
            None => format!("--{}{value}", self.long),
        }
    }
}

/// A word that the command needs.
pub(super) const fn word(name: &'static str, help: &'static str) -> WordSpec {
    WordSpec { name, required: true, help }
}

/// A word that may be left out.
pub(super) const fn optional(name: &'static str, help: &'static str) -> WordSpec {
    WordSpec { name, required: false, help }
}

/// An option without a value.
pub(super) const fn flag(short: char, long: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: Some(short), long, value: None, help }
}

/// An option with a value.
pub(super) const fn option(short: char, long: &'static str, value: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: Some(short), long, value: Some(value), help }
}

/// An option without a value or a letter.
pub(super) const fn long_flag(long: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: None, long, value: None, help }
}

/// An option with a value and without a letter.
pub(super) const fn long_option(long: &'static str, value: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { short: None, long, value: Some(value), help }
}

/// The name of a block device.
pub(super) const DEV: WordSpec = word("DEV", "a block device by Linux's name: pmem0s, pmem0.1s, ndblk0.0s");

/// A command's arguments, sorted as its [`CommandSpec`] has them.
#[derive(Debug)]
pub struct Arguments<'line> {
    spec: &'static CommandSpec,
    words: Vec<&'line str>,
    options: Vec<(&'static OptionSpec, Option<&'line str>)>,
    asks_for_help: bool,
}

impl<'line> Arguments<'line> {
    /// Sorts the words that follow the command's name.
    ///
    /// # Errors
    /// Usage: a word or an option that the command does not take, or lacks.
    pub(super) fn new(spec: &'static CommandSpec, rest: &'line [String]) -> Result<Self, AdminError> {
        let mut arguments = Self { spec, words: Vec::new(), options: Vec::new(), asks_for_help: false };
        let mut rest = rest.iter().map(String::as_str);
        let mut options_ended = false;
        // After one that asks for help nothing is looked at.
        while let Some(word) = rest.next().filter(|_| !arguments.asks_for_help) {
            if options_ended || word == "-" || !word.starts_with('-') {
                arguments.words.push(word);
            } else if word == "--" {
                options_ended = true;
            } else if let Some(long) = word.strip_prefix("--") {
                arguments.long(long, &mut rest)?;
            } else {
                arguments.cluster(&word[1..], &mut rest)?;
            }
        }
        if arguments.asks_for_help {
            return Ok(arguments);
        }
        if let Some(extra) = arguments.words.get(spec.words.len()) {
            return Err(arguments.usage(match has_secret(extra) {
                true => "a secret is a word too many".into(),
                false => format!("\"{extra}\" is a word too many"),
            }));
        }
        if let Some(missing) = spec.words.get(arguments.words.len()).filter(|word| word.required) {
            return Err(arguments.usage(format!("{} is missing", missing.name)));
        }
        Ok(arguments)
    }

    /// `--name`, `--name=value`, `--name value`.
    fn long(&mut self, text: &'line str, rest: &mut impl Iterator<Item = &'line str>) -> Result<(), AdminError> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let Some(option) = self.spec.options.iter().find(|option| option.long == name) else {
            if text == "help" {
                self.asks_for_help = true;
                return Ok(());
            }
            let meant = nearest(name, self.spec.options.iter().map(|option| option.long));
            let meant = meant.map(|meant| format!(": did you mean --{meant}?")).unwrap_or_default();
            return Err(self.usage(format!("no option --{name}{meant}")));
        };
        match (option.value, value) {
            (None, Some(_)) => Err(self.usage(format!("--{name} takes no value"))),
            (None, None) => self.add(option, None),
            (Some(_), Some(value)) => self.add(option, Some(value)),
            (Some(_), None) => self.add_with_next(option, rest),
        }
    }

    /// `-f`, `-BDR`, `-l 512`, `-l512`.
    fn cluster(&mut self, text: &'line str, rest: &mut impl Iterator<Item = &'line str>) -> Result<(), AdminError> {
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            let Some(option) = self.spec.options.iter().find(|option| option.short == Some(letter)) else {
                if text == "h" {
                    self.asks_for_help = true;
                    return Ok(());
                }
                return Err(self.usage(format!("no option -{letter}")));
            };
            if option.value.is_none() {
                self.add(option, None)?;
            } else if letters.as_str().is_empty() {
                return self.add_with_next(option, rest);
            } else {
                return self.add(option, Some(letters.as_str()));
            }
        }
        Ok(())
    }

    fn add_with_next(
        &mut self,
        option: &'static OptionSpec,
        rest: &mut impl Iterator<Item = &'line str>,
    ) -> Result<(), AdminError> {
        match rest.next() {
            Some(value) => self.add(option, Some(value)),
            None => Err(self.usage(format!("{} is missing its value", option.usage()))),
        }
    }

    fn add(&mut self, option: &'static OptionSpec, value: Option<&'line str>) -> Result<(), AdminError> {
        if value.is_some() && self.value(option.long).is_some() {
            return Err(self.usage(format!("{} is given twice", option.usage())));
        }
        self.options.push((option, value));
        Ok(())
    }

    /// Whether `-h` or `--help` is among them, which every command takes: then they are not checked.
    pub(super) const fn asks_for_help(&self) -> bool {
        self.asks_for_help
    }

    /// Word `index`, if it was given.
    pub(super) fn word(&self, index: usize) -> Option<&'line str> {
        self.words.get(index).copied()
    }

    /// Word `index`, which the command needs.
    ///
    /// # Errors
    /// Usage: [`Arguments::new`] has refused the line already, unless the specification calls the word optional.
    pub(super) fn required(&self, index: usize) -> Result<&'line str, AdminError> {
        self.word(index).ok_or_else(|| self.usage("a word is missing"))
    }

    /// How often a flag was given.
    pub(super) fn times(&self, long: &str) -> u8 {
        let times = self.options.iter().filter(|(option, _)| option.long == long).count();
        u8::try_from(times).unwrap_or(u8::MAX)
    }

    /// Whether an option was given.
    pub(super) fn flag(&self, long: &str) -> bool {
        self.times(long) > 0
    }

    /// An option's value.
    pub(super) fn value(&self, long: &str) -> Option<&'line str> {
        self.options.iter().find(|(option, _)| option.long == long).and_then(|(_, value)| *value)
    }

    /// A usage error of this command: what is wrong, then how it is written.
    pub(super) fn usage(&self, wrong: impl core::fmt::Display) -> AdminError {
        let wrong = wrong.to_string();
        let mark = if wrong.ends_with('?') { "" } else { ";" };
        AdminError::usage(format!("{wrong}{mark} usage: {}", self.spec.synopsis()))
    }

    /// Appends the command's synopsis to a value's error.
    ///
    /// # Errors
    /// The value's.
    pub(super) fn check<T>(&self, value: Result<T, AdminError>) -> Result<T, AdminError> {
        value.map_err(|error| self.usage(error.message))
    }
}
