//! Power cuts at every event of random workloads, and what recovery makes of them.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use btt::sim::{Choose, Plan, Seeded, Sim};
use btt::{Btt, BttError, OpenError, ReadOnlyReason};

use common::*;

/// What each sector may hold: the acknowledged content, or that of the write under way.
struct Expected {
    acknowledged: Vec<u64>,
    under_way: Vec<Option<u64>>,
}

/// Opens what a cut left, and holds every promise against it.
fn recover_and_judge(crashed: Sim, expected: &Expected, what: &str) {
    let frozen = crashed.settled().as_read_only();
    let btt = Btt::open(crashed, PLACEMENT, 3).unwrap_or_else(|why| panic!("{what}: {why}"));
    let found = read_run(&btt, 0, 0, expected.acknowledged.len() as u64).expect("readable");
    for (lba, tag) in found.iter().enumerate() {
        let allowed = *tag == expected.acknowledged[lba] || Some(*tag) == expected.under_way[lba];
        assert!(allowed, "{what}: LBA {lba} reads {tag:#x}, acknowledged {:#x}", expected.acknowledged[lba]);
    }
    // An overlay shows the same as recovery does.
    let frozen = Btt::open(frozen, PLACEMENT, 3).expect("as before");
    assert_eq!(read_run(&frozen, 0, 0, found.len() as u64).expect("readable"), found, "{what}: the overlay differs");
    // Recovery leaves nothing to recover, and no damage.
    let media = btt.close().expect("no faults");
    let (findings, _) = findings(&media);
    assert!(findings.is_empty(), "{what}: {findings:?}");
}

/// Writes runs on several CPUs; after each, and in the middle of each, cuts the power in several ways.
fn explore(seed: u64, kind: fn(Sim) -> Sim, sectors: u64, longest: u64) {
    let mut random = Seeded::new(seed);
    let media = kind(made(512));
    let mut expected = Expected { acknowledged: vec![0; sectors as usize], under_way: vec![None; sectors as usize] };
    let btt = open(media, 3);
    let mut tag = 1;
    for round in 0..30 {
        let cpu = random.below(3) as u32;
        let lba = random.below(sectors);
        let count = 1 + random.below(longest.min(sectors - lba));
        let tags: Vec<u64> = (tag..tag + count).collect();
        tag += count;
        let targets = lba as usize..(lba + count) as usize;
        for (slot, tag) in expected.under_way[targets.clone()].iter_mut().zip(&tags) {
            *slot = Some(*tag);
        }
        btt.media().set_cpu(cpu);
        let crashes = Crashing { inner: btt.media(), random: random.clone(), expected: &expected, round, seed };
        crashes.watch(|| write(&btt, cpu, lba, &tags).expect("in range"));
        for (slot, tag) in expected.acknowledged[targets.clone()].iter_mut().zip(&tags) {
            *slot = *tag;
        }
        expected.under_way[targets].fill(None);
        for turn in 0..4 {
            let crashed = btt.media().crash(&mut random);
            recover_and_judge(crashed, &expected, &format!("seed {seed} round {round} turn {turn}, acknowledged"));
        }
    }
}

/// Replays the events of one write on a copy of the medium, with a crash after each.
struct Crashing<'a> {
    inner: &'a Sim,
    random: Seeded,
    expected: &'a Expected,
    round: u64,
    seed: u64,
}

impl Crashing<'_> {
    fn watch(mut self, write: impl FnOnce()) {
        let replay = self.inner.fork();
        self.inner.record();
        write();
        for (index, event) in self.inner.recorded().iter().enumerate() {
            replay.replay(event);
            if self.random.below(2) == 0 {
                let crashed = replay.crash(&mut self.random);
                let what = format!("seed {} round {} after event {index} ({event:.20?})", self.seed, self.round);
                recover_and_judge(crashed, self.expected, &what);
            }
        }
    }
}

#[test]
fn a_cut_leaves_each_sector_old_or_new() {
    for seed in 0..6 {
        explore(seed, |sim| sim, 12, 4);
    }
}

#[test]
fn so_it_does_where_lines_have_no_order() {
    for seed in 100..103 {
        explore(seed, Sim::without_line_order, 12, 4);
    }
}

#[test]
fn so_it_does_where_a_fence_is_a_flush() {
    for seed in 200..203 {
        explore(seed, Sim::behind_flushes, 12, 4);
    }
}

