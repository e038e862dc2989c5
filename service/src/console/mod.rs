//! The session: requests from a byte link, replies to it.
//!
//! Bytes are taken in the order they came; a line's command is carried out and answered before the next byte is read,
//! so a paste of many lines is as good as typing them. Lines end with LF, CR or CR LF.
//!
//! | mode | echo, prompt | a reply | an error |
//! |---|---|---|---|
//! | console | yes; line editing, history, completion | text | `error (CODE): …` |
//! | text | no | text, then a line of RS (0x1E) and the exit status | the same |
//! | json | no | one JSON object on one line | `{"ok":false,"error":…}` |
//!
//! Whatever comes in, each line gets exactly one answer and nothing else is said (in the console, a blank line gets a
//! new prompt). A line over 64 KiB is swallowed to its end and answered "too-long"; one with a byte that is neither text
//! nor a key is answered "usage", with the byte and its column.

mod complete;
mod editor;
mod history;
mod keys;
mod output;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use complete::{Completion, complete};
use editor::{Editor, Entered};
use keys::{Key, Keys};
use output::Output;

use crate::admin::command::Mode;
use crate::admin::{LINE_BYTES_MAX, Reply, execute, machine, parse, text, words};
use crate::appliance::Appliance;
use crate::error::AdminError;
use crate::link::ByteLink;

/// Bytes that one [`Session::poll`] takes at most, so that the caller's loop turns even under a flood.
const POLL_BYTES_MAX: usize = 4096;

/// What a [`Session::poll`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Activity {
    /// No byte had arrived.
    Idle,
    /// Bytes were taken; more may be waiting.
    Busy,
    /// `poweroff` was answered and everything is durable: stop the machine.
    Poweroff,
    /// `reboot`, likewise.
    Reboot,
}

/// One peer's session.
#[derive(Debug)]
pub struct Session {
    mode: Mode,
    keys: Keys,
    editor: Editor,
    /// The line so far, in the modes for programs.
    line: Vec<u8>,
    /// Whether that line lost bytes at its limit.
    too_long: bool,
    /// Whether the last byte was a CR: then an LF belongs to it.
    after_return: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// A session in console mode. Nothing is sent until [`Session::start`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            mode: Mode::Console,
            keys: Keys::default(),
            editor: Editor::default(),
            line: Vec::new(),
            too_long: false,
            after_return: false,
        }
    }

    /// Shows the first prompt: the machine is ready.
    pub fn start<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        self.editor.prompt(link);
    }

    /// How the session talks now.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes the bytes that have arrived, up to and including one command, and answers it. Call it again while it is
    /// [`Activity::Busy`].
    pub fn poll<L: ByteLink + ?Sized, A: Appliance + ?Sized>(&mut self, link: &mut L, appliance: &mut A) -> Activity {
        let mut activity = Activity::Idle;
        for _ in 0..POLL_BYTES_MAX {
            let Some(byte) = link.receive() else { break };
            activity = Activity::Busy;
            if let Some(request) = self.take(byte, link, appliance) {
                return self.answer(request, link, appliance);
            }
        }
        activity
    }

    /// Shows a line that nobody asked for (a log line) above the prompt. In the modes for programs it is dropped.
    pub fn log<L: ByteLink + ?Sized>(&mut self, line: &str, link: &mut L) {
        if self.mode == Mode::Console {
            // A link takes all that is written.
            let _ = writeln!(Output::terminal(link), "\r\x1b[K{line}");
            self.editor.prompt(link);
        }
    }

    /// Takes a byte; returns the request that it completes.
    fn take<L: ByteLink + ?Sized, A: Appliance + ?Sized>(
        &mut self,
        byte: u8,
        link: &mut L,
        appliance: &mut A,
    ) -> Option<Result<String, AdminError>> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        if after_return && byte == b'\n' {
            return None;
        }
        if self.mode != Mode::Console {
            return self.take_plain(byte);
        }
        let mut request = None;
        for key in self.keys.feed(byte).into_iter().flatten() {
            match key {
                Key::Enter => request = Some(entered(self.editor.enter(link))),
                Key::Tab => self.complete(link, appliance),
                _ => self.editor.press(key, link),
            }
        }
        request
    }

    fn take_plain(&mut self, byte: u8) -> Option<Result<String, AdminError>> {
        if !matches!(byte, b'\n' | b'\r') {
            if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            } else {
                self.too_long = true;
            }
            return None;
        }
        let line = core::mem::take(&mut self.line);
        if core::mem::take(&mut self.too_long) {
            return Some(Err(too_long()));
        }
        Some(words::text(&line).map(String::from))
    }

    /// Carries out a request and sends its reply.
    fn answer<L: ByteLink + ?Sized, A: Appliance + ?Sized>(
        &mut self,
        request: Result<String, AdminError>,
        link: &mut L,
        appliance: &mut A,
    ) -> Activity {
        let blank = self.mode == Mode::Console && request.as_ref().is_ok_and(|line| line.trim().is_empty());
        if blank {
            self.editor.prompt(link);
            return Activity::Busy;
        }
        let outcome = request.and_then(|line| parse(&line)).and_then(|command| execute(command, appliance));
        if let Ok(Reply::Mode(mode)) = &outcome {
            self.mode = *mode;
        }
        // A link takes all that is written.
        let _ = send(self.mode, &outcome, link);
        match outcome {
            Ok(Reply::Poweroff) => return Activity::Poweroff,
            Ok(Reply::Reboot) => return Activity::Reboot,
            _ => {}
        }
        if self.mode == Mode::Console {
            self.editor.prompt(link);
        }
        Activity::Busy
    }

    fn complete<L: ByteLink + ?Sized, A: Appliance + ?Sized>(&mut self, link: &mut L, appliance: &mut A) {
        match complete(&self.editor.before_cursor(), appliance) {
            Completion::None => {}
            Completion::Insert(rest) => self.editor.insert_all(&rest, link),
            Completion::Choices(choices) => {
                let mut out = Output::terminal(link);
                // A link takes all that is written.
                let _ = write!(out, "\n{}\n", choices.join("  "));
                self.editor.prompt(link);
            }
        }
    }
}

fn entered(entered: Entered) -> Result<String, AdminError> {
    match entered {
        Entered::Line(line) => Ok(line),
        Entered::Binary { byte, column } => Err(words::not_text(byte.into(), column)),
        Entered::TooLong => Err(too_long()),
    }
}

fn too_long() -> AdminError {
    AdminError::too_long(format!("the line is longer than {LINE_BYTES_MAX} bytes"))
}

/// Sends a reply as the mode has it.
fn send<L: ByteLink + ?Sized>(mode: Mode, outcome: &Result<Reply, AdminError>, link: &mut L) -> fmt::Result {
    match mode {
        Mode::Console => text::write(outcome, &mut Output::terminal(link)),
        Mode::Text => {
            let mut out = Output::plain(link);
            text::write(outcome, &mut out)?;
            let exit_code = outcome.as_ref().map_or_else(|error| error.code.exit_code(), Reply::exit_code);
            writeln!(out, "\x1e{exit_code}")
        }
        Mode::Json => {
            let mut out = Output::plain(link);
            machine::write(outcome, &mut out)?;
            out.write_str("\n")
        }
    }
}
