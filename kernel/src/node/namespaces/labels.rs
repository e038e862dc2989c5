//! Label areas: `init-labels`, and what a change to them changes in the node.

use super::create::may_format;
use super::switch::alike;
use crate::node::{Machine, NamespaceSlot, Node, SlotPlace};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use nvdimm::change::{self, Step};
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{self, Labels};
use service::admin::commands::namespaces::labels::{InitLabels, LabelArea, LabelVersion};
use service::error::AdminError;

impl<M: Machine> Node<M> {
    /// Gives a DIMM label index blocks, and no labels. The namespaces on it go.
    pub(super) fn initialise_label_area(
        &mut self,
        dimm: DeviceHandle,
        request: &InitLabels,
    ) -> Result<LabelArea, AdminError> {
        let &InitLabels { dimm: ref name, version, force } = request;
        let refused = |why: &str| Err(AdminError::failed(format!("{name}: {why}")));
        let area_bytes = match self.found.labels_of(dimm) {
            Labels::None => return refused("it has no label area"),
            Labels::Blank { area_bytes } => *area_bytes,
            _ if !force => return refused("its labels are valid or damaged: -f writes new ones over them"),
            Labels::Valid(set) => set.area_bytes,
            Labels::Damaged => match self.machine.labels().area_bytes(dimm) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return refused("it has no label area"),
                Err(why) => return refused(&why.to_string()),
            },
        };
        let on_dimm = self.namespaces_on(dimm);
        for &place in &on_dimm {
            let region = &self.regions[place.region].region;
            if region.read_only {
                return Err(AdminError::read_only(format!("{} is read-only: a DIMM of it is not armed", region.id)));
            }
            // By force their labels go, and nothing else of them: what they hold counts for free space.
            if !force {
                may_format(self.at(place), force)?;
            }
        }
        let closed = self.close(&on_dimm)?;
        let wanted = label_version(version);
        let steps = change::initialise(dimm, area_bytes, self.found.labels_of(dimm), wanted);
        if let Err(why) = self.change_labels(&steps) {
            self.reopen(closed);
            return Err(why);
        }
        match self.found.labels_of(dimm) {
            Labels::Valid(set) if set.index.version == wanted && set.labels.is_empty() => {
                self.machine.log(format_args!("{name}: labels {}, {} slots", version.as_str(), set.index.slots));
                Ok(LabelArea { dev: name.to_string(), label_version: version, slots: set.index.slots })
            }
            _ => Err(AdminError::damaged(format!("{name}: the labels do not read as they were written"))),
        }
    }

    /// The namespaces of all regions that a DIMM has a share of.
    pub(super) fn namespaces_on(&self, dimm: DeviceHandle) -> Vec<SlotPlace> {
        let with_dimm = |region: usize| self.regions[region].region.mappings().iter().any(|it| it.dimm == dimm);
        let places = |region: usize| {
            (0..self.regions[region].namespaces.len()).map(move |namespace| SlotPlace { region, namespace })
        };
        (0..self.regions.len()).filter(|&region| with_dimm(region)).flat_map(places).collect()
    }

    /// Writes to label areas, then reads them, and has the namespaces that they describe: those that are the same stay as
    /// they are; those that are gone must not be open.
    pub(super) fn change_labels(&mut self, steps: &[Step]) -> Result<(), AdminError> {
        let mut dimms: Vec<DeviceHandle> = steps.iter().map(|step| step.dimm).collect();
        dimms.sort_unstable();
        dimms.dedup();
        let mut store = self.machine.labels();
        let written = change::carry_out(store.as_mut(), steps);
        self.found.read_labels(&dimms, store.as_mut());
        drop(store);
        self.follow_labels();
        written.map_err(|why| AdminError::failed(format!("the labels were not written: {why}")))
    }

    /// Brings the node's namespaces to those that the labels describe.
    fn follow_labels(&mut self) {
        let found = self.found.namespaces.clone();
        for region in &mut self.regions {
            // Labels that cannot be read do not mean that anything is gone.
            if region.region.mappings().iter().any(|it| *self.found.labels_of(it.dimm) == Labels::Damaged) {
                continue;
            }
            let stays = |slot: &NamespaceSlot| {
                found.iter().any(|it| it.id.region == region.region.id && alike(it, &slot.namespace))
            };
            region.namespaces.retain(stays);
        }
        for mut namespace in found {
            let Some(region) = self.regions.iter().find(|it| it.region.id == namespace.id.region) else { continue };
            if region.namespaces.iter().any(|slot| alike(&namespace, &slot.namespace)) {
                continue;
            }
            // Numbers are by address at boot; afterwards, those that are there keep theirs.
            let taken = |number: &u32| region.namespaces.iter().any(|slot| slot.namespace.id.number == *number);
            namespace.id.number = (0..).find(|number| !taken(number)).unwrap_or(u32::MAX);
            self.add(namespace);
        }
        for region in &mut self.regions {
            region.namespaces.sort_by_key(|slot| slot.namespace.id);
        }
    }
}

/// The same version in the other crate's words.
pub(super) const fn label_version(version: LabelVersion) -> label::LabelVersion {
    match version {
        LabelVersion::V1_1 => label::LabelVersion::V1_1,
        LabelVersion::V1_2 => label::LabelVersion::V1_2,
    }
}
