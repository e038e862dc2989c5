//! Starting the other CPUs: INIT, SIPI, and a bounded wait for who comes.
//!
//! All are called at once and come in any order: each draws a ticket (`boot::trampoline`), which names its stack and its
//! descriptors, and signs the register; its place there is its index. When time is up the register is closed: a CPU that
//! comes later stops at the door, and is left out.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, Ordering};

use boot::trampoline::{self, Parameters};
use kernel::tables::madt::ApicId;
use spin::{Mutex, Once};

use super::apic::{Command, LocalApic};
use super::descriptors::Descriptors;
use super::{CpuIndex, exceptions, features, halt, machine_check, work};
use crate::clock;
use crate::memory::{AddressSpace, PAGE_BYTES};

/// A started CPU's own stack.
const STACK_BYTES: u64 = 128 << 10;

/// The SDM's pause between INIT and SIPI (9.4.4).
const AFTER_INIT_NS: u64 = 10_000_000;

/// How long after the first SIPI a CPU gets a second.
const AFTER_SIPI_NS: u64 = 200_000;

/// How long to wait for all: CPUs need microseconds, a busy hypervisor may need far longer to let them run.
const PATIENCE_NS: u64 = 2_000_000_000;

/// Who has come.
struct Register {
    open: bool,
    signed: Vec<ApicId>,
}

/// What the other CPUs find when they come.
struct Door {
    apic: LocalApic,
    /// By ticket: taken by whoever drew it.
    descriptors: Vec<AtomicPtr<Descriptors>>,
    register: Mutex<Register>,
}

static DOOR: Once<Door> = Once::new();

/// Starts these CPUs: who came, in the order of their indices, which count from 1.
pub(super) fn start(space: &'static AddressSpace, apic: LocalApic, cpus: &[ApicId]) -> Vec<ApicId> {
    let Some(page) = space.low_pages() else {
        log!("cpus: no memory below 1 MiB to start the others in");
        return Vec::new();
    };
    let stacks: Vec<u64> = cpus.iter().map(|_| space.new_stack(STACK_BYTES)).collect();
    let stack_tops: &'static [u64] = stacks.leak();
    let door = DOOR.call_once(|| Door {
        apic,
        descriptors: cpus.iter().map(|_| AtomicPtr::new(Descriptors::with_stacks(space))).collect(),
        register: Mutex::new(Register { open: true, signed: Vec::with_capacity(cpus.len()) }),
    });

    let page_tables = u32::try_from(space.root()).expect("the top page table lies in low memory");
    let parameters = Parameters::new(low(page), page_tables, came as *const () as u64, stack_tops);
    let (Some(code), Some(data)) = (space.direct(page), space.direct(page + PAGE_BYTES)) else { return Vec::new() };
    // SAFETY: two whole pages of RAM that hold nothing (`low_pages`), seen in the direct map; nobody runs there yet.
    unsafe {
        code.copy_from_nonoverlapping(NonNull::from(trampoline::code()).cast::<u8>(), trampoline::code().len());
        data.cast::<Parameters>().write(parameters);
    }
    space.map_low(page, true);
    space.map_low(page + PAGE_BYTES, false);

    call(apic, cpus, page, door);

    let mut register = door.register.lock();
    register.open = false;
    register.signed.clone()
}

/// Takes the trampoline away again, when no CPU can be in it any more.
pub(super) fn take_trampoline_away(space: &AddressSpace) {
    if let Some(page) = space.low_pages() {
        space.unmap_low(page);
        space.unmap_low(page + PAGE_BYTES);
    }
}

fn call(apic: LocalApic, cpus: &[ApicId], page: u64, door: &Door) {
    let start = Command::Start(u8::try_from(page / PAGE_BYTES).expect("the trampoline lies below 1 MiB"));
    let missing = || {
        let signed = door.register.lock().signed.clone();
        cpus.iter().filter(move |cpu| !signed.contains(cpu))
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

/// Where a started CPU lands.
extern "C" fn came(ticket: u64) -> ! {
    features::enable();
    let Some(door) = DOOR.get() else { halt::halt() };
    let ticket = usize::try_from(ticket).unwrap_or(usize::MAX);
    super::set_current(CpuIndex(ticket.saturating_add(1))); // until it has signed: for a panic on the way there
    let place = door.descriptors.get(ticket);
    let taken = place.and_then(|place| NonNull::new(place.swap(core::ptr::null_mut(), Ordering::AcqRel)));
    let Some(mut descriptors) = taken else { halt::halt() };
    // SAFETY: they live for good, and swapping the pointer out made them this CPU's alone.
    unsafe { descriptors.as_mut() }.load();
    exceptions::load();
    machine_check::enable();
    door.apic.enable();
    let id = door.apic.id();
    let index = {
        let mut register = door.register.lock();
        if !register.open {
            drop(register);
            halt::halt();
        }
        register.signed.push(id);
        register.signed.len()
    };
    work::serve(CpuIndex(index))
}
