//! What was found wrong, and where: one type for tables and label areas.
//!
//! Nothing here stops the bring-up. A thing that cannot be trusted is refused, with a [`Finding`]; what does not lean
//! on it goes on.

use core::fmt;

use crate::dimm::DeviceHandle;

/// A place in what the firmware or a DIMM gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In an NFIT.
    Nfit {
        /// Which table, from 0 on, in the order given.
        table: usize,
        /// The offset of the structure in it, in bytes.
        offset: usize,
    },
    /// In a DIMM's label area.
    Labels {
        /// The DIMM.
        dimm: DeviceHandle,
        /// The offset in its label area, in bytes.
        offset: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nfit { table: 0, offset } => write!(f, "NFIT offset {offset}"),
            Self::Nfit { table, offset } => write!(f, "NFIT {table} offset {offset}"),
            Self::Labels { dimm, offset } => write!(f, "label area of DIMM {dimm}, offset {offset}"),
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub at: Place,
    /// What.
    pub what: What,
}

impl Finding {
    /// Whether it is about what the firmware's tables say, and not about a label area.
    #[must_use]
    pub const fn is_of_tables(&self) -> bool {
        matches!(self.at, Place::Nfit { .. })
    }

    /// Whether the thing at that place was left out because of this; otherwise it is a remark.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.what.refuses()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// The kinds of NFIT indices that other structures refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A system physical address range, by its range index.
    Range,
    /// An interleave structure.
    Interleave,
    /// A control region.
    ControlRegion,
    /// A DIMM, by its device handle.
    Device,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "address range",
            Self::Interleave => "interleave structure",
            Self::ControlRegion => "control region",
            Self::Device => "device handle",
        })
    }
}

