//! What passes between a test and the Linux guest: a job in, reports out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::exercise::Exercise;

/// What the guest is to do, in this order. NVDIMMs are named by the slot that they are in, from 0.
///
/// First of all every namespace is checked, before Linux has touched it; last of all again, but for those to repair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// How many NVDIMMs there are.
    pub dimms: usize,
    /// Those that ndctl is not to check.
    pub unchecked: Vec<usize>,
    /// Those whose namespaces ndctl is to repair, still before Linux has touched them.
    pub repairs: Vec<usize>,
    /// Namespaces to make.
    pub makes: Vec<Make>,
    /// Whether to read some sectors of every BTT: [`sample`].
    pub sample: bool,
    /// Sectors to read from every BTT of an NVDIMM: before and after it is exercised.
    pub reads: Vec<Read>,
    /// Sectors to write after that.
    pub writes: Vec<Write>,
    /// More to write, and to read back.
    pub exercises: Vec<Exercise>,
    /// Those whose BTTs get a file system each, with a file in it, mounted twice and checked.
    pub file_systems: Vec<usize>,
    /// Options with which `ndctl list` is asked.
    pub lists: Vec<String>,
}

/// A namespace to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Make {
    /// On which NVDIMM.
    pub slot: usize,
    /// With which options of `ndctl create-namespace`. On an NVDIMM without labels its namespace is made anew.
    pub options: String,
}

/// Sectors to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Whose NVDIMM.
    pub slot: usize,
    /// The first of them.
    pub lba: u64,
    /// How many, in one request.
    pub count: u64,
}

/// A sector to fill with one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Whose NVDIMM.
    pub slot: usize,
    /// Which.
    pub lba: u64,
    /// With what.
    pub byte: u8,
}

/// Which sectors of a BTT a sample is of: first, last, and some of those between.
#[must_use]
pub fn sample(sectors: u64) -> Vec<u64> {
    let mut places: Vec<u64> = (0..12).map(|step| step * (sectors - 1) / 12).collect();
    places.extend([1, sectors - 2, sectors - 1]);
    places
}

/// When `ndctl check-namespace` was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Before Linux itself has touched the media.
    Before,
    /// The same, to repair.
    Repair,
    /// The same, after a repair.
    Repaired,
    /// After it has used them, and let go.
    After,
}

/// The guest's report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// `ndctl check-namespace`.
    Check {
        /// When.
        phase: Phase,
        /// Whose NVDIMM.
        slot: usize,
        /// Which namespace.
        namespace: String,
        /// Whether it found nothing wrong, or repaired it.
        ok: bool,
        /// What it printed.
        text: String,
    },
    /// A namespace that was made.
    Made {
        /// On which NVDIMM.
        slot: usize,
        /// With which options.
        options: String,
        /// `ndctl`'s output on it, or why there is none.
        made: Result<Value, String>,
    },
    /// A namespace that is no BTT to Linux.
    NoBtt {
        /// Whose NVDIMM.
        slot: usize,
        /// Whether it has a disk nevertheless: its bytes as they lie there.
        raw: bool,
    },
    /// A BTT that Linux attached.
    Btt {
        /// Whose NVDIMM.
        slot: usize,
        /// Its namespace.
        namespace: String,
        /// Its uuid.
        uuid: String,
        /// Its block device.
        dev: String,
        /// The size of a sector, metadata bytes included.
        sector_size: u32,
        /// Bytes that the block device has.
        size: u64,
        /// What debugfs shows of each arena: name and value.
        arenas: Vec<Vec<(String, String)>>,
    },
    /// Sectors of the BTT that was reported last were read.
    Sectors {
        /// Which.
        read: Read,
        /// Their data's SHA-256 in hex, or why there are none.
        data: Result<String, String>,
    },
    /// A sector of it was written, or why not.
    Written {
        /// Which.
        write: Write,
        /// Why it was not.
        error: Option<String>,
    },
    /// An exercise on it has come to its end, or why not.
    Exercised {
        /// Which.
        exercise: Exercise,
        /// Why it has not.
        error: Option<String>,
    },
    /// It holds a file system now, whose file reads as it was written, or why not.
    FileSystem {
        /// Whose NVDIMM.
        slot: usize,
        /// Why it does not.
        error: Option<String>,
    },
    /// Which Linux it is.
    Release(String),
    /// What `ndctl list` printed.
    List {
        /// With which options.
        options: String,
        /// Its JSON.
        list: Value,
    },
    /// Something went wrong.
    Trouble(String),
    /// All is done.
    End,
}
