//! `untornctl`: starts an appliance, serves its disks to other machines, and runs admin commands on it.
//!
//! Exit status: 0 ok; 1 failed; 2 usage; 3 not found; 4 media or metadata damaged; 5 the appliance ended, went silent
//! or is not there; 124 a run's time is up; 128 + n ended by signal n.

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{self, Command, ExitCode, ExitStatus};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use host::admin;
use host::appliance::{ApplianceProcess, hand_over};
use host::backing::{self, Backing};
use host::bridge::{Bridge, BridgeError};
use host::client;
use host::complete;
use host::console::{self, End, Inputs, Signals};
use host::deadline::Deadline;
use host::image;
use host::journal::Journal;
use host::launch::Launch;
use host::list_table;
use host::manual;
use host::media_dump;
use host::options::{Ask, Cli, Verb};
use host::qemu::options::Options;
use host::qemu::{Plan, QemuError};
use host::screen::Screen;
use host::script::{self, Script, ScriptError};
use host::session::ReplyForm;
use host::settings;
use host::top::{self, Reading};
use serde_json::Value;
use service::admin::line::LINE_BYTES_MAX;
use service::admin::table::specs;
use service::config::hosts::HIDDEN;
use service::config::keys::Key;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const NO_ANSWER: u8 = 5;
const LATE: u8 = 124;
/// 128 + SIGTERM, as a shell would say it.
const BY_SIGNAL: u8 = 143;

/// How long to wait before an appliance that has ended is started anew.
const RESTART: Duration = Duration::from_millis(500);

/// How long we wait at our end for our lines to be read, and how long a terminal may take nothing of what the console showed
/// before.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The same when a signal ends us. Together with the admin clients' second it is less than 2 s.
const LAST_WORDS_BY_SIGNAL: Duration = Duration::from_millis(400);

/// The most that is read from standard input, to be written: in base64 it fits a request line, with room for its words.
const INPUT_BYTES_MAX: u64 = (LINE_BYTES_MAX as u64 - 256) / 4 * 3;

/// An exit status, and what to say of it.
struct Failure(u8, String);

/// A failure in between: the time is up, or the appliance is not there any more.
fn failure(error: &ScriptError, launch: &Launch) -> Failure {
    match error {
        _ if launch.deadline.passed() => Failure(LATE, format!("the time is up: {error}")),
        ScriptError::Appliance(error) => {
            // Its console's last lines tell nothing of that.
            let cause = error.ended.and_then(|ended| backing::explain(ended, &launch.memory));
            Failure(NO_ANSWER, cause.unwrap_or_else(|| error.to_string()))
        }
        ScriptError::Replies(_) => Failure(FAILED, error.to_string()),
    }
}

fn main() -> ExitCode {
    let mut verb = command_line().verb;
    // What follows the appliance's own words is ours all the same.
    let taken = match &mut verb {
        Verb::List { ask, options: words, .. } | Verb::Config { ask, words } | Verb::Admin { ask, words } => {
            ask.take_from(words)
        }
        _ => Ok(()),
    };
    let outcome = taken.map_err(|why| Failure(USAGE, why)).and_then(|()| carry_out(verb));
    let status = outcome.unwrap_or_else(|Failure(status, why)| {
        say(&why);
        status
    });
    JOURNAL.flush(last_words(status == BY_SIGNAL));
    status.into()
}

