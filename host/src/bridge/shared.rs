//! The state that the threads of a bridge share: one state behind one lock, and descriptors by which they wake each other.
//!
//! | thread | one for | changes | wakes |
//! |---|---|---|---|
//! | [`super::conductor`] | a machine that runs the appliance | what holds | all that wait on `changed`, the relay |
//! | [`super::listen`] | a vhost-user socket, and the front end on it | what is wanted | the conductor, the relay |
//! | [`super::relay`] | an export | used rings of queues that the appliance does not serve | |
//!
//! What each lock protects, and what may be done while it is held:
//!
//! | lock | protects | under it |
//! |---|---|---|
//! | [`Shared::state`] | what front ends want, what the appliance holds ([`State`]), and the machine's ivshmem servers | nothing that waits: numbers are compared, the consumer's used.idx is loaded, descriptors are made, copied, closed and rung ([`Bell`]), lines are given to the [`Journal`], messages are sent as far as there is room (to the appliance's QEMU, the rest waits in `ivshmem`; to a front end's channel, the rest is dropped) |
//! | [`Shared::threads`] | the list of threads | the list is changed; threads are waited for without it |
//! | [`Shared::fronts`] | the list of front ends' connections | they are shut down |
//! | a front end's (`front`) | why its last message was refused | the reason is set, or taken |
//! | `guard`'s | the table of mappings | a place is taken or given up |
//!
//! No thread holds two of them, and none holds one while it prints, makes a socket, ends a machine, goes through a
//! consumer's rings ([`Queue::refusing`] keeps the appliance and the front end away from these), or sends and receives
//! vhost-user messages. What may wait, and who waits then:
//!
//! | for | how long | who |
//! |---|---|---|
//! | an export's disk, or something else at its socket's name to go | for ever | the thread of that socket |
//! | a front end's next message | for ever | the thread of that front end |
//! | the rest of a message, and room for our answer (`arrival`) | 10 s for both, and no longer than the bridge lives | the same |
//! | the appliance to let go of a queue | until it has, or its machine has ended | the same: its consumer stands still |
//! | the machine that is being ended | until the system has ended it | the conductor, which has nothing else to do then |
//! | the reader of lines | for ever | the journal's thread |

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use service::control::DiskIndex;

use super::ivshmem::Server;
use super::memory_table::MemoryTable;
use super::refuse;
use super::state::{Export, InterruptRoute, Queue, Rings, Routes};
use super::voice::Voice;
use super::window::Window;
use crate::event::{Bell, eventfd, signal};
use crate::journal::Journal;

/// How long the appliance may be silent while a front end waits for it to let go of a queue: that consumer's machine stands
/// still meanwhile.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// How long the appliance may take over an answer when no front end waits: for `hold`, but not less than it needs if some of
/// its answers get lost.
pub(super) fn patience(hold: Duration) -> Duration {
    hold.max(SILENCE)
}

/// Ends the machine that runs the appliance.
pub(super) type Killer = Arc<dyn Fn() + Send + Sync>;

/// The machine that runs the appliance.
pub(super) struct Machine {
    /// Counts the machines of this bridge.
    pub(super) number: u64,
    /// One for each window.
    pub(super) servers: Vec<Server>,
    /// Ends it.
    pub(super) killer: Option<Killer>,
    /// Whether the appliance has said what it serves.
    pub(super) present: bool,
}

/// The state that changes, behind the lock.
pub(super) struct State {
    pub(super) exports: Vec<Export>,
    /// Which exports have a front end, or one whose queues are still being stopped.
    pub(super) occupied: Vec<bool>,
    /// What was said of each export.
    pub(super) voices: Vec<Voice>,
    pub(super) machine: Option<Machine>,
    /// The names of the disks that the appliance offers.
    pub(super) offered: BTreeMap<DiskIndex, String>,
    pub(super) machines: u64,
    /// The last one whose appliance has said what it serves.
    pub(super) served: u64,
    /// When the appliance was heard last.
    pub(super) heard: Instant,
    /// How many front ends wait until queues rest, and since when there is one.
    pub(super) waiting: usize,
    pub(super) waiting_since: Instant,
}

