//! The admin service at the end of a byte stream: waits for its prompt, switches its mode, sends commands and takes
//! their replies apart.
//!
//! The far end is not trusted: a line and a reply have a bound, every wait has a deadline, and a panic of the appliance
//! is an error that carries its words. Every error carries the last lines that were seen.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use service::admin::object::parse_with_id;
use service::admin::reply::{self, RS};
use service::admin::table::AnyRequest;
use service::admin::{self, Outcome, RequestId};
pub use service::console::PROMPT;
use service::error::{AdminError, ErrorCode};
use service::events::Ended;
use service::progress::{Figures, PROGRESS_MARK};

use crate::deadline::Deadline;

/// The longest line that is taken, bytes. The longest honest one is a read's: 1 MiB in base64.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The longest reply that is taken, bytes.
pub(crate) const REPLY_BYTES_MAX: usize = 64 << 20;

/// How many lines an error remembers, and how much of each.
const TAIL_LINES: usize = 30;
const TAIL_LINE_CHARS: usize = 400;

/// How long an appliance that panics may take over its last words.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How replies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyForm {
    /// For people: the console's own text.
    Text,
    /// Machine mode: a JSON object a line.
    Json,
}

impl From<ReplyForm> for admin::Mode {
    fn from(mode: ReplyForm) -> Self {
        match mode {
            ReplyForm::Text => Self::Text,
            ReplyForm::Json => Self::Json,
        }
    }
}

/// A command's reply.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyText {
    /// As it came: lines of text, each with its line feed, or one line of JSON.
    pub text: String,
    /// 0 ok, 1 failed, 2 usage, 3 not found, 4 media or metadata damaged.
    pub exit_code: u8,
}

impl ReplyText {
    /// Parses a whole reply.
    ///
    /// # Errors
    /// [`SessionError::Nonsense`].
    pub fn parse(mode: ReplyForm, bytes: &[u8]) -> Result<Self, SessionError> {
        let whole = String::from_utf8_lossy(bytes);
        let mut reply = Self { text: String::new(), exit_code: 0 };
        for line in whole.lines() {
            if let Some(exit_code) = reply.take(mode, line)? {
                reply.exit_code = exit_code;
                return Ok(reply);
            }
        }
        Err(SessionError::Nonsense(format!("a reply without an end: {}", shortened(&whole))))
    }

    /// Whether another command was under way, and nothing was done: it may be asked for again.
    pub(crate) fn is_busy(&self, mode: ReplyForm) -> bool {
        let code = ErrorCode::Busy.as_str();
        match mode {
            // Most replies are none, and may be long.
            _ if self.exit_code != ErrorCode::Busy.exit_code() => false,
            ReplyForm::Text => self.text.starts_with(&format!("error ({code}): ")),
            ReplyForm::Json => {
                let reply: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_default();
                reply["error"]["code"] == code
            }
        }
    }

    /// Takes the next line; returns the exit code when it is the last.
    fn take(&mut self, mode: ReplyForm, line: &str) -> Result<Option<u8>, SessionError> {
        let code = exit_code_in(mode, line)?;
        if mode == ReplyForm::Json || code.is_none() {
            self.text.push_str(line);
            self.text.push('\n');
        }
        match self.text.len() > REPLY_BYTES_MAX {
            true => Err(SessionError::Nonsense(format!("a reply of more than {REPLY_BYTES_MAX} bytes"))),
            false => Ok(code),
        }
    }
}

/// A fault between us and the appliance. None of these is a command's own failure: that is a [`ReplyText`].
#[derive(Debug)]
pub enum SessionError {
    /// The stream ended.
    Closed,
    /// Nothing came in time. It names what was waited for.
    TooLate(&'static str),
    /// The appliance panicked. It is the panic's own line.
    Panicked(String),
    /// Something came that is no reply.
    Nonsense(String),
    /// The stream failed.
    Stream(io::Error),
}

impl SessionError {
    const fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the appliance ended"),
            Self::TooLate(what) => write!(f, "no {what} in time"),
            Self::Panicked(line) => write!(f, "the appliance panicked: {line}"),
            Self::Nonsense(what) => write!(f, "the appliance sent {what}"),
            Self::Stream(error) => write!(f, "the connection to the appliance failed: {error}"),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

/// A conversation with the admin service, in one mode at a time.
#[derive(Debug)]
pub struct AdminStream {
    stream: UnixStream,
    /// Bytes that came and were not yet used.
    inbox: VecDeque<u8>,
    /// How far `inbox` is known to hold no line feed.
    searched: usize,
    tail: VecDeque<String>,
    mode: ReplyForm,
    /// Takes how far a long command is, each time that it is another; an empty one at its end.
    progress: Option<fn(&str)>,
}

impl AdminStream {
    /// A conversation over `stream`, at whose other end the appliance boots or shows its prompt.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inbox: VecDeque::new(),
            searched: 0,
            tail: VecDeque::new(),
            mode: ReplyForm::Text,
            progress: None,
        }
    }

