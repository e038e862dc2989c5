//! NFITs of QEMU, and damaged ones: what is found, what is refused, and where.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use nvdimm::discover;
use nvdimm::error::{Finding, Place, What};
use nvdimm::identity::DeviceHandle;
use nvdimm::label::NoLabels;
use nvdimm::nfit::{Capabilities, MappingFlags};
use nvdimm::region::{Kind, PersistenceDomain, RegionId};
use nvdimm::{namespace, nfit, region};

use common::{Builder, regions_of};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/nfit/", $name, ".nfit")).as_slice()
    };
}

#[test]
fn one_dimm_of_qemu_is_one_region() {
    let inventory = discover(&[fixture!("qemu-one-dimm")], &mut NoLabels);
    assert_eq!(inventory.findings().count(), 0);
    assert_eq!(regions_of(&inventory), "0p");
    let Kind::Pmem(pmem) = &inventory.regions[0].kind else { panic!("a PMEM region") };
    assert_eq!((pmem.base, pmem.bytes, pmem.cookies.unwrap().v1_1), (1 << 32, 64 << 20, 0x0024_68ac_0012_3456));
    assert_eq!(inventory.regions[0].proximity_domain, Some(0));
    let [dimm] = &inventory.dimms[..] else { panic!("one DIMM") };
    assert_eq!(dimm.identity.unwrap().to_string(), "8680-56341200");
    assert_eq!((dimm.handle.0, dimm.physical_id, dimm.flags), (1, 0, MappingFlags::empty()));
    assert_eq!(inventory.persistence_domain(&inventory.regions[0]), PersistenceDomain::Unknown);
    let [namespace] = &inventory.namespaces[..] else { panic!("one namespace") };
    assert_eq!((namespace.id.to_string().as_str(), namespace.bytes()), ("namespace0.0", 64 << 20));
}

#[test]
fn regions_are_numbered_by_the_table_and_dimms_by_their_handles() {
    // As Linux showed it: region0 is on the DIMM with handle 2, nmem1, which is not armed.
    let inventory = discover(&[fixture!("qemu-two-dimms-unarmed-memctrl")], &mut NoLabels);
    let shown: Vec<_> = inventory
        .regions
        .iter()
        .map(|region| {
            let dimm = inventory.dimm_number(region.mappings()[0].dimm).unwrap();
            (region.id.to_string(), dimm, region.bytes(), region.read_only)
        })
        .collect();
    let expected = [("region0".into(), 1, 67_108_864, true), ("region1".into(), 0, 66_977_792, false)];
    assert_eq!(shown, expected);
    assert_eq!(inventory.dimms[1].identity.unwrap().to_string(), "8680-57341200");
    assert_eq!(inventory.persistence_domain(&inventory.regions[0]).to_string(), "memory_controller");
    assert!(inventory.namespaces[0].read_only && !inventory.namespaces[1].read_only);
}

