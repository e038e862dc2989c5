//! Label areas: those that Linux made, and damaged ones; sets over two DIMMs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeMap;

use nvdimm::error::What;
use nvdimm::label::{Claim, IndexFault, LABELS_MAX, LabelFault, LabelVersion, Labels, NoLabels};
use nvdimm::namespace::{BttPlace, Torn};
use nvdimm::{Inventory, discover};
use nvdimm::{label, namespace};

use common::{Areas, Builder, Spec, area, seal};

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/labels/", $name, ".bin")).as_slice()
    };
}

const MIB: u64 = 1 << 20;

/// QEMU's first DIMM, with this label area.
fn qemu(area: &[u8]) -> Inventory {
    let nfit = include_bytes!("fixtures/nfit/qemu-one-dimm.nfit");
    discover(&[nfit], &mut Areas([(1, area.to_vec())].into()))
}

fn shown(inventory: &Inventory) -> Vec<String> {
    inventory
        .namespaces
        .iter()
        .map(|namespace| {
            let uuid = namespace.labelling.as_ref().map_or(String::from("-"), |it| it.uuid.to_string());
            let extent = namespace.extents[0];
            format!("{} {uuid} {:#x}+{:#x} {:?}", namespace.id, extent.start, extent.bytes, namespace.btt_place())
        })
        .collect()
}

fn whats(inventory: &Inventory) -> Vec<What> {
    inventory.findings().map(|finding| finding.what).collect()
}

#[test]
fn labels_that_linux_made_are_namespaces_with_their_bytes_and_their_btts_place() {
    let inventory = qemu(golden!("l11-512"));
    assert_eq!(shown(&inventory), ["namespace0.0 6286ed82-8151-4874-858a-6d0e1a6766fe 0x0+0x2000000 Some(V1_1)"]);
    assert_eq!(whats(&inventory), []);
    let labelling = inventory.namespaces[0].labelling.as_ref().unwrap();
    assert_eq!((labelling.version, labelling.claim), (LabelVersion::V1_1, Claim::None));
    let Labels::Valid(set) = inventory.labels_of(inventory.dimms[0].handle) else { panic!("valid labels") };
    assert_eq!((set.index.slots, set.index.label_offset), (1020, 512));

    let inventory = qemu(golden!("l12-512"));
    assert_eq!(shown(&inventory), ["namespace0.0 21704d23-024c-4b18-8e35-7a42a8bcdb46 0x0+0x2000000 Some(V2_0)"]);
    assert_eq!(whats(&inventory), []);

    let inventory = qemu(golden!("l12-two"));
    assert_eq!(
        shown(&inventory),
        [
            "namespace0.0 8e7d0f53-584c-4f12-9586-ea4f683d1546 0x0+0x2000000 Some(V2_0)",
            "namespace0.1 3a2bf5e1-42a2-4e2d-979f-7da84bb551e4 0x2000000+0x2000000 Some(V2_0)",
        ]
    );
    assert_eq!(whats(&inventory), []);
}

#[test]
fn the_btts_place_follows_the_claim() {
    let mut area = golden!("l12-512").to_vec();
    let mut with = |guid: [u8; 16]| {
        // The golden area's live label stands in slot 1.
        let label = &mut area[512 + 256..512 + 512];
        label[144..160].copy_from_slice(&guid);
        seal(label, 248);
        let namespace = qemu(&area).namespaces.remove(0);
        (namespace.labelling.as_ref().unwrap().claim, namespace.btt_place())
    };
    assert_eq!(with([0; 16]), (Claim::None, Some(BttPlace::V1_1)));
    let btt = uuid::uuid!("8aed63a2-29a2-4c66-8b12-f05d15d3922a");
    assert_eq!(with(btt.to_bytes_le()), (Claim::Btt, Some(BttPlace::V1_1)));
    let pfn = uuid::uuid!("266400ba-fb9f-4677-bcb0-968f11d0d225");
    assert_eq!(with(pfn.to_bytes_le()), (Claim::Pfn, None));
    let dax = uuid::uuid!("97a86d9c-3cdd-4eda-986f-5068b4f80088");
    assert_eq!(with(dax.to_bytes_le()), (Claim::Dax, None));
    assert!(matches!(with([7; 16]), (Claim::Unknown(_), None)));
}