fn carry_out(verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Image(options) => image::make(&options).map(|()| 0).map_err(|why| Failure(FAILED, why)),
        Verb::Qemu(options) => qemu(*options),
        Verb::Exec { commands, json, start } => exec(&commands, json, start.launch(None)),
        Verb::Console { format_blank, admin, start } => tend(format_blank, true, start.launch(admin)),
        Verb::Run { admin, start } => tend(false, false, start.launch(admin)),
        Verb::Status(it) => ask(&it, "status"),
        Verb::List { ask: it, mut table, mut options } => {
            table |= options.iter().any(|option| option == "--table");
            options.retain(|option| option != "--table");
            let line = client::line(["list"].into_iter().chain(options.iter().map(String::as_str)));
            if table && !it.json { list_table(&it, &line) } else { ask(&it, &line) }
        }
        Verb::Config { ask: it, words } => match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [verb @ ("export" | "import"), word, ..] if word.starts_with('-') => {
                Err(Failure(USAGE, format!("config {verb}: no option {word}")))
            }
            [verb @ ("export" | "import"), _, word, ..] => {
                Err(Failure(USAGE, format!("config {verb}: {word} is a word too many")))
            }
            ["export", file @ ..] => export_config(&it, file.first().copied()),
            ["import", file @ ..] => import_config(&it, file.first().copied()),
            words => ask(&it, &client::line(["config"].into_iter().chain(words.iter().copied()))),
        },
        Verb::Top { ask: it, seconds, count } => top(&it, seconds, count),
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
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut complete::with_commands(Cli::command()), "untornctl", &mut text);
            put(&text).map(|()| 0)
        }
        Verb::Man { folder } => manual::write(Cli::command(), &folder)
            .map(|()| 0)
            .map_err(|error| Failure(FAILED, format!("{}: {error}", folder.display()))),
        Verb::Dump { load: Some(dump), file: Some(file), .. } => load_media(&dump, &file),
        Verb::Dump { media: Some(media), label, file, .. } => dump_media(&media, label, file.as_deref()),
        Verb::Dump { ask: it, file, .. } => dump(&it, file.as_deref()),
    }
}

/// The command line. clap ends with status 2 when it is wrong.
fn command_line() -> Cli {
    Cli::try_parse().unwrap_or_else(|mut error| {
        if let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand)
            && specs().any(|spec| spec.is_called(verb))
        {
            let words: Vec<String> = env::args().skip_while(|word| word != verb).collect();
            let tip = format!("the appliance has this command: untornctl admin '{}'", words.join(" "));
            error.remove(ContextKind::SuggestedSubcommand);
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        }
        error.exit()
    })
}

const fn last_words(by_signal: bool) -> Duration {
    if by_signal { LAST_WORDS_BY_SIGNAL } else { LAST_WORDS }
}

/// The lines on standard error, whose reader may stall.
static JOURNAL: LazyLock<Journal> = LazyLock::new(|| {
    // It may be a raw terminal.
    let end = if io::stderr().is_terminal() { "\r\n" } else { "\n" };
    Journal::new(move |words| eprint!("untornctl: {}{end}", words.replace('\n', end))).unwrap_or_else(|error| {
        eprint!("untornctl: no thread for messages: {error}{end}");
        process::exit(FAILED.into())
    })
});

/// Writes a line to standard error, and does not wait for it.
fn say(words: &str) {
    JOURNAL.say(words);
}

// ---- An appliance that we start.

/// An appliance in QEMU, as `run-qemu.sh` starts it.
fn qemu(options: Options) -> Result<u8, Failure> {
    let failed = |error| match error {
        QemuError::Usage(why) => Failure(USAGE, format!("{why} (--help lists the options)")),
        QemuError::Failed(why) => Failure(FAILED, why),
        QemuError::Late => Failure(LATE, "the time is up before the start".into()),
    };
    let plan = Plan::new(&options).map_err(failed)?;
    if options.dry_run {
        let mut line = plan.line();
        line.push(b'\n');
        return put(&line).map(|()| 0);
    }
    let Some(script) = &options.exec else {
        let format_blank = plan.formats_blank;
        let consumers: Vec<String> = plan.consumers().collect();
        let socket = plan.admin().map(|socket| socket.display().to_string());
        let launch = plan.prepare(say).map_err(failed)?;
        for consumer in consumers {
            say(&format!("a consumer: {consumer}"));
        }
        if let Some(socket) = socket {
            let program =
                env::current_exe().map_or_else(|_| "untornctl".into(), |program| program.display().to_string());
            say(&format!("for programs: {program} admin --socket {socket} status"));
        }
        return tend(format_blank, true, launch);
    };
    exec(script, options.json, plan.prepare(say).map_err(failed)?)
}

