//! Models that are too large for every schedule: four CPUs on three lanes, reads and writes of runs of any place.

use std::collections::BTreeMap;

use btt::BttError;
use shuttle::rand::{Rng, thread_rng};

use crate::checker::explore;
use crate::stage::{Stage, join};

const CPUS: u32 = 4;
const STEPS: u32 = 5;
/// Three lines, of which the first and the last share a lock; runs cross both borders.
const LBAS: [u32; 8] = [0, 1, 15, 16, 17, 31, 32, 33];
/// Where a run begins, and its most sectors.
const PLACES: [(u32, u64); 7] = [(0, 2), (1, 1), (15, 3), (16, 2), (17, 1), (31, 3), (32, 2)];

#[derive(Clone, Copy)]
enum Step {
    Write { lba: u32, count: u64, version: u32 },
    Scatter { lbas: [u32; 3], version: u32 },
    Read { lba: u32, count: u64 },
}

fn plan(cpu: u32) -> Vec<Step> {
    let mut random = thread_rng();
    (0..STEPS)
        .map(|step| {
            let (lba, most) = PLACES[random.gen_range(0..PLACES.len())];
            let count = random.gen_range(1..=most);
            let version = 1 + cpu * STEPS + step;
            match random.gen_range(0..6) {
                0 | 1 => Step::Read { lba, count },
                2 | 3 => Step::Scatter { lbas: [(); 3].map(|()| LBAS[random.gen_range(0..LBAS.len())]), version },
                _ => Step::Write { lba, count, version },
            }
        })
        .collect()
}

fn sectors(lba: u32, count: u64) -> impl Iterator<Item = u32> {
    (lba..).take(usize::try_from(count).expect("a few"))
}

/// Each CPU's last version of each sector: one of them stays.
fn last_versions(plans: &[Vec<Step>]) -> BTreeMap<u32, Vec<u32>> {
    let mut last: BTreeMap<u32, Vec<u32>> = LBAS.iter().map(|lba| (*lba, Vec::new())).collect();
    for plan in plans {
        let mut own = BTreeMap::new();
        for step in plan {
            match *step {
                Step::Write { lba, count, version } => own.extend(sectors(lba, count).map(|lba| (lba, version))),
                Step::Scatter { lbas, version } => own.extend(lbas.map(|lba| (lba, version))),
                Step::Read { .. } => {}
            }
        }
        for (lba, version) in own {
            last.entry(lba).or_default().push(version);
        }
    }
    for versions in last.values_mut().filter(|versions| versions.is_empty()) {
        versions.push(0);
    }
    last
}

/// Lets each CPU do its plan; what a write returns is `written`'s to judge.
fn run(stage: &Stage, plans: Vec<Vec<Step>>, written: fn(Result<(), BttError>)) {
    let run = |(cpu, plan): (u32, Vec<Step>)| {
        stage.cpu(move |stage| {
            for step in plan {
                match step {
                    Step::Write { lba, count, version } => written(stage.try_write(cpu, lba, count, version)),
                    Step::Scatter { lbas, version } => {
                        let writes = lbas.map(|lba| (lba, version));
                        written(stage.try_commit(cpu, &writes).map(|_| ()));
                    }
                    Step::Read { lba, count } => assert_eq!(stage.read(cpu, lba, count).len() as u64, count),
                }
            }
        })
    };
    let cpus: Vec<_> = (0..CPUS).zip(plans).map(run).collect();
    cpus.into_iter().for_each(join);
}

fn judge(stage: &Stage, expected: &BTreeMap<u32, Vec<u32>>) {
    let expected: Vec<(u32, &[u32])> = expected.iter().map(|(lba, versions)| (*lba, versions.as_slice())).collect();
    stage.judge(&expected);
}

#[test]
fn four_cpus_on_three_lanes_tear_and_lose_nothing() {
    explore("four CPUs on three lanes", || {
        let stage = Stage::new(6, 3, &LBAS);
        let plans: Vec<Vec<Step>> = (0..CPUS).map(plan).collect();
        let expected = last_versions(&plans);
        run(&stage, plans, |result| result.expect("no faults"));
        judge(&stage, &expected);
    });
}

#[test]
fn an_access_that_fails_leaves_a_sound_medium() {
    explore("four CPUs, and one failure", || {
        let stage = Stage::new(6, 3, &LBAS);
        let plans: Vec<Vec<Step>> = (0..CPUS).map(plan).collect();
        stage.medium().fail_once(thread_rng().gen_range(0..200));
        run(&stage, plans, |_| ());
        stage.medium().never_fail();
        // Which writes were refused is not followed up here, only that each sector is one of them.
        let any: Vec<u32> = (0..=CPUS * STEPS).collect();
        judge(&stage, &LBAS.iter().map(|lba| (*lba, any.clone())).collect());
    });
}
