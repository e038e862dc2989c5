//! Damage: found, told, mended.

use super::checked;
use tests::threads::{BASE, Booted, Dimm, MIB, Memory, boot, boot_one};

#[test]
fn the_flog_of_an_older_linux_is_kept_until_it_is_rewritten_on_request() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 520");
    node.done("write pmem0s 0 --fill 0x11 --count 300");
    node.done("write pmem0s 0 --fill 0x22 --count 200");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    assert_eq!((&arena["log_index_0"], &arena["log_index_1"]), (&0.into(), &1.into()));
    node.done("poweroff");
    drop(node);
    // As Linux before 4.15 has it: the second slot two places on.
    let flog = usize::try_from(arena["logoff"].as_u64().expect("a number")).expect("small") + 4096;
    let image = memory.copy();
    for group in (flog..).step_by(64).take(256) {
        memory.put(group + 32, &image[group + 16..group + 32]);
        memory.put(group + 16, &[0; 16]);
    }
    let mut node = boot_one(memory);
    let slots = |node: &mut Booted| node.done("arenas namespace0.0")["arenas"][0]["log_index_1"].clone();
    assert_eq!((slots(&mut node), checked(&mut node, "")), (2.into(), (0, true)));
    node.done("write pmem0s 100 --fill 0x33 --count 100");
    assert_eq!(checked(&mut node, "-R"), (0, true));
    assert_eq!(slots(&mut node), 2, "a repair is no conversion");
    assert_eq!(checked(&mut node, "-L"), (0, true));
    assert_eq!(slots(&mut node), 1);
    node.done("write pmem0s 250 --fill 0x44 --count 300");
    drop(node);
    let mut node = boot_one(memory);
    assert_eq!((slots(&mut node), checked(&mut node, "")), (1.into(), (0, true)));
    for (lba, begins) in [(0, "IiIi"), (99, "IiIi"), (100, "MzMz"), (199, "MzMz"), (200, "ERER"), (250, "RERE")] {
        let read = node.done(&format!("read pmem0s {lba}"));
        assert!(read["data"].as_str().is_some_and(|data| data.starts_with(begins)), "LBA {lba}");
    }
    let second = memory.copy()[flog..].chunks(64).take(256).all(|group| group[32..] == [0; 32]);
    assert!(second, "nothing is left of the old slots");
}

#[test]
fn a_lost_info_block_is_damage_and_names_its_copy() {
    let memory = Memory::new(32 * MIB);
    boot_one(memory).done("create-namespace");
    memory.put(4096 + 100, &[0xff]);
    let mut node = boot_one(memory);
    assert!(node.refused("read pmem0s 0", "damaged").contains("sound copy"));
    let check = node.done("check-namespace namespace0.0");
    assert_eq!(check["exit"], 4);
    assert_eq!(check["findings"].as_array().map(Vec::len), Some(1));
    assert!(node.refused("create-namespace", "failed").contains("damaged"));
}

#[test]
fn a_long_check_says_how_far_it_is_and_a_short_one_does_not() {
    let mut node = boot_one(Memory::new(32 * MIB));
    node.done("create-namespace -l 512");
    let said = |node: &Booted| {
        let is_progress = |line: &&String| line.starts_with("namespace0.0: checked ") && line.ends_with(" %");
        node.node.machine().logged().iter().filter(is_progress).count()
    };
    node.done("check-namespace namespace0.0");
    node.done("check-namespace namespace0.0 -R");
    assert_eq!(said(&node), 0);
    node.node.machine().hurry();
    node.done("check-namespace namespace0.0");
    let of_check = said(&node);
    assert!(of_check > 0);
    node.done("check-namespace namespace0.0 -R");
    assert!(said(&node) > of_check);
}

#[test]
fn a_map_entry_past_the_end_turns_the_arena_read_only_and_list_says_why() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    let arenas = node.done("arenas namespace0.0");
    let map = arenas["arenas"][0]["mapoff"].as_u64().expect("a number");
    drop(node);
    let entry = usize::try_from(map).expect("small") + 4096 + 4 * 7;
    memory.put(entry, &0xffff_ffff_u32.to_le_bytes());
    let mut node = boot_one(memory);
    node.done("write pmem0s 0 --fill 1");
    node.refused("read pmem0s 7", "damaged");
    node.refused("write pmem0s 0 --fill 1", "read-only");
    let listed = node.done("list")["result"][0]["btt"].clone();
    assert_eq!(listed["state"], "read-only");
    assert!(listed["reason"].as_str().is_some_and(|why| why.contains("map entry 7")), "{listed}");
    node.done("read pmem0s 0");
}

