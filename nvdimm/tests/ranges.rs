//! Ranges that no NFIT describes, beside NFITs and a memory map that may be hostile.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod common;

use std::ops::Range;

use nvdimm::Inventory;
use nvdimm::change::{self, NewNamespace};
use nvdimm::error::{PciPlace, Place};
use nvdimm::extent::Extent;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{Claim, LabelVersion, Labels, NoLabels};
use nvdimm::namespace;
use nvdimm::nfit;
use nvdimm::region::{BareRange, CxlDevice, Fault, Kind, MAX_REGIONS, Other, PersistenceDomain, RegionId};
use nvdimm::space;

use common::{AREA_BYTES, Areas, Builder};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn device(number: u8) -> Place {
    Place::VirtioPmem(PciPlace { segment: 0, bus: 0, device: number, function: 0 })
}

fn virtio(number: u8, base: u64, bytes: u64) -> Option<BareRange> {
    Some(BareRange { at: device(number), base, bytes, device: None })
}

fn mapped(base: u64, bytes: u64) -> Option<BareRange> {
    Some(BareRange { at: Place::MemoryMap { start: base, kind: 7 }, base, bytes, device: None })
}

fn discover(tables: &[Vec<u8>], ranges: &[Option<BareRange>], in_use: &[Range<u64>]) -> Inventory {
    nvdimm::discover(tables, &mut NoLabels).with_ranges(ranges, in_use, &mut NoLabels)
}

fn served(found: &Inventory) -> Vec<(RegionId, u64, u64)> {
    let of = |region: &nvdimm::region::Region| match &region.kind {
        Kind::Pmem(pmem) => (region.id, pmem.base, pmem.bytes),
        Kind::Blk(_) => panic!("there are no windows"),
    };
    found.regions.iter().map(of).collect()
}

/// One DIMM of 128 MiB at 4 GiB.
fn one_dimm() -> Vec<Vec<u8>> {
    vec![Builder::default().pmem(2, 4 * GIB, 128 * MIB).dimm(1, 2, 128 * MIB, 0, 1).table()]
}

#[test]
fn ranges_come_behind_the_nfits_regions_and_each_is_one_label_less_namespace() {
    // QEMU puts a virtio-pmem device right behind a DIMM.
    let ranges = [virtio(2, 4 * GIB + 128 * MIB, 64 * MIB), mapped(16 * GIB, GIB)];
    let found = discover(&one_dimm(), &ranges, &[0..640 << 10, MIB..GIB]);
    assert_eq!(served(&found)[1..], [(RegionId(1), 4 * GIB + 128 * MIB, 64 * MIB), (RegionId(2), 16 * GIB, GIB)]);
    let names: Vec<String> = found.namespaces.iter().map(|namespace| namespace.id.to_string()).collect();
    assert_eq!(names, ["namespace0.0", "namespace1.0", "namespace2.0"]);
    let own = &found.namespaces[1];
    assert_eq!((own.bytes(), own.read_only, own.labelling.is_none()), (64 * MIB, false, true));
    assert_eq!((found.findings().count(), found.left_out.len()), (0, 0));
    let region = found.region(RegionId(1)).unwrap();
    assert!(region.mappings().is_empty() && region.cookies().is_none() && region.at == device(2));
    // Without any NFIT.
    let found = discover(&[], &ranges, &[]);
    assert_eq!(served(&found).len(), 2);
    assert_eq!(served(&found)[0].0, RegionId(0));
}

#[test]
fn a_device_whose_range_is_not_sound_is_left_out_by_name_and_keeps_its_number() {
    let overlaps = |base, other, what| Fault::Overlaps { base, other, what };
    let dimm = 4 * GIB;
    for (base, bytes, why) in [
        (0, GIB, Fault::AtZero),
        (8 * GIB, 0, Fault::NoBytes),
        (u64::MAX - 4095, 4096, Fault::BeyondAddresses { base: u64::MAX - 4095, bytes: 4096 }),
        (1 << 52, 4096, Fault::BeyondAddresses { base: 1 << 52, bytes: 4096 }),
        (8 * GIB, u64::MAX, Fault::BeyondAddresses { base: 8 * GIB, bytes: u64::MAX }),
        (8 * GIB + 64, 4096, Fault::NotPaged { base: 8 * GIB + 64, bytes: 4096 }),
        (8 * GIB, 5000, Fault::NotPaged { base: 8 * GIB, bytes: 5000 }),
        (dimm, 128 * MIB, overlaps(dimm, dimm, Other::NfitRange)),
        (dimm + 127 * MIB, 2 * MIB, overlaps(dimm + 127 * MIB, dimm, Other::NfitRange)),
        (3 * GIB, 2 * GIB, overlaps(3 * GIB, dimm, Other::NfitRange)),
        (MIB, 4096, overlaps(MIB, MIB, Other::MemoryMap)),
        (0xfff0_0000, MIB, overlaps(0xfff0_0000, 0xfff0_0000, Other::MemoryMap)),
        (32 * GIB - 4096, 8192, overlaps(32 * GIB - 4096, 32 * GIB, Other::Range)),
    ] {
        let ranges = [virtio(1, 32 * GIB, GIB), virtio(2, base, bytes), virtio(3, 64 * GIB, GIB)];
        // RAM, and the firmware at the end of the first 4 GiB.
        let found = discover(&one_dimm(), &ranges, &[MIB..GIB, 0xfff0_0000..dimm]);
        let served: Vec<u32> = served(&found).iter().map(|(id, ..)| id.0).collect();
        assert_eq!(served, [0, 1, 3], "{why}");
        let left_out = found.left_out.iter().map(|it| (it.id, it.why.at, it.why.what));
        assert_eq!(left_out.collect::<Vec<_>>(), [(RegionId(2), device(2), why)]);
        assert!(found.findings().any(|finding| finding.refuses() && finding.at == device(2)));
        assert_eq!(found.namespaces.len(), 3);
    }
}

