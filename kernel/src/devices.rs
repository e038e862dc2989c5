//! The bridge and its consumers' memory: found and set up.

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
/// Each vector wakes a CPU of its own, as long as there are enough of them.
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

/// The CPU that serves a queue whose kicks come by `vector` of the `number`th device: the one that the vector wakes.
pub(crate) fn cpu_of(cpus: &Cpus, number: usize, vector: u16) -> CpuIndex {
    cpus.spread(number + usize::from(vector))
}

/// The link to the bridge: COM2, where there is one.
pub(crate) fn control_link() -> Option<Uart> {
    // SAFETY: COM2's ports belong to a UART or to nothing on every PC; this is called once, and nobody else uses them.
    unsafe { Uart::new(COM2) }
}

/// The ways to configuration space: those that firmware's table names, else the old ports.
fn configs(space: &'static AddressSpace, firmware: &Firmware) -> Vec<Config> {
    let by_memory = firmware.pci.iter().filter_map(|range| {
        // SAFETY: firmware says that it is there; nothing but this function's caller uses it.
        let config =
            unsafe { Config::by_memory(space, PhysAddr(range.base), range.segment, range.first_bus, range.last_bus) };
        config.inspect_err(|why| log!("pci: configuration space at {:#x}: {why}", range.base)).ok()
    });
    let mut configs: Vec<Config> = by_memory.collect();
    if configs.is_empty() {
        // SAFETY: these ports belong to PCI on every PC; nobody else uses them.
        configs.push(unsafe { Config::by_ports() });
    }
    configs
}
