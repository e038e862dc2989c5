//! Sectors that are trimmed, marked as errors, cleared, or lost by the medium: with cuts at every event.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use std::ops::ControlFlow;

use btt::bytes::SectorsMut;
use btt::format::{FormatOptions, format};
use btt::media::{MediaError, Medium, NsOffset};
use btt::scan::SectorExtent;
use btt::sim::{Choose, Seeded, Sim};
use btt::{ArenaIndex, Btt, BttError, CpuIndex, ExternalLba, PremapAba, ReadOnlyReason};

use common::lossy::Lossy;
use common::*;

/// What a sector may read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Tag(u64),
    Error,
}

#[derive(Clone, Copy, Debug)]
enum Edit {
    Write(u64),
    Zero,
    MarkError,
    ClearErrors,
}

impl Edit {
    fn any(random: &mut Seeded, tag: u64) -> Self {
        match random.below(5) {
            0 => Self::Zero,
            1 => Self::MarkError,
            2 => Self::ClearErrors,
            _ => Self::Write(tag),
        }
    }

    fn make<M: Medium>(self, btt: &Btt<M>, cpu: u32, lba: u64, count: u64) {
        let mut lane = btt.lane(CpuIndex(cpu));
        let at = ExternalLba(lba);
        match self {
            Self::Write(tag) => {
                drop(lane);
                write(btt, cpu, lba, &vec![tag; count as usize]).expect("in range");
            }
            Self::Zero => lane.zero(at, count).expect("in range"),
            Self::MarkError => lane.mark_errors(at, count).expect("in range"),
            Self::ClearErrors => {
                lane.clear_errors(at, count).expect("in range");
            }
        }
    }

    fn of(self, before: Content) -> Content {
        match self {
            Self::Write(tag) => Content::Tag(tag),
            Self::Zero => Content::Tag(0),
            Self::MarkError => Content::Error,
            Self::ClearErrors if before == Content::Error => Content::Tag(0),
            Self::ClearErrors => before,
        }
    }
}

fn content<M: Medium>(btt: &Btt<M>, lba: u64) -> Content {
    match read(btt, 0, lba) {
        Ok(tag) => Content::Tag(tag),
        Err(BttError::SectorError { .. }) => Content::Error,
        Err(why) => panic!("LBA {lba}: {why}"),
    }
}

fn made_with_zero_entries(sector: u32) -> Sim {
    let sim = Sim::new(BYTES);
    format(&sim, &FormatOptions { zero_entries: true, ..format_options(sector) }, &mut |_, _| ()).expect("no faults");
    sim
}

fn explore(seed: u64, media: Sim) {
    const SECTORS: u64 = 24;
    let mut random = Seeded::new(seed);
    let btt = open(media, 3);
    let mut state = [Content::Tag(0); SECTORS as usize];
    for round in 1..30 {
        let edit = Edit::any(&mut random, round);
        let (cpu, lba) = (random.below(3) as u32, random.below(SECTORS));
        let count = 1 + random.below(6.min(SECTORS - lba));
        btt.media().set_cpu(cpu);
        let replay = btt.media().fork();
        btt.media().record();
        edit.make(&btt, cpu, lba, count);
        let before = state;
        for slot in &mut state[lba as usize..(lba + count) as usize] {
            *slot = edit.of(*slot);
        }
        let judge = |crashed: Sim, acknowledged: bool, what: &str| {
            let btt = open(crashed, 2);
            for lba in 0..SECTORS {
                let (old, new) = (before[lba as usize], state[lba as usize]);
                let found = content(&btt, lba);
                let fits = found == new || !acknowledged && found == old;
                assert!(fits, "seed {seed} round {round} {edit:?} {what}: LBA {lba} is {found:?}, not {old:?}/{new:?}");
            }
            assert_sound(&btt.close().expect("no faults"));
        };
        for (index, event) in btt.media().recorded().iter().enumerate() {
            replay.replay(event);
            if random.below(2) == 0 {
                judge(replay.crash(&mut random), false, &format!("event {index} {event:.20?}"));
            }
        }
        judge(btt.media().crash(&mut random), true, "acknowledged");
    }
}

