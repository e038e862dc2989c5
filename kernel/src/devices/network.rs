//! Sets network devices up.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString as _};

use btt::CpuIndex;
use drivers::e1000e::{self, E1000e, is_e1000e};
use drivers::pci::{Config, Function};
use drivers::virtio::net::{VirtioNet, is_virtio_net};
use drivers::virtio::registers::PciRegisters;
use kernel::node::network::NetworkDevice;
use net::nic::Nic;

use super::{spare_page, wakes};
use crate::clock;
use crate::cpu::Cpus;
use crate::memory::AddressSpace;

/// The most network devices. A machine may have more than there is memory for.
const DEVICES_MAX: usize = 8;

/// The kinds of network devices that there is a driver for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Virtio,
    E1000e,
}

impl Kind {
    /// Returns the kind of a function, if it is a network device.
    pub(super) fn of(function: &Function) -> Option<Self> {
        match function {
            _ if is_virtio_net(function) => Some(Self::Virtio),
            _ if is_e1000e(function) => Some(Self::E1000e),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net",
            Self::E1000e => "e1000e",
        }
    }
}

/// Sets a device up, the `number`th network device. Its message wakes the CPU that drives it.
pub(super) fn network(
    kind: Kind,
    config: &Config,
    function: &Function,
    space: &'static AddressSpace,
    cpus: &Cpus,
    number: usize,
) -> Option<NetworkDevice> {
    let name = format!("{} {}", kind.name(), function.address);
    let cpu = cpus.spread(number);
    let wakes = || wakes(config, function, space, cpus.wake_message(cpu), &name, "each millisecond");
    let start = || -> Result<Box<dyn Nic>, String> {
        if number >= DEVICES_MAX {
            return Err(format!("there are {DEVICES_MAX} network devices already"));
        }
        let mut page = || spare_page(space);
        match kind {
            Kind::Virtio => {
                let registers = PciRegisters::map(config, function, space).map_err(|why| why.to_string())?;
                let device = VirtioNet::new(registers, &mut page, wakes(), clock::now_ns);
                device.map(|device| Box::new(device) as _).map_err(|why| why.to_string())
            }
            Kind::E1000e => {
                // SAFETY: it is one, by its ids; every function is in the list once, and the list is walked once.
                let registers = unsafe { e1000e::map(config, function, space) }.map_err(|why| why.to_string())?;
                let device = E1000e::new(registers, &mut page, wakes(), clock::now_ns);
                device.map(|device| Box::new(device) as _).map_err(|why| why.to_string())
            }
        }
    };
    match start() {
        Ok(nic) => {
            log!("{name}: net{number}");
            Some(NetworkDevice { nic, cpu: CpuIndex(u32::try_from(cpu.0).expect("at most MAX_CPUS")) })
        }
        Err(why) => {
            log!("{name}: left out: {why}");
            None
        }
    }
}
