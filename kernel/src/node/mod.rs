//! The node: what the machine's firmware and media hold, and what is done with it.
//!
//! [`Node::assemble`] goes from firmware bytes to open disks; the node then answers the admin commands
//! ([`service::appliance::Appliance`]). It touches no hardware but through [`Machine`] and the drivers, so it runs on a
//! host as well.

mod appliance;
mod attach;
mod bench;
mod content;
mod create;
mod disk;
mod inventory;
mod machine;
mod nfit;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use attach::State;
use drivers::persist::Persist;
use drivers::phys::PhysAddr;
use drivers::pmem::{Access, PmemRegion};
pub use machine::Machine;
use nvdimm::dimm::{Dimm, dimms};
use nvdimm::error::Findings;
use nvdimm::label;
use nvdimm::namespace::{LabelsByDimm, Namespace, namespaces};
use nvdimm::nfit::{Capabilities, Nfit};
use nvdimm::region::{Kind, Region, regions};

/// Everything that was found, and what is open.
pub struct Node<M: Machine> {
    machine: M,
    nfit: Nfit,
    /// What was refused beyond the tables themselves: regions, labels, namespaces.
    findings: Findings,
    dimms: Vec<Dimm>,
    labels: LabelsByDimm,
    regions: Vec<RegionSlot>,
    persist: Persist,
    /// BTTs that had interrupted writes to finish, since boot.
    unclean_shutdowns: u64,
}

/// A region, mapped.
struct RegionSlot {
    region: Region,
    /// The mapping, or why there is none.
    medium: Result<PmemRegion, String>,
    namespaces: Vec<NamespaceSlot>,
}

/// A namespace, and what became of it.
struct NamespaceSlot {
    namespace: Namespace,
    state: State,
}

impl<M: Machine> Node<M> {
    /// Finds and opens all that the firmware names. What cannot be used is logged, and left out.
    pub fn assemble(machine: M) -> Self {
        let nfit = Nfit::parse(machine.nfits());
        for finding in nfit.findings.iter() {
            machine.log(format_args!("nfit: {finding}"));
        }
        let mut findings = Findings::default();
        let dimms = dimms(&nfit);
        let all_regions = regions(&nfit, &mut findings);
        let labels = read_labels(&machine, &dimms, &mut findings);
        let all_namespaces = namespaces(&all_regions, &labels, &mut findings);
        for finding in findings.iter() {
            machine.log(format_args!("nvdimm: {finding}"));
        }
        let persist = Persist::detect(nfit.capabilities().contains(Capabilities::CPU_CACHE_FLUSH));
        let mut node =
            Self { machine, nfit, findings, dimms, labels, regions: Vec::new(), persist, unclean_shutdowns: 0 };
        for region in all_regions {
            let medium = node.map(&region);
            if let Err(why) = &medium {
                node.machine.log(format_args!("{}: not mapped: {why}", region.id));
            }
            node.regions.push(RegionSlot { region, medium, namespaces: Vec::new() });
        }
        for namespace in all_namespaces {
            node.add(namespace);
        }
        node
    }

    /// Maps a region, with a flush hint for each of its DIMMs that has one.
    fn map(&self, region: &Region) -> Result<PmemRegion, String> {
        let Kind::Pmem(pmem) = &region.kind else {
            return Err("it is reached through block windows, which this version does not drive".to_string());
        };
        let of_region = |dimm: &&Dimm| pmem.mappings.iter().any(|mapping| mapping.dimm == dimm.handle);
        let hints: Vec<PhysAddr> = self
            .dimms
            .iter()
            .filter(of_region)
            .filter_map(|dimm| dimm.flush_hints.first().copied().map(PhysAddr))
            .collect();
        let access = if region.read_only { Access::ReadOnly } else { Access::ReadWrite };
        PmemRegion::map(self.machine.map(), PhysAddr(pmem.base), pmem.bytes, &hints, access, self.persist)
            .map_err(|why| why.to_string())
    }

    /// Opens a namespace and puts it in its region.
    fn add(&mut self, namespace: Namespace) {
        let Some(index) = self.regions.iter().position(|slot| slot.region.id == namespace.id.region) else { return };
        let state = match &self.regions[index].medium {
            Ok(medium) => self.attach(medium, &namespace),
            Err(why) => State::Held(why.clone()),
        };
        self.machine.log(format_args!("{}: {state}", namespace.id));
        if let State::Sector(disk) = &state
            && disk.btt.recovered_writes() > 0
        {
            self.unclean_shutdowns += 1;
        }
        self.regions[index].namespaces.push(NamespaceSlot { namespace, state });
    }

    /// The machine below.
    pub const fn machine(&self) -> &M {
        &self.machine
    }
}

/// Reads every DIMM's label area.
fn read_labels<M: Machine>(machine: &M, dimms: &[Dimm], findings: &mut Findings) -> LabelsByDimm {
    let mut source = machine.labels();
    dimms.iter().map(|dimm| (dimm.handle, label::read(source.as_mut(), dimm.handle, findings))).collect()
}
