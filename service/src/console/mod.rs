//! The session: requests from a byte link, replies to it.
//!
//! Bytes are taken in the order they came; a line's command is carried out and its reply sent before the next line is, so a
//! paste of many lines is as good as typing them (what may happen in between: see below). In the console a line ends with CR,
//! LF or CR LF, in the modes for programs with LF or CR LF (`admin::line` has their rule).
//!
//! | mode | echo, prompt | a reply | an error |
//! |---|---|---|---|
//! | console | yes; line editing, history, completion | text | `error (CODE): …` |
//! | text | no | text, then a line of RS (0x1E) and the exit status | the same |
//! | json | no | one JSON object on one line | `{"ok":false,"error":…}` |
//!
//! In the console a line may have several commands, `;` between them: each has its reply. After one that ^C ends the rest is
//! left out. A mode that a person asks for, with a keyboard whose Enter is CR, takes CR alone for the end of a line, too, and ^C
//! takes a line back there: nobody is locked out.
//!
//! A reply that is longer than the screen comes a page at a time, if the terminal has told its size (`screen`), nothing has
//! been typed ahead and the configuration's `console.pager` is on. A program does not tell a size, and so is never waited for.
//!
//! In the modes for programs and beside a person each line gets exactly one reply, and nothing else is sent (in the
//! console, a blank line gets a new prompt). A line over
//! 64 KiB is dropped to its end, and its reply is the error "too-long"; for a byte that is neither text nor a key it is
//! "usage", with the byte and its column; for a line of which the link lost bytes it is "failed".
//!
//! # Several requests on their way
//! A program need not wait for a reply before its next line: replies come in the order of the lines. A line may have an id, by
//! which its reply is known (`admin::object`): `#7 status`, or `{"id":7,"command":"status"}`. In mode json the reply has the
//! member `id`, in mode text it stands behind the exit status.
//!
//! # Requests beside a person
//! A program that shares the line with a person asks in the console itself, whatever is half typed there:
//!
//! | | bytes |
//! |---|---|
//! | request, for a reply in mode json | ESC `_`, the line, LF |
//! | request, for a reply in mode text | ESC `^`, the line, LF |
//! | reply | ESC `_`, the reply as that mode has it, ESC `\` |
//!
//! These are control strings of ECMA-48 (APC and PM), which terminals do not show. The line that is being typed stays as
//! it is, and so does its row. In the modes for programs, too, a request may stand so, also within a line that is not at its
//! end: the program need not know which mode it meets. CAN, or ^C, takes a request back that is not at its end; so does an
//! ESC, which may begin another one: a person's key may have begun the first. While one is under way no log line is shown. A
//! line may begin with `#`, a number and a blank: then so does its reply, which tells it from others.
//!
//! # While a command is carried out
//! A person sees how far a long command is, in a row that is written anew, and a program that asked for it (`mode json
//! --progress`) gets lines of it before the reply ([`crate::progress`]).
//!
//! ^C ends a long command between two steps ([`ahead`]), and CAN one of a program beside a person; its reply says how far it
//! came. Some requests beside a person are carried out meanwhile, and replied to before it ([`beside`]): those that only look
//! (`status`, `list`, `health`, …), and those that are one step (`write` and the like, of at most 32 sectors or with their
//! data in the line) on a block device that no command has in hand, unless another request that waits came before.
//! All else waits for its end, but jobs.
//!
//! # Jobs
//! Long requests beside a person that change nothing but sectors go on beside each other, and beside any other command: a
//! check that does not repair, `errors`, and `read`, `write --fill`, `trim`, `inject-error`, `clear-errors` of more than a step.
//! Each is replied to when it is done, whichever came first; so each needs a number. At most [`JOBS_MAX`] go on at once, none
//! of two on one device. ESC `_`, the number with its blank, CAN ends the one of that number, or takes that request back if it
//! waits. `poweroff` and `reboot` end
//! them all. What a job has in hand is neither closed nor changed by another command, which waits for the job's end.
//!
//! [`JOBS_MAX`]: crate::admin::job::JOBS_MAX
//!
//! # While events are followed
//! `events --follow` is no long command: the session sends events between two looks at its link. Any byte ends it, but those of
//! a request beside a person, which is replied to meanwhile. The byte is used up.

