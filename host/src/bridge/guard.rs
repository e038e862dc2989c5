//! A mapping of a file that another program may cut short at any time: an access past its end does not end us.
//!
//! The system raises SIGBUS at such an access. Our handler then puts private zeroes in the place of the whole mapping, and
//! the access goes on; from then on the mapping is lost. A SIGBUS anywhere else ends the process, as it would without us.

use std::fs::File;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How many mappings there may be: many more than a bridge has consumers.
const MAPPINGS_MAX: usize = 256;

/// A mapping, as the handler knows it. `bytes` is 0 while there is none.
struct Place {
    start: AtomicUsize,
    bytes: AtomicUsize,
    lost: AtomicBool,
}

static PLACES: [Place; MAPPINGS_MAX] =
    [const { Place { start: AtomicUsize::new(0), bytes: AtomicUsize::new(0), lost: AtomicBool::new(false) } };
        MAPPINGS_MAX];

/// Held while a place is taken or given up; the handler does not take it.
static TAKEN: Mutex<()> = Mutex::new(());

/// A shared mapping of a whole file.
#[derive(Debug)]
pub(super) struct Guarded {
    map: MmapRaw,
    place: usize,
}

impl Guarded {
    /// Maps a file.
    ///
    /// # Errors
    /// The system's; and when there are [`MAPPINGS_MAX`] mappings.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        install()?;
        let map = MmapOptions::new().map_raw(file)?;
        let _taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = PLACES.iter().position(|place| place.bytes.load(Ordering::Relaxed) == 0);
        let place = free.ok_or_else(|| io::Error::other("too many mappings"))?;
        PLACES[place].lost.store(false, Ordering::Relaxed);
        PLACES[place].start.store(map.as_mut_ptr() as usize, Ordering::Relaxed);
        // The handler reads it first: it finds nothing or all.
        PLACES[place].bytes.store(map.len(), Ordering::Release);
        Ok(Self { map, place })
    }

    /// Its first byte.
    pub(super) fn start(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Whether the file was cut short and an access met that: bytes read and written since do not belong to the file.
    pub(super) fn is_lost(&self) -> bool {
        PLACES[self.place].lost.load(Ordering::Acquire)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the addresses are used for something else.
        PLACES[self.place].bytes.store(0, Ordering::Release);
    }
}

/// Installs the handler, once.
fn install() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    let mut outcome = Ok(());
    INSTALLED.call_once(|| {
        let action = SigAction::new(SigHandler::SigAction(handle), SaFlags::SA_SIGINFO, SigSet::empty());
        // SAFETY: the handler makes system calls and touches atomics, nothing else.
        outcome = unsafe { sigaction(Signal::SIGBUS, &action) }.map(drop);
    });
    outcome.map_err(Into::into)
}

extern "C" fn handle(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the system passes a valid siginfo_t, and for SIGBUS it has an address.
    let at = unsafe { (*info).si_addr() } as usize;
    for place in &PLACES {
        let bytes = place.bytes.load(Ordering::Acquire);
        let start = place.start.load(Ordering::Relaxed);
        if bytes == 0 || !(start..start + bytes).contains(&at) {
            continue;
        }
        place.lost.store(true, Ordering::Release);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: exactly the place of a mapping of ours, which lives: an access to it has just failed. It holds no
        // object, and is only the target of atomic accesses, for which any bytes are good.
        let now = unsafe {
            libc::mmap(ptr::with_exposed_provenance_mut(start), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if now != libc::MAP_FAILED {
            return;
        }
    }
    // Not ours: the access is tried again, and ends the process.
    // SAFETY: to set the default action is allowed in a handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}
