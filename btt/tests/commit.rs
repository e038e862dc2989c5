//! Writes of scattered sectors that share one commit: what it takes, what it costs, who gets which error.
#![allow(clippy::cast_possible_truncation)] // small numbers

mod common;

use btt::bytes::Sectors;
use btt::commit::Writes;
use btt::format::{FormatOptions, format};
use btt::layout::ARENA_MAX_BYTES;
use btt::media::{MediaError, Medium, NsOffset, SectorSource};
use btt::sim::Seeded;
use btt::{Btt, BttError, CpuIndex, ExternalLba, RUN_MAX};

use common::lossy::Lossy;
use common::sparse::Sparse;
use common::*;

/// Entries of the map between two lines that share a stripe, where an arena has 1024 stripes.
const APART: u64 = 1024 * 16;

#[test]
fn sectors_in_any_order_share_two_fences() {
    let btt = open(made(512), 1);
    let last = btt.capacity_sectors() - 1;
    let writes = [(last, 1), (7, 2), (20_000, 3), (6, 4), (0, 5), (APART - 1, 6), (300, 7), (8, 8)];
    assert_eq!(commit(&btt, 0, &writes, 0), Ok(8));
    let before = btt.counters();
    assert_eq!(commit(&btt, 0, &writes.map(|(lba, tag)| (lba, tag + 10)), 0), Ok(8));
    let after = btt.counters();
    assert_eq!((after.fences - before.fences, after.sectors_written - before.sectors_written), (2, 8));
    // A line of the map for each sector, of which four share one, and a flog record for each.
    assert_eq!(after.write_backs - before.write_backs, 5 + 8);
    // Whatever a cut takes of what is not fenced: all of them are there.
    let again = open(btt.media().crash(&mut Nothing), 1);
    for (lba, tag) in writes {
        assert_eq!(read(&again, 0, lba), Ok(tag + 10), "LBA {lba}");
    }
    assert_eq!(again.recovered_writes(), 8);
    assert_sound(again.media());
}

/// Loses all that can be lost.
struct Nothing;

impl btt::sim::Choose for Nothing {
    fn below(&mut self, _: u64) -> u64 {
        0
    }
}

#[test]
fn a_commit_ends_before_what_it_cannot_take() {
    let btt = open(made(512), 1);
    let past = btt.capacity_sectors();
    type Case<'a> = (&'a [(u64, u64)], usize, &'a str);
    let cases: [Case<'_>; 7] = [
        (&[(5, 1), (9, 2), (5, 3)], 2, "a sector again"),
        (&[(5, 1), (5, 2)], 1, "at once"),
        (&[(5, 1), (900, 2), (5 + APART, 3)], 2, "a second line on a stripe"),
        (&[(5 + APART, 1), (15 + APART, 2), (9 + APART, 3), (0, 4)], 3, "whatever line came first"),
        (&[(5, 1), (6, 2), (16 + APART, 3)], 3, "another stripe"),
        (&[(5, 1), (past, 2)], 1, "the end of the device"),
        (&[(5, 1), (u64::MAX, 2)], 1, "far past it"),
    ];
    for (writes, taken, what) in cases {
        assert_eq!(commit(&btt, 0, writes, 0), Ok(taken), "{what}");
        for (lba, tag) in &writes[..taken] {
            assert_eq!(read(&btt, 0, *lba), Ok(*tag), "{what}: LBA {lba}");
        }
    }
    let many: Vec<(u64, u64)> = (0..100).map(|n| (n * 37, n + 1)).collect();
    assert_eq!(commit(&btt, 0, &many, 0), Ok(RUN_MAX), "as many as a run takes");
    assert_eq!(commit(&btt, 0, &many, 90), Ok(10), "as many as there are");
    let refused = BttError::OutOfRange { lba: ExternalLba(past), count: 1, capacity: past };
    assert_eq!(commit(&btt, 0, &[(5, 7), (past, 8)], 1), Err(refused));
    assert_eq!(read(&btt, 0, 5), Ok(1));
    assert_sound(&btt.close().expect("no faults"));
    // A lane with two free blocks writes two sectors at a time.
    let btt = open(made(512), 128);
    assert_eq!(commit(&btt, 3, &many, 0), Ok(2));
    assert_sound(&btt.close().expect("no faults"));
}

#[test]
fn a_commit_ends_where_another_arena_begins() {
    let media = Sparse::new(2 * ARENA_MAX_BYTES);
    format(&media, &FormatOptions { ..format_options(4096) }, &mut |_, _| ()).expect("no faults");
    let btt = open(&media, 2);
    let border = btt.arenas().nth(1).expect("two arenas").first_lba.0;
    let writes = [(border - 1, 1), (3, 2), (border, 3), (border + 9, 4), (4, 5)];
    assert_eq!([0, 2, 4].map(|from| commit(&btt, 0, &writes, from)), [Ok(2), Ok(2), Ok(1)]);
    for (lba, tag) in writes {
        assert_eq!(read(&btt, 1, lba), Ok(tag), "LBA {lba}");
    }
    drop(btt);
    assert_sound(&media);
}

