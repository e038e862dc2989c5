//! Repairs: what is mended, what is left alone, and what a cut at any point of a repair leaves.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use std::ops::ControlFlow;

use btt::check::{Finding, check};
use btt::info_block::InfoBlockError;
use btt::media::{Medium, NsOffset};
use btt::repair::{RepairOptions, repair};
use btt::sim::{Choose, Seeded, Sim};
use btt::{Btt, BttError, OpenError, ReadOnlyReason};
use uuid::Uuid;
use zerocopy::IntoBytes;

use common::lossy::Lossy;
use common::*;

const REPAIR: RepairOptions = RepairOptions {
    repair: true,
    rewrite_log: false,
    force: false,
    fresh_uuid: Uuid::from_u128(77),
    window_blocks: u32::MAX,
};
const FORCE: RepairOptions = RepairOptions { force: true, ..REPAIR };
const REWRITE: RepairOptions = RepairOptions { repair: false, rewrite_log: true, ..REPAIR };

fn mend<M: Medium>(media: &M, options: &RepairOptions) -> Vec<(Finding, bool)> {
    let mut found = Vec::new();
    repair(media, PLACEMENT, options, &mut |finding, repaired| found.push((finding, repaired)), &mut |_, _| ());
    found
}

fn all_repaired(found: &[(Finding, bool)]) -> bool {
    !found.is_empty() && found.iter().all(|(_, repaired)| *repaired)
}

/// Where things are.
struct Places {
    info: u64,
    map: u64,
    flog: u64,
    info2: u64,
    external: u32,
}

fn places(sim: &Sim) -> Places {
    let arena = open(sim, 1).arenas().next().expect("one arena");
    let (at, g) = (arena.at.0, arena.info.geometry);
    Places { info: at, map: at + g.mapoff, flog: at + g.logoff, info2: at + g.info2off, external: g.external_nlba }
}

/// How many sectors the media of these tests have written.
const WRITTEN: u64 = 60;

fn tags() -> Vec<u64> {
    (1..=WRITTEN).collect()
}

/// Media with some sectors written twice, from three lanes, the last run's map entries not durable.
fn used(sector: u32) -> (Sim, Places) {
    let btt = open(made(sector), 3);
    for lba in 0..WRITTEN {
        write(&btt, lba as u32, lba, &[1000 + lba]).expect("in range");
    }
    for (lba, tag) in (0..).zip(tags()) {
        write(&btt, (lba / 7) as u32, lba, &[tag]).expect("in range");
    }
    let sim = btt.close().expect("no faults");
    let at = places(&sim);
    (sim.settled(), at)
}

fn poke(sim: &Sim, at: u64, bytes: &[u8]) {
    sim.write(NsOffset(at), bytes).expect("in range");
    sim.fence().expect("no faults");
}

fn poke_words(sim: &Sim, at: u64, words: &[u32]) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    poke(sim, at, &bytes);
}

fn assert_all_there<M: Medium>(media: &M, what: &str) {
    let btt = Btt::open(media, PLACEMENT, 2).unwrap_or_else(|why| panic!("{what}: {why}"));
    assert_eq!(read_run(&btt, 0, 0, WRITTEN), Ok(tags()), "{what}");
}

/// Cuts the power at every event of a repair, and hands what is left to `judge`.
fn at_every_cut(damaged: &Sim, options: &RepairOptions, mut judge: impl FnMut(Sim, &str)) {
    let (replay, recording) = (damaged.fork(), damaged.fork());
    recording.record();
    mend(&recording, options);
    let events = recording.recorded();
    assert!(!events.is_empty(), "there was nothing to repair");
    let mut random = Seeded::new(events.len() as u64);
    for (index, event) in events.iter().enumerate() {
        replay.replay(event);
        for turn in 0..if replay.has_pending() { 3 } else { 1 } {
            judge(replay.crash(&mut random), &format!("event {index} of {} turn {turn}, {event:.20?}", events.len()));
        }
    }
}

