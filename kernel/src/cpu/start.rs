//! Starts the other CPUs: INIT, SIPI, and a bounded wait for them.
//!
//! All are started at once and come up in any order: each draws a ticket (`boot::trampoline`), which names its stack
//! and its descriptors, and registers itself; its place among the registered is its index. When time is up registration
//! closes: a CPU that comes up later halts, and is left out. For it the trampoline stays as long as one is missing: a
//! hypervisor may let it run its first instruction at any time, and its start can't be taken back (QEMU keeps a SIPI
//! over a later INIT).

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use boot::trampoline::{self, Parameters};
use kernel::tables::madt::ApicId;
use spin::{Mutex, Once};

use super::apic::{Command, LocalApic};
use super::descriptors::{self, Descriptors};
use super::{CpuIndex, exceptions, features, halt, machine_check, work};
use crate::clock;
use crate::memory::{AddressSpace, PAGE_BYTES};

/// A started CPU's own stack.
const STACK_BYTES: u64 = 128 << 10;

/// The pages that a CPU takes: all its stacks, and its share of page tables.
const PAGES_A_CPU: u64 = (STACK_BYTES + descriptors::STACKS_BYTES) / PAGE_BYTES + 1;

/// The pause between INIT and SIPI (Intel SDM volume 3, 9.4.4).
const AFTER_INIT_NS: u64 = 10_000_000;

/// The time between a CPU's first and second SIPI.
const AFTER_SIPI_NS: u64 = 200_000;

/// The longest wait for all CPUs: they need microseconds, but a busy hypervisor may let them run far later.
const PATIENCE_NS: u64 = 2_000_000_000;

/// The CPUs that are up.
struct Registered {
    open: bool,
    ids: Vec<ApicId>,
}

/// What the other CPUs use while they come up.
struct Startup {
    apic: LocalApic,
    /// By ticket: each is taken by the CPU that drew it.
    descriptors: Vec<AtomicPtr<Descriptors>>,
    registered: Mutex<Registered>,
}

static STARTUP: Once<Startup> = Once::new();

/// Returns how many CPUs there are pages for. One page in eight stays, for the page tables of what drivers map.
pub(super) fn room(space: &AddressSpace) -> usize {
    let pages = space.pages_left();
    usize::try_from((pages - pages / 8) / PAGES_A_CPU).expect("addresses have 64 bits")
}

/// Starts these CPUs. Returns those that came up, in the order of their indices, which count from 1.
pub(super) fn start(space: &'static AddressSpace, apic: LocalApic, cpus: &[ApicId]) -> Vec<ApicId> {
    let Some(page) = space.low_pages() else {
        log!("cpus: no memory below 1 MiB to start the others in");
        return Vec::new();
    };
    let stacks: Vec<u64> = cpus.iter().map(|_| space.new_stack(STACK_BYTES)).collect();
    let stack_tops: &'static [u64] = stacks.leak();
    let startup = STARTUP.call_once(|| Startup {
        apic,
        descriptors: cpus.iter().map(|_| AtomicPtr::new(Descriptors::with_stacks(space))).collect(),
        registered: Mutex::new(Registered { open: true, ids: Vec::with_capacity(cpus.len()) }),
    });

    let page_tables = u32::try_from(space.root()).expect("the top page table lies in low memory");
    let parameters = Parameters::new(low(page), page_tables, ap_main as *const () as u64, stack_tops);
    let (Some(code), Some(data)) = (space.direct(page), space.direct(page + PAGE_BYTES)) else { return Vec::new() };
    // SAFETY: two whole pages of RAM that hold nothing (`low_pages`), seen in the direct map; no CPU runs there yet.
    unsafe {
        code.copy_from_nonoverlapping(NonNull::from(trampoline::code()).cast::<u8>(), trampoline::code().len());
        data.cast::<Parameters>().write(parameters);
    }
    space.map_low(page, true);
    space.map_low(page + PAGE_BYTES, false);

    wake_all(apic, cpus, page, startup);

    let mut registered = startup.registered.lock();
    registered.open = false;
    registered.ids.clone()
}

/// Unmaps the trampoline, when no CPU can be in it any more.
pub(super) fn take_trampoline_away(space: &AddressSpace) {
    if let Some(page) = space.low_pages() {
        space.unmap_low(page);
        space.unmap_low(page + PAGE_BYTES);
    }
}

fn wake_all(apic: LocalApic, cpus: &[ApicId], page: u64, startup: &Startup) {
    let start = Command::Start(u8::try_from(page / PAGE_BYTES).expect("the trampoline lies below 1 MiB"));
    let missing = || {
        let ids = startup.registered.lock().ids.clone();
        cpus.iter().filter(move |cpu| !ids.contains(cpu))
    };
    for cpu in cpus {
        apic.send(*cpu, Command::Init);
    }
    clock::spin_for(AFTER_INIT_NS);
    for cpu in cpus {
        apic.send(*cpu, start);
    }
    clock::spin_for(AFTER_SIPI_NS);
    for cpu in missing() {
        apic.send(*cpu, start);
    }
    let end = clock::now_ns() + PATIENCE_NS;
    while missing().next().is_some() && clock::now_ns() < end {
        clock::spin_for(20_000);
    }
}

fn low(page: u64) -> u32 {
    u32::try_from(page).expect("the trampoline lies below 1 MiB")
}

/// The entry of a started CPU.
extern "C" fn ap_main(ticket: u64) -> ! {
    features::enable();
    let Some(startup) = STARTUP.get() else { halt::halt() };
    let ticket = usize::try_from(ticket).expect("addresses have 64 bits");
    super::set_current(CpuIndex(ticket + 1)); // for a panic before it is registered
    let place = startup.descriptors.get(ticket);
    let taken = place.and_then(|place| NonNull::new(place.swap(core::ptr::null_mut(), Ordering::AcqRel)));
    let Some(mut descriptors) = taken else { halt::halt() };
    // SAFETY: they live for good, and swapping the pointer out made them this CPU's alone.
    unsafe { descriptors.as_mut() }.load();
    exceptions::load();
    machine_check::enable();
    startup.apic.enable();
    let id = startup.apic.id();
    let index = {
        let mut registered = startup.registered.lock();
        if !registered.open {
            drop(registered);
            halt::halt();
        }
        registered.ids.push(id);
        registered.ids.len()
    };
    work::serve(CpuIndex(index))
}