/// A source that cannot give one of its sectors.
struct Gone<'a>(Scattered<'a>, usize);

impl<M: Medium> SectorSource<M> for Gone<'_> {
    fn store(&self, index: usize, media: &M, at: NsOffset) -> Result<(), MediaError> {
        if index == self.1 { Err(MediaError::CallersMemory) } else { self.0.store(index, media, at) }
    }
}

impl<M: Medium> Writes<M> for Gone<'_> {
    fn count(&self) -> usize {
        Writes::<M>::count(&self.0)
    }

    fn lba(&self, index: usize) -> ExternalLba {
        Writes::<M>::lba(&self.0, index)
    }
}

#[test]
fn the_error_of_one_write_is_no_others() {
    let btt = open(made(512), 1);
    let writes = [(40, 1), (2, 2), (900, 3), (41, 4)];
    let gone = Gone(Scattered { writes: &writes, sector_bytes: 512 }, 2);
    let mut lane = btt.lane(CpuIndex(0));
    assert_eq!(lane.commit(&gone, 0), Ok(2), "those before it");
    let why = BttError::Data { lba: ExternalLba(900), why: MediaError::CallersMemory };
    assert_eq!(lane.commit(&gone, 2), Err(why));
    assert_eq!(lane.commit(&gone, 3), Ok(1));
    assert_eq!(lane.take_counters().refusals, 0, "no block was at fault");
    drop(lane);
    assert_eq!([40, 2, 900, 41].map(|lba| read(&btt, 0, lba)), [Ok(1), Ok(2), Ok(0), Ok(4)]);
    assert_sound(&btt.close().expect("no faults"));
}

#[test]
fn a_block_that_the_medium_refuses_ends_a_commit_and_costs_no_write() {
    for refused in 0..4 {
        let media = Lossy::new(made(512));
        let arena = open(&media, 1).arenas().next().expect("one arena");
        let g = arena.info.geometry;
        let at = arena.at.0 + g.dataoff + u64::from(g.external_nlba + refused) * u64::from(g.internal_lbasize);
        media.refused.lock().expect("no panic").push(at..at + u64::from(g.internal_lbasize));
        let btt = open(&media, 1);
        let writes = [(APART + 99, 1), (2, 2), (5000, 3), (41, 4)];
        // The first sector goes to another block; a later one, to another commit.
        let expected = if refused == 0 { 4 } else { refused as usize };
        assert_eq!(commit(&btt, 0, &writes, 0), Ok(expected));
        for (index, (lba, tag)) in writes.into_iter().enumerate() {
            assert_eq!(read(&btt, 0, lba), Ok(if index < expected { tag } else { 0 }), "block {refused}, LBA {lba}");
        }
        assert_eq!(commit_all(&btt, 0, &writes), Ok(()));
        assert_eq!(btt.counters().refusals, 1);
        for (lba, tag) in writes {
            assert_eq!(read(&btt, 0, lba), Ok(tag), "block {refused}, LBA {lba}");
        }
        drop(btt);
        assert_sound(&media);
    }
}

/// Random lists of writes on several lanes, beside contiguous ones; the power goes, and every sector is its last write.
#[test]
fn every_sector_reads_its_last_write_whatever_the_lists_were() {
    let mut random = Seeded::new(14);
    for round in 0..40 {
        let media = made(512);
        let media = if round % 4 == 0 { media.without_line_order() } else { media };
        let btt = open(media, 3);
        let lbas: Vec<u64> = (0..24).map(|n| n % 6 + n / 6 * APART / 2).collect();
        let mut model = vec![0; lbas.len()];
        for step in 0..60 {
            let cpu = btt::sim::Choose::below(&mut random, 3) as u32;
            btt.media().set_cpu(cpu);
            let mut below = |most: usize| btt::sim::Choose::below(&mut random, most as u64) as usize;
            let writes: Vec<(usize, u64)> =
                (0..1 + below(40)).map(|n| (below(lbas.len()), step * 64 + n as u64 + 1)).collect();
            if below(4) == 0 {
                let (which, tag) = writes[0];
                let bytes = content(512, tag);
                let source = Sectors::new(&bytes, btt.sector_size()).expect("whole sectors");
                btt.lane(CpuIndex(cpu)).write(ExternalLba(lbas[which]), 1, &source).expect("in range");
                model[which] = tag;
                continue;
            }
            let scattered: Vec<(u64, u64)> = writes.iter().map(|(which, tag)| (lbas[*which], *tag)).collect();
            commit_all(&btt, cpu, &scattered).expect("in range");
            writes.iter().for_each(|(which, tag)| model[*which] = *tag);
        }
        let crashed: Btt<_> = open(btt.media().crash(&mut Nothing), 2);
        for opened in [&btt, &crashed] {
            for (lba, tag) in lbas.iter().zip(&model) {
                assert_eq!(read(opened, 0, *lba), Ok(*tag), "round {round}, LBA {lba}");
            }
        }
        assert_sound(crashed.media());
    }
}