/// The bridge.
pub(super) struct Shared {
    pub(super) windows: Vec<Window>,
    /// The window of each export.
    pub(super) window_of: Vec<usize>,
    /// The socket of each export.
    pub(super) sockets: Vec<PathBuf>,
    /// How long requests are held while the appliance is gone.
    pub(super) hold: Duration,
    pub(super) journal: Journal,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Something is to be told to the appliance.
    pub(super) wake_conductor: Arc<File>,
    /// Kicks or calls of an export are others than before.
    pub(super) wake_relays: Vec<Arc<File>>,
    /// Signals the descriptors of front ends.
    pub(super) bell: Bell,
    /// Readable once the bridge is to end.
    pub(super) closed: Arc<File>,
    pub(super) closing: AtomicBool,
    /// All threads, to be waited for at the end.
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    /// The connection of each export's front end: to be shut down at the end.
    pub(super) fronts: Mutex<HashMap<usize, Arc<UnixStream>>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that ends with the bridge.
    ///
    /// # Errors
    /// The system's: it has no thread to spare.
    pub(super) fn spawn(&self, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = thread::Builder::new().spawn(work)?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// Ends all threads, and waits for them.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        // A thread that has seen the flag unset waits for `changed` by the time that the lock is free.
        drop(self.lock());
        signal(&self.closed);
        self.wake_all();
        for front in self.fronts.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = front.shutdown(Shutdown::Both);
        }
        loop {
            let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
            if threads.is_empty() {
                return;
            }
            // A thread that has panicked has printed its message.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }

    /// Says what happened to the bridge as a whole.
    pub(super) fn say(&self, words: &str) {
        self.journal.say(words);
    }

    /// Says what happened to an export, unless too much was said of it.
    pub(super) fn say_of(&self, state: &mut State, export: usize, words: &str) {
        let line = state.voices[export].says(words, Instant::now());
        line.iter().for_each(|line| self.journal.say(line));
    }

    /// Says what a front end did wrong, once only while it comes back with the same fault.
    pub(super) fn complain(&self, export: usize, words: &str) {
        let line = self.lock().voices[export].complains(words, Instant::now());
        line.iter().for_each(|line| self.journal.say(line));
    }

    /// Remembers the connection of an export's front end, so that no read and no write on it outlasts the bridge; `None` when
    /// it is over.
    pub(super) fn front(&self, export: usize, stream: Option<Arc<UnixStream>>) {
        let mut fronts = self.fronts.lock().unwrap_or_else(PoisonError::into_inner);
        match stream {
            // It came too late to be found by `close`.
            Some(stream) if self.is_closing() => drop(stream.shutdown(Shutdown::Both)),
            Some(stream) => drop(fronts.insert(export, stream)),
            None => drop(fronts.remove(&export)),
        }
    }

    /// Leaves a consumer out whose memory cannot be given to an appliance any more. Other consumers go on.
    pub(super) fn leave_out(&self, window: usize, why: &str) -> std::io::Result<()> {
        let it = &self.windows[window];
        if it.is_left_out() {
            return Ok(());
        }
        it.leave_out()?;
        let mut state = self.lock();
        let exports = self.window_of.iter().zip(&mut state.exports).filter(|(of, _)| **of == window);
        exports.for_each(|(_, export)| export.left_out = true);
        drop(state);
        self.wake_all();
        self.say(&format!(
            "the RAM file {} {why}: its consumer has no disk until untornctl is started anew, others go on",
            it.ram.path().display()
        ));
        Ok(())
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Tells all threads that the state is another one.
    pub(super) fn wake_all(&self) {
        self.changed.notify_all();
        signal(&self.wake_conductor);
        self.wake_relays();
    }

    /// Has the relays look at the state anew.
    pub(super) fn wake_relays(&self) {
        self.wake_relays.iter().for_each(|relay| signal(relay));
    }

    /// Waits until `rests` holds of an export: the front end must not touch rings that the appliance may serve. An appliance
    /// that is only busy is not ended meanwhile; one that does not answer is, by the conductor, and its end is waited for.
    pub(super) fn wait_for_rest(&self, export: usize, rests: impl Fn(&Export) -> bool) {
        let mut state = self.lock();
        let (begun, mut told) = (Instant::now(), false);
        if state.waiting == 0 {
            state.waiting_since = begun;
        }
        state.waiting += 1;
        while !rests(&state.exports[export]) && !self.is_closing() {
            state = self.changed.wait_timeout(state, SILENCE).unwrap_or_else(PoisonError::into_inner).0;
            if begun.elapsed() >= SILENCE && !told && state.is_present() {
                told = true;
                let label = state.exports[export].label();
                let words = format!("{label}: the appliance is still busy with a queue that the consumer has stopped");
                self.say_of(&mut state, export, &words);
            }
        }
        state.waiting -= 1;
    }

    /// Whether the appliance has been, or is about to be, asked to serve a queue and to take its kicks.
    pub(super) fn is_about_to_serve(&self, export: usize, queue: usize) -> bool {
        self.lock().exports[export].queues.get(queue).is_some_and(|queue| queue.kick_vector.is_some())
    }

    /// Refuses the requests that wait in the queues of an export whose appliance is gone for too long, or has withdrawn it.
    /// The rings, which may be large and are in the consumer's memory, are gone through without the lock.
    pub(super) fn refuse_if_lost(&self, export: usize) {
        let ram = &self.windows[self.window_of[export]].ram;
        let count = self.lock().exports[export].queues.len();
        let mut changed = false;
        for number in 0..count {
            let Some(Refusing { table, features, rings, size }) = self.begin_to_refuse(export, number) else {
                continue;
            };
            let outcome = refuse::refuse_all(ram, &table.on_the_wire(), features, rings, size);
            let mut state = self.lock();
            let queue = &mut state.exports[export].queues[number];
            queue.refusing = false;
            match outcome {
                Ok(refused) => {
                    queue.resume = true;
                    if let (true, Some(call)) = (refused > 0, &queue.call) {
                        self.bell.ring(call);
                    }
                }
                Err(why) => {
                    queue.broken = true;
                    self.say_of(&mut state, export, &format!("a queue without an appliance is broken: {why}"));
                }
            }
            changed = true;
        }
        if changed {
            // The conductor may serve them now, and a front end that has stopped one may go on.
            self.changed.notify_all();
            signal(&self.wake_conductor);
        }
    }

    /// Takes a queue whose requests are to be refused now.
    fn begin_to_refuse(&self, export: usize, number: usize) -> Option<Refusing> {
        let mut state = self.lock();
        if !state.is_lost(export, self.hold) {
            return None;
        }
        let it = &mut state.exports[export];
        let (table, features) = (it.table.clone()?, it.features?);
        let queue = it.queues.get_mut(number)?;
        let (rings, size) = (queue.wanted()?, queue.size);
        queue.refusing = true;
        Some(Refusing { table, features, rings, size })
    }
}

/// A queue that the bridge answers in, as its front end has set it up.
struct Refusing {
    table: MemoryTable,
    features: u64,
    rings: Rings,
    size: u16,
}

impl State {
    /// Whether an export's requests are to be refused now.
    pub(super) fn is_lost(&self, export: usize, hold: Duration) -> bool {
        let it = &self.exports[export];
        it.rests() && (it.is_refused() || (it.session && !self.is_present() && self.heard.elapsed() >= hold))
    }

    /// Whether the appliance has been silent for too long: for its [`patience`], or for [`SILENCE`] while a front end has waited
    /// as long. (What it was silent before that is no fault.)
    pub(super) fn is_silent(&self, hold: Duration) -> bool {
        let silent = self.heard.elapsed();
        let missed = self.waiting > 0 && silent.min(self.waiting_since.elapsed()) > SILENCE;
        self.is_present() && (silent > patience(hold) || missed)
    }

    pub(super) fn is_present(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.present)
    }

    /// Removes a queue's route to its interrupt, unless it lasts.
    pub(super) fn forget_way(&mut self, export: usize, queue: usize, window: usize) {
        let Some(queue) = self.exports[export].queues.get_mut(queue) else { return };
        if let Some(InterruptRoute { peer, lasting: false }) = queue.route {
            queue.route = None;
            if let Some(machine) = &mut self.machine {
                // A machine that takes no messages is found out elsewhere.
                let _ = machine.servers[window].remove_peer(peer);
            }
        }
    }
}

/// The appliance's device for a consumer, as an export of it sees it.
pub(super) struct Device<'m> {
    server: &'m mut Server,
    trusted: bool,
}

