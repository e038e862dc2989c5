//! Changes to label areas, and what every cut in their course leaves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use nvdimm::change::{ChangeError, NewNamespace, Step, carry_out, create, destroy, initialise, reclaim};
use nvdimm::error::What;
use nvdimm::extent::Extent;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{Claim, LabelVersion, Labels};
use nvdimm::space;
use nvdimm::{Inventory, discover};
use proptest::prelude::*;
use uuid::Uuid;

use common::{Areas, Builder, Spec, area};

const MIB: u64 = 1 << 20;
/// An index block of these areas.
const INDEX_BYTES: u64 = 256;
const BOTH: [LabelVersion; 2] = [LabelVersion::V1_1, LabelVersion::V1_2];

/// A region over so many interleaved DIMMs of 256 MiB each.
#[derive(Clone)]
struct Dimms {
    nfit: Vec<u8>,
    areas: Areas,
}

impl Dimms {
    fn with(dimms: u32, areas: impl Fn(u32) -> Vec<u8>) -> Self {
        let bytes = 256 * MIB;
        let mut builder = Builder::default().pmem(1, 1 << 32, bytes * u64::from(dimms));
        for handle in 1..=dimms {
            let ways = u16::try_from(dimms).unwrap();
            builder = builder.dimm(handle, 1, bytes, 4096 * u64::from(handle - 1), ways);
        }
        let areas = Areas((1..=dimms).map(|handle| (handle, areas(handle))).collect());
        Self { nfit: builder.table(), areas }
    }

    /// With areas that are labelled, and hold no labels.
    fn labelled(count: u32, version: LabelVersion) -> Self {
        let mut dimms = Self::with(count, |_| vec![]);
        for handle in 1..=count {
            let labels = dimms.labels(handle);
            dimms.carry_out(&initialise(DeviceHandle(handle), common::AREA_BYTES, &labels, version));
        }
        dimms
    }

    fn inventory(&self) -> Inventory {
        discover(&[&self.nfit], &mut self.areas.clone())
    }

    fn labels(&self, handle: u32) -> Labels {
        self.inventory().labels_of(DeviceHandle(handle)).clone()
    }

    fn carry_out(&mut self, steps: &[Step]) {
        carry_out(&mut self.areas, steps).unwrap();
    }

    fn create(&self, number: u8, start: u64, bytes: u64) -> Result<Vec<Step>, ChangeError> {
        let inventory = self.inventory();
        let new = NewNamespace {
            uuid: uuid(number),
            name: "some name",
            claim: Claim::Btt2,
            lba_bytes: 4096,
            extents: vec![Extent { start, bytes }],
        };
        create(&inventory.regions[0], &inventory.labels, &new)
    }

    fn destroy(&self, number: u8) -> Result<Vec<Step>, ChangeError> {
        let inventory = self.inventory();
        destroy(&inventory.regions[0], &inventory.labels, uuid(number))
    }

    fn reclaim(&self) -> Vec<Step> {
        let inventory = self.inventory();
        reclaim(&inventory.regions[0], &inventory.labels).unwrap()
    }

    /// Creates, and it must work.
    fn made(mut self, number: u8, start: u64, bytes: u64) -> Self {
        let steps = self.create(number, start, bytes).unwrap();
        self.carry_out(&steps);
        self
    }

    /// The DIMMs after each cut that may strike in the course of these steps.
    fn cuts(&self, steps: &[Step]) -> impl Iterator<Item = Self> {
        self.areas.cuts(steps).into_iter().map(|areas| Self { nfit: self.nfit.clone(), areas })
    }

    /// The same once the labels in free slots are there, which mean nothing yet.
    fn index_cuts(&self, steps: &[Step]) -> Vec<Self> {
        let is_label = |step: &&Step| step.offset >= 2 * INDEX_BYTES;
        let (labels, blocks) = steps.split_at(steps.iter().take_while(is_label).count());
        let mut labelled = self.clone();
        labelled.carry_out(labels);
        labelled.cuts(blocks).collect()
    }

    /// Which namespaces there are.
    fn shown(&self) -> Vec<String> {
        shown(&self.inventory())
    }

    fn free(&self) -> u64 {
        let inventory = self.inventory();
        space::free(&inventory.regions[0], &inventory.labels).iter().map(|extent| extent.bytes).sum()
    }
}

