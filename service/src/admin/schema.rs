//! `help --schema`: the requests and replies of machine mode as a JSON Schema (2020-12).
//!
//! Requests come from the commands' specifications. Replies are written down in [`REPLIES`]; a test holds real ones against it.

use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Map, Value, json};

use super::grammar::{CommandSpec, OptionSpec};
use crate::error::ErrorCode;

/// The members of each command's reply beside `ok`, `id` and `exit`: `name:type`, with `?` if it may be left out. The types are
/// JSON Schema's. `*` is any other member.
#[rustfmt::skip]
static REPLIES: &[(&str, &str)] = &[
    ("help", "commands:array? name:string? usage:string? summary:string? arguments:array? details:string? schema:object?"),
    ("version", "name:string version:string"),
    ("mode", "mode:string"),
    ("exit", "how:string"),
    ("status", "version:string cpus:integer memory:integer uptime:number tables:array namespaces:array exports:array *"),
    ("list", "result:array"),
    ("nfit", "structures:array? refused:array? remarks:array? tables:array?"),
    ("health", "state:string findings:array"),
    ("init-labels", "dev:string label_version:string slots:integer"),
    ("create-namespace", "dev:string mode:string size:integer uuid:string? sector_size:integer? blockdev:string? *"),
    ("destroy-namespace", "dev:string state:string"),
    ("enable-namespace", "dev:string mode:string size:integer uuid:string? sector_size:integer? blockdev:string? *"),
    ("disable-namespace", "dev:string state:string"),
    ("check-namespace", "dev:string arenas:integer findings:array *"),
    ("arenas", "dev:string arenas:array"),
    ("read", "dev:string lba:integer count:integer sector_size:integer data:string"),
    ("write", "dev:string lba:integer count:integer"),
    ("trim", "dev:string lba:integer count:integer"),
    ("inject-error", "dev:string lba:integer count:integer"),
    ("clear-errors", "dev:string lba:integer count:integer"),
    ("errors", "errors:array more:integer media:array"),
    ("bench", "dev:string cpus:integer seconds:number seed:integer mix:integer run:integer ops:integer sectors_read:integer \
               sectors_written:integer errors:integer ops_per_second:number fences_per_sector:number \
               write_backs_per_sector:number verify:object? interrupted:boolean?"),
    ("export", "dev:string exported:boolean? nqn:string? addresses:array? port:integer?"),
    ("unexport", "dev:string exported:boolean"),
    ("allow", "host:string allowed:boolean secret:boolean nqn:string?"),
    ("deny", "host:string allowed:boolean nqn:string?"),
    ("net", "result:array"),
    ("config", "keys:array? unsaved:boolean? copies:array? key:string? value:string? from:string? default:string? \
                what:string? saved:integer? failed:array?"),
    ("stats", "*"),
    ("trace", "events:array"),
    ("events", "events:array? newest:integer? kept:boolean? *"),
    ("poweroff", ""),
    ("reboot", ""),
];

/// The words whose values are numbers.
const NUMBERS: [&str; 5] = ["LBA", "COUNT", "N", "BYTE", "W%"];

/// The schema of a request; `$defs/replies` has one for each command's reply, `$defs/error` that of an error.
pub(super) fn of<'s>(specs: impl Iterator<Item = &'s CommandSpec> + Clone) -> Value {
    let requests: Vec<Value> = specs.clone().map(request).collect();
    let replies: Map<String, Value> = specs.map(|spec| (spec.name.into(), reply(spec))).collect();
    let codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "untorn's admin requests",
        "description": "One object a line. A reply is one of $defs/replies, by its command, or $defs/error.",
        "oneOf": requests,
        "$defs": {
            "id": {
                "description": "Tells replies apart: the reply has it, too.",
                "type": ["integer", "string"],
                "maxLength": 62,
            },
            "exit": {
                "description": "The exit status of a command that did its work and found something wrong.",
                "type": "integer",
            },
            "error": {
                "type": "object",
                "properties": {
                    "ok": { "const": false },
                    "id": { "$ref": "#/$defs/id" },
                    "error": {
                        "type": "object",
                        "properties": { "code": { "enum": codes }, "message": { "type": "string" } },
                        "required": ["code", "message"],
                    },
                },
                "required": ["ok", "error"],
                "additionalProperties": false,
            },
            "replies": replies,
        },
    })
}

fn request(spec: &CommandSpec) -> Value {
    let mut members = Map::new();
    members.insert("id".into(), json!({ "$ref": "#/$defs/id" }));
    members.insert("command".into(), json!({ "const": spec.name }));
    let mut required = alloc::vec![String::from("command")];
    for word in spec.words {
        let name = word.name.to_ascii_lowercase();
        members.insert(name.clone(), value(word.name, word.help));
        required.extend(word.required.then_some(name));
    }
    members.extend(spec.options.iter().map(|option| (option.long.into(), option_value(option))));
    json!({
        "title": spec.name,
        "description": spec.summary,
        "type": "object",
        "properties": members,
        "required": required,
        "additionalProperties": false,
    })
}

fn value(name: &str, help: &str) -> Value {
    match NUMBERS.contains(&name) {
        true => json!({ "description": help, "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^([0-9]+|0x[0-9a-fA-F]+)$" },
        ] }),
        // As in a line, there are no control characters but tabs.
        false => json!({
            "description": help,
            "type": ["string", "number"],
            "pattern": r"^[^\u0000-\u0008\u000a-\u001f\u007f-\u009f]*$",
        }),
    }
}

fn option_value(option: &OptionSpec) -> Value {
    match option.value {
        Some(name) => value(name, option.help),
        None => json!({ "description": option.help, "anyOf": [
            { "type": "boolean" },
            { "type": "integer", "minimum": 0, "maximum": 8 },
        ] }),
    }
}

fn reply(spec: &CommandSpec) -> Value {
    let mut members = Map::new();
    members.insert("ok".into(), json!({ "const": true }));
    members.insert("id".into(), json!({ "$ref": "#/$defs/id" }));
    members.insert("exit".into(), json!({ "$ref": "#/$defs/exit" }));
    let mut required = alloc::vec!["ok"];
    let described = REPLIES.iter().find(|(name, _)| *name == spec.name).map(|(_, members)| *members);
    for (name, kind) in described.unwrap_or_default().split_whitespace().filter_map(|member| member.split_once(':')) {
        let is_needed = !kind.ends_with('?');
        let kind: Vec<&str> = kind.trim_end_matches('?').split('|').collect();
        members.insert(name.into(), json!({ "type": kind }));
        required.extend(is_needed.then_some(name));
    }
    json!({
        "type": "object",
        "properties": members,
        "required": required,
        "additionalProperties": described.is_none_or(|members| members.ends_with('*')),
    })
}