#[test]
fn a_damaged_namespace_is_repaired_and_served_again() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 520");
    node.done("write pmem0s 0 --fill 0x42 --count 50");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    drop(node);
    let at = |name: &str| usize::try_from(arena[name].as_u64().expect("a number")).expect("small") + 4096;
    // The info block, a flog group that was never used, and an entry that leads out of the arena.
    memory.put(4096, &[0xee; 4096]);
    memory.put(at("logoff") + 64 * 200, &[0; 64]);
    memory.put(at("mapoff") + 4 * 7, &u32::MAX.to_le_bytes());
    let mut node = boot_one(memory);
    node.refused("read pmem0s 0", "damaged");
    let before = memory.copy();
    assert_eq!(checked(&mut node, ""), (1, false));
    assert!(before == memory.copy(), "a check stores nothing");
    assert_eq!(checked(&mut node, "-R"), (3, false), "the entry has no certain answer");
    node.refused("read pmem0s 0", "damaged");
    assert_eq!(checked(&mut node, "-R -f"), (2, true));
    assert!(node.refused("read pmem0s 7", "damaged").contains("marked as an error"));
    node.done("write pmem0s 7 --fill 0x42");
    let read = node.done("read pmem0s 0 50");
    assert!(read["data"].as_str().is_some_and(|data| data.starts_with("QkJC") && !data.contains("AAAA")));
    assert_eq!(checked(&mut node, ""), (0, true));
    assert_eq!(checked(&mut node, "-L"), (0, true));
    node.done("bench pmem0s --seconds 1 --verify");
}

#[test]
fn a_namespace_whose_info_blocks_are_lost_is_found_again() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 512");
    node.done("write pmem0s 5 --fill 0x42");
    drop(node);
    memory.put(4096, &[0; 4096]);
    memory.put(32 * MIB - 4096, &[0; 4096]);
    let mut node = boot_one(memory);
    assert!(node.refused("check-namespace namespace0.0", "failed").contains("-R"));
    assert_eq!(checked(&mut node, "-R"), (1, true));
    assert!(node.done("read pmem0s 5")["data"].as_str().is_some_and(|data| data.starts_with("QkJC")));
}

#[test]
fn the_error_flag_that_damage_left_is_cleared_by_a_repair() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    let map = node.done("arenas namespace0.0")["arenas"][0]["mapoff"].as_u64().expect("a number");
    drop(node);
    memory.put(usize::try_from(map).expect("small") + 4096 + 4 * 7, &u32::MAX.to_le_bytes());
    let mut node = boot_one(memory);
    node.refused("read pmem0s 7", "damaged");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    assert_eq!(arena["flags"], 1);
    assert!(arena["read_only"].as_str().is_some_and(|why| why.contains("map entry 7")), "{arena}");
    drop(node);
    let mut node = boot_one(memory);
    assert!(node.refused("write pmem0s 0 --fill 1", "read-only").contains("error flag"));
    assert!(!checked(&mut node, "-R").1);
    assert_eq!(checked(&mut node, "-R -f"), (3, true));
    node.done("write pmem0s 0 --fill 1");
    assert!(node.done("arenas namespace0.0")["arenas"][0]["read_only"].is_null());
}

#[test]
fn trim_entries_are_written_out_before_the_medium_goes_to_linux() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 512 --zero-entries");
    node.done("write pmem0s 0 --fill 0x42 --count 100");
    node.done("trim pmem0s 10 20");
    assert_eq!(checked(&mut node, ""), (0, true));
    assert_eq!(checked(&mut node, "--portable"), (1, true));
    assert_eq!(node.done("arenas namespace0.0")["arenas"][0]["flags"], 0);
    node.done("trim pmem0s 40 1");
    assert_eq!(checked(&mut node, "--portable"), (0, true));
    for (lba, begins) in [(9, "QkJC"), (10, "AAAA"), (29, "AAAA"), (30, "QkJC"), (40, "AAAA")] {
        let read = node.done(&format!("read pmem0s {lba}"));
        assert!(read["data"].as_str().is_some_and(|data| data.starts_with(begins)), "LBA {lba}");
    }
}

#[test]
fn media_that_may_not_be_written_are_not_repaired() {
    let memory = Memory::new(32 * MIB);
    boot_one(memory).done("create-namespace");
    memory.put(32 * MIB - 4096 + 9, &[1]);
    let before = memory.copy();
    let mut node = boot(&[Dimm { base: BASE, memory, flags: 1 << 3, labels: None }]);
    assert_eq!(checked(&mut node, ""), (1, false));
    node.refused("check-namespace namespace0.0 -R", "read-only");
    drop(node);
    assert!(before == memory.copy(), "nothing was written");
}
