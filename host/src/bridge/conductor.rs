//! The control link to the appliance: says Hello until it is answered, then sends one request after the other until
//! what the appliance holds is what front ends want, and a Ping a second so that it goes on.
//!
//! One thread for each machine that runs an appliance; it ends with the machine.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use service::control::{ANSWER_MS, Deframer, LEASE_MS, Outcome, PING_MS, Report, Request};

use super::listen;
use super::shared::{Shared, State};
use super::state::signal;

const ANSWER: Duration = Duration::from_millis(ANSWER_MS as u64);
const PING: Duration = Duration::from_millis(PING_MS as u64);

/// A request that is not answered yet.
struct Asked {
    request: Request,
    sequence: u16,
    /// Of which export, if of one.
    export: Option<usize>,
    sent: Option<Instant>,
}

/// The conversation with one machine.
struct Conductor {
    shared: Arc<Shared>,
    machine: u64,
    stream: UnixStream,
    deframer: Deframer,
    session: u64,
    sequence: u16,
    asked: Option<Asked>,
    /// The run of the appliance that has answered Hello.
    boot: Option<u64>,
    /// How many disks it has still to tell, since when.
    untold: u8,
    greeted: Instant,
    pinged: Instant,
}

/// Talks with the appliance at the other end of `stream` until it is closed.
pub(super) fn conduct(shared: &Arc<Shared>, machine: u64, session: u64, stream: UnixStream) {
    let now = Instant::now();
    let mut conductor = Conductor {
        shared: Arc::clone(shared),
        machine,
        stream,
        deframer: Deframer::new(),
        session,
        sequence: 0,
        asked: None,
        boot: None,
        untold: 0,
        greeted: now,
        pinged: now,
    };
    conductor.run();
    drop(conductor);
    let mut state = shared.lock();
    if state.machine.as_ref().is_some_and(|it| it.number == machine) {
        let missed = state.exports.iter().any(|it| it.session);
        if missed && state.is_present() && !shared.is_closing() {
            shared.say(&format!("the appliance is gone: requests wait for it for {} s", shared.hold.as_secs()));
        }
        state.machine = None;
        state.exports.iter_mut().for_each(super::state::Export::machine_gone);
    }
    drop(state);
    shared.wake_all();
}

impl Conductor {
    /// Until the link ends, or another machine has taken this one's place.
    fn run(&mut self) {
        if self.stream.set_nonblocking(true).is_err() {
            return;
        }
        loop {
            if self.asked.is_none() {
                self.asked = self.next();
            }
            if self.send().is_err() || !self.listen() || self.shared.is_closing() {
                return;
            }
            if !self.mind_time() {
                return;
            }
        }
    }

    fn ask(&mut self, request: Request, export: Option<usize>) -> Asked {
        // 0 is for reports that nobody asked for.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        Asked { request, sequence: self.sequence, export, sent: None }
    }

