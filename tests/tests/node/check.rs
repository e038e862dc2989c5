//! Damage: found, reported, mended.

use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, boot, boot_one, nfit_of};

use super::checked;

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
    for _ in 0..2 {
        node.refused("enable-namespace namespace0.0", "damaged");
    }
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
fn what_cannot_be_made_portable_is_told_and_stays_as_it_was() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 512 --zero-entries");
    node.done("trim pmem0s 10 20");
    let map = node.done("arenas namespace0.0")["arenas"][0]["mapoff"].as_u64().expect("a number");
    drop(node);
    // An entry that leads out of the arena turns it read-only for good.
    let entry = usize::try_from(map).expect("small") + 4096 + 4 * 7;
    let sound = memory.copy()[entry..entry + 4].to_vec();
    memory.put(entry, &u32::MAX.to_le_bytes());
    boot_one(memory).refused("read pmem0s 7", "damaged");
    memory.put(entry, &sound);
    let mut node = boot_one(memory);
    let state = |node: &mut Booted| node.done("status")["namespaces"][0]["state"].clone();
    let opened = |node: &Booted| {
        let is_open = |line: &&String| line.starts_with("namespace0.0: ") && line.contains("looked at in");
        node.node.machine().logged().iter().filter(is_open).count()
    };
    let (before, opened_before) = (state(&mut node), opened(&node));
    assert!(before.as_str().is_some_and(|state| state.contains("error flag")), "{before}");
    node.refused("check-namespace namespace0.0 --portable", "read-only");
    // A second look at media that a disk still has open would not know what that one has not made durable yet.
    assert_eq!((state(&mut node), opened(&node)), (before, opened_before + 1));
    node.done("disable-namespace namespace0.0");
    node.refused("check-namespace namespace0.0 --portable", "read-only");
    assert_eq!(state(&mut node), "disabled");

    // No memory to open it with.
    let memories = [Memory::new(32 * MIB), Memory::new(32 * MIB)];
    let dimm = |base, memory| Dimm { base, memory, flags: 0, labels: None };
    let dimms = [dimm(BASE, memories[0]), dimm(2 * BASE, memories[1])];
    let boot = |heap_bytes: u64| {
        let hardware = Hardware { nfits: vec![nfit_of(&dimms)], heap_bytes, ..Hardware::default() };
        dimms.iter().fold(hardware, |hardware, dimm| hardware.memory(dimm.base, dimm.memory)).boot()
    };
    let mut node = boot(192 << 20);
    node.done("create-namespace -r region0 -l 512");
    node.done("create-namespace -r region1 -l 512");
    drop(node);
    let none = boot(0).done("status")["namespaces"][0]["state"].clone();
    let words = none.as_str().expect("text").split(' ').find_map(|word| word.parse::<u64>().ok());
    let needed = words.expect("the bytes that are needed");
    // Three quarters of it are enough for one.
    let mut node = boot(2 * needed);
    node.done("disable-namespace namespace1.0");
    let why = node.refused("check-namespace namespace1.0 --portable", "failed");
    assert!(why.contains("bytes of memory are needed"), "{why}");
    assert_eq!(node.done("status")["namespaces"][1]["state"], "disabled");
    node.done("disable-namespace namespace0.0");
    assert_eq!(node.done("check-namespace namespace1.0 --portable")["findings"], serde_json::json!([]));
    assert_eq!(node.done("status")["namespaces"][1]["state"], "disabled");
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

#[test]
fn a_check_counts_the_arenas_that_it_looked_at_enabled_or_not() {
    let mut node = boot_one(Memory::new(32 * MIB));
    node.done("create-namespace -l 512");
    for options in ["", "-R", "-L", "--portable"] {
        for command in ["disable-namespace namespace0.0", "enable-namespace namespace0.0"] {
            node.done(command);
            let closed = |node: &Booted| {
                node.node.machine().logged().iter().filter(|line| *line == "namespace0.0: disabled").count()
            };
            let before = closed(&node);
            let check = node.done(&format!("check-namespace namespace0.0 {options}"));
            if command.starts_with("disable") && options != "--portable" {
                assert_eq!(closed(&node), before, "{options}: it was closed before");
            }
            assert_eq!(
                (&check["arenas"], &check["findings"]),
                (&1.into(), &serde_json::json!([])),
                "{command} {options}"
            );
        }
    }
}