    /// A conversation over another stream to the same appliance, which shows progress as this one does.
    #[must_use]
    pub fn like(&self, stream: UnixStream) -> Self {
        Self { progress: self.progress, ..Self::new(stream) }
    }

    /// From the next [`AdminStream::enter`] on, `show` gets how far a long command is; an empty text once it is replied to.
    pub fn show_progress(&mut self, show: fn(&str)) {
        self.progress = Some(show);
    }

    /// The last lines that came, oldest first.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// The stream below, and the bytes from it that were not used, for a caller that goes on itself.
    pub(crate) fn by_hand(&mut self) -> (&mut UnixStream, Vec<u8>) {
        self.searched = 0;
        (&mut self.stream, self.inbox.drain(..).collect())
    }

    /// Waits for the console's prompt. `line` gets each line before it: banner and log.
    ///
    /// # Errors
    /// [`SessionError::TooLate`] and everything else that can go wrong below.
    pub fn wait_for_prompt(&mut self, deadline: Deadline, mut line: impl FnMut(&str)) -> Result<(), SessionError> {
        loop {
            while let Some(text) = self.buffered_line()? {
                self.remember(&text);
                self.mind_panic(&text)?;
                line(&text);
            }
            // What follows the last line feed is the prompt, perhaps behind a carriage return or a colour.
            self.inbox.make_contiguous();
            if self.inbox.as_slices().0.ends_with(PROMPT.as_bytes()) {
                self.inbox.clear();
                self.searched = 0;
                return Ok(());
            }
            self.fill(deadline, "prompt")?;
        }
    }

    /// Switches from the console to a mode for programs. Its own echo and reply are swallowed.
    ///
    /// # Errors
    /// Everything that can go wrong below.
    pub fn enter(&mut self, mode: ReplyForm, deadline: Deadline) -> Result<(), SessionError> {
        let (word, first) = match mode {
            ReplyForm::Text => ("text", RS),
            ReplyForm::Json => ("json", '{'),
        };
        let progress = if self.progress.is_some() { " --progress" } else { "" };
        self.send(&format!("mode {word}{progress}"), deadline)?;
        loop {
            let line = self.line(deadline, "change of mode")?;
            self.mind_panic(&line)?;
            if line.starts_with(first) {
                self.mode = mode;
                return match exit_code_in(mode, &line)? {
                    Some(0) => Ok(()),
                    _ => Err(SessionError::Nonsense(format!("'{line}' for `mode {word}`"))),
                };
            }
        }
    }

    /// Goes back to the console. What follows on the stream is the reply's line and then the prompt.
    ///
    /// # Errors
    /// Everything that can go wrong below.
    pub fn leave(&mut self, deadline: Deadline) -> Result<(), SessionError> {
        self.send("mode console", deadline)
    }

    /// Sends a command, and waits for its reply.
    ///
    /// # Errors
    /// Everything that can go wrong below; a command that the appliance refuses is a [`ReplyText`].
    pub fn command(&mut self, command: &str, deadline: Deadline) -> Result<ReplyText, SessionError> {
        self.command_beside(command, deadline, None)
    }

    /// The same, while the appliance's last words may come on its `console`, which is another stream in a mode for programs.
    ///
    /// # Errors
    /// Those of [`AdminStream::command`].
    pub fn command_beside(
        &mut self,
        command: &str,
        deadline: Deadline,
        mut console: Option<&mut Self>,
    ) -> Result<ReplyText, SessionError> {
        self.send(command, deadline)?;
        let mut reply = ReplyText { text: String::new(), exit_code: 0 };
        let mut shown = false;
        loop {
            let line = self.line_beside(deadline, "reply", console.as_deref_mut())?;
            self.mind_panic(&line)?;
            if let Some(show) = self.progress {
                if let Some(progress) = progress_in(self.mode, &line) {
                    show(&progress);
                    shown = true;
                    continue;
                }
                if std::mem::take(&mut shown) {
                    show("");
                }
            }
            if let Some(exit_code) = reply.take(self.mode, &line)? {
                return Ok(ReplyText { exit_code, ..reply });
            }
        }
    }