/// Colliding runs on three CPUs, with each FLUSH in turn failing.
#[test]
fn after_a_failed_flush_nothing_is_acknowledged_and_a_cut_loses_nothing_that_was() {
    let mut random = Seeded::new(11);
    for failing in 0.. {
        let sim = made(512).behind_flushes();
        sim.set_plan(Plan::FailFence(failing));
        let btt = open(sim, 3);
        let mut expected = Expected { acknowledged: vec![0; 12], under_way: vec![None; 12] };
        let mut failed = false;
        for round in 1..=12_u64 {
            let (cpu, lba) = (round as u32 % 3, round as usize * 5 % 9);
            btt.media().set_cpu(cpu);
            let result = write(&btt, cpu, lba as u64, &[round; 3]);
            assert!(result.is_err() || !failed, "FLUSH {failing}: round {round} is acknowledged");
            match result {
                Ok(()) => expected.acknowledged[lba..lba + 3].fill(round),
                // What failed first may be there or not; what is refused later is not there.
                Err(_) if !failed => expected.under_way[lba..lba + 3].fill(Some(round)),
                Err(why) => assert!(
                    matches!(why, BttError::ReadOnly { why: ReadOnlyReason::NotDurable(_), .. }),
                    "FLUSH {failing}: {why}"
                ),
            }
            failed |= result.is_err();
            // The host may write pages out, and FLUSHes may succeed again.
            let drained = btt.drain();
            assert!(failed || drained.is_ok() || matches!(drained, Err(BttError::Drain { .. })), "{drained:?}");
            failed |= drained.is_err();
            for turn in 0..3 {
                let crashed = btt.media().crash(&mut random);
                recover_and_judge(crashed, &expected, &format!("FLUSH {failing} round {round} turn {turn}"));
            }
        }
        let reason = btt.arenas().next().expect("one arena").read_only;
        assert_eq!(failed, matches!(reason, Some(ReadOnlyReason::NotDurable(_))), "FLUSH {failing}: {reason:?}");
        if !failed {
            assert!(failing > 40, "each write is several FLUSHes");
            break;
        }
    }
}

#[test]
fn so_it_does_for_long_runs() {
    explore(7, |sim| sim, 80, 40);
}

#[test]
fn a_cut_in_recovery_is_recovered_from() {
    let mut random = Seeded::new(5);
    let btt = open(made(512), 1);
    write(&btt, 0, 0, &[1; 20]).expect("in range");
    // The map entries of the run are not fenced: keep none of them.
    let crashed = btt.media().crash(&mut Keep(0));
    for _ in 0..20 {
        let again = crashed.fork();
        again.record();
        drop(Btt::open(&again, PLACEMENT, 1).expect("recoverable"));
        let events = again.recorded();
        assert!(events.len() > 20, "there was something to recover");
        let replay = crashed.fork();
        for event in &events {
            replay.replay(event);
            let cut = replay.crash(&mut random);
            let btt = open(cut, 2);
            assert_eq!(read_run(&btt, 0, 0, 20).expect("readable"), [1; 20]);
            assert_sound(btt.media());
        }
    }
}

#[test]
fn a_cut_in_creation_leaves_none_or_all_of_it() {
    let sim = Sim::new(BYTES);
    sim.record();
    btt::format::format(&sim, &format_options(4096), &mut |_, _| ()).expect("no faults");
    let replay = Sim::new(BYTES);
    let mut random = Seeded::new(3);
    let events = sim.recorded();
    for (index, event) in events.iter().enumerate() {
        replay.replay(event);
        for _ in 0..3 {
            let crashed = replay.crash(&mut random);
            match Btt::open(&crashed, PLACEMENT, 1) {
                Ok(_) => assert!(index + 2 >= events.len() - 1, "event {index}: complete too early"),
                // Before the backup is sound there is nothing; afterwards there is a BTT that lacks its first block.
                Err(OpenError::NotABtt | OpenError::InfoBlock { backup: Some(_), .. }) => {}
                Err(why) => panic!("event {index}: {why}"),
            }
        }
    }
    assert!(Btt::open(&replay, PLACEMENT, 1).is_ok());
}

#[test]
fn every_failing_access_is_an_error_or_avoided_and_leaves_a_sound_medium() {
    let count = {
        let btt = open(made(512), 2);
        btt.media().set_plan(btt::sim::Plan::None);
        write(&btt, 0, 3, &[9; 3]).expect("no faults");
        btt.media().accesses()
    };
    for n in 0..count {
        let btt = open(made(512), 2);
        write(&btt, 0, 3, &[5; 3]).expect("no faults");
        btt.media().set_plan(btt::sim::Plan::FailOnce(n));
        // What a block does not take goes to another one.
        let written = write(&btt, 1, 3, &[9; 3]).is_ok();
        assert_eq!(written, btt.counters().refusals > 0, "access {n}");
        btt.media().set_plan(btt::sim::Plan::None);
        for lba in 3..6 {
            let tag = read(&btt, 0, lba).expect("readable");
            assert!(tag == 9 || tag == 5 && !written, "access {n}");
        }
        let again = open(btt.media().fork(), 2);
        assert_eq!(again.recovered_writes() > 0, !findings(btt.media()).0.is_empty());
        assert_sound(again.media());
    }
}

/// Keeps so many of each line's stores, and of the others none.
struct Keep(u64);

impl Choose for Keep {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.min(bound - 1)
    }
}