pub mod ahead;
mod complete;
mod editor;
mod follow;
mod history;
mod jobs;
mod keys;
mod output;
mod pager;
mod screen;
mod secrets;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use crate::admin::RequestId;
use crate::admin::commands::session::HOW_TO_LEAVE;
use crate::admin::line::{LineBuffer, number_bytes, too_long_error};
use crate::admin::object::parse_with_id;
use crate::admin::table::AnyRequest;
use crate::admin::{AnyAppliance, Mode, Outcome, parse, reply, words};
use crate::config::keys::{CONSOLE_COLOR, CONSOLE_PAGER};
use crate::error::{AdminError, ErrorCode};
use crate::link::{Asker, ByteLink};
use crate::progress::ProgressForm;
use complete::{Completion, complete, in_rows};
pub use editor::PROMPT;
use editor::{Editor, Entered};
pub use follow::FOLLOWING;
use follow::Follow;
use jobs::begun;
pub use jobs::{beside, reply_to_jobs, reply_to_taken_back};
use keys::{Key, Keys};
use output::{Collected, Output, fitted};
pub use pager::MORE;
use pager::Pager;
pub use screen::ASK;
use screen::Size;

/// Columns for completions on a terminal of which nothing is known.
const SHOWN_COLUMNS: usize = 80;

/// Bytes that one [`Session::poll`] takes at most, so that the caller's loop turns even under a flood.
const POLL_BYTES_MAX: usize = 4096;

/// The characters of a command that its event keeps.
const COMMAND_CHARS_MAX: usize = 80;

/// Begins a request beside a person, for a reply in [`Mode::Json`], and every such reply: ECMA-48's APC.
pub const BESIDE_START: &[u8] = b"\x1b_";

/// Begins a request beside a person, for a reply in [`Mode::Text`]: ECMA-48's PM.
pub const BESIDE_START_TEXT: &[u8] = b"\x1b^";

/// Ends a reply to a request beside a person: ECMA-48's ST.
pub const BESIDE_END: &[u8] = b"\x1b\\";

const ESC: u8 = 0x1b;

/// ^C: ends a command, and takes back a line that is not at its end.
const CANCEL: u8 = 0x03;

/// CAN: ends the command of a program beside a person, and takes back its request that is not at its end.
pub const CANCEL_BESIDE: u8 = 0x18;

