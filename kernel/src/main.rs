//! untorn: brings the machine up, step by step, and hands it to the node.
//!
//! # Principles
//! - Nothing about the machine is assumed that it can be asked: CPUs, memory, widths, features.
//! - What firmware says is checked before it is used; what is broken is reported and left out, and the machine goes on.
//! - One address space, no allocation in handlers, interrupts only to end a halt: nothing is ever interrupted half-way.
//! - When we are wrong ourselves, a panic says where, and stops all CPUs.
//!
//! | module | does |
//! |---|---|
//! | [`console`], [`log`], [`panic`] | speak |
//! | [`memory`] | page tables, heap, stacks, physical ranges for drivers |
//! | [`firmware`] | ACPI tables |
//! | [`cpu`] | exceptions, interrupts, starting CPUs, work for all of them |
//! | [`devices`] | PCI: consumers' memory |
//! | [`clock`], [`random`], [`power`] | time, identifiers, the end |
//! | [`serve`] | the node's machine, and the polling loop of the admin console |
//!
//! Unsafe code that touches the machine is in these modules and in `boot`; bytes from firmware are decoded in the library
//! beside this program, which has none.
#![no_std]
#![no_main]

extern crate alloc;

#[macro_use]
mod log;

mod clock;
mod console;
mod cpu;
mod devices;
mod firmware;
mod machine;
mod memory;
mod panic;
mod power;
mod random;
mod serve;

use bootloader_api::BootInfo;

use machine::Machine;

bootloader_api::entry_point!(start);

/// The order of bring-up.
fn start(boot_info: &'static mut BootInfo) -> ! {
    console::init();
    log!("untorn {}", env!("CARGO_PKG_VERSION"));

    // From here on a mistake is reported, not a reset.
    cpu::init_early();
    let features = cpu::Features::detect();
    log!("cpu: {features}");

    let memory = memory::init(boot_info);
    let space = memory::space();
    log!("memory: {} MiB of RAM, {} MiB of it heap", memory.ram_bytes >> 20, memory.heap_bytes >> 20);

    let firmware = firmware::read(space, boot_info.rsdp_addr.into_option());
    let timer = firmware.fadt.and_then(|fadt| fadt.timer);
    let clock = clock::init(timer);
    log!("clock: {clock}");
    power::init(firmware.fadt, firmware.off);
    let random = random::Random::new(timer.map(|timer| timer.port));
    log!("random: {random}");

    let cpus = cpu::init(space, firmware.madt.as_ref(), &features);
    let consumers = devices::find_ivshmem(space, &firmware, &cpus);

    serve::run(Machine { memory, space, firmware, clock, random, cpus, consumers, console: console::Console })
}