#[test]
fn unclean_shutdowns_are_counted_where_writes_had_to_be_finished() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 512");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    let map = 4096 + usize::try_from(arena["mapoff"].as_u64().expect("a number")).expect("small");
    let count = |node: &mut Booted| node.done("status")["unclean_shutdowns_recovered"].clone();
    assert_eq!(count(&mut node), 0);
    for expected in 1..=3 {
        // Two sectors whose map entries a cut kept from the medium.
        node.done("write pmem0s 0 --fill 7 --count 2");
        node.done("disable-namespace namespace0.0");
        let before = memory.copy()[map..map + 8].to_vec();
        node.done("enable-namespace namespace0.0");
        node.done("write pmem0s 0 --fill 8 --count 2");
        node.done("disable-namespace namespace0.0");
        memory.put(map, &before);
        node.done("enable-namespace namespace0.0");
        assert_eq!(count(&mut node), expected, "one namespace, one shutdown");
        let read = node.done("read pmem0s 0");
        assert!(read["data"].as_str().is_some_and(|data| data.starts_with("CAgI")));
        node.done("disable-namespace namespace0.0");
        node.done("enable-namespace namespace0.0");
        assert_eq!(count(&mut node), expected, "a clean one is not counted");
    }
    drop(node);
    assert_eq!(count(&mut boot_one(memory)), 0, "counted since boot");
}

#[test]
fn a_namespace_that_lost_a_line_is_formatted_by_force() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    // Its first sectors lie in the first MiB.
    node.done("inject-error pmem0s 0 --media -f");
    node.done("destroy-namespace -f namespace0.0");
    let lost = node.done("status")["namespaces"][0]["state"].clone();
    assert!(lost.as_str().is_some_and(|state| state.contains("the medium has lost")), "{lost}");
    let health = node.ask("health").to_string();
    assert!(health.contains("the medium has lost"), "{health}");
    assert!(node.refused("create-namespace", "failed").contains("the medium has lost: -f"));
    node.done("create-namespace -f");
    let read = node.done("read pmem0s 0");
    assert!(read["data"].as_str().is_some_and(|data| data.starts_with("AAAA")));
    assert_eq!(checked(&mut node, ""), (0, true));
    assert_eq!(node.done("errors")["media"], serde_json::json!([]));
}

