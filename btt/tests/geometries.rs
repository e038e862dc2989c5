//! Media as other implementations lay them out, and invented ones: judged by offsets and bounds, never by assumption.

mod common;

use btt::check::Finding;
use btt::format::{FormatOptions, format};
use btt::geometry::{Area, Geometry, GeometryError, NFREE_MAX, SECTOR_SIZES, SectorSize};
use btt::info_block::{InfoBlock, InfoBlockError, Version};
use btt::layout::PAGE_BYTES;
use btt::media::{Medium, NsOffset};
use btt::repair::{RepairOptions, repair};
use btt::sim::{Seeded, Sim};
use btt::{Btt, BttError, OpenError, ReadOnlyReason};
use uuid::Uuid;
use zerocopy::IntoBytes;

use common::lossy::Lossy;
use common::*;

/// The arena's own length: [`BYTES`] less the page before it.
const ARENA: u64 = BYTES - PAGE_BYTES;

fn size(bytes: u32) -> SectorSize {
    SectorSize::new(bytes).expect("a known size")
}

fn info(geometry: Geometry) -> InfoBlock {
    InfoBlock { uuid: Uuid::from_u128(5), parent_uuid: Uuid::nil(), flags: 0, version: Version::V1_1, geometry }
}

fn put_info(sim: &Sim, at: u64, geometry: Geometry) {
    let raw = info(geometry).encode();
    sim.write(NsOffset(at), raw.as_bytes()).expect("in range");
    // One that lies nowhere is left out.
    let _ = sim.write(NsOffset(at.saturating_add(geometry.info2off)), raw.as_bytes());
}