/// The outcome of a [`Session::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Activity {
    /// No byte had arrived.
    Idle,
    /// Bytes were taken; more may be waiting.
    Busy,
    /// The reply to `poweroff` was sent and everything is durable: stop the machine.
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
    line: LineBuffer,
    /// The line so far of a request beside a person.
    beside_line: LineBuffer,
    /// The form of the reply, while such a request is under way.
    beside: Option<Mode>,
    /// Whether the last byte was an ESC that may begin such a request, in the modes for programs.
    begins_beside: bool,
    /// Whether the last byte was a person's CR: then an LF belongs to it.
    after_return: bool,
    /// The events that are sent as they happen.
    follow: Option<Follow>,
    /// Whether a person's line ended with CR alone: then it ends lines in the modes for programs, too.
    by_return: bool,
    /// Whether long commands tell how far they are, in the modes for programs.
    progress: bool,
    /// The commands of the person's line that are still to be carried out.
    queue: VecDeque<String>,
    /// The rest of a long reply.
    pager: Option<Pager>,
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
        Self::in_mode(Mode::Console)
    }

    /// A session in this mode.
    #[must_use]
    pub fn in_mode(mode: Mode) -> Self {
        Self {
            mode,
            keys: Keys::default(),
            editor: Editor::default(),
            line: LineBuffer::default(),
            beside_line: LineBuffer::default(),
            beside: None,
            begins_beside: false,
            after_return: false,
            follow: None,
            by_return: false,
            progress: false,
            queue: VecDeque::new(),
            pager: None,
        }
    }

    /// Takes lines that were entered before this session, oldest first.
    pub fn remember(&mut self, lines: Vec<String>) {
        self.editor.history().remember(lines);
    }

    /// Returns what the history keeps, oldest first, if a line was added since the last call. No line has a secret.
    pub fn new_lines(&mut self) -> Option<Vec<String>> {
        self.editor.history().new_lines()
    }

    /// Shows the first prompt: the machine is ready. In the modes for programs nothing is sent.
    pub fn start<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        if self.mode == Mode::Console {
            self.editor.prompt(link);
        }
    }

    /// Changes the mode: the configuration has another one. A line that is not at its end is dropped. Of the one who is at the
    /// console it is not known what ends their lines: from then on CR alone does, too, until one ends with CR LF.
    pub fn set_mode<L: ByteLink + ?Sized>(&mut self, mode: Mode, link: &mut L) {
        if mode != self.mode {
            self.by_return |= self.mode == Mode::Console;
            self.mode = mode;
            self.line.clear();
            self.pager = None;
            self.start(link);
        }
    }

    /// How the session talks now.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether bytes that are no reply would break what a program reads: no log line may be sent.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.mode != Mode::Console || self.beside.is_some()
    }

    /// Takes the bytes that have arrived, up to and including one command, and sends its reply. Call it again while it is
    /// [`Activity::Busy`], after a look at [`Session::is_quiet`].
    pub fn poll<L: ByteLink + ?Sized>(&mut self, link: &mut L, appliance: &mut AnyAppliance) -> Activity {
        if self.pager.is_none()
            && self.follow.is_none()
            && let Some(command) = self.queue.pop_front()
        {
            return self.carry_out(Ok(command), link, appliance);
        }
        let mut activity = Activity::Idle;
        if let Some(follow) = self.follow.as_mut().filter(|_| self.beside.is_none()) {
            follow.step(self.mode, link, appliance);
        }
        for _ in 0..POLL_BYTES_MAX {
            let Some(byte) = link.receive() else { break };
            activity = Activity::Busy;
            if self.ends_following(byte, link) {
                return activity;
            }
            let quiet = self.is_quiet();
            if let Some(request) = self.take(byte, link, appliance) {
                return self.reply_to(request, link, appliance);
            }
            if quiet != self.is_quiet() || !self.queue.is_empty() {
                break;
            }
        }
        activity
    }

    /// Shows an unsolicited line (a log line) above the prompt, or above what waits for a key. In the modes for programs it is
    /// dropped.
    pub fn log<L: ByteLink + ?Sized>(&mut self, place: &str, what: &str, link: &mut L) {
        // Who follows events sees them all.
        if !self.is_quiet() && self.follow.is_none() {
            // A link takes all that is written.
            let _ =
                writeln!(Output::terminal(link), "\r\x1b[K{place}{}{what}", if place.is_empty() { "" } else { ": " });
            match self.pager {
                Some(_) => link.send(MORE.as_bytes()),
                None => self.goes_on(link),
            }
        }
    }

    /// Ends following, if events are followed and this byte ends that. Then it is used up.
    fn ends_following<L: ByteLink + ?Sized>(&mut self, byte: u8, link: &mut L) -> bool {
        if self.follow.is_none() || self.beside.is_some() {
            return false;
        }
        if self.mode == Mode::Console {
            if core::mem::take(&mut self.after_return) && byte == b'\n' {
                return true;
            }
            // An ESC that begins a request is none of the person's keys yet.
            let keys = self.keys.feed(byte);
            for key in keys.into_iter().flatten() {
                match key {
                    Key::Beside(mode) => self.beside = Some(mode),
                    Key::Size { .. } => self.editor.press(key, link),
                    _ => self.end_following(link),
                }
            }
            return true;
        }
        self.end_following(link);
        true
    }

    fn end_following<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        let Some(follow) = self.follow.take() else { return };
        // A link takes all that is written.
        let (id, outcome) = follow.ends();
        let _ = send(self.mode, id.as_ref(), &Ok(outcome), link);
        self.goes_on(link);
    }

    /// Takes a byte; returns the request that it completes.
    fn take<L: ByteLink + ?Sized>(
        &mut self,
        byte: u8,
        link: &mut L,
        appliance: &mut AnyAppliance,
    ) -> Option<Result<String, AdminError>> {
        if self.beside.is_some() && byte == ESC {
            self.take_back_beside();
        }
        let of_program = self.mode != Mode::Console || self.beside.is_some();
        let by_return = self.by_return && self.beside.is_none();
        let after_return = core::mem::replace(&mut self.after_return, (!of_program || by_return) && byte == b'\r');
        if after_return && byte == b'\n' {
            // An Enter of two bytes.
            self.by_return = false;
            return None;
        }
        if of_program && by_return {
            return match byte {
                b'\r' => self.take_of_program(b'\n', link, appliance),
                CANCEL => {
                    self.line.clear();
                    None
                }
                byte => self.take_of_program(byte, link, appliance),
            };
        }
        if of_program {
            return self.take_of_program(byte, link, appliance);
        }
        if byte == CANCEL_BESIDE {
            // It was meant for a command that has ended meanwhile.
            return None;
        }
        let mut request = None;
        for key in self.keys.feed(byte).into_iter().flatten() {
            match key {
                Key::Beside(mode) => self.beside = Some(mode),
                Key::Size { .. } => self.editor.press(key, link),
                _ if self.pager.is_some() => self.press_in_pager(key, link),
                Key::Enter => {
                    self.by_return = byte == b'\r';
                    request = Some(whole(entered(self.editor.enter(link)), link));
                }
                Key::Tab => self.complete(link, appliance),
                Key::EndOfFile if self.editor.is_empty() => {
                    // A link takes all that is written.
                    let _ = write!(Output::terminal(link), "\n{HOW_TO_LEAVE}\n");
                    self.editor.prompt(link);
                }
                _ => self.editor.press(key, link),
            }
        }
        request
    }

    /// Forgets a request beside a person that is not at its end.
    fn take_back_beside(&mut self) {
        self.beside = None;
        self.beside_line.clear();
    }

    fn take_of_program<L: ByteLink + ?Sized>(
        &mut self,
        byte: u8,
        link: &mut L,
        appliance: &AnyAppliance,
    ) -> Option<Result<String, AdminError>> {
        if self.beside.is_some() {
            if [CANCEL, CANCEL_BESIDE].contains(&byte) {
                if let Some(number) = self.beside_line.number() {
                    appliance.end(link.number(), number);
                }
                self.take_back_beside();
                return None;
            }
            let line = self.beside_line.push(byte)?;
            return Some(whole(line, link));
        }
        // No line has ESC in it, and none begins with CAN.
        match (core::mem::take(&mut self.begins_beside), byte) {
            (true, b'_') => self.beside = Some(Mode::Json),
            (true, b'^') => self.beside = Some(Mode::Text),
            (false, ESC) => self.begins_beside = true,
            (false, CANCEL_BESIDE) if self.line.is_empty() => {}
            (begins_beside, _) => {
                if begins_beside {
                    // It was none, and ends no line.
                    _ = self.line.push(ESC);
                }
                let line = self.line.push(byte)?;
                return Some(whole(line, link));
            }
        }
        None
    }

    /// Carries out a request and sends its reply.
    fn reply_to<L: ByteLink + ?Sized>(
        &mut self,
        request: Result<String, AdminError>,
        link: &mut L,
        appliance: &mut AnyAppliance,
    ) -> Activity {
        if let Some(mode) = self.beside.take() {
            if request.as_ref().is_ok_and(|line| begun(mode, line, link, appliance)) {
                return Activity::Busy;
            }
            let number = request.as_ref().map_or("", |line| &line[..number_bytes(line.as_bytes())]);
            link.begins(Asker::ProgramBeside, number);
            link.shows_progress(None);
            return reply_beside(mode, request, link, |line, request| {
                carry_out(line, request, Asker::ProgramBeside, appliance)
            });
        }
        let mut request = request;
        if self.mode == Mode::Console
            && let Ok(line) = &request
        {
            self.queue = words::commands(line).map(String::from).collect();
            let Some(first) = self.queue.pop_front() else {
                self.editor.prompt(link);
                return Activity::Busy;
            };
            request = Ok(first);
        }
        self.carry_out(request, link, appliance)
    }

    /// Carries out one command of a person or, in a mode of its own, of a program.
    fn carry_out<L: ByteLink + ?Sized>(
        &mut self,
        request: Result<String, AdminError>,
        link: &mut L,
        appliance: &mut AnyAppliance,
    ) -> Activity {
        // A person who waits in a mode for programs: its lines end with LF alone, and the next begins below their end.
        let by_hand = self.by_return && self.mode != Mode::Console;
        let asker = if self.mode == Mode::Console { Asker::Person } else { Asker::Program };
        link.begins(asker, "");
        link.shows_progress(match self.mode {
            Mode::Console => Some(ProgressForm::Row { columns: self.editor.row_columns() }),
            Mode::Text => self.progress.then_some(ProgressForm::Lines),
            Mode::Json => self.progress.then_some(ProgressForm::Json),
        });
        let (id, request) = match request {
            Ok(line) if self.mode == Mode::Console => (None, parse(&line).map(|request| (request, line))),
            Ok(line) => {
                let (id, request) = parse_with_id(&line);
                (id, request.map(|request| (request, line)))
            }
            Err(why) => (None, Err(why)),
        };
        if let Some(filter) = request.as_ref().ok().and_then(|(request, _)| request.follow()) {
            self.follow = Some(Follow::begin(filter, id, self.mode, link));
            return Activity::Busy;
        }
        let outcome = request.and_then(|(request, line)| carry_out(&line, request, asker, appliance));
        if let Ok(Outcome::Mode { mode, progress }) = &outcome {
            (self.mode, self.progress) = (*mode, *progress);
        }
        if is_interrupted(&outcome) {
            self.queue.clear();
        }
        if by_hand {
            link.send(b"\r");
        }
        self.send(id.as_ref(), &outcome, link, appliance);
        let activity = ends(&outcome);
        if activity == Activity::Busy {
            self.goes_on(link);
        }
        activity
    }

    /// Sends the reply to a command of a person or, in a mode of its own, of a program.
    fn send<L: ByteLink + ?Sized>(
        &mut self,
        id: Option<&RequestId>,
        outcome: &Result<Outcome, AdminError>,
        link: &mut L,
        appliance: &AnyAppliance,
    ) {
        if self.mode != Mode::Console {
            // A link takes all that is written.
            let _ = send(self.mode, id, outcome, link);
            return;
        }
        let is_red = outcome.is_err() && is_on(CONSOLE_COLOR, appliance);
        if is_red {
            link.send(b"\x1b[31m");
        }
        match self.editor.size() {
            None => {
                let _ = send(self.mode, id, outcome, link);
            }
            Some(size) => self.send_fitted(size, outcome, link, appliance),
        }
        if is_red {
            link.send(b"\x1b[0m");
        }
    }

    /// Sends a reply to a person whose terminal has this size: broken between words, and a page at a time.
    fn send_fitted<L: ByteLink + ?Sized>(
        &mut self,
        size: Size,
        outcome: &Result<Outcome, AdminError>,
        link: &mut L,
        appliance: &AnyAppliance,
    ) {
        let mut reply = Collected::new(link);
        let _ = reply::write(self.mode, outcome, &mut reply);
        let Some(text) = reply.end() else { return };
        let text = fitted(&text, size.columns);
        // Whoever types ahead does not wait for pages, and would not press their keys.
        let is_paged = outcome.is_ok() && !link.is_waiting() && is_on(CONSOLE_PAGER, appliance);
        match if is_paged { Pager::new(text, size) } else { Err(text) } {
            Ok(mut pager) => {
                if !pager.page(link) {
                    self.pager = Some(pager);
                }
            }
            Err(text) => {
                let _ = Output::terminal(link).write_str(&text);
            }
        }
    }

    fn press_in_pager<L: ByteLink + ?Sized>(&mut self, key: Key, link: &mut L) {
        if key == Key::Cancel {
            self.queue.clear();
        }
        if self.pager.as_mut().is_none_or(|pager| pager.press(key, link)) {
            self.pager = None;
            self.goes_on(link);
        }
    }

    /// After a reply: shows the prompt, unless there is more to be done or seen.
    fn goes_on<L: ByteLink + ?Sized>(&mut self, link: &mut L) {
        if self.mode == Mode::Console && self.pager.is_none() && self.queue.is_empty() {
            self.editor.prompt(link);
        }
    }

    fn complete<L: ByteLink + ?Sized>(&mut self, link: &mut L, appliance: &mut AnyAppliance) {
        self.editor.press(Key::Tab, link);
        match complete(&self.editor.before_cursor(), appliance) {
            Completion::None => {}
            Completion::Insert(rest) => self.editor.insert_all(&rest, link),
            Completion::Choices(choices) => {
                let mut out = Output::terminal(link);
                // A link takes all that is written.
                let columns = self.editor.size().map_or(SHOWN_COLUMNS, |size| size.columns);
                let _ = write!(out, "\n{}\n", in_rows(&choices, columns));
                self.editor.prompt(link);
            }
        }
    }
}