/// A repair that a cut has ended comes to the same end when it is done again.
fn is_resumed(damaged: &Sim, options: &RepairOptions) {
    at_every_cut(damaged, options, |crashed, what| {
        mend(&crashed, options);
        assert_all_there(&crashed, what);
        assert_eq!(findings(&crashed).0, [], "{what}");
    });
}

#[test]
fn info_blocks_are_repaired_from_one_another() {
    let (sim, at) = used(512);
    for (place, bytes) in [(at.info, 4096), (at.info2, 4096), (at.info + 4000, 1), (at.info2 + 33, 1)] {
        let damaged = sim.fork();
        poke(&damaged, place, &vec![0xa5; bytes]);
        let untouched = damaged.image();
        assert!(!mend(&damaged, &RepairOptions { repair: false, ..REPAIR }).iter().any(|(_, repaired)| *repaired));
        assert!(untouched == damaged.image(), "a check without options stored something");
        is_resumed(&damaged, &REPAIR);
        assert!(all_repaired(&mend(&damaged, &REPAIR)));
        assert!(damaged.image() == sim.image(), "the info blocks are what they were");
    }
}

#[test]
fn an_info_block_is_regenerated_where_flog_and_map_tell_all() {
    for sector in [512, 4096, 4224] {
        let (sim, at) = used(sector);
        let was = open(&sim, 1).arenas().next().expect("one arena").info.geometry;
        poke(&sim, at.info, &[0; 4096]);
        poke(&sim, at.info2, &[0; 4096]);
        assert!(matches!(Btt::open(&sim, PLACEMENT, 1).map(|_| ()), Err(OpenError::NotABtt)));
        is_resumed(&sim, &REPAIR);
        assert!(all_repaired(&mend(&sim, &REPAIR)));
        let btt = open(&sim, 1);
        assert_eq!((btt.uuid(), btt.arenas().next().map(|a| a.info.geometry)), (REPAIR.fresh_uuid, Some(was)));
        assert_all_there(&sim, "regenerated");
    }
}

#[test]
fn sizes_with_one_layout_are_told_apart_by_what_is_left_or_not_at_all() {
    for sector in [520, 528, 4104, 4160] {
        let (sim, at) = used(sector);
        let gone = sim.fork();
        poke(&gone, at.info, &[0; 4096]);
        poke(&gone, at.info2, &[0; 4096]);
        let before = gone.image();
        assert!(mend(&gone, &REPAIR).iter().all(|(_, repaired)| !repaired));
        assert!(before == gone.image(), "nobody guesses a sector size");
        poke(&sim, at.info, &[0; 48]);
        poke(&sim, at.info2 + 1000, &[1]);
        assert!(all_repaired(&mend(&sim, &REPAIR)));
        assert_eq!((open(&sim, 1).sector_size().bytes(), open(&sim, 1).uuid()), (sector, format_options(512).uuid));
        assert_all_there(&sim, "regenerated");
    }
}

#[test]
fn a_look_that_is_ended_early_says_so() {
    let (sim, at) = used(4096);
    poke_words(&sim, at.flog + 64 * 200 + 12, &[7]);
    let (mut found, mut steps) = (0, 0);
    let mut end = |_, _| {
        steps += 1;
        ControlFlow::Break(())
    };
    let summary = check(&sim, PLACEMENT, u32::MAX, &mut |_| found += 1, &mut end);
    assert!(summary.ended_early && steps == 1, "{summary:?}");
    assert_eq!(found, 1, "what was found by then is reported; blocks without an owner are not known yet");
    let summary = check(&sim, PLACEMENT, u32::MAX, &mut |_| (), &mut |_, _| ControlFlow::Continue(()));
    assert!(!summary.ended_early);
}

