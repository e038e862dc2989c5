//! A socket at which programs ask a running appliance for commands: one at a time, and beside it, one after the other, those
//! that only look, and those that are one step on another block device; and jobs (`service::admin::job`), several at once. The
//! client that has had the least of the appliance's time is next, and of equal ones the first. A client that has asked for
//! nothing for a while counts as one that has had as much as the client that was served last (start-time fair queueing), and a
//! client that connects as one that has had as much as those that have gone. So what one client asks for again and again keeps
//! another one waiting for one of its commands at most, whether it stays or connects anew for each; of many clients each has its
//! share.
//!
//! A client talks as to the appliance's own serial port in a mode for programs (`service::console`): a line in, a reply
//! out; what a line is, is `service::admin::line`'s to say. It begins in `mode json`; `mode text` and `mode json` change the
//! form of its own replies. `mode console` is refused: the console belongs to the person at the terminal.
//!
//! Every line gets one reply, also one that is no command. When a command gets none (the appliance ends over it), the
//! connection is closed. So it is, after an error with the reason, when its client sends nothing for [`IDLE`], or when
//! [`ADMIN_CLIENTS_MAX`] others are there and it is the one that has been silent for longest: clients are never as many as to
//! take descriptors away from consumers.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use service::admin::RequestId;
use service::admin::job::JOBS_MAX;
use service::admin::line::LineBuffer;
use service::admin::object::parse_with_id;
use service::admin::reply;
use service::admin::table::AnyRequest;
use service::admin::{self, Outcome};
use service::error::AdminError;
use service::events::Ended;

use crate::deadline::Deadline;
use crate::event::{eventfd, signal};
use crate::events::{Following, PAUSE};
use crate::limits::ADMIN_CLIENTS_MAX;
use crate::listener::Listener;
use crate::session::{ReplyForm, ReplyText, reply_of, request, send_all};

/// How long a client may take from one reply to the end of its next line.
pub const IDLE: Duration = Duration::from_secs(300);

/// How long a command waits for the appliance to be free.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most time that is charged for a command: after one that took an hour, its client, and those that come when it has gone,
/// do not wait until all others have had an hour.
const CHARGE_MAX: Duration = Duration::from_secs(1);

/// How long a client may take to take a whole reply.
const CLIENT: Duration = Duration::from_secs(20);

/// How long we wait, when we end, for clients to take their last replies.
const SENT: Duration = Duration::from_secs(1);

/// A command that a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The form of the reply.
    pub mode: ReplyForm,
    /// The command: one line of text.
    pub line: String,
    /// Its id, which the reply has, too.
    id: Option<RequestId>,
    /// What it may go beside.
    pub beside: Beside,
    /// How it ends the machine when it is carried out, if it does.
    pub ends: Option<Ended>,
    stream: Arc<UnixStream>,
    since: Instant,
    /// When the appliance got it.
    begun: Option<Instant>,
    /// How much of the appliance's time its client has had before, at least what the one had that was served last.
    spent: Duration,
    answer: SyncSender<Answer>,
}

/// A reply, and how much of the appliance's time its client has had by now. `None`: there is none.
type Answer = (Option<ReplyText>, Duration);

impl Request {
    /// Gives the reply to the client. `None`: there is no reply, and the client is disconnected.
    pub fn answer(self, reply: Option<ReplyText>) {
        let took = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed().min(CHARGE_MAX));
        // A client that has gone needs none.
        let _ = self.answer.send((reply, self.spent + took));
    }

    /// Whether its client has closed its connection, and takes no reply.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let mut watched = [PollFd::new(self.stream.as_fd(), PollFlags::empty())];
        let is_closed = |flags: PollFlags| flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR);
        poll(&mut watched, PollTimeout::ZERO).is_ok() && watched[0].revents().is_some_and(is_closed)
    }
}

/// Which commands under way a request may go beside (`service::console::beside`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beside {
    /// None: it waits for their end.
    None,
    /// Those that do not have this block device in hand: it is one step on that.
    OtherDevices(String),
    /// The same, as a job on this device or namespace. `None`: it looks at all, which goes beside any.
    Job(Option<String>),
    /// All of them: it only looks.
    All,
}

impl Beside {
    /// What this request may go beside, if we know what is asked for.
    fn of(request: Option<&AnyRequest>) -> Self {
        match request {
            Some(request) if request.only_looks() => Self::All,
            Some(request) => match (request.steps_on(), request.job_on()) {
                (Some(device), _) => Self::OtherDevices(device.into()),
                (None, Some(device)) => Self::Job(device.map(Into::into)),
                (None, None) => Self::None,
            },
            None => Self::None,
        }
    }
}

/// What the appliance is busy with.
#[derive(Debug)]
pub struct Busy {
    /// For those that wait.
    pub why: String,
    /// The command under way that is no job.
    pub command: Under,
    /// The jobs under way.
    pub jobs: Vec<JobUnder>,
    /// Whether a request that only looks may go beside it.
    pub looks: bool,
    /// Whether one that is one step may, or a job, or any other one if there are only jobs.
    pub steps: bool,
}

/// A job under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobUnder {
    /// The device or namespace that it has in hand. `None`: it looks at all.
    pub device: Option<String>,
    /// For those that wait for it.
    pub why: String,
}

impl JobUnder {
    /// Whether it may have something in hand that a command closes or changes.
    fn keeps_from(&self, command: &str) -> bool {
        match &self.device {
            Some(device) => names_region_of(command, device),
            None => regions_in(command).next().is_some(),
        }
    }

    /// Whether it may have a device in hand, or another one of its region.
    fn may_have_in_hand(&self, device: &str) -> bool {
        self.device.as_ref().is_some_and(|own| region_number(own) == region_number(device))
    }
}

/// A command under way that is no job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Under {
    /// There is none.
    None,
    /// We do not know it.
    Unknown,
    /// We do.
    Command(String),
}