#[test]
fn a_flush_of_the_caches_brings_one_of_the_memory_controllers() {
    let inventory = discover(&[fixture!("qemu-four-dimms-cpu")], &mut NoLabels);
    assert_eq!(inventory.nfit.capabilities(), Capabilities::CPU_CACHE_FLUSH | Capabilities::MEMORY_CONTROLLER_FLUSH);
    assert_eq!(inventory.persistence_domain(&inventory.regions[0]).to_string(), "cpu_cache");
    let handles: Vec<_> = inventory.regions.iter().map(|region| region.mappings()[0].dimm.0).collect();
    assert_eq!(handles, [2, 4, 1, 3]);
    assert_eq!(inventory.dimms.iter().map(|dimm| dimm.handle.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn capabilities_above_the_highest_valid_bit_do_not_count() {
    for (highest, given, expected) in [
        (0, 0b111, 0b011),
        (1, 0b110, 0b010),
        (2, 0b110, 0b110),
        (0, 0b010, 0b000),
        (31, 0x8000_0000, 0x8000_0000),
        (255, 0x8000_0000, 0x8000_0000),
    ] {
        let inventory = discover(&[Builder::default().capabilities(highest, given).table()], &mut NoLabels);
        assert_eq!(inventory.nfit.capabilities().bits(), expected, "{given:#b} up to {highest}");
    }
}

#[test]
fn several_tables_are_one() {
    let (first, second) = (fixture!("qemu-one-dimm"), fixture!("qemu-four-dimms-cpu"));
    // The one DIMM is in both tables, and in the second one at the same place: its structures repeat.
    let inventory = discover(&[first, second], &mut NoLabels);
    assert_eq!(regions_of(&inventory), "0p 1p 2p 3p");
    assert!(inventory.findings().all(|finding| {
        finding.what == What::Nfit(nfit::Fault::Repeated) && matches!(finding.at, Place::Nfit { table: 1, .. })
    }));
    // A damaged table takes nothing from the other.
    let inventory = discover(&[&first[..100], second], &mut NoLabels);
    assert_eq!(regions_of(&inventory), "0p 1p 2p 3p");
    let no_table: &[&[u8]] = &[];
    assert!(discover(no_table, &mut NoLabels).regions.is_empty());
}

#[test]
fn an_interleaved_set_has_its_dimms_in_order_of_their_offsets() {
    let table = Builder::default().pmem(1, 1 << 32, 2 << 20).dimm(7, 1, 1 << 20, 0x1000, 2).dimm(3, 1, 1 << 20, 0, 2);
    let inventory = discover(&[table.table()], &mut NoLabels);
    assert_eq!(regions_of(&inventory), "0p");
    let positions: Vec<_> =
        inventory.regions[0].mappings().iter().map(|mapping| (mapping.dimm.0, mapping.position)).collect();
    assert_eq!(positions, [(7, 1), (3, 0)]);
    assert_eq!(inventory.dimm_number(nvdimm::identity::DeviceHandle(7)), Some(1));
}

#[test]
fn a_set_of_more_dimms_than_linux_takes_is_refused() {
    let set = |ways: u16| {
        let share = 1 << 20;
        let start = Builder::default().pmem(1, 1 << 32, share * u64::from(ways));
        let dimms = (0..ways).fold(start, |table, n| table.dimm(n.into(), 1, share, u64::from(n) * 4096, ways));
        discover(&[dimms.table()], &mut NoLabels)
    };
    assert_eq!(regions_of(&set(32)), "0p");
    let refused = set(33);
    assert_eq!(regions_of(&refused), "");
    let finding = refused.findings().next().unwrap();
    assert_eq!(finding.what, What::Region(region::Fault::TooManyMappings { mappings: 33, limit: 32 }));
    assert_eq!(finding.at, Place::Nfit { table: 0, offset: 40 });
}

#[test]
fn a_dimm_less_range_is_served_unless_its_mapping_may_have_been_refused() {
    let alone = Builder::default().pmem(1, 1 << 32, 1 << 20);
    assert_eq!(regions_of(&discover(&[alone.clone().table()], &mut NoLabels)), "0p");
    let dangling = alone.dimm(1, 9, 1 << 20, 0, 1);
    assert_eq!(regions_of(&discover(&[dangling.table()], &mut NoLabels)), "");
}

#[test]
fn regions_beyond_sixty_four_are_left_out_and_told_once() {
    let table = (0..100).fold(Builder::default(), |table, n| table.pmem(n + 1, u64::from(n + 1) << 30, 1 << 20));
    let inventory = discover(&[table.table()], &mut NoLabels);
    assert_eq!(inventory.regions.len(), 64);
    let findings: Vec<_> = inventory.findings().collect();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].what, What::Region(region::Fault::TooManyRegions { limit: 64, left_out: 36 }));
    assert_eq!(findings[0].at, Place::Nfit { table: 0, offset: 40 + 64 * 56 });
}

#[test]
fn a_table_of_ten_thousand_structures_is_cut_off_and_told() {
    let table = (0..10_000u32).fold(Builder::default(), |table, n| table.raw(0x1000, &n.to_le_bytes()));
    let inventory = discover(&[table.table()], &mut NoLabels);
    let findings: Vec<_> = inventory.findings().collect();
    assert!(findings.len() < 1000, "findings are bounded");
    assert!(matches!(findings.last().unwrap().what, What::More { .. }));
}

#[test]
fn flush_hints_of_a_region_are_one_of_each_dimm() {
    let set = Builder::default().pmem(1, 1 << 32, 2 << 20).dimm(1, 1, 1 << 20, 0, 2).dimm(2, 1, 1 << 20, 4096, 2);
    let hinted = set.flush(2, &[0xfee1_0000, 0xfee1_0040]).flush(1, &[0xfee2_0000]);
    let inventory = discover(&[hinted.table()], &mut NoLabels);
    assert_eq!(inventory.flush_hints(&inventory.regions[0]), [0xfee2_0000, 0xfee1_0000]);
}

#[test]
fn a_dimm_whose_flush_hints_were_refused_makes_its_regions_read_only() {
    let set = || {
        let one = Builder::default().pmem(1, 1 << 32, 1 << 20).dimm(1, 1, 1 << 20, 0, 1);
        one.pmem(2, 2 << 32, 1 << 20).dimm(2, 2, 1 << 20, 0, 1)
    };
    let short = [[1, 0, 0, 0], [9, 0, 0, 0], [0; 4]].concat();
    let lost = |table: Builder| {
        let inventory = discover(&[table.table()], &mut NoLabels);
        let told = |finding: &Finding| matches!(finding.what, What::Region(region::Fault::HintsRefused { .. }));
        let read_only: Vec<_> = inventory.regions.iter().map(|region| region.read_only).collect();
        assert_eq!(inventory.findings().filter(told).count(), read_only.iter().filter(|it| **it).count());
        read_only
    };
    assert_eq!(lost(set()), [false, false], "there may be none");
    assert_eq!(lost(set().flush(1, &[0xfee1_0004])), [true, false], "misaligned");
    assert_eq!(lost(set().raw(6, &short)), [true, true], "it may be any DIMM's");
    assert_eq!(lost(set().raw(6, &short).flush(1, &[0xfee1_0000])), [false, true]);
    assert_eq!(lost(set().flush(1, &[0xfee1_0000]).flush(1, &[0xfee1_0004])), [false, false], "one stands");
    assert_eq!(lost(set().flush(1, &[]).flush(1, &[0xfee1_0000])), [true, false], "the one that stands is empty");
}

#[test]
fn a_second_structure_of_a_kind_is_named_by_what_it_is() {
    let said = |table: Builder| {
        let inventory = discover(&[table.table()], &mut NoLabels);
        let refused: Vec<_> = inventory.findings().map(|finding| finding.what.to_string()).collect();
        refused.into_iter().find(|what| what.contains("exists already")).expect("a duplicate")
    };
    let twice = Builder::default().capabilities(1, 1).capabilities(1, 2);
    assert!(said(twice).starts_with("platform capabilities structure 0 exists"));
    let one = || Builder::default().pmem(1, 1 << 32, 1 << 20).dimm(1, 1, 1 << 20, 0, 1);
    let twice = one().flush(1, &[8]).flush(1, &[16]);
    assert!(said(twice).starts_with("the flush hint structure for device handle 1 exists"));
    let windows = |bytes: u8| [&[9, 0, bytes, 0][..], &[0; 32]].concat();
    let twice = one().raw(5, &windows(1)).raw(5, &windows(2));
    assert!(said(twice).starts_with("the structure of data windows for control region 9 exists"));
}

/// `good` without the structures at these offsets.
fn without(offsets: &[usize]) -> Vec<u8> {
    let good = include_bytes!("fixtures/broken/good.nfit");
    let mut table = good[..40].to_vec();
    let mut at = 40;
    while at < good.len() {
        let bytes = usize::from(u16::from_le_bytes([good[at + 2], good[at + 3]]));
        if !offsets.contains(&at) {
            table.extend(&good[at..at + bytes]);
        }
        at += bytes;
    }
    common::seal_table(&mut table);
    table
}

#[test]
fn windows_that_make_no_region_are_told_of() {
    const CONTROL: [usize; 2] = [96, 256];
    let dimm = DeviceHandle(1);
    for (offsets, expected) in [
        (&CONTROL[..], &[What::Region(region::Fault::NoControlRange { dimm })][..]),
        (
            &[96, 256, 304],
            &[What::Region(region::Fault::DataWindowsUnmapped), What::Region(region::Fault::WindowsNowhere)],
        ),
        (&[96, 256, 152, 304], &[What::Region(region::Fault::WindowsNowhere)]),
        // An absent structure makes no finding.
        (&[96, 256, 152, 304, 432], &[]),
    ] {
        let inventory = discover(&[without(offsets)], &mut NoLabels);
        let found: Vec<_> = inventory.findings().map(|finding| finding.what).collect();
        assert_eq!(found, expected, "{offsets:?}");
        assert!(inventory.findings().all(|finding| finding.refuses() && finding.is_of_tables()));
        assert_eq!(regions_of(&inventory), "0p");
    }
}

#[test]
fn one_handle_with_two_physical_ids_is_told_of() {
    let two = Builder::default().pmem(1, 1 << 32, 1 << 20).pmem(2, 2 << 32, 1 << 20);
    let mut table = two.dimm(7, 1, 1 << 20, 0, 1).dimm(7, 2, 1 << 20, 0, 1).table();
    let handle_of_second = table.len() - 32 - 48 + 4;
    for (physical_id, expected) in
        [(0, None), (3, Some(What::Nfit(nfit::Fault::HandleShared { dimm: DeviceHandle(7), first: 0, other: 3 })))]
    {
        table[handle_of_second + 4] = physical_id;
        common::seal_table(&mut table);
        let inventory = discover(&[&table], &mut NoLabels);
        let found: Vec<_> = inventory.findings().map(|finding| (finding.what, finding.refuses())).collect();
        let found = found.into_iter().find(|(what, _)| matches!(what, What::Nfit(nfit::Fault::HandleShared { .. })));
        assert_eq!(found, expected.map(|what| (what, false)));
        // They are one DIMM all the same, as Linux has it.
        assert_eq!((inventory.dimms.len(), regions_of(&inventory).as_str()), (1, "0p 1p"));
    }
}

#[test]
fn a_region_that_is_left_out_is_known_by_its_number() {
    let table = Builder::default().pmem(1, 1 << 32, 1 << 20).dimm(1, 1, 1 << 19, 0, 1).pmem(2, 2 << 32, 1 << 20);
    let inventory = discover(&[table.table()], &mut NoLabels);
    assert_eq!(regions_of(&inventory), "1p");
    let [left_out] = &inventory.left_out[..] else { panic!("{:?}", inventory.left_out) };
    assert_eq!(
        (left_out.id, left_out.why.what),
        (RegionId(0), region::Fault::WrongShare { shares: 1 << 19, length: 1 << 20 })
    );
    let (at, what) = (left_out.why.at, left_out.why.what.into());
    assert!(inventory.findings().any(|finding| finding == Finding { at, what }));
}

/// A damaged variant of `good`: its name, the regions that are left (`p`MEM or `b`LK), and what is found where.
type Damaged = (&'static str, &'static str, &'static [&'static str]);

