//! `untornctl`: starts an appliance and runs admin commands on it, or gives its console.
//!
//! Exit status: 0 ok; 1 failed; 2 usage; 3 not found; 4 media or metadata damaged; 5 the appliance ended or went
//! silent; 124 the time is up; 128 + n ended by signal n.

use std::io;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use host::appliance::Appliance;
use host::console::{self, End};
use host::deadline::Deadline;
use host::script::{self, ScriptError};
use host::session::Mode;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NO_ANSWER: u8 = 5;
const LATE: u8 = 124;
/// 128 + SIGTERM, as a shell would say it.
const BY_SIGNAL: u8 = 143;

/// Runs admin commands on an untorn appliance
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Starts an appliance, runs admin commands on it, and powers it off
    ///
    /// All commands are run, in order, also after one failed. Only their replies go to standard output. The exit
    /// status is that of the first command that failed, else 0.
    Exec {
        /// Commands, separated by semicolons
        #[arg(long, value_name = "CMD; CMD")]
        commands: String,
        /// Replies as JSON, one object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        start: Start,
    },
    /// Starts an appliance and gives its console
    ///
    /// `poweroff` ends it, and Ctrl-] pulls the plug.
    Console {
        /// Formats the namespace if it is blank
        #[arg(long)]
        format_blank: bool,
        #[command(flatten)]
        start: Start,
    },
}

#[derive(Args)]
struct Start {
    /// A bound on the whole run, in seconds
    #[arg(long, value_name = "S", value_parser = seconds)]
    timeout: Option<Duration>,
    /// The program that is the appliance, its console on standard input and output
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| format!("'{text}' is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Start {
    fn deadline(&self) -> Deadline {
        self.timeout.map_or(Deadline::NEVER, Deadline::after)
    }

    fn appliance(&self) -> Result<Appliance, Failure> {
        let mut command = Command::new(&self.program[0]);
        command.args(&self.program[1..]);
        Appliance::start(command)
            .map_err(|error| Failure(FAILED, format!("{} did not start: {error}", self.program[0])))
    }
}

/// An exit status, and what to say of it.
struct Failure(u8, String);

/// A failure in between: the time is up, or the appliance is not there any more.
fn failure(error: &ScriptError, deadline: Deadline) -> Failure {
    match error {
        _ if deadline.passed() => Failure(LATE, format!("the time is up: {error}")),
        ScriptError::Appliance(_) => Failure(NO_ANSWER, error.to_string()),
        ScriptError::Replies(_) => Failure(FAILED, error.to_string()),
    }
}

fn main() -> ExitCode {
    // clap ends with status 2 by itself when the usage is wrong.
    let outcome = match Cli::parse().verb {
        Verb::Exec { commands, json, start } => exec(&commands, json, &start),
        Verb::Console { format_blank, start } => give_console(format_blank, &start),
    };
    outcome
        .unwrap_or_else(|Failure(status, why)| {
            eprintln!("untornctl: {why}");
            status
        })
        .into()
}

fn exec(commands: &str, json: bool, start: &Start) -> Result<u8, Failure> {
    let commands = script::parse(commands).map_err(|error| Failure(USAGE, error.to_string()))?;
    let mode = if json { Mode::Json } else { Mode::Text };
    let deadline = start.deadline();
    let mut appliance = start.appliance()?;
    appliance
        .enter(mode, deadline, |line| eprintln!("{line}"))
        .map_err(ScriptError::from)
        .and_then(|()| script::run(&mut appliance, mode, &commands, &mut io::stdout().lock(), deadline))
        .map_err(|error| failure(&error, deadline))
}

fn give_console(format_blank: bool, start: &Start) -> Result<u8, Failure> {
    let deadline = start.deadline();
    let mut appliance = start.appliance()?;
    console::show_boot(&mut appliance, deadline)
        .and_then(|()| if format_blank { console::format_if_blank(&mut appliance, deadline) } else { Ok(()) })
        .map_err(|error| failure(&error.into(), deadline))?;
    let end = console::join(&mut appliance, deadline)
        .map_err(|error| Failure(FAILED, format!("the terminal or the console failed: {error}")))?;
    match end {
        End::Person => Ok(0),
        End::Signal => Err(Failure(BY_SIGNAL, "ended by a signal".into())),
        End::Late => Err(Failure(LATE, "the time is up".into())),
        End::Appliance => match appliance.wait() {
            Some(status) if status.success() => Ok(0),
            status => Err(Failure(NO_ANSWER, format!("the appliance ended ({})", shown(status)))),
        },
    }
}

fn shown(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "nobody knows how".into(), |status| status.to_string())
}
