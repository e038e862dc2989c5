//! Several arenas: namespaces above 512 GiB, on a medium that keeps only what was stored.
//!
//! Arenas take 512 GiB each; a tail below 16 MiB stays unused (NVDIMM Namespace Specification, "BTT layout"; Linux's
//! `create_arenas`).

mod common;

use btt::format::{Recipe, format};
use btt::info_block::{InfoBlock, Version};
use btt::layout::ARENA_MAX_BYTES;
use btt::media::{Namespace, NsOffset};
use btt::repair::{Orders, repair};
use btt::{Btt, OpenError, Placement};
use common::sparse::Sparse;
use common::{read, read_run, recipe, write};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn made(bytes: u64, sector: u32, version: Version) -> Sparse {
    let media = Sparse::new(bytes);
    format(&media, &Recipe { version, ..recipe(sector) }, &mut |_, _| ()).expect("a medium without faults");
    media
}

const fn placement(version: Version) -> Placement {
    Placement { version, parent_uuid: Uuid::nil() }
}

/// Sectors of an arena of 512 GiB, by btt.c's arithmetic.
fn sectors_of_a_whole_arena(sector: u64) -> u64 {
    let available = ARENA_MAX_BYTES - 2 * PAGE - 256 * 64;
    (available - PAGE) / (sector.next_multiple_of(64) + 4) - 256
}

#[test]
fn sectors_on_both_sides_of_every_arena_border_are_what_was_written() {
    let (tib_1_5, v1_1, v2_0) = (3 * ARENA_MAX_BYTES, Version::V1_1, Version::V2_0);
    for (sector, version, bytes, arenas) in [
        // The last arena is short by the page before the first info block.
        (4096, v1_1, tib_1_5, 3),
        (4096, v2_0, tib_1_5, 3),
        // A tail below 16 MiB, and one of just as much.
        (4096, v1_1, tib_1_5 + 16 * MIB, 3),
        (4224, v1_1, tib_1_5 + 16 * MIB + PAGE, 4),
        (4104, v2_0, ARENA_MAX_BYTES + 16 * MIB - 1, 1),
        (520, v2_0, ARENA_MAX_BYTES + 16 * MIB, 2),
    ] {
        let case = format!("{sector} {version} {bytes:#x}");
        let media = made(bytes, sector, version);
        let kept = media.stored();
        assert!(
            kept.len() <= 7 * arenas,
            "{case}: info blocks and flogs are stored, zeroes are not: {} pages",
            kept.len()
        );
        let btt = Btt::open(&media, placement(version), 2).expect("sound");
        let found: Vec<_> = btt.arenas().collect();
        assert_eq!(found.len(), arenas, "{case}");
        for (index, arena) in found.iter().enumerate() {
            assert_eq!(arena.at.0, version.initial_offset().0 + index as u64 * ARENA_MAX_BYTES, "{case}");
            assert_eq!(arena.first_lba.0, index as u64 * sectors_of_a_whole_arena(u64::from(sector)), "{case}");
            assert_eq!(arena.info.geometry.nextoff, if index + 1 < arenas { ARENA_MAX_BYTES } else { 0 }, "{case}");
        }
        let last = found.last().expect("at least one");
        let capacity = btt.capacity_sectors();
        assert_eq!(capacity, last.first_lba.0 + u64::from(last.info.geometry.external_nlba), "{case}");
        let borders: Vec<u64> = found.iter().skip(1).map(|arena| arena.first_lba.0).collect();
        // A run over each border, then single sectors at it; both ends; nothing else changes.
        for &border in &borders {
            let tags: Vec<u64> = (border - 40..border + 40).collect();
            write(&btt, 0, border - 40, &tags).expect("in range");
            write(&btt, 1, border - 1, &[border | 1 << 60]).expect("in range");
            write(&btt, 0, border, &[border | 1 << 61]).expect("in range");
        }
        write(&btt, 1, capacity - 1, &[7]).expect("in range");
        assert!(write(&btt, 1, capacity - 1, &[7, 8]).is_err() && read(&btt, 0, capacity).is_err(), "{case}");
        btt.close().expect("no faults");
        // Another boot.
        let before = media.take_read();
        let btt = Btt::open(&media, placement(version), 4).expect("sound");
        let cost = media.take_read();
        assert!(before > 0 && cost <= arenas as u64 * 40 * 1024, "{case}: attaching read {cost} bytes");
        for &border in &borders {
            let mut tags: Vec<u64> = (border - 40..border + 40).collect();
            (tags[39], tags[40]) = (border | 1 << 60, border | 1 << 61);
            assert_eq!(read_run(&btt, 0, border - 40, 80), Ok(tags), "{case}");
            assert_eq!(read_run(&btt, 1, border - 42, 2), Ok(vec![0, 0]), "{case}");
            assert_eq!(read_run(&btt, 1, border + 40, 2), Ok(vec![0, 0]), "{case}");
        }
        assert_eq!((read(&btt, 0, capacity - 1), read(&btt, 0, 0)), (Ok(7), Ok(0)), "{case}");
        // What the last arena leaves over is nobody's.
        let end = last.at.0 + last.info.geometry.info2off + PAGE;
        assert!(bytes - end < 16 * MIB && media.stored().into_iter().all(|page| page < end), "{case}");
    }
}

