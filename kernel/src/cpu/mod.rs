//! CPUs: sets each up, starts all, and shares work among them.
//!
//! Interrupts are off on every CPU except in a `hlt` that waits for one (invariant 15): an earlier one is pending in
//! the local APIC, and ends the halt at once. Only two events interrupt a CPU at any time: another CPU's panic, which
//! stops it, and a machine check.

mod apic;
pub(crate) mod coroutine;
mod descriptors;
mod exceptions;
mod features;
pub(crate) mod halt;
mod machine_check;
mod patience;
mod start;
mod timer;
pub(crate) mod watchdog;
mod work;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::arch::asm;
use core::cell::UnsafeCell;

use drivers::pci::Message;
use kernel::tables::madt::{ApicId, Madt};
use x86_64::VirtAddr;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::model_specific::GsBase;

use crate::clock;
use crate::memory::AddressSpace;
use apic::LocalApic;
use descriptors::Descriptors;
pub(crate) use features::Features;
use patience::Patience;
use timer::HaltTimer;
pub(crate) use work::BackgroundWork;

/// The most CPUs that are started: each costs 216 KiB of stacks.
const MAX_CPUS: usize = 256;

/// The longest halt of CPU 0 when the UARTs' interrupts end it: only a safeguard, so that an idle machine costs its host
/// next to nothing.
const HALT_NS: u64 = 10_000_000;

/// The longest halt when only the timer ends it: shorter than the UART's FIFO takes to fill.
const UNWOKEN_HALT_NS: u64 = 1_000_000;

/// A CPU: 0 is the one that booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CpuIndex(pub(crate) usize);

/// All CPUs.
#[derive(Clone, Copy)]
pub(crate) struct Cpus {
    workers: &'static work::Workers,
    apic: LocalApic,
    /// How far a CPU's timer counts in a millisecond.
    counts_per_ms: u32,
    /// The longest halt of CPU 0.
    halt_ns: u64,
}

impl core::fmt::Debug for Cpus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cpus").field("count", &self.count()).finish_non_exhaustive()
    }
}

/// The data that `gs` points to: this CPU's index.
#[repr(C)]
struct Local {
    index: CpuIndex,
}

struct Early {
    descriptors: UnsafeCell<Descriptors>,
    stack: UnsafeCell<[u8; EARLY_STACK_BYTES]>,
    local: Local,
}

const EARLY_STACK_BYTES: usize = 32 << 10;

// SAFETY: `init_early` alone reaches the cells, once, on the boot CPU.
unsafe impl Sync for Early {}

static EARLY: Early = Early {
    descriptors: UnsafeCell::new(Descriptors::new([0; 5])),
    stack: UnsafeCell::new([0; EARLY_STACK_BYTES]),
    local: Local { index: CpuIndex(0) },
};

/// Sets the boot CPU up as far as is possible without memory: features, and exceptions, which panic. All handlers share
/// one stack until [`init`].
pub(crate) fn init_early() {
    features::enable();
    GsBase::write(VirtAddr::from_ptr(&raw const EARLY.local));
    let top = EARLY.stack.get() as u64 + EARLY_STACK_BYTES as u64;
    // SAFETY: called once, on the boot CPU, before there are others: no other code reaches the cell.
    let descriptors = unsafe { &mut *EARLY.descriptors.get() };
    *descriptors = Descriptors::new([top & !15; 5]);
    descriptors.load();
    exceptions::load();
    machine_check::enable();
}

/// Gives the boot CPU its handler stacks, starts the other CPUs that the MADT names, and lets the console's UART wake.
///
/// # Panics
/// When the local APIC cannot be mapped, or memory runs out.
pub(crate) fn init(space: &'static AddressSpace, madt: Option<&Madt>, features: &Features) -> Cpus {
    Descriptors::with_stacks(space).load();
    apic::silence_old_controllers();
    let apic = match LocalApic::find(space, features) {
        Ok(apic) => apic,
        Err(error) => panic!("the local APIC: {error}"),
    };
    apic.enable();
    let me = apic.id();
    let counts_per_ms = apic.measure_timer();

    coroutine::init(space);
    let mut others = madt.map(|madt| callable(apic, me, &madt.cpus)).unwrap_or_default();
    let room = start::room(space);
    if others.len() > room {
        log!("cpus: there is no memory for the stacks of {}: left out", others.len() - room);
        others.truncate(room);
    }
    let came = if others.is_empty() { Vec::new() } else { start::start(space, apic, &others) };
    for cpu in others.iter().filter(|cpu| !came.contains(cpu)) {
        log!("cpus: the one with APIC id {} did not come up: left out", cpu.0);
    }
    let route = |irq| madt.is_some_and(|madt| apic::route_uart(space, madt, irq, me));
    let routed = [apic::COM1_IRQ, apic::COM2_IRQ].map(route) == [true; 2];
    let halt_ns = if routed { HALT_NS } else { UNWOKEN_HALT_NS };
    let cpus = Cpus { workers: work::set_up(apic, counts_per_ms, me, &came), apic, counts_per_ms, halt_ns };
    if !others.is_empty() {
        cpus.run_on_all(&|_| {}); // afterwards none of them is in the trampoline
        // One that is late is to find its way to the halt: without the trampoline it would reset the machine.
        if came.len() == others.len() {
            start::take_trampoline_away(space);
            cpus.run_on_all(&|_| tlb::flush_all());
        }
    }
    let wake = if routed { "its interrupt" } else { "a timer" };
    log!(
        "cpus: {} of {} up; local APICs by {}; the console wakes by {wake}",
        cpus.count(),
        others.len() + 1,
        apic.kind()
    );
    cpus
}