/// The bridge, if disks are to be served.
fn bridge(launch: &mut Launch) -> Result<Option<Bridge>, Failure> {
    if launch.exports.is_empty() {
        return Ok(None);
    }
    let bridge = Bridge::new(&launch.exports, launch.hold, JOURNAL.clone()).map_err(|error| match error {
        BridgeError::Usage(why) => Failure(USAGE, why),
        other => Failure(FAILED, other.to_string()),
    })?;
    let rams: Vec<Backing> =
        bridge.windows().map(|ram| Backing { path: ram.path().to_owned(), bytes: ram.file_bytes() }).collect();
    if launch.control_fd.is_none() || launch.ivshmem_fds.len() != rams.len() {
        let why = format!("--vhost-user takes --control-fd, and --ivshmem-fd for each RAM file: {}", rams.len());
        return Err(Failure(USAGE, why));
    }
    rams.iter().filter_map(Backing::warning).for_each(|warning| say(&warning));
    launch.memory.extend(rams);
    Ok(Some(bridge))
}

fn start_appliance(launch: &Launch, bridge: Option<&Bridge>) -> Result<ApplianceProcess, Failure> {
    let name = launch.program[0].display();
    let mut command = Command::new(&launch.program[0]);
    command.args(&launch.program[1..]);
    if let (Some(bridge), Some(control)) = (bridge, launch.control_fd) {
        let ends = bridge.machine().map_err(|error| Failure(FAILED, format!("no sockets for {name}: {error}")))?;
        hand_over(&mut command, ends.control, control);
        for (end, at) in ends.ivshmem.into_iter().zip(&launch.ivshmem_fds) {
            hand_over(&mut command, end, *at);
        }
    }
    let port = launch.port_fd.map(|at| UnixStream::pair().map(|(ours, theirs)| (ours, theirs, at))).transpose();
    let port = port.map_err(|error| Failure(FAILED, format!("no socket for {name}: {error}")))?;
    let port = port.map(|(ours, theirs, at)| {
        hand_over(&mut command, theirs.into(), at);
        ours
    });
    let mut appliance =
        ApplianceProcess::start(command).map_err(|error| Failure(FAILED, format!("{name} did not start: {error}")))?;
    if let Some(port) = port {
        appliance.set_port(port);
    }
    if let Some(bridge) = bridge {
        let killer = appliance.killer();
        bridge.ends_by(move || killer.kill());
    }
    Ok(appliance)
}

fn exec(script: &Script, json: bool, mut launch: Launch) -> Result<u8, Failure> {
    let mode = if json { ReplyForm::Json } else { ReplyForm::Text };
    let deadline = launch.deadline;
    let bridge = bridge(&mut launch)?;
    let mut appliance = start_appliance(&launch, bridge.as_ref())?;
    appliance.show_progress();
    appliance
        .enter(mode, deadline, |line| eprintln!("{line}"))
        .map_err(ScriptError::from)
        .and_then(|()| script::run(&mut appliance, mode, script, &mut io::stdout().lock(), deadline))
        .map_err(|error| failure(&error, &launch))
}

/// Starts an appliance and stays with it, at its console. One that serves disks is started anew when it ends before
/// a person has powered it off.
fn tend(format_blank: bool, keyboard: bool, launch: Launch) -> Result<u8, Failure> {
    let screen = Screen::new().map_err(|error| Failure(FAILED, format!("standard output: {error}")))?;
    let outcome = stay(format_blank, keyboard, launch, &screen);
    screen.flush(last_words(matches!(outcome, Err(Failure(BY_SIGNAL, _)))));
    outcome
}