const REPAIR: Orders =
    Orders { repair: true, rewrite_log: false, force: false, fresh_uuid: Uuid::from_u128(99), window_blocks: u32::MAX };

/// Everything an arena knows of itself.
fn infos(media: &Sparse) -> Vec<InfoBlock> {
    let btt = Btt::open(media, placement(Version::V1_1), 1).expect("sound");
    btt.arenas().map(|arena| arena.info).collect()
}

#[test]
fn an_arena_that_lost_both_info_blocks_gets_them_from_what_another_one_says() {
    let media = made(ARENA_MAX_BYTES + 64 * MIB, 4096, Version::V1_1);
    let whole = infos(&media);
    let border = u64::from(whole[0].geometry.external_nlba);
    let btt = Btt::open(&media, placement(Version::V1_1), 1).expect("sound");
    write(&btt, 0, border - 2, &[1, 2, 3, 4]).expect("in range");
    btt.close().expect("no faults");
    let places = |index: usize| {
        let at = PAGE + index as u64 * ARENA_MAX_BYTES;
        [at, at + whole[index].geometry.info2off]
    };
    let [[first, first_copy], [second, second_copy]] = [places(0), places(1)];
    // Which blocks are gone, and the arenas that have none left then.
    for (gone, arenas) in [
        // With only one copy left of all four, each of the others follows from it.
        (vec![first, first_copy, second], vec![0, 1]),
        (vec![first, second, second_copy], vec![0, 1]),
    ] {
        for at in &gone {
            media.write(NsOffset(*at), &[0; 4096]).expect("in range");
        }
        let refused = Btt::open(&media, placement(Version::V1_1), 1).err();
        assert!(matches!(refused, Some(OpenError::InfoBlock { .. } | OpenError::NotABtt)), "{refused:?}");
        let mut found = Vec::new();
        repair(&media, placement(Version::V1_1), &REPAIR, &mut |what, done| found.push((what, done)), &mut |_, _| ());
        assert!(found.iter().all(|(_, repaired)| *repaired), "{found:?}");
        let named: Vec<u32> = found.iter().filter_map(|(what, _)| what.arena().map(|arena| arena.0)).collect();
        assert!(arenas.iter().all(|arena| named.contains(arena)), "{found:?}");
        assert_eq!(infos(&media), whole);
        let btt = Btt::open(&media, placement(Version::V1_1), 1).expect("sound");
        assert!(btt.arenas().all(|arena| arena.backup_agrees));
        assert_eq!(read_run(&btt, 0, border - 2, 4), Ok(vec![1, 2, 3, 4]));
    }
}
