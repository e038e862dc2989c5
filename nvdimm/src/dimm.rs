//! DIMMs: who they are, and in what state.

use alloc::vec::Vec;

use crate::identity::{DeviceHandle, Identity};
use crate::nfit::{MappingFlags, Nfit};

/// A DIMM, or a CXL device. Its number (`nmem<k>`) is its place in what [`dimms`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimm {
    /// Its handle.
    pub handle: DeviceHandle,
    /// Its SMBIOS type 17 handle.
    pub physical_id: u16,
    /// Whether it is a CXL device, and no DIMM of an NFIT.
    pub is_cxl: bool,
    /// A CXL device's serial number, if it has one.
    pub cxl_serial: Option<u64>,
    /// Its identity in its control region; of several, the one with block windows.
    pub identity: Option<Identity>,
    /// Its state, by any of its mappings.
    pub flags: MappingFlags,
    /// Physical addresses of its flush hints.
    pub flush_hints: Vec<u64>,
}

/// All DIMMs that a mapping names, by ascending handle, as Linux numbers them.
#[must_use]
pub fn dimms(nfit: &Nfit) -> Vec<Dimm> {
    let mut dimms: Vec<Dimm> = Vec::new();
    // Windows of the control region that gave a DIMM its identity.
    let mut windows: Vec<u16> = Vec::new();
    for (_, mapping) in nfit.mappings() {
        let place = match dimms.binary_search_by_key(&mapping.device, |dimm| dimm.handle) {
            Ok(place) => place,
            Err(place) => {
                let hints = nfit.flush_hints().find(|(_, it)| it.device == mapping.device);
                dimms.insert(
                    place,
                    Dimm {
                        handle: mapping.device,
                        physical_id: mapping.physical_id,
                        is_cxl: false,
                        cxl_serial: None,
                        identity: None,
                        flags: MappingFlags::empty(),
                        flush_hints: hints.map_or_else(Vec::new, |(_, it)| it.addresses.clone()),
                    },
                );
                windows.insert(place, 0);
                place
            }
        };
        let dimm = &mut dimms[place];
        dimm.flags |= mapping.flags;
        let Some(control) = nfit.control_region(mapping.control_region) else { continue };
        if dimm.identity.is_none() || (windows[place] == 0 && control.windows != 0) {
            dimm.identity = Some(control.identity);
            windows[place] = control.windows;
        }
    }
    dimms
}