#[test]
fn a_device_that_cannot_be_used_keeps_the_numbers_of_those_behind_it() {
    let (first, second, of_map) = (virtio(1, 8 * GIB, GIB), virtio(2, 16 * GIB, GIB), mapped(32 * GIB, GIB));
    for (ranges, expected) in [
        ([first, second, of_map], vec![(0, 4 * GIB), (1, 8 * GIB), (2, 16 * GIB), (3, 32 * GIB)]),
        ([None, second, of_map], vec![(0, 4 * GIB), (2, 16 * GIB), (3, 32 * GIB)]),
        ([None, None, of_map], vec![(0, 4 * GIB), (3, 32 * GIB)]),
        ([first, None, of_map], vec![(0, 4 * GIB), (1, 8 * GIB), (3, 32 * GIB)]),
    ] {
        let found = discover(&one_dimm(), &ranges, &[]);
        let ids: Vec<(u32, u64)> = served(&found).iter().map(|(id, base, _)| (id.0, *base)).collect();
        assert_eq!(ids, expected, "{ranges:?}");
        assert_eq!((found.findings().count(), found.left_out.len()), (0, 0), "the node knows why");
    }
}

#[test]
fn what_the_memory_map_calls_persistent_counts_where_nothing_else_describes_it() {
    // By the NFIT; by a device; by RAM of the same map; twice by the map itself.
    let ranges = [
        virtio(1, 8 * GIB, GIB),
        mapped(4 * GIB, 128 * MIB),
        mapped(8 * GIB + 512 * MIB, GIB),
        mapped(512 * MIB, GIB),
        mapped(16 * GIB, GIB),
        mapped(16 * GIB, GIB),
    ];
    let found = discover(&one_dimm(), &ranges, std::slice::from_ref(&(MIB..GIB)));
    let ids: Vec<(u32, u64)> = served(&found).iter().map(|(id, base, _)| (id.0, *base)).collect();
    assert_eq!(ids, [(0, 4 * GIB), (1, 8 * GIB), (2, 16 * GIB)]);
    assert!(found.left_out.is_empty());
    let refused: Vec<Place> = found.findings().filter(|it| it.refuses()).map(|it| it.at).collect();
    assert_eq!(refused, [Place::MemoryMap { start: 512 * MIB, kind: 7 }], "a map that contradicts itself");
    assert_eq!(found.findings().count(), 4, "the others are remarks");
}

#[test]
fn more_ranges_than_are_served_are_told() {
    let ranges: Vec<_> = (1..=200).map(|number| virtio(number, u64::from(number) * GIB, GIB)).collect();
    let found = discover(&[], &ranges, &[]);
    assert_eq!((found.regions.len(), found.left_out.len()), (MAX_REGIONS, MAX_REGIONS));
    assert_eq!(found.findings().filter(nvdimm::error::Finding::refuses).count(), 200 - MAX_REGIONS);
}

/// A CXL device of 256 MiB.
fn cxl(handle: DeviceHandle, serial: Option<u64>) -> Option<BareRange> {
    let at = Place::Cxl(PciPlace { segment: 0, bus: 13, device: 0, function: 0 });
    Some(BareRange { at, base: 16 * GIB, bytes: 256 * MIB, device: Some(CxlDevice { handle, serial }) })
}

