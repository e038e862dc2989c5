//! A person's terminal (or a program's pipes) joined to the appliance's console.
//!
//! The terminal is raw while they are joined, for the appliance does the echo and the line editing, and is itself
//! again afterwards, also when a signal ends us.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use rustix::termios::tcgetwinsize;
use serde_json::Value;
use service::admin::reply::REBOOTING;
use service::console::{CANCEL_BESIDE, FOLLOWING, MORE};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::admin::{Beside, Busy, Free, JobUnder, Request, Requests, Under};
use crate::appliance::{ApplianceError, ApplianceProcess};
use crate::beside::{self, Replies};
use crate::deadline::Deadline;
use crate::limits::COMMAND;
use crate::port::Port;
use crate::screen::Screen;
use crate::session::{PROMPT, ReplyForm, ReplyText};

/// Ctrl-]: pulls the plug.
const ESCAPE: u8 = 0x1d;

/// How much of what the console shows is looked at together: a prompt, what stands below a page, or the line that replies to
/// a person's `reboot` or `events --follow`, with the end of the line before.
const SIGN_BYTES_MAX: usize = {
    let signs = [PROMPT.len(), MORE.len(), REBOOTING.len() + 4, FOLLOWING.len() + 4];
    let (mut most, mut at) = (0, 0);
    while at < signs.len() {
        most = if signs[at] > most { signs[at] } else { most };
        at += 1;
    }
    most
};

/// How often a request that waits is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How much is kept of what is typed while the appliance starts.
const EARLY_BYTES_MAX: usize = 4 << 10;

/// How much of a command is shown to those that wait for it.
const SHOWN_CHARS: usize = 60;

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
/// If there is no prompt in time, or standard output takes nothing.
pub fn show_boot(appliance: &mut ApplianceProcess, deadline: Deadline) -> Result<(), ApplianceError> {
    appliance.wait_for_prompt(deadline, |line| show(format!("{line}\n").as_bytes()))
}

