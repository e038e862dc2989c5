//! Sets network devices up.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};

use btt::CpuIndex;
use drivers::pci::{Config, Function};
use drivers::virtio::net::VirtioNet;
use drivers::virtio::registers::PciRegisters;
use kernel::node::network::NetworkDevice;
use net::nic::Nic;

use super::dma_page;
use crate::clock;
use crate::cpu::Cpus;
use crate::memory::AddressSpace;

/// The most network devices. A machine may have more than there is memory for.
const DEVICES_MAX: usize = 8;

/// The pages that are left for page tables whatever devices take: 2 MiB.
const RESERVE_PAGES: u64 = 512;

/// Sets a virtio-net device up, the `number`th network device. Its message wakes the CPU that drives it.
pub(super) fn virtio_net(
    config: &Config,
    function: &Function,
    space: &'static AddressSpace,
    cpus: &Cpus,
    number: usize,
) -> Option<NetworkDevice> {
    let address = function.address;
    let start = || -> Result<Box<dyn Nic>, String> {
        if number >= DEVICES_MAX {
            return Err(alloc::format!("there are {DEVICES_MAX} network devices already"));
        }
        let registers = PciRegisters::map(config, function, space).map_err(|why| why.to_string())?;
        let wakes = match function.msix(config, space) {
            Ok(msix) => {
                // SAFETY: the message is an interrupt to a CPU of ours, whose handler only returns.
                unsafe { msix.send(0, cpus.wake_message(cpus.spread(number))) };
                true
            }
            Err(why) => {
                log!("virtio-net {address}: {why}: it is looked at each millisecond");
                false
            }
        };
        let mut page = || (space.pages_left() > RESERVE_PAGES).then(|| dma_page(space)).flatten();
        let device = VirtioNet::new(registers, &mut page, wakes, clock::now_ns).map_err(|why| why.to_string())?;
        Ok(Box::new(device))
    };
    match start() {
        Ok(nic) => {
            log!("virtio-net {address}: net{number}");
            let cpu = u32::try_from(cpus.spread(number).0).expect("at most MAX_CPUS");
            Some(NetworkDevice { nic, cpu: CpuIndex(cpu) })
        }
        Err(why) => {
            log!("virtio-net {address}: left out: {why}");
            None
        }
    }
}
