//! Work for all CPUs at once, and each CPU's background work in between.
//!
//! | what | written by | read by | how |
//! |---|---|---|---|
//! | `job` | the CPU that has `running` | the others | between two values of `generation` |
//! | `generation` | the CPU that has `running` | the others | release, acquire: a CPU that sees it sees the job |
//! | `left` | the others, counting down | the CPU that has `running` | release, acquire: at 0 all their stores are seen |
//! | `asleep` | its own CPU | the CPU that has `running` | see [`serve`] |
//!
//! Order of locks: `running` is taken first, with no other lock held.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use kernel::tables::madt::ApicId;
use kernel::watchdog::Serving;
use spin::{Mutex, Once};
use x86_64::instructions::interrupts;

use super::apic::{Command, LocalApic};
use super::patience::Patience;
use super::timer::HaltTimer;
use super::{CpuIndex, exceptions, watchdog};

/// The work of a CPU while there is no job.
pub(crate) trait BackgroundWork: Sync {
    /// Does the work that is ready now. Returns whether there was any.
    fn poll(&self, cpu: CpuIndex) -> bool;

    /// Called while a CPU is idle. Returns whether it keeps watch: goes on polling, so that the others may halt. The
    /// call may make it the keeper.
    fn keeps_watch(&self, cpu: CpuIndex) -> bool;

    /// Called before a CPU runs a job, as the others do: it stops keeping watch.
    fn leave_watch(&self, cpu: CpuIndex);

    /// Called before a CPU halts. Makes sure that later work wakes it; returns false if work waits already.
    fn may_rest(&self, cpu: CpuIndex) -> bool;

    /// Returns when a CPU that halts has work whatever wakes it: `u64::MAX` for never.
    fn due_ns(&self, cpu: CpuIndex) -> u64;
}

type Job = *const (dyn Fn(CpuIndex) + Sync);

/// One of the other CPUs.
struct Worker {
    id: ApicId,
    asleep: AtomicBool,
}

/// All CPUs, and the job that they share.
pub(super) struct Workers {
    apic: LocalApic,
    /// How far a CPU's timer counts in a millisecond.
    counts_per_ms: u32,
    /// CPU 0.
    first: ApicId,
    /// From CPU 1 on.
    others: Box<[Worker]>,
    running: Mutex<()>,
    job: UnsafeCell<Option<Job>>,
    generation: AtomicU64,
    left: AtomicUsize,
    background: Once<&'static dyn BackgroundWork>,
}

// SAFETY: `job` is written only between `left` reaching 0 and the next `generation`, by the one CPU that holds `running`,
// and read only between a new `generation` and counting `left` down: see the table above. The function behind it is `Sync`.
unsafe impl Sync for Workers {}
// SAFETY: as above.
unsafe impl Send for Workers {}

static WORKERS: Once<Workers> = Once::new();

/// Makes the workers: CPU 0, and `others`, which wait in [`serve`] or are about to.
pub(super) fn set_up(apic: LocalApic, counts_per_ms: u32, first: ApicId, others: &[ApicId]) -> &'static Workers {
    let worker = |id: &ApicId| Worker { id: *id, asleep: AtomicBool::new(false) };
    WORKERS.call_once(|| Workers {
        apic,
        counts_per_ms,
        first,
        others: others.iter().map(worker).collect::<Vec<_>>().into(),
        running: Mutex::new(()),
        job: UnsafeCell::new(None),
        generation: AtomicU64::new(0),
        left: AtomicUsize::new(0),
        background: Once::new(),
    })
}

/// Returns the workers, after [`set_up`].
pub(super) fn workers() -> Option<&'static Workers> {
    WORKERS.get()
}

impl Workers {
    /// Returns how many CPUs there are.
    pub(super) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// Returns their local APICs' ids, CPU 0's first.
    pub(super) fn ids(&self) -> impl Iterator<Item = ApicId> {
        [self.first].into_iter().chain(self.others.iter().map(|worker| worker.id))
    }