fn uuid(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

/// Number and place, in MiB.
fn shown(inventory: &Inventory) -> Vec<String> {
    let of = |namespace: &nvdimm::namespace::Namespace| {
        let extent = namespace.extents[0];
        let number = namespace.labelling.as_ref().map_or(0, |labelling| labelling.uuid.as_bytes()[0]);
        format!("{number} at {}+{}", extent.start / MIB, extent.bytes / MIB)
    };
    inventory.namespaces.iter().map(of).collect()
}

fn whats(dimms: &Dimms) -> Vec<What> {
    dimms.inventory().findings().map(|finding| finding.what).collect()
}

#[test]
fn what_was_created_is_found_with_all_that_was_said_of_it() {
    for (dimms, version) in [(1, BOTH[0]), (1, BOTH[1]), (2, BOTH[0]), (2, BOTH[1]), (4, BOTH[1])] {
        let dimms = Dimms::labelled(dimms, version).made(7, 64 * MIB, 128 * MIB);
        let inventory = dimms.inventory();
        assert_eq!(inventory.findings().count(), 0, "{:?}", whats(&dimms));
        let [namespace] = inventory.namespaces.as_slice() else { panic!("one namespace: {:?}", dimms.shown()) };
        assert_eq!(namespace.extents, [Extent { start: 64 * MIB, bytes: 128 * MIB }]);
        let labelling = namespace.labelling.as_ref().unwrap();
        assert_eq!((labelling.version, labelling.uuid, labelling.lba_bytes), (version, uuid(7), 4096));
        assert_eq!(labelling.name, "some name");
        assert_eq!(labelling.claim, if version == LabelVersion::V1_1 { Claim::None } else { Claim::Btt2 });
    }
}

#[test]
fn a_cut_while_creating_leaves_the_old_namespaces_or_the_new_ones() {
    for dimms in 1..=3 {
        for version in BOTH {
            let unit = 48 * MIB;
            let before = Dimms::labelled(dimms, version).made(1, 0, unit).made(2, 4 * unit, unit);
            let steps = before.create(3, 2 * unit, unit).unwrap();
            let (old, mut after) = (before.shown(), before.clone());
            after.carry_out(&steps);
            let new = after.shown();
            assert_eq!((old.len(), new.len()), (2, 3));
            let mut seen = [0, 0];
            for cut in before.cuts(&steps) {
                let found = cut.shown();
                assert!(found == old || found == new, "{dimms} {version}: {found:?}");
                seen[usize::from(found == new)] += 1;
                // Whatever it left, it can be taken away, and done again.
                let mut cut = cut;
                if found == old {
                    let steps = cut.reclaim();
                    cut.carry_out(&steps);
                    assert_eq!(cut.shown(), old);
                    assert_eq!(cut.free(), before.free());
                    let steps = cut.create(3, 2 * unit, unit).unwrap();
                    cut.carry_out(&steps);
                }
                assert_eq!(cut.shown(), new);
                assert_eq!(cut.reclaim(), [], "a set that is whole is left alone");
            }
            assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        }
    }
}

#[test]
fn a_cut_while_destroying_leaves_the_old_namespaces_or_the_new_ones() {
    for dimms in 1..=3 {
        for version in BOTH {
            let unit = 48 * MIB;
            let before = Dimms::labelled(dimms, version).made(1, 0, unit).made(2, unit, unit).made(3, 4 * unit, unit);
            let steps = before.destroy(2).unwrap();
            let (old, mut after) = (before.shown(), before.clone());
            after.carry_out(&steps);
            let new = after.shown();
            assert_eq!((old.len(), new.len()), (3, 2));
            for mut cut in before.cuts(&steps) {
                let found = cut.shown();
                assert!(found == old || found == new, "{dimms} {version}: {found:?}");
                let steps = cut.reclaim();
                cut.carry_out(&steps);
                assert_eq!(cut.shown(), found, "only what makes no namespace is taken away");
                let free = if found == old { before.free() } else { after.free() };
                assert_eq!(cut.free(), free);
            }
        }
    }
}

#[test]
fn a_change_that_a_cut_prevented_does_not_come_back_with_a_cut_in_the_next() {
    let unit = 48 * MIB;
    for version in BOTH {
        let before = Dimms::labelled(1, version).made(1, 0, unit).made(2, unit, unit);
        let old = before.shown();
        let firsts = [before.destroy(1), before.create(3, 2 * unit, unit)].map(Result::unwrap);
        for state in firsts.iter().flat_map(|steps| before.index_cuts(steps)).filter(|state| state.shown() == old) {
            for steps in [state.destroy(2), state.create(4, 3 * unit, unit)].map(Result::unwrap) {
                let mut after = state.clone();
                after.carry_out(&steps);
                let new = after.shown();
                for cut in state.index_cuts(&steps) {
                    let found = cut.shown();
                    assert!(found == old || found == new, "{version}: {found:?}");
                }
            }
        }
    }
}

#[test]
fn a_cut_in_the_first_initialisation_leaves_a_blank_area_or_an_empty_one() {
    for version in BOTH {
        for blank in [vec![], vec![0xff; 128 << 10]] {
            let before = Dimms::with(1, |_| blank.clone());
            let steps = initialise(DeviceHandle(1), common::AREA_BYTES, &before.labels(1), version);
            for (number, cut) in before.cuts(&steps).enumerate() {
                match cut.labels(1) {
                    Labels::Blank { .. } => assert_eq!(cut.shown(), ["0 at 0+256"]),
                    Labels::Valid(set) => assert_eq!((set.labels.len(), set.index.version), (0, version)),
                    other => panic!("cut {number}: {other:?}: {:?}", whats(&cut)),
                }
                // And it can be done again.
                let mut again = cut;
                let steps = initialise(DeviceHandle(1), common::AREA_BYTES, &again.labels(1), version);
                again.carry_out(&steps);
                assert_eq!(again.made(1, 0, 64 * MIB).shown(), ["1 at 0+64"]);
            }
        }
    }
}

#[test]
fn an_area_is_blank_or_empty_after_a_cut_in_its_first_initialisation_and_in_one_of_another_version() {
    for (first, second) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        for blank in [vec![], vec![0xff; 128 << 10]] {
            let before = Dimms::with(1, |_| blank.clone());
            let steps = initialise(DeviceHandle(1), common::AREA_BYTES, &before.labels(1), first);
            // Every seventh, for the sake of time.
            for state in before.cuts(&steps).step_by(7) {
                let steps = initialise(DeviceHandle(1), common::AREA_BYTES, &state.labels(1), second);
                for cut in state.cuts(&steps).step_by(7) {
                    match cut.labels(1) {
                        Labels::Blank { .. } => {}
                        Labels::Valid(set) => assert!(set.labels.is_empty()),
                        other => panic!("{first}, then {second}: {other:?}: {:?}", whats(&cut)),
                    }
                }
            }
        }
    }
}

