//! The vhost-user bridge: lets unmodified QEMU machines use disks of an appliance that runs in another one.
//!
//! ```text
//! consumer VM ── vhost-user-blk-pci ── SOCKET ──┐                     (control messages, descriptors)
//!                                            bridge
//! appliance VM ── ivshmem-doorbell ─────────────┤
//!              └─ second UART ──────────────────┘                     (rings and features, as offsets)
//! consumer's RAM file  ==  the appliance's BAR2                       (data: never through the bridge)
//! the appliance's doorbell  ──>  bridge  ──>  the consumer's call eventfd    (interrupts)
//! ```
//!
//! - [`ram`]: a consumer's RAM as a file; `guard`: its mapping, should it be cut short; [`memory_table`]: which of the
//!   consumer's addresses are where in it; `sharing`: whether it is shared at all;
//! - [`ivshmem`]: the server side of the appliance's ivshmem devices;
//! - [`state`]: what front ends want, what the appliance holds, and the next step from one to the other;
//! - `conductor`: takes those steps over the control link (`service::control`); `listen`, `arrival` and `front`: the
//!   vhost-user sockets; `relay`: kicks and interrupts; `refuse`: refuses requests while there is no appliance;
//! - `voice`: how many lines are said of one export;
//! - `window`: a consumer's memory as a machine gets it; `shared`: the lock around it all.
//!
//! What can happen, and what comes of it:
//!
//! | | |
//! |---|---|
//! | the consumer reboots, or its QEMU is killed and replaced | its queues are stopped, and started anew by the next |
//! | the appliance is killed, reboots or hangs | requests wait; the next one goes on at used.idx |
//! | … for longer than the bound | requests are answered with I/O errors until it is back |
//! | the bridge ends, however | the appliance ends with it; the front ends' `reconnect=` finds the next bridge |
//! | a disk is withdrawn | requests are answered with I/O errors; it has no sectors |
//! | a consumer cuts its RAM file short | it has no disk any more; the appliance's machine dies of it, and the next one goes on |
//! | a front end breaks the protocol | it is dropped, with a message; other consumers see nothing of it |

mod arrival;
mod conductor;
mod front;
mod guard;
pub mod ivshmem;
mod listen;
pub mod memory_table;
pub mod ram;
mod refuse;
mod relay;
mod shared;
mod sharing;
pub mod state;
mod voice;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use service::control::{ExportIndex, MemoryId};

use self::ivshmem::{PeerId, Server};
use self::ram::{RamError, RamFile};
use self::shared::{Machine, Shared, State};
use self::state::{Export, RELAYED_VECTORS, VECTORS};
use self::voice::Voice;
use self::window::Window;
use crate::event::{Bell, eventfd};
use crate::identity::Identity;
use crate::journal::Journal;
use crate::limits::{ADMIN_CLIENTS_MAX, EXPORTS_MAX, QUEUES_MAX};
use crate::listener;

/// How long requests are held for an appliance that is gone, by default: it boots meanwhile.
pub const HOLD: Duration = Duration::from_secs(30);

/// Why a consumer is left out: its RAM file has another length, or has lost its mark.
const CUT: &str = "was cut short";

/// Why a consumer is left out when the machine has ended by SIGBUS and no file has lost its mark.
const CHANGED: &str =
    "may have been cut short, for it was changed by a system call, and the machine met memory that was gone";

/// A disk for a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSpec {
    /// Where the vhost-user socket is to be.
    pub socket: PathBuf,
    /// The device, by Linux's name. `None`: the first one offered.
    pub dev: Option<String>,
    /// The consumer's RAM file. Two exports with the same one are two disks of one consumer.
    pub ram: PathBuf,
    /// How much RAM the consumer has, in bytes.
    pub ram_bytes: u64,
    /// Whether the event descriptors of its front ends go to the appliance's machine itself, which waits for one that
    /// blocks. Otherwise the bridge relays all signals.
    pub trusted: bool,
}

/// Why there is no bridge.
#[derive(Debug)]
pub enum BridgeError {
    /// A consumer's RAM.
    Ram(RamError),
    /// Something is in the way of a socket.
    Socket(String),
    /// The same socket twice, the same file with two sizes, or too many of all.
    Usage(String),
    /// The system.
    System(io::Error),
}

impl fmt::Display for BridgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram(error) => error.fmt(f),
            Self::Socket(why) | Self::Usage(why) => f.write_str(why),
            Self::System(error) => write!(f, "the bridge could not be set up: {error}"),
        }
    }
}

