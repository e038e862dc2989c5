//! untorn: brings the machine up, step by step, and hands it to the node.
//!
//! # Principles
//! - The machine is asked for everything that it can tell: CPUs, memory, widths, features. Nothing of that is assumed.
//! - Firmware's data are checked before they are used; broken ones are reported and left out, and the machine goes on.
//! - One address space, no allocation in handlers, interrupts only to end a halt: they interrupt nothing half-way.
//! - A mistake of our own is a panic, which names its place and stops all CPUs.
//!
//! | module | does |
//! |---|---|
//! | [`console`], [`log`], [`panic`](mod@panic) | write to COM1: replies, log lines, last words |
//! | [`admin_port`] | programs' requests and replies beside COM1 |
//! | [`asked_by`] | which of both the command under way came by |
//! | [`memory`] | page tables, heap, stacks, physical ranges for drivers |
//! | [`firmware`] | ACPI tables |
//! | [`cpu`] | exceptions, interrupts, starting CPUs, work for all CPUs, coroutines |
//! | [`devices`] | PCI: consumers' memory, virtio-pmem, CXL memory, network devices |
//! | [`clock`], [`random`], [`power`] | time, identifiers, power off and reboot |
//! | [`hardware`] | what bring-up found |
//! | [`serve`] | the node's machine, and the polling loop of the admin console |
//!
//! Unsafe code that touches the machine is in these modules and in `boot`; bytes from firmware are decoded in the library
//! beside this program, which has none.
#![no_std]
#![no_main]

extern crate alloc;

#[macro_use]
mod log;

mod admin_port;
mod asked_by;
mod clock;
mod console;
mod cpu;
mod devices;
mod firmware;
mod hardware;
mod memory;
mod panic;
mod power;
mod random;
mod serve;

use bootloader_api::BootInfo;
use kernel::events::News;
use kernel::memory_map;
use service::events::{Kind, Severity};

use hardware::Hardware;

bootloader_api::entry_point!(start);

/// Brings the machine up in this order, and serves.
fn start(boot_info: &'static mut BootInfo) -> ! {
    // From here on a mistake is reported; before, it resets the machine.
    cpu::init_early();
    console::init();
    let what = format_args!("untorn {}", env!("CARGO_PKG_VERSION"));
    log::tell(&News { severity: Severity::Info, kind: Kind::Boot, place: &"", what });
    let command_line = boot::handoff::command_line();
    if !command_line.text().is_empty() {
        let cut = if command_line.is_cut() { " (its end is cut off)" } else { "" };
        log!("command line: {}{cut}", kernel::command_line::shown(command_line.text()));
    }
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
    let devices = devices::find(space, &firmware, &cpus);
    // The node tells of a value that is neither on nor off.
    let legacy = memory_map::wants_legacy(command_line.text()).unwrap_or(false);
    let map = memory_map::split(&boot_info.memory_regions, legacy);

    serve::run(Hardware { memory, map, space, firmware, clock, random, cpus, devices, console: console::Console })
}
