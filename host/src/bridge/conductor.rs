//! The control link to the appliance: one request after the other until what the appliance holds is what front ends
//! want, and a Ping a second so that it goes on. Who greets whom, and which answer counts, is
//! [`service::control::dialogue`]'s.
//!
//! One thread for each machine that runs an appliance; it ends with the machine.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use service::control::dialogue::{Asking, Heard};
use service::control::{Deframer, ExportIndex, Outcome, Report, Request};

use super::ivshmem::Server;
use super::shared::{Shared, State, patience};
use super::state::Turn;

/// How soon messages are sent again that a machine had no room for.
const BEHIND: Duration = Duration::from_millis(5);

/// The conversation with one machine.
struct Conductor {
    shared: Arc<Shared>,
    machine: u64,
    stream: UnixStream,
    deframer: Deframer,
    dialogue: Asking,
    /// The dialogue's time counts from here.
    begun: Instant,
    /// Whose turn it is to ask something.
    turn: Turn,
    /// Since when the answer to an export's request is waited for.
    asked: Option<Instant>,
    /// Whether the machine has not taken all messages of its ivshmem devices.
    behind: bool,
}

/// Talks with the appliance at the other end of `stream` until it is closed.
pub(super) fn conduct(shared: &Arc<Shared>, machine: u64, session: u64, stream: UnixStream) {
    let mut conductor = Conductor {
        shared: Arc::clone(shared),
        machine,
        stream,
        deframer: Deframer::new(),
        dialogue: Asking::new(session),
        begun: Instant::now(),
        turn: Turn::default(),
        asked: None,
        behind: false,
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
            if self.dialogue.may_ask(self.now_ms())
                && let Some(request) = self.next()
            {
                self.dialogue.ask(request);
            }
            if self.send().is_err() || !self.listen() || self.shared.is_closing() {
                return;
            }
            if !self.mind_time() {
                return;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).expect("a process ends before 2^64 ms")
    }

    /// The next request that an export needs.
    fn next(&mut self) -> Option<Request> {
        let shared = &self.shared;
        let mut state = shared.lock();
        let State { exports, machine, .. } = &mut *state;
        let machine = machine.as_mut().filter(|it| it.number == self.machine)?;
        let request = self.turn.next(exports, |export, it| {
            let window = shared.window_of[export];
            let used_index = |rings| super::refuse::used_index(&shared.windows[window].ram, rings);
            it.next(used_index, &mut machine.device(window, it.trusted))
        });
        self.behind = machine.servers.iter().any(Server::is_behind);
        drop(state);
        if request.is_some() {
            // A route to an interrupt may be new, and one that we relay.
            shared.wake_relays();
            self.asked = Some(Instant::now());
        }
        request
    }

    /// Sends what is pending, or sends it again when there was no answer.
    fn send(&mut self) -> std::io::Result<()> {
        let now_ms = self.now_ms();
        while let Some((sequence, request)) = self.dialogue.send(now_ms) {
            match self.stream.write_all(&request.encode(sequence)) {
                Ok(()) => {}
                // The appliance does not read: requests that are lost are sent again.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for something to do, and takes the bytes that came. Returns false at the end of the link.
    fn listen(&mut self) -> bool {
        let mut until = Duration::from_millis(self.dialogue.idle_ms(self.now_ms()) + 1);
        if self.behind {
            until = until.min(BEHIND);
        }
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
                    // A firmware's output, or a frame that lost a byte: the appliance sends it again if it matters.
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

    /// Does what is due by the clock. Returns false when another machine has taken this one's place.
    fn mind_time(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if !self.is_at(&state) {
            return false;
        }
        self.asked = self.asked.filter(|_| self.dialogue.is_asking());
        // Pings go out whatever else is asked for: an appliance that is busy answers them, one that hangs does not. It answers
        // both in one place, so one that answers nothing but Pings is broken; no other request goes out, for any disk.
        let is_stuck = state.is_present() && self.asked.is_some_and(|asked| asked.elapsed() > patience(shared.hold));
        let why = match (state.is_silent(shared.hold), is_stuck) {
            (true, _) => Some("does not answer"),
            (false, true) => Some("answers Pings, but not what it is asked"),
            (false, false) => None,
        };
        let Some(machine) = &mut state.machine else { return false };
        // A machine that takes no messages any more is found out by its silence.
        machine.servers.iter_mut().for_each(|server| _ = server.flush());
        self.behind = machine.servers.iter().any(Server::is_behind);
        if let Some(why) = why
            && let Some(kill) = machine.killer.clone()
        {
            machine.present = false;
            // Without the lock: it waits for a machine that is being ended.
            drop(state);
            shared.say(&format!("the appliance {why}: ending its machine"));
            kill();
        }
        true
    }

    fn take(&mut self, sequence: u16, report: &Report) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        if !self.is_at(&state) {
            return; // the last words of one that has ended
        }
        let answered = match self.dialogue.take(self.now_ms(), sequence, report) {
            Heard::Nothing => return,
            Heard::Started => {
                state.exports.iter_mut().for_each(super::state::Export::appliance_gone);
                state.offered.clear();
                if let Some(machine) = &mut state.machine {
                    machine.present = false;
                }
                None
            }
            Heard::Answer(request) => Some(request),
            Heard::News => None,
        };
        match report {
            Report::Hello { .. } => {}
            Report::Disk(disk) => {
                state.offered.insert(disk.disk, disk.name.clone());
                for export in 0..state.exports.len() {
                    // What front ends have seen: a disk without sectors, if it was withdrawn.
                    let (before, withdrawn) = (state.exports[export].disk.clone(), state.exports[export].withdrawn);
                    let replaced = state.exports[export].replaced;
                    if state.exports[export].offer(disk) {
                        if state.exports[export].replaced && !replaced {
                            let words = format!(
                                "{} is another disk now: its consumer gets it when its front end connects anew",
                                disk.name
                            );
                            shared.say_of(&mut state, export, &words);
                        }
                        if before.is_some_and(|before| withdrawn || before.config != disk.config) {
                            shared.config_changed(&mut state, export);
                        }
                    }
                }
            }
            Report::DiskGone { disk } => {
                state.offered.remove(disk);
                for export in 0..state.exports.len() {
                    if state.exports[export].withdraw(*disk) {
                        let words = format!("{} is withdrawn: its requests fail", state.exports[export].label());
                        shared.say_of(&mut state, export, &words);
                        shared.config_changed(&mut state, export);
                    }
                }
            }
            Report::Done(_) | Report::Stopped { .. } => {
                if let Some(request) = &answered
                    && let Some(export) = request.export()
                {
                    shared.settle(&mut state, export, request, report);
                }
            }
            Report::Broken { export, queue, reason, .. } => {
                let label = state.exports.get(usize::from(export.0)).map(super::state::Export::label);
                let broken = state.exports.get_mut(usize::from(export.0)).and_then(|it| it.queue_mut(*queue));
                if let (Some(label), Some(broken)) = (label, broken) {
                    broken.broken = true;
                    broken.error.iter().for_each(|error| shared.bell.ring(error));
                    let words = format!("{label}: the driver broke queue {}: {reason}", queue.0);
                    shared.say_of(&mut state, usize::from(export.0), &words);
                }
            }
        }
        if self.dialogue.is_greeted() {
            // Firmware that chatters is no appliance: only one that has answered Hello counts.
            state.heard = Instant::now();
            if self.dialogue.has_told_all()
                && let Some(machine) = &mut state.machine
                && !machine.present
            {
                machine.present = true;
                state.served = machine.number;
                let offered: Vec<String> = state.offered.values().cloned().collect();
                for it in state.exports.iter_mut().filter(|it| !it.offered) {
                    it.withdrawn = true;
                    let others = match (&it.dev, offered.as_slice()) {
                        (None, []) => String::new(),
                        (Some(_), []) => ": it offers none".into(),
                        (_, others) => format!(": it offers {}", others.join(", ")),
                    };
                    shared.say(&format!("the appliance does not offer {} yet{others}", it.label()));
                }
            }
        }
        drop(state);
        shared.changed.notify_all();
        shared.wake_relays();
    }
}

impl Shared {
    /// An answer to a request of an export.
    fn settle(&self, state: &mut State, export: ExportIndex, request: &Request, report: &Report) {
        let export = usize::from(export.0);
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
                let words = format!("the appliance refuses {}: {why}", it.label());
                self.say_of(state, export, &words);
            }
            // It forgot what we gave it: give it again.
            (_, Outcome::NoSuchExport) => {
                it.attached = None;
                if let Request::Start(start) = request {
                    it.not_started(start);
                }
            }
            (Request::Start(start), why) => {
                let words = format!("the appliance refuses queue {} of {}: {why}", start.queue.0, it.label());
                if let Some(queue) = it.not_started(start) {
                    queue.broken = true;
                    queue.error.iter().for_each(|error| self.bell.ring(error));
                }
                self.say_of(state, export, &words);
            }
            (_, why) => {
                it.done(request, report);
                let words = format!("the appliance refuses a change of {}'s configuration: {why}", it.label());
                self.say_of(state, export, &words);
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
