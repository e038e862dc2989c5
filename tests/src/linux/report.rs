//! What passes between a test and the Linux guest: a job in, reports out.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the guest is to do. NVDIMMs are named by the slot that they are in, from 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// How many NVDIMMs there are.
    pub dimms: usize,
    /// Sectors to read from every BTT.
    pub reads: Vec<Read>,
    /// Sectors to write after that.
    pub writes: Vec<Write>,
    /// Options with which `ndctl list` is asked.
    pub lists: Vec<String>,
}

/// A sector to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Whose NVDIMM.
    pub slot: usize,
    /// Which.
    pub lba: u64,
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

/// When `ndctl check-namespace` was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Before Linux itself has touched the media.
    Before,
    /// After it has used them, and let go.
    After,
}

/// What the guest has to say.
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
        /// Whether it found nothing wrong.
        ok: bool,
        /// What it printed.
        text: String,
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
    /// A sector that was read.
    Sector {
        /// Whose NVDIMM.
        slot: usize,
        /// Which.
        lba: u64,
        /// Its data's SHA-256 in hex, or why there are none.
        data: Result<String, String>,
    },
    /// A sector that was written, or why not.
    Written {
        /// Which.
        write: Write,
        /// Why it was not.
        error: Option<String>,
    },
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
