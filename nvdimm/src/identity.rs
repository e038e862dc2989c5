//! A DIMM's identity: the handle that tables name it by, and the numbers in its control region.

use core::fmt;

/// A DIMM's NFIT device handle (ACPI 6.5, 5.2.25.3): DIMM, channel, memory controller, socket and node number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceHandle(pub u32);

impl DeviceHandle {
    /// The handle of the CXL device of this number: one that no NFIT has ([`Self::has_reserved_bits`]).
    #[must_use]
    pub const fn of_cxl(number: u8) -> Self {
        Self(0xc000_0000 | number as u32)
    }

    /// Whether one of its first four bits is set, which are reserved: a structure with such a handle is refused.
    #[must_use]
    pub const fn has_reserved_bits(self) -> bool {
        self.0 >> 28 != 0
    }
}

impl fmt::Display for DeviceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A DIMM's identity in its control region. Numbers are read with the most significant byte first, as Linux
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
