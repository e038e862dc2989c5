//! Several arenas: namespaces above 512 GiB, on a medium that keeps only what was stored.
//!
//! Arenas take 512 GiB each; a tail below 16 MiB stays unused (NVDIMM Namespace Specification, "BTT layout"; Linux's
//! `create_arenas`).

mod common;

use btt::format::{FormatOptions, format};
use btt::info_block::{InfoBlock, Version};
use btt::layout::ARENA_MAX_BYTES;
use btt::media::{Medium, NsOffset};
use btt::repair::{RepairOptions, repair};
use btt::sim::Seeded;
use btt::{Btt, BttError, OpenError, Placement, PremapAba, ReadOnlyReason};
use uuid::Uuid;

use common::sparse::Sparse;
use common::{assert_sound, format_options, read, read_run, write};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn made(bytes: u64, sector: u32, version: Version) -> Sparse {
    let media = Sparse::new(bytes);
    format(&media, &FormatOptions { version, ..format_options(sector) }, &mut |_, _| ())
        .expect("a medium without faults");
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
        // What the last arena leaves over belongs to no arena.
        let end = last.at.0 + last.info.geometry.info2off + PAGE;
        assert!(bytes - end < 16 * MIB && media.stored().into_iter().all(|page| page < end), "{case}");
    }
}

const REPAIR: RepairOptions = RepairOptions {
    repair: true,
    rewrite_log: false,
    force: false,
    fresh_uuid: Uuid::from_u128(99),
    window_blocks: u32::MAX,
};

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

#[test]
fn damaged_headers_of_four_arenas_are_named_and_mended() {
    let media = made(3 * ARENA_MAX_BYTES + 16 * MIB + PAGE, 4096, Version::V1_1);
    let whole = infos(&media);
    assert_eq!(whole.len(), 4);
    let raw = |at: u64| {
        let mut page = [0; 4096];
        media.read(NsOffset(at), &mut page).expect("in range");
        page
    };
    for (index, info) in (0..).zip(&whole) {
        let at = PAGE + index * ARENA_MAX_BYTES;
        let copy = at + info.geometry.info2off;
        let sound = raw(at);
        // The first block gone, the copy gone, both.
        for (first_gone, copy_gone) in [(true, false), (false, true), (true, true)] {
            for (place, gone) in [(at, first_gone), (copy, copy_gone)] {
                if gone {
                    media.write(NsOffset(place + 32), &[0xff; 100]).expect("in range");
                }
            }
            match Btt::open(&media, placement(Version::V1_1), 1) {
                Ok(btt) => {
                    let agree: Vec<bool> = btt.arenas().map(|arena| arena.backup_agrees).collect();
                    let expected: Vec<bool> = (0..4).map(|arena| arena != index).collect();
                    assert!(!first_gone && agree == expected, "{agree:?}");
                }
                Err(OpenError::InfoBlock { arena, at: found, backup, .. }) => {
                    assert!(first_gone);
                    assert_eq!((u64::from(arena.0), found.0), (index, at));
                    assert_eq!(backup.map(|at| at.0), (!copy_gone).then_some(copy));
                }
                Err(why) => panic!("{why}"),
            }
            for place in [at, copy] {
                media.write(NsOffset(place), &sound).expect("in range");
            }
        }
    }
    // All of one kind at once.
    for (index, info) in (0..).zip(&whole) {
        let at = PAGE + index * ARENA_MAX_BYTES;
        let place = if index % 2 == 0 { at } else { at + info.geometry.info2off };
        media.write(NsOffset(place), &[0; 4096]).expect("in range");
    }
    let mut found = Vec::new();
    repair(&media, placement(Version::V1_1), &REPAIR, &mut |what, done| found.push((what, done)), &mut |_, _| ());
    assert!(found.len() == 4 && found.iter().all(|(_, repaired)| *repaired), "{found:?}");
    assert_eq!(infos(&media), whole);
}

