//! BLK regions: their windows, and namespaces of several extents.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use nvdimm::change::{ChangeError, NewNamespace, carry_out, create, destroy};
use nvdimm::discover;
use nvdimm::error::What;
use nvdimm::extent::Extent;
use nvdimm::label::{Claim, NoLabels};
use nvdimm::namespace;
use nvdimm::namespace::Torn;
use nvdimm::region::{BlkRegion, Kind};
use nvdimm::space;

use common::{Areas, Spec, area, regions_of};

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

/// The same DIMM, with its block capacity from `start` on.
fn with_capacity_from(start: u64) -> Vec<u8> {
    let mut table = GOOD.to_vec();
    let mut at = 40;
    while table[at..at + 2] != [5, 0] {
        at += usize::from(u16::from_le_bytes([table[at + 2], table[at + 3]]));
    }
    table[at + 32..at + 40].copy_from_slice(&start.to_le_bytes());
    common::seal_table(&mut table);
    table
}

/// Namespaces, with where each extent begins and how long it is, in MiB.
fn shown(table: &[u8], areas: &mut Areas) -> Vec<(String, Vec<(u64, u64)>)> {
    let inventory = discover(&[table], areas);
    let extents = |extents: &[Extent]| extents.iter().map(|it| (it.start / MIB, it.bytes / MIB)).collect();
    inventory.namespaces.iter().map(|it| (it.id.to_string(), extents(&it.extents))).collect()
}

#[test]
fn without_labels_a_blk_region_is_one_namespace() {
    for mut areas in [Areas::default(), Areas([(1, vec![])].into())] {
        let found = shown(&with_capacity_from(256 * MIB), &mut areas);
        assert_eq!(found, [("namespace0.0".into(), vec![(0, 256)]), ("namespace1.0".into(), vec![(256, 64)])]);
    }
}

#[test]
fn without_labels_bytes_that_are_memory_too_are_memory_only() {
    for start in [0, 1, 255] {
        let table = with_capacity_from(start * MIB);
        let inventory = discover(&[&table], &mut NoLabels);
        assert_eq!(regions_of(&inventory), "0p 1b");
        let names: Vec<_> = inventory.namespaces.iter().map(|namespace| namespace.id.to_string()).collect();
        assert_eq!(names, ["namespace0.0"], "from {start} MiB on");
        let found: Vec<_> = inventory.findings().map(|finding| finding.what).collect();
        assert_eq!(found, [What::Namespace(namespace::Fault::AliasesMemory)]);
    }
}

#[test]
fn labels_say_which_bytes_are_memory_and_which_are_behind_windows() {
    let memory = |uuid, dpa, bytes| Spec {
        flags: 0,
        cookie: match &discover(&[GOOD], &mut NoLabels).regions[0].kind {
            Kind::Pmem(pmem) => pmem.cookies.unwrap().v1_2,
            Kind::Blk(_) => panic!("a PMEM region"),
        },
        ..extent(uuid, (1, 0), dpa, bytes)
    };
    let both = [memory(5, 16 * MIB, 16 * MIB), extent(6, (1, 0), 0, 16 * MIB)];
    let mut areas = Areas([(1, area([1, 2], &both))].into());
    let found = shown(GOOD, &mut areas);
    assert_eq!(found, [("namespace0.0".into(), vec![(16, 16)]), ("namespace1.0".into(), vec![(0, 16)])]);
    // The same bytes claimed for both: they are neither's, and the rest of the DIMM is served.
    let claimed = [memory(5, 16 * MIB, 16 * MIB), extent(6, (1, 0), 24 * MIB, 16 * MIB), extent(7, (1, 0), 0, MIB)];
    let mut areas = Areas([(1, area([1, 2], &claimed))].into());
    assert_eq!(shown(GOOD, &mut areas), [("namespace1.0".into(), vec![(0, 1)])]);
    let refused = discover(&[GOOD], &mut areas)
        .findings()
        .filter(|it| matches!(it.what, What::Namespace(namespace::Fault::LabelsOverlap { .. })))
        .count();
    assert_eq!(refused, 2);
}

#[test]
fn room_for_a_namespace_behind_windows_may_be_in_pieces() {
    let labels = [extent(7, (1, 0), 16 * MIB, 16 * MIB)];
    let mut areas = Areas([(1, area([1, 2], &labels))].into());
    let inventory = discover(&[GOOD], &mut areas);
    let fit = |region: usize, mib: u64| {
        let found = space::fit(&inventory.regions[region], &inventory.labels, mib * MIB);
        found.map(|extents| extents.iter().map(|it| (it.start / MIB, it.bytes / MIB)).collect::<Vec<_>>())
    };
    assert_eq!(fit(1, 16), Some(vec![(0, 16)]));
    assert_eq!(fit(1, 32), Some(vec![(32, 32)]));
    assert_eq!(fit(1, 48), Some(vec![(0, 16), (32, 32)]));
    assert_eq!(fit(1, 64), None);
    // Memory is addressed in one piece.
    assert_eq!((fit(0, 224), fit(0, 240)), (Some(vec![(32, 224)]), None));
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
        assert_eq!(found, [What::Namespace(namespace::Fault::TornSet { slot: 0, why: Torn::Count, updating: false })]);
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
