//! `untornctl`: starts an appliance, serves its disks to other machines, and runs admin commands on it.
//!
//! Exit status: 0 ok; 1 failed; 2 usage; 3 not found; 4 media or metadata damaged; 5 the appliance ended, went silent
//! or is not there; 124 the time is up; 128 + n ended by signal n.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{CommandFactory, Parser};
use host::admin;
use host::appliance::{Appliance, hand_over};
use host::bridge::{Bridge, BridgeError};
use host::client;
use host::console::{self, Desk, End, Signals};
use host::deadline::Deadline;
use host::options::{Ask, Cli, Start, Verb};
use host::script::{self, ScriptError};
use host::session::Mode;
use nix::libc::SIGBUS;
use serde_json::Value;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NO_ANSWER: u8 = 5;
const LATE: u8 = 124;
/// 128 + SIGTERM, as a shell would say it.
const BY_SIGNAL: u8 = 143;

/// How long to wait before an appliance that has ended is started anew.
const RESTART: Duration = Duration::from_millis(500);

/// The most that is read from standard input, to be written: more does not fit a request line.
const INPUT_BYTES_MAX: u64 = 48 << 10;

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
        Verb::Console { format_blank, start } => tend(format_blank, true, &start),
        Verb::Run { start } => tend(false, false, &start),
        Verb::Status(it) => ask(&it, "status"),
        Verb::List { ask: mut it, mut options } => {
            // What follows the appliance's own options is ours all the same.
            it.json |= options.iter().any(|option| option == "--json");
            options.retain(|option| option != "--json");
            ask(&it, &client::line(["list"].into_iter().chain(options.iter().map(String::as_str))))
        }
        Verb::Read { ask: it, raw, dev, lba, count } => {
            let line = client::line(["read", &dev, &lba.to_string(), &count.to_string()]);
            if raw { read_raw(&it, &line) } else { ask(&it, &line) }
        }
        Verb::Write { ask: it, dev, lba, data, fill, count } => write(&it, &dev, lba, data, fill, count),
        Verb::Export { ask: it, dev } => ask(&it, &client::line(["export", &dev])),
        Verb::Unexport { ask: it, dev } => ask(&it, &client::line(["unexport", &dev])),
        // One word may be a whole line.
        Verb::Admin { ask: it, words } if words.len() == 1 => ask(&it, &words[0]),
        Verb::Admin { ask: it, words } => ask(&it, &client::line(words.iter().map(String::as_str))),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "untornctl", &mut io::stdout());
            Ok(0)
        }
    };
    outcome
        .unwrap_or_else(|Failure(status, why)| {
            say(&why);
            status
        })
        .into()
}

/// Says something on standard error; on a terminal that may be raw.
fn say(words: &str) {
    let end = if io::stderr().is_terminal() { "\r\n" } else { "\n" };
    eprint!("untornctl: {words}{end}");
}

// ---- An appliance that we start.

fn deadline(start: &Start) -> Deadline {
    start.timeout.map_or(Deadline::NEVER, Deadline::after)
}

/// The bridge, if disks are to be served.
fn bridge(start: &Start) -> Result<Option<Bridge>, Failure> {
    if start.vhost_user.is_empty() {
        return Ok(None);
    }
    let bridge = Bridge::new(&start.vhost_user, start.hold, Arc::new(say)).map_err(|error| match error {
        BridgeError::Usage(why) => Failure(USAGE, why),
        other => Failure(FAILED, other.to_string()),
    })?;
    let windows = bridge.windows().count();
    if start.control_fd.is_none() || start.ivshmem_fd.len() != windows {
        let why = format!("--vhost-user takes --control-fd, and --ivshmem-fd for each of {windows} RAM files");
        return Err(Failure(USAGE, why));
    }
    Ok(Some(bridge))
}

fn start_appliance(start: &Start, bridge: Option<&Bridge>) -> Result<Appliance, Failure> {
    let name = start.program[0].display();
    let mut command = Command::new(&start.program[0]);
    command.args(&start.program[1..]);
    if let (Some(bridge), Some(control)) = (bridge, start.control_fd) {
        let ends = bridge.machine().map_err(|error| Failure(FAILED, format!("no sockets for {name}: {error}")))?;
        hand_over(&mut command, ends.control, control);
        for (end, at) in ends.ivshmem.into_iter().zip(&start.ivshmem_fd) {
            hand_over(&mut command, end, *at);
        }
    }
    let appliance =
        Appliance::start(command).map_err(|error| Failure(FAILED, format!("{name} did not start: {error}")))?;
    if let Some(bridge) = bridge {
        let killer = appliance.killer();
        bridge.ends_by(move || killer.kill());
    }
    Ok(appliance)
}