#[test]
fn little_memory_changes_neither_what_is_found_nor_what_is_mended() {
    let (sim, at) = used(4096);
    let five = sim.load_u32(NsOffset(at.map + 4 * 5)).expect("in range");
    poke_words(&sim, at.map + 4 * 40, &[five]);
    poke_words(&sim, at.map + 4 * 50, &[0xffff_ffff]);
    poke_words(&sim, at.flog + 64 * 200 + 12, &[7]);
    let look = |window_blocks| {
        let (mut found, mut steps) = (Vec::new(), Vec::new());
        let mut step = |done, total| {
            steps.push((done, total));
            ControlFlow::Continue(())
        };
        let summary = check(&sim, PLACEMENT, window_blocks, &mut |finding| found.push(finding), &mut step);
        // Progress only goes on, and comes to its end.
        assert!(steps.is_sorted() && steps.iter().all(|(done, total)| done <= total), "{steps:?}");
        assert!(steps.last().is_some_and(|(done, total)| done == total), "{steps:?}");
        found.sort_by_key(Finding::at);
        (found, summary, steps.len())
    };
    let (all_at_once, piece_by_piece) = (look(u32::MAX), look(100));
    assert_eq!((all_at_once.0.len(), &all_at_once.0, all_at_once.1), (3, &piece_by_piece.0, piece_by_piece.1));
    assert!(piece_by_piece.2 > 10 * all_at_once.2, "the map is read once for each window");

    let little = sim.fork();
    assert!(all_repaired(&mend(&little, &RepairOptions { window_blocks: 100, ..FORCE })));
    assert!(all_repaired(&mend(&sim, &FORCE)));
    assert!(little.image() == sim.image());
}

#[test]
fn a_repair_says_how_far_it_is_whenever_it_has_read_a_piece_of_the_map() {
    const WINDOW: u32 = 64;
    const PIECE: u32 = 1 << 14;
    let (sound, at) = used(512);
    let five = sound.load_u32(NsOffset(at.map + 4 * 5)).expect("in range");
    let blocks = open(&sound, 1).arenas().next().expect("one arena").info.geometry.internal_nlba;
    let pieces = at.external.div_ceil(PIECE);
    // A survey reads the map once for each window of blocks.
    let survey = blocks.div_ceil(WINDOW) * pieces;
    let (nameless, contested) = (sound.fork(), sound);
    poke(&nameless, at.info, &[0; 4096]);
    poke(&nameless, at.info2, &[0; 4096]);
    poke_words(&contested, at.map + 4 * 40, &[five]);
    poke_words(&contested, at.flog + 64 * 200 + 12, &[7]);
    for (media, expected) in [
        // The layout that fits, and the look at what it makes.
        (nameless, 2 * survey),
        // A look, where the damage is, the sectors that share a block, and a second look.
        (contested, 3 * survey + pieces),
    ] {
        let mut steps = 0;
        let options = RepairOptions { window_blocks: WINDOW, ..FORCE };
        repair(&media, PLACEMENT, &options, &mut |_, repaired| assert!(repaired), &mut |_, _| steps += 1);
        assert_eq!(steps, expected);
    }
}

#[test]
fn what_never_was_a_btt_is_not_made_one() {
    let mut random = Seeded::new(4);
    let noise = Sim::new(BYTES);
    for page in 0..200 {
        let junk: Vec<u8> = (0..512).flat_map(|_| random.next().to_le_bytes()).collect();
        poke(&noise, random.below(BYTES / 4096 - 1) * 4096 + page % 2 * 8, &junk);
    }
    for sim in [Sim::new(BYTES), noise] {
        let before = sim.image();
        mend(&sim, &FORCE);
        assert!(before == sim.image());
    }
}

