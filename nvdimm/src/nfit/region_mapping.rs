//! NVDIMM region mapping structure, type 1 (ACPI 6.5, 5.2.25.3).

use core::fmt;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::{ControlRegionIndex, InterleaveIndex, RangeIndex, wrong_size};
use crate::identity::DeviceHandle;

bitflags::bitflags! {
    /// The state of the DIMM behind a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MappingFlags: u16 {
        /// The last save to the persistent media failed.
        const SAVE_FAILED = 1;
        /// The last restore from the persistent media failed.
        const RESTORE_FAILED = 1 << 1;
        /// The platform's flush of its buffers failed.
        const FLUSH_FAILED = 1 << 2;
        /// Not armed: will not persist what is written.
        const NOT_ARMED = 1 << 3;
        /// There were health events before the hand-over.
        const HEALTH_EVENT = 1 << 4;
        /// The firmware notifies of health events.
        const EVENTS_ENABLED = 1 << 5;
        /// The firmware did not map the DIMM.
        const MAP_FAILED = 1 << 6;
    }
}

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRegionMapping {
    kind: U16,
    length: U16,
    device: U32,
    physical_id: U16,
    region_id: U16,
    range: U16,
    control_region: U16,
    region_bytes: U64,
    region_offset: U64,
    dpa: U64,
    interleave: U16,
    ways: U16,
    flags: U16,
    reserved: U16,
}
const _: () = assert!(size_of::<RawRegionMapping>() == 48);

/// One DIMM's share of an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionMapping {
    /// The DIMM.
    pub device: DeviceHandle,
    /// Its SMBIOS type 17 handle.
    pub physical_id: u16,
    /// An identifier within the DIMM.
    pub region_id: u16,
    /// The range; 0 is none.
    pub range: RangeIndex,
    /// The control region; 0 is none.
    pub control_region: ControlRegionIndex,
    /// Bytes of the range that are this DIMM's.
    pub region_bytes: u64,
    /// Where the DIMM's share begins in the range, in bytes.
    pub region_offset: u64,
    /// The DIMM physical address at which the share begins.
    pub dpa: u64,
    /// The interleave structure; 0 is none.
    pub interleave: InterleaveIndex,
    /// How many DIMMs are interleaved.
    pub ways: u16,
    /// The DIMM's state.
    pub flags: MappingFlags,
}

impl RegionMapping {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let raw =
            RawRegionMapping::ref_from_bytes(bytes).map_err(|_| wrong_size(bytes, size_of::<RawRegionMapping>()))?;
        Ok(Self {
            device: DeviceHandle(raw.device.get()),
            physical_id: raw.physical_id.get(),
            region_id: raw.region_id.get(),
            range: RangeIndex(raw.range.get()),
            control_region: ControlRegionIndex(raw.control_region.get()),
            region_bytes: raw.region_bytes.get(),
            region_offset: raw.region_offset.get(),
            dpa: raw.dpa.get(),
            interleave: InterleaveIndex(raw.interleave.get()),
            ways: raw.ways.get(),
            flags: MappingFlags::from_bits_retain(raw.flags.get()),
        })
    }

    /// What is wrong with the structure by itself.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.device.has_reserved_bits().then_some(Fault::ReservedHandle { dimm: self.device })
    }
}

impl fmt::Display for RegionMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, physical_id, region_id, range, control_region, region_bytes, .. } = self;
        let Self { region_offset, dpa, interleave, ways, flags, .. } = self;
        write!(
            f,
            "mapping of DIMM {device} (physical {physical_id}, region {region_id}) into address range {range}: "
        )?;
        write!(
            f,
            "{region_bytes:#x} bytes, offset {region_offset:#x}, DPA {dpa:#x}, control region {control_region}, "
        )?;
        write!(f, "interleave {interleave}, {ways} ways, flags {:#x}", flags.bits())
    }
}