    /// Waits until the far end closes the stream.
    ///
    /// # Errors
    /// [`SessionError::TooLate`], [`SessionError::Panicked`] and failures of the stream; not [`SessionError::Closed`].
    pub fn wait_for_end(&mut self, deadline: Deadline) -> Result<(), SessionError> {
        loop {
            match self.line(deadline, "end of the appliance") {
                Ok(line) => self.mind_panic(&line)?,
                Err(SessionError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a line and waits for nothing.
    ///
    /// # Errors
    /// [`SessionError::TooLate`] and failures of the stream.
    pub fn send(&mut self, line: &str, deadline: Deadline) -> Result<(), SessionError> {
        let mut bytes = line.as_bytes().to_vec();
        bytes.push(b'\n');
        match send_all(&self.stream, &bytes, deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(SessionError::TooLate("room for a command")),
            // The far end is closed: its last lines say why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.closed()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn line(&mut self, deadline: Deadline, what: &'static str) -> Result<String, SessionError> {
        self.line_beside(deadline, what, None)
    }

    fn line_beside(
        &mut self,
        deadline: Deadline,
        what: &'static str,
        mut console: Option<&mut Self>,
    ) -> Result<String, SessionError> {
        loop {
            if let Some(line) = self.buffered_line()? {
                self.remember(&line);
                return Ok(line);
            }
            let Some(console) = console.as_deref_mut() else {
                self.fill(deadline, what)?;
                continue;
            };
            if self.waits_before(console, deadline)? {
                match self.fill(deadline, what) {
                    Err(SessionError::Closed) => {
                        let end = console.wait_for_end(Deadline::after(LAST_WORDS));
                        return Err(end.err().filter(SessionError::is_panic).unwrap_or(SessionError::Closed));
                    }
                    filled => filled?,
                }
            } else {
                console.fill(deadline, what)?;
                while let Some(line) = console.buffered_line()? {
                    console.remember(&line);
                    console.mind_panic(&line)?;
                }
            }
        }
    }

    /// Waits for bytes of either stream. Returns false if there are some of the console's only.
    fn waits_before(&self, console: &Self, deadline: Deadline) -> Result<bool, SessionError> {
        let mut watched = [&self.stream, &console.stream].map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLIN));
        // Too long for the system call is long enough to look again.
        let left = deadline.left();
        let left = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut watched, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        let is_ready = |one: &PollFd<'_>| one.any().unwrap_or(true);
        Ok(is_ready(&watched[0]) || !is_ready(&watched[1]))
    }

    /// The next whole line in the inbox, without its end.
    fn buffered_line(&mut self) -> Result<Option<String>, SessionError> {
        let Some(found) = self.inbox.iter().skip(self.searched).position(|&byte| byte == b'\n') else {
            self.searched = self.inbox.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(SessionError::Nonsense(format!("a line of more than {LINE_BYTES_MAX} bytes")));
            }
            return Ok(None);
        };
        let mut bytes: Vec<u8> = self.inbox.drain(..=self.searched + found).collect();
        self.searched = 0;
        bytes.pop();
        // On a terminal a line ends with CR LF.
        bytes.pop_if(|end| *end == b'\r');
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn fill(&mut self, deadline: Deadline, what: &'static str) -> Result<(), SessionError> {
        let left = deadline.left();
        if left == Some(Duration::ZERO) {
            return Err(SessionError::TooLate(what));
        }
        self.stream.set_read_timeout(left)?;
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(self.closed()),
            Ok(bytes) => {
                self.inbox.extend(&piece[..bytes]);
                Ok(())
            }
            Err(error) if is_retry(&error) => Ok(()),
            // A peer that is killed with unread bytes resets the stream instead of ending it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(self.closed()),
            Err(error) => Err(error.into()),
        }
    }

    /// The stream is at its end: an unfinished line counts as one more.
    fn closed(&mut self) -> SessionError {
        if !self.inbox.is_empty() {
            let rest: Vec<u8> = self.inbox.drain(..).collect();
            self.searched = 0;
            self.remember(&String::from_utf8_lossy(&rest));
        }
        SessionError::Closed
    }

    fn remember(&mut self, line: &str) {
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(shortened(line));
    }

    /// If `line` is a panic's, collects what else the appliance has to say, and makes an error of it.
    fn mind_panic(&mut self, line: &str) -> Result<(), SessionError> {
        if !line.starts_with("panic at ") {
            return Ok(());
        }
        let end = Deadline::after(LAST_WORDS);
        while self.line(end, "end").is_ok() {}
        Err(SessionError::Panicked(shortened(line)))
    }
}

/// Whether a read or write should just be tried again: a signal came, or the time is up and the caller looks at it.
fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(TAIL_LINE_CHARS) {
        None => line.to_owned(),
        Some((cut, _)) => format!("{}… ({} bytes)", &line[..cut], line.len()),
    }
}

/// Sends all bytes by the deadline, however slowly the far end takes them. Returns whether they are all sent.
///
/// # Errors
/// The stream's.
pub fn send_all(mut stream: &UnixStream, bytes: &[u8], deadline: Deadline) -> io::Result<bool> {
    // The system's own bound begins anew whenever there is room for a little: a piece is sent at a time.
    const PIECE_BYTES: usize = 4096;
    let mut rest = bytes;
    while !rest.is_empty() {
        let left = deadline.left();
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        stream.set_write_timeout(left)?;
        match stream.write(&rest[..rest.len().min(PIECE_BYTES)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => rest = &rest[sent..],
            Err(error) if is_retry(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The request that a line makes, whichever way it is written: words, behind a number, or an object. `None`: it is none, which
/// the appliance says better.
#[must_use]
pub fn request(line: &str) -> Option<AnyRequest> {
    parse_with_id(line).1.ok()
}

/// How a command that was answered with `exit_code` ends the machine, if it does.
#[must_use]
pub fn ends(line: &str, exit_code: u8) -> Option<Ended> {
    request(line).filter(|_| exit_code == 0)?.ends_machine()
}

/// A reply of ours, in the appliance's own form.
pub(crate) fn reply_of(mode: ReplyForm, id: Option<&RequestId>, outcome: &Result<Outcome, AdminError>) -> String {
    let mut text = String::new();
    // A string takes all that is written.
    let _ = reply::write_with_id(mode.into(), id, outcome, &mut text);
    text
}

/// How far a command is, if a line tells that.
fn progress_in(mode: ReplyForm, line: &str) -> Option<String> {
    match mode {
        ReplyForm::Text => line.strip_prefix(PROGRESS_MARK).map(Into::into),
        ReplyForm::Json => {
            let line: Value = serde_json::from_str(line.strip_prefix("{\"progress\":")?.strip_suffix('}')?).ok()?;
            serde_json::from_value::<Figures>(line).ok().map(|figures| figures.to_string())
        }
    }
}

/// The exit code in a line of a reply, when it is the reply's last.
fn exit_code_in(mode: ReplyForm, line: &str) -> Result<Option<u8>, SessionError> {
    match mode {
        ReplyForm::Text => match line.strip_prefix(RS) {
            None => Ok(None),
            // An id may follow.
            Some(code) => match code.split(' ').next().unwrap_or_default().parse() {
                Ok(code) => Ok(Some(code)),
                Err(_) => Err(SessionError::Nonsense(format!("'{code}' for an exit code"))),
            },
        },
        ReplyForm::Json => match serde_json::from_str(line) {
            Ok(reply @ Value::Object(_)) => Ok(Some(exit_code(&reply))),
            _ => Err(SessionError::Nonsense(format!("a line that is no JSON object: {}", shortened(line)))),
        },
    }
}

/// The exit code that a machine-mode reply stands for.
fn exit_code(reply: &Value) -> u8 {
    if reply["ok"] != Value::Bool(true) {
        let code = ErrorCode::ALL.into_iter().find(|code| reply["error"]["code"] == code.as_str());
        return code.unwrap_or(ErrorCode::Failed).exit_code();
    }
    // A check or a verification that did its work and found damage has an exit code here.
    reply["exit"].as_u64().map_or(0, |code| u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use service::events::Ended;

    use super::ends;

    #[test]
    fn what_ends_the_machine_is_known_whichever_way_it_is_written() {
        for (name, ended) in [("poweroff", Ended::Poweroff), ("reboot", Ended::Reboot)] {
            for line in [
                name.to_owned(),
                format!("'{name}' # now"),
                format!("#7 {name}"),
                format!("{{\"command\":\"{name}\"}}"),
            ] {
                assert_eq!((ends(&line, 0), ends(&line, 1)), (Some(ended), None), "{line}");
            }
            for line in [format!("{name} -h"), format!("help {name}"), format!("{name} now")] {
                assert_eq!(ends(&line, 0), None, "{line}");
            }
        }
    }
}
