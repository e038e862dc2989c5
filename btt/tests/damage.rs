//! Damaged media: each kind gets a clear error with its place, nothing is written, and what can still be read is.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use std::ops::ControlFlow;

use btt::check::Finding;
use btt::flog::FlogError;
use btt::info_block::InfoBlockError;
use btt::media::{MediaError, Medium, NsOffset};
use btt::repair::{RepairOptions, repair};
use btt::sim::{Choose, Seeded, Sim};
use btt::{ArenaIndex, Btt, BttError, OpenError, PostmapAba, PremapAba, ReadOnlyReason};

use common::lossy::Lossy;
use common::*;

/// Where things are on the media of these tests.
struct Places {
    info: u64,
    map: u64,
    flog: u64,
    info2: u64,
    external: u32,
    internal: u32,
}

fn places(sim: &Sim) -> Places {
    let arena = open(sim, 1).arenas().next().expect("one arena");
    let (at, g) = (arena.at.0, arena.info.geometry);
    Places {
        info: at,
        map: at + g.mapoff,
        flog: at + g.logoff,
        info2: at + g.info2off,
        external: g.external_nlba,
        internal: g.internal_nlba,
    }
}

/// Media with some sectors written, and where things are.
fn used() -> (Sim, Places) {
    let btt = open(made(512), 2);
    for lba in 0..8 {
        write(&btt, lba as u32, lba * 3, &[lba + 1; 4]).expect("in range");
    }
    let sim = btt.close().expect("no faults");
    let at = places(&sim);
    (sim, at)
}

fn poke(sim: &Sim, at: u64, bytes: &[u8]) {
    sim.write(NsOffset(at), bytes).expect("in range");
    sim.fence().expect("no faults");
}

fn poke_u32(sim: &Sim, at: u64, value: u32) {
    poke(sim, at, &value.to_le_bytes());
}

fn slot(sim: &Sim, at: u64, words: [u32; 4]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    poke(sim, at, &bytes);
}

/// Opening fails with this, and changes nothing.
fn refused(sim: &Sim) -> OpenError {
    let before = sim.image();
    let why = Btt::open(sim, PLACEMENT, 2).map(|_| ()).expect_err("it is damaged");
    assert!(before == sim.image(), "opening wrote to damaged media");
    why
}

#[test]
fn a_blank_namespace_is_not_a_btt() {
    assert_eq!(refused(&Sim::new(BYTES)), OpenError::NotABtt);
    let least = PLACEMENT.version.initial_offset().0 + (16 << 20);
    for bytes in [0, 1 << 20, least - 1] {
        assert_eq!(refused(&Sim::new(bytes)), OpenError::TooSmall { bytes, least });
    }
}

#[test]
fn a_lost_info_block_names_its_sound_copy() {
    let (sim, at) = used();
    poke(&sim, at.info, &[0; 4096]);
    let (arena, place, backup) = (ArenaIndex(0), NsOffset(at.info), Some(NsOffset(at.info2)));
    let why = InfoBlockError::Signature;
    assert_eq!(refused(&sim), OpenError::InfoBlock { arena, at: place, why, backup });
    poke(&sim, at.info2 + 100, &[1]);
    assert_eq!(refused(&sim), OpenError::NotABtt);
}

#[test]
fn a_damaged_copy_is_a_finding_and_no_obstacle() {
    let (sim, at) = used();
    poke(&sim, at.info2 + 100, &[1]);
    assert_eq!(read(&open(&sim, 2), 0, 0), Ok(1));
    assert_eq!(findings(&sim).0, [Finding::Backup { arena: ArenaIndex(0), at: NsOffset(at.info2) }]);
}

#[test]
fn impossible_flog_groups_are_refused_with_their_place() {
    let (sim, at) = used();
    // A group that was never used: short runs take a lane's first groups.
    let group = at.flog + 64 * 201;
    let block = at.external + 201;
    let cases = [
        ([201, block, block, 2], FlogError::Sequence { first: 2, second: 0 }),
        ([201, block, block, 7], FlogError::Sequence { first: 7, second: 0 }),
        ([at.external, block, block, 1], FlogError::LbaOutOfBounds { found: at.external }),
        ([201, at.internal, block, 1], FlogError::BlockOutOfBounds { found: at.internal }),
        ([201, block + 1, block + 1, 1], FlogError::BlockOwnedTwice { block: PostmapAba(block + 1) }),
    ];
    for (words, why) in cases {
        let sim = sim.fork();
        slot(&sim, group, words);
        match refused(&sim) {
            OpenError::Flog { group, why: found, .. } => {
                assert_eq!(found, why);
                assert!(group == 201 || group == 202, "{group}");
            }
            other => panic!("{other}"),
        }
        assert!(findings(&sim).0.iter().any(Finding::is_damage), "the check finds it too");
    }
    let zeroed = sim.fork();
    poke(&zeroed, at.flog, &[0; 64 * 256]);
    assert!(matches!(refused(&zeroed), OpenError::Flog { why: FlogError::NeverWritten, .. }));
    let mixed = sim.fork();
    slot(&mixed, group + 32, [201, block, block, 2]);
    assert!(matches!(refused(&mixed), OpenError::Flog { group: 201, why: FlogError::SlotLayout { .. }, .. }));
}

