//! The watchdog: each CPU counts its turns, and looks at the next CPU's ([`kernel::watchdog`]).
//!
//! | what | written by | read by |
//! |---|---|---|
//! | a CPU's `turns`, `halts`, `serves` | that CPU | the CPU before it, and a panic |
//! | its `watcher` | that CPU | that CPU |
//! | its `rip` | its own handler of the NMI that stops it | the CPU that panics |
//! | the period, and how many CPUs there are | CPU 0 | all |
//!
//! Nothing else hangs on these words: all accesses are relaxed. A CPU that finds another one stuck panics, with what that one
//! did: the panic's report and restart are the same.
//!
//! A CPU that waits for a lock of a stuck one is stuck, too, unless it makes turns meanwhile, as it does where another CPU may
//! hold a lock over a step. All CPUs but one can be stuck: the last one sees it.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kernel::watchdog::{Seen, Serving, Watcher};

use super::{CpuIndex, MAX_CPUS};
use crate::clock;

/// A CPU's words, in cache lines of their own.
#[repr(align(128))]
struct Words {
    turns: AtomicU64,
    halts: AtomicBool,
    serves: AtomicU64,
    rip: AtomicU64,
    watcher: UnsafeCell<Watcher>,
}

// SAFETY: a CPU's watcher is reached in `turn` and `due_ns` only, by that CPU, and no handler calls these.
unsafe impl Sync for Words {}

static CPUS: [Words; MAX_CPUS] = [const {
    Words {
        turns: AtomicU64::new(0),
        halts: AtomicBool::new(false),
        serves: AtomicU64::new(0),
        rip: AtomicU64::new(0),
        watcher: UnsafeCell::new(Watcher::new()),
    }
}; MAX_CPUS];

/// The watchdog's time; 0: it is off.
static PERIOD_NS: AtomicU64 = AtomicU64::new(0);

fn words(cpu: CpuIndex) -> &'static Words {
    &CPUS[cpu.0 % MAX_CPUS]
}

/// How many CPUs there are.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Sets the watchdog's time, on a machine with so many CPUs: `None` turns it off.
pub(super) fn set(seconds: Option<u32>, count: usize) {
    COUNT.store(count, Ordering::Relaxed);
    PERIOD_NS.store(seconds.map_or(0, |seconds| u64::from(seconds) * 1_000_000_000), Ordering::Relaxed);
}

/// Returns whether it is on: then the machine restarts after a panic.
pub(crate) fn is_on() -> bool {
    PERIOD_NS.load(Ordering::Relaxed) != 0
}

/// Notes that this CPU has made a turn, and looks at the next one, if that is due.
///
/// # Panics
/// When that one is stuck.
pub(crate) fn turn() {
    let cpu = super::current();
    let turns = &words(cpu).turns;
    turns.store(turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    let period_ns = PERIOD_NS.load(Ordering::Relaxed);
    // In a panic all others stand still.
    if period_ns == 0 || super::halt::is_panicking() {
        return;
    }
    let count = COUNT.load(Ordering::Relaxed);
    if count < 2 {
        return;
    }
    let other = CpuIndex((cpu.0 + 1) % count);
    // SAFETY: this CPU's own.
    let watcher = unsafe { &mut *words(cpu).watcher.get() };
    let seen = || {
        let other = words(other);
        // The flag first: it is set before the CPU's last turn is over.
        let halts = other.halts.load(Ordering::Relaxed);
        Seen { halts, turns: other.turns.load(Ordering::Relaxed) }
    };
    if watcher.look(clock::now_ns(), period_ns, seen) {
        stuck(other, period_ns);
    }
}

/// Returns the time, for a wait that is bounded and may be longer than the watchdog's time: each look at the clock is a turn.
pub(crate) fn waiting_ns() -> u64 {
    turn();
    clock::now_ns()
}

/// Ends it all: this CPU reports for the stuck one.
fn stuck(cpu: CpuIndex, period_ns: u64) -> ! {
    let (seconds, serves) = (period_ns / 1_000_000_000, served(cpu));
    STUCK.store(cpu.0 as u64 + 1, Ordering::Relaxed);
    panic!("cpu {} is stuck: it made no step for {seconds} s; it served {serves}", cpu.0);
}

/// The stuck CPU and one; 0: none.
static STUCK: AtomicU64 = AtomicU64::new(0);

/// How long a CPU that is being stopped may take to say where it was: an emulated one may have to wait for a processor.
const STOP_MS: u32 = 500;

/// Returns the CPU that was found stuck, if the panic is about that, and where it was, if it said so when it was stopped: 0 if
/// not. Called when it has been told to stop.
pub(crate) fn found() -> Option<(usize, u64)> {
    let cpu = usize::try_from(STUCK.load(Ordering::Relaxed).checked_sub(1)?).ok()?;
    let rip = || words(CpuIndex(cpu)).rip.load(Ordering::Relaxed);
    for _ in 0..STOP_MS {
        if rip() != 0 {
            break;
        }
        clock::spin_for(1_000_000);
    }
    Some((cpu, rip()))
}

/// Notes where this CPU is stopped. Called by its handler.
pub(super) fn stopped_at(rip: u64) {
    words(super::current()).rip.store(rip, Ordering::Relaxed);
}

/// Returns when this CPU's next look is due: `u64::MAX` if there is none.
pub(super) fn due_ns() -> u64 {
    let period_ns = PERIOD_NS.load(Ordering::Relaxed);
    if period_ns == 0 {
        return u64::MAX;
    }
    // SAFETY: this CPU's own.
    unsafe { &*words(super::current()).watcher.get() }.due_ns(period_ns)
}

/// Notes that this CPU halts from now on, or no more.
pub(super) fn halts(halts: bool) {
    words(super::current()).halts.store(halts, Ordering::Relaxed);
}

/// Notes what this CPU is about to do.
pub(crate) fn serves(what: Serving) {
    words(super::current()).serves.store(what.to_word(), Ordering::Relaxed);
}

/// Returns what a CPU did last.
pub(crate) fn served(cpu: CpuIndex) -> Serving {
    Serving::of_word(words(cpu).serves.load(Ordering::Relaxed))
}
