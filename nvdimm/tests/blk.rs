//! BLK regions: their windows, and namespaces of several extents.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Areas, Spec, area, regions_of};
use nvdimm::discover;
use nvdimm::error::What;
use nvdimm::label::change::{ChangeError, NewNamespace, carry_out, create, destroy};
use nvdimm::label::{Claim, NoLabels};
use nvdimm::namespace::{Extent, Torn};
use nvdimm::region::{BlkRegion, Kind};

/// One DIMM with a PMEM range of 256 MiB and 64 MiB behind two windows of 8 KiB.
const GOOD: &[u8] = include_bytes!("fixtures/broken/good.nfit");

fn blk() -> BlkRegion {
    let inventory = discover(&[GOOD], &mut NoLabels);
    match &inventory.regions[1].kind {
        Kind::Blk(blk) => blk.clone(),
        Kind::Pmem(_) => panic!("a BLK region"),
    }
}

#[test]
fn windows_are_where_the_tables_say() {
    let windows = blk().windows;
    assert_eq!((windows.count, windows.transfer_bytes, windows.data_stride), (2, 8192, 8192));
    for (window, command, status, aperture) in
        [(0, 0xfea0_0000, 0xfea0_0008, 0xfea1_0000), (1, 0xfea0_1000, 0xfea0_1008, 0xfea1_2000)]
    {
        let start = window * windows.registers.window_bytes;
        let at = |offset| windows.control.locate(start + offset).unwrap().0;
        assert_eq!(at(windows.registers.command_offset), command);
        assert_eq!(at(windows.registers.status_offset), status);
        let data = windows.data.locate(windows.data_offset + window * windows.data_stride).unwrap();
        assert_eq!(data.0, aperture);
    }
}

#[test]
fn a_blk_region_without_labels_has_no_namespace() {
    let inventory = discover(&[GOOD], &mut NoLabels);
    assert_eq!(regions_of(&inventory), "0p 1b");
    let names: Vec<_> = inventory.namespaces.iter().map(|namespace| namespace.id.to_string()).collect();
    assert_eq!(names, ["namespace0.0"]);
}

fn extent(uuid: u8, (labels, position): (u16, u16), dpa: u64, bytes: u64) -> Spec {
    Spec { uuid, name: "", flags: 2, labels, position, cookie: blk().cookies.unwrap().v1_2, dpa, bytes }
}

const MORE: (u16, u16) = (u16::MAX, u16::MAX);
const MIB: u64 = 1 << 20;

#[test]
fn extents_of_one_uuid_are_one_namespace_in_the_order_of_their_slots() {
    let labels = [extent(7, MORE, 32 * MIB, MIB), extent(7, (2, 0), 8 * MIB, 2 * MIB), extent(9, (1, 0), 0, MIB)];
    let mut areas = Areas([(1, area([1, 2], &labels))].into());
    let inventory = discover(&[GOOD], &mut areas);
    assert_eq!(inventory.findings().count(), 0);
    // In the region of persistent memory nothing is labelled.
    let shown: Vec<_> = inventory
        .namespaces
        .iter()
        .map(|namespace| {
            let starts: Vec<_> = namespace.extents.iter().map(|extent| extent.start / MIB).collect();
            (namespace.id.to_string(), starts, namespace.bytes() / MIB)
        })
        .collect();
    assert_eq!(shown, [("namespace1.0".into(), vec![0], 1), ("namespace1.1".into(), vec![32, 8], 3)]);
}

#[test]
fn a_list_of_extents_that_is_not_whole_is_refused() {
    for labels in [vec![extent(7, (2, 0), 8 * MIB, MIB)], vec![extent(7, MORE, 8 * MIB, MIB)]] {
        let mut areas = Areas([(1, area([1, 2], &labels))].into());
        let inventory = discover(&[GOOD], &mut areas);
        let found: Vec<_> = inventory.findings().map(|finding| finding.what).collect();
        assert_eq!(found, [What::TornSet { slot: 0, why: Torn::Count, updating: false }]);
        assert!(inventory.namespaces.is_empty());
    }
}

#[test]
fn extents_are_written_and_taken_away_as_one() {
    let mut areas = Areas([(1, area([1, 2], &[extent(9, (1, 0), 0, MIB)]))].into());
    let inventory = discover(&[GOOD], &mut areas);
    let region = inventory.regions.iter().find(|region| matches!(region.kind, Kind::Blk(_))).unwrap();
    let pieces = [(32, 1), (8, 2)].map(|(start, bytes)| Extent { start: start * MIB, bytes: bytes * MIB });
    let new = NewNamespace {
        uuid: uuid::Uuid::from_bytes([7; 16]),
        name: "pieces",
        claim: Claim::Btt2,
        lba_bytes: 4096,
        extents: pieces.to_vec(),
    };
    let mib = |start: u64, bytes: u64| Extent { start: start * MIB, bytes: bytes * MIB };
    let odd = |start, bytes| Extent { start: start * MIB + 512, bytes };
    for extents in [
        vec![],
        vec![odd(40, MIB)],
        vec![Extent { bytes: MIB + 512, ..mib(40, 1) }],
        vec![mib(40, 2), mib(41, 1)],
        vec![mib(40, 1), mib(39, 9)],
        vec![mib(40, 1), mib(40, 1)],
        vec![mib(0, 1)],
        vec![mib(63, 2)],
    ] {
        let refused = create(region, &inventory.labels, &NewNamespace { extents: extents.clone(), ..new.clone() });
        assert_eq!(refused, Err(ChangeError::NotFree), "{extents:?}");
    }
    let steps = create(region, &inventory.labels, &new).unwrap();
    let extents = |mut areas: Areas| {
        let namespaces = discover(&[GOOD], &mut areas).namespaces;
        let on_blk = namespaces.into_iter().filter(|namespace| namespace.id.region == region.id);
        on_blk.map(|namespace| namespace.extents).collect::<Vec<_>>()
    };
    let (old, new) = (extents(areas.clone()), [extents(areas.clone()), vec![pieces.to_vec()]].concat());
    assert_eq!(old.len(), 1);
    for cut in areas.cuts(&steps) {
        let found = extents(cut);
        assert!(found == old || found == new, "{found:?}");
    }
    carry_out(&mut areas, &steps).unwrap();
    assert_eq!(extents(areas.clone()), new);
    let inventory = discover(&[GOOD], &mut areas);
    let steps = destroy(region, &inventory.labels, uuid::Uuid::from_bytes([7; 16])).unwrap();
    for cut in areas.cuts(&steps) {
        let found = extents(cut);
        assert!(found == old || found == new, "{found:?}");
    }
    carry_out(&mut areas, &steps).unwrap();
    assert_eq!(extents(areas), old);
}
