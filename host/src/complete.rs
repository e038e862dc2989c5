//! What shells need to complete our words: the appliance's commands behind `admin`, too, with their options.
//!
//! For the shell each of them is a verb of `admin`. Only there: on our command line a command's words are the appliance's.

use clap::{Arg, ArgAction, Command};
use service::admin::grammar::CommandSpec;
use service::admin::table::specs;
use service::inventory::SECTOR_SIZES;

/// The command line with the appliance's commands in it, for [`clap_complete`] alone.
#[must_use]
pub fn with_commands(command: Command) -> Command {
    let add = |admin: Command, spec| admin.subcommand(of(spec));
    command.mut_subcommand("admin", |admin| specs().fold(admin.disable_help_subcommand(true), add))
}

fn of(spec: &'static CommandSpec) -> Command {
    let words = spec
        .words
        .iter()
        .map(|word| Arg::new(word.name).value_name(word.name).help(word.help).value_parser(values(word.name)));
    let options = spec.options.iter().map(|option| {
        let arg = Arg::new(option.long).long(option.long).help(option.help);
        let arg = option.short.into_iter().fold(arg, Arg::short);
        match option.value {
            Some(value) => arg.value_name(value).value_parser(values(value)),
            None => arg.action(ArgAction::Count),
        }
    });
    let help = spec.options.iter().any(|option| option.short == Some('h'));
    Command::new(spec.name).about(spec.summary).disable_help_flag(help).args(words).args(options)
}

/// The values that are the same on every appliance.
fn values(name: &str) -> clap::builder::ValueParser {
    let commands = || specs().map(|spec| spec.name.into()).collect::<Vec<_>>();
    let known: Vec<String> = match name {
        "CMD" => commands(),
        "TYPE" => vec!["pmem".into(), "blk".into()],
        "SECTOR" => SECTOR_SIZES.iter().map(u32::to_string).collect(),
        _ => return clap::builder::ValueParser::string(),
    };
    clap::builder::PossibleValuesParser::new(known).into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::options::Cli;

    #[test]
    fn shells_complete_the_appliances_commands_and_our_own_line_is_as_it_was() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut text = Vec::new();
            let mut command = super::with_commands(Cli::command());
            clap_complete::generate(shell, &mut command, "untornctl", &mut text);
            let text = String::from_utf8(text).expect("text");
            for word in ["check-namespace", "zero-entries", "4224", "enable-namespace"] {
                assert!(text.contains(word), "{shell}: {word}");
            }
        }
        assert!(!Cli::command().find_subcommand("admin").expect("a verb").has_subcommands());
    }
}