#[test]
fn a_dimm_without_labels_or_with_a_blank_area_is_one_namespace() {
    let whole = ["namespace0.0 - 0x0+0x4000000 Some(V1_1)"];
    let nfit = include_bytes!("fixtures/nfit/qemu-one-dimm.nfit");
    assert_eq!(shown(&discover(&[nfit], &mut NoLabels)), whole);
    for blank in [vec![], vec![0xff; 128 << 10]] {
        let inventory = qemu(&blank);
        assert_eq!(shown(&inventory), whole);
        assert_eq!(whats(&inventory), []);
    }
}

#[test]
fn labels_without_namespaces_leave_the_region_empty() {
    let inventory = qemu(&area([1, 0], &[]));
    assert!(inventory.namespaces.is_empty());
    assert_eq!(inventory.regions.len(), 1);
}

#[test]
fn one_damaged_index_block_is_enough_told_and_two_stop_the_region() {
    let mut area = golden!("l12-512").to_vec();
    let Labels::Valid(set) = qemu(&area).labels_of(nvdimm::identity::DeviceHandle(1)).clone() else { panic!("valid") };
    let spare = usize::from(1 - set.block);
    area[256 * spare + 100] ^= 1;
    let inventory = qemu(&area);
    assert_eq!(inventory.namespaces.len(), 1);
    assert_eq!(
        whats(&inventory),
        [What::Label(label::Fault::BadIndex { block: 1 - set.block, why: IndexFault::Checksum })]
    );

    area[256 * usize::from(set.block) + 100] ^= 1;
    let inventory = qemu(&area);
    assert!(inventory.namespaces.is_empty(), "nothing is laid over what may be there");
    assert!(whats(&inventory).contains(&What::Label(label::Fault::NoIndex)));
    assert!(
        whats(&inventory)
            .contains(&What::Namespace(namespace::Fault::LabelsUnknown { dimm: nvdimm::identity::DeviceHandle(1) }))
    );
}

#[test]
fn the_index_block_with_the_following_sequence_number_is_in_force() {
    for (sequences, expected) in [
        ([1, 2], Some(1)),
        ([2, 3], Some(1)),
        ([3, 1], Some(1)),
        ([2, 1], Some(0)),
        ([3, 2], Some(0)),
        ([1, 3], Some(0)),
        ([2, 2], Some(1)),
        ([1, 0], Some(0)),
        ([0, 3], Some(1)),
        ([4, 5], Some(1)),
        ([0, 0], None),
    ] {
        let inventory = qemu(&area(sequences, &[]));
        let block = match inventory.labels_of(nvdimm::identity::DeviceHandle(1)) {
            Labels::Valid(set) => Some(set.block),
            _ => None,
        };
        assert_eq!(block, expected, "{sequences:?}");
    }
}

#[test]
fn index_blocks_with_wrong_fields_are_not_valid() {
    let cases: &[(usize, &[u8], IndexFault)] = &[
        (0, b"X", IndexFault::Signature),
        (19, &[2], IndexFault::LabelSize),
        (19, &[57], IndexFault::LabelSize),
        (20, &[4], IndexFault::Sequence),
        (24, &[1], IndexFault::Offsets),
        (41, &[9], IndexFault::Offsets),
        (48, &[1], IndexFault::Offsets),
        (32, &[71, 0], IndexFault::Size),
        (32, &[1, 1], IndexFault::Size),
        (32, &[0xff; 8], IndexFault::Size),
        (56, &[0xff, 1, 0, 0], IndexFault::Slots),
        // 2^24 slots of 256 bytes are 2^32: nothing in 32 bits.
        (56, &[0, 0, 0, 1], IndexFault::Slots),
        (56, &[0xff; 4], IndexFault::Slots),
    ];
    for (at, bytes, expected) in cases {
        let mut area = area([1, 0], &[]);
        let block = &mut area[..256];
        block[*at..at + bytes.len()].copy_from_slice(bytes);
        seal(block, 64);
        let found = whats(&qemu(&area));
        assert!(
            found.contains(&What::Label(label::Fault::BadIndex { block: 0, why: *expected })),
            "{at} {bytes:?}: {found:?}"
        );
    }
}