#[test]
fn interrupted_writes_are_finished() {
    let btt = open(made(512), 1);
    for (lba, tag) in (0..).zip(tags()) {
        write(&btt, 0, lba, &[tag]).expect("in range");
    }
    let crashed = btt.media().crash(&mut Least);
    assert!(matches!(findings(&crashed).0.as_slice(), [Finding::Interrupted { .. }]));
    is_resumed(&crashed, &REPAIR);
    assert!(all_repaired(&mend(&crashed, &REPAIR)));
    assert_eq!(open(&crashed, 1).recovered_writes(), 0);
}

/// Keeps nothing that is not durable.
struct Least;

impl Choose for Least {
    fn below(&mut self, _: u64) -> u64 {
        0
    }
}

#[test]
fn lost_flog_groups_get_the_blocks_that_nobody_has() {
    let (sim, at) = used(512);
    let group = |index: u64| at.flog + 64 * index;
    let e = at.external;
    type Damage<'a> = (&'a str, Box<dyn Fn(&Sim) + 'a>);
    let cases: [Damage<'_>; 7] = [
        ("zeroes", Box::new(|sim| poke(sim, group(4), &[0; 64]))),
        ("noise", Box::new(|sim| poke(sim, group(4), &[0xee; 64]))),
        (
            "equal sequence numbers",
            Box::new(|sim| poke_words(sim, group(250), &[250, e + 250, e + 250, 1, 3, 4, 5, 1])),
        ),
        ("an empty slot that is newer", Box::new(|sim| poke_words(sim, group(251), &[251, e + 251, e + 251, 2]))),
        ("a block past the end", Box::new(|sim| poke_words(sim, group(252), &[252, e + 999, e + 999, 1]))),
        ("one block free twice", Box::new(|sim| poke_words(sim, group(253), &[253, e + 254, e + 254, 1]))),
        ("another layout", Box::new(|sim| poke_words(sim, group(200) + 32, &[9, 9, 9, 9]))),
    ];
    for (what, damage) in &cases {
        let damaged = sim.fork();
        damage(&damaged);
        assert!(Btt::open(&damaged, PLACEMENT, 1).is_err(), "{what}");
        is_resumed(&damaged, &REPAIR);
        let found = mend(&damaged, &REPAIR);
        assert!(all_repaired(&found), "{what}: {found:?}");
        assert_all_there(&damaged, what);
    }
    let none = sim.fork();
    poke(&none, at.flog, &[0; 64 * 256]);
    assert!(all_repaired(&mend(&none, &REPAIR)));
    assert_all_there(&none, "no flog at all");
    let btt = open(&none, 3);
    for tag in 0..600 {
        write(&btt, tag as u32, 100 + tag % 9, &[tag]).expect("the free list is as good as new");
    }
    assert_eq!(findings(&btt.close().expect("no faults")).0, []);
}

#[test]
fn a_group_that_may_hold_an_interrupted_write_is_rebuilt_only_by_force() {
    let sim = made(512);
    let at = places(&sim);
    // Sector 9 was written to the block of group 3, the map has not been moved on, and the record lost its number.
    poke_words(&sim, at.flog + 3 * 64, &[3, at.external + 3, at.external + 3, 1, 9, 9, at.external + 3, 1]);
    let before = sim.image();
    assert!(!all_repaired(&mend(&sim, &REPAIR)));
    assert!(before == sim.image());
    at_every_cut(&sim, &FORCE, |crashed, what| {
        if let Ok(btt) = Btt::open(&crashed, PLACEMENT, 1) {
            assert!(matches!(read(&btt, 0, 9), Err(BttError::SectorError { .. })), "{what}");
        }
    });
    assert!(all_repaired(&mend(&sim, &FORCE)));
    assert!(matches!(read(&open(&sim, 1), 0, 9), Err(BttError::SectorError { .. })));
}

