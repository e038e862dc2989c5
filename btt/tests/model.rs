//! The device beside the simplest model there is: a list of sectors.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use btt::sim::Sim;
use btt::{BttError, ExternalLba};
use proptest::prelude::*;

use common::*;

#[derive(Clone, Debug)]
enum Step {
    Write { cpu: u32, lba: u64, count: u64 },
    Read { cpu: u32, lba: u64, count: u64 },
    Reopen { cpus: u32 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    // Few LBAs, so that lanes collide; runs beyond RUN_MAX, so that they are cut up.
    let place = (0..5_u32, 0..60_u64, 1..70_u64);
    prop_oneof![
        6 => place.clone().prop_map(|(cpu, lba, count)| Step::Write { cpu, lba, count }),
        3 => place.prop_map(|(cpu, lba, count)| Step::Read { cpu, lba, count }),
        1 => (1..6_u32).prop_map(|cpus| Step::Reopen { cpus }),
        1 => Just(Step::Crash),
    ]
}

fn run(sector: u32, in_order: bool, steps: &[Step]) {
    let mut media = made(sector);
    if !in_order {
        media = media.without_line_order();
    }
    let mut model = vec![0_u64; 200];
    let mut tag = 0;
    let mut btt = open(media, 2);
    for step in steps {
        match *step {
            Step::Write { cpu, lba, count } => {
                let tags: Vec<u64> = (tag + 1..).take(count as usize).collect();
                tag += count;
                write(&btt, cpu, lba, &tags).expect("in range");
                model[lba as usize..][..count as usize].copy_from_slice(&tags);
            }
            Step::Read { cpu, lba, count } => {
                let found = read_run(&btt, cpu, lba, count).expect("in range");
                assert_eq!(found, model[lba as usize..][..count as usize]);
            }
            Step::Reopen { cpus } => btt = open(btt.close().expect("no faults"), cpus),
            Step::Crash => {
                // Only what is durable for sure: nothing acknowledged may be missing.
                let media = btt.media().crash(&mut Nothing);
                btt = open(media, 3);
            }
        }
    }
    assert_eq!(read_run(&btt, 0, 0, 200).expect("in range"), model);
    assert_sound(&btt.close().expect("no faults"));
}

/// The crash that keeps nothing but what was fenced.
struct Nothing;

impl btt::sim::Choose for Nothing {
    fn below(&mut self, _: u64) -> u64 {
        0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sectors_read_what_was_written_last(steps in prop::collection::vec(step(), 1..60)) {
        run(512, true, &steps);
    }

    #[test]
    fn so_they_do_behind_a_window(steps in prop::collection::vec(step(), 1..40)) {
        run(528, false, &steps);
    }
}

#[test]
fn every_sector_size_works_at_both_ends() {
    for sector in btt::geometry::SECTOR_SIZES {
        let btt = open(made(sector), 4);
        let last = btt.capacity_sectors() - 1;
        write(&btt, 0, 0, &[1]).expect("in range");
        write(&btt, 3, last, &[2]).expect("in range");
        assert_eq!((read(&btt, 1, 0), read(&btt, 2, last)), (Ok(1), Ok(2)), "{sector}");
        let refused = BttError::OutOfRange { lba: ExternalLba(last), count: 2, capacity: last + 1 };
        assert_eq!(write(&btt, 0, last, &[3, 4]), Err(refused));
        assert_eq!(read(&btt, 0, last), Ok(2), "nothing was done");
        assert_eq!(btt.close().map(|media| assert_sound(&media)), Ok(()));
    }
}

#[test]
fn requests_that_wrap_around_are_refused() {
    let btt = open(made(512), 1);
    for (lba, count) in [(u64::MAX, 1), (0, 0), (btt.capacity_sectors(), 1)] {
        let mut none = btt::bytes::SectorsMut::new(&mut [], btt.sector_size()).expect("no sectors");
        let result = btt.reader(btt::CpuIndex(0)).read(ExternalLba(lba), count, &mut none);
        assert!(matches!(result, Err(BttError::OutOfRange { .. })), "{lba} {count}");
    }
}

#[test]
fn a_run_shares_two_fences() {
    let btt = open(made(512), 1);
    let before = btt.counters();
    write(&btt, 0, 0, &[7; 32]).expect("in range");
    write(&btt, 0, 64, &[7; 32]).expect("in range");
    let after = btt.counters();
    assert_eq!(after.fences - before.fences, 4);
    assert_eq!(after.sectors_written - before.sectors_written, 64);
    assert_eq!(after.collisions, 0);
}

#[test]
fn a_medium_that_may_not_be_written_is_not() {
    let media = made(512);
    let btt = open(Sim::from_image(media.image()).as_read_only(), 2);
    assert!(matches!(write(&btt, 0, 0, &[1]), Err(BttError::ReadOnly { .. })));
    assert_eq!(read(&btt, 0, 0), Ok(0));
    assert_eq!(btt.media().image(), media.image());
}

#[test]
fn four_threads_never_see_a_torn_sector() {
    let btt = open(made(512), 3); // fewer lanes than threads
    std::thread::scope(|scope| {
        for cpu in 0..4_u32 {
            let btt = &btt;
            scope.spawn(move || {
                for round in 0..300_u64 {
                    let lba = round * 7 % 20;
                    write(btt, cpu, lba, &[round << 8 | u64::from(cpu); 3]).expect("in range");
                    // `read_run` panics on a torn sector
                    read_run(btt, cpu, lba.saturating_sub(2), 8).expect("in range");
                }
            });
        }
    });
    assert_sound(&btt.close().expect("no faults"));
}
