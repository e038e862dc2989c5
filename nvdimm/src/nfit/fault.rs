//! What can be wrong with the tables and their structures.

use core::fmt;

use crate::finding::faults;
use crate::identity::DeviceHandle;

/// The kinds of NFIT structures that there is one of for each number, and their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// A system physical address range, by its range index.
    Range,
    /// An interleave structure.
    Interleave,
    /// A control region.
    ControlRegion,
    /// A DIMM, by its device handle.
    Device,
    /// Block data windows, by their control region.
    DataWindows,
    /// Flush hints, by their DIMM's device handle.
    FlushHints,
    /// The platform's capabilities, number 0: there is one structure of them.
    Capabilities,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "address range",
            Self::Interleave => "interleave structure",
            Self::ControlRegion => "control region",
            Self::Device => "device handle",
            Self::DataWindows => "the structure of data windows for control region",
            Self::FlushHints => "the flush hint structure for device handle",
            Self::Capabilities => "platform capabilities structure",
        })
    }
}

faults! {
    /// A fault of a table or of one of its structures.
    pub enum Fault {
        /// Fewer bytes than a table header, or than the header's length.
        refused TableCut { bytes: usize, said: usize } => "the table is cut: {bytes} bytes of {said}";
        /// The signature is not `NFIT`.
        refused BadSignature => "the signature is not NFIT";
        /// The bytes do not add up to zero.
        refused BadTableChecksum { sum: u8 } => "the table's bytes add up to {sum:#04x}, not to 0";
        /// A revision that no specification describes.
        refused BadRevision { revision: u8 } => "revision {revision} of the table is unknown";
        /// More structures than are looked at.
        refused TooManyStructures { limit: usize } => "more than {limit} structures: the rest is not looked at";

        /// Too short for a structure's header, or longer than what is left of the table. The walk ends here.
        refused StructureLeavesTable { length: usize, left: usize } =>
            "a structure of {length} bytes where {left} are left; the rest of the table is not looked at";
        /// The length has no room for the structure's own header. The walk ends here.
        refused StructureTooShort { length: usize } =>
            "a structure of {length} bytes cannot hold its header; the rest of the table is not looked at";
        /// The length is wrong for the structure's type.
        refused WrongSize { length: usize, expected: usize } => "the structure has {length} bytes, not {expected}";
        /// A type that this version does not know: skipped.
        remark UnknownType { kind: u16 } => "structure type {kind} is unknown and skipped";
        /// Index 0 stands for "none".
        refused IndexZero => "the structure's index is 0";
        /// An index that an earlier structure has: the earlier one stands.
        refused DuplicateIndex { kind: Reference, index: u32 } => "{kind} {index} exists already: the first one stands";
        /// The same bytes stand in the tables twice: one is enough.
        remark Repeated => "repeats an earlier structure byte for byte";
        /// Names something that is not there, or was refused.
        refused Dangling { kind: Reference, index: u32 } => "refers to {kind} {index}, which does not exist";
        /// An address range of no bytes.
        refused EmptyRange => "the address range is empty";
        /// Base and length leave 64 bits, or what x86-64 can address (52 bits).
        refused RangeBeyondAddresses { base: u64, length: u64 } => "{length:#x} bytes at {base:#x} leave the address space";
        /// The range does not consist of whole pages.
        refused RangeNotPaged { base: u64, length: u64 } => "{length:#x} bytes at {base:#x} are not whole pages";
        /// The range overlaps one that stands earlier in the tables.
        refused RangeOverlaps { index: u16 } => "the range overlaps address range {index}, which stands";
        /// A kind of range that this version does not know.
        refused UnknownRangeType => "the kind of this address range is unknown";
        /// A range that is no persistent memory to serve from.
        remark RangeNotServed => "volatile memory and virtual disks are left alone";
        /// An interleave structure without lines.
        refused NoLines => "the interleave structure has no lines";
        /// The line size is not a power of two.
        refused BadLineSize { line_bytes: u32 } => "interleave lines of {line_bytes} bytes are not a power of two";
        /// The line count does not fit the structure's length.
        refused BadCount { count: u64, room: usize } => "{count} entries do not fit a structure that has room for {room}";
        /// Two lines lie at one place, or a line lies outside the set.
        refused LinesCollide { line: u32 } => "interleave line {line} collides with another line, or lies outside the set";
        /// A device handle with reserved bits. One of a CXL device has them here: its labels are no DIMM's of an NFIT.
        refused ReservedHandle { dimm: DeviceHandle } => "device handle {dimm} has reserved bits (31 to 28)";
        /// No ways where an interleave structure is named.
        refused NoWays => "an interleave structure, but 0 ways";
        /// 0 ways without interleaving: read as 1.
        remark WaysZero => "0 interleave ways are read as 1";
        /// A flush hint structure without addresses.
        remark NoFlushHints => "no flush hint addresses";
        /// A flush hint address that cannot be written as 8 bytes.
        refused HintMisaligned { address: u64 } => "flush hint address {address:#x} is not 8-byte aligned";
        /// A control region whose interface this version does not know.
        remark UnknownFormat { code: u16 } => "format interface code {code:#06x} is unknown";
        /// One handle for what the firmware counts as two devices.
        remark HandleShared { dimm: DeviceHandle, first: u16, other: u16 } =>
            "DIMM {dimm} has physical id {other:#x} here and {first:#x} in an earlier mapping: both are taken for one DIMM";
        /// The short form of a control region has no register layout.
        refused NoRegisterLayout => "the 32-byte form of a control region cannot describe windows";
    }
}
