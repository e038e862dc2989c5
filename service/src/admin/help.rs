//! The texts and objects of `help`, from the commands' specifications.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use super::grammar::{CommandSpec, OptionSpec};

/// All commands, one a line.
///
/// # Errors
/// The writer's.
pub(super) fn all(specs: &[&CommandSpec], out: &mut dyn fmt::Write) -> fmt::Result {
    for spec in specs {
        writeln!(out, "{:<18} {}", spec.name, spec.summary)?;
    }
    writeln!(out, "help CMD explains one.")
}

/// One command with its words and options.
///
/// # Errors
/// The writer's.
pub(super) fn of(spec: &CommandSpec, out: &mut dyn fmt::Write) -> fmt::Result {
    writeln!(out, "usage: {}", spec.synopsis())?;
    writeln!(out, "{}", spec.summary)?;
    for word in spec.words {
        writeln!(out, "  {:<26} {}", word.name, word.help)?;
    }
    for option in spec.options {
        writeln!(out, "  {:<26} {}", names(option), option.help)?;
    }
    out.write_str(spec.details)
}

/// `-l, --sector-size SECTOR`.
fn names(option: &OptionSpec) -> String {
    let short = option.short.map_or(String::from("    "), |letter| format!("-{letter}, "));
    let value = option.value.map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}--{}{value}", option.long)
}

/// A command in `help`'s JSON.
#[derive(Serialize)]
pub(super) struct CommandHelp {
    name: &'static str,
    usage: String,
    summary: &'static str,
}

/// A command in `help CMD`'s JSON.
#[derive(Serialize)]
pub(super) struct CommandHelpInFull {
    #[serde(flatten)]
    command: CommandHelp,
    arguments: Vec<ArgumentHelp>,
    details: &'static str,
}

#[derive(Serialize)]
struct ArgumentHelp {
    name: String,
    required: bool,
    help: &'static str,
}

/// A command for `help`'s JSON.
pub(super) fn brief(spec: &CommandSpec) -> CommandHelp {
    CommandHelp { name: spec.name, usage: spec.synopsis(), summary: spec.summary }
}

/// A command for `help CMD`'s JSON.
pub(super) fn in_full(spec: &CommandSpec) -> CommandHelpInFull {
    let words =
        spec.words.iter().map(|word| ArgumentHelp { name: word.name.into(), required: word.required, help: word.help });
    let options = spec.options.iter().map(|option| ArgumentHelp {
        name: names(option).trim_start().into(),
        required: false,
        help: option.help,
    });
    CommandHelpInFull { command: brief(spec), arguments: words.chain(options).collect(), details: spec.details }
}