#[test]
fn a_cut_in_an_edit_leaves_each_sector_old_or_new() {
    for seed in 0..2 {
        explore(seed, made(512));
        explore(seed + 10, made_with_zero_entries(512));
        explore(seed + 20, made_with_zero_entries(512).without_line_order());
    }
}

#[test]
fn zeroing_writes_zeroes_unless_the_btt_was_made_for_zero_entries() {
    for (sim, entries) in [(made(520), 0), (made_with_zero_entries(520), 5)] {
        let btt = open(&sim, 2);
        write(&btt, 0, 10, &[7; 9]).expect("in range");
        btt.lane(CpuIndex(1)).zero(ExternalLba(12), 5).expect("in range");
        assert_eq!(read_run(&btt, 0, 10, 9), Ok(vec![7, 7, 0, 0, 0, 0, 0, 7, 7]));
        let mut found = 0;
        btt.zero_entries(0..btt.capacity_sectors(), &mut |extent| found += extent.count).expect("no faults");
        assert_eq!(found, entries);
        let again = open(&sim, 1);
        assert_eq!(read_run(&again, 0, 10, 9), Ok(vec![7, 7, 0, 0, 0, 0, 0, 7, 7]));
    }
}

#[test]
fn zero_entries_can_be_written_out_and_forbidden() {
    let sim = made_with_zero_entries(512);
    let btt = open(&sim, 1);
    write(&btt, 0, 0, &[7; 90]).expect("in range");
    // Beyond one look at the map, and one of them across its end.
    for (lba, count) in [(30, 50), (0, 3), (16_000, 1000), (20_000, 1)] {
        btt.lane(CpuIndex(0)).zero(ExternalLba(lba), count).expect("in range");
    }
    let (mut last, mut steps) = (0, 0);
    let mut progress = |done, total| {
        assert!(done >= last && done - last <= 1 << 14 && total == btt.capacity_sectors(), "{last}, {done} of {total}");
        (last, steps) = (done, steps + 1);
    };
    assert_eq!(btt.lane(CpuIndex(0)).write_out_zero_entries(&mut progress), Ok(1054));
    // Each piece of the map, and six times in between, as 384 and 616 sectors are written out by 512 at most.
    assert_eq!((last, steps), (btt.capacity_sectors(), btt.capacity_sectors().div_ceil(1 << 14) + 6));
    btt.close().expect("no faults");
    btt::repair::forbid_zero_entries(&sim, PLACEMENT).expect("a sound BTT");
    let btt = open(&sim, 1);
    assert_eq!(btt.arenas().next().map(|arena| (arena.info.flags, arena.backup_agrees)), Some((0, true)));
    btt.zero_entries(0..btt.capacity_sectors(), &mut |extent| panic!("{extent:?}")).expect("no faults");
    let mut expected = vec![7; 90];
    expected[30..80].fill(0);
    expected[..3].fill(0);
    assert_eq!(read_run(&btt, 0, 0, 90), Ok(expected));
}

#[test]
fn zeroing_what_reads_zero_stores_nothing() {
    let btt = open(made(4096), 1);
    let before = btt.media().image();
    btt.lane(CpuIndex(0)).zero(ExternalLba(0), 500).expect("in range");
    assert!(before == btt.media().image());
}

