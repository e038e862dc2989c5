//! Every access of every operation fails once, and from then on: the right error, no panic, a sound medium afterwards.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use btt::check::{Finding, check};
use btt::media::{MediaError, Medium};
use btt::sim::{Choose, Plan, Sim};
use btt::{Btt, BttError, CpuIndex, ExternalLba, FormatError, OpenError, ReadOnlyReason};

use common::lossy::Lossy;
use common::*;

/// What [`Sim`]'s plan fails with.
fn is_planned(why: MediaError) -> bool {
    matches!(why, MediaError::Device { status: 2, .. })
}

/// The error that an operation gives when the medium fails it, or none of that kind.
fn is_planned_open(why: OpenError) -> bool {
    matches!(why, OpenError::Media(why) if is_planned(why))
}

fn is_planned_use(why: BttError) -> bool {
    match why {
        BttError::Data { why, .. }
        | BttError::Drain { why }
        | BttError::ReadOnly { why: ReadOnlyReason::Metadata(why), .. } => is_planned(why),
        _ => false,
    }
}

/// Runs `act` on copies of `base`, with the n-th access failing, for each n until none fails any more. `act` says
/// whether it failed, and has judged the error; `after` judges the medium.
fn fail_each(base: &Sim, act: impl Fn(&Sim) -> bool, after: impl Fn(&Sim, &str)) -> u64 {
    let mut failures = 0;
    for plan in [Plan::FailOnce as fn(u64) -> Plan, Plan::FailFrom] {
        for n in 0.. {
            let sim = base.fork();
            sim.set_plan(plan(n));
            let failed = act(&sim);
            let reached = sim.accesses() > n;
            assert!(failed <= reached, "access {n}: nothing failed, and yet there is an error");
            sim.set_plan(Plan::None);
            after(&sim, &format!("{:?}", plan(n)));
            if !reached {
                assert!(n > 0, "there is something that can fail");
                break;
            }
            failures += u64::from(failed);
        }
    }
    failures
}

/// Sectors 0 to 7 written twice and drained; the last run's map entries lost, so that there is something to recover.
fn interrupted() -> Sim {
    let btt = open(made(512), 2);
    write(&btt, 0, 0, &[5; 8]).expect("no faults");
    btt.drain().expect("no faults");
    write(&btt, 1, 0, &[9; 8]).expect("no faults");
    btt.media().crash(&mut Nothing)
}

/// Loses all that can be lost.
struct Nothing;

impl Choose for Nothing {
    fn below(&mut self, _: u64) -> u64 {
        0
    }
}

/// All of them, whatever failed before.
fn assert_all_read(sim: &Sim, allowed: &[u64], what: &str) {
    let btt = Btt::open(sim, PLACEMENT, 2).unwrap_or_else(|why| panic!("{what}: {why}"));
    for (lba, tag) in read_run(&btt, 0, 0, 8).expect("readable").into_iter().enumerate() {
        assert!(allowed.contains(&tag), "{what}: LBA {lba} reads {tag}");
    }
    assert_sound(sim);
}

#[test]
fn opening_fails_with_what_the_medium_says_and_the_next_one_recovers() {
    let act = |sim: &Sim| match Btt::open(sim, PLACEMENT, 2) {
        // Where a map entry could not be read, the arena takes no writes, and a read tells no old data for new.
        Ok(btt) => match btt.arenas().next().expect("one arena").read_only {
            None => false,
            Some(why) => {
                assert!(matches!(why, ReadOnlyReason::Metadata(why) if is_planned(why)), "{why}");
                for lba in 0..8 {
                    match read(&btt, 0, lba) {
                        Ok(tag) => assert_eq!(tag, 9, "LBA {lba}"),
                        Err(why) => assert!(is_planned_use(why), "{why}"),
                    }
                }
                true
            }
        },
        Err(why) => {
            assert!(is_planned_open(why), "{why}");
            true
        }
    };
    let failures = fail_each(&interrupted(), act, |sim, what| {
        assert_all_read(sim, &[9], what);
        // So it is, whatever of the failed recovery a cut keeps.
        assert_all_read(&sim.crash(&mut Nothing), &[9], what);
    });
    assert!(failures > 20, "{failures}");
}

