//! Finds and sets up devices: the link to the bridge, consumers' memory, virtio-pmem, the admin port; CXL memory is in [`cxl`],
//! the network in [`network`].

mod cxl;
mod network;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use drivers::cxl::config::is_memory_device;
use drivers::dma::DmaPage;
use drivers::flush::Flusher;
use drivers::ivshmem::{Ivshmem, is_ivshmem};
use drivers::pci::{Config, Function, Message};
use drivers::phys::PhysAddr;
use drivers::shared::SharedWindow;
use drivers::uart::{COM2, Uart};
use drivers::virtio::console::{ConsolePort, is_virtio_console};
use drivers::virtio::pmem::{VirtioPmem, is_virtio_pmem};
use drivers::virtio::registers::PciRegisters;
use kernel::node::network::NetworkDevice;
use kernel::node::{BareMemory, FlushedRange};
use nvdimm::error::{PciPlace, Place};
use spin::Mutex;

use crate::cpu::{CpuIndex, Cpus, watchdog};
use crate::firmware::Firmware;
use crate::memory::{AddressSpace, PAGE_BYTES};
pub(crate) use cxl::CxlLabels;
use network::Kind;

/// The pages that are left for page tables whatever devices take: 2 MiB.
const RESERVE_PAGES: u64 = 512;

/// The devices of ours on PCI.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    /// Consumers' memory.
    pub(crate) consumers: Vec<Ivshmem>,
    /// Persistent memory: virtio-pmem in the order of PCI addresses, then CXL memory.
    pub(crate) pmem: Vec<BareMemory>,
    /// Network devices, in the order of PCI addresses, until the node takes them.
    pub(crate) network: Mutex<Vec<NetworkDevice>>,
    /// The port by which programs ask, until it is served.
    pub(crate) admin_port: Mutex<Option<ConsolePort<PciRegisters>>>,
    /// The CXL device's label area, if there is one.
    pub(crate) cxl_labels: Option<CxlLabels>,
}

/// Sets every device of ours up. One that cannot be used is left out, and its reason logged here or by the node.
pub(crate) fn find(space: &'static AddressSpace, firmware: &Firmware, cpus: &Cpus) -> Devices {
    let mut found = Devices::default();
    let mut cxl = Vec::new();
    for config in configs(space, firmware) {
        let functions = config.functions(firmware.host_bridges > 1 || firmware.cxl.is_some());
        log!("pci: {} functions, reached {config}", functions.len());
        for function in &functions {
            if is_ivshmem(function) {
                found.consumers.extend(ivshmem(&config, function, space));
            } else if is_virtio_pmem(function) {
                found.pmem.push(virtio_pmem(&config, function, space));
            } else if is_virtio_console(function) {
                let port = found.admin_port.get_mut();
                let started = admin_port(&config, function, space, cpus, port.is_some());
                *port = port.take().or(started);
            } else if let Some(kind) = Kind::of(function) {
                let devices = found.network.get_mut();
                devices.extend(network::network(kind, &config, function, space, cpus, devices.len()));
            } else if is_memory_device(&config, function) {
                let is_first = cxl.is_empty();
                cxl.push(cxl::memory(&config, &functions, function, space, firmware.cxl.as_ref(), is_first));
            }
        }
    }
    for (memory, labels) in cxl {
        found.pmem.push(memory);
        found.cxl_labels = found.cxl_labels.or(labels);
    }
    found
}

/// Sets an ivshmem device up. A vector wakes nobody until a queue starts whose kicks come by it: QEMU under KVM takes none that
/// it has no descriptor for yet.
fn ivshmem(config: &Config, function: &Function, space: &'static AddressSpace) -> Option<Ivshmem> {
    // SAFETY: it is one, by its ids; every function is in the list once, and `find` runs once.
    let device = match unsafe { Ivshmem::new(config, function, space) } {
        Ok(device) => device,
        Err(why) => {
            log!("ivshmem {}: left out: {why}", function.address);
            return None;
        }
    };
    log!("{device}");
    Some(device)
}

/// Returns where a function is.
fn place(function: &Function) -> PciPlace {
    let at = function.address;
    PciPlace { segment: at.segment(), bus: at.bus(), device: at.device(), function: at.function() }
}

/// Sets a virtio-pmem device up.
fn virtio_pmem(config: &Config, function: &Function, space: &'static AddressSpace) -> BareMemory {
    let at = Place::VirtioPmem(place(function));
    let start = || {
        let registers = PciRegisters::map(config, function, space).map_err(|why| why.to_string())?;
        let page = dma_page(space).ok_or_else(|| "no memory for its queue".to_string())?;
        let device = VirtioPmem::new(registers, page, watchdog::waiting_ns);
        device.map_err(|why| why.to_string())
    };
    let memory = start().map(|device| FlushedRange {
        base: device.start().0,
        bytes: device.len_bytes(),
        flush: Some(Flusher::new(device, watchdog::waiting_ns)),
        device: None,
    });
    if let Ok(memory) = &memory {
        log!("{at}: {} MiB at {:#x}", memory.bytes >> 20, memory.base);
    }
    BareMemory { at, memory }
}

/// Sets a virtio-console device up, unless there `is_one`. Its message wakes CPU 0, which serves its port.
fn admin_port(
    config: &Config,
    function: &Function,
    space: &'static AddressSpace,
    cpus: &Cpus,
    is_one: bool,
) -> Option<ConsolePort<PciRegisters>> {
    let name = format!("virtio-console {}", function.address);
    let message = cpus.wake_message(CpuIndex(0));
    let wakes = || wakes(config, function, space, message, &name, "every few milliseconds");
    let start = || -> Result<ConsolePort<PciRegisters>, String> {
        if is_one {
            return Err("there is an admin port already".to_string());
        }
        let registers = PciRegisters::map(config, function, space).map_err(|why| why.to_string())?;
        let device = ConsolePort::new(registers, &mut || spare_page(space), wakes(), watchdog::waiting_ns);
        device.map_err(|why| why.to_string())
    };
    match start() {
        Ok(device) => {
            log!("{name}: an admin port");
            Some(device)
        }
        Err(why) => {
            log!("{name}: left out: {why}");
            None
        }
    }
}

/// Has a device send its MSI-X message 0, if there is one that a CPU takes. Returns whether it will; if not, it is looked at so
/// often.
fn wakes(
    config: &Config,
    function: &Function,
    space: &'static AddressSpace,
    message: Option<Message>,
    name: &str,
    otherwise: &str,
) -> bool {
    let Some(message) = message else { return false };
    match function.msix(config, space) {
        Ok(msix) => {
            // SAFETY: the message is an interrupt to a CPU of ours, whose handler only returns.
            unsafe { msix.send(0, message) };
            true
        }
        Err(why) => {
            log!("{name}: {why}: it is looked at {otherwise}");
            false
        }
    }
}

/// Returns a page for a device to read and write by itself, if it can be spared.
fn spare_page(space: &'static AddressSpace) -> Option<DmaPage> {
    (space.pages_left() > RESERVE_PAGES).then(|| dma_page(space)).flatten()
}

/// Returns a page for a device to read and write by itself.
fn dma_page(space: &'static AddressSpace) -> Option<DmaPage> {
    let (page, page_at) = space.new_page()?;
    let page_bytes = usize::try_from(PAGE_BYTES).expect("a page is small");
    // SAFETY: the page was allocated for the device alone, and is never freed; no reference to it exists.
    let memory = unsafe { SharedWindow::new(page, page_bytes) };
    Some(DmaPage::new(memory, page_at))
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