#[test]
fn errors_are_listed_and_cleared() {
    let btt = open(made(512), 2);
    write(&btt, 0, 0, &[1; 40]).expect("in range");
    let extents = |btt: &Btt<Sim>| {
        let mut all = Vec::new();
        let through = btt.error_sectors(&mut |extent| all.push(extent), &mut |_, _| ControlFlow::Continue(()));
        assert!(through.expect("no faults").is_continue());
        all
    };
    btt.lane(CpuIndex(1)).mark_errors(ExternalLba(3), 36).expect("in range");
    btt.lane(CpuIndex(0)).mark_errors(ExternalLba(1000), 1).expect("in range");
    let extent = |lba, count| SectorExtent { lba: ExternalLba(lba), count };
    assert_eq!(extents(&btt), [extent(3, 36), extent(1000, 1)]);
    assert_eq!(read(&btt, 0, 5), Err(BttError::SectorError { lba: ExternalLba(5) }));
    assert_eq!(btt.lane(CpuIndex(1)).clear_errors(ExternalLba(0), 6), Ok(3));
    assert_eq!(read_run(&btt, 0, 0, 6), Ok(vec![1, 1, 1, 0, 0, 0]));
    write(&btt, 1, 6, &[9; 33]).expect("a write clears it");
    assert_eq!(extents(&btt), [extent(1000, 1)]);
    let past = btt.lane(CpuIndex(0)).mark_errors(ExternalLba(btt.capacity_sectors()), 1);
    assert!(matches!(past, Err(BttError::OutOfRange { .. })));
}

#[test]
fn a_read_only_arena_takes_no_edits() {
    let sim = made(512);
    let btt = open(sim.settled().as_read_only(), 1);
    let mut lane = btt.lane(CpuIndex(0));
    let refused = BttError::ReadOnly { arena: ArenaIndex(0), why: ReadOnlyReason::Medium };
    assert_eq!(lane.mark_errors(ExternalLba(0), 1), Err(refused));
    assert_eq!(lane.zero(ExternalLba(0), 1), Ok(()), "it reads zero already");
}

/// Where a sector's block is.
fn block_at<M: Medium>(btt: &Btt<M>, lba: u32) -> u64 {
    let arena = btt.arenas().next().expect("one arena");
    let (at, g) = (arena.at.0, arena.info.geometry);
    let word = btt.media().load_u32(NsOffset(at + g.mapoff + u64::from(lba) * 4)).expect("in range");
    let block = btt::map::MapEntry::decode(word, PremapAba(lba)).block();
    at + g.dataoff + u64::from(block.0) * u64::from(g.internal_lbasize)
}

#[test]
fn a_lost_sector_becomes_an_error_and_its_block_is_mended_before_it_is_used() {
    for (sector, unaware) in [512, 520, 4096].into_iter().flat_map(|sector| [(sector, false), (sector, true)]) {
        let btt = open(Lossy { unaware, ..Lossy::new(made(sector)) }, 1);
        write(&btt, 0, 0, &[1, 2, 3, 4]).expect("in range");
        let lost = block_at(&btt, 2);
        // The last line of the block, which a sector of 520 bytes covers in part.
        btt.media().lose(lost + u64::from(sector) / 64 * 64 - if sector == 520 { 0 } else { 64 }, 64);
        let why = read(&btt, 0, 2).expect_err("its data are lost");
        assert!(matches!(why, BttError::Data { lba: ExternalLba(2), why: MediaError::Poisoned { .. } }), "{why}");
        assert_eq!(read(&btt, 0, 2), Err(BttError::SectorError { lba: ExternalLba(2) }));
        assert_eq!(read_run(&btt, 0, 0, 2), Ok(vec![1, 2]));
        // It is an error after a restart, too, and a write clears it; the lost block becomes free and is used again.
        let btt = open(btt.close().expect("no faults"), 1);
        assert_eq!(read(&btt, 0, 2), Err(BttError::SectorError { lba: ExternalLba(2) }));
        write(&btt, 0, 2, &[30]).expect("in range");
        let btt = open(btt.close().expect("no faults"), 1);
        for tag in 31..=300 {
            write(&btt, 0, 2, &[tag]).expect("in range");
            assert_eq!(read(&btt, 0, 2), Ok(tag));
        }
        assert!(btt.media().lost.lock().expect("no panic").is_empty());
        assert_sound(btt.media());
    }
}

