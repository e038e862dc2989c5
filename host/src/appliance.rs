//! An appliance as a child of this process: a program, QEMU as a rule, whose standard input and output are its COM1.
//!
//! It never outlives us: it is killed when this value is dropped, and by the kernel when the thread that started it
//! ends, however that ends.

use std::fmt;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};
use rustix::termios::tcgetwinsize;
use service::events::Ended;

use crate::deadline::Deadline;
use crate::session::{AdminStream, ReplyForm, ReplyText, SessionError, ends};

/// From power-on to the prompt, on a slow machine that emulates many CPUs.
pub const BOOT: Duration = Duration::from_secs(120);

/// How long an appliance that is up may take to answer on its admin port. One without such a port never does.
const PORT: Duration = Duration::from_secs(10);

/// From `poweroff` to the end of the program.
const POWER_OFF: Duration = Duration::from_secs(30);

/// How long a program that has closed its console may take to end.
const END: Duration = Duration::from_secs(5);

/// How often a program that may be killed at once is looked at.
const HURRY: Duration = Duration::from_millis(100);

/// Has the kernel kill what `command` starts when the thread that starts it ends, however that ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    let ask = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // Asked too late, when the parent is gone already.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(ask) };
}

/// Has what `command` starts find `fd` under the number `at`, which is open here, too, so that nothing else has it.
pub fn hand_over(command: &mut Command, fd: OwnedFd, at: RawFd) {
    let place = move || {
        // SAFETY: dup2 takes numbers. `at` is the new process's own by now, and its program is told to use it.
        match unsafe { nix::libc::dup2(fd.as_raw_fd(), at) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(place) };
}

/// Ends an appliance's program from another thread.
#[derive(Clone, Debug)]
pub struct Killer(Arc<Mutex<Child>>);

impl Killer {
    /// SIGKILL, at whatever it is doing. Nothing, if it has ended.
    pub fn kill(&self) {
        // It may have ended by itself a moment ago: that will do.
        let _ = lock(&self.0).kill();
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running appliance.
#[derive(Debug)]
pub struct ApplianceProcess {
    child: Arc<Mutex<Child>>,
    session: AdminStream,
    /// Our end of its admin port, while nobody else has it.
    port: Option<UnixStream>,
    /// The same, while commands go that way: what the console says are last words.
    by_port: Option<AdminStream>,
    /// Its exit status, once it has ended.
    ended: Option<ExitStatus>,
    /// Whether it has answered `poweroff`.
    off: bool,
}

/// The fault of an appliance, how its program ended, and its last lines.
#[derive(Debug)]
pub struct ApplianceError {
    /// The fault.
    pub error: SessionError,
    /// How the program ended, if it did.
    pub ended: Option<ExitStatus>,
    /// The last lines of its console, oldest first.
    pub tail: Vec<String>,
}

impl fmt::Display for ApplianceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        if let Some(ended) = self.ended {
            write!(f, " (its program: {ended})")?;
        }
        if self.tail.is_empty() {
            return f.write_str("; its console showed nothing");
        }
        f.write_str("; the last lines of its console:")?;
        self.tail.iter().try_for_each(|line| write!(f, "\n  | {line}"))
    }
}

impl std::error::Error for ApplianceError {}

impl ApplianceProcess {
    /// Starts `command`, with its standard input and output as the appliance's console. Its standard error stays as
    /// `command` has it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        // One socket rather than two pipes: reads and writes on it take timeouts.
        let (ours, theirs) = UnixStream::pair()?;
        command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
        die_with_parent(&mut command);
        let child = command.spawn()?;
        // `command` holds the other end, which must be the child's alone for us to see it close.
        drop(command);
        let child = Arc::new(Mutex::new(child));
        Ok(Self { child, session: AdminStream::new(ours), port: None, by_port: None, ended: None, off: false })
    }

    /// The appliance has an admin port, of which this is our end.
    pub fn set_port(&mut self, port: UnixStream) {
        self.port = Some(port);
    }

    /// Gives our end of its admin port away, if it has one that is free.
    pub fn take_port(&mut self) -> Option<UnixStream> {
        self.port.take()
    }

    /// The process id of the program.
    #[must_use]
    pub fn id(&self) -> u32 {
        lock(&self.child).id()
    }

    /// A handle that ends it from another thread.
    #[must_use]
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.child))
    }

    /// Waits for the console's prompt; `line` gets each line before it.
    ///
    /// # Errors
    /// When there is no prompt within [`BOOT`] and `deadline`.
    pub fn wait_for_prompt(&mut self, deadline: Deadline, line: impl FnMut(&str)) -> Result<(), ApplianceError> {
        let outcome = self.session.wait_for_prompt(deadline.or_after(BOOT), line);
        self.explained(outcome)
    }

    /// Waits for the console's prompt, and switches to a mode for programs. `line` gets each line before the prompt.
    ///
    /// # Errors
    /// When there is no prompt within [`BOOT`] and `deadline`, or no change of mode.
    pub fn enter(&mut self, mode: ReplyForm, deadline: Deadline, line: impl FnMut(&str)) -> Result<(), ApplianceError> {
        self.wait_for_prompt(deadline, line)?;
        self.switch(mode, deadline)
    }

    /// Shows how far a long command is in a row of standard error, if that is a terminal: from the next switch of mode on.
    pub fn show_progress(&mut self) {
        if io::stderr().is_terminal() {
            self.session.show_progress(|progress| {
                let columns = tcgetwinsize(io::stderr()).map_or(80, |size| usize::from(size.ws_col).max(20));
                eprint!("\r\x1b[K{}", progress.chars().take(columns - 1).collect::<String>());
            });
        }
    }

    /// Switches an appliance that waits at its prompt to a mode for programs.
    ///
    /// # Errors
    /// When it does not within [`BOOT`] and `deadline`.
    pub fn switch(&mut self, mode: ReplyForm, deadline: Deadline) -> Result<(), ApplianceError> {
        let outcome = self.session.enter(mode, deadline.or_after(BOOT));
        self.explained(outcome)
    }

    /// Has commands go by the admin port from now on, in the mode that the console is in, if there is one and the appliance
    /// answers there.
    pub fn use_port(&mut self, mode: ReplyForm, deadline: Deadline) {
        let stream = self.port.take().map(|port| self.session.like(port)).or_else(|| self.by_port.take());
        let Some(mut stream) = stream else { return };
        self.by_port = stream.enter(mode, deadline.or_after(PORT)).is_ok().then_some(stream);
    }

    /// Goes back to the console, up to its prompt. Not while commands go by the port.
    ///
    /// # Errors
    /// When there is no prompt within [`BOOT`] and `deadline`.
    pub fn leave(&mut self, deadline: Deadline) -> Result<(), ApplianceError> {
        let outcome = self.session.leave(deadline.or_after(BOOT));
        self.explained(outcome)?;
        self.wait_for_prompt(deadline, |_| {})
    }

    /// Sends a command, and waits for its reply. To be used in a mode for programs.
    ///
    /// # Errors
    /// The fault of the appliance; a command that it refuses is a [`ReplyText`].
    pub fn command(&mut self, command: &str, deadline: Deadline) -> Result<ReplyText, ApplianceError> {
        let outcome = match &mut self.by_port {
            Some(port) => port.command_beside(command, deadline, Some(&mut self.session)),
            None => self.session.command(command, deadline),
        };
        let reply = self.explained(outcome)?;
        self.off |= ends(command, reply.exit_code) == Some(Ended::Poweroff);
        Ok(reply)
    }

    /// Sends a line to the console and waits for nothing.
    ///
    /// # Errors
    /// When the appliance does not take it in time.
    pub fn type_line(&mut self, line: &str, deadline: Deadline) -> Result<(), ApplianceError> {
        let outcome = self.session.send(line, deadline);
        self.explained(outcome)
    }

    /// Powers off, unless a command has, and waits for the end of the program.
    ///
    /// # Errors
    /// When it does not answer, or does not end well.
    pub fn power_off(&mut self, deadline: Deadline) -> Result<(), ApplianceError> {
        let deadline = deadline.or_after(POWER_OFF);
        if !self.off {
            let reply = self.command("poweroff", deadline)?;
            if reply.exit_code != 0 {
                let refused = SessionError::Nonsense(format!("this for `poweroff`: {}", reply.text.trim_end()));
                return self.explained(Err(refused));
            }
        }
        let outcome = self.session.wait_for_end(deadline);
        self.explained(outcome)?;
        match self.wait_until_ended(deadline) {
            Some(status) if status.success() => Ok(()),
            Some(_) => self.explained(Err(SessionError::Closed)),
            None => self.explained(Err(SessionError::TooLate("end of the appliance's program"))),
        }
    }

    /// Pulls the plug: SIGKILL, at whatever it is doing.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself a moment ago: that will do.
            let mut child = lock(&self.child);
            let _ = child.kill();
            self.ended = child.wait().ok();
        }
    }

    /// How the program ended, once it has closed its console. One that closed it and goes on is killed.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        self.wait_unless(|| false)
    }

    /// The same, but it is killed at once if `hurry` returns true.
    pub fn wait_unless(&mut self, hurry: impl Fn() -> bool) -> Option<ExitStatus> {
        let end = Deadline::after(END);
        while self.wait_until_ended(end.or_after(HURRY)).is_none() && !end.passed() && !hurry() {}
        self.kill();
        self.ended
    }

    /// The stream of the console, for a caller that reads and writes it itself.
    pub(crate) fn session(&mut self) -> &mut AdminStream {
        &mut self.session
    }

    fn wait_until_ended(&mut self, deadline: Deadline) -> Option<ExitStatus> {
        while self.ended.is_none() {
            self.ended = lock(&self.child).try_wait().ok().flatten();
            if self.ended.is_some() || deadline.passed() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.ended
    }

    /// Adds to an error what is known of the program.
    fn explained<T>(&mut self, outcome: Result<T, SessionError>) -> Result<T, ApplianceError> {
        outcome.map_err(|error| {
            if matches!(error, SessionError::Closed | SessionError::Panicked(_)) {
                self.wait_until_ended(Deadline::after(END));
            }
            ApplianceError { error, ended: self.ended, tail: self.session.tail().map(str::to_owned).collect() }
        })
    }
}

impl Drop for ApplianceProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