#[test]
fn an_arena_that_is_found_damaged_is_read_only_and_the_others_go_on() {
    let media = made(ARENA_MAX_BYTES + 32 * MIB, 4096, Version::V1_1);
    let arenas = || Btt::open(&media, placement(Version::V1_1), 2).expect("sound");
    let second = arenas().arenas().nth(1).expect("two arenas");
    let (first_lba, map) = (second.first_lba.0, second.at.plus(second.info.geometry.mapoff));
    let past = 0xc000_0000 | second.info.geometry.internal_nlba;
    media.store_u32(map.plus(4 * 9), past).expect("in range");
    let btt = arenas();
    write(&btt, 0, first_lba, &[5]).expect("nobody has met the entry yet");
    let why = ReadOnlyReason::MapOutOfBounds { premap: PremapAba(9), found: past };
    let refused = BttError::ReadOnly { arena: second.index, why };
    assert_eq!(read(&btt, 1, first_lba + 9), Err(refused));
    assert_eq!(write(&btt, 0, first_lba, &[6]), Err(refused));
    // A request over the border does what it can.
    assert_eq!(write(&btt, 0, first_lba - 1, &[7, 8]), Err(refused));
    write(&btt, 1, 0, &[9]).expect("the first arena is as sound as ever");
    let read_only: Vec<_> = btt.arenas().map(|arena| (arena.read_only, arena.info.flags)).collect();
    assert_eq!(read_only, [(None, 0), (Some(why), InfoBlock::ERROR_FLAG)]);
    btt.close().expect("no faults");
    let btt = arenas();
    assert_eq!((read(&btt, 0, 0), read_run(&btt, 0, first_lba - 1, 2)), (Ok(9), Ok(vec![7, 5])));
    let read_only: Vec<_> = btt.arenas().map(|arena| arena.read_only).collect();
    assert_eq!(read_only, [None, Some(ReadOnlyReason::ErrorFlag)]);
    write(&btt, 0, 1, &[10]).expect("the first arena");
}

#[test]
fn zeroing_old_data_leaves_alone_what_is_zero() {
    let media = Sparse::new(256 * MIB);
    let junk: Vec<u8> = (0..100_000_u32).map(|byte| byte.to_le_bytes()[0] | 1).collect();
    // Where metadata will be, too: in the flog and map at the end, and an info block of old at either place.
    for at in [0, PAGE + 4, 20 * MIB + 77, 200 * MIB, 256 * MIB - 300_000, 256 * MIB - 100_000] {
        media.write(NsOffset(at), &junk).expect("in range");
    }
    let before = media.stored();
    format(&media, &FormatOptions { zero_data: true, ..format_options(512) }, &mut |_, _| ()).expect("no faults");
    let added = media.stored().into_iter().filter(|page| !before.contains(page)).count();
    assert!(added <= 6, "{added} pages were stored that had been holes");
    let btt = Btt::open(&media, placement(Version::V1_1), 1).expect("sound");
    let mut lba = 0;
    while lba < btt.capacity_sectors() {
        let count = 4096.min(btt.capacity_sectors() - lba);
        assert_eq!(read_run(&btt, 0, lba, count), Ok(vec![0; usize::try_from(count).expect("few")]));
        lba += count;
    }
    assert_sound(&media);
}

#[test]
fn garbage_where_metadata_will_be_does_no_harm_to_a_new_btt() {
    let mut random = Seeded::new(11);
    let media = Sparse::new(17 * MIB);
    for at in (0..17 * MIB).step_by(8) {
        // Words that look like map entries in every state, and like sequence numbers.
        let word = random.next() & [u64::MAX, 0x4000_0fff_c000_0fff, 3][usize::try_from(at / 8 % 3).expect("few")];
        media.write(NsOffset(at), &word.to_le_bytes()).expect("in range");
    }
    for (sector, zero_data) in [(512, false), (4096, true), (528, true)] {
        format(&media, &FormatOptions { zero_data, ..format_options(sector) }, &mut |_, _| ()).expect("no faults");
        assert_sound(&media);
        let btt = Btt::open(&media, placement(Version::V1_1), 2).expect("sound");
        assert_eq!(btt.sector_size().bytes(), sector, "the BTT of before is gone");
        let last = btt.capacity_sectors() - 1;
        if zero_data {
            assert_eq!((read(&btt, 0, 0), read(&btt, 1, last)), (Ok(0), Ok(0)));
        }
        for lba in [0, 1, last / 2, last] {
            write(&btt, 0, lba, &[lba + 1]).expect("in range");
            assert_eq!(read(&btt, 1, lba), Ok(lba + 1));
        }
        btt.close().expect("no faults");
        assert_sound(&media);
    }
}