#[test]
fn an_overlay_fails_as_recovery_does_and_stores_nothing() {
    let base = interrupted().as_read_only();
    let image = base.image();
    let act = |sim: &Sim| match Btt::open(sim, PLACEMENT, 2) {
        Ok(btt) => match read_run(&btt, 0, 0, 8) {
            Ok(tags) => {
                assert_eq!(tags, [9; 8]);
                false
            }
            Err(why) => {
                assert!(is_planned_use(why), "{why}");
                true
            }
        },
        Err(why) => {
            assert!(is_planned_open(why), "{why}");
            true
        }
    };
    let failures = fail_each(&base, act, |sim, what| assert_eq!(sim.image(), image, "{what}"));
    assert!(failures > 20, "{failures}");
}

/// Opens without failures, and runs `act` with the plan.
fn while_open(base: &Sim, act: impl Fn(&Btt<&Sim>) -> Result<(), BttError>, after: impl Fn(&Btt<&Sim>, &str)) -> u64 {
    let mut failures = 0;
    for plan in [Plan::FailOnce as fn(u64) -> Plan, Plan::FailFrom] {
        for n in 0.. {
            let sim = base.fork();
            let btt = open(&sim, 2);
            sim.set_plan(plan(n));
            let result = act(&btt);
            let reached = sim.accesses() > n;
            sim.set_plan(Plan::None);
            let what = format!("{:?}", plan(n));
            match result {
                Ok(()) => assert!(!reached || btt.counters().refusals > 0, "{what}: the failure is not told"),
                Err(why) => {
                    assert!(is_planned_use(why), "{what}: {why}");
                    failures += 1;
                }
            }
            after(&btt, &what);
            drop(btt);
            for crashed in [sim.fork(), sim.crash(&mut Nothing)] {
                assert_all_read(&crashed, &[5, 7, 9], &what);
            }
            if !reached {
                assert!(n > 0, "there is something that can fail");
                break;
            }
        }
    }
    failures
}

/// Whether an arena that takes no writes says so, and one that does is as good as new.
fn goes_on(btt: &Btt<&Sim>, what: &str) {
    let read_only = btt.arenas().any(|arena| arena.read_only.is_some());
    for lba in 0..8 {
        let tag = read(btt, 1, lba).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!([5, 7, 9].contains(&tag), "{what}: LBA {lba} reads {tag}");
    }
    match write(btt, 1, 3, &[7]) {
        Ok(()) => {
            assert!(!read_only, "{what}: a read-only arena is written");
            assert_eq!(read(btt, 0, 3).expect("readable"), 7, "{what}");
        }
        Err(why) => assert!(read_only && is_planned_use(why), "{what}: {why}"),
    }
}

#[test]
fn a_write_that_fails_leaves_each_sector_old_or_new_and_the_arena_usable_or_read_only() {
    let failures = while_open(&interrupted(), |btt| write(btt, 0, 0, &[7; 8]), goes_on);
    assert!(failures > 40, "{failures}");
    let window = interrupted().without_line_order();
    let failures = while_open(&window, |btt| write(btt, 0, 2, &[7; 3]), goes_on);
    assert!(failures > 30, "{failures}");
}

/// Sectors in no order, four of them in one line, which those that were interrupted wait in.
const SCATTERED: [(u64, u64); 6] = [(5, 7), (900, 7), (0, 7), (17, 7), (7, 7), (2, 7)];

#[test]
fn a_commit_of_scattered_writes_that_fails_leaves_each_sector_old_or_new() {
    for (base, least) in [(interrupted(), 40), (interrupted().without_line_order(), 50)] {
        let failures = while_open(&base, |btt| commit_all(btt, 0, &SCATTERED), goes_on);
        assert!(failures > least, "{failures}");
    }
    // A second lane, whose stripes hold what the first one has not fenced.
    let colliding = |btt: &Btt<&Sim>| {
        btt.media().set_cpu(0);
        commit_all(btt, 0, &SCATTERED)?;
        btt.media().set_cpu(1);
        commit_all(btt, 1, &[(2, 9), (5, 9), (16, 9)])
    };
    let failures = while_open(&interrupted(), colliding, goes_on);
    assert!(failures > 50, "{failures}");
}

