//! What the commands answer, typed. Field names are the contract's JSON keys; sizes are integers of bytes.
//!
//! `list`'s shapes are ndctl's and made from [`crate::inventory`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Serialize, Serializer};

use crate::admin::command::{LabelVersion, Lba};
use crate::pattern::Verdict;

/// `status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// The version of the image.
    pub version: String,
    /// CPUs that serve.
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// Signatures of the firmware tables that were found, in the order found: `RSDP`, `XSDT`, `APIC`, `NFIT`, …
    pub tables: Vec<String>,
    /// The namespaces in short.
    pub namespaces: Vec<NamespaceStatus>,
    /// Block devices that are exported.
    pub exports: Vec<String>,
    /// Time since the image began, milliseconds; in JSON seconds (12.345).
    #[serde(serialize_with = "milliseconds_as_seconds")]
    pub uptime: u64,
    /// How often, since the image began, a namespace was opened that had interrupted writes, which were finished then. (A
    /// cut between two writes leaves none; nothing on the medium tells of it.)
    pub unclean_shutdowns_recovered: u64,
    /// How stores become durable here: `clwb`, `clflushopt`, `clflush` or `none needed`, with `+ flush hints`.
    pub persist: String,
}

/// A namespace in `status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NamespaceStatus {
    /// `namespace0.0`.
    pub dev: String,
    /// `sector` or `raw`.
    pub mode: String,
    /// Bytes it offers.
    pub size: u64,
    /// Its block device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blockdev: Option<String>,
    /// `active`, `read-only`, `disabled`, or `damaged`; then a colon and why, where there is a reason.
    pub state: String,
}

fn milliseconds_as_seconds<S: Serializer>(milliseconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(seconds(*milliseconds))
}

/// Milliseconds as seconds: exact up to 2^53 milliseconds, 285000 years.
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// `nfit`: all that the firmware says of its NVDIMMs, and what was not believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Nfit {
    /// The structures, in the order of the tables.
    pub structures: Vec<NfitStructure>,
    /// What was refused.
    pub refused: Vec<Refusal>,
    /// What is odd, and stands all the same.
    pub remarks: Vec<Refusal>,
}

/// One NFIT structure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NfitStructure {
    /// Which table, from 0.
    pub table: u32,
    /// Where in the table, bytes.
    pub offset: u32,
    /// Its kind in the specification's words, as an identifier: `system_physical_address_range`,
    /// `memory_device_to_system_physical_address_range_map`, or shorter: `spa_range`, `memory_device_map`, …
    pub kind: String,
    /// The fields, in the specification's order, under names in snake case.
    #[serde(flatten)]
    pub fields: Fields,
}

/// Something in the tables or in label areas that was refused, or is remarked upon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// Which table, from 0.
    pub table: u32,
    /// Where in the table, bytes.
    pub offset: u32,
    /// What: `structure type 1`, `table`, …
    pub what: String,
    /// Why, in a sentence.
    pub why: String,
}

/// Named values in order; serialises as an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(pub Vec<(&'static str, FieldValue)>);

impl Fields {
    /// No fields yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<FieldValue>) -> Self {
        self.0.push((name, value.into()));
        self
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A decoded field.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// A number that people read in decimal.
    Number(u64),
    /// A number that people read in hexadecimal (an address, a handle, flags); a plain number in JSON.
    Hex(u64),
    /// Yes or no.
    Flag(bool),
    /// A name, a GUID.
    Text(String),
    /// Several.
    List(Vec<FieldValue>),
}

impl From<u64> for FieldValue {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for FieldValue {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for FieldValue {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for FieldValue {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// `arenas`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arenas {
    /// The namespace.
    pub dev: String,
    /// Its arenas, in order.
    pub arenas: Vec<Arena>,
}

/// An arena, in the words of Linux's debugfs. Offsets are bytes from the start of the BTT's place in the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arena {
    /// Bytes.
    pub size: u64,
    /// The device's LBA at which it starts.
    pub external_lba_start: u64,
    /// Internal blocks.
    pub internal_nlba: u32,
    /// Bytes of an internal block.
    pub internal_lbasize: u32,
    /// Sectors it offers.
    pub external_nlba: u32,
    /// Bytes of a sector.
    pub external_lbasize: u32,
    /// Free blocks.
    pub nfree: u32,
    /// Version.
    pub version_major: u16,
    /// Version.
    pub version_minor: u16,
    /// Where the next arena starts, from this one's start; 0 for the last.
    pub nextoff: u64,
    /// Info block.
    pub infooff: u64,
    /// Data.
    pub dataoff: u64,
    /// Map.
    pub mapoff: u64,
    /// Flog.
    pub logoff: u64,
    /// The info block's copy.
    pub info2off: u64,
    /// The info block's flags; bit 0 is ERROR, bit 31 our --zero-entries.
    pub flags: u32,
    /// Why it takes no writes, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<String>,
    /// First used slot of a flog entry.
    pub log_index_0: u8,
    /// Second used slot.
    pub log_index_1: u8,
}

/// `errors`: what is known to be lost. A sector whose loss nobody has met yet is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// Sectors that the map marks as errors, in order.
    pub errors: Vec<SectorErrors>,
    /// Ranges that the medium has lost.
    pub media: Vec<MediaErrors>,
    /// How many further ranges of sectors there are.
    pub more: u64,
}

impl Errors {
    /// The most ranges of sectors that are named.
    pub const SHOWN_MAX: usize = 1000;
}

/// Sectors that follow one another and fail to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SectorErrors {
    /// The block device.
    pub dev: String,
    /// The first sector.
    pub lba: Lba,
    /// How many.
    pub count: u64,
}