#[test]
fn a_map_entry_past_the_end_turns_its_arena_read_only() {
    let (sim, at) = used();
    let (premap, found) = (PremapAba(1000), 0xc000_0000 | at.internal);
    poke_u32(&sim, at.map + 4000, found);
    let untouched = sim.fork();
    let btt = open(&sim, 2);
    let why = ReadOnlyReason::MapOutOfBounds { premap, found };
    let error = BttError::ReadOnly { arena: ArenaIndex(0), why };
    write(&btt, 0, 0, &[77]).expect("nobody has seen it yet");
    assert_eq!(read(&btt, 0, 1000), Err(error));
    assert_eq!(write(&btt, 0, 0, &[78]), Err(error));
    assert_eq!(read(&btt, 1, 0), Ok(77), "reads go on");
    assert_eq!(btt.arenas().next().and_then(|arena| arena.read_only), Some(why));
    drop(btt);
    // writing it finds it as well, and stores nothing
    let btt = open(&untouched, 2);
    let before = btt.media().load_u32(NsOffset(at.map + 4000));
    assert_eq!(write(&btt, 0, 999, &[1, 2, 3]), Err(error));
    assert_eq!(btt.media().load_u32(NsOffset(at.map + 4000)), before);
    let found = Finding::MapOutOfBounds { arena: ArenaIndex(0), premap, at: NsOffset(at.map + 4000), found };
    assert!(findings(&sim).0.contains(&found));
}

