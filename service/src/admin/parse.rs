//! A line against the table: words and options become [`Arguments`], and those a [`Command`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::Command;
use super::table::{CommandSpec, OptionSpec};
use super::words;
use crate::error::{AdminError, ErrorCode};

/// Parses a request line.
///
/// # Errors
/// Unknown command; usage, with the command's synopsis.
pub fn parse(line: &str) -> Result<Command, AdminError> {
    let words = words::split(line)?;
    let Some((name, rest)) = words.split_first() else {
        return Err(AdminError::usage("the line is empty: help lists the commands"));
    };
    let Some(spec) = CommandSpec::find(name) else {
        let message = format!("no command \"{name}\": help lists the commands");
        return Err(AdminError::new(ErrorCode::UnknownCommand, message));
    };
    let arguments = Arguments::new(spec, rest)?;
    (spec.build)(&arguments)
}

/// A command's arguments, sorted by the table.
#[derive(Debug)]
pub struct Arguments<'line> {
    spec: &'static CommandSpec,
    words: Vec<&'line str>,
    options: Vec<(&'static OptionSpec, Option<&'line str>)>,
}

impl<'line> Arguments<'line> {
    /// Sorts the words that follow the command's name.
    fn new(spec: &'static CommandSpec, rest: &'line [String]) -> Result<Self, AdminError> {
        let mut arguments = Self { spec, words: Vec::new(), options: Vec::new() };
        let mut rest = rest.iter().map(String::as_str);
        let mut options_ended = false;
        while let Some(word) = rest.next() {
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
        if let Some(extra) = arguments.words.get(spec.words.len()) {
            return Err(arguments.usage(format!("\"{extra}\" is a word too many")));
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
            return Err(self.usage(format!("no option --{name}")));
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

    /// Word `index`, if it was given.
    pub(super) fn word(&self, index: usize) -> Option<&'line str> {
        self.words.get(index).copied()
    }

    /// Word `index`, which the table requires.
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
        AdminError::usage(format!("{wrong}; usage: {}", self.spec.synopsis()))
    }

    /// A value's error with the command's usage behind it.
    pub(super) fn check<T>(&self, value: Result<T, AdminError>) -> Result<T, AdminError> {
        value.map_err(|error| self.usage(error.message))
    }
}
