//! A person's terminal (or a program's pipes) joined to the appliance's console.
//!
//! The terminal is raw while they are joined, for the appliance does the echo and the line editing, and is itself
//! again afterwards, also when a signal ends us.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::{fs::File, time::Duration};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::admin::{Request, Requests};
use crate::appliance::{Appliance, ApplianceError};
use crate::deadline::Deadline;
use crate::session::{Mode, PROMPT};

/// Ctrl-]: pulls the plug.
const ESCAPE: u8 = 0x1d;

/// How often a request that waits is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Why the terminal and the console are joined no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The appliance closed its console: it has powered off, or worse.
    Appliance,
    /// The person asked for it, or the terminal is gone. The appliance still runs.
    Person,
    /// A signal asked us to end. The appliance still runs.
    Signal,
    /// The deadline has passed. The appliance still runs.
    Late,
}

/// Shows the appliance's boot up to its prompt, which is left for later.
///
/// # Errors
/// When there is no prompt in time, or nobody takes what is shown.
pub fn show_boot(appliance: &mut Appliance, deadline: Deadline) -> Result<(), ApplianceError> {
    appliance.wait_for_prompt(deadline, |line| show(&format!("{line}\n")))
}

/// Formats the one namespace of an appliance that waits at its prompt, if it is blank. Whether it is, is the
/// appliance's to say: without -f it refuses to format anything that it recognises. Says on standard error what it did.
///
/// # Errors
/// When the appliance does not answer.
pub fn format_if_blank(appliance: &mut Appliance, deadline: Deadline) -> Result<(), ApplianceError> {
    const COMMAND: Duration = Duration::from_secs(60);
    appliance.switch(Mode::Json, deadline)?;
    let list = appliance.command("list -N", deadline.or_after(COMMAND))?;
    let list: Value = serde_json::from_str(&list.text).unwrap_or_default();
    if let Some([namespace]) = list["result"].as_array().map(Vec::as_slice)
        && namespace["mode"] == "raw"
        && let Some(region) = namespace["dev"].as_str().and_then(region_of)
    {
        let reply = appliance.command(&format!("create-namespace -r {region}"), deadline.or_after(COMMAND))?;
        let reply: Value = serde_json::from_str(&reply.text).unwrap_or_default();
        match reply["error"]["message"].as_str() {
            None => eprintln!("formatted the blank NVDIMM"),
            Some(why) => eprintln!("left the NVDIMM as it is: {why}"),
        }
    }
    appliance.leave(deadline)
}

/// `region0` for `namespace0.0`.
fn region_of(namespace: &str) -> Option<String> {
    let (region, _) = namespace.strip_prefix("namespace")?.split_once('.')?;
    Some(format!("region{region}"))
}

/// The signals that ask us to end, caught from the moment that this is made.
#[derive(Debug)]
pub struct Signals(UnixStream);

impl Signals {
    /// Catches them.
    ///
    /// # Errors
    /// The system's.
    pub fn catch() -> io::Result<Self> {
        let (signals, wake) = UnixStream::pair()?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            pipe::register(signal, wake.try_clone()?)?;
        }
        Ok(Self(signals))
    }
}

/// Who else takes part when a terminal and a console are joined.
#[derive(Debug)]
pub struct Desk {
    /// What asks us to end.
    pub signals: Signals,
    /// Whether standard input is the keyboard; else nobody types.
    pub keyboard: bool,
    /// Programs that ask for commands in between.
    pub requests: Option<Requests>,
}

