//! NVDIMM block data window region structure, type 5 (ACPI 6.5, 5.2.25.7).

use core::fmt;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::{ControlRegionIndex, wrong_size};

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBlockDataWindow {
    kind: U16,
    length: U16,
    control_region: U16,
    windows: U16,
    offset: U64,
    window_bytes: U64,
    capacity: U64,
    start_dpa: U64,
}
const _: () = assert!(size_of::<RawBlockDataWindow>() == 40);

/// The apertures through which a DIMM's blocks are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockDataWindow {
    /// The control region with the registers.
    pub control_region: ControlRegionIndex,
    /// How many windows; as many as the control region has.
    pub windows: u16,
    /// Where the first window lies in the DIMM's share of the window range, in bytes.
    pub offset: u64,
    /// Bytes in a window.
    pub window_bytes: u64,
    /// Bytes that can be reached through windows.
    pub capacity: u64,
    /// The first DIMM physical address that can be reached.
    pub start_dpa: u64,
}

impl BlockDataWindow {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let raw = RawBlockDataWindow::ref_from_bytes(bytes)
            .map_err(|_| wrong_size(bytes, size_of::<RawBlockDataWindow>()))?;
        Ok(Self {
            control_region: ControlRegionIndex(raw.control_region.get()),
            windows: raw.windows.get(),
            offset: raw.offset.get(),
            window_bytes: raw.window_bytes.get(),
            capacity: raw.capacity.get(),
            start_dpa: raw.start_dpa.get(),
        })
    }
}

impl fmt::Display for BlockDataWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { control_region, windows, offset, window_bytes, capacity, start_dpa } = self;
        write!(f, "block data windows of control region {control_region}: {windows} of {window_bytes:#x} bytes ")?;
        write!(f, "at offset {offset:#x}, for {capacity:#x} bytes from DPA {start_dpa:#x}")
    }
}