#[test]
fn a_cxl_device_has_labels_as_linux_writes_them_and_no_namespace_before() {
    let handle = DeviceHandle::of_cxl(0);
    let mut areas = Areas([(handle.0, vec![])].into());
    let discover = |areas: &mut Areas| {
        nvdimm::discover(&one_dimm(), areas).with_ranges(&[cxl(handle, Some(0x1122_3344_5566_7788))], &[], areas)
    };
    let found = discover(&mut areas);
    assert_eq!(found.dimms.iter().map(|dimm| dimm.is_cxl).collect::<Vec<_>>(), [false, true]);
    let namespaces: Vec<_> = found.namespaces.iter().map(|namespace| namespace.id.region).collect();
    assert_eq!((namespaces, found.findings().count()), (vec![RegionId(0)], 0));
    let region = found.region(RegionId(1)).unwrap();
    assert!(region.waits_for_labels(&found.labels));
    assert_eq!(space::available(region, &found.labels), 256 * MIB);
    assert_eq!(space::free(region, &found.labels), [Extent { start: 0, bytes: 256 * MIB }]);
    assert_eq!(found.persistence_domain(region), PersistenceDomain::MemoryController);

    let steps = change::initialise(handle, AREA_BYTES, found.labels_of(handle), LabelVersion::V1_2);
    change::carry_out(&mut areas, &steps).unwrap();
    let found = discover(&mut areas);
    let region = found.region(RegionId(1)).unwrap();
    let extents = vec![Extent { start: 16 * MIB, bytes: 32 * MIB }];
    let uuid = uuid::uuid!("77777777-7777-4777-8777-777777777777");
    let new = NewNamespace { uuid, name: "one", claim: Claim::Btt2, lba_bytes: 4096, extents: extents.clone() };
    change::carry_out(&mut areas, &change::create(region, &found.labels, &new).unwrap()).unwrap();
    let found = discover(&mut areas);
    let own = found.namespaces.iter().find(|namespace| namespace.id.region == RegionId(1)).unwrap();
    assert_eq!((&own.extents, own.labelling.as_ref().unwrap().uuid), (&extents, uuid));
    let Labels::Valid(set) = found.labels_of(handle) else { panic!("valid labels") };
    let [label] = &set.labels[..] else { panic!("one label") };
    // What Linux compares: its cookie, and no type.
    assert_eq!((label.set_cookie, label.type_guid), (13_542_080_350_419_200_716, Some(uuid::Uuid::nil())));

    // Another device of the same label area, or one without a serial number, does not take it.
    for serial in [Some(5), None] {
        let found = nvdimm::discover(&one_dimm(), &mut areas).with_ranges(&[cxl(handle, serial)], &[], &mut areas);
        assert!(found.namespaces.iter().all(|namespace| namespace.id.region == RegionId(0)), "{serial:?}");
        assert!(found.findings().any(|finding| finding.refuses()), "{serial:?}");
    }
}

#[test]
fn a_cxl_device_without_a_label_area_has_no_namespace_as_in_linux() {
    let handle = DeviceHandle::of_cxl(0);
    let found = discover(&one_dimm(), &[cxl(handle, Some(1))], &[]);
    let namespaces: Vec<_> = found.namespaces.iter().map(|namespace| namespace.id.region).collect();
    assert_eq!(namespaces, [RegionId(0)]);
    let findings: Vec<_> = found.findings().map(|finding| finding.what).collect();
    assert_eq!(findings, [namespace::Fault::NoLabelArea { dimm: handle }.into()]);
    assert_eq!(space::available(found.region(RegionId(1)).unwrap(), &found.labels), 0);
}

#[test]
fn no_dimm_of_an_nfit_has_a_cxl_devices_handle_nor_its_labels() {
    for handle in [DeviceHandle::of_cxl(0), DeviceHandle(1 << 28)] {
        let table = Builder::default().pmem(2, 4 * GIB, 128 * MIB).dimm(handle.0, 2, 128 * MIB, 0, 1).table();
        let mut areas = Areas([(handle.0, vec![])].into());
        let steps =
            change::initialise(handle, AREA_BYTES, &Labels::Blank { area_bytes: AREA_BYTES }, LabelVersion::V1_2);
        change::carry_out(&mut areas, &steps).unwrap();
        let ranges = [cxl(DeviceHandle::of_cxl(0), Some(1))];
        let found = nvdimm::discover(&[table], &mut areas).with_ranges(&ranges, &[], &mut areas);
        // The range of the DIMM stays without one; the CXL device's takes the next number.
        assert_eq!(served(&found), [(RegionId(1), 16 * GIB, 256 * MIB)]);
        assert_eq!(found.dimms.iter().map(|dimm| dimm.is_cxl).collect::<Vec<_>>(), [true]);
        let refused = nfit::Fault::ReservedHandle { dimm: handle };
        assert!(found.findings().any(|finding| finding.what == refused.into()), "{handle}");
    }
}