/// Returns the CPUs that can be started, without this one.
fn callable(apic: LocalApic, me: ApicId, cpus: &[ApicId]) -> Vec<ApicId> {
    let (mut near, far): (Vec<_>, Vec<_>) = cpus.iter().filter(|cpu| **cpu != me).partition(|cpu| apic.reaches(**cpu));
    if !far.is_empty() {
        log!("cpus: {} have APIC ids that only x2APIC reaches, which this CPU lacks: left out", far.len());
    }
    if near.len() >= MAX_CPUS {
        log!("cpus: {} beyond the first {MAX_CPUS} are left out", near.len() + 1 - MAX_CPUS);
        near.truncate(MAX_CPUS - 1);
    }
    near
}

impl Cpus {
    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.workers.count()
    }

    /// Runs `f` on every CPU at once, on CPU 0 by the caller, and returns when all have finished. Called on CPU 0.
    pub(crate) fn run_on_all(&self, f: &(dyn Fn(CpuIndex) + Sync)) {
        self.workers.run(f);
    }

    /// Sets the work of CPUs that have nothing else to do. The first call counts.
    pub(crate) fn set_background(&self, background: &'static dyn BackgroundWork) {
        self.workers.set_background(background);
    }

    /// Makes a CPU do its background work soon, also if it halts.
    pub(crate) fn wake(&self, cpu: CpuIndex) {
        self.workers.wake(cpu);
    }

    /// Sets the watchdog's time: `None` turns it off. A CPU that halts hears of it.
    pub(crate) fn set_watchdog(&self, seconds: Option<u32>) {
        watchdog::set(seconds, self.count());
        (1..self.count()).for_each(|cpu| self.wake(CpuIndex(cpu)));
    }

    /// Returns the CPU that serves the `number`th of several things. CPU 0, which has the console, is the last choice.
    /// Devices' messages reach the CPU.
    pub(crate) fn spread(&self, number: usize) -> CpuIndex {
        let able: Vec<CpuIndex> = self
            .workers
            .ids()
            .zip(0..)
            .filter(|(id, _)| apic::takes_messages(*id))
            .map(|(_, cpu)| CpuIndex(cpu))
            .collect();
        // If no message reaches any CPU, CPU 0 looks after all of them, by its timer.
        able.get((number + 1) % able.len().max(1)).copied().unwrap_or(CpuIndex(0))
    }

    /// Returns the message by which a device wakes this CPU, if one can.
    pub(crate) fn wake_message(&self, cpu: CpuIndex) -> Option<Message> {
        self.workers.ids().nth(cpu.0).filter(|id| apic::takes_messages(*id)).map(apic::wake_message)
    }
}

/// Lets CPU 0 halt when it is idle: it polls for a while after the last work, then halts.
#[derive(Debug)]
pub(crate) struct Idle {
    cpus: Cpus,
    patience: Patience,
    timer: HaltTimer,
}

impl Idle {
    /// Starts now, for the polling loop of CPU 0.
    pub(crate) fn new(cpus: Cpus) -> Self {
        Self { cpus, patience: Patience::new(), timer: HaltTimer::new(cpus.apic, cpus.counts_per_ms) }
    }

    /// Called after each round that found work.
    pub(crate) fn worked(&mut self) {
        self.patience.worked();
    }

    /// Returns whether to poll once more before this CPU halts.
    pub(crate) fn is_patient(&self) -> bool {
        self.patience
            .lasts(|| self.cpus.workers.background().is_some_and(|background| background.keeps_watch(CpuIndex(0))))
    }

    /// Called after each round that found none: returns when it is time to poll again.
    pub(crate) fn rest(&mut self) {
        if !self.is_patient()
            && self.cpus.workers.background().is_none_or(|background| background.may_rest(CpuIndex(0)))
        {
            self.halt_briefly();
        }
    }

    /// Halts until there may be work: a UART or the admin port received a byte, a consumer rang, a frame came, work is due, or
    /// [`HALT_NS`] have passed. An interrupt since the caller's last poll ends the halt at once.
    fn halt_briefly(&mut self) {
        let due = self.cpus.workers.background().map_or(u64::MAX, |background| background.due_ns(CpuIndex(0)));
        self.timer.end_halt_at(due.min(clock::now_ns() + self.cpus.halt_ns));
        watchdog::halts(true);
        interrupts::enable_and_hlt();
        interrupts::disable();
        watchdog::halts(false);
    }
}

/// Returns the CPU that runs this.
pub(crate) fn current() -> CpuIndex {
    let index: usize;
    // SAFETY: from `init_early` (or `set_current`) on, the base of `gs` is a `Local` that is never written again.
    unsafe { asm!("mov {}, gs:[0]", out(reg) index, options(nostack, pure, readonly, preserves_flags)) };
    CpuIndex(index)
}

/// Returns the number of the CPU that runs this.
pub(crate) fn number() -> u32 {
    u32::try_from(current().0).unwrap_or(u32::MAX)
}

/// Sets the index that [`current`] returns on this CPU.
fn set_current(index: CpuIndex) {
    let local: &'static Local = Box::leak(Box::new(Local { index }));
    GsBase::write(VirtAddr::from_ptr(local));
}

/// Stops all other CPUs for good: for a panic.
pub(crate) fn stop_others() {
    if let Some(workers) = work::workers() {
        workers.stop_others(current());
        // They stop within microseconds; this does not wait longer for one that does not.
        clock::spin_for(1_000_000);
    }
}