/// Formats the one namespace of an appliance that waits at its prompt, if it is blank. The
/// appliance decides whether it is: without -f it refuses to format anything that it recognises. Reports the outcome on
/// standard error.
///
/// # Errors
/// When the appliance does not answer.
pub fn format_if_blank(appliance: &mut ApplianceProcess, deadline: Deadline) -> Result<(), ApplianceError> {
    const COMMAND: Duration = Duration::from_secs(60);
    appliance.switch(ReplyForm::Json, deadline)?;
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

    /// Whether one has come.
    #[must_use]
    pub fn have_come(&self) -> bool {
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}

/// The inputs of a join besides the console: signals, the keyboard and programs.
#[derive(Debug)]
pub struct Inputs {
    /// The signals that end it.
    pub signals: Signals,
    /// Whether standard input is the keyboard; else it is not read.
    pub keyboard: bool,
    /// Programs that ask for commands in between.
    pub requests: Option<Requests>,
    /// Where the console is shown.
    pub screen: Screen,
}

/// Joins standard input and output to an appliance, until one of them ends. With `at_prompt` its prompt has been read
/// and is shown; else it boots, and everything is shown as it comes.
///
/// The end of a standard input that is no terminal ends nothing: a service may have none. Requests of programs are sent
/// by the admin port, if the appliance answers there, or else beside what is typed: those that may go beside a command at any
/// time, others while no command runs. The person sees nothing of them.
///
/// # Errors
/// When the terminal or the stream fails.
pub fn join(
    appliance: &mut ApplianceProcess,
    inputs: &mut Inputs,
    at_prompt: bool,
    deadline: Deadline,
) -> io::Result<End> {
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let terminal = if inputs.keyboard { RawTerminal::enter()? } else { None };
    let appliance_port = appliance.take_port();
    let (stream, seen) = appliance.session().by_hand();
    let mut stream = stream.try_clone()?;
    stream.set_nonblocking(true)?;
    let mut work = Work::default();
    let mut replies = Replies::default();
    let mut port = appliance_port.map(Port::new).transpose()?;
    if at_prompt {
        inputs.screen.put(PROMPT.as_bytes())?;
        work.shown(PROMPT.as_bytes());
    }
    inputs.screen.put(&seen)?;
    work.shown(&seen);

    // Bytes for the appliance that are not sent yet: more are taken in only when they are gone, or while it starts.
    let mut typed: Vec<u8> = Vec::new();
    let mut input_open = inputs.keyboard;
    let end = loop {
        // Before the next key, which may be one that needs it.
        if let Some(terminal) = &terminal {
            if std::mem::take(&mut work.came_up) {
                terminal.is_unknown();
            }
            if work.waits_for_keys()
                && let Some(size) = terminal.new_size()
            {
                typed.extend(size);
            }
        }
        let mut watched = vec![
            PollFd::new(inputs.signals.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(
                stream.as_fd(),
                if typed.is_empty() || !work.up { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT },
            ),
        ];
        let reading = input_open && (typed.is_empty() || (!work.up && typed.len() < EARLY_BYTES_MAX));
        if reading {
            watched.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        if let Some(requests) = &inputs.requests {
            watched.push(PollFd::new(requests.wake().as_fd(), PollFlags::POLLIN));
        }
        if let Some(port) = &mut port {
            port.appliance_is(work.up);
            let (stream, events) = port.watched();
            watched.push(PollFd::new(stream, events));
        }
        let left = deadline.left();
        if left == Some(Duration::ZERO) {
            break End::Late;
        }
        let left = match &inputs.requests {
            // Its patience may end before anything comes.
            Some(requests) if requests.is_waiting() || work.is_asked() => Some(left.unwrap_or(LOOK).min(LOOK)),
            _ => left,
        };
        // Too long for the system call is long enough to look again.
        let left = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut watched, left) {
            Ok(_) => {}
            // The terminal may have another size.
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<PollFlags> = watched.iter().map(|one| one.revents().unwrap_or(PollFlags::POLLERR)).collect();
        if !ready[0].is_empty() {
            break End::Signal;
        }
        // Before the console, whose end may come with the reply to what ended it.
        if let Some(open) = &mut port {
            match open.turn() {
                Ok(replies) => replies.iter().for_each(|reply| work.answered(reply)),
                // All else goes on by the console.
                Err(_) => {
                    port = None;
                    work.loses(|way| way == Way::Port);
                }
            }
        }
        if ready[1].intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            let mut piece = [0; 16 << 10];
            match stream.read(&mut piece) {
                Ok(0) => break End::Appliance,
                Ok(bytes) => {
                    let mut seen = Vec::new();
                    let taken = replies.take(&piece[..bytes], &mut seen);
                    let taken = taken.map_err(|_| io::Error::other("the appliance sends a reply without an end"))?;
                    work.shown(&seen);
                    inputs.screen.put(&seen)?;
                    taken.iter().for_each(|reply| work.answered(reply));
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Appliance,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        if reading && !ready[2].is_empty() {
            let mut piece = [0; 4 << 10];
            match input.read(&mut piece) {
                Ok(0) if terminal.is_some() => break End::Person,
                Ok(0) => input_open = false,
                Ok(bytes) if terminal.is_some() && piece[..bytes].contains(&ESCAPE) => break End::Person,
                Ok(bytes) => {
                    work.typed(&piece[..bytes]);
                    typed.extend(&piece[..bytes]);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) if terminal.is_some() => break End::Person,
                Err(_) => input_open = false,
            }
        }
        for (way, bytes) in work.gives_up() {
            match (way, &mut port) {
                (Way::Port, Some(port)) => port.send(&bytes),
                _ => typed.extend(bytes),
            }
        }
        if let Some(requests) = &mut inputs.requests {
            let by_port = port.as_mut().filter(|port| port.is_ready());
            let unsent = by_port.as_ref().map_or(!typed.is_empty(), |port| port.has_unsent()).then(takes_nothing);
            let busy = work.busy();
            let free = match (&busy, &unsent) {
                (_, Some(unsent)) => Free::Nothing(unsent),
                (None, None) => Free::All,
                (Some(busy), None) => Free::Beside(busy),
            };
            if let Some(request) = requests.next(free) {
                match by_port {
                    Some(port) => port.send(&work.ask(request, Way::Port)),
                    None => typed.extend(work.ask(request, Way::Console)),
                }
            }
        }
        // A firmware or loader that starts the appliance has ears, too, and takes keys for its own.
        if !typed.is_empty() && work.up {
            match stream.write(&typed) {
                Ok(bytes) => drop(typed.drain(..bytes)),
                // At its end what it said last is still to be read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => typed.clear(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    };
    // An appliance that dies over a reply may have said why.
    let _ = inputs.screen.put(&replies.unfinished());
    Ok(end)
}

/// Why nothing can be asked while something that was sent before is not taken.
fn takes_nothing() -> String {
    "the appliance takes nothing of what it is sent".into()
}

/// The way that a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Console,
    Port,
}

/// The work that keeps the appliance busy, as far as its console shows.
#[derive(Debug, Default)]
struct Work {
    /// The last bytes that the console showed, one less than [`SIGN_BYTES_MAX`].
    tail: Vec<u8>,
    /// Whether the prompt came since it started.
    up: bool,
    /// Whether it came up since that was last asked.
    came_up: bool,
    /// Since when a line that was typed is carried out, until the prompt comes.
    typed: Option<Instant>,
    /// A program's request that is not answered.
    asked: Option<Asked>,
    /// One beside it, that is one step on a block device.
    stepped: Option<Asked>,
    /// One beside both, that only looks.
    looked: Option<Asked>,
    /// Jobs, which go on beside all of these, in the order in which they were sent.
    jobs: Vec<Asked>,
    /// The number of the last one.
    number: u32,
}

/// A program's request that was sent.
#[derive(Debug)]
struct Asked {
    number: u32,
    way: Way,
    /// `None` once it is given up.
    request: Option<Request>,
    line: String,
    /// The device or namespace of a job.
    device: Option<String>,
    since: Instant,
}

impl Asked {
    /// For those that wait for it.
    fn why(&self) -> String {
        let shown: String = match self.line.char_indices().nth(SHOWN_CHARS) {
            None => self.line.clone(),
            Some((cut, _)) => format!("{}…", &self.line[..cut]),
        };
        format!("`{shown}` of another client runs, {}", so_long(self.since))
    }
}

fn so_long(since: Instant) -> String {
    format!("for {} s now", since.elapsed().as_secs())
}

impl Work {
    fn shown(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.tail.push(*byte);
            if self.tail.ends_with(PROMPT.as_bytes()) {
                if !self.up {
                    self.came_up = true;
                    // What was asked of it before it started anew has no reply any more.
                    self.loses(|_| true);
                }
                (self.up, self.typed) = (true, None);
            } else if self.tail.ends_with(MORE.as_bytes()) {
                // The command is done.
                self.typed = None;
            } else if ends_with_line(&self.tail, REBOOTING) {
                self.up = false;
            } else if ends_with_line(&self.tail, FOLLOWING) {
                // It keeps nobody waiting.
                self.typed = None;
            }
        }
        self.tail.drain(..self.tail.len().saturating_sub(SIGN_BYTES_MAX - 1));
    }

    /// Whether the appliance shows its prompt, or a page of a reply: then it is in its console.
    const fn waits_for_keys(&self) -> bool {
        self.up && self.typed.is_none()
    }

    fn typed(&mut self, bytes: &[u8]) {
        // Half a line does not keep programs from asking.
        if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            self.typed.get_or_insert_with(Instant::now);
        }
    }

    /// Makes this the request that is not answered. Returns the bytes that ask for it.
    fn ask(&mut self, request: Request, way: Way) -> Vec<u8> {
        // 0 is nobody's.
        self.number = self.number.checked_add(1).unwrap_or(1);
        let bytes = beside::request(request.mode, self.number, &request.line);
        let (line, beside) = (request.line.clone(), request.beside.clone());
        let device = match &beside {
            Beside::Job(device) => device.clone(),
            _ => None,
        };
        let asked = Asked { number: self.number, way, request: Some(request), line, device, since: Instant::now() };
        match beside {
            Beside::None => self.asked = Some(asked),
            Beside::OtherDevices(_) => self.stepped = Some(asked),
            Beside::All => self.looked = Some(asked),
            Beside::Job(_) => self.jobs.push(asked),
        }
        bytes
    }

    /// The requests that are not answered.
    fn unanswered(&self) -> impl Iterator<Item = &Asked> {
        [&self.asked, &self.stepped, &self.looked].into_iter().flatten().chain(&self.jobs)
    }

    /// The number of the request that a reply without one is about. Lines are read in order, and a job that has begun was
    /// read.
    fn unnumbered(&self) -> Option<u32> {
        let asked = [&self.asked, &self.stepped, &self.looked].into_iter().flatten().min_by_key(|asked| asked.since);
        asked.or(self.jobs.last()).map(|asked| asked.number)
    }

    /// Whether a request is not answered.
    fn is_asked(&self) -> bool {
        self.unanswered().next().is_some()
    }

    fn answered(&mut self, reply: &[u8]) {
        let (number, reply) = match beside::numbered(reply) {
            Some((number, reply)) => (Some(number), reply),
            // Of a line of which bytes were lost, its number perhaps.
            None => (self.unnumbered(), reply),
        };
        let mut places = [&mut self.asked, &mut self.stepped, &mut self.looked].into_iter();
        let asked = places.find_map(|place| place.take_if(|asked| Some(asked.number) == number)).or_else(|| {
            let job = self.jobs.iter().position(|job| Some(job.number) == number)?;
            Some(self.jobs.remove(job))
        });
        let Some(request) = asked.and_then(|asked| asked.request) else { return };
        let reply = ReplyText::parse(request.mode, reply).ok();
        if reply.as_ref().is_some_and(|reply| reply.exit_code == 0 && request.ends.is_some()) {
            self.up = false;
        }
        request.answer(reply);
    }

    /// Gives up requests whose programs have gone, or that were not answered for too long: these programs are disconnected.
    /// Returns the bytes that end the commands among them, each with its way.
    fn gives_up(&mut self) -> Vec<(Way, Vec<u8>)> {
        let is_in_vain = |asked: &mut Asked| {
            let is_abandoned = asked.request.as_ref().is_some_and(Request::is_abandoned);
            let request = asked.request.take_if(|_| is_abandoned || asked.since.elapsed() >= COMMAND);
            request.map(|request| request.answer(None)).is_some()
        };
        for beside in [&mut self.stepped, &mut self.looked] {
            beside.as_mut().map(is_in_vain);
        }
        let asked = self.asked.as_mut().and_then(|asked| is_in_vain(asked).then_some(asked.way));
        let mut ends: Vec<_> = asked.map(|way| (way, vec![CANCEL_BESIDE])).into_iter().collect();
        for job in &mut self.jobs {
            if is_in_vain(job) {
                ends.push((job.way, beside::end_of_job(job.number)));
            }
        }
        ends
    }

    /// Gives up what went such ways: nothing answers there any more.
    fn loses(&mut self, is_lost: impl Fn(Way) -> bool) {
        for place in [&mut self.asked, &mut self.stepped, &mut self.looked] {
            let request = place.take_if(|asked| is_lost(asked.way)).and_then(|asked| asked.request);
            if let Some(request) = request {
                request.answer(None);
            }
        }
        for job in self.jobs.extract_if(.., |job| is_lost(job.way)) {
            job.request.into_iter().for_each(|request| request.answer(None));
        }
    }

    /// The reason for which it cannot answer any other request at once.
    fn busy(&self) -> Option<Busy> {
        if !self.up {
            let (command, jobs) = (Under::Unknown, Vec::new());
            return Some(Busy { why: "the appliance starts".into(), command, jobs, looks: false, steps: false });
        }
        let command = match (&self.asked, self.typed) {
            (Some(asked), _) => Under::Command(asked.line.clone()),
            (None, Some(_)) => Under::Unknown,
            (None, None) => Under::None,
        };
        let jobs = self.jobs.iter().map(|job| JobUnder { device: job.device.clone(), why: job.why() }).collect();
        // Only a command that may be long is passed: what else is under way is soon done, and then all have their turn.
        let (looks, steps) = match command {
            Under::None => [!self.jobs.is_empty() && self.looked.is_none() && self.stepped.is_none(); 2].into(),
            _ => (self.looked.is_none(), self.stepped.is_none()),
        };
        if let Some(asked) = self.unanswered().next() {
            return Some(Busy { why: asked.why(), command, jobs, looks, steps });
        }
        self.typed.map(|since| {
            let why = format!("a command that was typed at the console runs, {}", so_long(since));
            Busy { why, command, jobs, looks, steps }
        })
    }
}

/// Whether the line that a console showed last is this reply to what a person typed.
fn ends_with_line(shown: &[u8], line: &str) -> bool {
    let before = shown.strip_suffix(b"\r\n").and_then(|shown| shown.strip_suffix(line.as_bytes()));
    before.is_some_and(|before| before.ends_with(b"\r\n"))
}

/// Shows something on standard output. Someone who looks no longer does not stop the appliance.
fn show(text: &[u8]) {
    let mut out = io::stdout();
    let _ = out.write_all(text).and_then(|()| out.flush());
}

/// The terminal in raw mode, until it is dropped.
struct RawTerminal {
    before: Termios,
    /// Whether its size has not been told, or is another one now.
    resized: Arc<AtomicBool>,
}

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
        let resized = Arc::new(AtomicBool::new(true));
        flag::register(SIGWINCH, Arc::clone(&resized))?;
        Ok(Some(Self { before, resized }))
    }

    /// The appliance has started: it knows no size.
    fn is_unknown(&self) {
        self.resized.store(true, Ordering::Relaxed);
    }

    /// What tells the appliance the size (`service::console`), once after each start and each change.
    fn new_size(&self) -> Option<Vec<u8>> {
        if !self.resized.swap(false, Ordering::Relaxed) {
            return None;
        }
        let size = tcgetwinsize(io::stdin()).ok()?;
        Some(format!("\x1b[8;{};{}t", size.ws_row, size.ws_col).into_bytes())
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // Without a wait for what it has not shown yet: a person may have stopped it. Nothing to be done if it is gone.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.before);
        let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Option<Asked> {
        Some(job("status"))
    }

    fn job(line: &str) -> Asked {
        Asked { number: 1, way: Way::Port, request: None, line: line.into(), device: None, since: Instant::now() }
    }

    #[test]
    fn requests_pass_a_command_and_not_one_another() {
        let up = || Work { up: true, ..Work::default() };
        assert!(up().busy().is_none());
        for (work, passed) in [
            (Work { asked: asked(), ..up() }, (true, true)),
            (Work { typed: Some(Instant::now()), ..up() }, (true, true)),
            (Work { asked: asked(), looked: asked(), ..up() }, (false, true)),
            (Work { asked: asked(), stepped: asked(), ..up() }, (true, false)),
            // A command that waits would wait for ever if these took turns.
            (Work { looked: asked(), ..up() }, (false, false)),
            (Work { stepped: asked(), ..up() }, (false, false)),
            (Work { asked: asked(), ..Work::default() }, (false, false)),
            // Beside jobs all is as without them.
            (Work { jobs: vec![job("errors")], ..up() }, (true, true)),
            (Work { jobs: vec![job("errors")], looked: asked(), ..up() }, (false, false)),
            (Work { jobs: vec![job("errors")], asked: asked(), looked: asked(), ..up() }, (false, true)),
        ] {
            let busy = work.busy().expect("it is");
            assert_eq!((busy.looks, busy.steps), passed, "{work:?}");
        }
    }
}