/// An arena as its maker leaves it: flog groups that were never used, a map of zeroes.
fn put(sim: &Sim, at: u64, geometry: Geometry) {
    put_info(sim, at, geometry);
    for group in 0..geometry.nfree {
        let block = geometry.external_nlba + group;
        let slot: Vec<u8> = [group, block, block, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
        sim.write(NsOffset(at + geometry.logoff + 64 * u64::from(group)), &slot).expect("in range");
    }
    sim.fence().expect("no faults");
}

fn crafted(geometry: Geometry) -> Sim {
    let sim = Sim::new(BYTES);
    put(&sim, PAGE_BYTES, geometry);
    sim
}

/// Areas in this order behind the info block, `gap` bytes apart, with as many blocks as fit.
fn laid_out(order: [Area; 3], sector: u32, internal: u32, nfree: u32, gap: u64) -> Geometry {
    let flog = (u64::from(nfree) * 64).next_multiple_of(PAGE_BYTES);
    let blocks = (ARENA - 3 * PAGE_BYTES - flog - 4 * gap) / (u64::from(internal) + 4);
    let internal_nlba = u32::try_from(blocks).expect("few");
    let mut geometry = Geometry {
        external_lbasize: size(sector),
        external_nlba: internal_nlba - nfree,
        internal_lbasize: internal,
        internal_nlba,
        nfree,
        nextoff: 0,
        dataoff: 0,
        mapoff: 0,
        logoff: 0,
        info2off: ARENA - PAGE_BYTES,
    };
    let mut at = PAGE_BYTES;
    for area in order {
        at += gap;
        match area {
            Area::Data => {
                geometry.dataoff = at;
                at += u64::from(internal_nlba) * u64::from(internal);
            }
            Area::Map => {
                geometry.mapoff = at.next_multiple_of(64);
                at = geometry.mapoff + geometry.map_bytes();
            }
            _ => {
                geometry.logoff = at.next_multiple_of(64);
                at = geometry.logoff + geometry.flog_bytes();
            }
        }
    }
    geometry
}

/// Writes, cuts, recovers and reads at both ends and in the middle.
fn assert_works(sim: &Sim, case: &str) {
    let btt = Btt::open(sim, PLACEMENT, 4).unwrap_or_else(|why| panic!("{case}: {why}"));
    let last = btt.capacity_sectors() - 1;
    assert_eq!(btt.arenas().find_map(|arena| arena.read_only), None, "{case}");
    // More often than there are free blocks, so that each is used.
    for round in 0..4 {
        for (cpu, lba) in [(0, 0), (1, last / 2), (2, last - 39), (3, 200)] {
            write(&btt, cpu, lba, &(0..40).map(|at| round * 1000 + lba + at).collect::<Vec<_>>()).expect("in range");
        }
    }
    drop(btt);
    for seed in 0..4 {
        let crashed = sim.crash(&mut Seeded::new(seed));
        let btt = Btt::open(&crashed, PLACEMENT, 3).unwrap_or_else(|why| panic!("{case}: {why}"));
        for lba in [0, last / 2, last - 39, 200] {
            let expected: Vec<u64> = (0..40).map(|at| 3000 + lba + at).collect();
            assert_eq!(read_run(&btt, 0, lba, 40), Ok(expected), "{case}");
        }
        drop(btt);
        assert_sound(&crashed);
    }
}

#[test]
fn any_order_of_areas_and_any_number_of_free_blocks_is_served() {
    let [linux, edk2] = [[Area::Data, Area::Map, Area::Flog], [Area::Flog, Area::Map, Area::Data]];
    for (case, geometry) in [
        ("EDK2's order", laid_out(edk2, 512, 512, 256, 0)),
        ("EDK2's order, with metadata bytes", laid_out(edk2, 4104, 4160, 256, 0)),
        ("the map first", laid_out([Area::Map, Area::Data, Area::Flog], 4096, 4096, 256, 0)),
        ("rounded up to 256", Geometry::with_blocks(ARENA, size(520), 768, false).expect("large enough")),
        ("rounded up to 256", Geometry::with_blocks(ARENA, size(4224), 4352, false).expect("large enough")),
        ("blocks that share lines", laid_out(linux, 520, 520, 256, 0)),
        ("blocks of odd lengths and places", laid_out(edk2, 528, 777, 256, 9)),
        ("room between the areas", laid_out(linux, 512, 512, 256, 5 * PAGE_BYTES)),
        ("nfree 512", laid_out(linux, 512, 512, 512, 0)),
        ("nfree 1000, in EDK2's order", laid_out(edk2, 4096, 4096, 1000, 0)),
        ("nfree 5", laid_out(linux, 512, 512, 5, 0)),
        ("nfree 1", laid_out(linux, 512, 512, 1, 0)),
    ] {
        assert_works(&crafted(geometry), case);
    }
}

#[test]
fn arenas_of_any_length_follow_one_another() {
    let sim = Sim::new(BYTES + ARENA + 8 * PAGE_BYTES);
    // The first one is followed by eight pages that belong to no arena.
    let first =
        Geometry { nextoff: ARENA + 8 * PAGE_BYTES, ..Geometry::for_new(ARENA, size(512), false).expect("fits") };
    put(&sim, PAGE_BYTES, first);
    put(&sim, PAGE_BYTES + first.nextoff, laid_out([Area::Flog, Area::Map, Area::Data], 512, 576, 300, 64));
    assert_works(&sim, "two arenas");
    let border = u64::from(first.external_nlba);
    let btt = Btt::open(&sim, PLACEMENT, 2).expect("sound");
    write(&btt, 0, border - 3, &[1, 2, 3, 4, 5, 6]).expect("in range");
    assert_eq!(read_run(&btt, 1, border - 4, 8), Ok(vec![0, 1, 2, 3, 4, 5, 6, 0]));
    drop(btt);
    // One of another BTT does not.
    let raw = InfoBlock { uuid: Uuid::from_u128(6), ..info(Geometry::for_new(ARENA, size(512), false).expect("fits")) };
    sim.write(NsOffset(PAGE_BYTES + first.nextoff), raw.encode().as_bytes()).expect("in range");
    let why = Btt::open(&sim, PLACEMENT, 1).err();
    assert!(matches!(why, Some(OpenError::ArenaDiffers { .. })), "{why:?}");
}

#[test]
fn a_map_line_that_is_lost_under_the_newest_record_of_one_arena_leaves_the_other_as_it_is() {
    let sim = Sim::new(BYTES + ARENA);
    let first = Geometry { nextoff: ARENA, ..Geometry::for_new(ARENA, size(512), false).expect("fits") };
    let second = Geometry::for_new(ARENA, size(512), false).expect("fits");
    put(&sim, PAGE_BYTES, first);
    put(&sim, PAGE_BYTES + ARENA, second);
    let border = u64::from(first.external_nlba);
    let btt = open(&sim, 2);
    write(&btt, 0, border - 2, &[1, 2, 3, 4]).expect("in range");
    btt.close().expect("no faults");
    let lossy = Lossy::new(sim.fork());
    lossy.lose(PAGE_BYTES + ARENA + second.mapoff, 64);
    let btt = open(&lossy, 2);
    let read_only: Vec<bool> = btt.arenas().map(|arena| arena.read_only.is_some()).collect();
    assert_eq!(read_only, [false, true]);
    write(&btt, 1, border - 1, &[5]).expect("the first arena is as sound as ever");
    assert_eq!(read_run(&btt, 0, border - 2, 2), Ok(vec![1, 5]));
    assert_eq!(read(&btt, 0, border + 16), Ok(0));
    for refused in [read(&btt, 0, border), write(&btt, 0, border + 16, &[6]).map(|()| 0)] {
        assert!(matches!(refused, Err(BttError::ReadOnly { .. })), "{refused:?}");
    }
}

#[test]
fn metadata_that_could_tear_are_read_and_not_written() {
    let linux = [Area::Data, Area::Map, Area::Flog];
    for (area, off) in [(Area::Map, 4), (Area::Flog, 8), (Area::Map, 60), (Area::Flog, 32)] {
        let mut geometry = laid_out(linux, 512, 512, 256, 64);
        match area {
            Area::Map => geometry.mapoff += off,
            _ => geometry.logoff += off,
        }
        let sim = crafted(geometry);
        let before = sim.image();
        let btt = open(&sim, 2);
        assert_eq!(read(&btt, 0, 7), Ok(0));
        let why = ReadOnlyReason::Misaligned(area);
        assert!(matches!(write(&btt, 0, 7, &[1]), Err(BttError::ReadOnly { why: found, .. }) if found == why));
        drop(btt);
        assert!(before == sim.image() && findings(&sim).0.iter().all(|finding| !matches!(finding, Finding::Chain(_))));
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason_and_left_as_it_is() {
    use GeometryError as E;
    let good = laid_out([Area::Flog, Area::Map, Area::Data], 512, 512, 256, PAGE_BYTES);
    let overlap = |first, second| E::AreasOverlap { first, second };
    type Change = fn(&mut Geometry);
    let cases: [(Change, GeometryError); 17] = [
        (|g| g.internal_lbasize = 511, E::InternalBlock { found: 511 }),
        (|g| g.internal_lbasize = 0, E::InternalBlock { found: 0 }),
        (|g| g.internal_lbasize = u32::MAX, E::AreaLeaves { area: Area::Data }),
        (|g| g.nfree = 0, E::NoFreeBlocks),
        (|g| g.nfree = NFREE_MAX + 1, E::BlockCount { external: 0, internal: 0 }),
        (|g| g.nfree = 255, E::BlockCount { external: 0, internal: 0 }),
        (|g| (g.external_nlba, g.internal_nlba) = (0, 256), E::BlockCount { external: 0, internal: 0 }),
        (|g| (g.external_nlba, g.internal_nlba) = (u32::MAX, 255), E::BlockCount { external: 0, internal: 0 }),
        (
            |g| (g.external_nlba, g.internal_nlba) = ((1 << 30) - 255, (1 << 30) + 1),
            E::BlockCount { external: 0, internal: 0 },
        ),
        (|g| (g.external_nlba, g.internal_nlba) = ((1 << 30) - 256, 1 << 30), E::AreaLeaves { area: Area::Map }),
        (|g| g.mapoff = g.logoff, overlap(Area::Flog, Area::Map)),
        (|g| g.dataoff = g.mapoff + 64, overlap(Area::Map, Area::Data)),
        (|g| g.info2off = 0, overlap(Area::Info, Area::Info2)),
        (|g| g.logoff = u64::MAX - 7, E::AreaLeaves { area: Area::Flog }),
        (|g| g.dataoff = ARENA, E::AreaLeaves { area: Area::Data }),
        (|g| g.nextoff = 1 << 63, E::NextArena { nextoff: 1 << 63 }),
        (|g| g.nextoff = 4095, E::NextArena { nextoff: 4095 }),
    ];
    for (change, expected) in cases {
        let mut geometry = good;
        change(&mut geometry);
        let sim = crafted(good);
        put_info(&sim, PAGE_BYTES, geometry);
        sim.fence().expect("no faults");
        let before = sim.image();
        let Err(OpenError::InfoBlock { why: InfoBlockError::Geometry(why), .. }) =
            Btt::open(&sim, PLACEMENT, 1).map(|_| ())
        else {
            panic!("{geometry:?} was served");
        };
        match (why, expected) {
            // Which blocks and which pair it names is its business.
            (E::BlockCount { .. }, E::BlockCount { .. }) | (E::AreasOverlap { .. }, E::AreasOverlap { .. }) => {}
            (E::AreaLeaves { .. }, E::AreaLeaves { .. }) => {}
            _ => assert_eq!(why, expected),
        }
        assert!(!why.to_string().is_empty() && before == sim.image());
    }
    // An arena that follows itself, closely: bounded by the namespace's length.
    let sim = Sim::new(BYTES + 40 * PAGE_BYTES);
    for at in 1..40 {
        put_info(&sim, at * PAGE_BYTES, Geometry { nextoff: PAGE_BYTES, ..good });
    }
    let why = Btt::open(&sim, PLACEMENT, 1).err();
    assert!(matches!(why, Some(OpenError::InfoBlock { .. } | OpenError::TooManyArenas)), "{why:?}");
}

/// The same block with sectors of another size.
fn with_sectors(geometry: Geometry, bytes: u32) -> Vec<u8> {
    let mut raw = info(geometry).encode();
    raw.external_lbasize = bytes.into();
    raw.checksum = 0.into();
    raw.checksum = btt::checksum::fletcher64(raw.as_bytes()).into();
    raw.as_bytes().to_vec()
}

#[test]
fn a_sound_btt_with_sectors_of_another_size_is_named_and_left_as_it_is() {
    for (external, internal) in [(1024, 1024), (8192, 8192), (1000, 1024), (8, 512)] {
        // Laid out for blocks of that size.
        let geometry = laid_out([Area::Data, Area::Map, Area::Flog], 512, internal, 256, 0);
        let sim = crafted(geometry);
        let raw = with_sectors(geometry, external);
        for at in [PAGE_BYTES, PAGE_BYTES + geometry.info2off] {
            sim.write(NsOffset(at), &raw).expect("in range");
        }
        let why = Btt::open(&sim, PLACEMENT, 2).map(|_| ()).expect_err("nobody here knows the size");
        assert_eq!(why, OpenError::SectorSize { found: external });
        assert!(!why.is_damage() && why.to_string().contains(&format!("sectors of {external} bytes")), "{why}");
        is_left_as_it_is(&sim, why);
    }
}

#[test]
fn a_sound_btt_with_more_free_blocks_than_are_served_is_named_and_left_as_it_is() {
    let nfree = NFREE_MAX + 1;
    let mapoff = PAGE_BYTES + u64::from(64 + nfree) * 512;
    let logoff = mapoff + PAGE_BYTES;
    let geometry = Geometry {
        external_lbasize: size(512),
        external_nlba: 64,
        internal_lbasize: 512,
        internal_nlba: 64 + nfree,
        nfree,
        nextoff: 0,
        dataoff: PAGE_BYTES,
        mapoff,
        logoff,
        info2off: (logoff + u64::from(nfree) * 64).next_multiple_of(PAGE_BYTES),
    };
    let sim = Sim::new(geometry.info2off + 2 * PAGE_BYTES);
    put_info(&sim, PAGE_BYTES, geometry);
    let why = Btt::open(&sim, PLACEMENT, 2).map(|_| ()).expect_err("it is beyond our limit");
    assert_eq!(why, OpenError::Nfree { found: nfree });
    assert!(!why.is_damage() && why.to_string().contains(&format!("{nfree} free blocks")), "{why}");
    is_left_as_it_is(&sim, why);
    // With anything else wrong it is damaged.
    put_info(&sim, PAGE_BYTES, Geometry { external_nlba: 0, ..geometry });
    let why = Btt::open(&sim, PLACEMENT, 2).map(|_| ()).expect_err("it has no sectors");
    assert!(why.is_damage(), "{why}");
}

/// A repair with all its options finds only that, and writes nothing.
fn is_left_as_it_is(sim: &Sim, why: OpenError) {
    sim.fence().expect("no faults");
    let before = sim.image();
    let options = RepairOptions {
        repair: true,
        rewrite_log: true,
        force: true,
        fresh_uuid: Uuid::from_u128(1),
        window_blocks: u32::MAX,
    };
    let mut found = Vec::new();
    let mut report = |finding, repaired| found.push((finding, repaired));
    repair(sim, PLACEMENT, &options, &mut report, &mut |_, _| ());
    assert_eq!(found, [(Finding::Chain(why), false)]);
    assert!(before == sim.image(), "nothing is written");
}

/// The medium determines how much memory a BTT takes: no more than the caller allows, and no less than it needs.
#[test]
fn free_lists_keep_to_the_memory_that_is_allowed_for_them() {
    const NFREE: u32 = 1 << 12;
    const ARENAS: u64 = 3;
    let linux = [Area::Data, Area::Map, Area::Flog];
    let sim = Sim::new(PAGE_BYTES + ARENAS * ARENA);
    for arena in 0..ARENAS {
        let nextoff = if arena + 1 < ARENAS { ARENA } else { 0 };
        put(&sim, PAGE_BYTES + arena * ARENA, Geometry { nextoff, ..laid_out(linux, 512, 512, NFREE, 0) });
    }
    let before = sim.image();
    let refused = |most| Btt::open_within(&sim, PLACEMENT, 4, most).map(|_| ()).expect_err("too little");
    let OpenError::OverBudget { free_blocks, needed, most: 0 } = refused(0) else { panic!("{}", refused(0)) };
    assert_eq!(free_blocks, ARENAS * u64::from(NFREE));
    // A group is 64 bytes on the medium, and no less while it is looked at.
    assert!((u64::from(NFREE) * 64..200 * free_blocks).contains(&needed), "{needed}");
    assert_eq!(refused(needed - 1), OpenError::OverBudget { free_blocks, needed, most: needed - 1 });
    assert!(!refused(0).is_damage() && before == sim.image());
    let btt = Btt::open_within(&sim, PLACEMENT, 4, needed).expect("just enough");
    assert!(btt.memory_bytes() < needed && btt.memory_bytes() > free_blocks * 16, "{}", btt.memory_bytes());
    // More lanes, more memory: each knows what it has seen of the others. Each line of these maps has a stripe already.
    let more = Btt::open(&sim, PLACEMENT, 256).expect("sound").memory_bytes();
    assert!(more >= btt.memory_bytes() + 8 * (256 * 256 - 4 * 4), "{more}");
    let stripes = ARENAS * 1024 * 64;
    assert!(btt.memory_bytes() > free_blocks * 16 + stripes, "{}", btt.memory_bytes());
}

/// Arenas of one BTT may have more and fewer free blocks. One flog at a time is looked at, and none for another.
#[test]
fn arenas_with_different_numbers_of_free_blocks_are_each_read_to_their_own_length() {
    const NFREE: [u32; 3] = [256, 5, 300];
    let linux = [Area::Data, Area::Map, Area::Flog];
    let sim = Sim::new(PAGE_BYTES + 3 * ARENA);
    let geometries = [0, 1, 2].map(|arena| {
        let nextoff = if arena < 2 { ARENA } else { 0 };
        Geometry { nextoff, ..laid_out(linux, 512, 512, NFREE[arena], 0) }
    });
    let at = |arena: usize| PAGE_BYTES + arena as u64 * ARENA;
    for (arena, geometry) in geometries.iter().enumerate() {
        put(&sim, at(arena), *geometry);
    }
    let btt = Btt::open(&sim, PLACEMENT, 64).expect("sound");
    assert_eq!(btt.arenas().map(|arena| arena.info.geometry.nfree).collect::<Vec<_>>(), NFREE);
    assert_eq!(btt.lane_count(), 5, "each lane has a free block of every arena");
    // The last group of each arena is looked at, and nothing behind it.
    for (arena, geometry) in geometries.iter().enumerate() {
        let group = NsOffset(at(arena) + geometry.logoff + 64 * u64::from(NFREE[arena] - 1));
        let mut sound = [0; 64];
        sim.read(group, &mut sound).expect("in range");
        sim.write(group, &[0xff; 64]).expect("in range");
        let why = Btt::open(&sim, PLACEMENT, 4).map(|_| ()).expect_err("a damaged flog");
        let OpenError::Flog { arena: in_arena, group: number, .. } = why else { panic!("{why}") };
        assert_eq!((in_arena.0 as usize, number), (arena, NFREE[arena] - 1));
        sim.write(group, &sound).expect("in range");
        Btt::open(&sim, PLACEMENT, 4).expect("sound again");
    }
}

/// Sectors of new namespaces, computed apart from this project's code, from btt.c's description in words.
#[test]
fn new_namespaces_have_exactly_as_many_sectors_as_linux_gives_them() {
    let counts: [(u64, [u32; 7]); 3] = [(16 << 20, EXACT[0]), (40 << 20, EXACT[1]), (128 << 20, EXACT[2])];
    for (bytes, expected) in counts {
        for (sector, expected) in SECTOR_SIZES.into_iter().zip(expected) {
            // Version 2.0 begins at 0; 1.1 a page later.
            for (version, extra) in [(Version::V2_0, 0), (Version::V1_1, PAGE_BYTES)] {
                let sim = sparse::Sparse::new(bytes + extra);
                format(&sim, &FormatOptions { version, ..format_options(sector) }, &mut |_, _| ())
                    .expect("large enough");
                let placement = btt::Placement { version, parent_uuid: Uuid::nil() };
                let btt = Btt::open(&sim, placement, 1).expect("sound");
                assert_eq!(btt.capacity_sectors(), u64::from(expected), "{bytes:#x} {sector} {version}");
            }
        }
    }
}

/// For 16, 40 and 128 MiB, by sector size.
const EXACT: [[u32; 7]; 3] = [
    [32_202, 28_620, 28_620, 3_829, 3_766, 3_766, 3_705],
    [80_973, 72_010, 72_010, 9_967, 9_809, 9_809, 9_657],
    [259_800, 231_104, 231_104, 32_473, 31_969, 31_969, 31_482],
];
