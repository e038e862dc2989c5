//! The commands, typed: what a line means once the grammar has accepted it.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use uuid::Uuid;

/// The number of an external sector on a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Lba(pub u64);

/// How the session talks: for people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A prompt, echo and line editing; replies as text.
    Console,
    /// Nothing but the console's reply texts, each followed by a line with its exit status.
    Text,
    /// One JSON object a line for each request line.
    Json,
}

impl Mode {
    /// Its name in the `mode` command.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// One admin command with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// What commands there are, or what one of them takes.
    Help {
        /// The command asked about.
        topic: Option<String>,
    },
    /// Which build this is.
    Version,
    /// The machine and what it serves.
    Status,
    /// Talk as asked from the reply on.
    Mode(Mode),
    /// Buses, DIMMs, regions and namespaces, as ndctl lists them.
    List(ListRequest),
    /// The firmware's NFIT, decoded.
    Nfit,
    /// The arenas of a namespace in sector mode.
    Arenas {
        /// The namespace's name, its BTT's, or its block device's.
        namespace: String,
    },
    /// Write empty label index blocks.
    InitLabels {
        /// The DIMM's name.
        dimm: String,
        /// The labels' version.
        version: LabelVersion,
        /// Even over labels that are valid, and over a namespace that is not blank.
        force: bool,
    },
    /// Make a namespace.
    CreateNamespace(CreateNamespace),
    /// Take a namespace's space back.
    DestroyNamespace {
        /// The namespace's name.
        namespace: String,
        /// Even if it is enabled.
        force: bool,
    },
    /// Serve a namespace.
    EnableNamespace {
        /// The namespace's name.
        namespace: String,
    },
    /// Stop serving a namespace.
    DisableNamespace {
        /// The namespace's name.
        namespace: String,
    },
    /// Check a namespace's metadata.
    CheckNamespace(CheckNamespace),
    /// Read sectors.
    Read {
        /// The block device.
        dev: String,
        /// The first sector.
        lba: Lba,
        /// How many; at least 1.
        count: u64,
    },
    /// Write sectors.
    Write {
        /// The block device.
        dev: String,
        /// The first sector.
        lba: Lba,
        /// What to write.
        data: WriteData,
        /// `-f`: even if a consumer uses the device; so it is in the next three.
        force: bool,
    },
    /// Forget sectors: they read as zeroes.
    Trim {
        /// Which.
        extent: Extent,
        /// `-f`.
        force: bool,
    },
    /// Make sectors fail to read.
    InjectError {
        /// Which.
        extent: Extent,
        /// `--media`: the medium fails, not the map.
        media: bool,
        /// `-f`.
        force: bool,
    },
    /// Undo errors.
    ClearErrors {
        /// Which.
        extent: Extent,
        /// `-f`.
        force: bool,
    },
    /// List the sectors that fail to read.
    Errors {
        /// Only this block device.
        dev: Option<String>,
    },
    /// Load a device, or verify what a load wrote.
    Bench(BenchRequest),
    /// Serve a device to other machines.
    Export {
        /// The block device.
        dev: String,
    },
    /// Stop serving it.
    Unexport {
        /// The block device.
        dev: String,
    },
    /// Counters.
    Stats {
        /// As Prometheus's text format.
        prometheus: bool,
    },
    /// The trace ring.
    Trace,
    /// Stop the machine.
    Poweroff,
    /// Start it again.
    Reboot,
}

/// Sectors of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The block device.
    pub dev: String,
    /// The first sector.
    pub lba: Lba,
    /// How many; at least 1.
    pub count: u64,
}

/// What `write` stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteData {
    /// These bytes: whole external sectors, one after another.
    Bytes(Vec<u8>),
    /// `count` sectors of one byte.
    Fill {
        /// The byte.
        byte: u8,
        /// How many sectors; at least 1.
        count: u64,
    },
}

/// What `list` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// `-B`: buses.
    pub buses: bool,
    /// `-D`: DIMMs.
    pub dimms: bool,
    /// `-R`: regions.
    pub regions: bool,
    /// `-N`: namespaces; the default when no type is asked for.
    pub namespaces: bool,
    /// `-i`: what is disabled, too.
    pub idle: bool,
    /// `-H`: the DIMMs' health.
    pub health: bool,
    /// `-v`, counted: 1 adds details and bad blocks, 2 all types, 3 everything.
    pub verbose: u8,
}

/// What a namespace is made to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceMode {
    /// A BTT: sectors that are never torn.
    Sector,
    /// The bytes as they are.
    Raw,
}

/// Versions of namespace labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LabelVersion {
    /// 128 bytes; a BTT is of version 1.1.
    #[serde(rename = "1.1")]
    V1_1,
    /// 256 bytes with a checksum (UEFI); a BTT is of version 2.0.
    #[serde(rename = "1.2")]
    V1_2,
}

impl LabelVersion {
    /// As people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }
}

/// Kinds of region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RegionType {
    /// Memory in the address space.
    Pmem,
    /// Reached through block data windows.
    Blk,
}

/// What `create-namespace` makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateNamespace {
    /// `-r`: in this region; else in the first that has room.
    pub region: Option<String>,
    /// `-t`: in a region of this type.
    pub region_type: Option<RegionType>,
    /// `-s`: this many bytes; else all that is free.
    pub size_bytes: Option<u64>,
    /// `-m`.
    pub mode: NamespaceMode,
    /// `-l`: bytes of an external sector; 4096 unless asked otherwise.
    pub sector_size: u32,
    /// `-n`: the namespace's alternative name.
    pub name: Option<String>,
    /// `-u`: the uuid; else one made up.
    pub uuid: Option<Uuid>,
    /// `-f`: even over something recognisable.
    pub force: bool,
    /// `--zero-entries`: `trim` marks sectors in the map instead of writing zeroes.
    pub zero_entries: bool,
}

/// What `check-namespace` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckNamespace {
    /// The namespace's name.
    pub namespace: String,
    /// `-R`: repair what can be repaired.
    pub repair: bool,
    /// `-L`: write the flog anew.
    pub rewrite_log: bool,
    /// `-f`: make errors of the sectors that have no certain answer.
    pub force: bool,
    /// `--portable`: write out TRIM entries, and allow no new ones.
    pub portable: bool,
}

/// What `bench` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchRequest {
    /// The block device.
    pub dev: String,
    /// How long the load runs. 0: no load (so that `--verify` only verifies).
    pub seconds: u32,
    /// The seed of the sectors' pattern and of the choice of sectors.
    pub seed: u64,
    /// How many of a hundred runs write; the others read.
    pub mix_write_percent: u8,
    /// Sectors a run; at least 1.
    pub run: u32,
    /// Afterwards, read every sector and judge it (see [`crate::pattern`]).
    pub verify: bool,
    /// `-f`: even if a consumer uses the device, or it holds something recognisable.
    pub force: bool,
}