impl Busy {
    /// Whether the command may have that block device in hand, or others of its region: then the request would wait in the
    /// appliance, and what comes after it here.
    fn may_have_in_hand(&self, device: &str) -> bool {
        let by_command = match &self.command {
            Under::None => false,
            Under::Unknown => true,
            Under::Command(command) => names_region_of(command, device),
        };
        by_command || self.jobs.iter().any(|job| job.may_have_in_hand(device))
    }

    /// Whether a job may have something in hand that a command closes or changes: then the command would wait in the appliance,
    /// and other commands here.
    fn has_job_for(&self, command: &str) -> bool {
        self.jobs.iter().any(|job| job.keeps_from(command))
    }

    /// Why a request waits.
    fn why(&self, request: &Request) -> &str {
        let job = self.jobs.iter().find(|job| match &request.beside {
            Beside::None => job.keeps_from(&request.line),
            Beside::OtherDevices(device) | Beside::Job(Some(device)) => job.may_have_in_hand(device),
            Beside::Job(None) | Beside::All => false,
        });
        match (&self.command, job, &request.beside) {
            (Under::None, Some(job), _) => &job.why,
            (Under::None, None, Beside::Job(_)) if self.jobs.len() >= JOBS_MAX => "as many long commands run as can",
            _ => &self.why,
        }
    }

    fn lets_pass(&self, request: &Request) -> bool {
        let is_room = self.steps && self.jobs.len() < JOBS_MAX;
        match &request.beside {
            Beside::None => self.steps && self.command == Under::None && !self.has_job_for(&request.line),
            Beside::OtherDevices(device) => self.steps && !self.may_have_in_hand(device),
            Beside::Job(Some(device)) => is_room && !self.may_have_in_hand(device),
            Beside::Job(None) => is_room,
            Beside::All => self.looks,
        }
    }
}

/// The numbers of the regions in the names in a command.
fn regions_in(command: &str) -> impl Iterator<Item = &str> {
    command.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(region_number)
}

/// Whether a command names the region of a device or namespace, or something in it.
fn names_region_of(command: &str, device: &str) -> bool {
    regions_in(command).any(|number| Some(number) == region_number(device))
}

/// The number of the region in the name of a region, of a namespace or of a block device, as text: a word, then digits.
fn region_number(name: &str) -> Option<&str> {
    let digits = name.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    (digits.len() < name.len() && end > 0).then_some(&digits[..end])
}

/// What the appliance is free for.
#[derive(Clone, Copy, Debug)]
pub enum Free<'a> {
    /// Any request.
    All,
    /// What may go beside this.
    Beside(&'a Busy),
    /// None.
    Nothing(&'a str),
}

/// The requests of all clients. When it is dropped clients have a moment to take their replies.
#[derive(Debug)]
pub struct Requests {
    /// The socket's name goes with us.
    _listener: Listener,
    clients: Arc<Clients>,
    patience: Duration,
    wake: Arc<File>,
    incoming: Receiver<Request>,
    waiting: VecDeque<Request>,
    /// How much time the client that was served last had had before.
    floor: Duration,
}

impl Requests {
    /// Readable when a request has come.
    #[must_use]
    pub fn wake(&self) -> &File {
        &self.wake
    }

    /// Whether one waits for the appliance to be free.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next request that the appliance is free for. Those that have waited for too long are told with what it is busy; those
    /// that waited, and whose clients have gone, are dropped, and leave their places to others.
    pub fn next(&mut self, free: Free<'_>) -> Option<Request> {
        let _ = (&*self.wake).read(&mut [0; 8]);
        self.waiting.retain(|request| !request.is_abandoned());
        self.collect();
        let may = |request: &Request| match free {
            Free::All => true,
            Free::Beside(busy) => busy.lets_pass(request),
            Free::Nothing(_) => false,
        };
        let by_jobs = matches!(free, Free::Beside(busy) if busy.command == Under::None);
        let ready = self.waiting.iter().enumerate();
        let ready = ready.filter(|(_, request)| may(request) && !(by_jobs && self.would_come_before(request)));
        if let Some((next, _)) = ready.min_by_key(|(_, request)| request.spent) {
            let mut request = self.waiting.remove(next)?;
            request.begun = Some(Instant::now());
            self.floor = request.spent;
            return Some(request);
        }
        while let Some(request) = self.waiting.pop_front_if(|request| request.since.elapsed() >= self.patience) {
            let why = match free {
                Free::All => "others are before it",
                Free::Beside(busy) => busy.why(&request),
                Free::Nothing(why) => why,
            };
            let why = format!("{why}: nothing was done in {} s, please ask again", self.patience.as_secs_f64());
            let reply = reply_of(request.mode, request.id.as_ref(), &Err(AdminError::busy(why)));
            let reply = ReplyText::parse(request.mode, reply.as_bytes()).ok();
            request.answer(reply);
        }
        None
    }

    /// Whether this is a job that would keep a command waiting whose client has had no more time. With jobs that follow one
    /// another the command would wait for ever.
    fn would_come_before(&self, job: &Request) -> bool {
        let Beside::Job(device) = &job.beside else { return false };
        self.waiting.iter().any(|other| {
            let is_about_it = match device {
                Some(device) => names_region_of(&other.line, device),
                None => regions_in(&other.line).next().is_some(),
            };
            other.beside == Beside::None && is_about_it && other.spent <= job.spent
        })
    }

    /// Takes in what has come.
    fn collect(&mut self) {
        let floor = self.floor;
        self.waiting.extend(self.incoming.try_iter().map(|it| Request { spent: it.spent.max(floor), ..it }));
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // A client that waits in vain sees the end of its connection.
        while self.next(Free::All).is_some() {}
        self.clients.wait_for_replies();
    }
}

/// Listens at `path`, and collects what clients ask for.
///
/// # Errors
/// Why it cannot listen there, for people.
pub fn listen(path: &Path) -> Result<Requests, String> {
    listen_with(path, Bounds { idle: IDLE, patience: PATIENCE, taking: CLIENT })
}

/// The bounds of waits.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// For a client's next line.
    idle: Duration,
    /// By a command, for the appliance to be free.
    patience: Duration,
    /// By a client, to take a whole reply.
    taking: Duration,
}

