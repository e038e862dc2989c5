//! From firmware bytes to regions and namespaces.
//!
//! [`discover`] takes the machine's NFITs and something that reads DIMMs' label areas, and gives an [`Inventory`].
//! Nothing in this crate touches hardware, and no bytes make it fail: what cannot be trusted is left out, with a
//! [`Finding`] that says what and where.
//!
//! ```
//! use nvdimm::label::NoLabels;
//! use nvdimm::region::Kind;
//!
//! // QEMU's, for one DIMM. Linux shows the machine's own in /sys/firmware/acpi/tables/NFIT.
//! let table = include_bytes!("../tests/fixtures/nfit/qemu-one-dimm.nfit");
//! let inventory = nvdimm::discover(&[table], &mut NoLabels);
//! for finding in inventory.findings() {
//!     println!("{finding}");
//! }
//! for namespace in &inventory.namespaces {
//!     let region = inventory.region(namespace.id.region).expect("a namespace's region is there");
//!     if let Kind::Pmem(pmem) = &region.kind {
//!         // Map pmem.base once a region; the namespace is one extent of it.
//!         println!("{} at {:#x}", namespace.id, pmem.base + namespace.extents[0].start);
//!     }
//! }
//! assert_eq!(inventory.namespaces.len(), 1);
//! ```
//!
//! | module | one thing, on what is above it |
//! |---|---|
//! | [`identity`] | the handle and the identity of a DIMM |
//! | [`finding`] | faults with their places, a list of them for each layer |
//! | [`extent`] | bytes of a region |
//! | [`nfit`] | tables to structures (ACPI 6.5, 5.2.25) |
//! | [`dimm`] | who the DIMMs are |
//! | [`interleave`] | where the registers and windows of interleaved DIMMs lie |
//! | [`cookie`] | the number that ties labels to a set of DIMMs |
//! | [`region`] | structures to regions |
//! | [`label`] | label areas to labels (UEFI 2.10, 13.19) |
//! | [`namespace`] | regions and labels to namespaces |
//! | [`space`] | where new namespaces may go |
//! | [`change`] | the steps that change labels |
//! | [`error`] | the findings of all layers as one type |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod change;
pub mod cookie;
pub mod dimm;
pub mod error;
pub mod extent;
pub mod finding;
mod fletcher;
mod guid;
pub mod identity;
pub mod interleave;
pub mod label;
pub mod namespace;
pub mod nfit;
pub mod region;
pub mod space;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use dimm::Dimm;
use error::Finding;
use finding::{Findings, Place};
use identity::DeviceHandle;
use label::{LabelSource, Labels, LabelsByDimm};
use namespace::Namespace;
use nfit::Nfit;
use region::{BareRange, LeftOut, PersistenceDomain, Region, RegionId};

/// What a machine has.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// The tables' structures, and what was refused among them.
    pub nfit: Nfit,
    /// DIMMs by ascending handle: `nmem<k>` is number k.
    pub dimms: Vec<Dimm>,
    /// What the DIMMs' label areas hold.
    pub labels: LabelsByDimm,
    /// Regions, by ascending number.
    pub regions: Vec<Region>,
    /// Regions that cannot be served, by ascending number; no more than are served.
    pub left_out: Vec<LeftOut>,
    /// The first number that no region takes.
    next_region: RegionId,
    /// Namespaces, by region and number.
    pub namespaces: Vec<Namespace>,
    /// What was found wrong with each DIMM's labels.
    label_findings: BTreeMap<DeviceHandle, Findings<label::Fault>>,
    /// What was found wrong with regions.
    region_findings: Findings<region::Fault>,
    /// What was found wrong with namespaces.
    namespace_findings: Findings<namespace::Fault>,
}

/// Finds the persistent memory that NFITs describe: NFITs in the order in which the firmware lists them, and the DIMMs' labels.
pub fn discover<T: AsRef<[u8]>>(tables: &[T], labels: &mut dyn LabelSource) -> Inventory {
    let nfit = Nfit::parse(tables);
    let dimms = dimm::dimms(&nfit);
    let mut region_findings = Findings::default();
    let (regions, left_out, next_region) = region::regions(&nfit, &mut region_findings);
    let mut inventory = Inventory {
        nfit,
        dimms,
        labels: LabelsByDimm::new(),
        regions,
        left_out,
        next_region,
        namespaces: Vec::new(),
        label_findings: BTreeMap::new(),
        region_findings,
        namespace_findings: Findings::default(),
    };
    let all: Vec<DeviceHandle> = inventory.dimms.iter().map(|dimm| dimm.handle).collect();
    inventory.read_labels(&all, labels);
    inventory
}