#[test]
fn a_lost_group_takes_the_last_write_with_it_unless_its_map_entry_was_durable() {
    for (drained, reads) in [(false, 1), (true, 2)] {
        let btt = open(made(512), 1);
        write(&btt, 0, 9, &[1]).expect("in range");
        btt.drain().expect("no faults");
        write(&btt, 0, 9, &[2]).expect("it is acknowledged");
        if drained {
            btt.drain().expect("no faults");
        }
        let crashed = btt.media().crash(&mut Least);
        let whole = crashed.fork();
        assert_eq!(read(&open(&whole, 1), 0, 9), Ok(2), "by its flog record");
        // The only lane's first group.
        let at = places(&whole).flog;
        let lossy = Lossy::new(crashed.fork());
        lossy.lose(at, 64);
        assert!(all_repaired(&mend(&lossy, &REPAIR)));
        for content in [0, 0xee] {
            let damaged = crashed.fork();
            poke(&damaged, at, &[content; 64]);
            assert!(all_repaired(&mend(&damaged, &REPAIR)));
            assert_eq!(read(&open(&damaged, 1), 0, 9), Ok(reads), "drained: {drained}, {content:#x}");
        }
        assert_eq!(read(&open(&lossy.inner, 1), 0, 9), Ok(reads), "drained: {drained}, lost");
    }
}

#[test]
fn info_blocks_of_another_namespace_are_adopted_if_all_metadata_are_intact() {
    let foreign = || {
        let (sim, at) = used(512);
        let mut info = open(&sim, 1).arenas().next().expect("one arena").info;
        info.parent_uuid = Uuid::from_u128(0xf0e);
        for place in [at.info, at.info2] {
            poke(&sim, place, info.encode().as_bytes());
        }
        let why = Btt::open(&sim, PLACEMENT, 1).map(|_| ()).expect_err("it is another's");
        let found = InfoBlockError::ForeignParent { found: info.parent_uuid };
        assert!(matches!(why, OpenError::InfoBlock { why, backup: None, .. } if why == found), "{why}");
        (sim, at)
    };
    let (sim, _) = foreign();
    is_resumed(&sim, &REPAIR);
    assert!(all_repaired(&mend(&sim, &REPAIR)));
    assert_eq!(open(&sim, 1).uuid(), format_options(512).uuid);
    assert_all_there(&sim, "adopted");

    let (sim, at) = foreign();
    poke_words(&sim, at.map + 4 * 900, &[0xffff_ffff]);
    let before = sim.image();
    assert!(mend(&sim, &FORCE).iter().all(|(_, repaired)| !repaired));
    assert!(before == sim.image(), "what is not intact is not adopted");
}

#[test]
fn sectors_that_share_a_block_become_errors_by_force_only() {
    let (sim, at) = used(512);
    let entry = |lba: u64| NsOffset(at.map + 4 * lba);
    // Sectors 5 and 40 share a block; so do 500, 501 and 502; 6 has a block that is free; 7 leads out of the arena.
    let five = sim.load_u32(entry(5)).expect("in range");
    poke_words(&sim, entry(40).0, &[five]);
    poke_words(&sim, entry(501).0, &[0xc000_0000 | 500, 0xc000_0000 | 500]);
    poke_words(&sim, entry(6).0, &[0xc000_0000 | (at.external + 240), 0xffff_ffff]);
    let before = sim.image();
    let found = mend(&sim, &REPAIR);
    assert!(found.len() > 5 && found.iter().all(|(_, repaired)| !repaired), "{found:?}");
    assert!(before == sim.image(), "nothing was guessed");
    let lost = [5, 6, 7, 40, 500, 501, 502];
    let judge = |media: &Sim, what: &str| {
        let btt = open(media, 1);
        for lba in lost {
            let result = read(&btt, 0, lba);
            assert!(matches!(result, Err(BttError::SectorError { .. })), "{what}: LBA {lba} {result:?}");
        }
        for lba in (0..WRITTEN).filter(|lba| !lost.contains(lba)) {
            assert_eq!(read(&btt, 0, lba), Ok(lba + 1), "{what}");
        }
        for lba in lost {
            write(&btt, 0, lba, &[lba + 5]).expect("a write clears it");
            assert_eq!(read(&btt, 0, lba), Ok(lba + 5));
        }
    };
    let mut number = 0;
    at_every_cut(&sim, &FORCE, |crashed, what| {
        mend(&crashed, &FORCE);
        number += 1;
        if number % 3 == 0 {
            assert_eq!(findings(&crashed).0, [], "{what}");
            judge(&crashed, what);
        }
    });
    assert!(all_repaired(&mend(&sim, &FORCE)));
    assert_eq!(findings(&sim).0, []);
    judge(&sim, "repaired");
}

