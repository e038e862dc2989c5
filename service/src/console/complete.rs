//! Completion: what the word before the cursor may become, by the command's grammar.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use crate::admin::grammar::CommandSpec;
use crate::admin::{AnyAppliance, Mode, table, words};
use crate::config::keys::{DISABLED, EXPORT, Key, NVME_EXPORT};
use crate::events::{Kind, Severity};
use crate::inventory::SECTOR_SIZES;

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
    let Some(command) = words::last_command(before) else { return Completion::None };
    let (earlier, word) = command.rsplit_once([' ', '\t']).unwrap_or(("", command));
    let mut choices = choices(earlier, word, appliance);
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

/// The choices in rows of at most `columns`.
pub(super) fn in_rows(choices: &[String], columns: usize) -> String {
    let (mut rows, mut column) = (String::new(), 0);
    for choice in choices {
        let width = choice.chars().count();
        if column > 0 {
            let gap = if column + 2 + width > columns { "\n" } else { "  " };
            rows += gap;
            column = if gap == "\n" { 0 } else { column + 2 };
        }
        rows += choice;
        column += width;
    }
    rows
}

/// What may stand next in a command.
enum Next {
    /// The word of that number.
    Word(usize),
    /// The value of an option, by the value's name.
    Value(&'static str),
}

/// What comes after these words of a command. Quotes are not looked at: a completed word has none.
fn next<'w>(spec: &CommandSpec, earlier: impl Iterator<Item = &'w str>) -> Next {
    let mut next = Next::Word(0);
    let mut words = 0;
    for word in earlier {
        if matches!(next, Next::Value(_)) {
            next = Next::Word(words);
            continue;
        }
        let option = match word.strip_prefix('-') {
            None | Some("") => {
                words += 1;
                None
            }
            Some(long) if long.starts_with('-') => spec.options.iter().find(|option| option.long == &long[1..]),
            // Of a cluster the last may wait for its value.
            Some(letters) => spec.options.iter().find(|option| option.short == letters.chars().next_back()),
        };
        next = option.and_then(|option| option.value).map_or(Next::Word(words), Next::Value);
    }
    next
}

/// All words that may stand after `earlier`, the command so far.
fn choices(earlier: &str, word: &str, appliance: &AnyAppliance) -> Vec<String> {
    let mut earlier = earlier.split_whitespace();
    let Some(name) = earlier.next() else { return table::specs().map(|spec| spec.name.into()).collect() };
    let Some(spec) = table::specs().find(|spec| spec.is_called(name)) else { return Vec::new() };
    let values = |value: &str| values(spec, value, earlier.clone(), appliance);
    match next(spec, earlier.clone()) {
        Next::Value(value) => values(value),
        Next::Word(_) if word.starts_with('-') => match word.split_once('=') {
            None => spec.options.iter().map(|option| format!("--{}", option.long)).collect(),
            Some((long, _)) => {
                let option = spec.options.iter().find(|option| Some(option.long) == long.strip_prefix("--"));
                let of = option.and_then(|option| option.value).map(values).unwrap_or_default();
                of.into_iter().map(|value| format!("{long}={value}")).collect()
            }
        },
        Next::Word(at) => spec.words.get(at).map(|word| values(word.name)).unwrap_or_default(),
    }
}

fn owned<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).into()
}

/// The values of a word or an option, by the name that its command's grammar gives it.
fn values<'w>(
    spec: &CommandSpec,
    name: &str,
    mut earlier: impl Iterator<Item = &'w str>,
    appliance: &AnyAppliance,
) -> Vec<String> {
    let all = || appliance.inventory();
    match (name, spec.name) {
        ("CMD", _) => table::specs().map(|spec| spec.name.into()).collect(),
        ("MODE", "mode") => Mode::ALL.map(|mode| mode.as_str().into()).into(),
        ("MODE", _) => owned(["sector", "raw"]),
        ("TYPE", _) => owned(["pmem", "blk"]),
        ("VERSION", _) => owned(["1.1", "1.2"]),
        ("SECTOR", _) => SECTOR_SIZES.iter().map(u32::to_string).collect(),
        ("REGION", _) => all().regions().map(|region| region.dev.clone()).collect(),
        ("DIMM", _) => all().buses.iter().flat_map(|bus| &bus.dimms).map(|dimm| dimm.dev.clone()).collect(),
        ("NS", _) => all().namespaces().map(|namespace| namespace.dev.clone()).collect(),
        ("DEV", _) => all().namespaces().filter_map(|namespace| namespace.blockdev.clone()).collect(),
        ("S", "events") => Severity::ALL.map(|severity| severity.as_str().into()).into(),
        ("K", "events") => Kind::ALL.map(|kind| kind.as_str().into()).into(),
        ("HOSTNQN", _) => owned(["any"]),
        ("ACTION", "config") => owned(["show", "set", "unset", "save", "reset"]),
        ("KEY", _) if matches!(earlier.next(), Some("set" | "unset")) => {
            appliance.config().keys.into_iter().map(|entry| entry.key).collect()
        }
        ("VALUE", "config") => earlier.nth(1).map(|key| values_of(key, appliance)).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The values of a configuration key: those that it always may have, its default, and what it has.
fn values_of(key: &str, appliance: &AnyAppliance) -> Vec<String> {
    let entry = appliance.config().keys.into_iter().find(|entry| entry.key == key);
    let mut values: Vec<String> = entry.into_iter().flat_map(|entry| [entry.default, entry.value]).collect();
    values.extend(Key::named(key).into_iter().flat_map(|key| key.words).map(|word| String::from(*word)));
    // A list's next item is not completed: its word is the whole list.
    let all = appliance.inventory();
    match key {
        DISABLED => values.extend(all.namespaces().map(|namespace| namespace.dev.clone())),
        EXPORT | NVME_EXPORT => values.extend(all.namespaces().filter_map(|namespace| namespace.blockdev.clone())),
        _ => {}
    }
    values
}

fn common_prefix<'a>(one: &'a str, other: &str) -> &'a str {
    let common = one.char_indices().zip(other.chars()).find(|((_, a), b)| a != b);
    match common {
        Some(((at, _), _)) => &one[..at],
        None => &one[..one.len().min(other.len())],
    }
}