#[rustfmt::skip]
const DAMAGED: &[Damaged] = &[
    ("asize_0", "0p", &["256 BadAperture"]),
    ("asize_100", "0p", &["256 BadAperture"]),
    ("asize_32k", "0p", &["256 WindowsLeaveRange"]),
    ("asize_huge", "0p", &["256 WindowsLeaveRange"]),
    ("badsig", "", &["0 BadSignature"]),
    ("badsum", "", &["0 BadTableChecksum"]),
    ("bdw_dangling", "0p", &["432 Dangling", "256 NoBlockWindows"]),
    ("bdw_missing", "0p", &["256 NoBlockWindows"]),
    ("cap_0", "0p", &["256 BadCapacity"]),
    ("cap_2_55", "0p", &["256 BadCapacity"]),
    ("cap_wrap", "0p", &["256 BadCapacity"]),
    ("cmd_off_odd", "0p", &["256 BadRegisters"]),
    ("cmd_off_past", "0p", &["256 BadRegisters"]),
    ("cmd_size_4", "0p", &["256 BadRegisters"]),
    ("cmd_stat_same", "0p", &["256 BadRegisters"]),
    ("dcr_code", "0p", &["352 UnknownFormat", "256 NotBlockFormat"]),
    ("dcr_missing", "0p", &["256 Dangling", "304 Dangling", "352 Dangling", "96 WindowsUnmapped"]),
    ("dcr_short", "0p", &["352 NoRegisterLayout", "256 Dangling", "304 Dangling", "384 Dangling", "96 WindowsUnmapped"]),
    ("dup_dcr", "0p 1b", &["432 Repeated"]),
    ("dup_spa_index", "0p 1b", &["544 DuplicateIndex"]),
    ("empty", "", &[]),
    ("flush_0", "0p 1b", &["544 DuplicateIndex"]),
    ("flush_bad_handle", "0p 1b", &["544 Dangling"]),
    ("flush_count_past", "0p 1b", &["544 BadCount"]),
    ("flush_unaligned", "0p 1b", &["544 HintMisaligned"]),
    ("good", "0p 1b", &[]),
    ("hdr_len_39", "", &["0 TableCut"]),
    ("hdr_len_4g", "", &["0 TableCut"]),
    ("hdr_len_past", "", &["0 TableCut"]),
    ("hdr_len_short", "", &["0 TableCut"]),
    ("idt_0_lines", "0p", &["544 NoLines", "304 Dangling", "256 NoWindowRange"]),
    ("idt_count_max", "0p", &["544 BadCount", "304 Dangling", "256 NoWindowRange"]),
    ("idt_count_past", "0p", &["544 BadCount", "304 Dangling", "256 NoWindowRange"]),
    ("idt_dup_off", "0p", &["544 LinesCollide", "304 Dangling", "256 NoWindowRange"]),
    ("idt_line_0", "0p", &["544 BadLineSize", "304 Dangling", "256 NoWindowRange"]),
    ("idt_line_100", "0p", &["544 BadLineSize", "304 Dangling", "256 NoWindowRange"]),
    ("idt_line_4", "0p", &["256 WindowsLeaveRange"]),
    ("idt_off_huge", "0p", &["256 LinesCollide"]),
    ("idt_short", "0p", &["544 WrongSize", "304 Dangling", "256 NoWindowRange"]),
    ("idt_ways_0", "0p", &["304 NoWays", "256 NoWindowRange"]),
    ("len_3", "", &["40 StructureTooShort"]),
    ("len_ffff", "", &["40 StructureLeavesTable"]),
    ("len_past_end", "0p 1b", &["528 StructureLeavesTable"]),
    ("md_bdw_missing", "0p", &["256 NoWindowRange", "152 DataWindowsUnmapped"]),
    ("md_dangling_dcr", "0p", &["256 Dangling", "96 WindowsUnmapped"]),
    ("md_dangling_idt", "0p", &["304 Dangling", "256 NoWindowRange"]),
    ("md_dangling_spa", "0p", &["256 Dangling", "96 WindowsUnmapped"]),
    ("md_dcr_missing", "0p", &["96 WindowsUnmapped", "256 NoControlRange"]),
    ("md_failed", "1b", &["40 MapFailed"]),
    ("md_off_past", "0p", &["256 WindowsLeaveRange"]),
    ("md_size_mismatch", "1b", &["40 WrongShare"]),
    ("md_ways_0_pmem", "0p 1b", &["208 WaysZero"]),
    ("md_ways_2_one", "1b", &["40 WrongWays"]),
    ("order_reversed", "0b 1p", &[]),
    ("rev0", "", &["0 BadRevision"]),
    ("self_twice", "0p 1b", &["544 Repeated", "600 Repeated", "656 Repeated", "712 Repeated", "760 Repeated", "808 Repeated", "856 Repeated", "936 Repeated", "976 Repeated", "1008 Repeated", "1032 Repeated"]),
    ("spa_bdw_small", "0p", &["256 WindowsLeaveRange"]),
    ("spa_beyond_maxphys", "0b", &["40 RangeBeyondAddresses", "208 Dangling"]),
    ("spa_dcr_bdw_overlap", "0p", &["152 RangeOverlaps", "304 Dangling", "256 NoWindowRange"]),
    ("spa_dcr_small", "0p", &["256 WindowsLeaveRange"]),
    ("spa_end_2_64", "0b", &["40 RangeBeyondAddresses", "208 Dangling"]),
    ("spa_index_0", "0b", &["40 IndexZero", "208 Dangling"]),
    ("spa_is_ram", "0p 1b", &[]),
    ("spa_len_0", "0b", &["40 EmptyRange", "208 Dangling"]),
    ("spa_overlap", "0p 1b", &["544 RangeOverlaps"]),
    ("spa_short", "0p 1b", &["40 WrongSize"]),
    ("spa_unaligned", "0b", &["40 RangeNotPaged", "208 Dangling"]),
    ("spa_wrap", "0b", &["40 RangeBeyondAddresses", "208 Dangling"]),
    ("stat_off_past", "0p", &["256 BadRegisters"]),
    ("trail_1", "0p 1b", &["544 StructureLeavesTable"]),
    ("trail_3", "0p 1b", &["544 StructureLeavesTable"]),
    ("unknown_guid", "0p", &["96 UnknownRangeType", "256 Dangling"]),
    ("unknown_types", "0p 1b", &["40 UnknownType", "56 UnknownType", "60 UnknownType", "628 UnknownType"]),
    ("windows_0_bdw", "0p", &["256 WindowsDiffer"]),
    ("windows_0_both", "0p", &["256 WindowsZero"]),
    ("windows_differ", "0p", &["256 WindowsDiffer"]),
    ("windows_ffff", "0p", &["256 WindowsLeaveRange"]),
    ("wsize_0", "0p", &["256 BadRegisters"]),
    ("zero_len", "", &["40 StructureTooShort"]),
    ("zero_len_last", "0p 1b", &["544 StructureTooShort"]),
];