#[test]
fn free_blocks_that_have_lost_a_line_are_mended_before_they_take_a_sector() {
    for sector in [512, 520, 4104] {
        let btt = open(Lossy::new(made(sector)), 1);
        let info = btt.arenas().next().expect("one arena").info.geometry;
        let base = btt.arenas().next().expect("one arena").at.0 + info.dataoff;
        // The last line of each of the first blocks to be written.
        for block in u64::from(info.external_nlba)..u64::from(info.external_nlba) + 4 {
            btt.media().lose(base + (block + 1) * u64::from(info.internal_lbasize) - 64, 64);
        }
        write(&btt, 0, 0, &[1, 2, 3, 4]).expect("whole blocks can be written");
        assert_eq!(read_run(&btt, 0, 0, 4), Ok(vec![1, 2, 3, 4]), "{sector}");
        assert!(btt.media().lost.lock().expect("no panic").is_empty());
    }
}

#[test]
fn a_flog_line_that_is_lost_turns_its_arena_read_only_before_a_write_relies_on_it() {
    let btt = open(Lossy::new(made(512)), 1);
    write(&btt, 0, 0, &[1]).expect("in range");
    let info = btt.arenas().next().expect("one arena");
    btt.media().lose(info.at.0 + info.info.geometry.logoff, 64 * 256);
    let why = write(&btt, 0, 0, &[2]).expect_err("its record would be lost");
    assert!(
        matches!(why, BttError::ReadOnly { why: ReadOnlyReason::Metadata(MediaError::Poisoned { .. }), .. }),
        "{why}"
    );
    assert_eq!(read(&btt, 0, 0), Ok(1));
}

#[test]
fn a_medium_that_has_lost_lines_all_over_is_formatted_and_used() {
    for zero_data in [false, true] {
        let g = open(made(520), 1).arenas().next().expect("one arena").info.geometry;
        let lossy = Lossy::new(Sim::new(BYTES));
        let block = |number: u64| g.dataoff + number * u64::from(g.internal_lbasize);
        let (of_sectors, free) = ([block(0), block(77) + 512], block(u64::from(g.external_nlba) + 3));
        let metadata = [0, 1024, g.mapoff + 4096, g.logoff, g.logoff + 64 * 200, g.info2off, g.info2off + 4032];
        for at in metadata.into_iter().chain(of_sectors).chain([free]) {
            lossy.lose(4096 + at, 64);
        }
        format(&lossy, &FormatOptions { zero_data, ..format_options(520) }, &mut |_, _| ())
            .expect("whole pages are written");
        assert_sound(&lossy);
        assert_eq!(lossy.lost.lock().expect("no panic").len(), if zero_data { 0 } else { 3 });
        let btt = open(lossy, 2);
        for lba in [0, 77] {
            if !zero_data {
                assert!(matches!(read(&btt, 0, lba), Err(BttError::Data { .. })), "what was lost is nobody's zeroes");
                assert_eq!(read(&btt, 1, lba), Err(BttError::SectorError { lba: ExternalLba(lba) }));
            }
            write(&btt, 1, lba, &[lba + 1]).expect("in range");
            assert_eq!(read(&btt, 0, lba), Ok(lba + 1));
        }
        write(&btt, 0, 1000, &[6; 300]).expect("in range");
        write(&btt, 1, 1000, &[7; 300]).expect("in range");
        assert_eq!(read_run(&btt, 0, 1000, 300), Ok(vec![7; 300]));
        assert!(btt.media().lost.lock().expect("no panic").is_empty());
    }
}

