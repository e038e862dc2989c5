//! Label areas: `init-labels`, and the update of the node's namespaces after a change of labels.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use nvdimm::change::{self, Step};
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{self, Labels, can_hold_labels};
use service::admin::commands::namespaces::labels::{InitLabels, LabelArea, LabelFormat};
use service::error::AdminError;
use service::events::{Kind, Severity};

use super::create::{may_format, region_is_read_only};
use super::switch::alike;
use crate::node::{Machine, NamespaceSlot, Node, SlotPlace};

impl<M: Machine> Node<M> {
    /// Gives a DIMM label index blocks, and no labels. This removes the namespaces on it.
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
        if !can_hold_labels(area_bytes) {
            return refused(&format!("a label area of {area_bytes} bytes is not supported"));
        }
        let on_dimm = self.namespaces_on(dimm);
        for &place in &on_dimm {
            let region = &self.regions[place.region].region;
            if region.read_only {
                return Err(region_is_read_only(region));
            }
            // By force only their labels are removed: their bytes stay, and count as free space.
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
                let what = format_args!("labels {}, {} slots", version.as_str(), set.index.slots);
                self.tell(Severity::Info, Kind::Namespace, &name, what);
                Ok(LabelArea { dev: name.to_string(), label_version: version, slots: set.index.slots })
            }
            _ => {
                self.reopen(closed);
                Err(self.not_read_back(dimm))
            }
        }
    }

    /// Returns the namespaces of all regions that a DIMM has a share of.
    pub(super) fn namespaces_on(&self, dimm: DeviceHandle) -> Vec<SlotPlace> {
        let with_dimm = |region: usize| self.regions[region].region.mappings().iter().any(|it| it.dimm == dimm);
        let places = |region: usize| {
            (0..self.regions[region].namespaces.len()).map(move |namespace| SlotPlace { region, namespace })
        };
        (0..self.regions.len()).filter(|&region| with_dimm(region)).flat_map(places).collect()
    }

    /// Writes to label areas, reads them back, and updates the node's namespaces: those that the labels describe as
    /// before stay as they are. The caller has closed those that go.
    ///
    /// # Errors
    /// The labels were not written, or do not read back: then nothing is known of what the areas hold, and the
    /// namespaces stay.
    pub(super) fn change_labels(&mut self, steps: &[Step]) -> Result<(), AdminError> {
        let mut dimms: Vec<DeviceHandle> = steps.iter().map(|step| step.dimm).collect();
        dimms.sort_unstable();
        dimms.dedup();
        let mut store = self.machine.labels();
        let written = change::carry_out(store.as_mut(), steps);
        self.found.read_labels(&dimms, store.as_mut());
        drop(store);
        self.follow_labels();
        written.map_err(|why| AdminError::failed(format!("the labels were not written: {why}")))?;
        match dimms.iter().find(|dimm| !matches!(self.found.labels_of(**dimm), Labels::Valid(_))) {
            Some(&dimm) => Err(self.not_read_back(dimm)),
            None => Ok(()),
        }
    }

    /// Returns the error about labels that were written and do not read back (invariant 5).
    fn not_read_back(&self, dimm: DeviceHandle) -> AdminError {
        let number = self.found.dimm_number(dimm).expect("labels are written to DIMMs that were found");
        AdminError::damaged(format!("the labels of nmem{number} do not read as they were written"))
    }

    /// Updates the node's namespaces to those that the labels describe.
    fn follow_labels(&mut self) {
        let found = self.found.namespaces.clone();
        for region in &mut self.regions {
            // Labels that cannot be read do not show that a namespace is gone.
            if region.region.mappings().iter().any(|it| *self.found.labels_of(it.dimm) == Labels::Damaged) {
                continue;
            }
            let stays = |slot: &NamespaceSlot| {
                found.iter().any(|it| it.id.region == region.region.id && alike(it, &slot.namespace))
            };
            region.namespaces.retain(stays);
        }
        for mut namespace in found {
            let region = self.regions.iter().find(|it| it.region.id == namespace.id.region);
            let region = region.expect("a namespace lies in a region that was found");
            if region.namespaces.iter().any(|slot| alike(&namespace, &slot.namespace)) {
                continue;
            }
            // Namespaces are numbered by address at boot; later, each keeps its number.
            let taken = |number: &u32| region.namespaces.iter().any(|slot| slot.namespace.id.number == *number);
            namespace.id.number = (0..).find(|number| !taken(number)).expect("there are fewer namespaces than numbers");
            self.add(namespace);
        }
        for region in &mut self.regions {
            region.namespaces.sort_by_key(|slot| slot.namespace.id);
        }
        self.is_told();
    }
}

/// Translates a label version from service's words to nvdimm's.
pub(super) const fn label_version(version: LabelFormat) -> label::LabelVersion {
    match version {
        LabelFormat::V1_1 => label::LabelVersion::V1_1,
        LabelFormat::V1_2 => label::LabelVersion::V1_2,
    }
}
