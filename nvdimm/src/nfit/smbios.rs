//! SMBIOS management information structure, type 3 (ACPI 6.5, 5.2.25.5).

use core::fmt;

use super::Fault;
use super::wrong_size;

const HEADER_BYTES: usize = 8;

/// SMBIOS data that the firmware left in the table. Nothing here needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Smbios {
    /// How many bytes of SMBIOS tables there are.
    pub data_bytes: usize,
}

impl Smbios {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        match bytes.len().checked_sub(HEADER_BYTES) {
            Some(data_bytes) => Ok(Self { data_bytes }),
            None => Err(wrong_size(bytes, HEADER_BYTES)),
        }
    }
}

impl fmt::Display for Smbios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SMBIOS management information, {} bytes", self.data_bytes)
    }
}