/// Bytes of a namespace that the medium has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MediaErrors {
    /// The namespace.
    pub dev: String,
    /// Bytes from its start.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// `init-labels`: an area without labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelArea {
    /// The DIMM.
    pub dev: String,
    /// The version of its labels.
    pub label_version: LabelVersion,
    /// How many it has room for.
    pub slots: u32,
}

/// `destroy-namespace`, `disable-namespace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The namespace.
    pub dev: String,
    /// What it is now: `destroyed` or `disabled`.
    pub state: &'static str,
}

/// `check-namespace`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The namespace.
    pub dev: String,
    /// How many arenas were looked at.
    pub arenas: u32,
    /// What is wrong, in the order of the media.
    pub findings: Vec<Finding>,
}

impl Check {
    /// Whether something wrong is still there.
    #[must_use]
    pub fn damaged(&self) -> bool {
        self.findings.iter().any(|finding| !finding.repaired)
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong, in a sentence.
    pub what: String,
    /// Where: the arena, the structure and its index, the offset in the namespace.
    #[serde(rename = "where")]
    pub place: String,
    /// Whether it is right now.
    pub repaired: bool,
}

/// `write`, `trim`, `inject-error`, `clear-errors`: the sectors that it was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The block device.
    pub dev: String,
    /// The first sector.
    pub lba: Lba,
    /// How many.
    pub count: u64,
}

/// `bench`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// The block device.
    pub dev: String,
    /// How long the load ran, seconds.
    pub seconds: f64,
    /// CPUs that took part.
    pub cpus: u32,
    /// The seed.
    pub seed: u64,
    /// Per cent of the runs that wrote.
    pub mix: u8,
    /// Sectors a run.
    pub run: u32,
    /// Runs that finished.
    pub ops: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Sectors written and acknowledged.
    pub sectors_written: u64,
    /// Runs that failed, and sectors read back that were not whole.
    pub errors: u64,
    /// Runs a second.
    pub ops_per_second: f64,
    /// Fences for each sector written.
    pub fences_per_sector: f64,
    /// Cache lines written back for each sector written.
    pub write_backs_per_sector: f64,
    /// What `--verify` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
}

/// What a verification of the whole device found. Every sector counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verify {
    /// Sectors read.
    pub sectors: u64,
    /// Whole, of this LBA and seed.
    pub good: u64,
    /// All zeroes: never written.
    pub blank: u64,
    /// Something else's data: no trace of the pattern, or another run's seed.
    pub foreign: u64,
    /// Part of one write and part of another (or of something else): must never be.
    pub torn: u64,
    /// Whole, but written for another LBA.
    pub misplaced: u64,
    /// Could not be read.
    pub unreadable: u64,
    /// The greatest version seen.
    pub version_max: u64,
    /// The first few sectors that are torn, misplaced or unreadable, in words.
    pub faults: Vec<String>,
}

impl Verify {
    /// The most sectors that [`Verify::faults`] names.
    pub const FAULTS_MAX: usize = 16;

    /// Counts one sector: what was found where sector `lba` of a run with `seed` belongs; None if it could not be
    /// read.
    pub fn count(&mut self, lba: Lba, seed: u64, found: Option<Verdict>) {
        self.sectors += 1;
        let fault = match found {
            Some(Verdict::Whole(tag)) if (tag.lba, tag.seed) == (lba, seed) => {
                self.good += 1;
                self.version_max = self.version_max.max(tag.version);
                return;
            }
            Some(Verdict::Blank) => {
                self.blank += 1;
                return;
            }
            // Whole and in its place, of an earlier run with another seed: nothing is wrong with it.
            Some(Verdict::Whole(tag)) if tag.lba == lba => {
                self.foreign += 1;
                return;
            }
            Some(Verdict::Foreign) => {
                self.foreign += 1;
                return;
            }
            Some(Verdict::Whole(tag)) => {
                self.misplaced += 1;
                format!("LBA {}: whole, but written as {tag}", lba.0)
            }
            Some(Verdict::Torn { head: Some(tag), first_bad }) => {
                self.torn += 1;
                format!("LBA {}: torn, begins as {tag}, other bytes from {first_bad} on", lba.0)
            }
            Some(Verdict::Torn { head: None, .. }) => {
                self.torn += 1;
                format!("LBA {}: torn, only its end is the pattern's", lba.0)
            }
            None => {
                self.unreadable += 1;
                format!("LBA {}: could not be read", lba.0)
            }
        };
        if self.faults.len() < Self::FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// What two CPUs found on their shares of a device.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.sectors += other.sectors;
        self.good += other.good;
        self.blank += other.blank;
        self.foreign += other.foreign;
        self.torn += other.torn;
        self.misplaced += other.misplaced;
        self.unreadable += other.unreadable;
        self.version_max = self.version_max.max(other.version_max);
        self.faults.extend(other.faults);
        self.faults.truncate(Self::FAULTS_MAX);
        self
    }

    /// Whether a promise was broken.
    #[must_use]
    pub const fn damaged(&self) -> bool {
        self.torn > 0 || self.misplaced > 0 || self.unreadable > 0
    }
}

/// `stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Counters since boot, per device.
    pub devices: Vec<crate::stats::DeviceStats>,
    /// Counters of consumers' queues, since each was started.
    pub queues: Vec<crate::stats::QueueStats>,
}

/// `export`, `unexport`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The block device.
    pub dev: String,
    /// Whether consumers can have it now.
    pub exported: bool,
}

/// `trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The newest events, oldest first.
    pub events: Vec<TraceEvent>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceEvent {
    /// When: microseconds since the image began.
    pub at: u64,
    /// Where: the CPU that saw it.
    pub cpu: u32,
    /// What, in words.
    pub event: String,
}
