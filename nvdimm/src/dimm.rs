//! DIMMs: who they are, and in what state.

use alloc::vec::Vec;
use core::fmt;

use crate::nfit::{Format, MappingFlags, Nfit};

/// A DIMM's NFIT device handle (ACPI 6.5, 5.2.25.3): DIMM, channel, memory controller, socket and node number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceHandle(pub u32);

impl fmt::Display for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What a control region says of a DIMM. Numbers are what the bytes say with the most significant first, as Linux
/// shows them in sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u16,
    /// Vendor of the non-volatile subsystem's controller.
    pub subsystem_vendor: u16,
    /// Its device.
    pub subsystem_device: u16,
    /// Its revision.
    pub subsystem_revision: u16,
    /// Manufacturing location and date, if valid.
    pub manufactured: Option<(u8, u16)>,
    /// Serial number.
    pub serial: u32,
}

/// The unique id as ndctl prints it: vendor, location and date if valid, serial (ACPI 6.5, 5.2.25.10, "NVDIMM
/// Representation Format"): `8680-56341200`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.manufactured {
            Some((location, date)) => {
                write!(f, "{:04x}-{location:02x}-{date:04x}-{:08x}", self.vendor, self.serial)
            }
            None => write!(f, "{:04x}-{:08x}", self.vendor, self.serial),
        }
    }
}

/// A DIMM. Its number (`nmem<k>`) is its place in [`dimms`]'s answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimm {
    /// Its handle.
    pub handle: DeviceHandle,
    /// Its SMBIOS type 17 handle.
    pub physical_id: u16,
    /// What its control region says; of several, the one with block windows.
    pub identity: Option<Identity>,
    /// The format interface codes of all its control regions.
    pub formats: Vec<Format>,
    /// What any of its mappings says of its state.
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
                        identity: None,
                        formats: Vec::new(),
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
        if !dimm.formats.contains(&control.format) {
            dimm.formats.push(control.format);
        }
        if dimm.identity.is_none() || (windows[place] == 0 && control.windows != 0) {
            dimm.identity = Some(control.identity);
            windows[place] = control.windows;
        }
    }
    dimms
}

#[cfg(test)]
mod tests {
    use super::Identity;
    use alloc::string::ToString;

    #[test]
    fn the_unique_id_is_the_one_that_ndctl_prints() {
        let mut identity = Identity {
            vendor: 0x8680,
            device: 0,
            revision: 0,
            subsystem_vendor: 0,
            subsystem_device: 0,
            subsystem_revision: 0,
            manufactured: None,
            serial: 0x5634_1200,
        };
        assert_eq!(identity.to_string(), "8680-56341200");
        identity.manufactured = Some((0xa, 0x2016));
        identity.serial = 0xc9f;
        assert_eq!(identity.to_string(), "8680-0a-2016-00000c9f");
    }
}