#[test]
fn a_loss_that_is_reported_late_costs_no_sector() {
    for count in [1, 3] {
        let btt = open(Lossy::new(made(512)), 1);
        write(&btt, 0, 0, &[1, 2, 3]).expect("in range");
        // Of the block's life before this one, by a reader or by the hardware.
        let at = block_at(&btt, 0);
        btt.media().late.lock().expect("no panic").push(at..at + 64);
        assert_eq!(read_run(&btt, 0, 0, count), Ok((1..=count).collect()));
        assert!(btt.media().late.lock().expect("no panic").is_empty());
    }
}

#[test]
fn a_sector_that_is_written_while_its_loss_is_found_keeps_its_new_data() {
    let sim = Box::leak(Box::new(open(Lossy::new(made(512)), 2)));
    write(sim, 0, 0, &[1, 2, 3]).expect("in range");
    sim.media().lose(block_at(sim, 1), 64);
    let btt: &'static Btt<Lossy> = sim;
    *sim.media().meanwhile.lock().expect("no panic") = Some(Box::new(move || {
        write(btt, 1, 1, &[20]).expect("another lane's business");
    }));
    let mut bytes = vec![0; 3 * 512];
    let mut reader = btt.reader(CpuIndex(0));
    let mut sink = SectorsMut::new(&mut bytes, btt.sector_size()).expect("whole sectors");
    assert_eq!(reader.read(ExternalLba(0), 3, &mut sink), Ok(()));
    assert!(reader.take_counters().read_retries > 0, "it was read again");
    assert_eq!(read_run(btt, 0, 0, 3), Ok(vec![1, 20, 3]));
    // Lane 1 has not fenced its map entry yet: the next one to change that line does it.
    let before = btt.counters().collisions;
    write(btt, 0, 1, &[21]).expect("in range");
    assert_eq!(btt.counters().collisions, before + 1);
    write(btt, 0, 1, &[22]).expect("in range");
    assert_eq!(btt.counters().collisions, before + 1, "its own is no collision");
}

#[test]
fn damage_that_is_found_at_run_time_is_told_to_the_medium() {
    let sim = made(512);
    let arena = open(&sim, 1).arenas().next().expect("one arena");
    let map = arena.at.0 + arena.info.geometry.mapoff;
    sim.write(NsOffset(map + 4 * 77), &0xffff_fff0_u32.to_le_bytes()).expect("in range");
    sim.fence().expect("no faults");
    let btt = open(sim.fork(), 1);
    assert!(read(&btt, 0, 77).is_err());
    let found = btt.arenas().next().expect("one arena");
    assert!(matches!(found.read_only, Some(ReadOnlyReason::MapOutOfBounds { .. })));
    assert_eq!(found.info.flags, 1);
    let again = open(btt.close().expect("no faults"), 1);
    let found = again.arenas().next().expect("one arena");
    assert_eq!((found.read_only, found.info.flags), (Some(ReadOnlyReason::ErrorFlag), 1));
    assert!(found.backup_agrees);
    // Not where the copy of the info block is lost: a cut could leave the namespace without any.
    let damaged = sim.fork();
    damaged.write(arena.at.plus(arena.info.geometry.info2off + 9), &[1]).expect("in range");
    let btt = open(damaged, 1);
    assert!(read(&btt, 0, 77).is_err());
    assert_eq!(btt.arenas().next().map(|arena| arena.info.flags), Some(0));
    // Whatever a cut leaves of the flag: the BTT opens, or names the sound copy.
    let (replay, recording) = (sim.fork(), open(sim.fork(), 1));
    recording.media().record();
    assert!(read(&recording, 0, 77).is_err());
    let mut random = Seeded::new(1);
    for event in recording.media().recorded() {
        replay.replay(&event);
        for _ in 0..8 {
            match Btt::open(replay.crash(&mut random), PLACEMENT, 1) {
                Ok(_) | Err(btt::OpenError::InfoBlock { backup: Some(_), .. }) => {}
                Err(why) => panic!("{why}"),
            }
        }
    }
}