impl Inventory {
    /// Adds ranges that no NFIT describes, and reads the labels of those that have some; `None` takes a number all the same,
    /// for a device that cannot be used. `in_use` is what firmware's memory map has for anything else than persistent memory.
    ///
    /// A range that is not sound, or that shares bytes with anything that was found before, is left out. What the memory
    /// map calls persistent counts only where nothing else describes it.
    #[must_use]
    pub fn with_ranges(
        mut self,
        ranges: &[Option<BareRange>],
        in_use: &[Range<u64>],
        labels: &mut dyn LabelSource,
    ) -> Self {
        if ranges.is_empty() {
            return self;
        }
        let regions = (&mut self.regions, &mut self.left_out, &mut self.next_region);
        region::add(&self.nfit, ranges, in_use, regions, &mut self.dimms, &mut self.region_findings);
        let joined = self.dimms.iter().filter(|dimm| dimm.is_cxl);
        let joined: Vec<DeviceHandle> = joined.map(|dimm| dimm.handle).collect();
        self.read_labels(&joined, labels);
        self
    }

    /// Reads the label areas of these DIMMs, for the first time or again, and makes the namespaces anew from all labels.
    pub fn read_labels(&mut self, dimms: &[DeviceHandle], source: &mut dyn LabelSource) {
        for &dimm in dimms {
            let mut findings = Findings::default();
            self.labels.remove(&dimm);
            let kept: usize = self.labels.values().map(Labels::count).sum();
            let room = label::LABELS_MAX.saturating_sub(kept);
            self.labels.insert(dimm, label::read(source, dimm, room, &mut findings));
            self.label_findings.insert(dimm, findings);
        }
        self.make_namespaces();
    }

    fn make_namespaces(&mut self) {
        let mut findings = Findings::default();
        self.namespaces = namespace::namespaces(&self.regions, &self.labels, &mut findings);
        self.namespace_findings = findings;
    }

    /// Every finding: of the tables, then of what was built from them.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        let labels = self.label_findings.values().flat_map(error::all);
        let regions = error::all(&self.region_findings);
        error::all(&self.nfit.findings).chain(labels).chain(regions).chain(error::all(&self.namespace_findings))
    }

    /// How far a store to a region must have come to survive power loss. The NFIT tells it of its own regions only.
    #[must_use]
    pub fn persistence_domain(&self, region: &Region) -> PersistenceDomain {
        match region.at {
            Place::Nfit { .. } => self.nfit.capabilities().into(),
            // Linux's: what the device has taken is durable.
            Place::Cxl { .. } => PersistenceDomain::MemoryController,
            Place::Labels { .. } | Place::VirtioPmem { .. } | Place::MemoryMap { .. } => PersistenceDomain::Unknown,
        }
    }

    /// The `k` of a DIMM's name `nmem<k>`.
    #[must_use]
    pub fn dimm_number(&self, handle: DeviceHandle) -> Option<usize> {
        self.dimms.binary_search_by_key(&handle, |dimm| dimm.handle).ok()
    }

    /// A DIMM's labels.
    #[must_use]
    pub fn labels_of(&self, handle: DeviceHandle) -> &Labels {
        self.labels.get(&handle).unwrap_or(&Labels::None)
    }

    /// A region by its number. Numbers have gaps where something was refused.
    #[must_use]
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.binary_search_by_key(&id, |region| region.id).ok().map(|place| &self.regions[place])
    }

    /// The physical addresses to write, one of each DIMM in the region that has any, to flush what was posted.
    #[must_use]
    pub fn flush_hints(&self, region: &Region) -> Vec<u64> {
        let dimms = region.mappings().iter().filter_map(|mapping| self.dimm_number(mapping.dimm));
        dimms.filter_map(|number| self.dimms[number].flush_hints.first().copied()).collect()
    }
}
