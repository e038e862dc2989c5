//! NVDIMM control region structure, type 4 (ACPI 6.5, 5.2.25.6).

use core::fmt;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::{ControlRegionIndex, wrong_size};
use crate::identity::Identity;

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawControlRegion {
    kind: U16,
    length: U16,
    index: U16,
    /// Identifiers from the DIMM's SPD are arrays of bytes, most significant first.
    vendor: [u8; 2],
    device: [u8; 2],
    revision: [u8; 2],
    subsystem_vendor: [u8; 2],
    subsystem_device: [u8; 2],
    subsystem_revision: [u8; 2],
    valid: u8,
    manufacturing_location: u8,
    manufacturing_date: [u8; 2],
    reserved: U16,
    serial: [u8; 4],
    format: U16,
    windows: U16,
}
const _: () = assert!(size_of::<RawControlRegion>() == 32);

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRegisters {
    window_bytes: U64,
    command_offset: U64,
    command_bytes: U64,
    status_offset: U64,
    status_bytes: U64,
    flags: U16,
    reserved: [u8; 6],
}
const _: () = assert!(size_of::<RawControlRegion>() + size_of::<RawRegisters>() == 80);

/// How software talks to a DIMM (format interface code).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(pub u16);

impl Format {
    /// Byte-addressable, energy-backed.
    pub const BYTE: Self = Self(0x101);
    /// Block windows.
    pub const BLOCK: Self = Self(0x201);
    /// Byte-addressable, not energy-backed.
    pub const BYTE_NOT_ENERGY_BACKED: Self = Self(0x301);

    /// Whether the specification names it.
    #[must_use]
    pub fn is_known(self) -> bool {
        matches!(self, Self::BYTE | Self::BLOCK | Self::BYTE_NOT_ENERGY_BACKED)
    }
}

/// Where a block control window's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Bytes from one control window to the next.
    pub window_bytes: u64,
    /// The command register in the window.
    pub command_offset: u64,
    /// Its size.
    pub command_bytes: u64,
    /// The status register in the window.
    pub status_offset: u64,
    /// Its size.
    pub status_bytes: u64,
    /// Commands are buffered: the status must be polled until they are done.
    pub buffered: bool,
}

/// A DIMM's identity, and the registers of its block windows if it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRegion {
    /// What mappings and window structures name it by.
    pub index: ControlRegionIndex,
    /// Whose it is.
    pub identity: Identity,
    /// Format interface code.
    pub format: Format,
    /// How many block control windows.
    pub windows: u16,
    /// The register layout; `None` for the 32-byte form.
    pub registers: Option<Registers>,
}

impl ControlRegion {
    /// The form without registers, allowed when there are no windows.
    const SHORT: usize = 32;
    const FULL: usize = 80;

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let (raw, rest) = RawControlRegion::ref_from_prefix(bytes).map_err(|_| wrong_size(bytes, Self::SHORT))?;
        let registers = match rest {
            [] => None,
            rest => {
                let raw = RawRegisters::ref_from_bytes(rest).map_err(|_| wrong_size(bytes, Self::FULL))?;
                Some(Registers {
                    window_bytes: raw.window_bytes.get(),
                    command_offset: raw.command_offset.get(),
                    command_bytes: raw.command_bytes.get(),
                    status_offset: raw.status_offset.get(),
                    status_bytes: raw.status_bytes.get(),
                    buffered: raw.flags.get() & 1 != 0,
                })
            }
        };
        let be = u16::from_be_bytes;
        Ok(Self {
            index: ControlRegionIndex(raw.index.get()),
            identity: Identity {
                vendor: be(raw.vendor),
                device: be(raw.device),
                revision: be(raw.revision),
                subsystem_vendor: be(raw.subsystem_vendor),
                subsystem_device: be(raw.subsystem_device),
                subsystem_revision: be(raw.subsystem_revision),
                manufactured: (raw.valid & 1 != 0).then(|| (raw.manufacturing_location, be(raw.manufacturing_date))),
                serial: u32::from_be_bytes(raw.serial),
            },
            format: Format(raw.format.get()),
            windows: raw.windows.get(),
            registers,
        })
    }

    /// What is wrong with the structure by itself.
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.index == ControlRegionIndex(0) {
            return Some(Fault::IndexZero);
        }
        (self.windows != 0 && self.registers.is_none()).then_some(Fault::NoRegisterLayout)
    }
}

impl fmt::Display for ControlRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, identity, format, windows, registers } = self;
        write!(f, "control region {index}: DIMM {identity}, format {:#06x}, {windows} block windows", format.0)?;
        let Some(r) = registers.filter(|_| *windows != 0) else { return Ok(()) };
        write!(f, " of {:#x} bytes, command {:#x}+{}", r.window_bytes, r.command_offset, r.command_bytes)?;
        write!(f, ", status {:#x}+{}", r.status_offset, r.status_bytes)?;
        if r.buffered { f.write_str(", buffered") } else { Ok(()) }
    }
}