/// A medium that takes no data in the first `count` free blocks of the fresh groups `first`, `first + step`, …
fn refusing(first: u32, step: u32, count: u32) -> Lossy {
    let media = Lossy::new(made(512));
    let arena = open(&media, 1).arenas().next().expect("one arena");
    let g = arena.info.geometry;
    let bytes = u64::from(g.internal_lbasize);
    let place = |group: u32| arena.at.0 + g.dataoff + u64::from(g.external_nlba + group) * bytes;
    let places = (0..count).map(|n| place(first + n * step)).map(|at| at..at + bytes);
    media.refused.lock().expect("no panic").extend(places);
    media
}

#[test]
fn a_lane_writes_to_its_other_free_blocks_where_the_medium_refuses_one() {
    // Lanes with more free blocks than a run has sectors, with as many, and with two.
    for cpus in [1, 8, 128] {
        let free_blocks = 256 / cpus;
        for refused in [1, free_blocks - 1] {
            let media = refusing(0, cpus, refused);
            let btt = open(&media, cpus);
            let mut expected = [0; 64];
            for round in 1..=8 {
                let tags: Vec<u64> = (0..40).map(|n| round << 8 | n).collect();
                write(&btt, 0, round * 3, &tags).unwrap_or_else(|why| panic!("{cpus} CPUs, {refused} refused: {why}"));
                expected[round as usize * 3..][..40].copy_from_slice(&tags);
                assert_eq!(read_run(&btt, 1, 0, 64).expect("readable"), expected);
            }
            assert!(btt.counters().refusals >= u64::from(refused));
            drop(btt);
            assert_sound(&media);
            let crashed = media.inner.crash(&mut Nothing);
            assert_eq!(read_run(&open(&crashed, 2), 0, 0, 64).expect("readable"), expected);
            assert_sound(&crashed);
        }
    }
}

#[test]
fn a_lane_whose_every_free_block_is_refused_says_so_and_the_other_lanes_go_on() {
    for (cpus, refused) in [(128, 2), (256, 1)] {
        let media = refusing(0, cpus, refused);
        let btt = open(&media, cpus);
        for _ in 0..3 {
            let why = write(&btt, 0, 7, &[1]).expect_err("there is no block");
            assert!(matches!(why, BttError::Data { why: MediaError::Device { status: 3, .. }, .. }), "{why}");
            assert_eq!(read(&btt, 0, 7), Ok(0));
        }
        write(&btt, 1, 7, &[2, 3]).expect("another lane has others");
        media.refused.lock().expect("no panic").clear();
        write(&btt, 0, 8, &[4]).expect("it takes data again");
        assert_eq!(read_run(&btt, 0, 7, 2).expect("readable"), [2, 4]);
        drop(btt);
        assert_sound(&media);
    }
}

#[test]
fn a_failure_in_the_second_of_two_colliding_writes_loses_neither() {
    let act = |btt: &Btt<&Sim>| {
        btt.media().set_cpu(0);
        write(btt, 0, 0, &[7; 2])?;
        btt.media().set_cpu(1);
        write(btt, 1, 0, &[9; 2])
    };
    let failures = while_open(&interrupted(), act, goes_on);
    assert!(failures > 30, "{failures}");
}

#[test]
fn a_read_that_fails_names_its_sector_and_harms_nothing() {
    let act = |btt: &Btt<&Sim>| read_run(btt, 0, 0, 8).map(|tags| assert_eq!(tags, [9; 8]));
    let failures = while_open(&interrupted(), act, |_, _| ());
    assert!(failures > 20, "{failures}");
}

#[test]
fn a_drain_of_idle_lanes_waits_for_nobody_and_leaves_out_one_in_use() {
    let sim = made(4096);
    let btt = open(&sim, 2);
    write(&btt, 0, 0, &[7]).expect("no faults");
    write(&btt, 1, 1000, &[8]).expect("no faults");
    let held = btt.lane(CpuIndex(1));
    assert!(btt.try_lane(CpuIndex(1)).is_none() && btt.try_lane(CpuIndex(0)).is_some());
    btt.drain_idle().expect("no faults");
    assert!(sim.has_pending(), "the lane in use waits for its holder");
    drop(held);
    btt.drain_idle().expect("no faults");
    assert!(!sim.has_pending(), "all is durable");
}