/// Listens, with bounds of its own.
fn listen_with(path: &Path, Bounds { idle, patience, taking }: Bounds) -> Result<Requests, String> {
    let listener = Listener::bind(path)?;
    let wake = eventfd().map_err(|error| error.to_string())?;
    let (sender, incoming) = channel();
    let wakes = Arc::clone(&wake);
    let socket = listener.socket().try_clone().map_err(|error| error.to_string())?;
    let clients =
        Arc::new(Clients { idle, taking, table: Mutex::default(), changed: Condvar::new(), gone: Mutex::default() });
    let all = Arc::clone(&clients);
    let welcome = move || {
        for (id, stream) in (0..).zip(socket.incoming()) {
            let Ok(stream) = stream else {
                // Out of descriptors, or the like: it may pass.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            let stream = Arc::new(stream);
            if !all.welcome(id, &stream) {
                // A new connection has room for it.
                let _ = stream.set_nonblocking(true).and_then(|()| (&*stream).write_all(crowded().as_bytes()));
                continue;
            }
            let (sender, wake, all) = (sender.clone(), Arc::clone(&wakes), Arc::clone(&all));
            let clients = Arc::clone(&all);
            let serve = move || {
                let mut spent = clients.gone();
                let client = Client { id, stream: &stream, all: &clients, sender: &sender, wake: &wake };
                let _ = client.converse(&mut spent);
                clients.goes(spent);
                clients.change(|table| table.remove(&id));
            };
            // Without a thread to be had it is disconnected; others go on.
            if thread::Builder::new().spawn(serve).is_err() {
                all.change(|table| table.remove(&id));
            }
        }
    };
    let started = thread::Builder::new().spawn(welcome);
    started.map_err(|error| format!("no thread for {}: {error}", path.display()))?;
    Ok(Requests {
        _listener: listener,
        clients,
        patience,
        wake,
        incoming,
        waiting: VecDeque::new(),
        floor: Duration::ZERO,
    })
}

/// The clients' table, and how long they may be silent.
#[derive(Debug)]
struct Clients {
    idle: Duration,
    taking: Duration,
    table: Mutex<HashMap<u64, Known>>,
    changed: Condvar,
    /// The most of the appliance's time that a client that has gone had had.
    gone: Mutex<Duration>,
}

/// A client, as the table has it.
#[derive(Debug)]
struct Known {
    stream: Arc<UnixStream>,
    /// Since when it owes us a line; `None` while we owe it a reply.
    idle: Option<Instant>,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        // Every change of the table is whole before it can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<u64, Known>) -> T) -> T {
        let outcome = change(&mut self.lock());
        self.changed.notify_all();
        outcome
    }

    /// Takes a client in, in the place of the one that has been silent for longest if there are too many. Returns false when
    /// all of them wait for replies.
    fn welcome(&self, id: u64, stream: &Arc<UnixStream>) -> bool {
        self.change(|table| {
            if table.len() >= ADMIN_CLIENTS_MAX {
                let silent = table.iter().filter_map(|(id, it)| Some((it.idle?, *id))).min();
                let Some(known) = silent.and_then(|(_, id)| table.remove(&id)) else { return false };
                // Its thread sees the end of the stream, and that it is not in the table any more.
                let _ = known.stream.shutdown(Shutdown::Read);
            }
            table.insert(id, Known { stream: Arc::clone(stream), idle: Some(Instant::now()) });
            true
        })
    }

    /// A client owes us a line, or we owe it a reply. Returns false when it is not in the table any more.
    fn owes(&self, id: u64, line: bool) -> bool {
        self.change(|table| {
            let known = table.get_mut(&id);
            known.map(|known| known.idle = line.then(Instant::now)).is_some()
        })
    }

    /// How much of the appliance's time a client that comes counts as having had.
    fn gone(&self) -> Duration {
        *self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client goes that has had so much of the appliance's time.
    fn goes(&self, spent: Duration) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        *gone = spent.max(*gone);
    }

    fn wait_for_replies(&self) {
        let begun = Instant::now();
        let mut table = self.lock();
        while table.values().any(|known| known.idle.is_none()) && begun.elapsed() < SENT {
            table = self.changed.wait_timeout(table, SENT).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The conversation with a client.
struct Client<'c> {
    id: u64,
    stream: &'c Arc<UnixStream>,
    all: &'c Clients,
    sender: &'c Sender<Request>,
    wake: &'c File,
}

/// Why there is no next line.
enum NoLine {
    /// The client has gone. A line that it had begun does not count.
    Gone,
    /// It is to be disconnected.
    Dropped(AdminError),
}

impl Client<'_> {
    /// Takes a client's lines and gives it replies, until it goes or one is missing. Counts how much of the appliance's time
    /// it has had in `spent`.
    fn converse(&self, spent: &mut Duration) -> io::Result<()> {
        let stream = self.stream;
        let mut lines = Lines { stream, buffer: LineBuffer::default(), piece: [0; 4096], used: 0, filled: 0 };
        let mut mode = ReplyForm::Json;
        loop {
            let line = match lines.next(self.all.idle) {
                Ok(line) => line,
                Err(NoLine::Gone) if self.all.lock().contains_key(&self.id) => return Ok(()),
                Err(NoLine::Gone) => return self.farewell(mode, AdminError::busy(displaced())),
                Err(NoLine::Dropped(error)) => return self.farewell(mode, error),
            };
            if !self.all.owes(self.id, false) {
                return self.farewell(mode, AdminError::busy(displaced()));
            }
            let reply = match line.map(|line| (parse_with_id(&line), line)) {
                Err(error) => reply_of(mode, None, &Err(error)),
                Ok(((id, request), line)) => {
                    let request = request.ok();
                    if let Some(filter) = request.as_ref().and_then(AnyRequest::follow) {
                        if !self.follow(Following::new(mode, id, filter), &mut lines, spent)? {
                            return Ok(());
                        }
                        self.all.owes(self.id, true);
                        continue;
                    }
                    match request.as_ref().and_then(AnyRequest::mode) {
                        Some((admin::Mode::Console, _)) => {
                            let error = AdminError::usage("this socket has mode json and mode text");
                            reply_of(mode, id.as_ref(), &Err(error))
                        }
                        Some((_, true)) => {
                            let error =
                                AdminError::usage("this socket tells of no progress: the console and --exec do");
                            reply_of(mode, id.as_ref(), &Err(error))
                        }
                        Some((wanted, false)) => {
                            mode = if wanted == admin::Mode::Json { ReplyForm::Json } else { ReplyForm::Text };
                            reply_of(mode, id.as_ref(), &Ok(Outcome::Mode { mode: wanted, progress: false }))
                        }
                        // Whatever it is, the appliance has the answer.
                        None => match self.ask(mode, line, id.clone(), request.as_ref(), *spent) {
                            Some((Some(reply), now)) => {
                                *spent = now;
                                whole(mode, id.as_ref(), reply)
                            }
                            _ => return Ok(()),
                        },
                    }
                }
            };
            if !send_all(stream, reply.as_bytes(), Deadline::after(self.all.taking))? {
                return Ok(());
            }
            self.all.owes(self.id, true);
        }
    }

    /// Sends what happens, until the client sends a byte, which is used up. Returns false when it has gone, or the appliance
    /// gives no reply.
    fn follow(&self, mut following: Following, lines: &mut Lines<'_>, spent: &mut Duration) -> io::Result<bool> {
        loop {
            let line = following.question();
            let question = request(&line);
            let Some((Some(reply), now)) = self.ask(ReplyForm::Json, line, None, question.as_ref(), *spent) else {
                return Ok(false);
            };
            *spent = now;
            // One that is busy with what cannot be ended is asked again.
            let text = following.take(&reply.text).unwrap_or_default();
            if !send_all(self.stream, text.as_bytes(), Deadline::after(self.all.taking))? {
                return Ok(false);
            }
            match lines.byte(PAUSE) {
                Err(NoLine::Dropped(_)) => {}
                Err(NoLine::Gone) => return Ok(false),
                Ok(()) => break,
            }
        }
        send_all(self.stream, following.end().as_bytes(), Deadline::after(self.all.taking))
    }

    /// Passes a line to the appliance, and waits for its reply. `request` is what it asks for, if we know it.
    fn ask(
        &self,
        mode: ReplyForm,
        line: String,
        id: Option<RequestId>,
        request: Option<&AnyRequest>,
        spent: Duration,
    ) -> Option<Answer> {
        let (answer, answered) = sync_channel(1);
        let (since, stream) = (Instant::now(), Arc::clone(self.stream));
        let beside = Beside::of(request);
        let ends = request.and_then(AnyRequest::ends_machine);
        self.sender.send(Request { mode, line, id, beside, ends, stream, since, begun: None, spent, answer }).ok()?;
        signal(self.wake);
        answered.recv().ok()
    }

    /// Sends a client the reason for its end.
    fn farewell(&self, mode: ReplyForm, error: AdminError) -> io::Result<()> {
        let mut stream = &**self.stream;
        stream.set_nonblocking(true)?;
        stream.write_all(reply_of(mode, None, &Err(error)).as_bytes())
    }
}

/// The lines of a client.
struct Lines<'s> {
    stream: &'s UnixStream,
    buffer: LineBuffer,
    piece: [u8; 4096],
    used: usize,
    filled: usize,
}

