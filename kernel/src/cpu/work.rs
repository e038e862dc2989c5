//! Work for all CPUs at once, and the duty of each CPU in between.
//!
//! | what | written by | read by | how |
//! |---|---|---|---|
//! | `job` | the CPU that has `running` | the others | between two values of `generation` |
//! | `generation` | the CPU that has `running` | the others | release, acquire: whoever sees it sees the job |
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
use spin::{Mutex, Once};
use x86_64::instructions::interrupts;

use super::apic::{Command, LocalApic};
use super::patience::Patience;
use super::{CpuIndex, exceptions};

/// What a CPU does when there is no job.
pub(crate) trait Duty: Sync {
    /// Does what is there to do now. True when there was something.
    fn poll(&self, cpu: CpuIndex) -> bool;

    /// Asked while a CPU finds nothing to do: whether it is the one that goes on looking, so that the others may halt. It may
    /// be from now on.
    fn keeps_watch(&self, cpu: CpuIndex) -> bool;

    /// Before a CPU is busy with something else, as the others are: it keeps watch no more.
    fn leave_watch(&self, cpu: CpuIndex);

    /// Asked before a CPU halts: whoever has work for it later must wake it from now on. False when there is some already.
    fn may_rest(&self, cpu: CpuIndex) -> bool;
}

type Job = *const (dyn Fn(CpuIndex) + Sync);

/// One of the other CPUs.
struct Worker {
    id: ApicId,
    asleep: AtomicBool,
}

/// What the CPUs share.
pub(super) struct Crew {
    apic: LocalApic,
    /// CPU 0.
    first: ApicId,
    /// CPU 1 is the first of them.
    workers: Box<[Worker]>,
    running: Mutex<()>,
    job: UnsafeCell<Option<Job>>,
    generation: AtomicU64,
    left: AtomicUsize,
    duty: Once<&'static dyn Duty>,
}

// SAFETY: `job` is written only between `left` reaching 0 and the next `generation`, by the one CPU that holds `running`,
// and read only between a new `generation` and counting `left` down: see the table above. The function behind it is `Sync`.
unsafe impl Sync for Crew {}
// SAFETY: as above.
unsafe impl Send for Crew {}

static CREW: Once<Crew> = Once::new();

/// Makes the crew: CPU 0, and these. They are waiting in [`serve`], or on their way there.
pub(super) fn gather(apic: LocalApic, first: ApicId, others: &[ApicId]) -> &'static Crew {
    let worker = |id: &ApicId| Worker { id: *id, asleep: AtomicBool::new(false) };
    CREW.call_once(|| Crew {
        apic,
        first,
        workers: others.iter().map(worker).collect::<Vec<_>>().into(),
        running: Mutex::new(()),
        job: UnsafeCell::new(None),
        generation: AtomicU64::new(0),
        left: AtomicUsize::new(0),
        duty: Once::new(),
    })
}

/// The crew, once it is gathered.
pub(super) fn crew() -> Option<&'static Crew> {
    CREW.get()
}

impl Crew {
    /// How many CPUs there are.
    pub(super) fn count(&self) -> usize {
        1 + self.workers.len()
    }

    /// Their local APICs' ids, CPU 0's first.
    pub(super) fn ids(&self) -> impl Iterator<Item = ApicId> {
        [self.first].into_iter().chain(self.workers.iter().map(|worker| worker.id))
    }

    /// Gives everybody a duty, and wakes them for it.
    pub(super) fn set_duty(&self, duty: &'static dyn Duty) {
        self.duty.call_once(|| duty);
        for cpu in 1..self.count() {
            self.wake(CpuIndex(cpu));
        }
    }

    /// The duty, if there is one.
    pub(super) fn duty(&self) -> Option<&'static dyn Duty> {
        self.duty.get().copied()
    }

    /// Sends a CPU an interrupt, unless it is the one that asks.
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
        // SAFETY: only the lifetime changes. Nobody calls the job after `left` has reached 0, which is waited for below
        // (a panic in between stops the machine), so it is never called after `f` is gone.
        let job: Job = unsafe { core::mem::transmute(job) };
        // SAFETY: the others have finished the last job (`left` was 0) and wait for a new generation.
        unsafe { *self.job.get() = Some(job) };
        self.left.store(self.workers.len(), Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::SeqCst); // pairs with the load in `serve`
        for worker in self.workers.iter().filter(|worker| worker.asleep.load(Ordering::SeqCst)) {
            self.apic.send(worker.id, Command::Interrupt(exceptions::WAKE));
        }
        f(CpuIndex(0));
        while self.left.load(Ordering::Acquire) > 0 {
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

/// What a CPU other than 0 does for ever: runs jobs, and does its duty when there are none.
pub(super) fn serve(index: CpuIndex) -> ! {
    super::set_current(index);
    let crew = CREW.wait();
    let worker = &crew.workers[index.0 - 1];
    let mut seen = 0;
    let mut patience = Patience::new();
    loop {
        let generation = crew.generation.load(Ordering::SeqCst);
        if generation != seen {
            seen = generation;
            if let Some(duty) = crew.duty() {
                duty.leave_watch(index);
            }
            // SAFETY: a new generation: the job stands until this CPU has counted `left` down.
            if let Some(job) = unsafe { *crew.job.get() } {
                // SAFETY: whoever gave it out waits for `left`, so it is still there.
                unsafe { (*job)(index) };
            }
            crew.left.fetch_sub(1, Ordering::Release);
            patience.worked();
        } else if crew.duty().is_some_and(|duty| duty.poll(index)) {
            patience.worked();
        } else if !patience.lasts(|| crew.duty().is_some_and(|duty| duty.keeps_watch(index))) {
            // No wake is lost: either we see the new generation here, or its giver sees us asleep and sends an
            // interrupt; and likewise for the duty. Interrupts are off until the halt begins, so one that comes early ends
            // it at once.
            worker.asleep.store(true, Ordering::SeqCst);
            let rest = crew.duty().is_none_or(|duty| duty.may_rest(index));
            if rest && crew.generation.load(Ordering::SeqCst) == seen {
                interrupts::enable_and_hlt();
                interrupts::disable();
            }
            worker.asleep.store(false, Ordering::SeqCst);
        }
    }
}
