//! What can be wrong with what makes up a region.

use core::fmt;

use crate::finding::faults;
use crate::identity::DeviceHandle;
use crate::interleave;

faults! {
    /// A fault of a region.
    pub enum Fault {
        /// More regions than are served.
        refused TooManyRegions { limit: usize, left_out: usize } =>
            "only {limit} regions are served: this one and {} more are left out", left_out.saturating_sub(1);
        /// A mapping of this range was refused, so the DIMMs behind it are not known.
        refused MappingRefused { index: u16 } => "a DIMM's mapping of address range {index} was refused";
        /// No mapping names the range, but some mapping was refused: it may have been meant for it.
        refused MappingLost => "no DIMM maps the range, and a mapping was refused that may have been meant for it";
        /// More DIMMs than an interleave set may have.
        refused TooManyMappings { mappings: usize, limit: usize } => "{mappings} DIMMs in one range: at most {limit} may be";
        /// The number of DIMMs is not the number of ways.
        refused WrongWays { ways: u16, mappings: usize } => "{ways} interleave ways, but {mappings} DIMMs map the range";
        /// One DIMM maps the range twice.
        refused MappedTwice { dimm: DeviceHandle } => "DIMM {dimm} maps the range twice";
        /// The DIMMs' shares do not make up the range.
        refused WrongShare { shares: u64, length: u64 } => "the DIMMs' shares are {shares:#x} bytes, the range {length:#x}";
        /// The firmware marks the DIMM as not mapped.
        refused MapFailed { dimm: DeviceHandle } => "the firmware failed to map DIMM {dimm} here";
        /// The DIMM is not armed: nothing survives power loss, so the region is read-only.
        remark NotArmed { dimm: DeviceHandle } => "DIMM {dimm} is not armed: the region is read-only";
        /// The addresses by which the DIMM's posted writes become durable are not known: the region is read-only.
        remark HintsRefused { dimm: DeviceHandle } =>
            "a flush hint structure for DIMM {dimm} was refused, or may have been: the region is read-only";
        /// The firmware reports a failed save, restore or flush.
        remark DataLost { dimm: DeviceHandle } => "DIMM {dimm} reports a failed save, restore or flush: data may be lost";
        /// No control region: the DIMM has no identity, so its labels cannot be matched.
        remark NoIdentity { dimm: DeviceHandle } => "DIMM {dimm} has no control region: its labels cannot be used";

        /// No DIMM maps the windows.
        refused WindowsUnmapped => "no DIMM maps this range of block control windows";
        /// No DIMM maps the data windows.
        refused DataWindowsUnmapped => "no DIMM maps this range of block data windows";
        /// Data windows whose control registers are nowhere: they cannot be driven, and make no region.
        refused NoControlRange { dimm: DeviceHandle } =>
            "DIMM {dimm} has data windows here, but maps no range of block control windows: no region is made of them";
        /// Windows that no range shows at all.
        refused WindowsNowhere => "no DIMM maps these windows into an address range: no region is made of them";
        /// The windows have another interface.
        refused NotBlockFormat { code: u16 } => "format interface code {code:#06x} is not that of block windows (0x0201)";
        /// No window structure for this control region.
        refused NoBlockWindows => "no block data window structure belongs to this control region";
        /// The control region has no windows.
        refused WindowsZero => "the control region has 0 windows";
        /// The two structures disagree.
        refused WindowsDiffer { control: u16, data: u16 } => "{control} control windows but {data} data windows";
        /// The registers' layout is none that can be driven.
        refused BadRegisters => "command and status register do not fit: 8 and 4 bytes, aligned, apart, inside the window";
        /// A register crosses an interleave line.
        refused RegisterCrossesLine => "a register crosses an interleave line";
        /// An aperture that is empty or no multiple of 64 bytes.
        refused BadAperture { bytes: u64 } => "a data window of {bytes} bytes is empty or no multiple of 64";
        /// A command can move 8 KiB: the rest of the aperture stays unused.
        remark ApertureTooLarge { bytes: u64 } => "only 8 KiB of each data window of {bytes} bytes are used";
        /// The block capacity is empty, or leaves what a command can address.
        refused BadCapacity { start: u64, bytes: u64 } => "{bytes:#x} bytes from DPA {start:#x}: empty, or beyond 43 bits";
        /// No address range for the data windows of this DIMM.
        refused NoWindowRange => "no address range holds this DIMM's data windows";
        /// The lines or registers of an interleaved DIMM do not fit.
        refused Interleave { why: crate::interleave::Fault } => "{why}";
        /// A range without a place: a machine without room for it leaves its start at 0.
        refused AtZero => "it has no place: it would begin at address 0";
        /// A range that is empty.
        refused NoBytes => "it has 0 bytes";
        /// A range that ends where no address can be.
        refused BeyondAddresses { base: u64, bytes: u64 } => "{bytes:#x} bytes at {base:#x} leave the address space";
        /// A range that does not begin and end at a page.
        refused NotPaged { base: u64, bytes: u64 } => "{bytes:#x} bytes at {base:#x} are not whole pages of 4096 bytes";
        /// The range has bytes that something else has, too: neither is to write over the other.
        refused Overlaps { base: u64, other: u64, what: Other } => "{base:#x} overlaps {what} at {other:#x}";
        /// A CXL device without a serial number: labels cannot name it.
        remark NoSerial => "the device has no serial number: its labels cannot be used";
        /// A persistent part of the memory map that is described in another way, too, which counts.
        remark DescribedElsewhere { what: Other, other: u64 } => "{what} at {other:#x} describes it, and counts";
    }
}

/// What a range can overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// An address range of an NFIT.
    NfitRange,
    /// A range that was found before.
    Range,
    /// An entry of firmware's memory map that is no persistent memory.
    MemoryMap,
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NfitRange => "an address range of the NFIT",
            Self::Range => "another range of persistent memory",
            Self::MemoryMap => "an entry of the memory map",
        })
    }
}

impl From<interleave::Fault> for Fault {
    fn from(why: interleave::Fault) -> Self {
        Self::Interleave { why }
    }
}