impl Lines<'_> {
    /// The next line, if it comes within `patience`.
    fn next(&mut self, patience: Duration) -> Result<Result<String, AdminError>, NoLine> {
        let begun = Instant::now();
        loop {
            while self.used < self.filled {
                self.used += 1;
                if let Some(line) = self.buffer.push(self.piece[self.used - 1]) {
                    return Ok(line);
                }
            }
            self.fill(begun, patience)?;
        }
    }

    /// Uses up the next byte, if it comes within `patience`.
    fn byte(&mut self, patience: Duration) -> Result<(), NoLine> {
        let begun = Instant::now();
        while self.used == self.filled {
            self.fill(begun, patience)?;
        }
        self.used += 1;
        Ok(())
    }

    /// Waits for bytes, for a part of `patience` at least.
    fn fill(&mut self, begun: Instant, patience: Duration) -> Result<(), NoLine> {
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let why = format!("no line in {} s: this connection is closed", patience.as_secs_f64());
            return Err(NoLine::Dropped(AdminError::busy(why)));
        }
        let mut stream = self.stream;
        let read = stream.set_read_timeout(Some(left)).and_then(|()| stream.read(&mut self.piece));
        (self.used, self.filled) = (0, 0);
        match read {
            Ok(0) => Err(NoLine::Gone),
            Ok(filled) => {
                self.filled = filled;
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(NoLine::Gone),
        }
    }
}

fn displaced() -> String {
    format!("{ADMIN_CLIENTS_MAX} clients are connected, and this one was silent for longest: its connection is closed")
}

fn crowded() -> String {
    let why = format!("{ADMIN_CLIENTS_MAX} clients wait for replies already: please ask again");
    reply_of(ReplyForm::Json, None, &Err(AdminError::busy(why)))
}

