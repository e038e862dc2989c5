//! Where the windows' registers and apertures lie in physical memory, and their mapping.

use alloc::vec::Vec;
use core::fmt;

use btt::media::LINE_BYTES;
use nvdimm::region::BlockWindows;

use super::mmio::Io;
use super::window::{Piece, Window};
use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};

/// Why a DIMM's windows cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// Registers, apertures or flush hints cannot be mapped.
    Map(MapError),
    /// A register or an aperture of this window leaves the address range that it should be in.
    OutsideRange {
        /// The window.
        window: u16,
    },
}

impl From<MapError> for WindowError {
    fn from(why: MapError) -> Self {
        Self::Map(why)
    }
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(why) => why.fmt(f),
            Self::OutsideRange { window } => write!(f, "window {window} leaves its address range"),
        }
    }
}

impl core::error::Error for WindowError {}

/// Where each window's parts lie in physical addresses.
pub(super) struct Places(pub(super) Vec<Place>);

/// Where one window's parts lie.
pub(super) struct Place {
    command: u64,
    status: u64,
    /// Addresses and lengths.
    aperture: Vec<(u64, u64)>,
}

/// A mapped range of physical addresses.
#[derive(Clone, Copy)]
pub(super) struct MappedRange {
    at: u64,
    io: Io,
}

impl MappedRange {
    fn find(self, address: u64) -> Io {
        // Ranges are mapped from the lowest to the highest address in use, so `address` is not below `at`.
        let distance = usize::try_from(address - self.at).expect("addresses have 64 bits");
        // SAFETY: within the range, as said.
        unsafe { self.io.add(distance) }
    }
}

impl Places {
    /// Computes the places of the windows, no more of them than there are CPUs. `nvdimm` has checked the numbers; they are
    /// checked again, because the results are addresses.
    pub(super) fn of(windows: &BlockWindows, cpus: u32) -> Result<Self, WindowError> {
        let count = u16::try_from(cpus.max(1)).map_or(windows.count, |cpus| windows.count.min(cpus));
        (0..count).map(|window| Self::one(windows, window)).collect::<Result<_, _>>().map(Self)
    }

    fn one(windows: &BlockWindows, window: u16) -> Result<Place, WindowError> {
        let outside = WindowError::OutsideRange { window };
        let registers = &windows.registers;
        let start = u64::from(window).checked_mul(registers.window_bytes).ok_or(outside)?;
        let register = |offset: u64, bytes: u64| {
            let (at, together) = windows.control.locate(start.checked_add(offset)?)?;
            (together >= bytes && at.is_multiple_of(bytes)).then_some(at)
        };
        let mut aperture = Vec::new();
        let mut at = u64::from(window)
            .checked_mul(windows.data_stride)
            .and_then(|start| start.checked_add(windows.data_offset))
            .ok_or(outside)?;
        let mut left = windows.transfer_bytes;
        while left > 0 {
            let (address, together) = windows.data.locate(at).ok_or(outside)?;
            let bytes = together.min(left);
            if !address.is_multiple_of(LINE_BYTES) || !bytes.is_multiple_of(LINE_BYTES) {
                return Err(WindowError::Map(MapError::Misaligned { at: PhysAddr(address) }));
            }
            aperture.push((address, bytes));
            (at, left) = (at + bytes, left - bytes);
        }
        Ok(Place {
            command: register(registers.command_offset, 8).ok_or(outside)?,
            status: register(registers.status_offset, 4).ok_or(outside)?,
            aperture,
        })
    }

    /// Maps the registers of all windows, and all apertures: each as one range from the lowest to the highest address
    /// in use.
    pub(super) fn map(&self, phys: &impl PhysMap) -> Result<(MappedRange, MappedRange), MapError> {
        let registers = self.0.iter().flat_map(|it| [(it.command, 8), (it.status, 4)]);
        let apertures = self.0.iter().flat_map(|it| it.aperture.iter().copied());
        // Apertures may be cached: a DIMM is memory to the CPU. A command drops their lines from the caches before it reads.
        Ok((map_range(phys, registers, Attribute::Uncached)?, map_range(phys, apertures, Attribute::WriteBack)?))
    }
}

impl Place {
    pub(super) fn mapped(&self, control: MappedRange, data: MappedRange) -> Window {
        let piece = |&(at, bytes): &(u64, u64)| Piece {
            at: data.find(at),
            bytes: usize::try_from(bytes).expect("a transfer is 128 lines at most"),
        };
        Window {
            command: control.find(self.command),
            status: control.find(self.status),
            aperture: self.aperture.iter().map(piece).collect(),
        }
    }
}

fn map_range(
    phys: &impl PhysMap,
    parts: impl Iterator<Item = (u64, u64)> + Clone,
    attribute: Attribute,
) -> Result<MappedRange, MapError> {
    // Without a part the range is empty, and an end that leaves 64 bits is cut: the map refuses both.
    let at = parts.clone().map(|(at, _)| at).min().unwrap_or(0);
    let end = parts.map(|(at, bytes)| at.saturating_add(bytes)).max().unwrap_or(0);
    let mapped = phys.map(PhysAddr(at), end - at, attribute)?;
    // SAFETY: mapped for good; device memory is no Rust object (PhysMap).
    Ok(MappedRange { at, io: unsafe { Io::new(mapped) } })
}