impl Machine {
    pub(super) fn device(&mut self, window: usize, trusted: bool) -> Device<'_> {
        Device { server: &mut self.servers[window], trusted }
    }
}

/// Only descriptors of trusted front ends go to the appliance's QEMU: it writes and reads those that it has with its lock
/// held, so that one which blocks stops the appliance.
impl Routes for Device<'_> {
    fn call(&mut self, queue: &mut Queue) -> Option<InterruptRoute> {
        let call = queue.call.as_ref()?;
        if self.trusted
            && let Ok(Some(peer)) = self.server.add_peer(call.as_fd())
        {
            return Some(InterruptRoute { peer, lasting: false });
        }
        let relayed = eventfd().ok()?;
        let peer = self.server.lasting_peer(relayed.as_fd()).ok().flatten()?;
        queue.relayed = Some(relayed);
        Some(InterruptRoute { peer, lasting: true })
    }

    fn kick(&mut self, queue: &Queue) -> Option<u16> {
        if !self.trusted {
            return None;
        }
        self.server.add_vector(queue.kick.as_ref()?.as_fd()).ok().flatten()
    }

    fn is_behind(&self) -> bool {
        self.server.is_behind()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs::{self, File};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use nix::sys::eventfd::EventFd;
    use service::control::{DiskIndex, DiskOffer};

    use crate::bridge::memory_table::MemoryTable;
    use crate::bridge::state::Rings;
    use crate::bridge::{Bridge, ExportSpec, HOLD};
    use crate::event::ForeignEvent;
    use crate::journal::Journal;

    #[test]
    fn a_queue_does_not_rest_while_its_requests_are_refused() {
        let folder = std::env::temp_dir().join(format!("untorn-refusing-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [socket, ram] = ["socket", "ram"].map(|name| folder.join(name));
        let spec = ExportSpec { socket, dev: None, ram, ram_bytes: 1 << 20, trusted: false };
        let bridge = Bridge::new(&[spec], Duration::ZERO, Journal::new(|_| {}).unwrap()).unwrap();
        let shared = &bridge.shared;
        let mut state = shared.lock();
        let export = &mut state.exports[0];
        export.offer(&DiskOffer {
            disk: DiskIndex(0),
            name: "pmem0s".into(),
            capacity: 8,
            sector_size: 512,
            serial: [0; 20],
            queues: 1,
            queue_size: 16,
            features: 0,
            config: vec![0; 60],
        });
        export.begin();
        (export.features, export.table) = (Some(0), Some(MemoryTable::default()));
        let kick = File::from(OwnedFd::from(EventFd::new().unwrap()));
        let queue = &mut export.queues[0];
        queue.set_size(16);
        queue.rings = Some(Rings { desc: 0, avail: 0x1000, used: 0x2000 });
        queue.set_kick(ForeignEvent::new(kick).map(Arc::new));
        queue.enabled = true;
        drop(state);
        // There is no appliance. The relay may be at it, too.
        while shared.begin_to_refuse(0, 0).is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!shared.lock().exports[0].rests());
        drop(bridge);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_thread_that_is_about_to_wait_for_a_change_is_woken_when_the_bridge_closes() {
        let bridge = Bridge::new(&[], HOLD, Journal::new(|_| {}).unwrap()).unwrap();
        let shared = Arc::clone(&bridge.shared);
        let state = shared.lock();
        assert!(!shared.is_closing());
        let closing = thread::spawn(move || drop(bridge));
        while !shared.is_closing() {
            thread::sleep(Duration::from_millis(1));
        }
        // Time for a notice that does not wait for the lock.
        thread::sleep(Duration::from_millis(100));
        let (state, waited) = shared.changed.wait_timeout(state, Duration::from_secs(60)).unwrap();
        assert!(!waited.timed_out());
        drop(state);
        closing.join().unwrap();
    }
}