#[test]
fn a_drain_that_fails_is_told_and_can_be_tried_again() {
    // What is un-fenced when the plan begins.
    let mut failures = 0;
    for n in 0.. {
        let sim = interrupted();
        let btt = open(&sim, 2);
        write(&btt, 0, 0, &[7; 8]).expect("no faults");
        sim.set_plan(Plan::FailOnce(n));
        let result = btt.drain();
        let reached = sim.accesses() > n;
        sim.set_plan(Plan::None);
        assert_eq!(result.is_err(), reached);
        if let Err(why) = result {
            assert!(is_planned_use(why), "{why}");
            failures += 1;
        }
        btt.drain().expect("no faults any more");
        assert!(!sim.has_pending(), "access {n}: the second drain leaves nothing behind");
        if !reached {
            break;
        }
    }
    assert!(failures >= 2, "{failures}");
}

#[test]
fn edits_of_the_map_that_fail_are_told() {
    let mark = |btt: &Btt<&Sim>| {
        btt.lane(CpuIndex(0)).mark_errors(ExternalLba(8), 2)?;
        btt.lane(CpuIndex(1)).clear_errors(ExternalLba(8), 2).map(|_| ())
    };
    assert!(while_open(&interrupted(), mark, goes_on) > 15);
}

#[test]
fn sectors_that_cannot_be_read_are_zeroed_by_writing_them() {
    // Fails only where the write does, too.
    for plan in [Plan::FailOnce as fn(u64) -> Plan, Plan::FailFrom] {
        for n in 0.. {
            let sim = interrupted();
            let btt = open(&sim, 2);
            sim.set_plan(plan(n));
            let result = btt.lane(CpuIndex(0)).zero(ExternalLba(0), 3);
            let reached = sim.accesses() > n;
            sim.set_plan(Plan::None);
            match result {
                Ok(()) => assert_eq!(read_run(&btt, 0, 0, 3).expect("readable"), [0; 3], "{:?}", plan(n)),
                Err(why) => assert!(is_planned_use(why), "{why}"),
            }
            drop(btt);
            assert_all_read(&sim, &[0, 9], "zeroed in part");
            if !reached {
                break;
            }
        }
    }
}

#[test]
fn creation_that_fails_leaves_nothing_that_opens_and_can_be_tried_again() {
    let small = |size| {
        let mut options = format_options(size);
        options.zero_data = false;
        options
    };
    let act = |sim: &Sim| match btt::format::format(sim, &small(4096), &mut |_, _| ()) {
        Ok(()) => false,
        Err(FormatError::Media(why)) => {
            assert!(is_planned(why), "{why}");
            true
        }
        Err(why) => panic!("{why}"),
    };
    let failures = fail_each(&made(4096), act, |sim, what| {
        if let Ok(btt) = Btt::open(sim, PLACEMENT, 1) {
            drop(btt);
            assert_sound(sim);
        }
        btt::format::format(sim, &small(4096), &mut |_, _| ()).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_sound(sim);
    });
    assert!(failures > 20, "{failures}");
}

#[test]
fn a_check_that_cannot_read_says_so_and_finds_no_damage_that_is_not_there() {
    let base = interrupted();
    let act = |sim: &Sim| {
        let mut failed = false;
        let mut report = |finding| match finding {
            Finding::Interrupted { .. } => {}
            Finding::Media(why) | Finding::Chain(OpenError::Media(why)) => {
                assert!(is_planned(why), "{why}");
                failed = true;
            }
            other => panic!("{other}"),
        };
        check(sim, PLACEMENT, 1 << 14, &mut report, &mut |_, _| std::ops::ControlFlow::Continue(()));
        failed
    };
    let image = base.image();
    let failures = fail_each(&base, act, |sim, what| assert_eq!(sim.image(), image, "{what}"));
    assert!(failures > 10, "{failures}");
    assert!(base.len_bytes() > 0);
}