#[test]
fn a_cut_in_another_initialisation_leaves_all_labels_or_none() {
    for from in BOTH {
        for to in BOTH {
            let before = Dimms::labelled(1, from).made(1, 0, 64 * MIB).made(2, 128 * MIB, 64 * MIB);
            let old = before.shown();
            let steps = initialise(DeviceHandle(1), common::AREA_BYTES, &before.labels(1), to);
            for cut in before.cuts(&steps) {
                match cut.labels(1) {
                    Labels::Blank { .. } => {}
                    Labels::Valid(set) if set.labels.is_empty() => {}
                    Labels::Valid(_) => assert_eq!(cut.shown(), old),
                    other => panic!("{from} to {to}: {other:?}: {:?}", whats(&cut)),
                }
            }
            let mut after = before.clone();
            after.carry_out(&steps);
            let Labels::Valid(set) = after.labels(1) else { panic!("valid") };
            assert_eq!((set.index.version, set.labels.len()), (to, 0));
            // Neither block brings the old labels back.
            for block in [0, 256] {
                let mut damaged = after.clone();
                damaged.areas.0.get_mut(&1).unwrap()[block + 100] ^= 1;
                assert_eq!(damaged.shown(), [""; 0]);
            }
        }
    }
}

#[test]
fn damaged_areas_are_initialised_too() {
    let mut dimms = Dimms::with(1, |_| vec![0x5a; 4096]);
    assert_eq!(dimms.labels(1), Labels::Damaged);
    let steps = initialise(DeviceHandle(1), common::AREA_BYTES, &Labels::Damaged, LabelVersion::V1_2);
    dimms.carry_out(&steps);
    assert_eq!(dimms.made(1, 0, 64 * MIB).shown(), ["1 at 0+64"]);
}

