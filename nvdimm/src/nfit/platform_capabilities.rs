//! Platform capabilities structure, type 7 (ACPI 6.5, 5.2.25.9).

use core::fmt;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::wrong_size;

bitflags::bitflags! {
    /// What the platform does by itself when power fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Capabilities: u32 {
        /// Flushes the CPU caches.
        const CPU_CACHE_FLUSH = 1;
        /// Flushes the memory controllers' buffers.
        const MEMORY_CONTROLLER_FLUSH = 1 << 1;
        /// Mirrors byte-addressable persistent memory.
        const MIRRORING = 1 << 2;
    }
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPlatformCapabilities {
    kind: U16,
    length: U16,
    highest_valid: u8,
    reserved: [u8; 3],
    capabilities: U32,
    reserved_2: U32,
}
const _: () = assert!(size_of::<RawPlatformCapabilities>() == 16);

/// The platform's capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformCapabilities {
    /// The highest bit that the firmware defined.
    pub highest_valid: u8,
    /// The bits up to it. A flush of the CPU caches brings one of the memory controllers with it.
    pub capabilities: Capabilities,
}

impl PlatformCapabilities {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let raw = RawPlatformCapabilities::ref_from_bytes(bytes)
            .map_err(|_| wrong_size(bytes, size_of::<RawPlatformCapabilities>()))?;
        // A mask of the bits 0 to highest_valid: all 32 of them when the firmware names bit 31 or more.
        let mask = u32::MAX >> 31u32.saturating_sub(raw.highest_valid.into());
        let mut capabilities = Capabilities::from_bits_retain(raw.capabilities.get() & mask);
        if capabilities.contains(Capabilities::CPU_CACHE_FLUSH) {
            capabilities.insert(Capabilities::MEMORY_CONTROLLER_FLUSH);
        }
        Ok(Self { highest_valid: raw.highest_valid, capabilities })
    }
}

impl fmt::Display for PlatformCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "platform capabilities {:#x} (bits 0 to {})", self.capabilities.bits(), self.highest_valid)?;
        for (name, bit) in [
            ("CPU caches are flushed on power loss", Capabilities::CPU_CACHE_FLUSH),
            ("memory controllers are flushed on power loss", Capabilities::MEMORY_CONTROLLER_FLUSH),
            ("mirroring", Capabilities::MIRRORING),
        ] {
            if self.capabilities.contains(bit) {
                write!(f, ", {name}")?;
            }
        }
        Ok(())
    }
}