#[test]
fn an_index_block_that_counts_less_than_its_place_is_summed_over_what_it_counts() {
    let mut area = area([1, 0], &[]);
    let block = &mut area[..256];
    block[32..40].copy_from_slice(&136u64.to_le_bytes());
    seal(&mut block[..136], 64);
    assert!(matches!(qemu(&area).labels_of(nvdimm::identity::DeviceHandle(1)), Labels::Valid(_)));
    let block = &mut area[..256];
    block[32..40].copy_from_slice(&128u64.to_le_bytes());
    seal(&mut block[..128], 64);
    let why = IndexFault::Size;
    assert!(
        whats(&qemu(&area)).contains(&What::Label(label::Fault::BadIndex { block: 0, why })),
        "no room for 510 bits"
    );
}

#[test]
fn labels_with_wrong_fields_are_refused_and_the_others_stay() {
    let cases: &[(usize, u8, bool, LabelFault)] = &[
        (120, 9, true, LabelFault::Slot),
        (104, 1, true, LabelFault::Extent),
        (112, 1, true, LabelFault::Extent),
        (119, 0xff, true, LabelFault::Extent),
        (250, 1, false, LabelFault::Checksum),
    ];
    for &(at, value, sealed, why) in cases {
        let mut area = golden!("l12-two").to_vec();
        let Labels::Valid(set) = qemu(&area).labels_of(nvdimm::identity::DeviceHandle(1)).clone() else {
            panic!("valid")
        };
        let slot = set.labels[0].slot;
        let start = 512 + 256 * slot as usize;
        let label = &mut area[start..start + 256];
        label[at] ^= value;
        if at == 119 {
            label[104..112].fill(0xf0);
            label[104..106].fill(0);
        }
        if sealed {
            seal(label, 248);
        }
        let inventory = qemu(&area);
        assert_eq!(whats(&inventory), [What::Label(label::Fault::BadLabel { slot, why })], "{at}");
        assert_eq!(inventory.namespaces.len(), 1, "{at}");
    }
}

/// Two interleaved DIMMs of 64 MiB each, with these label areas.
fn pair(areas: [Option<Vec<u8>>; 2]) -> Inventory {
    let nfit =
        Builder::default().pmem(1, 1 << 32, 128 * MIB).dimm(1, 1, 64 * MIB, 0, 2).dimm(2, 1, 64 * MIB, 4096, 2).table();
    let areas = (1..).zip(areas).filter_map(|(handle, area)| Some((handle, area?)));
    discover(&[nfit], &mut Areas(areas.collect()))
}

fn pair_cookie() -> u64 {
    pair([None, None]).regions[0].cookies().unwrap().v1_2
}

fn spec(uuid: u8, position: u16) -> Spec {
    let cookie = pair_cookie();
    Spec { uuid, name: "both", flags: 0, labels: 2, position, cookie, dpa: 16 * MIB, bytes: 32 * MIB }
}

#[test]
fn a_set_over_two_dimms_is_one_namespace() {
    let areas = [area([1, 2], &[spec(7, 0)]), area([3, 1], &[spec(7, 1)])].map(Some);
    let inventory = pair(areas);
    assert_eq!(shown(&inventory), ["namespace0.0 07070707-0707-0707-0707-070707070707 0x2000000+0x4000000 Some(V1_1)"]);
    assert_eq!(whats(&inventory), []);
    assert_eq!(inventory.namespaces[0].labelling.as_ref().unwrap().name, "both");
}