macro_rules! findings {
    ($(
        $(#[$doc:meta])*
        $weight:ident $name:ident $({ $($field:ident : $type:ty),* })? => $($text:expr),+ ;
    )*) => {
        /// What can be wrong. Variants that refuse, and remarks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant says what its fields are")]
        pub enum What {
            $( $(#[$doc])* $name $({ $($field: $type),* })? , )*
        }

        impl What {
            fn refuses(&self) -> bool {
                match self { $( Self::$name { .. } => findings!(@$weight), )* }
            }
        }

        impl fmt::Display for What {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( Self::$name $({ $($field),* })? => write!(f, $($text),+), )* }
            }
        }
    };
    (@refused) => { true };
    (@remark) => { false };
}

findings! {
    // The table itself.
    /// Fewer bytes than a table header, or than the header's length says.
    refused TableCut { bytes: usize, said: usize } => "the table is cut: {bytes} bytes of {said}";
    /// The signature is not `NFIT`.
    refused BadSignature => "the signature is not NFIT";
    /// The bytes do not add up to zero.
    refused BadTableChecksum { sum: u8 } => "the table's bytes add up to {sum:#04x}, not to 0";
    /// A revision that no specification describes.
    refused BadRevision { revision: u8 } => "revision {revision} of the table is unknown";
    /// More structures than are looked at.
    refused TooManyStructures { limit: usize } => "more than {limit} structures: the rest is not looked at";
    /// More findings than are kept.
    remark MoreFindings { dropped: usize } => "{dropped} further findings are not shown";

    // One structure.
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
    /// An interleave structure that says nothing.
    refused NoLines => "the interleave structure has no lines";
    /// The line size is not a power of two.
    refused BadLineSize { line_bytes: u32 } => "interleave lines of {line_bytes} bytes are not a power of two";
    /// The line count does not fit the structure's length.
    refused BadCount { count: u64, room: usize } => "{count} entries do not fit a structure that has room for {room}";
    /// Two lines lie at one place, or a line lies outside the set.
    refused LinesCollide { line: u32 } => "interleave line {line} collides with another line, or lies outside the set";
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

    // Regions.
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
    /// The firmware says that it did not map the DIMM.
    refused MapFailed { dimm: DeviceHandle } => "the firmware failed to map DIMM {dimm} here";
    /// The DIMM is not armed: nothing survives power loss, so the region is read-only.
    remark NotArmed { dimm: DeviceHandle } => "DIMM {dimm} is not armed: the region is read-only";
    /// The firmware reports a failed save, restore or flush.
    remark DataLost { dimm: DeviceHandle } => "DIMM {dimm} reports a failed save, restore or flush: data may be lost";
    /// One handle for what the firmware counts as two devices.
    remark HandleShared { dimm: DeviceHandle, first: u16, other: u16 } =>
        "DIMM {dimm} has physical id {other:#x} here and {first:#x} in an earlier mapping: both are taken for one DIMM";
    /// No control region: the DIMM has no identity, so its labels cannot be matched.
    remark NoIdentity { dimm: DeviceHandle } => "DIMM {dimm} has no control region: its labels cannot be used";

    // Block windows.
    /// No DIMM maps the windows.
    refused WindowsUnmapped => "no DIMM maps this range of block control windows";
    /// No DIMM maps the data windows.
    refused DataWindowsUnmapped => "no DIMM maps this range of block data windows";
    /// Data windows whose control registers are nowhere: they cannot be driven, and make no region.
    refused NoControlRange { dimm: DeviceHandle } =>
        "DIMM {dimm} has data windows here, but maps no range of block control windows: no region is made of them";
    /// Windows that no range shows at all.
    refused WindowsNowhere => "no DIMM maps these windows into an address range: no region is made of them";
    /// The windows speak another interface.
    refused NotBlockFormat { code: u16 } => "format interface code {code:#06x} is not that of block windows (0x0201)";
    /// No window structure for this control region.
    refused NoBlockWindows => "no block data window structure belongs to this control region";
    /// The control region has no windows.
    refused WindowsZero => "the control region has 0 windows";
    /// The short form of a control region has no register layout.
    refused NoRegisterLayout => "the 32-byte form of a control region cannot describe windows";
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
    /// The windows leave their address range.
    refused WindowsLeaveRange { index: u16 } => "the windows leave address range {index}";

    // Label areas.
    /// The label area could not be read.
    refused LabelsUnreadable { error: crate::label::LabelError } => "{error}: the DIMM's labels are unknown";
    /// The size is none that labels can live in.
    refused BadLabelAreaSize { bytes: u64 } => "a label area of {bytes} bytes";
    /// Both index blocks are damaged.
    refused NoIndex => "no valid index block, but the area is not blank: its namespaces are unknown";
    /// One index block is not valid.
    remark BadIndex { block: u8, why: crate::label::IndexFault } => "index block {block} is not valid: {why}";
    /// More labels than are kept, in all label areas together.
    refused TooManyLabels { labels: usize, limit: usize } =>
        "{labels} labels, where all DIMMs together may have {limit} more: they are not looked at";
    /// An active label is not valid.
    refused BadLabel { slot: u32, why: crate::label::LabelFault } => "label {slot} is not valid: {why}";

    // Namespaces.
    /// The labels were written for another set of DIMMs.
    refused ForeignCookie { slot: u32, cookie: u64 } => "label {slot} belongs to another interleave set ({cookie:#x})";
    /// The label's type is not the region's.
    refused ForeignType { slot: u32 } => "label {slot} is for another type of region";
    /// The set of labels is not whole: a DIMM has none, or two, or they disagree.
    refused TornSet { slot: u32, why: crate::namespace::Torn, updating: bool } =>
        "the label set of label {slot} is torn: {why}{}", if *updating { " (an update was under way)" } else { "" };
    /// The label's extent is not in a region of its kind.
    refused LabelOutsideRegion { slot: u32 } => "label {slot} describes bytes outside of the region";
    /// Two labels of a DIMM claim the same bytes: neither's namespace is served.
    refused LabelsOverlap { slot: u32 } => "the extent of label {slot} overlaps another label's";
    /// The label says that an update was under way; the set is whole all the same.
    remark Updating { slot: u32 } => "label {slot} is marked as being updated; its set is whole";
    /// The region's set has no cookie to match labels with.
    refused NoCookie { slot: u32 } => "label {slot} cannot be matched: the interleave set has no cookie";
    /// Without labels, bytes that a range of memory has too are memory.
    remark AliasesMemory => "the DIMM's bytes are memory, too: without labels they are that, and not behind windows";
    /// Some DIMM of the region cannot tell its labels: no namespace can be told from free space.
    refused LabelsUnknown { dimm: DeviceHandle } => "the labels of DIMM {dimm} are unknown: no namespace is served";
}

/// Findings, up to a bound.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: alloc::vec::Vec<Finding>,
    dropped: usize,
}

impl Findings {
    /// How many are kept: enough for people, and a bound for hostile tables.
    const LIMIT: usize = 512;

    /// Notes a finding.
    pub fn note(&mut self, at: Place, what: What) {
        if self.list.len() < Self::LIMIT {
            self.list.push(Finding { at, what });
        } else {
            self.dropped += 1;
        }
    }

    /// All of them, in the order in which they were made; the last one may say that there were more.
    pub fn iter(&self) -> impl Iterator<Item = Finding> + '_ {
        let more = self.list.last().filter(|_| self.dropped > 0);
        let more = more.map(|last| Finding { at: last.at, what: What::MoreFindings { dropped: self.dropped } });
        self.list.iter().copied().chain(more)
    }
}