impl std::error::Error for BridgeError {}

impl From<RamError> for BridgeError {
    fn from(error: RamError) -> Self {
        Self::Ram(error)
    }
}

impl From<io::Error> for BridgeError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// The ends of the sockets that the appliance's machine gets.
#[derive(Debug)]
pub struct Ends {
    /// For the second UART.
    pub control: OwnedFd,
    /// For the ivshmem-doorbell devices, in the order of [`Bridge::windows`].
    pub ivshmem: Vec<OwnedFd>,
}

/// A running bridge. It ends when it is dropped, and takes its sockets along; RAM files stay.
pub struct Bridge {
    shared: Arc<Shared>,
    session: u64,
}

impl Bridge {
    /// Makes the consumers' RAM files, and waits for an appliance. Sockets appear when it has offered its disks.
    ///
    /// # Errors
    /// [`BridgeError`]: what exists and does not fit is left as it is.
    pub fn new(specs: &[ExportSpec], hold: Duration, journal: Journal) -> Result<Self, BridgeError> {
        if specs.len() > EXPORTS_MAX {
            return Err(BridgeError::Usage(format!("{} disks: {EXPORTS_MAX} are the most", specs.len())));
        }
        reserve_descriptors(specs.len());
        let mut windows: Vec<Window> = Vec::new();
        let mut window_of = Vec::new();
        let mut known = HashMap::new();
        let mut exports = Vec::new();
        for (number, spec) in (0..).zip(specs) {
            if specs.iter().filter(|other| other.socket == spec.socket).count() > 1 {
                return Err(BridgeError::Usage(format!("the socket {} is given twice", spec.socket.display())));
            }
            listener::check_path(&spec.socket).map_err(BridgeError::Socket)?;
            // A file that is given by two names is one consumer's all the same.
            let there = Identity::at(&spec.ram).ok();
            let found = there.and_then(|it| windows.iter().position(|window| window.ram.identity() == it));
            let window = match found.or_else(|| known.get(&spec.ram).copied()) {
                Some(window) if windows[window].ram.ram_bytes() != spec.ram_bytes => {
                    return Err(BridgeError::Usage(format!("{} is given with two sizes", spec.ram.display())));
                }
                Some(window) => window,
                None => {
                    let kicks = (0..RELAYED_VECTORS).map(|_| eventfd()).collect::<io::Result<_>>()?;
                    windows.push(Window::new(RamFile::open(&spec.ram, spec.ram_bytes)?, kicks));
                    windows.len() - 1
                }
            };
            known.insert(spec.ram.clone(), window);
            window_of.push(window);
            exports.push(Export::new(ExportIndex(number), memory_id(window), spec.dev.clone(), spec.trusted));
        }
        let shared = Arc::new(Shared {
            windows,
            window_of,
            sockets: specs.iter().map(|spec| spec.socket.clone()).collect(),
            hold,
            journal,
            state: Mutex::new(State {
                occupied: vec![false; exports.len()],
                voices: exports.iter().map(|_| Voice::default()).collect(),
                exports,
                machine: None,
                offered: BTreeMap::new(),
                machines: 0,
                served: 0,
                heard: Instant::now(),
                waiting: 0,
                waiting_since: Instant::now(),
            }),
            changed: Condvar::new(),
            wake_conductor: eventfd()?,
            wake_relays: specs.iter().map(|_| eventfd()).collect::<io::Result<_>>()?,
            bell: Bell::new()?,
            closed: eventfd()?,
            closing: AtomicBool::new(false),
            threads: Mutex::new(Vec::new()),
            fronts: Mutex::new(HashMap::new()),
        });
        // The session is a number that no other bridge has had: made of the process's own randomness. Dropped for want of a
        // thread, the bridge ends those that it has.
        let bridge = Self { shared, session: RandomState::new().hash_one(Instant::now()) };
        for export in 0..specs.len() {
            let [relaying, listening] = [(); 2].map(|()| Arc::clone(&bridge.shared));
            bridge.shared.spawn(move || relay::relay(&relaying, export))?;
            bridge.shared.spawn(move || listen::listen(&listening, export))?;
        }
        Ok(bridge)
    }

    /// The consumers' RAM files, one for each ivshmem device.
    pub fn windows(&self) -> impl Iterator<Item = &RamFile> {
        self.shared.windows.iter().map(|window| &window.ram)
    }