    /// Sets the background work of all CPUs, and wakes them for it.
    pub(super) fn set_background(&self, background: &'static dyn BackgroundWork) {
        self.background.call_once(|| background);
        for cpu in 1..self.count() {
            self.wake(CpuIndex(cpu));
        }
    }

    /// Returns the background work, if it is set.
    pub(super) fn background(&self) -> Option<&'static dyn BackgroundWork> {
        self.background.get().copied()
    }

    /// Sends a CPU an interrupt, unless it is the caller's.
    pub(super) fn wake(&self, cpu: CpuIndex) {
        if cpu == super::current() {
            return;
        }
        if let Some(id) = self.ids().nth(cpu.0) {
            self.apic.send(id, Command::Interrupt(exceptions::WAKE));
        }
    }

    /// Runs `f` on every CPU, on CPU 0 by the caller, and returns when all have finished.
    pub(super) fn run(&self, f: &(dyn Fn(CpuIndex) + Sync)) {
        let _running = self.running.lock();
        let job: *const (dyn Fn(CpuIndex) + Sync + '_) = f;
        // SAFETY: only the lifetime changes. No CPU calls the job after `left` has reached 0, which is waited for below
        // (a panic in between stops the machine), so it is never called after `f` is gone.
        let job: Job = unsafe { core::mem::transmute(job) };
        // SAFETY: the others have finished the last job (`left` was 0) and wait for a new generation.
        unsafe { *self.job.get() = Some(job) };
        self.left.store(self.others.len(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::SeqCst); // pairs with the load in `serve`
        for worker in self.others.iter().filter(|worker| worker.asleep.load(Ordering::SeqCst)) {
            self.apic.send(worker.id, Command::Interrupt(exceptions::WAKE));
        }
        f(CpuIndex(0));
        while self.left.load(Ordering::Acquire) > 0 {
            watchdog::turn();
            spin_loop();
        }
    }

    /// Sends every other CPU an interrupt that it cannot hold off.
    pub(super) fn stop_others(&self, except: CpuIndex) {
        for (_, id) in self.ids().enumerate().filter(|(index, _)| *index != except.0) {
            self.apic.send(id, Command::Nmi);
        }
    }
}

/// The loop of a CPU other than 0: runs jobs, and does background work while there are none.
pub(super) fn serve(index: CpuIndex) -> ! {
    super::set_current(index);
    let workers = WORKERS.wait();
    let worker = &workers.others[index.0 - 1];
    let mut seen = 0;
    let mut patience = Patience::new();
    let mut timer = HaltTimer::new(workers.apic, workers.counts_per_ms);
    loop {
        watchdog::turn();
        let generation = workers.generation.load(Ordering::SeqCst);
        if generation != seen {
            seen = generation;
            if let Some(background) = workers.background() {
                background.leave_watch(index);
            }
            // SAFETY: a new generation: the job stands until this CPU has counted `left` down.
            if let Some(job) = unsafe { *workers.job.get() } {
                watchdog::serves(Serving::Job);
                // SAFETY: the CPU that published it waits for `left`, so it is still there.
                unsafe { (*job)(index) };
            }
            workers.left.fetch_sub(1, Ordering::Release);
            patience.worked();
        } else if workers.background().is_some_and(|background| background.poll(index)) {
            patience.worked();
        } else if !patience.lasts(|| workers.background().is_some_and(|background| background.keeps_watch(index))) {
            // No wake is lost: either this CPU sees the new generation here, or the CPU that set it sees this one
            // asleep and sends an interrupt. The background work promises the same. Interrupts are off until the halt
            // begins, so one that comes early ends it at once (invariant 15).
            worker.asleep.store(true, Ordering::SeqCst);
            let rest = workers.background().is_none_or(|background| background.may_rest(index));
            if rest && workers.generation.load(Ordering::SeqCst) == seen {
                let due = workers.background().map_or(u64::MAX, |background| background.due_ns(index));
                timer.end_halt_at(due.min(watchdog::due_ns()));
                watchdog::halts(true);
                interrupts::enable_and_hlt();
                interrupts::disable();
                watchdog::halts(false);
            }
            worker.asleep.store(false, Ordering::SeqCst);
        }
    }
}
