//! Finds and sets up the link to the bridge and consumers' memory.

use alloc::vec::Vec;

use drivers::ivshmem::{Ivshmem, is_ivshmem};
use drivers::pci::Config;
use drivers::phys::PhysAddr;
use drivers::uart::{COM2, Uart};

use crate::cpu::{CpuIndex, Cpus};
use crate::firmware::Firmware;
use crate::memory::AddressSpace;

/// Sets every ivshmem device up: consumers' memory. A device that cannot be used is logged and left out.
///
/// Each vector wakes a CPU of its own, if there are enough CPUs.
pub(crate) fn find_ivshmem(space: &'static AddressSpace, firmware: &Firmware, cpus: &Cpus) -> Vec<Ivshmem> {
    let mut found = Vec::new();
    for config in configs(space, firmware) {
        let functions = config.functions();
        log!("pci: {} functions, reached {config}", functions.len());
        for function in functions.iter().filter(|function| is_ivshmem(function)) {
            // SAFETY: it is one, by its ids; every function is in the list once, and this runs once.
            match unsafe { Ivshmem::new(&config, function, space) } {
                Ok(device) => {
                    for vector in 0..device.vectors() {
                        let message = cpus.wake_message(cpu_of(cpus, found.len(), vector));
                        // SAFETY: the message is an interrupt to a CPU of ours, whose handler only returns.
                        unsafe { device.wake(vector, message) };
                    }
                    log!("{device}");
                    found.push(device);
                }
                Err(why) => log!("ivshmem {}: left out: {why}", function.address),
            }
        }
    }
    found
}

/// Returns the CPU that serves a queue whose kicks come by `vector` of the `number`th device: the vector wakes it.
pub(crate) fn cpu_of(cpus: &Cpus, number: usize, vector: u16) -> CpuIndex {
    cpus.spread(number + usize::from(vector))
}

/// Returns the link to the bridge: COM2, if it exists.
pub(crate) fn control_link() -> Option<Uart> {
    // SAFETY: COM2's ports belong to a UART or to nothing on every PC; this is called once, and no other code uses
    // them.
    unsafe { Uart::new(COM2) }
}

/// Returns the accesses to configuration space: those that firmware's MCFG names, else the old ports.
fn configs(space: &'static AddressSpace, firmware: &Firmware) -> Vec<Config> {
    let by_memory = firmware.pci.iter().filter_map(|range| {
        // SAFETY: firmware names it; only this function's caller uses it.
        let config =
            unsafe { Config::by_memory(space, PhysAddr(range.base), range.segment, range.first_bus, range.last_bus) };
        config.inspect_err(|why| log!("pci: configuration space at {:#x}: {why}", range.base)).ok()
    });
    let mut configs: Vec<Config> = by_memory.collect();
    if configs.is_empty() {
        // SAFETY: these ports belong to PCI on every PC; no other code uses them.
        configs.push(unsafe { Config::by_ports() });
    }
    configs
}