#[test]
fn a_set_that_is_not_whole_is_refused_and_the_others_go_on() {
    let whole = [spec(9, 0), spec(9, 1)].map(|spec| Spec { dpa: 0, bytes: 16 * MIB, ..spec });
    let second = nvdimm::identity::DeviceHandle(2);
    type Change = fn(&mut Spec);
    let cases: &[(Option<Change>, Torn)] = &[
        (None, Torn::Missing(second)),
        (Some(|it| it.labels = 3), Torn::Count),
        (Some(|it| it.position = 0), Torn::Positions),
        (Some(|it| it.position = 2), Torn::Positions),
        (Some(|it| it.name = "other"), Torn::Disagree),
        (Some(|it| it.bytes = 16 * MIB), Torn::Disagree),
        (Some(|it| it.dpa = 20 * MIB), Torn::Disagree),
        (Some(|it| it.flags = 1), Torn::Disagree),
    ];
    for (change, why) in cases {
        for flag in [0, 8] {
            let first = Spec { flags: flag, ..spec(7, 0) };
            let mut on_second = vec![whole[1].clone()];
            if let Some(change) = change {
                let mut changed = spec(7, 1);
                change(&mut changed);
                on_second.push(changed);
            }
            let inventory = pair([area([1, 2], &[whole[0].clone(), first]), area([1, 2], &on_second)].map(Some));
            let slot = 1;
            assert_eq!(
                whats(&inventory),
                [What::Namespace(namespace::Fault::TornSet { slot, why: *why, updating: flag != 0 })]
            );
            assert_eq!(
                shown(&inventory),
                ["namespace0.0 09090909-0909-0909-0909-090909090909 0x0+0x2000000 Some(V1_1)"]
            );
        }
    }
}

#[test]
fn two_labels_of_one_set_on_one_dimm_are_refused() {
    let elsewhere = Spec { dpa: 48 * MIB, bytes: 4096, ..spec(7, 0) };
    let inventory = pair([area([1, 2], &[spec(7, 0), elsewhere]), area([1, 2], &[spec(7, 1)])].map(Some));
    let why = Torn::Twice(nvdimm::identity::DeviceHandle(1));
    assert_eq!(whats(&inventory), [What::Namespace(namespace::Fault::TornSet { slot: 1, why, updating: false })]);
    assert!(inventory.namespaces.is_empty());
}

#[test]
fn a_set_that_agrees_is_served_though_it_is_marked_as_being_updated() {
    for flags in [[8, 0], [0, 8], [8, 8]] {
        let labels = [spec(7, 0), spec(7, 1)];
        let mut marked = labels.into_iter().zip(flags).map(|(spec, flags)| area([1, 2], &[Spec { flags, ..spec }]));
        let inventory = pair([marked.next(), marked.next()]);
        assert_eq!(inventory.namespaces.len(), 1);
        assert_eq!(whats(&inventory), [What::Namespace(namespace::Fault::Updating { slot: 0 })]);
    }
}

#[test]
fn labels_of_other_dimms_are_refused() {
    let cookie = 0x1234;
    let foreign = [spec(7, 0), spec(7, 1)].map(|spec| Some(area([1, 2], &[Spec { cookie, ..spec }])));
    let inventory = pair(foreign);
    assert_eq!(whats(&inventory), [What::Namespace(namespace::Fault::ForeignCookie { slot: 0, cookie }); 2]);
    assert!(inventory.namespaces.is_empty());
    // The second DIMM's labels in the first one's slot.
    let inventory = pair([area([1, 2], &[]), area([1, 2], &[spec(7, 1)])].map(Some));
    assert!(matches!(
        whats(&inventory)[..],
        [What::Namespace(namespace::Fault::TornSet { why: Torn::Missing(_), .. })]
    ));
}

#[test]
fn a_region_with_one_dimm_without_labels_has_only_torn_sets() {
    let inventory = pair([Some(area([1, 2], &[spec(7, 0)])), None]);
    assert!(inventory.namespaces.is_empty());
    assert!(matches!(
        whats(&inventory)[..],
        [What::Namespace(namespace::Fault::TornSet { why: Torn::Missing(_), .. })]
    ));
}

#[test]
fn labels_that_overlap_or_leave_their_region_are_refused() {
    let on_both = |specs: [Spec; 2]| {
        let of = |position| specs.clone().map(|spec| Spec { position, ..spec });
        pair([area([1, 2], &of(0)), area([1, 2], &of(1))].map(Some))
    };
    let inventory = on_both([spec(7, 0), Spec { dpa: 40 * MIB, bytes: 16 * MIB, ..spec(9, 0) }]);
    assert_eq!(
        whats(&inventory),
        [
            What::Namespace(namespace::Fault::LabelsOverlap { slot: 0 }),
            What::Namespace(namespace::Fault::LabelsOverlap { slot: 1 })
        ]
    );
    assert!(inventory.namespaces.is_empty());

    let inventory = on_both([spec(7, 0), Spec { dpa: 56 * MIB, bytes: 16 * MIB, ..spec(9, 0) }]);
    assert_eq!(whats(&inventory), [What::Namespace(namespace::Fault::LabelOutsideRegion { slot: 1 })]);
    assert_eq!(inventory.namespaces.len(), 1);

    let inventory = on_both([spec(7, 0), Spec { dpa: 64 * MIB, bytes: 16 * MIB, ..spec(9, 0) }]);
    assert_eq!(whats(&inventory), [What::Namespace(namespace::Fault::LabelOutsideRegion { slot: 1 }); 2]);
    assert_eq!(inventory.namespaces.len(), 1);
}

