//! A DIMM's label area: what [`read`] makes of it, and how [`crate::change`] writes it.
//!
//! Two index blocks at its start, then slots for labels. Index blocks are validated by Linux's rules and UEFI's; of two
//! valid ones the later counts. Only the index blocks and the active labels are read.
//!
//! # What a DIMM without a valid index block means
//! A DIMM without a label area, and one whose area was never used (both index blocks read as all zeroes or all ones),
//! is label-less: its region is one namespace, as in Linux. So is one whose first initialisation was cut. Linux does
//! the same for an area whose index blocks are damaged; here that is [`Labels::Damaged`], and the region serves nothing
//! until an administrator writes new ones: behind damaged labels there may be several namespaces, and to lay one over
//! them all would offer to write over each.

mod fault;
mod index;
mod slot;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

pub use fault::Fault;
pub(crate) use index::index_bytes;
pub use index::{IndexBlock, IndexFault, LabelVersion, SIGNATURE as INDEX_SIGNATURE};
pub use slot::{Claim, Label, LabelFault, LabelFlags};

use crate::finding::{Findings, Place};
use crate::identity::DeviceHandle;

/// Why a label area could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelError {
    /// The DIMM has no mailbox, or its mailbox does not reply.
    NoAnswer,
    /// The DIMM refused, with this status.
    Status(u32),
    /// The reply is not a valid one.
    BadAnswer,
    /// The bytes asked for leave the area.
    OutOfRange,
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer => f.write_str("the label area does not reply"),
            Self::Status(status) => write!(f, "the label area was refused with status {status}"),
            Self::BadAnswer => f.write_str("the reply about the label area is not a valid one"),
            Self::OutOfRange => f.write_str("an access would leave the label area"),
        }
    }
}

impl core::error::Error for LabelError {}

/// Where labels are read from: firmware's methods, a mailbox, a file.
pub trait LabelSource {
    /// The size of the DIMM's label area in bytes; `None` when it has none.
    ///
    /// # Errors
    /// When it cannot be known.
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError>;

    /// Reads the bytes at `offset` of the DIMM's label area.
    ///
    /// # Errors
    /// When they cannot be had; `into` then holds anything.
    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError>;
}

/// Where labels are written, too.
pub trait LabelStore: LabelSource {
    /// Stores bytes at `offset` of the DIMM's label area. Durable when it returns: of a write that power loss
    /// interrupts, any of its aligned 8-byte pieces may be there.
    ///
    /// # Errors
    /// When they were not stored; any part of them may have been.
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError>;
}

/// A machine without label areas.
#[derive(Clone, Copy, Debug)]
pub struct NoLabels;

impl LabelSource for NoLabels {
    fn area_bytes(&mut self, _: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(None)
    }

    fn read(&mut self, _: DeviceHandle, _: u64, _: &mut [u8]) -> Result<(), LabelError> {
        Err(LabelError::OutOfRange)
    }
}

impl LabelStore for NoLabels {
    fn write(&mut self, _: DeviceHandle, _: u64, _: &[u8]) -> Result<(), LabelError> {
        Err(LabelError::OutOfRange)
    }
}

/// What a DIMM's label area holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// There is no label area.
    None,
    /// There is one, never used.
    Blank {
        /// Its size in bytes.
        area_bytes: u64,
    },
    /// It cannot be read, or both index blocks are damaged: what the DIMM holds is not known.
    Damaged,
    /// An index block is valid.
    Valid(LabelSet),
}

/// What all DIMMs' label areas hold.
pub type LabelsByDimm = BTreeMap<DeviceHandle, Labels>;

impl Labels {
    /// How many labels are kept of them.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self {
            Self::Valid(set) => set.labels.len(),
            Self::None | Self::Blank { .. } | Self::Damaged => 0,
        }
    }
}

/// A DIMM's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet {
    /// The size of the area in bytes.
    pub area_bytes: u64,
    /// The index block in force.
    pub index: IndexBlock,
    /// Which of the two it is.
    pub block: u8,
    /// The valid active labels, by ascending slot.
    pub labels: Vec<Label>,
}

impl LabelSet {
    /// What a new area of `area_bytes` bytes holds.
    #[must_use]
    pub fn empty(area_bytes: u64, version: LabelVersion) -> Self {
        Self { area_bytes, index: IndexBlock::empty(area_bytes, version, 3), block: 0, labels: Vec::new() }
    }
}

/// No label area is larger; 128 KiB is the usual size.
const MAX_AREA_BYTES: u64 = 16 << 20;

/// How many labels are kept, of all DIMMs together. Areas of the usual size have room for some 500 or 1000 each.
pub const LABELS_MAX: usize = 1 << 15;

