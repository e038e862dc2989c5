//! Flush hint address structure, type 6 (ACPI 6.5, 5.2.25.8).

use alloc::vec::Vec;
use core::fmt;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::wrong_size;
use crate::identity::DeviceHandle;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFlushHint {
    kind: U16,
    length: U16,
    device: U32,
    count: U16,
    reserved: [u8; 6],
}
const _: () = assert!(size_of::<RawFlushHint>() == 16);

/// Addresses of which any, when written, makes the DIMM's posted writes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushHint {
    /// The DIMM.
    pub device: DeviceHandle,
    /// Physical addresses, for uncached 8-byte stores.
    pub addresses: Vec<u64>,
}

impl FlushHint {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let (raw, rest) =
            RawFlushHint::ref_from_prefix(bytes).map_err(|_| wrong_size(bytes, size_of::<RawFlushHint>()))?;
        let addresses = rest.as_chunks::<8>();
        let (count, room) = (raw.count.get(), addresses.0.len());
        if usize::from(count) != room || !addresses.1.is_empty() {
            return Err(Fault::BadCount { count: count.into(), room });
        }
        Ok(Self {
            device: DeviceHandle(raw.device.get()),
            addresses: addresses.0.iter().map(|address| u64::from_le_bytes(*address)).collect(),
        })
    }

    /// What is wrong with the structure by itself.
    pub(super) fn fault(&self) -> Option<Fault> {
        let wrong = self.addresses.iter().find(|address| !address.is_multiple_of(8))?;
        Some(Fault::HintMisaligned { address: *wrong })
    }
}

impl fmt::Display for FlushHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flush hint addresses of DIMM {}:", self.device)?;
        self.addresses.iter().take(8).try_for_each(|address| write!(f, " {address:#x}"))?;
        if self.addresses.len() > 8 { f.write_str(" ...") } else { Ok(()) }
    }
}