#[test]
fn namespaces_are_numbered_by_the_bytes_of_their_addresses_as_linux_does() {
    // Both DIMMs' shares begin at 4 GiB: 0x1_0000_0000, 0x1_0200_0000 and 0x1_0010_0000 as little-endian bytes.
    let at = |uuid, position, dpa| Spec { dpa, bytes: 4096, ..spec(uuid, position) };
    let labels = |position| [at(1, position, 0), at(2, position, 16 * MIB), at(3, position, MIB / 2)];
    let inventory = pair([area([1, 2], &labels(0)), area([1, 2], &labels(1))].map(Some));
    let starts: Vec<_> = inventory.namespaces.iter().map(|namespace| namespace.extents[0].start).collect();
    assert_eq!(starts, [0, 32 * MIB, MIB]);
}

#[test]
fn a_read_only_label_makes_its_namespace_read_only() {
    let labels = [spec(7, 0), spec(7, 1)].map(|spec| Some(area([1, 2], &[Spec { flags: 1, ..spec }])));
    assert!(pair(labels).namespaces[0].read_only);
}

#[test]
fn an_area_that_cannot_be_read_stops_its_region() {
    struct Mute;
    impl nvdimm::label::LabelSource for Mute {
        fn area_bytes(&mut self, _: nvdimm::identity::DeviceHandle) -> Result<Option<u64>, nvdimm::label::LabelError> {
            Ok(Some(128 << 10))
        }
        fn read(
            &mut self,
            _: nvdimm::identity::DeviceHandle,
            _: u64,
            _: &mut [u8],
        ) -> Result<(), nvdimm::label::LabelError> {
            Err(nvdimm::label::LabelError::Status(3))
        }
    }
    let inventory = discover(&[include_bytes!("fixtures/nfit/qemu-one-dimm.nfit")], &mut Mute);
    assert!(inventory.namespaces.is_empty());
    let error = nvdimm::label::LabelError::Status(3);
    assert_eq!(whats(&inventory)[0], What::Label(label::Fault::LabelsUnreadable { error }));
}

#[test]
fn labels_of_all_dimms_together_are_bounded_and_those_beyond_are_told_of() {
    let spec = |slot: u64| Spec {
        uuid: 1,
        name: "",
        flags: 0,
        labels: 1,
        position: 0,
        cookie: 0,
        dpa: slot * 4096,
        bytes: 4096,
    };
    let full = area([1, 2], &(0..510).map(spec).collect::<Vec<_>>());
    let dimms = u32::try_from(LABELS_MAX / 510 + 2).unwrap();
    let table = (1..=dimms).fold(Builder::default(), |table, handle| {
        let index = u16::try_from(handle).unwrap();
        table.pmem(index, u64::from(handle) << 32, 1 << 30).dimm(handle, index, 1 << 30, 0, 1)
    });
    let areas: BTreeMap<u32, Vec<u8>> = (1..=dimms).map(|handle| (handle, full.clone())).collect();
    let mut areas = Areas(areas);
    let mut inventory = discover(&[table.table()], &mut areas);
    let kept = |inventory: &Inventory| inventory.labels.values().map(Labels::count).sum::<usize>();
    let beyond = |inventory: &Inventory| {
        whats(inventory)
            .into_iter()
            .filter(|what| matches!(what, What::Label(label::Fault::TooManyLabels { labels: 510, .. })))
            .count()
    };
    assert_eq!((kept(&inventory), beyond(&inventory)), (LABELS_MAX / 510 * 510, 2));
    // A DIMM that is read again does not count twice.
    let first = inventory.dimms[0].handle;
    inventory.read_labels(&[first], &mut areas);
    assert_eq!((kept(&inventory), beyond(&inventory)), (LABELS_MAX / 510 * 510, 2));
}