/// Reads and validates the label area of a DIMM, which has no more than `room` labels.
pub fn read(source: &mut dyn LabelSource, dimm: DeviceHandle, room: usize, findings: &mut Findings<Fault>) -> Labels {
    let at = Place::Labels { dimm, offset: 0 };
    match try_read(source, dimm, room, findings) {
        Ok(labels) => labels,
        Err(error) => {
            findings.note(at, Fault::LabelsUnreadable { error });
            Labels::Damaged
        }
    }
}

/// Bytes of an index block in an area, by the version whose blocks are larger.
fn largest_index_bytes(area_bytes: u64) -> u64 {
    index::index_bytes(area_bytes, LabelVersion::V1_1).max(index::index_bytes(area_bytes, LabelVersion::V1_2))
}

/// Whether a label area of this size is supported: it has room for a label of either version, and is at most 16 MiB.
#[must_use]
pub fn can_hold_labels(area_bytes: u64) -> bool {
    area_bytes <= MAX_AREA_BYTES && area_bytes >= 2 * largest_index_bytes(area_bytes) + LabelVersion::V1_2.label_bytes()
}

fn try_read(
    source: &mut dyn LabelSource,
    dimm: DeviceHandle,
    room: usize,
    findings: &mut Findings<Fault>,
) -> Result<Labels, LabelError> {
    let place = |offset| Place::Labels { dimm, offset };
    let Some(area_bytes) = source.area_bytes(dimm)? else { return Ok(Labels::None) };
    if !can_hold_labels(area_bytes) {
        findings.note(place(0), Fault::BadLabelAreaSize { bytes: area_bytes });
        return Ok(Labels::Damaged);
    }
    let head = usize::try_from(2 * largest_index_bytes(area_bytes)).expect("areas are at most 16 MiB");
    let mut head = vec![0; head];
    source.read(dimm, 0, &mut head)?;
    if head.iter().all(|&byte| byte == 0) || head.iter().all(|&byte| byte == 0xff) {
        return Ok(Labels::Blank { area_bytes });
    }
    let never_used = || {
        let versions = [LabelVersion::V1_1, LabelVersion::V1_2];
        versions.into_iter().any(|version| index::is_part_of_an_initialisation(&head, area_bytes, version))
    };

    // The size of labels is known from the index blocks only, and where they stand from the size of labels: Linux tries
    // the small ones first.
    let mut faults = Vec::new();
    for version in [LabelVersion::V1_1, LabelVersion::V1_2] {
        let size = index::index_bytes(area_bytes, version);
        let block = |number: u8| {
            let start = usize::try_from(size * u64::from(number)).ok()?;
            let end = usize::try_from(size * u64::from(number + 1)).ok()?;
            head.get(start..end)
        };
        let parse = |number| match block(number) {
            Some(bytes) => IndexBlock::parse(bytes, number, area_bytes, version),
            None => Err(IndexFault::Size),
        };
        let (block, index) = match (parse(0), parse(1)) {
            (Ok(first), Ok(second)) => IndexBlock::newer(first, second),
            (Ok(first), Err(why)) => {
                findings.note(place(size), Fault::BadIndex { block: 1, why });
                (0, first)
            }
            (Err(why), Ok(second)) => {
                findings.note(place(0), Fault::BadIndex { block: 0, why });
                (1, second)
            }
            (Err(first), Err(second)) => {
                faults.push((size, first, second));
                continue;
            }
        };
        let active = index.active_slots().count();
        if active > room {
            findings.note(place(0), Fault::TooManyLabels { labels: active, limit: room });
            return Ok(Labels::Damaged);
        }
        let labels = read_labels(source, dimm, &index, findings)?;
        return Ok(Labels::Valid(LabelSet { area_bytes, index, block, labels }));
    }
    if never_used() {
        return Ok(Labels::Blank { area_bytes });
    }
    for (size, first, second) in faults {
        findings.note(place(0), Fault::BadIndex { block: 0, why: first });
        findings.note(place(size), Fault::BadIndex { block: 1, why: second });
    }
    findings.note(place(0), Fault::NoIndex);
    Ok(Labels::Damaged)
}

fn read_labels(
    source: &mut dyn LabelSource,
    dimm: DeviceHandle,
    index: &IndexBlock,
    findings: &mut Findings<Fault>,
) -> Result<Vec<Label>, LabelError> {
    let mut buffer = [0; 256];
    let bytes = match index.version {
        LabelVersion::V1_1 => &mut buffer[..128],
        LabelVersion::V1_2 => &mut buffer[..],
    };
    let mut labels = Vec::new();
    for slot in index.active_slots() {
        // The index block's validation put all slots inside of the area.
        let offset = index.label_offset + u64::from(slot) * index.version.label_bytes();
        source.read(dimm, offset, bytes)?;
        match Label::parse(bytes, slot, offset, index.version) {
            Ok(label) => labels.push(label),
            Err(why) => findings.note(Place::Labels { dimm, offset }, Fault::BadLabel { slot, why }),
        }
    }
    Ok(labels)
}