fn stay(format_blank: bool, keyboard: bool, mut launch: Launch, screen: &Screen) -> Result<u8, Failure> {
    let deadline = launch.deadline;
    let requests = launch.admin.as_deref().map(admin::listen).transpose().map_err(|why| Failure(FAILED, why))?;
    let bridge = bridge(&mut launch)?;
    let mut appliance = start_appliance(&launch, bridge.as_ref())?;
    console::show_boot(&mut appliance, deadline)
        .and_then(|()| if format_blank { console::format_if_blank(&mut appliance, deadline) } else { Ok(()) })
        .map_err(|error| failure(&error.into(), &launch))?;
    let failed = |error: io::Error| Failure(FAILED, format!("the terminal or the console failed: {error}"));
    let signals = Signals::catch().map_err(failed)?;
    let mut inputs = Inputs { signals, keyboard, requests, screen: screen.clone() };
    let by_signal = || Failure(BY_SIGNAL, "ended by a signal".into());
    let mut at_prompt = true;
    loop {
        let end = console::join(&mut appliance, &mut inputs, at_prompt, deadline).map_err(failed)?;
        let status = (end == End::Appliance).then(|| appliance.wait_unless(|| inputs.signals.have_come())).flatten();
        match end {
            End::Person => return Ok(0),
            End::Signal => return Err(by_signal()),
            End::Late => return Err(Failure(LATE, "the time is up".into())),
            End::Appliance if inputs.signals.have_come() => return Err(by_signal()),
            End::Appliance => {}
        }
        if status.is_some_and(|status| status.success()) {
            return Ok(0);
        }
        let served = bridge.as_ref().is_some_and(Bridge::has_served);
        // SIGBUS: memory that was not there. It may have been a consumer's, who must not cost others their disks.
        let by_sigbus = status.and_then(|status| backing::explain(status, &launch.memory));
        let by_consumer = (!served || by_sigbus.is_some())
            && bridge.as_ref().is_some_and(|bridge| bridge.leaves_somebody_out(by_sigbus.is_some()));
        let ended = by_sigbus.unwrap_or_else(|| format!("the appliance ended ({})", shown(status)));
        if !served && !by_consumer {
            return Err(Failure(NO_ANSWER, ended));
        }
        say(&format!("{ended}: starting it anew"));
        thread::sleep(RESTART);
        drop(appliance);
        appliance = start_appliance(&launch, bridge.as_ref())?;
        at_prompt = false;
    }
}

fn shown(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "nobody knows how".into(), |status| status.to_string())
}

// ---- An appliance that runs.

fn reply(it: &Ask, mode: ReplyForm, line: &str) -> Result<host::session::ReplyText, Failure> {
    let deadline = it.timeout.map_or(Deadline::NEVER, Deadline::after);
    client::ask(&it.socket, mode, line, deadline).map_err(|error| Failure(error.exit_code(), error.to_string()))
}

fn put(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let put = out.write_all(bytes).and_then(|()| out.flush());
    put.map_err(|error| Failure(FAILED, format!("nobody takes the reply: {error}")))
}

fn ask(it: &Ask, line: &str) -> Result<u8, Failure> {
    if client::is_follow(line) {
        let deadline = it.timeout.map_or(Deadline::NEVER, Deadline::after);
        let mode = if it.json { ReplyForm::Json } else { ReplyForm::Text };
        let each = |line: &str| put(format!("{line}\n").as_bytes()).is_ok();
        return client::follow(&it.socket, mode, line, deadline, each)
            .map(|()| 0)
            .map_err(|error| Failure(error.exit_code(), error.to_string()));
    }
    let reply = reply(it, if it.json { ReplyForm::Json } else { ReplyForm::Text }, line)?;
    put(reply.text.as_bytes())?;
    Ok(reply.exit_code)
}

fn list_table(it: &Ask, line: &str) -> Result<u8, Failure> {
    object(it, line).and_then(|reply| put(list_table::tables(&reply).as_bytes())).map(|()| 0)
}

/// The object of a reply to a command that must be obeyed.
fn object(it: &Ask, line: &str) -> Result<Value, Failure> {
    let reply = reply(it, ReplyForm::Json, line)?;
    let object: Value = serde_json::from_str(&reply.text).unwrap_or_default();
    match object["error"]["message"].as_str() {
        None if reply.exit_code == 0 => Ok(object),
        why => Err(Failure(reply.exit_code.max(FAILED), why.unwrap_or("a reply without a reason").to_owned())),
    }
}

fn export_config(it: &Ask, file: Option<&str>) -> Result<u8, Failure> {
    let settings = settings::of_reply(&object(it, "config")?).map_err(|why| Failure(FAILED, why))?;
    let text = settings::file(&settings);
    if text.contains(HIDDEN) {
        say("secrets are not in it: an appliance that knows them keeps them; for another one, write them in");
    }
    match file {
        None => put(text.as_bytes()).map(|()| 0),
        Some(file) => fs::write(file, text).map(|()| 0).map_err(|why| Failure(FAILED, format!("{file}: {why}"))),
    }
}