#[test]
fn the_error_flag_goes_when_nothing_is_wrong_any_more() {
    let (sim, at) = used(512);
    poke_words(&sim, at.map + 4 * 900, &[0xffff_ffff]);
    {
        let btt = open(&sim, 1);
        assert!(read(&btt, 0, 900).is_err());
    }
    let reason = |sim: &Sim| open(sim, 1).arenas().next().and_then(|arena| arena.read_only);
    assert_eq!(reason(&sim), Some(ReadOnlyReason::ErrorFlag));
    assert!(!all_repaired(&mend(&sim, &REPAIR)));
    assert_eq!(reason(&sim), Some(ReadOnlyReason::ErrorFlag), "it is damaged still");
    is_resumed(&sim, &FORCE);
    assert!(all_repaired(&mend(&sim, &FORCE)));
    assert_eq!(reason(&sim), None);
}

#[test]
fn a_rewritten_flog_is_accepted_after_a_cut_at_every_step() {
    for old_layout in [false, true] {
        let (sim, at) = used(512);
        if old_layout {
            for group in 0..256 {
                let place = at.flog + 64 * group;
                let mut second = [0; 16];
                sim.read(NsOffset(place + 16), &mut second).expect("in range");
                poke(&sim, place + 16, &[0; 16]);
                poke(&sim, place + 32, &second);
            }
        }
        let mut number = 0;
        at_every_cut(&sim, &REWRITE, |crashed, what| {
            number += 1;
            if number % 7 == 0 {
                assert_all_there(&crashed, what);
                assert_eq!(findings(&crashed).0, [], "{what}");
                // No group may use slot 1 while others use slot 2.
                let mut flog = [0; 64 * 256];
                crashed.read(NsOffset(at.flog), &mut flog).expect("in range");
                let used = |slot: usize| flog.chunks(64).any(|group| group[slot * 16..][..16] != [0; 16]);
                assert!(!used(3) && (!used(1) || !used(2)), "{what}");
            } else {
                assert!(Btt::open(&crashed, PLACEMENT, 1).is_ok(), "{what}");
            }
        });
        mend(&sim, &REWRITE);
        let mut flog = [0; 64 * 256];
        sim.read(NsOffset(at.flog), &mut flog).expect("in range");
        for group in flog.chunks(64) {
            assert_eq!((&group[12..16], &group[16..]), (&[1, 0, 0, 0][..], &[0; 48][..]));
        }
        let btt = open(&sim, 2);
        assert_eq!(btt.arenas().next().map(|arena| arena.slots), Some(btt::flog::Slots::ZeroOne));
        write(&btt, 0, 900, &[5; 99]).expect("in range");
        assert_eq!(findings(&btt.close().expect("no faults")).0, []);
        assert_all_there(&sim, "rewritten");
    }
}