#[test]
fn damage_is_not_taken_for_a_cut_initialisation() {
    let whole = Dimms::labelled(1, LabelVersion::V1_2).made(1, 0, 64 * MIB);
    // Both signatures lost; both blocks' slots lost; all but the bitmaps lost.
    for range in [0..16, 72..80, 0..72] {
        let mut dimms = whole.clone();
        for block in [0, 256] {
            dimms.areas.0.get_mut(&1).unwrap()[range.start + block..range.end + block].fill(0);
        }
        assert_eq!(dimms.labels(1), Labels::Damaged, "{range:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_nothing_is_written() {
    let dimms = Dimms::labelled(2, LabelVersion::V1_2).made(1, 0, 64 * MIB);
    assert_eq!(dimms.create(1, 64 * MIB, 64 * MIB), Err(ChangeError::UuidTaken(uuid(1))));
    assert_eq!(dimms.create(2, 32 * MIB, 64 * MIB), Err(ChangeError::NotFree));
    assert_eq!(dimms.create(2, 480 * MIB, 64 * MIB), Err(ChangeError::NotFree));
    assert_eq!(dimms.create(2, u64::MAX - 8191, 8192), Err(ChangeError::NotFree));
    assert_eq!(dimms.create(2, 64 * MIB, 4096), Err(ChangeError::NotFree), "not to be shared by two");
    assert_eq!(dimms.create(2, 64 * MIB, 0), Err(ChangeError::NotFree));
    assert_eq!(dimms.destroy(2), Err(ChangeError::NoSuchUuid(uuid(2))));
    let inventory = dimms.inventory();
    let named = |name| NewNamespace {
        uuid: uuid(2),
        name,
        claim: Claim::None,
        lba_bytes: 512,
        extents: vec![Extent { start: 64 * MIB, bytes: 64 * MIB }],
    };
    let (fits, too_long) = ("é".repeat(31), "é".repeat(32));
    let try_name = |name| create(&inventory.regions[0], &inventory.labels, &named(name)).map(|_| ());
    assert_eq!(try_name(&fits), Ok(()));
    assert_eq!(try_name(&too_long), Err(ChangeError::BadName));
    assert_eq!(try_name("a\0b"), Err(ChangeError::BadName));

    let one_blank = Dimms::with(2, |handle| if handle == 1 { area([1, 2], &[]) } else { vec![] });
    assert_eq!(one_blank.create(1, 0, 64 * MIB), Err(ChangeError::NotLabelled(DeviceHandle(2))));
    let mut mixed = one_blank.clone();
    mixed.carry_out(&initialise(DeviceHandle(2), common::AREA_BYTES, &mixed.labels(2), LabelVersion::V1_1));
    assert_eq!(mixed.create(1, 0, 64 * MIB), Err(ChangeError::VersionsDiffer));
}

#[test]
fn foreign_and_broken_labels_keep_their_slots_and_their_space() {
    let foreign =
        Spec { uuid: 9, name: "foreign", flags: 0, labels: 1, position: 0, cookie: 0x1234, dpa: 0, bytes: 32 * MIB };
    let updating = Spec { uuid: 8, flags: 8, dpa: 64 * MIB, ..foreign.clone() };
    let dimms = Dimms::with(1, |_| area([1, 2], &[foreign.clone(), updating.clone()]));
    assert_eq!(dimms.shown(), [""; 0]);
    assert_eq!(dimms.reclaim(), [], "labels of another set are left alone, even when marked");
    assert_eq!(dimms.create(1, 16 * MIB, 32 * MIB), Err(ChangeError::NotFree));
    assert_eq!(dimms.create(9, 128 * MIB, 32 * MIB), Err(ChangeError::UuidTaken(uuid(9))));
    assert_eq!(dimms.destroy(9), Err(ChangeError::NoSuchUuid(uuid(9))));
    let inventory = dimms.inventory();
    let (region, labels) = (&inventory.regions[0], &inventory.labels);
    assert_eq!(space::available(region, labels), 192 * MIB);
    let free = space::free(region, labels);
    assert_eq!(free.iter().map(|it| (it.start / MIB, it.bytes / MIB)).collect::<Vec<_>>(), [(32, 32), (96, 160)]);
    assert_eq!(space::first_fit(region, labels, 48 * MIB), Some(Extent { start: 96 * MIB, bytes: 48 * MIB }));
    assert_eq!(space::first_fit(region, labels, 176 * MIB), None);
    let after = dimms.made(1, 32 * MIB, 32 * MIB);
    let Labels::Valid(set) = after.labels(1) else { panic!("valid") };
    assert_eq!(
        set.labels.iter().map(|label| (label.slot, label.uuid)).collect::<Vec<_>>(),
        [(0, uuid(9)), (1, uuid(8)), (2, uuid(1))]
    );

    let mut broken = after;
    broken.areas.0.get_mut(&1).unwrap()[512 + 256 + 10] ^= 1;
    assert_eq!(broken.create(2, 160 * MIB, 32 * MIB), Err(ChangeError::UnknownLabel(DeviceHandle(1))));
    let steps = broken.destroy(1).unwrap();
    broken.carry_out(&steps);
    let Labels::Valid(set) = broken.labels(1) else { panic!("valid") };
    assert_eq!(set.index.active_slots().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn space_is_aligned_as_linux_aligns_it() {
    // A tail that is no multiple of 16 MiB, and a label that begins at an odd page.
    let odd = Spec { uuid: 9, name: "", flags: 0, labels: 1, position: 0, cookie: 1, dpa: 33 * MIB + 4096, bytes: MIB };
    let nfit = Builder::default().pmem(1, 1 << 32, 123 * MIB).dimm(1, 1, 123 * MIB, 0, 1).table();
    let inventory = discover(&[nfit], &mut Areas([(1, area([1, 2], &[odd]))].into()));
    let (region, labels) = (&inventory.regions[0], &inventory.labels);
    let free = space::free(region, labels);
    assert_eq!(free.iter().map(|it| (it.start / MIB, it.bytes / MIB)).collect::<Vec<_>>(), [(0, 32), (48, 64)]);
    assert_eq!(space::available(region, labels), 96 * MIB, "107 MiB, rounded down");

    // Three DIMMs cannot share 16 MiB evenly.
    let three = Dimms::labelled(3, LabelVersion::V1_2);
    assert_eq!(space::align_bytes(&three.inventory().regions[0]), 48 * MIB);
    let two = Dimms::labelled(2, LabelVersion::V1_2);
    assert_eq!(space::align_bytes(&two.inventory().regions[0]), 16 * MIB);
}

#[test]
fn a_full_area_refuses_to_create_and_still_destroys() {
    let filler = |uuid: u8| Spec { uuid, name: "", flags: 0, labels: 1, position: 0, cookie: 1, dpa: 0, bytes: 4096 };
    // 509 of 510 slots: one label could be written, and then none to replace it.
    let labels: Vec<Spec> = (0..508).map(|_| filler(9)).collect();
    let mut dimms = Dimms::with(1, |_| area([1, 2], &labels)).made(1, 64 * MIB, 64 * MIB);
    assert_eq!(dimms.create(2, 128 * MIB, 64 * MIB), Err(ChangeError::NoSlot(DeviceHandle(1))));
    let steps = dimms.destroy(1).unwrap();
    dimms.carry_out(&steps);
    dimms.create(2, 128 * MIB, 64 * MIB).unwrap();
}

#[derive(Clone, Debug)]
enum Action {
    Create { number: u8, start: u64, units: u64 },
    Destroy { number: u8 },
    Reclaim,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (1..6u8, 0..8u64, 1..4u64).prop_map(|(number, start, units)| Action::Create { number, start, units }),
        2 => (1..6u8).prop_map(|number| Action::Destroy { number }),
        1 => Just(Action::Reclaim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any history of changes and cuts shows what a plain list of namespaces would hold, but for the change that the cut
    /// interrupted, which is there or is not.
    #[test]
    fn any_history_with_cuts_keeps_every_other_namespace(
        dimms in 1..3u32,
        v1_2: bool,
        history in proptest::collection::vec((action(), any::<Option<prop::sample::Index>>()), 1..25),
    ) {
        let unit = 32 * MIB;
        let mut dimms = Dimms::labelled(dimms, BOTH[usize::from(v1_2)]);
        let mut model = dimms.shown();
        for (action, cut) in history {
            let steps = match action {
                Action::Create { number, start, units } => dimms.create(number, start * unit, units * unit),
                Action::Destroy { number } => dimms.destroy(number),
                Action::Reclaim => Ok(dimms.reclaim()),
            };
            let Ok(steps) = steps else {
                prop_assert_eq!(dimms.shown(), model.clone());
                continue;
            };
            let mut done = dimms.clone();
            done.carry_out(&steps);
            let goal = done.shown();
            match action {
                Action::Create { .. } => prop_assert_eq!(goal.len(), model.len() + 1),
                // What a cut left of a namespace may be destroyed by its uuid, too.
                Action::Destroy { .. } => prop_assert!(goal.len() <= model.len()),
                Action::Reclaim => prop_assert_eq!(&goal, &model),
            }
            dimms = match cut {
                Some(index) => {
                    let states: Vec<Dimms> = dimms.cuts(&steps).collect();
                    index.get(&states).clone()
                }
                None => done,
            };
            let found = dimms.shown();
            prop_assert!(found == model || found == goal, "{found:?} is neither {model:?} nor {goal:?}");
            model = found;
        }
    }
}
