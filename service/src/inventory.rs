//! The machine's memory: buses, DIMMs, regions, namespaces.
//!
//! [`Inventory`] is the full picture; `list` chooses from it and prints it as ndctl would ([`crate::admin`]). All lists
//! ascend by number: Linux's own order is that of a directory's hash and means nothing.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use uuid::Uuid;

/// Bytes of an external sector that BTTs are made with. The kernel asserts that they are those of the `btt` crate.
pub const SECTOR_SIZES: [u32; 7] = [512, 520, 528, 4096, 4104, 4160, 4224];

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inventory {
    /// The buses; one (`ndbus0`) where the firmware has an NFIT, none where not.
    pub buses: Vec<Bus>,
}

impl Inventory {
    /// All regions.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.buses.iter().flat_map(|bus| &bus.regions)
    }

    /// All namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.regions().flat_map(|region| &region.namespaces)
    }

    /// The name of every DIMM, region, namespace and block device, for completion.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(self.buses.iter().flat_map(|bus| &bus.dimms).map(|dimm| dimm.dev.clone()));
        names.extend(self.regions().map(|region| region.dev.clone()));
        names.extend(self.namespaces().map(|namespace| namespace.dev.clone()));
        names.extend(self.namespaces().filter_map(|namespace| namespace.blockdev.clone()));
        names
    }
}

/// A bus: one firmware table's worth of DIMMs.
#[derive(Clone, Debug, PartialEq)]
pub struct Bus {
    /// Its provider: `ACPI.NFIT`.
    pub provider: String,
    /// `ndbus0`.
    pub dev: String,
    /// Its DIMMs.
    pub dimms: Vec<Dimm>,
    /// Its regions.
    pub regions: Vec<Region>,
}

/// A DIMM.
#[derive(Clone, Debug, PartialEq)]
pub struct Dimm {
    /// `nmem<k>`.
    pub dev: String,
    /// Linux's unique id, from the control region: vendor, (location and date,) serial, in the table's byte order:
    /// `8680-56341200`. Of a CXL device its serial number, in decimal, as Linux 6.12 has it. None without either.
    pub id: Option<String>,
    /// The NFIT device handle; none of a CXL device.
    pub handle: Option<u32>,
    /// The SMBIOS handle (`phys_id`); none of a CXL device.
    pub phys_id: Option<u16>,
    /// Whether it can be used (Linux: whether the nvdimm driver holds it).
    pub enabled: bool,
    /// The failures that the firmware reports.
    pub flags: DimmFlags,
    /// The health that it reports, where it can be asked. `None` prints no `health`, as ndctl does.
    pub health: Option<DimmHealth>,
}

/// A DIMM's state flags (NFIT memory device mapping, "NVDIMM State Flags").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DimmFlags {
    /// Its ranges could not be mapped.
    pub failed_map: bool,
    /// The last save to flash failed.
    pub failed_save: bool,
    /// It is not armed: stores would not persist.
    pub failed_arm: bool,
    /// The last restore failed.
    pub failed_restore: bool,
    /// The last platform flush failed.
    pub failed_flush: bool,
    /// A health event is pending.
    pub smart_event: bool,
}

/// A DIMM's health.
#[derive(Clone, Debug, PartialEq)]
pub struct DimmHealth {
    /// `ok`, `non-critical`, `critical` or `fatal`.
    pub health_state: String,
}

/// A region: an interleave set, or a DIMM's block capacity.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// `region<k>`.
    pub dev: String,
    /// Bytes.
    pub size: u64,
    /// The alignment of sizes and offsets of namespaces, in bytes.
    pub align: Option<u64>,
    /// Bytes that no namespace has.
    pub available_size: u64,
    /// The longest piece of that.
    pub max_available_extent: Option<u64>,
    /// Memory or windows.
    pub region_type: RegionType,
    /// Proximity domain, where the NFIT gives one.
    pub numa_node: Option<u32>,
    /// The interleave-set cookie that its labels carry (the one of their version). None without label areas.
    pub iset_id: Option<u64>,
    /// The DIMMs it lies on.
    pub mappings: Vec<Mapping>,
    /// Whether it can be used.
    pub enabled: bool,
    /// Known bad 512-byte blocks.
    pub badblocks: Vec<BadBlocks>,
    /// How far a store must get to be durable.
    pub persistence_domain: PersistenceDomain,
    /// The namespaces in it. A label-less region has exactly one.
    pub namespaces: Vec<Namespace>,
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

/// A region's share of a DIMM.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    /// `nmem<k>`.
    pub dimm: String,
    /// Where it starts in the DIMM's own address space (DPA), bytes.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// Its place in the interleave order.
    pub position: Option<u32>,
}

/// A run of bad 512-byte blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct BadBlocks {
    /// The first block, from the start of what they are listed under.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// The DIMMs they lie on.
    pub dimms: Vec<String>,
}

/// The part of the machine that the platform makes durable on power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersistenceDomain {
    /// The CPUs' caches.
    CpuCache,
    /// Whatever reached the memory controller.
    MemoryController,
    /// The firmware does not tell.
    Unknown,
}

impl PersistenceDomain {
    /// As ndctl prints it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CpuCache => "cpu_cache",
            Self::MemoryController => "memory_controller",
            Self::Unknown => "unknown",
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// `namespace<region>.<n>`.
    pub dev: String,
    /// Bytes that it offers: in sector mode sectors x 512 or 4096 (metadata bytes not counted), in raw mode all.
    pub size: u64,
    /// The namespace's own uuid, from its label; None on a label-less region.
    pub label_uuid: Option<Uuid>,
    /// Bytes of a sector as exposed: in sector mode the BTT's external size (512, 520, …), else the label's, or 512.
    pub sector_size: u32,
    /// The block device: `pmem0s`, `pmem0`. `None` while disabled.
    pub blockdev: Option<String>,
    /// Whether it is served.
    pub enabled: bool,
    /// The label's name.
    pub name: Option<String>,
    /// Proximity domain.
    pub numa_node: Option<u32>,
    /// How many of its 512-byte blocks are known to be bad.
    pub badblock_count: u64,
    /// Which: of one in sector mode, from its start.
    pub badblocks: Vec<BadBlocks>,
    /// Why it is not served as it should be, if it is not.
    pub fault: Option<Fault>,
    /// Its BTT: Some means sector mode.
    pub btt: Option<Btt>,
}

/// Why a namespace is not served as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `damaged`, `unsupported` or `unusable`.
    pub state: &'static str,
    /// In a sentence.
    pub reason: String,
}

/// A namespace's BTT in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Btt {
    /// The info blocks' uuid.
    pub uuid: Uuid,
    /// Major and minor version.
    pub version: (u16, u16),
    /// How many arenas.
    pub arenas: u32,
    /// Free blocks an arena.
    pub nfree: u32,
    /// Lanes in use.
    pub lanes: u32,
    /// Which two of a flog entry's four slots are used: (0, 1), or (0, 2) on old media.
    pub flog_slots: (u8, u8),
    /// Whether it takes writes.
    pub state: BttState,
}

/// Whether a BTT takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BttState {
    /// It does.
    Active,
    /// Reads only, and why: one sentence.
    ReadOnly(String),
}
