//! Sets a CXL memory device up: one, behind the only host bridge. Others are left out by name.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use drivers::cxl::config::{COMPONENT_BYTES, Endpoint, root_port_above};
use drivers::cxl::decoder::HdmRange;
use drivers::cxl::mailbox::{LabelArea, Mailbox};
use drivers::cxl::memory::{self, Path};
use drivers::pci::{Config, Function};
use drivers::phys::PhysAddr;
use drivers::registers::MappedRegisters;
use kernel::node::{BareMemory, FlushedRange};
use kernel::tables::cedt::{self, Cedt};
use nvdimm::error::Place;
use nvdimm::identity::DeviceHandle;
use nvdimm::region::CxlDevice;

use super::place;
use crate::cpu::watchdog;
use crate::memory::AddressSpace;

/// The label area of the device.
pub(crate) type CxlLabels = LabelArea<MappedRegisters>;

/// The handle of the only device.
const HANDLE: DeviceHandle = DeviceHandle::of_cxl(0);

/// Sets a memory device up, which is a function of `functions`, if it `is_first` of its kind.
pub(super) fn memory(
    config: &Config,
    functions: &[Function],
    function: &Function,
    space: &'static AddressSpace,
    cedt: Option<&Cedt>,
    is_first: bool,
) -> (BareMemory, Option<CxlLabels>) {
    let at = Place::Cxl(place(function));
    let started = if is_first {
        start(config, functions, function, space, cedt)
    } else {
        Err("only one CXL device is supported".to_string())
    };
    match started {
        Ok((memory, labels)) => {
            log!("{at}: {} MiB at {:#x}", memory.bytes >> 20, memory.base);
            (BareMemory { at, memory: Ok(memory) }, Some(labels))
        }
        Err(why) => (BareMemory { at, memory: Err(why) }, None),
    }
}

fn start(
    config: &Config,
    functions: &[Function],
    function: &Function,
    space: &'static AddressSpace,
    cedt: Option<&Cedt>,
) -> Result<(FlushedRange, CxlLabels), String> {
    let cedt = cedt.ok_or_else(|| "firmware has no table CEDT, which says where its memory may be".to_string())?;
    let (host_bridge, windows) = cedt.one_way().map_err(|why| why.to_string())?;
    let port = root_port_above(config, functions, function).map_err(|why| why.to_string())?;
    let endpoint = Endpoint::map(config, function, space).map_err(|why| why.to_string())?;
    if host_bridge.bytes < COMPONENT_BYTES.into() {
        return Err("the host bridge's registers are too short for a component's".to_string());
    }
    // SAFETY: firmware's table has a host bridge's registers there; `is_first` holds for one function only.
    let bridge = unsafe { MappedRegisters::map(space, PhysAddr(host_bridge.base), COMPONENT_BYTES) };
    let bridge = bridge.map_err(|why| why.to_string())?;
    let window = |it: &&cedt::Window| {
        let range = HdmRange { base: it.base, bytes: it.bytes };
        memory::Window { range, is_fixed: it.is_fixed() }
    };
    let windows: Vec<memory::Window> = windows.iter().map(window).collect();
    let mut mailbox = Mailbox::find(endpoint.device, watchdog::waiting_ns).map_err(|why| why.to_string())?;
    let path = Path { bridge: &bridge, port, device: &endpoint.component, windows: &windows };
    let (range, identity) = memory::start(&path, &mut mailbox, watchdog::waiting_ns).map_err(|why| why.to_string())?;
    let device = Some(CxlDevice { handle: HANDLE, serial: endpoint.serial });
    let memory = FlushedRange { base: range.base, bytes: range.bytes, flush: None, device };
    Ok((memory, LabelArea::new(mailbox, HANDLE, identity.label_area)))
}