/// Carries out a request. One that changes something is an event.
fn carry_out(
    line: &str,
    request: AnyRequest,
    asker: Asker,
    appliance: &mut AnyAppliance,
) -> Result<Outcome, AdminError> {
    let change = as_change(line, &request);
    let outcome = request.execute(appliance);
    note(change, asker, &outcome, appliance);
    outcome
}

/// The command as its event has it, if it is one that changes something.
fn as_change(line: &str, request: &AnyRequest) -> Option<String> {
    request.is_change().then(|| secrets::left_out(line, COMMAND_CHARS_MAX))
}

/// Keeps the event of a change.
fn note(change: Option<String>, by: Asker, outcome: &Result<Outcome, AdminError>, appliance: &AnyAppliance) {
    if let Some(command) = change {
        appliance.note_change(by, &command, outcome.as_ref().err());
    }
}

/// Carries out a request beside a person and sends its reply. The editor knows nothing of it.
fn reply_beside<L: ByteLink + ?Sized>(
    mode: Mode,
    request: Result<String, AdminError>,
    link: &mut L,
    execute: impl FnOnce(&str, AnyRequest) -> Result<Outcome, AdminError>,
) -> Activity {
    let (number, (id, request)) = match &request {
        Ok(line) => {
            let (number, line) = line.split_at(number_bytes(line.as_bytes()));
            let (id, request) = parse_with_id(line);
            (number, (id, request.map(|request| (line, request))))
        }
        Err(why) => ("", (None, Err(why.clone()))),
    };
    let outcome = request.and_then(|(line, request)| match request.mode() {
        // The person's mode is not the program's to change.
        Some(_) => Err(AdminError::usage("a request beside a person's console has its own form: no mode here")),
        None => execute(line, request),
    });
    send_beside(mode, number, id.as_ref(), &outcome, link);
    ends(&outcome)
}