fn exec(commands: &str, json: bool, start: &Start) -> Result<u8, Failure> {
    let commands = script::parse(commands).map_err(|error| Failure(USAGE, error.to_string()))?;
    let mode = if json { Mode::Json } else { Mode::Text };
    let deadline = deadline(start);
    let bridge = bridge(start)?;
    let mut appliance = start_appliance(start, bridge.as_ref())?;
    appliance
        .enter(mode, deadline, |line| eprintln!("{line}"))
        .map_err(ScriptError::from)
        .and_then(|()| script::run(&mut appliance, mode, &commands, &mut io::stdout().lock(), deadline))
        .map_err(|error| failure(&error, deadline))
}

/// Starts an appliance and stays with it, at its console. One that serves disks is started anew when it ends before
/// somebody has powered it off.
fn tend(format_blank: bool, keyboard: bool, start: &Start) -> Result<u8, Failure> {
    let deadline = deadline(start);
    let requests = start.admin.as_deref().map(admin::listen).transpose().map_err(|why| Failure(FAILED, why))?;
    let bridge = bridge(start)?;
    let mut appliance = start_appliance(start, bridge.as_ref())?;
    console::show_boot(&mut appliance, deadline)
        .and_then(|()| if format_blank { console::format_if_blank(&mut appliance, deadline) } else { Ok(()) })
        .map_err(|error| failure(&error.into(), deadline))?;
    let failed = |error: io::Error| Failure(FAILED, format!("the terminal or the console failed: {error}"));
    let mut desk = Desk { signals: Signals::catch().map_err(failed)?, keyboard, requests };
    let mut at_prompt = true;
    loop {
        match console::join(&mut appliance, &mut desk, at_prompt, deadline).map_err(failed)? {
            End::Person => return Ok(0),
            End::Signal => return Err(Failure(BY_SIGNAL, "ended by a signal".into())),
            End::Late => return Err(Failure(LATE, "the time is up".into())),
            End::Appliance => {}
        }
        let status = appliance.wait();
        let ended = format!("the appliance ended ({})", shown(status));
        if status.is_some_and(|status| status.success()) {
            return Ok(0);
        }
        let served = bridge.as_ref().is_some_and(Bridge::has_served);
        // SIGBUS: memory that was not there. It may have been a consumer's, who must not cost others their disks.
        let by_consumer = (!served || status.and_then(|it| it.signal()) == Some(SIGBUS))
            && bridge.as_ref().is_some_and(Bridge::leaves_somebody_out);
        if !served && !by_consumer {
            return Err(Failure(NO_ANSWER, ended));
        }
        say(&format!("{ended}: starting it anew"));
        thread::sleep(RESTART);
        drop(appliance);
        appliance = start_appliance(start, bridge.as_ref())?;
        at_prompt = false;
    }
}

fn shown(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "nobody knows how".into(), |status| status.to_string())
}

// ---- An appliance that runs.

fn reply(it: &Ask, mode: Mode, line: &str) -> Result<host::session::Reply, Failure> {
    let deadline = it.timeout.map_or(Deadline::NEVER, Deadline::after);
    client::ask(&it.socket, mode, line, deadline).map_err(|error| Failure(error.exit_code(), error.to_string()))
}

fn put(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let put = out.write_all(bytes).and_then(|()| out.flush());
    put.map_err(|error| Failure(FAILED, format!("nobody takes the reply: {error}")))
}

fn ask(it: &Ask, line: &str) -> Result<u8, Failure> {
    let reply = reply(it, if it.json { Mode::Json } else { Mode::Text }, line)?;
    put(reply.text.as_bytes())?;
    Ok(reply.exit_code)
}

fn read_raw(it: &Ask, line: &str) -> Result<u8, Failure> {
    let reply = reply(it, Mode::Json, line)?;
    let object: Value = serde_json::from_str(&reply.text).unwrap_or_default();
    match object["data"].as_str().and_then(|data| STANDARD.decode(data).ok()) {
        Some(bytes) => put(&bytes).map(|()| reply.exit_code),
        None => {
            let why = object["error"]["message"].as_str().unwrap_or("a reply without data").to_owned();
            Err(Failure(reply.exit_code.max(FAILED), why))
        }
    }
}

fn write(
    it: &Ask,
    dev: &str,
    lba: u64,
    data: Option<String>,
    fill: Option<u8>,
    count: Option<u64>,
) -> Result<u8, Failure> {
    let lba = lba.to_string();
    let mut words: Vec<String> = ["write", dev, &lba].map(Into::into).into();
    match (data, fill) {
        (Some(data), _) => words.extend(["--data".into(), data]),
        (None, Some(byte)) => {
            words.extend(["--fill".into(), byte.to_string()]);
            words.extend(count.into_iter().flat_map(|count| ["--count".into(), count.to_string()]));
        }
        (None, None) => {
            let mut bytes = Vec::new();
            let read = io::stdin().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
            read.map_err(|error| Failure(FAILED, format!("standard input: {error}")))?;
            if bytes.len() as u64 > INPUT_BYTES_MAX {
                return Err(Failure(USAGE, format!("more than {INPUT_BYTES_MAX} bytes at once: write them in parts")));
            }
            words.extend(["--data".into(), STANDARD.encode(bytes)]);
        }
    }
    ask(it, &client::line(words.iter().map(String::as_str)))
}