#[test]
fn each_damaged_table_loses_what_is_damaged_and_says_where() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/broken");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), DAMAGED.len(), "each fixture has its line");
    for (name, regions, expected) in DAMAGED {
        let table = std::fs::read(folder.join(format!("{name}.nfit"))).unwrap();
        let inventory = discover(&[table], &mut NoLabels);
        // In all of them the DIMM's blocks are memory, too, as blk.rs has it.
        let found: Vec<_> = inventory
            .findings()
            .filter(|finding| finding.what != What::Namespace(namespace::Fault::AliasesMemory))
            .map(|finding| {
                let Place::Nfit { table: 0, offset } = finding.at else { panic!("{name}: {finding}") };
                let layered = format!("{:?}", finding.what);
                let (_, what) = layered.split_once('(').expect("a layer and its fault");
                let what = what.strip_prefix("Interleave { why: ").unwrap_or(what);
                format!("{offset} {}", what.split(|c: char| !c.is_alphanumeric()).next().unwrap())
            })
            .collect();
        assert_eq!(found, *expected, "{name}");
        assert_eq!(regions_of(&inventory), *regions, "{name}");
        let behind_windows = |region| matches!(inventory.region(region).unwrap().kind, Kind::Blk(_));
        assert!(!inventory.namespaces.iter().any(|it| behind_windows(it.id.region)), "{name}");
    }
}