/// Sends the reply to a request beside a person, which begins with the number of its line.
fn send_beside<L: ByteLink + ?Sized>(
    mode: Mode,
    number: &str,
    id: Option<&RequestId>,
    outcome: &Result<Outcome, AdminError>,
    link: &mut L,
) {
    link.send(BESIDE_START);
    link.send(number.as_bytes());
    // A link takes all that is written.
    let _ = send(mode, id, outcome, link);
    link.send(BESIDE_END);
}

/// Whether a key of the configuration is `on`.
fn is_on(key: &str, appliance: &AnyAppliance) -> bool {
    appliance.config().keys.iter().any(|entry| entry.key == key && entry.value == "on")
}

/// Whether it is a command that was ended before it was done.
fn is_interrupted(outcome: &Result<Outcome, AdminError>) -> bool {
    match outcome {
        Ok(outcome) => outcome.is_interrupted(),
        Err(error) => error.code == ErrorCode::Interrupted,
    }
}

/// The action after a reply.
fn ends(outcome: &Result<Outcome, AdminError>) -> Activity {
    match outcome {
        Ok(Outcome::Poweroff) => Activity::Poweroff,
        Ok(Outcome::Reboot) => Activity::Reboot,
        _ => Activity::Busy,
    }
}

/// The line, if the link lost nothing of it.
fn whole<L: ByteLink + ?Sized>(line: Result<String, AdminError>, link: &mut L) -> Result<String, AdminError> {
    match link.has_lost() {
        false => line,
        true => {
            Err(AdminError::failed("the serial port lost bytes of this line: nothing was done, please send it again"))
        }
    }
}

fn entered(entered: Entered) -> Result<String, AdminError> {
    match entered {
        Entered::Line(line) => Ok(line),
        Entered::Binary { byte, column } => Err(words::not_text(byte.into(), column)),
        Entered::TooLong => Err(too_long_error()),
    }
}

/// Sends a reply as the mode has it.
fn send<L: ByteLink + ?Sized>(
    mode: Mode,
    id: Option<&RequestId>,
    outcome: &Result<Outcome, AdminError>,
    link: &mut L,
) -> fmt::Result {
    let mut out = match mode {
        Mode::Console => Output::terminal(link),
        Mode::Text | Mode::Json => Output::plain(link),
    };
    reply::write_with_id(mode, id, outcome, &mut out)
}