/// Joins standard input and output to an appliance, until one of them ends. With `at_prompt` its prompt has been read
/// and is shown; else it boots, and everything is shown as it comes.
///
/// The end of a standard input that is no terminal ends nothing: a service may have none. Requests of programs are run
/// while the prompt waits with nothing typed behind it; the person sees nothing of them.
///
/// # Errors
/// When the terminal or the stream fails.
pub fn join(appliance: &mut Appliance, desk: &mut Desk, at_prompt: bool, deadline: Deadline) -> io::Result<End> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let terminal = if desk.keyboard { RawTerminal::enter()? } else { None };
    let (stream, seen) = appliance.session().by_hand();
    let mut stream = stream.try_clone()?;
    stream.set_nonblocking(true)?;
    let mut prompt = PromptWatch::default();
    if at_prompt {
        show(PROMPT);
        prompt.shown(PROMPT.as_bytes());
    }
    show(&String::from_utf8_lossy(&seen));
    prompt.shown(&seen);

    // What was typed and not yet taken: more is read only when it is gone.
    let mut typed: Vec<u8> = Vec::new();
    let mut input_open = desk.keyboard;
    loop {
        let mut watched = vec![
            PollFd::new(desk.signals.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(
                stream.as_fd(),
                if typed.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT },
            ),
        ];
        let reading = input_open && typed.is_empty();
        if reading {
            watched.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        if let Some(requests) = &desk.requests {
            watched.push(PollFd::new(requests.wake().as_fd(), PollFlags::POLLIN));
        }
        let left = deadline.left();
        if left == Some(Duration::ZERO) {
            return Ok(End::Late);
        }
        let left = match &desk.requests {
            // Its patience may end before anything comes.
            Some(requests) if requests.is_waiting() => Some(left.unwrap_or(LOOK).min(LOOK)),
            _ => left,
        };
        // Too long for the system call is long enough to look again.
        let left = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut watched, left) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<PollFlags> = watched.iter().map(|one| one.revents().unwrap_or(PollFlags::POLLERR)).collect();

        if !ready[0].is_empty() {
            return Ok(End::Signal);
        }
        if ready[1].intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            let mut piece = [0; 16 << 10];
            match stream.read(&mut piece) {
                Ok(0) => return Ok(End::Appliance),
                Ok(bytes) => {
                    prompt.shown(&piece[..bytes]);
                    io::stdout().write_all(&piece[..bytes]).and_then(|()| io::stdout().flush())?;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(End::Appliance),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        if reading && !ready[2].is_empty() {
            let mut piece = [0; 4 << 10];
            match input.read(&mut piece) {
                Ok(0) if terminal.is_some() => return Ok(End::Person),
                Ok(0) => input_open = false,
                Ok(bytes) if terminal.is_some() && piece[..bytes].contains(&ESCAPE) => return Ok(End::Person),
                Ok(bytes) => {
                    prompt.typed();
                    typed.extend(&piece[..bytes]);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) if terminal.is_some() => return Ok(End::Person),
                Err(_) => input_open = false,
            }
        }
        if !typed.is_empty() {
            match stream.write(&typed) {
                Ok(bytes) => drop(typed.drain(..bytes)),
                // At its end what it said last is still to be read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => typed.clear(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        while let Some(requests) = &mut desk.requests
            && let Some(request) = requests.next(prompt.waits() && typed.is_empty())
        {
            stream.set_nonblocking(false)?;
            let stays = run_request(appliance, request, deadline);
            stream.set_nonblocking(true)?;
            if !stays {
                prompt.typed();
            }
        }
    }
}

/// Runs a program's command on an appliance that waits at its prompt. False when it does not wait there afterwards.
fn run_request(appliance: &mut Appliance, request: Request, deadline: Deadline) -> bool {
    /// The appliance answers within it, or is dead: `bench` and checks of whole media take their time.
    const COMMAND: Duration = Duration::from_secs(3600);
    let ran = appliance
        .switch(request.mode, deadline)
        .and_then(|()| appliance.command(&request.line, deadline.or_after(COMMAND)));
    let name = request.line.split_whitespace().next().unwrap_or_default().to_owned();
    let ends = matches!(name.as_str(), "poweroff" | "reboot") && ran.as_ref().is_ok_and(|reply| reply.exit_code == 0);
    request.answer(ran.ok());
    !ends && appliance.leave(deadline).is_ok()
}

/// Whether the console waits at its prompt, with nothing typed behind it.
#[derive(Debug, Default)]
struct PromptWatch {
    /// The last bytes that the console showed, as many as the prompt has.
    tail: Vec<u8>,
    /// Something was typed that the console has not answered to.
    typed: bool,
}

impl PromptWatch {
    fn shown(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.tail.extend(bytes);
            self.tail.drain(..self.tail.len().saturating_sub(PROMPT.len()));
            self.typed = false;
        }
    }

    fn typed(&mut self) {
        self.typed = true;
    }

    fn waits(&self) -> bool {
        !self.typed && self.tail == PROMPT.as_bytes()
    }
}

/// Shows something on standard output. Someone who looks no longer does not stop the appliance.
fn show(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// The terminal in raw mode, until it is dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    /// Makes the terminal on standard input raw, if there is one.
    fn enter() -> io::Result<Option<Self>> {
        let terminal = io::stdin();
        if !terminal.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Nothing to be done if the terminal is gone.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}