    fn next(&mut self) -> Option<Asked> {
        // A Disk may be lost on its way. To be greeted again changes nothing for an appliance that knows us.
        let lost = self.untold > 0 && self.greeted.elapsed() > ANSWER * 2;
        if self.boot.is_none() || lost {
            let session = self.session;
            return Some(self.ask(Request::Hello { session }, None));
        }
        if self.pinged.elapsed() >= PING {
            self.pinged = Instant::now();
            return Some(self.ask(Request::Ping { lease_ms: LEASE_MS }, None));
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let State { exports, machine, .. } = &mut *state;
        let machine = machine.as_mut().filter(|it| it.number == self.machine)?;
        let found = exports.iter_mut().enumerate().find_map(|(export, it)| {
            let window = shared.window_of[export];
            let used_index = |rings| super::refuse::used_index(&shared.windows[window].ram, rings);
            it.next(used_index, &mut machine.device(window)).map(|request| (request, export))
        });
        drop(state);
        let (request, export) = found?;
        // A way to an interrupt may be new, and one that we relay.
        signal(&self.shared.wake_relay);
        Some(self.ask(request, Some(export)))
    }

    /// Sends what is asked, or sends it again when there was no answer.
    fn send(&mut self) -> std::io::Result<()> {
        let Some(asked) = &mut self.asked else { return Ok(()) };
        if asked.sent.is_some_and(|sent| sent.elapsed() < ANSWER) {
            return Ok(());
        }
        asked.sent = Some(Instant::now());
        match self.stream.write_all(&asked.request.encode(asked.sequence)) {
            // Nobody takes what was sent: what is lost is sent again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Waits for something to do, and takes what came. False at the end of the link.
    fn listen(&mut self) -> bool {
        let until = match &self.asked {
            Some(asked) => asked.sent.map_or(Duration::ZERO, |sent| ANSWER.saturating_sub(sent.elapsed())),
            None => PING.saturating_sub(self.pinged.elapsed()),
        };
        let until = until + Duration::from_millis(1);
        let shared = Arc::clone(&self.shared);
        let mut watched = [
            PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(shared.wake_conductor.as_fd(), PollFlags::POLLIN),
            PollFd::new(shared.closed.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::try_from(until).unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
        let _ = (&*shared.wake_conductor).read(&mut [0; 8]);
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                for byte in &bytes[..count] {
                    // A firmware's chatter and frames that lost a byte: what matters is sent again.
                    if let Some(Ok(payload)) = self.deframer.push(*byte)
                        && let Ok((sequence, report)) = Report::decode(&payload)
                    {
                        self.take(sequence, &report);
                    }
                }
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Whether our machine is the one that runs the appliance.
    fn is_at(&self, state: &State) -> bool {
        state.machine.as_ref().is_some_and(|it| it.number == self.machine)
    }

    /// What time alone brings about. False when another machine has taken this one's place.
    fn mind_time(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if !self.is_at(&state) {
            return false;
        }
        if state.is_present() && state.heard.elapsed() > shared.hold {
            shared.say("the appliance does not answer: ending its machine");
            if let Some(machine) = &mut state.machine {
                machine.present = false;
            }
            state.kill();
        }
        true
    }

    fn take(&mut self, sequence: u16, report: &Report) {
        let answered = self.asked.take_if(|asked| asked.sent.is_some() && asked.sequence == sequence && sequence != 0);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if !self.is_at(&state) {
            return; // the last words of one that has ended
        }
        match report {
            Report::Hello { boot, disks } => {
                let known = self.boot == Some(*boot);
                self.untold = *disks;
                self.greeted = Instant::now();
                if !known {
                    // What it was told before is forgotten. It learns who we are by our own Hello.
                    state.exports.iter_mut().for_each(super::state::Export::appliance_gone);
                    if let Some(machine) = &mut state.machine {
                        machine.present = false;
                    }
                    self.asked = None;
                    self.boot = answered.is_some().then_some(*boot);
                    self.pinged = Instant::now().checked_sub(PING).unwrap_or(self.pinged);
                }
            }
            Report::Disk(disk) => {
                self.untold = self.untold.saturating_sub(1);
                for export in 0..state.exports.len() {
                    // What front ends have seen: a disk without sectors, if it was withdrawn.
                    let (before, withdrawn) = (state.exports[export].disk.clone(), state.exports[export].withdrawn);
                    if state.exports[export].offer(disk) {
                        match before {
                            None => listen::open(&shared, export, disk),
                            Some(before) if withdrawn || before.config != disk.config => {
                                shared.config_changed(&mut state, export)
                            }
                            Some(_) => {}
                        }
                    }
                }
            }
            Report::DiskGone { disk } => {
                for export in 0..state.exports.len() {
                    if state.exports[export].withdraw(*disk) {
                        shared.say(&format!("{} is withdrawn: its requests fail", state.exports[export].label()));
                        shared.config_changed(&mut state, export);
                    }
                }
            }
            Report::Done(_) | Report::Stopped { .. } => {
                if let Some(Asked { request, export: Some(export), .. }) = &answered {
                    shared.settle(&mut state, *export, request, report);
                }
            }
            Report::Broken { export, queue, reason, .. } => {
                let label = state.exports.get(usize::from(export.0)).map(super::state::Export::label);
                let broken = state.exports.get_mut(usize::from(export.0)).and_then(|it| it.queue_mut(*queue));
                if let (Some(label), Some(broken)) = (label, broken) {
                    shared.say(&format!("{label}: the driver broke queue {}: {reason}", queue.0));
                    broken.broken = true;
                    broken.error.iter().for_each(|error| signal(error));
                }
            }
        }
        if self.boot.is_some() {
            // Firmware that chatters is no appliance: only one that has answered Hello counts.
            state.heard = Instant::now();
            if self.untold == 0
                && let Some(machine) = &mut state.machine
                && !machine.present
            {
                machine.present = true;
                state.served = machine.number;
                for it in state.exports.iter_mut().filter(|it| !it.offered) {
                    it.withdrawn = true;
                    shared.say(&format!("the appliance does not offer {} yet", it.label()));
                }
            }
        }
        drop(state);
        shared.changed.notify_all();
        signal(&shared.wake_relay);
    }
}

impl Shared {
    /// An answer to a request of an export.
    fn settle(&self, state: &mut State, export: usize, request: &Request, report: &Report) {
        let it = &mut state.exports[export];
        let outcome = match report {
            Report::Done(outcome) => *outcome,
            _ => Outcome::Ok,
        };
        match (request, outcome) {
            // To stop or forget what is not there is done.
            (_, Outcome::Ok) | (Request::Stop { .. } | Request::Detach { .. } | Request::SetCall { .. }, _) => {
                it.done(request, report);
            }
            (Request::Attach(_), why) => {
                it.refused = true;
                self.say(&format!("the appliance refuses {}: {why}", it.label()));
            }
            // It forgot what we gave it: give it again.
            (_, Outcome::NoSuchExport) => {
                it.attached = None;
                if let Request::Start(start) = request {
                    it.not_started(start);
                }
            }
            (Request::Start(start), why) => {
                self.say(&format!("the appliance refuses queue {} of {}: {why}", start.queue.0, it.label()));
                if let Some(queue) = it.not_started(start) {
                    queue.broken = true;
                    queue.error.iter().for_each(|error| signal(error));
                }
            }
            (_, why) => {
                self.say(&format!("the appliance refuses a change of {}'s configuration: {why}", it.label()));
                it.done(request, report);
            }
        }
    }

    /// The configuration space of an export's disk is another one.
    fn config_changed(&self, state: &mut State, export: usize) {
        if let Some(channel) = &state.exports[export].channel {
            super::front::tell_config_change(channel);
        }
    }
}