#[test]
fn blocks_with_two_owners_or_none_are_found_by_the_check() {
    let (sim, at) = used();
    // Sector 2000 takes the block of sector 2001.
    poke_u32(&sim, at.map + 8000, 0xc000_0000 | 2001);
    let premap = PremapAba(2001);
    let twice =
        Finding::BlockOwnedTwice { arena: ArenaIndex(0), block: PostmapAba(2001), premap, at: NsOffset(at.map + 8004) };
    let lost = Finding::BlockLost { arena: ArenaIndex(0), block: PostmapAba(2000) };
    assert_eq!(findings(&sim).0, [twice, lost]);
    // The same with a window that is smaller than the arena.
    let mut found = Vec::new();
    btt::check::check(&sim, PLACEMENT, 2001, &mut |f| found.push(f), &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(found, [lost, twice]);
}

#[test]
fn an_interrupted_write_in_a_hardly_used_map_is_found_whatever_the_window() {
    let sim = made(512);
    let at = places(&sim);
    let premap = PremapAba(20_000);
    slot(&sim, at.flog + 16, [premap.0, premap.0, at.external, 2]);
    for window in [64, 2001, u32::MAX] {
        let mut found = Vec::new();
        let summary =
            btt::check::check(&sim, PLACEMENT, window, &mut |f| found.push(f), &mut |_, _| ControlFlow::Continue(()));
        let interrupted = Finding::Interrupted { arena: ArenaIndex(0), premap, at: NsOffset(at.map + 80_000) };
        assert_eq!(found, [interrupted], "{window}");
        assert_eq!((summary.normal, summary.initial), (1, u64::from(at.external) - 1));
    }
}

#[test]
fn error_and_trim_entries_read_as_linux_means_them() {
    let (sim, at) = used();
    let entry = sim.load_u32(NsOffset(at.map)).expect("in range") & 0x3fff_ffff;
    poke_u32(&sim, at.map, 0x4000_0000 | entry);
    poke_u32(&sim, at.map + 4 * 500, 0x8000_0000 | 500);
    let btt = open(&sim, 2);
    assert_eq!(read(&btt, 0, 0), Err(BttError::SectorError { lba: btt::ExternalLba(0) }));
    assert_eq!(read(&btt, 0, 500), Ok(0));
    write(&btt, 0, 0, &[55]).expect("a write clears it");
    write(&btt, 0, 500, &[56]).expect("in range");
    assert_eq!((read(&btt, 1, 0), read(&btt, 1, 500)), (Ok(55), Ok(56)));
    drop(btt);
    // old_map carries the error flag now, and is understood
    assert_eq!(read(&open(&sim, 2), 0, 0), Ok(55));
    assert_sound(&sim);
}

#[test]
fn the_old_flog_layout_is_read_and_kept() {
    let (sim, at) = used();
    for group in 0..256 {
        let place = at.flog + 64 * group;
        let mut second = [0; 16];
        sim.read(NsOffset(place + 16), &mut second).expect("in range");
        poke(&sim, place + 16, &[0; 16]);
        poke(&sim, place + 32, &second);
    }
    let btt = open(&sim, 2);
    assert_eq!(btt.arenas().next().map(|arena| arena.slots), Some(btt::flog::Slots::ZeroTwo));
    write(&btt, 0, 700, &[9; 40]).expect("in range");
    assert!(btt.close().is_ok());
    let btt = open(&sim, 3);
    assert_eq!(read_run(&btt, 0, 700, 40), Ok(vec![9; 40]));
    assert_eq!(btt.arenas().next().map(|arena| arena.slots), Some(btt::flog::Slots::ZeroTwo));
    assert_sound(btt.media());
}

#[test]
fn the_error_flag_lets_reads_through_and_writes_not() {
    let (sim, at) = used();
    let mut raw = btt::info_block::read_raw(&sim, NsOffset(at.info)).expect("in range");
    raw.flags = 1.into();
    raw.checksum = 0.into();
    raw.checksum = btt::checksum::fletcher64(zerocopy::IntoBytes::as_bytes(&raw)).into();
    poke(&sim, at.info, zerocopy::IntoBytes::as_bytes(&raw));
    poke(&sim, at.info2, zerocopy::IntoBytes::as_bytes(&raw));
    let btt = open(&sim, 2);
    assert_eq!(read(&btt, 0, 0), Ok(1));
    let why = ReadOnlyReason::ErrorFlag;
    assert_eq!(write(&btt, 0, 0, &[5]), Err(BttError::ReadOnly { arena: ArenaIndex(0), why }));
}

/// Recovery, state by state: the record says 9: old → new.
#[test]
fn recovery_by_the_state_of_the_map() {
    //    map says …                                 … and is afterwards, reading
    let cases = [("old", Tag::Old, Tag::New, 1), ("new", Tag::New, Tag::New, 0), ("other", Tag::Other, Tag::Other, 0)];
    for (what, before, after, recovered) in cases {
        let sim = made(512);
        let at = places(&sim);
        let (old, new, other) = (9, at.external, 4321);
        let block = |tag| match tag {
            Tag::Old => old,
            Tag::New => new,
            Tag::Other => other,
        };
        slot(&sim, at.flog + 16, [9, old, new, 2]);
        poke_u32(&sim, at.map + 36, 0xc000_0000 | block(before));
        let btt = open(&sim, 1);
        assert_eq!(btt.recovered_writes(), recovered, "{what}");
        assert_eq!(sim.load_u32(NsOffset(at.map + 36)), Ok(0xc000_0000 | block(after)), "{what}");
    }
}

/// A map line is lost, and a flog group may hold the record of an interrupted write of one of its sectors.
#[test]
fn a_lost_map_line_under_the_newest_records_costs_its_sectors_and_the_arena_its_writes() {
    // Sectors 0 to 599 written, then 590 to 597 again, and the power cut before their map entries were durable.
    let btt = open(made(512), 3);
    for lba in 0..600 {
        write(&btt, lba as u32, lba, &[lba + 1]).expect("in range");
    }
    btt.drain().expect("no faults");
    write(&btt, 1, 590, &[9000; 8]).expect("in range");
    let cut = btt.media().crash(&mut Nothing);
    let at = places(open(&cut.fork(), 1).close().expect("no faults"));
    // Lines 36 and 37 have the sectors 576 to 591, and 592 to 607.
    for (what, line) in [("36", 36), ("37", 37), ("without writes", 1000)] {
        let lossy = Lossy::new(cut.fork());
        lossy.lose(at.map + 64 * line, 64);
        let btt = Btt::open(&lossy, PLACEMENT, 3).unwrap_or_else(|why| panic!("{what}: {why}"));
        let arena = btt.arenas().next().expect("one arena");
        if line == 1000 {
            assert_eq!((arena.read_only, btt.recovered_writes()), (None, 8), "{what}");
            continue;
        }
        let why = ReadOnlyReason::Metadata(MediaError::Poisoned { at: NsOffset(at.map + 64 * line) });
        let found = arena.read_only.expect("what waits there nobody knows");
        assert!(matches!(found, ReadOnlyReason::Metadata(MediaError::Poisoned { .. })), "{what}: {found}");
        assert!(found.to_string().starts_with(&why.to_string()[..30]), "{what}: {found}");
        assert!(matches!(write(&btt, 0, 5000, &[1]), Err(BttError::ReadOnly { .. })), "{what}");
        for lba in 0..600 {
            let expected = if (590..598).contains(&lba) { 9000 } else { lba + 1 };
            match read(&btt, 0, lba) {
                Ok(tag) => assert!(lba / 16 != line && tag == expected, "{what}: LBA {lba} reads {tag}"),
                Err(why) => {
                    assert!(lba / 16 == line && matches!(why, BttError::ReadOnly { .. }), "{what}: LBA {lba}: {why}");
                }
            }
        }
        assert_eq!(read(&btt, 0, 5000), Ok(0), "{what}");
        drop(btt);
        // The info block says so now, and nothing else was written. A forced repair makes errors of what is lost.
        let flag = |f: &Finding| matches!(f, Finding::ErrorFlag { .. });
        assert!(findings(&lossy).0.iter().any(flag), "{what}");
        let metadata = at.map as usize..at.info2 as usize;
        assert!(lossy.inner.image()[metadata.clone()] == cut.image()[metadata], "{what}");
        let options = RepairOptions {
            repair: true,
            rewrite_log: false,
            force: true,
            fresh_uuid: uuid::Uuid::nil(),
            window_blocks: u32::MAX,
        };
        repair(&lossy, PLACEMENT, &options, &mut |_, _| (), &mut |_, _| ());
        assert_sound(&lossy);
        let btt = open(&lossy, 3);
        for lba in 0..600 {
            let expected = if (590..598).contains(&lba) { 9000 } else { lba + 1 };
            match read(&btt, 0, lba) {
                Ok(tag) => assert!(lba / 16 != line && tag == expected, "{what}: LBA {lba} reads {tag}"),
                Err(why) => assert!(lba / 16 == line && matches!(why, BttError::SectorError { .. }), "{what}: {why}"),
            }
        }
        write(&btt, 2, 16 * line, &[7; 16]).expect("they can be written again");
    }
}

/// Loses all that can be lost.
struct Nothing;

impl Choose for Nothing {
    fn below(&mut self, _: u64) -> u64 {
        0
    }
}

#[derive(Clone, Copy)]
enum Tag {
    Old,
    New,
    Other,
}

#[test]
fn no_damage_to_the_metadata_makes_it_panic() {
    let (sim, at) = used();
    let mut random = Seeded::new(11);
    for round in 0..400 {
        let sim = sim.fork();
        for _ in 0..=random.below(4) {
            let (start, bytes) = match random.below(4) {
                0 => (at.info, 128),
                1 => (at.info2, 4088),
                2 => (at.map, 256),
                _ => (at.flog, 64 * 256),
            };
            let place = start + random.below(bytes);
            let junk = random.next().to_le_bytes();
            poke(&sim, place, &junk[..1 + random.below(8) as usize]);
        }
        if round % 2 == 0 {
            // a right checksum lets the damage through to the meaning
            let mut raw = btt::info_block::read_raw(&sim, NsOffset(at.info)).expect("in range");
            raw.checksum = 0.into();
            raw.checksum = btt::checksum::fletcher64(zerocopy::IntoBytes::as_bytes(&raw)).into();
            poke(&sim, at.info, zerocopy::IntoBytes::as_bytes(&raw));
        }
        let _ = findings(&sim);
        if let Ok(btt) = Btt::open(&sim, PLACEMENT, 2) {
            let mut bytes = vec![0; btt.sector_size().bytes() as usize * 64];
            if let Some(mut sink) = btt::bytes::SectorsMut::new(&mut bytes, btt.sector_size()) {
                let _ = btt.reader(btt::CpuIndex(0)).read(btt::ExternalLba(0), 64, &mut sink);
            }
            let _ = write(&btt, 1, 3, &[1; 40]);
        }
    }
}