fn import_config(it: &Ask, file: Option<&str>) -> Result<u8, Failure> {
    let name = file.unwrap_or("standard input");
    let text = match file {
        Some(file) => fs::read_to_string(file),
        None => io::read_to_string(io::stdin()),
    };
    let text = text.map_err(|why| Failure(FAILED, format!("{name}: {why}")))?;
    let wanted = settings::read(&text).map_err(|why| Failure(USAGE, format!("{name}: {why}")))?;
    for key in wanted.keys().filter(|key| Key::named(key).is_none()) {
        say(&format!("{name}: {key:?} is no key of this version: it is left out"));
    }
    let now = settings::of_reply(&object(it, "config")?).map_err(|why| Failure(FAILED, why))?;
    for line in settings::commands(&now, &wanted) {
        object(it, &line).map_err(|Failure(status, why)| {
            // Without the value, which may have a secret in it.
            let what: Vec<&str> = line.split(' ').take(3).collect();
            Failure(status, format!("{}: {why}; what came before is in force, and nothing is saved", what.join(" ")))
        })?;
    }
    ask(it, "config save")
}

/// Shows rates until they have been shown `count` times.
fn top(it: &Ask, interval: Duration, count: Option<u64>) -> Result<u8, Failure> {
    let read = || {
        let reply = reply(it, ReplyForm::Json, "stats")?;
        Reading::parse(&reply.text).map_err(|why| Failure(reply.exit_code.max(FAILED), format!("stats: {why}")))
    };
    let is_terminal = io::stdout().is_terminal() && !it.json;
    let colour = is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (mut before, mut shown, mut lines) = (read()?, 0, 0);
    if !is_terminal && !it.json {
        put(format!("{}\n", top::HEADING).as_bytes())?;
    }
    while count.is_none_or(|count| shown < count) {
        thread::sleep(interval);
        let now = read()?;
        match now.since(&before) {
            None => say("the appliance was started anew"),
            Some(rates) if it.json => put(format!("{}\n", rates.json()).as_bytes())?,
            Some(rates) if is_terminal => {
                let screen = rates.screen(colour);
                // Over what was shown before; a line that is too long for the terminal is cut.
                let up = if lines > 0 { format!("\x1b[{lines}A\r") } else { String::new() };
                put(format!("{up}\x1b[J\x1b[?7l{screen}\x1b[?7h").as_bytes())?;
                lines = screen.lines().count();
            }
            Some(rates) => put(rates.lines().as_bytes())?,
        }
        shown += 1;
        before = now;
    }
    Ok(0)
}

/// Makes a dump, which its user alone may read where it is a file.
fn dump(it: &Ask, file: Option<&Path>) -> Result<u8, Failure> {
    let dump = host::dump::take(|question| {
        let reply = reply(it, ReplyForm::Json, question)?;
        serde_json::from_str::<Value>(&reply.text).map_err(|_| Failure(NO_ANSWER, format!("`{question}`: no JSON")))
    })?;
    let text = format!("{dump:#}\n");
    let Some(file) = file else { return put(text.as_bytes()).map(|()| 0) };
    let written = media_dump::new_file(file).and_then(|mut out| out.write_all(text.as_bytes()));
    written.map(|()| 0).map_err(|error| Failure(FAILED, format!("{}: {error}", file.display())))
}

fn dump_media(media: &Path, label: Option<u64>, file: Option<&Path>) -> Result<u8, Failure> {
    let at = |path: &Path, error: &dyn std::fmt::Display| Failure(FAILED, format!("{}: {error}", path.display()));
    let medium = fs::File::open(media).map_err(|error| at(media, &error))?;
    let mut out: Box<dyn Write> = match file {
        None => Box::new(io::stdout().lock()),
        Some(file) => Box::new(media_dump::new_file(file).map_err(|error| at(file, &error))?),
    };
    let mut out = io::BufWriter::new(&mut out);
    let written = media_dump::take(&medium, label, &mut out).map_err(|error| at(media, &error));
    let written = written.and_then(|()| out.flush().map_err(|error| at(file.unwrap_or(media), &error)));
    if written.is_err()
        && let Some(file) = file
    {
        // It is ours, and no whole dump.
        let _ = fs::remove_file(file);
    }
    written.map(|()| 0)
}

fn load_media(dump: &Path, file: &Path) -> Result<u8, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure(FAILED, format!("{}: {error}", dump.display()));
    let reader = fs::File::open(dump).map_err(|error| failed(&error))?;
    media_dump::load(io::BufReader::new(reader), file).map(|()| 0).map_err(|error| failed(&error))
}

fn read_raw(it: &Ask, line: &str) -> Result<u8, Failure> {
    let reply = reply(it, ReplyForm::Json, line)?;
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