#[test]
fn a_flog_whose_slots_lie_across_lines_is_rewritten_as_safely() {
    let (sim, at) = used(512);
    let mut info = open(&sim, 1).arenas().next().expect("one arena").info;
    let mut flog = vec![0; 64 * 256];
    sim.read(NsOffset(at.flog), &mut flog).expect("in range");
    // Eight bytes down, where the map leaves room: the halves of each first slot are in two lines.
    info.geometry.logoff -= 8;
    poke(&sim, at.flog - 8, &flog);
    for place in [at.info, at.info2] {
        poke(&sim, place, info.encode().as_bytes());
    }
    let sim = sim.settled();
    assert_eq!(findings(&sim).0, []);
    at_every_cut(&sim, &REWRITE, |crashed, what| {
        assert_all_there(&crashed, what);
        assert_eq!(findings(&crashed).0, [], "{what}");
    });
    assert_eq!(mend(&sim, &REWRITE), []);
    assert_all_there(&sim, "rewritten");
}

#[test]
fn rewriting_the_flog_finishes_interrupted_writes_first() {
    let btt = open(made(512), 1);
    for (lba, tag) in (0..).zip(tags()) {
        write(&btt, 0, lba, &[tag]).expect("in range");
    }
    let crashed = btt.media().crash(&mut Least);
    mend(&crashed, &REWRITE);
    assert_all_there(&crashed, "rewritten");
}

#[test]
fn metadata_that_the_medium_lost_are_mended() {
    let (sim, at) = used(512);
    for place in [at.info, at.info2, at.flog + 64 * 5, at.flog + 64 * 255] {
        let lossy = Lossy::new(sim.fork());
        lossy.lose(place, 64);
        assert!(!findings(&lossy).0.is_empty());
        assert!(all_repaired(&mend(&lossy, &REPAIR)), "{place:#x}");
        assert_all_there(&lossy, "mended");
        assert!(lossy.lost.lock().expect("no panic").is_empty());
    }
    // A lost line of the map costs its sectors, and only by force.
    let lossy = Lossy::new(sim.fork());
    lossy.lose(at.map + 64, 64);
    assert_eq!(findings(&lossy).0.iter().filter(|finding| matches!(finding, Finding::MapLost { .. })).count(), 16);
    assert!(mend(&lossy, &REPAIR).iter().all(|(_, repaired)| !repaired));
    assert!(all_repaired(&mend(&lossy, &FORCE)));
    let btt = open(&lossy, 1);
    for lba in 0..WRITTEN {
        match read(&btt, 0, lba) {
            Ok(tag) => assert!(tag == lba + 1 && !(16..32).contains(&lba)),
            Err(why) => assert!(matches!(why, BttError::SectorError { .. }) && (16..32).contains(&lba), "{lba}: {why}"),
        }
    }
}

#[test]
fn a_read_only_medium_is_only_looked_at() {
    let (sim, at) = used(512);
    poke(&sim, at.info2, &[1]);
    let frozen = sim.settled().as_read_only();
    assert_eq!(mend(&frozen, &FORCE).len(), 1);
    assert!(mend(&frozen, &FORCE).iter().all(|(_, repaired)| !repaired));
}

#[test]
fn no_damage_makes_a_repair_panic_and_it_never_loses_what_was_readable() {
    let (sim, at) = used(512);
    let mut random = Seeded::new(23);
    for round in 0..150 {
        let damaged = sim.fork();
        for _ in 0..=random.below(3) {
            let (start, bytes) = match random.below(4) {
                0 => (at.info, 128),
                1 => (at.info2, 4088),
                2 => (at.map, 256),
                _ => (at.flog, 64 * 256),
            };
            let junk = random.next().to_le_bytes();
            poke(&damaged, start + random.below(bytes), &junk[..1 + random.below(8) as usize]);
        }
        mend(&damaged, &REPAIR);
        mend(&damaged, &FORCE);
        if let Ok(btt) = Btt::open(&damaged, PLACEMENT, 2) {
            for lba in 0..WRITTEN {
                if let Ok(tag) = read(&btt, 0, lba) {
                    let fits = tag == lba + 1 || tag == 1000 + lba || tag <= 1000 + WRITTEN;
                    assert!(fits, "round {round}: LBA {lba} reads {tag}");
                }
            }
        }
    }
}