    /// Makes the sockets for a machine that is about to run the appliance. The one before must have ended.
    ///
    /// # Errors
    /// The system's.
    pub fn machine(&self) -> io::Result<Ends> {
        let (ours, control) = UnixStream::pair()?;
        let (mut servers, mut ivshmem) = (Vec::new(), Vec::new());
        for (index, window) in self.shared.windows.iter().enumerate() {
            // The mark shows what happened to the file so far; from here on the machine may meet it.
            window.was_changed();
            if !window.ram.is_whole() {
                self.shared.leave_out(index, CUT)?;
            }
        }
        for (index, window) in self.shared.windows.iter().enumerate() {
            let (ours, theirs) = UnixStream::pair()?;
            let own = PeerId(memory_id(index).0);
            let vectors: Vec<_> = window.kicks.iter().map(|kick| kick.as_fd()).collect();
            servers.push(Server::greet(ours, own, window.memory(), &vectors, VECTORS)?);
            ivshmem.push(theirs.into());
        }
        let mut state = self.shared.lock();
        state.exports.iter_mut().for_each(Export::machine_gone);
        state.machines += 1;
        let number = state.machines;
        state.machine = Some(Machine { number, servers, killer: None, present: false });
        drop(state);
        let (shared, session) = (Arc::clone(&self.shared), self.session);
        self.shared.spawn(move || conductor::conduct(&shared, number, session, ours))?;
        Ok(Ends { control: control.into(), ivshmem })
    }

    /// Sets how the machine of the last [`Bridge::machine`] is ended when its appliance hangs.
    pub fn ends_by(&self, killer: impl Fn() + Send + Sync + 'static) {
        if let Some(machine) = &mut self.shared.lock().machine {
            machine.killer = Some(Arc::new(killer));
        }
    }

    /// Whether the last machine's appliance has ever offered its disks: one that has not is no use to start again.
    #[must_use]
    pub fn has_served(&self) -> bool {
        let state = self.shared.lock();
        state.machines > 0 && state.served == state.machines
    }

    /// Looks for a consumer that may have ended the last machine by what it did to its RAM file, and leaves it out. To be
    /// called when the machine has ended over memory that was not there (`by_sigbus`), or before it served anything.
    /// Returns whether there was one: then another machine is worth a try.
    ///
    /// A file that was cut has lost its mark. If none has, and the machine ended by SIGBUS, a consumer may have put its
    /// file and the mark back: then all are left out whose files were changed by a system call since the machine was made.
    /// One that only gave back pages may be among them; otherwise one consumer could end the machine of all for ever.
    #[must_use]
    pub fn leaves_somebody_out(&self, by_sigbus: bool) -> bool {
        let leave_out = |why, is_guilty: &dyn Fn(&Window) -> bool| {
            let windows = self.shared.windows.iter().enumerate();
            let guilty = windows.filter(|(_, window)| !window.is_left_out() && is_guilty(window));
            guilty.filter(|(index, _)| self.shared.leave_out(*index, why).is_ok()).count() > 0
        };
        leave_out(CUT, &|window| !window.ram.is_whole()) || (by_sigbus && leave_out(CHANGED, &Window::was_changed))
    }

    /// Whether the appliance is there and has offered its disks.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.shared.lock().is_present()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("sockets", &self.shared.sockets).finish_non_exhaustive()
    }
}

/// Raises our own limit of descriptors, as far as the system allows, so that all front ends can have all their queues
/// whatever else is open.
fn reserve_descriptors(exports: usize) {
    /// A queue's kick, call, error and relayed call, and one that takes another's place.
    const OF_QUEUE: usize = 5;
    /// A socket, its front end with a copy and a channel; RAM file, ivshmem socket, watch, kicks and what wakes the relay; the
    /// descriptors of a message, and copies of them while they are looked at.
    const OF_EXPORT: usize = 8 + RELAYED_VECTORS as usize + 2 * arrival::DESCRIPTORS_MAX;
    /// Admin clients, the appliance's program, the terminal and what we start with.
    const OTHERS: usize = ADMIN_CLIENTS_MAX + 64;
    let wanted = (exports * (QUEUES_MAX as usize * OF_QUEUE + OF_EXPORT) + OTHERS) as u64;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        // With fewer, fewer queues can be had at once: a front end that finds none is dropped with its message.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
}

/// The number of a consumer's memory: what the appliance reads in its device's IVPosition register.
fn memory_id(window: usize) -> MemoryId {
    MemoryId(u16::try_from(window).expect("a window has an export, of which there are at most EXPORTS_MAX"))
}
