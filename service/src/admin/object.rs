//! Requests of programs that have several on their way: numbered lines, and requests as JSON objects.
//!
//! | request | is |
//! |---|---|
//! | `#7 read pmem0s 0` | the line behind the number |
//! | `{"id":7,"command":"read","dev":"pmem0s","lba":0}` | the same: words by their names in small letters, options by their long ones |
//!
//! The reply has the `id`, too. An id is a number or a string of at most 64 bytes. `help --schema` describes the objects.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::grammar::CommandSpec;
use super::line::number_bytes;
use super::parse::{no_command, parse};
use super::request_id::RequestId;
use super::table::{self, AnyRequest};
use super::words;
use crate::error::AdminError;

/// The longest id, as JSON.
const ID_BYTES_MAX: usize = 64;

/// How often a flag counts at most.
const TIMES_MAX: u64 = 8;

/// Splits a program's line into its id, if it has one, and the request that it makes.
pub fn parse_with_id(line: &str) -> (Option<RequestId>, Result<AnyRequest, AdminError>) {
    if is_object(line) {
        return match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(object) => {
                let id = object.get("id").map(id).transpose();
                (id.clone().ok().flatten(), id.and_then(|_| request(&object)))
            }
            Err(why) => (None, Err(AdminError::usage(format!("not a JSON object ({why})")))),
        };
    }
    let (number, line) = line.split_at(number_bytes(line.as_bytes()));
    let number = number.trim_start_matches('#').trim();
    // JSON's numbers have no zeroes before them.
    let id = (!number.is_empty()).then(|| RequestId(number.parse::<u64>().unwrap_or_default().to_string()));
    (id, parse(line))
}

/// Whether a line is an object. No command begins so.
fn is_object(line: &str) -> bool {
    line.trim_start().starts_with('{')
}

fn id(value: &Value) -> Result<RequestId, AdminError> {
    let text = value.to_string();
    match value {
        Value::Number(_) | Value::String(_) if text.len() <= ID_BYTES_MAX => Ok(RequestId(text)),
        _ => Err(AdminError::usage(format!("id: a number, or a string of at most {ID_BYTES_MAX} bytes"))),
    }
}

/// Makes a request of an object.
///
/// # Errors
/// As [`parse`]; members that the command does not have.
fn request(object: &Map<String, Value>) -> Result<AnyRequest, AdminError> {
    let Some(Value::String(name)) = object.get("command") else {
        return Err(AdminError::usage("command: the name of a command is missing (help --schema describes objects)"));
    };
    let mut keys = object.keys();
    if !name.chars().all(words::is_text) || !keys.all(|key| key.chars().all(words::is_text)) {
        return Err(AdminError::usage("the object has a control character in a name"));
    }
    let spec = table::specs().find(|spec| spec.is_called(name)).ok_or_else(|| no_command(name))?;
    let mut words: Vec<Option<String>> = spec.words.iter().map(|_| None).collect();
    let mut line = Vec::new();
    for (key, value) in object.iter().filter(|(key, _)| !matches!(key.as_str(), "id" | "command")) {
        let wrong = |what: &str| AdminError::usage(format!("{key}: {what}; usage: {}", spec.synopsis()));
        if let Some(at) = spec.words.iter().position(|word| word.name.eq_ignore_ascii_case(key)) {
            words[at] = Some(text(value).ok_or_else(|| wrong("a string or a number, without control characters"))?);
            continue;
        }
        let Some(option) = spec.options.iter().find(|option| option.long == key) else {
            return Err(wrong("no word and no option of this command"));
        };
        match (option.value, value) {
            (Some(_), value) => {
                let value = text(value).ok_or_else(|| wrong("a string or a number, without control characters"))?;
                line.push(format!("--{key}={value}"));
            }
            (None, Value::Bool(given)) => line.extend(given.then(|| format!("--{key}"))),
            (None, value) => match value.as_u64().filter(|times| *times <= TIMES_MAX) {
                Some(times) => (0..times).for_each(|_| line.push(format!("--{key}"))),
                None => return Err(wrong("true, false, or how often")),
            },
        }
    }
    line.push("--".into());
    let given = words.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    for (word, known) in words.into_iter().zip(spec.words).take(given) {
        line.push(word.ok_or_else(|| missing(known.name, spec))?);
    }
    table::request(spec.name, &line).unwrap_or_else(|| Err(no_command(name)))
}

fn missing(word: &str, spec: &CommandSpec) -> AdminError {
    AdminError::usage(format!("{} is missing; usage: {}", word.to_ascii_lowercase(), spec.synopsis()))
}

/// A word of a value.
fn text(value: &Value) -> Option<String> {
    match value {
        // As in a line: an escape brings in no control character.
        Value::String(text) => text.chars().all(words::is_text).then(|| text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
