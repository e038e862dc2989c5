//! One medium through many power cuts: what one leaves behind must not harm what comes after the next.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use btt::flog::Slots;
use btt::format::{FormatOptions, format};
use btt::layout::{FLOG_GROUP_BYTES, FLOG_SLOT_BYTES};
use btt::media::Medium as _;
use btt::repair::{RepairOptions, repair};
use btt::sim::{Choose as _, Event, Seeded, Sim};
use btt::{Btt, CpuIndex, ExternalLba};
use uuid::Uuid;

use common::*;

const SECTORS: u64 = 6;
const CPUS: u32 = 3;
const LIVES: u32 = 100;

/// What each sector reads: its tag, or none where it is an error.
type Contents = Vec<Option<u64>>;

/// The medium after a cut somewhere in the course of these events, which began on `before`.
fn cut(before: &Sim, events: &[Event], random: &mut Seeded) -> Sim {
    let past = random.below(events.len() as u64 + 1) as usize;
    events[..past].iter().for_each(|event| before.replay(event));
    before.crash(random)
}

/// A CPU, which is the one that accesses the medium from now on.
fn any_cpu(media: &Sim, random: &mut Seeded) -> u32 {
    let cpu = random.below(CPUS.into()) as u32;
    media.set_cpu(cpu);
    cpu
}

/// A CPU writes some sectors, trims them or marks them.
fn change(btt: &Btt<&Sim>, cpu: u32, random: &mut Seeded, contents: &mut Contents) {
    let lba = random.below(SECTORS);
    let count = 1 + random.below(3.min(SECTORS - lba));
    let mut lane = btt.lane(CpuIndex(cpu));
    let put = match random.below(8) {
        0 => lane.zero(ExternalLba(lba), count).map(|()| Some(0)),
        1 => lane.mark_errors(ExternalLba(lba), count).map(|()| None),
        _ => {
            drop(lane);
            let tag = 1 + random.below(u64::from(u32::MAX));
            write(btt, cpu, lba, &vec![tag; count as usize]).map(|()| Some(tag))
        }
    };
    contents[lba as usize..(lba + count) as usize].fill(put.expect("a sound medium"));
}

/// Finishes interrupted writes, and brings the flog into the new layout if that is asked for.
fn mend(media: &Sim, rewrite_log: bool) {
    let options = RepairOptions {
        repair: true,
        rewrite_log,
        force: false,
        fresh_uuid: Uuid::from_u128(9),
        window_blocks: u32::MAX,
    };
    repair(media, PLACEMENT, &options, &mut |_, _| (), &mut |_, _| ());
}

/// Puts the records of each flog group where older Linux has them: in slots 0 and 2.
fn give_old_layout(media: &Sim) {
    let arena = open(media, CPUS).arenas().next().expect("one arena");
    let (flog, nfree) = (arena.at.plus(arena.info.geometry.logoff), u64::from(arena.info.geometry.nfree));
    for group in (0..nfree).map(|number| flog.plus(number * FLOG_GROUP_BYTES)) {
        let mut second = [0; 16];
        media.read(group.plus(FLOG_SLOT_BYTES), &mut second).expect("a sound medium");
        media.write(group.plus(FLOG_SLOT_BYTES), &[0; 16]).expect("a sound medium");
        media.write(group.plus(2 * FLOG_SLOT_BYTES), &second).expect("a sound medium");
    }
    assert_eq!(open(media, CPUS).arenas().next().map(|arena| arena.slots), Some(Slots::ZeroTwo));
}

fn contents(btt: &Btt<&Sim>) -> Contents {
    (0..SECTORS).map(|lba| read(btt, 0, lba).ok()).collect()
}

fn outlive(seed: u64, in_order: bool) {
    let mut random = Seeded::new(seed);
    let mut media = Sim::new(BYTES);
    format(&media, &FormatOptions { zero_entries: seed.is_multiple_of(2), ..format_options(512) }, &mut |_, _| ())
        .expect("a sound medium");
    let mut known = vec![Some(0); SECTORS as usize];
    let btt = open(&media, CPUS);
    for _ in 0..20 {
        let cpu = any_cpu(&media, &mut random);
        change(&btt, cpu, &mut random, &mut known);
    }
    drop(btt);
    if seed.is_multiple_of(3) {
        give_old_layout(&media);
    }
    media = media.settled();
    if !in_order {
        media = media.without_line_order();
    }
    for life in 0..LIVES {
        // Recovery may be cut, too, and repairs and the rewriting of the flog, one after the other.
        for _ in 0..random.below(3) {
            let before = media.fork();
            let chosen = random.below(4);
            media.record();
            match chosen {
                0 => mend(&media, true),
                1 => mend(&media, false),
                _ => drop(
                    Btt::open(&media, PLACEMENT, CPUS).unwrap_or_else(|why| panic!("seed {seed} life {life}: {why}")),
                ),
            }
            media = cut(&before, &media.recorded(), &mut random);
        }
        let btt = Btt::open(&media, PLACEMENT, CPUS).unwrap_or_else(|why| panic!("seed {seed} life {life}: {why}"));
        assert_eq!(contents(&btt), known, "seed {seed} life {life}");
        for _ in 0..random.below(6) {
            let cpu = any_cpu(&media, &mut random);
            change(&btt, cpu, &mut random, &mut known);
        }
        let cpu = any_cpu(&media, &mut random);
        let before = media.fork();
        let mut goal = known.clone();
        media.record();
        change(&btt, cpu, &mut random, &mut goal);
        let cut = cut(&before, &media.recorded(), &mut random);
        // What the cut left of the change is what it is from now on.
        let overlay = cut.fork().as_read_only();
        let found = contents(&Btt::open(&overlay, PLACEMENT, CPUS).expect("looked at"));
        for lba in 0..SECTORS as usize {
            let allowed = [known[lba], goal[lba]].contains(&found[lba]);
            assert!(
                allowed,
                "seed {seed} life {life}: sector {lba} reads {:?}: neither {:?} nor {:?}",
                found[lba], known[lba], goal[lba]
            );
        }
        drop(btt);
        (media, known) = (cut, found);
        assert_sound(&media);
    }
}

#[test]
fn no_cut_harms_what_comes_after_the_next() {
    (0..20).for_each(|seed| outlive(seed, true));
}

#[test]
fn so_it_is_where_lines_have_no_order() {
    (100..120).for_each(|seed| outlive(seed, false));
}