/// A reply of the appliance's with its end.
fn whole(mode: ReplyForm, id: Option<&RequestId>, reply: ReplyText) -> String {
    let ReplyText { mut text, exit_code } = reply;
    if mode == ReplyForm::Text {
        // A string takes all that is written.
        let _ = reply::write_end(id, exit_code, &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::thread::spawn;
    use std::time::Duration;

    use super::{
        ADMIN_CLIENTS_MAX, Beside, Bounds, Busy, CHARGE_MAX, Free, JOBS_MAX, JobUnder, ReplyText, Requests, Under,
        listen_with,
    };

    /// A socket that is gone when the test is, and an appliance that answers each line with itself.
    fn socket(name: &str, idle: Duration) -> (PathBuf, Requests) {
        let path = std::env::temp_dir().join(format!("untorn-admin-{name}-{}", std::process::id()));
        let requests =
            listen_with(&path, Bounds { idle, patience: Duration::from_millis(300), taking: Duration::from_secs(2) })
                .unwrap();
        (path, requests)
    }

    /// Answers `count` requests, and returns their lines.
    fn answer(requests: &mut Requests, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            while let Some(request) = requests.next(Free::All) {
                lines.push(request.line.clone());
                let text = format!("{}\n", request.line);
                request.answer(Some(ReplyText { text, exit_code: 0 }));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        lines
    }

    /// Waits until so many requests wait for the appliance.
    fn collect(requests: &mut Requests, count: usize) {
        while requests.waiting.len() < count {
            requests.collect();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn connect(path: &PathBuf) -> UnixStream {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// The rest of a connection's bytes.
    fn rest(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_line_is_a_command_only_when_it_is_whole_and_each_line_has_one_reply() {
        let (path, mut requests) = socket("lines", Duration::from_secs(60));
        // One that dies within a line has said nothing, whatever it had said so far.
        let mut cut = connect(&path);
        cut.write_all(b"whole\nwrite pmem0s 7 --fill 0x4").unwrap();
        drop(cut);
        let mut client = connect(&path);
        let long = "x".repeat(1 << 20);
        for line in ["a\rwrite pmem0s 0 --fill 1\n", "status \0\n", &format!("{long}write pmem0s 0 --fill 1\n")] {
            client.write_all(line.as_bytes()).unwrap();
        }
        client.write_all(b"status \xff\n\nmode console\nmode json --progress\n\"mode\" text\nlast\r\n").unwrap();
        let lines = answer(&mut requests, 3);
        assert!(["whole", "", "last"].iter().all(|line| lines.iter().any(|it| it == line)), "{lines:?}");
        let replies: Vec<String> = BufReader::new(client).lines().take(9).map(Result::unwrap).collect();
        for (reply, part) in replies.iter().zip([
            "byte 0x0d in column 2",
            "byte 0x00 in column 8",
            "\"too-long\"",
            "byte 0xff in column 8",
            "",
            "this socket has mode json and mode text",
            "this socket tells of no progress",
            "\x1e0",
            "last",
        ]) {
            assert!(reply.contains(part), "{replies:?}");
        }
        assert!(requests.next(Free::All).is_none());
    }

    #[test]
    fn a_reply_in_text_has_the_id_of_its_request_behind_its_status() {
        let (path, mut requests) = socket("ids", Duration::from_secs(60));
        let mut client = connect(&path);
        let object = r#"{"id":"a","command":"version"}"#;
        client.write_all(format!("#1 mode text\n#2 version\n{object}\n#3 no such\nversion\n").as_bytes()).unwrap();
        answer(&mut requests, 4);
        let replies: Vec<String> = BufReader::new(client).lines().take(9).map(Result::unwrap).collect();
        let ends: Vec<&str> = replies.iter().filter(|line| line.starts_with('\x1e')).map(String::as_str).collect();
        assert_eq!(ends, ["\x1e0 1", "\x1e0 2", "\x1e0 \"a\"", "\x1e0 3", "\x1e0"], "{replies:?}");
    }

    #[test]
    fn a_client_that_takes_a_reply_too_slowly_is_dropped() {
        let (path, mut requests) = socket("slow", Duration::from_secs(60));
        let mut client = connect(&path);
        client.write_all(b"large\n").unwrap();
        let request = loop {
            if let Some(request) = requests.next(Free::All) {
                break request;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let reply = 16 << 20;
        request.answer(Some(ReplyText { text: "x".repeat(reply), exit_code: 0 }));
        // A piece now and then: each makes room, and would begin the wait anew.
        let (mut taken, mut piece) = (0, vec![0; 64 << 10]);
        while let Ok(count @ 1..) = client.read(&mut piece) {
            taken += count;
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(taken < reply, "{taken}");
    }

    #[test]
    fn a_silent_client_is_dropped_with_an_error_that_says_so() {
        let (path, _requests) = socket("silent", Duration::from_millis(200));
        assert!(rest(connect(&path)).contains("no line in 0.2 s: this connection is closed"));
        let mut slow = connect(&path);
        slow.write_all(b"mode text\nhalf a li").unwrap();
        assert_eq!(rest(slow), "\x1e0\nerror (busy): no line in 0.2 s: this connection is closed\n\x1e1\n");
    }

    #[test]
    fn the_client_that_was_silent_for_longest_makes_room_for_the_next() {
        let (path, mut requests) = socket("crowd", Duration::from_secs(60));
        let mut crowd: Vec<UnixStream> = (0..ADMIN_CLIENTS_MAX).map(|_| connect(&path)).collect();
        // All but the second and third wait for replies.
        for (_, client) in crowd.iter_mut().enumerate().filter(|(n, _)| !matches!(n, 1 | 2)) {
            client.write_all(b"status\n").unwrap();
        }
        let mut asked = Vec::new();
        while asked.len() < ADMIN_CLIENTS_MAX - 2 {
            asked.extend(requests.next(Free::All));
        }
        let mut replaced = Vec::new();
        for n in [1, 1] {
            // The next client takes the place, and asks.
            let mut next = connect(&path);
            next.write_all(b"status\n").unwrap();
            while asked.len() < ADMIN_CLIENTS_MAX - 1 + replaced.len() {
                asked.extend(requests.next(Free::All));
            }
            assert!(rest(crowd.remove(n)).contains("silent for longest"));
            replaced.push(next);
        }
        assert!(rest(connect(&path)).contains("64 clients wait for replies already"));
        asked.into_iter().for_each(|request| request.answer(Some(ReplyText { text: "done\n".into(), exit_code: 0 })));
        for client in crowd.into_iter().chain(replaced) {
            let mut reply = String::new();
            BufReader::new(client).read_line(&mut reply).unwrap();
            assert_eq!(reply, "done\n");
        }
    }

    #[test]
    fn a_client_that_waits_for_too_long_is_told_what_for_and_stays() {
        let (path, mut requests) = socket("busy", Duration::from_secs(60));
        let why = "bench runs: nothing was done in 0.3 s, please ask again";
        let object = format!("\"error\":{{\"code\":\"busy\",\"message\":\"{why}\"}}}}\n");
        for (asked, reply) in [
            ("status\n", format!("{{\"ok\":false,{object}")),
            ("#7 status\n", format!("{{\"ok\":false,\"id\":7,{object}")),
            ("mode text\nstatus\n", format!("\x1e0\nerror (busy): {why}\n\x1e1\n")),
            ("mode text\n#7 status\n", format!("\x1e0\nerror (busy): {why}\n\x1e1 7\n")),
        ] {
            let mut client = connect(&path);
            client.write_all(asked.as_bytes()).unwrap();
            let mut told = vec![0; reply.len()];
            client.set_nonblocking(true).unwrap();
            let mut count = 0;
            while count < told.len() {
                assert!(requests.next(Free::Nothing("bench runs")).is_none());
                count += client.read(&mut told[count..]).unwrap_or(0);
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(String::from_utf8(told).unwrap(), reply);
            client.set_nonblocking(false).unwrap();
            client.write_all(b"again\n").unwrap();
            assert_eq!(answer(&mut requests, 1), ["again"]);
        }
    }

    #[test]
    fn the_client_that_has_had_the_least_of_the_appliances_time_is_next() {
        let (path, mut requests) = socket("turns", Duration::from_secs(60));
        let mut greedy: Vec<UnixStream> = (0..3).map(|_| connect(&path)).collect();
        greedy.iter_mut().for_each(|client| client.write_all(b"large\nlarge again\n").unwrap());
        for _ in 0..3 {
            collect(&mut requests, 1);
            let request = requests.next(Free::All).unwrap();
            std::thread::sleep(Duration::from_millis(5));
            request.answer(Some(ReplyText { text: "done\n".into(), exit_code: 0 }));
        }
        // All of them want more, and another one comes behind them.
        collect(&mut requests, 3);
        let mut other = connect(&path);
        other.write_all(b"status\n").unwrap();
        collect(&mut requests, 4);
        assert_eq!(answer(&mut requests, 4)[0], "status");
    }

    #[test]
    fn a_request_that_only_looks_passes_those_that_wait_for_a_command() {
        let (path, mut requests) = socket("looks", Duration::from_secs(60));
        let mut clients: Vec<UnixStream> = (0..4).map(|_| connect(&path)).collect();
        let lines = ["create-namespace", "status", "no-such-command", "stats --prometheus"];
        for (client, line) in clients.iter_mut().zip(lines) {
            client.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        collect(&mut requests, 4);
        let mut looked = Vec::new();
        let check = busy("check-namespace namespace0.0");
        while let Some(request) = requests.next(Free::Beside(&check)) {
            assert_eq!(request.beside, Beside::All);
            looked.push(request.line);
        }
        looked.sort();
        assert_eq!(looked, ["stats --prometheus", "status"]);
        assert!(requests.next(Free::Nothing("it starts")).is_none());
        assert_eq!(answer(&mut requests, 2).len(), 2);
    }

    #[test]
    fn a_command_may_have_the_devices_of_the_regions_that_it_names_in_hand() {
        for (command, device) in [
            ("bench pmem1s", "pmem1s"),
            ("check-namespace namespace1.0 -R", "pmem1.2s"),
            ("create-namespace -f -r region12", "ndblk12.0s"),
            ("{\"command\":\"check-namespace\",\"namespace\":\"btt1.0\"}", "pmem1s"),
        ] {
            assert!(busy(command).may_have_in_hand(device), "{command}: {device}");
            assert!(!busy(command).may_have_in_hand("pmem2s"), "{command}");
        }
        assert!(!busy("trim pmem1s 0x2 100000").may_have_in_hand("pmem100000s"), "numbers are none");
        assert!(Busy { command: Under::Unknown, ..busy("") }.may_have_in_hand("pmem0s"), "typed by a person");
        let jobs = Busy { command: Under::None, jobs: vec![under(None), under(Some("namespace3.1"))], ..busy("") };
        assert!(jobs.may_have_in_hand("pmem3s") && !jobs.may_have_in_hand("pmem2s"));
    }

    #[test]
    fn a_step_on_a_device_of_another_region_passes_a_command_that_names_its_own() {
        let (path, mut requests) = socket("steps", Duration::from_secs(60));
        let lines = [
            "write pmem0s 1 --fill 2",
            "write pmem0.1s 1 --fill 2",
            "write pmem1s 1 --fill 2",
            "write pmem1s 1 --fill 2 --count 33",
            "bench pmem1s",
            "read pmem1s 0 32",
            "read pmem1s 0 33",
        ];
        let mut clients: Vec<UnixStream> = lines.iter().map(|_| connect(&path)).collect();
        for (client, line) in clients.iter_mut().zip(lines) {
            client.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        collect(&mut requests, lines.len());
        let mut passed = Vec::new();
        let check = busy("check-namespace namespace0.0 -R");
        assert!(requests.next(Free::Beside(&Busy { steps: false, ..busy("trim pmem0s 0 100000") })).is_none());
        while let Some(request) = requests.next(Free::Beside(&check)) {
            let device = "pmem1s".to_owned();
            match request.beside {
                Beside::OtherDevices(it) => assert_eq!(it, device),
                it => assert_eq!(it, Beside::Job(Some(device)), "more than a step"),
            }
            passed.push(request.line);
        }
        passed.sort();
        let more = "write pmem1s 1 --fill 2 --count 33";
        assert_eq!(passed, ["read pmem1s 0 32", "read pmem1s 0 33", "write pmem1s 1 --fill 2", more]);
        assert_eq!(answer(&mut requests, 3).len(), 3);
    }

    #[test]
    fn jobs_go_beside_each_other_and_beside_commands_on_other_devices() {
        let jobs = |devices: &[&str]| devices.iter().map(|device| under(Some(device))).collect();
        let none = |devices: &[&str]| Busy { command: Under::None, jobs: jobs(devices), ..busy("") };
        let check = |devices: &[&str]| Busy { jobs: jobs(devices), ..busy("check-namespace namespace7.0 -R") };
        let full: Vec<String> = (10..10 + JOBS_MAX).map(|region| format!("pmem{region}s")).collect();
        let full: Vec<&str> = full.iter().map(String::as_str).collect();
        #[rustfmt::skip]
        let cases = [
            ("check-namespace namespace0.0",             none(&["pmem1s", "namespace2.0"]), true),
            ("check-namespace namespace0.0",             none(&["pmem0.1s"]),               false),
            ("check-namespace namespace0.0",             check(&["pmem1s"]),                true),
            ("check-namespace namespace7.0",             check(&[]),                        false),
            ("trim pmem0s 0 100000",                     none(&full),                       false),
            ("trim pmem0s 0 100000",                     Busy { steps: false, ..none(&[]) }, false),
            ("trim pmem0s 0 100000",                     Busy { command: Under::Unknown, ..none(&[]) }, false),
            ("errors",                                   Busy { command: Under::Unknown, ..none(&["pmem0s"]) }, true),
            ("errors",                                   none(&full),                       false),
            ("check-namespace namespace0.0 -R",          none(&["pmem1s"]),                 true),
            ("check-namespace namespace0.0 -R",          none(&["namespace0.0"]),           false),
            ("check-namespace namespace0.0 -R",          check(&[]),                        false),
            ("destroy-namespace namespace0.0",           Busy { jobs: vec![under(None)], ..none(&[]) }, false),
            ("poweroff",                                 Busy { jobs: vec![under(None)], ..none(&["pmem0s"]) }, true),
            ("config save",                              none(&["pmem0s"]),                 true),
            ("config save",                              Busy { steps: false, ..none(&["pmem0s"]) }, false),
            ("bench pmem0s",                             none(&["pmem1s"]),                 true),
            ("read pmem0s 5",                            none(&["pmem1s"]),                 true),
            ("read pmem1s 5",                            none(&["pmem1s"]),                 false),
        ];
        let (path, mut requests) = socket("jobs", Duration::from_secs(60));
        for (line, busy, passes) in cases {
            let mut client = connect(&path);
            client.write_all(format!("{line}\n").as_bytes()).unwrap();
            collect(&mut requests, 1);
            let passed = requests.next(Free::Beside(&busy));
            assert_eq!(passed.is_some(), passes, "{line} beside {busy:?}");
            if let (None, Some(waiting)) = (&passed, requests.waiting.front()) {
                let why = busy.why(waiting);
                let is_told = match (&busy.command, &*busy.jobs) {
                    (Under::None, [job, ..]) if busy.jobs.len() < JOBS_MAX && busy.steps => *why == job.why,
                    (Under::None, _) if busy.jobs.len() >= JOBS_MAX => why.starts_with("as many"),
                    _ => *why == busy.why,
                };
                assert!(is_told, "{line} beside {busy:?}: {why}");
            }
            let request = passed.or_else(|| requests.next(Free::All)).unwrap();
            request.answer(Some(ReplyText { text: "done\n".into(), exit_code: 0 }));
        }
    }

    #[test]
    fn jobs_that_follow_one_another_keep_no_command_waiting() {
        let (path, mut requests) = socket("followers", Duration::from_secs(60));
        let mut greedy: Vec<UnixStream> = (0..2).map(|_| connect(&path)).collect();
        let mut closer = connect(&path);
        let none = |job: Option<&str>| Busy { command: Under::None, jobs: vec![under(job)], ..busy("") };
        greedy.iter_mut().for_each(|client| client.write_all(b"errors\nerrors\n").unwrap());
        collect(&mut requests, 2);
        let first = requests.next(Free::All).unwrap();
        closer.write_all(b"disable-namespace namespace0.0\n").unwrap();
        collect(&mut requests, 2);
        // The second one, and any other, would keep it waiting; one on another disk would not.
        assert!(requests.next(Free::Beside(&none(None))).is_none());
        let mut others = [connect(&path), connect(&path)];
        for (other, namespace) in others.iter_mut().zip(0..) {
            other.write_all(format!("check-namespace namespace{namespace}.0\n").as_bytes()).unwrap();
        }
        collect(&mut requests, 4);
        let check = requests.next(Free::Beside(&none(None))).unwrap();
        assert_eq!(check.line, "check-namespace namespace1.0");
        assert!(requests.next(Free::Beside(&none(None))).is_none());
        first.answer(Some(ReplyText { text: "done\n".into(), exit_code: 0 }));
        // Beside a command that is none they go on.
        let repair = busy("check-namespace namespace7.0 -R");
        assert!(
            ["errors", "check-namespace namespace0.0"].contains(&&*requests.next(Free::Beside(&repair)).unwrap().line)
        );
        let closing = requests.next(Free::Beside(&none(Some("namespace1.0")))).unwrap();
        assert_eq!(closing.line, "disable-namespace namespace0.0");
    }

    #[test]
    fn a_client_that_has_gone_is_told_from_one_that_sends_no_more() {
        let (path, mut requests) = socket("gone", Duration::from_secs(60));
        let mut client = connect(&path);
        client.write_all(b"bench\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        collect(&mut requests, 1);
        let request = requests.next(Free::All).unwrap();
        assert!(!request.is_abandoned(), "it waits for its reply");
        drop(client);
        assert!(request.is_abandoned());
    }

    #[test]
    fn clients_that_have_gone_keep_no_places_and_what_they_waited_for_is_not_done() {
        let (path, mut requests) = socket("places", Duration::from_secs(60));
        let check = busy("check-namespace namespace0.0");
        let crowd: Vec<UnixStream> = (0..ADMIN_CLIENTS_MAX).map(|_| connect(&path)).collect();
        for mut client in &crowd {
            client.write_all(b"write pmem0s 0 --fill 1\n").unwrap();
        }
        collect(&mut requests, ADMIN_CLIENTS_MAX);
        assert!(requests.next(Free::Beside(&check)).is_none());
        drop(crowd);
        assert!(requests.next(Free::Beside(&check)).is_none());
        let begun = std::time::Instant::now();
        while !requests.clients.lock().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10), "their places are free");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut client = connect(&path);
        client.write_all(b"status\n").unwrap();
        assert_eq!(answer(&mut requests, 1), ["status"]);
    }

    /// A job under way.
    fn under(device: Option<&str>) -> JobUnder {
        JobUnder { device: device.map(Into::into), why: format!("a job on {device:?} runs") }
    }

    /// A command is under way, and nothing beside it.
    fn busy(command: &str) -> Busy {
        let command = Under::Command(command.into());
        Busy { why: "a command runs".into(), command, jobs: Vec::new(), looks: true, steps: true }
    }

    /// Serves the request that is next, which takes all of the time that is charged. Returns it.
    fn serve(requests: &mut Requests) -> String {
        let mut request = requests.next(Free::All).unwrap();
        request.begun = request.begun.and_then(|begun| begun.checked_sub(CHARGE_MAX));
        let line = request.line.clone();
        request.answer(Some(ReplyText { text: "done\n".into(), exit_code: 0 }));
        line
    }

    #[test]
    fn clients_that_connect_anew_for_each_command_do_not_keep_one_that_stays_waiting() {
        let (path, mut requests) = socket("anew", Duration::from_secs(60));
        let mut staying = connect(&path);
        staying.write_all(b"stays\n").unwrap();
        let ask_anew = || {
            let mut next = connect(&path);
            next.write_all(b"anew\n").unwrap();
            next
        };
        let mut other = ask_anew();
        let mut served = Vec::new();
        while served.len() < 20 {
            collect(&mut requests, 2);
            let stays = serve(&mut requests) == "stays";
            served.push(stays);
            if stays {
                staying.write_all(b"stays\n").unwrap();
            } else {
                drop(other);
                while requests.clients.lock().len() > 1 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other = ask_anew();
            }
        }
        assert!(served.windows(2).all(|two| two[0] != two[1]), "not in turns: {served:?}");
    }

    #[test]
    fn a_client_that_was_alone_for_long_does_not_wait_until_a_new_one_has_had_as_much() {
        let (path, mut requests) = socket("alone", Duration::from_secs(60));
        let mut clients = [connect(&path), connect(&path)];
        let words = ["first", "second"];
        let mut ask = |index: usize| clients[index].write_all(format!("{}\n", words[index]).as_bytes()).unwrap();
        ask(0);
        for _ in 0..10 {
            collect(&mut requests, 1);
            assert_eq!(serve(&mut requests), words[0]);
            ask(0);
        }
        ask(1);
        let mut served = Vec::new();
        while served.len() < 10 {
            collect(&mut requests, 2);
            let next = serve(&mut requests);
            served.push(next.clone());
            ask(usize::from(next == words[1]));
        }
        assert!(served.windows(2).all(|two| two[0] != two[1]), "not in turns: {served:?}");
    }

    #[test]
    fn clients_have_their_last_replies_when_the_socket_goes() {
        let (path, mut requests) = socket("last", Duration::from_secs(60));
        let client = spawn(move || {
            let mut client = connect(&path);
            client.write_all(b"poweroff\n").unwrap();
            rest_of_line(client)
        });
        answer(&mut requests, 1);
        drop(requests);
        assert_eq!(client.join().unwrap(), "poweroff\n");
    }

    fn rest_of_line(client: UnixStream) -> String {
        let mut reply = String::new();
        BufReader::new(client).read_line(&mut reply).unwrap();
        reply
    }

    #[test]
    fn a_client_follows_events_while_others_are_served_and_is_no_more_asked_for_when_it_has_gone() {
        let (path, mut requests) = socket("follow", Duration::from_secs(60));
        let mut client = connect(&path);
        let mut other = connect(&path);
        client.write_all(b"#9 events --follow --kind host\n").unwrap();
        other.write_all(b"version\n").unwrap();
        let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
        let mut asked = Vec::new();
        let mut answer_until = |requests: &mut Requests, done: &dyn Fn(&[String]) -> bool| {
            while !done(&asked) {
                while let Some(request) = requests.next(Free::Beside(&busy("bench pmem0s"))) {
                    let number = asked.len() + 1;
                    let event = concat!(
                        r#""time":1.5,"severity":"info","kind":"host","where":"nqn.x","what":"connected","#,
                        r#""cpu":0}"#
                    );
                    let text = format!(r#"{{"ok":true,"events":[{{"number":{number},{event}],"newest":{number}}}"#);
                    asked.push(request.line.clone());
                    request.answer(Some(ReplyText { text: format!("{text}\n"), exit_code: 0 }));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            asked.clone()
        };
        let of_client = |asked: &[String]| asked.iter().filter(|line| line.starts_with("events")).count();
        let asked = answer_until(&mut requests, &|asked| of_client(asked) == 3 && asked.len() == 4);
        assert!(asked.iter().any(|line| line == "version"));
        assert!(asked[0].starts_with("events --after 0 --kind host") || asked[0] == "version", "{asked:?}");
        for _ in 0..3 {
            assert!(lines.next().unwrap().unwrap().starts_with("{\"number\":"));
        }
        client.write_all(b"x").unwrap();
        assert!(lines.next().unwrap().unwrap().starts_with("{\"ok\":true,\"id\":9,\"newest\":"));
        // It is a client like any other again, and follows anew.
        client.write_all(b"events --follow\n").unwrap();
        answer_until(&mut requests, &|asked| of_client(asked) == 5);
        drop((lines, client));
        std::thread::sleep(super::PAUSE * 3);
        while let Some(request) = requests.next(Free::All) {
            request.answer(None);
        }
        std::thread::sleep(super::PAUSE * 2);
        assert!(requests.next(Free::All).is_none(), "nobody follows any more");
    }
}
