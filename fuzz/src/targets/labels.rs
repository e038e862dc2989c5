//! A DIMM's label area: what is read from it, and what becomes of it when it is changed.

use nvdimm::change::{NewNamespace, Step, carry_out, create, destroy, initialise, reclaim};
use nvdimm::extent::Extent;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{Claim, LabelError, LabelSource, LabelStore, LabelVersion};
use nvdimm::namespace::Namespace;
use nvdimm::{Inventory, discover, space};
use uuid::Uuid;

use super::sound;

/// One DIMM, as QEMU describes it.
const TABLE: &[u8] = include_bytes!("../../../nvdimm/tests/fixtures/nfit/qemu-one-dimm.nfit");
const AREA_BYTES: usize = 128 << 10;
const INDEX_BYTES: usize = 256;
const NEW: Uuid = Uuid::from_u128(0xF022);

/// The DIMM's label area; it reads as zeroes behind what is given.
#[derive(Clone)]
struct Area(Vec<u8>);

impl Area {
    fn place(offset: u64, bytes: usize) -> usize {
        let at = usize::try_from(offset).expect("in the label area");
        assert!(at.checked_add(bytes).is_some_and(|end| end <= AREA_BYTES), "outside of the label area: {at}, {bytes}");
        at
    }
}

impl LabelSource for Area {
    fn area_bytes(&mut self, _: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(Some(AREA_BYTES as u64))
    }

    fn read(&mut self, _: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let at = Self::place(offset, into.len());
        into.fill(0);
        let there = self.0.get(at..).unwrap_or_default();
        into.iter_mut().zip(there).for_each(|(byte, there)| *byte = *there);
        Ok(())
    }
}

impl LabelStore for Area {
    fn write(&mut self, _: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let at = Self::place(offset, from.len());
        if self.0.len() < at + from.len() {
            self.0.resize(at + from.len(), 0);
        }
        self.0[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// As the bytes are, and as if software had meant them: with labels of either size.
pub(super) fn run(bytes: &[u8]) {
    try_all(&Area(bytes.to_vec()));
    for (label, checksum) in [(256, Some(248)), (128, None)] {
        let mut meant = bytes.to_vec();
        let behind = meant.len().min(2 * INDEX_BYTES);
        let (blocks, labels) = meant.split_at_mut(behind);
        blocks.chunks_mut(INDEX_BYTES).for_each(|block| seal(block, 64));
        if let Some(checksum) = checksum {
            labels.chunks_mut(label).for_each(|label| seal(label, checksum));
        }
        try_all(&Area(meant));
    }
}

fn try_all(area: &Area) {
    let found = look(area);
    let others = |found: &Inventory, uuid: Uuid| -> Vec<(Option<Uuid>, Vec<Extent>)> {
        let uuid_of = |one: &Namespace| one.labelling.as_ref().map(|labelling| labelling.uuid);
        let kept = found.namespaces.iter().filter(|one| uuid_of(one) != Some(uuid));
        kept.map(|one| (uuid_of(one), one.extents.clone())).collect()
    };
    let Some(region) = found.regions.first() else { return };
    if let Ok(steps) = reclaim(region, &found.labels) {
        let after = look(&changed(area, &steps));
        assert_eq!(others(&after, NEW), others(&found, NEW), "what is whole stays");
    }
    let uuids = found.namespaces.iter().filter_map(|one| one.labelling.as_ref()).map(|labelling| labelling.uuid);
    for uuid in uuids.take(3) {
        if let Ok(steps) = destroy(region, &found.labels, uuid) {
            let after = look(&changed(area, &steps));
            assert_eq!(others(&after, uuid), others(&found, uuid), "the others stay");
            assert_eq!(others(&after, NEW), others(&after, uuid), "{uuid} is gone");
        }
    }
    for extent in space::free(region, &found.labels).into_iter().take(2) {
        let new = NewNamespace { uuid: NEW, name: "new", claim: Claim::Btt2, lba_bytes: 512, extents: vec![extent] };
        if let Ok(steps) = create(region, &found.labels, &new) {
            let after = look(&changed(area, &steps));
            assert_eq!(others(&after, NEW), others(&found, NEW), "the others stay");
            assert_eq!(after.namespaces.len(), found.namespaces.len() + 1, "the new one is there");
        }
    }
    let dimm = region.mappings()[0].dimm;
    for version in [LabelVersion::V1_1, LabelVersion::V1_2] {
        let steps = initialise(dimm, AREA_BYTES as u64, found.labels_of(dimm), version);
        let after = look(&changed(area, &steps));
        assert!(after.namespaces.is_empty(), "labels, and none on it");
    }
}

fn look(area: &Area) -> Inventory {
    let found = discover(&[TABLE], &mut area.clone());
    sound::check(&found);
    found
}

fn changed(area: &Area, steps: &[Step]) -> Area {
    let mut area = area.clone();
    carry_out(&mut area, steps).expect("the area takes it");
    area
}

/// Sets the checksum at `at` of a structure, if it has room for it (Fletcher's, of 32-bit words).
fn seal(bytes: &mut [u8], at: usize) {
    let Some(field) = bytes.get_mut(at..at + 8) else { return };
    field.fill(0);
    let (mut low, mut high) = (0_u32, 0_u32);
    for word in bytes.as_chunks::<4>().0 {
        low = low.wrapping_add(u32::from_le_bytes(*word));
        high = high.wrapping_add(low);
    }
    let sum = u64::from(high) << 32 | u64::from(low);
    bytes[at..at + 8].copy_from_slice(&sum.to_le_bytes());
}