/// A sound info block of another BTT, with sectors of another size.
#[test]
fn a_btt_with_sectors_of_another_size_is_not_supported_and_nobody_offers_to_write_over_it() {
    for size in [1024_u32, 8192] {
        let memory = Memory::new(32 * MIB);
        let mut node = boot_one(memory);
        node.done("create-namespace -l 4096");
        let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
        drop(node);
        let number = |key: &str| arena[key].as_u64().expect("a number");
        let mut block = memory.copy()[4096..8192].to_vec();
        let internal = size.max(4096);
        let blocks = u32::try_from(number("internal_nlba")).expect("small") * 4096 / internal;
        for (at, word) in [(56, size), (60, blocks - 256), (64, internal), (68, blocks)] {
            block[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        block[4088..].fill(0);
        let sum = btt::checksum::fletcher64(&block);
        block[4088..].copy_from_slice(&sum.to_le_bytes());
        memory.put(4096, &block);
        memory.put(4096 + usize::try_from(number("info2off")).expect("small"), &block);
        let image = memory.copy();

        let mut node = boot_one(memory);
        let what = format!("a BTT with sectors of {size} bytes");
        let state = node.done("status")["namespaces"][0]["state"].clone();
        assert!(state.as_str().is_some_and(|state| state.starts_with(&format!("unsupported: {what}"))), "{state}");
        let logged = node.node.machine().logged();
        assert!(logged.iter().any(|line| line.contains(&format!("not supported: {what}"))), "{logged:?}");
        for line in [
            "check-namespace namespace0.0",
            "check-namespace namespace0.0 -f",
            "check-namespace namespace0.0 -R -L -f",
            "check-namespace namespace0.0 --portable",
            "create-namespace",
            "init-labels nmem0",
            "arenas namespace0.0",
            "read pmem0s 0",
            "write pmem0s 0 --fill 1",
            "bench pmem0s",
            "destroy-namespace namespace0.0",
        ] {
            let reply = node.ask(line);
            let message = reply["error"]["message"].as_str().unwrap_or_default().to_string();
            assert_eq!(reply["error"]["code"], "failed", "{line}: {reply}");
            let unless_destroyed = !line.starts_with("destroy") && !line.starts_with("init-labels");
            assert!(!unless_destroyed || (message.contains(&what) && !message.contains("-f")), "{line}: {message}");
        }
        assert!(memory.copy() == image, "nothing was written");
        node.done("disable-namespace namespace0.0");
        node.refused("enable-namespace namespace0.0", "failed");
        // Who insists gets what they ask for.
        node.done("create-namespace -f");
        node.done("write pmem0s 0 --fill 1");
    }
}

/// Media determine how much memory their free lists take: what does not fit beside the rest is left out, with the reason, and all
/// else goes on.
#[test]
fn free_lists_that_would_take_the_memory_of_all_are_left_out_and_told() {
    let nfree = 1_u32 << 14;
    let with_many_free_blocks = || {
        let memory = Memory::new(32 * MIB);
        let mut block = vec![0_u8; 4096];
        block[..14].copy_from_slice(b"BTT_ARENA_INFO");
        block[16..32].fill(0x11);
        let words = |at: usize, words: &[u32], block: &mut Vec<u8>| {
            for (index, word) in words.iter().enumerate() {
                block[at + 4 * index..at + 4 * index + 4].copy_from_slice(&word.to_le_bytes());
            }
        };
        let external = 64_u32;
        words(48, &[0, 1 | 1 << 16, 512, external, 512, external + nfree, nfree, 4096], &mut block);
        let mapoff = 4096 + u64::from(external + nfree) * 512;
        let logoff = mapoff + 4096;
        let info2off = 32 * MIB as u64 - 8192;
        for (index, offset) in [0, 4096, mapoff, logoff, info2off].iter().enumerate() {
            block[80 + 8 * index..88 + 8 * index].copy_from_slice(&offset.to_le_bytes());
        }
        let sum = btt::checksum::fletcher64(&block);
        block[4088..].copy_from_slice(&sum.to_le_bytes());
        let flog: Vec<u8> = (external..external + nfree)
            .flat_map(|free| {
                let mut group = vec![0; 64];
                words(0, &[0, free, free, 1], &mut group);
                group
            })
            .collect();
        memory.put(4096, &block);
        memory.put(4096 + usize::try_from(info2off).expect("small"), &block);
        memory.put(4096 + usize::try_from(logoff).expect("small"), &flog);
        memory
    };
    let ordinary = Memory::new(32 * MIB);
    boot_one(ordinary).done("create-namespace -l 512");
    let memories: Vec<&'static Memory> = (0..4).map(|_| with_many_free_blocks()).chain([ordinary]).collect();
    let boot = |heap_bytes: u64| {
        let dimms: Vec<Dimm> = (1..)
            .zip(&memories)
            .map(|(number, memory)| Dimm { base: BASE * number, memory, flags: 0, labels: None })
            .collect();
        let map = Hardware { nfits: vec![nfit_of(&dimms)], heap_bytes, ..Hardware::default() };
        dimms.iter().fold(map, |hardware, dimm| hardware.memory(dimm.base, dimm.memory)).boot()
    };
    assert_eq!(boot(192 << 20).done("list")["result"].as_array().map(Vec::len), Some(5));
    // Room for two of them beside the memory that opening takes for a while.
    let mut node = boot(6 << 20);
    let states: Vec<_> = node.done("status")["namespaces"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["state"].as_str().expect("text").to_string())
        .collect();
    let active = states.iter().filter(|state| *state == "active").count();
    assert!((2..5).contains(&active) && states[4] == "active", "{states:?}");
    for state in states.iter().filter(|state| *state != "active") {
        assert!(state.contains("bytes of memory are needed for its 16384 free blocks"), "{state}");
    }
    assert!(node.refused("write pmem3s 0 --fill 1", "failed").contains("give the machine more memory"));
    assert!(node.refused("create-namespace -r region3 -f", "failed").contains("free blocks"));
    // It is sound, so it goes by force only.
    let why = node.refused("destroy-namespace namespace3.0", "failed");
    assert!(why.contains("free blocks") && why.contains("disable-namespace namespace3.0 first, or -f"), "{why}");
    // What is open works, and room that is given back is there for others.
    node.done("write pmem0s 0 --fill 1 --count 64");
    node.refused("enable-namespace namespace3.0", "failed");
    (0..active - 1).for_each(|number| _ = node.done(&format!("disable-namespace namespace{number}.0")));
    node.done("enable-namespace namespace3.0");
    node.done("write pmem3s 0 --fill 1 --count 64");
    assert_eq!(node.done("check-namespace namespace3.0")["findings"], serde_json::json!([]));
}
