//! Completion: what the word before the cursor may become.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::admin::{AnyAppliance, Mode, table};

/// The completions that Tab offers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// Nothing fits.
    None,
    /// This goes on from the cursor.
    Insert(String),
    /// Several words fit and nothing more is common to them.
    Choices(Vec<String>),
}

/// Completes the last word of `before`, the text before the cursor.
pub(super) fn complete(before: &str, appliance: &mut AnyAppliance) -> Completion {
    let (start, word) = match before.rfind([' ', '\t']) {
        Some(blank) => (before[..blank].split_whitespace().next(), &before[blank + 1..]),
        None => (None, before),
    };
    let mut choices = choices(start, word, appliance);
    choices.retain(|choice| choice.starts_with(word));
    choices.sort();
    choices.dedup();
    let Some(first) = choices.first() else { return Completion::None };
    let common = choices.iter().fold(first.as_str(), |common, choice| common_prefix(common, choice));
    let rest = &common[word.len()..];
    match choices.len() {
        1 => Completion::Insert(format!("{rest} ")),
        _ if !rest.is_empty() => Completion::Insert(rest.into()),
        _ => Completion::Choices(choices),
    }
}

/// All words that may stand after `start`, the line's first word.
fn choices(start: Option<&str>, word: &str, appliance: &mut AnyAppliance) -> Vec<String> {
    let commands = || table::specs().map(|spec| spec.name.into()).collect();
    match start {
        None | Some("help" | "?") => commands(),
        Some("mode") => Mode::ALL.map(|mode| mode.as_str().into()).into(),
        Some(command) if word.starts_with('-') => match table::specs().find(|spec| spec.is_called(command)) {
            Some(spec) => spec.options.iter().map(|option| format!("--{}", option.long)).collect(),
            None => Vec::new(),
        },
        Some(_) => appliance.names(),
    }
}

fn common_prefix<'a>(one: &'a str, other: &str) -> &'a str {
    let common = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
    match common {
        Some(((at, _), _)) => &one[..at],
        None => &one[..one.len().min(other.len())],
    }
}
