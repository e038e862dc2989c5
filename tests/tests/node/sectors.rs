//! Sectors that are trimmed, in error, or lost.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use drivers::phys::PhysAddr;
use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, boot, boot_one, nfit_of};
use serde_json::json;

use super::checked;

#[test]
fn a_machine_check_about_sound_data_costs_no_sector_and_one_about_the_map_is_believed() {
    let base = 0x33_0000_0000;
    let memory = Memory::new(32 * MIB);
    let mut node = boot(&[Dimm { base, memory, flags: 0, labels: None }]);
    node.done("create-namespace -l 512");
    node.done("write pmem0s 0 --fill 0x42 --count 64");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    let at = |key: &str| base + 4096 + arena[key].as_u64().expect("a number");
    // The block that was free first has the first sector now.
    let block = at("dataoff") + arena["external_nlba"].as_u64().expect("a number") * 512;
    drivers::poison::report(PhysAddr(block), 9).expect("it is this DIMM's");
    let errors = node.done("errors");
    assert_eq!(errors["media"], json!([{"dev": "namespace0.0", "offset": block - base, "length": 512}]));
    // The memory has these bytes: a report that comes late, or is wrong, costs no sector.
    node.done("read pmem0s 0 64");
    assert_eq!(node.done("errors")["media"], json!([]));
    assert_eq!(node.done("errors")["errors"], json!([]));

    // A line of the map: the arena is read-only from the first access on that needs it, and gives the reason.
    drivers::poison::report(PhysAddr(at("mapoff") + 4 * 1600), 6).expect("it is this DIMM's");
    node.done("write pmem0s 0 --fill 1");
    node.refused("read pmem0s 1605", "damaged");
    assert!(node.refused("write pmem0s 0 --fill 2", "read-only").contains("media error"));
    node.done("read pmem0s 0");
    let reason = node.done("list")["result"][0]["btt"]["reason"].clone();
    assert!(reason.as_str().is_some_and(|why| why.contains("arena 0") && why.contains("media error")), "{reason}");
    assert!(!checked(&mut node, "-R").1);
    assert!(checked(&mut node, "-R -f").1);
    node.done("write pmem0s 0 --fill 2");
    let listed = json!([{"dev": "pmem0s", "lba": 1600, "count": 16}]);
    assert_eq!(node.done("errors")["errors"], listed);
    assert_eq!(node.done("errors")["media"], json!([]));
}

#[test]
fn memory_that_fails_while_it_is_loaded_is_an_error_of_its_sector() {
    let base = 0x34_0000_0000;
    let memory = Memory::new(32 * MIB);
    let mut node = boot(&[Dimm { base, memory, flags: 0, labels: None }]);
    node.done("create-namespace -l 4096");
    node.done("write pmem0s 0 --fill 0x42 --count 64");
    let arena = node.done("arenas namespace0.0")["arenas"][0].clone();
    let at = |key: &str| arena[key].as_u64().expect("a number");
    let block = 4096 + at("dataoff") + at("external_nlba") * 4096;
    for count in [1, 64] {
        memory.fail(base, block);
        let before = node.done("errors");
        assert_eq!((&before["media"], &before["errors"]), (&json!([]), &json!([])), "nobody has met it yet");
        let reads = (0..64).step_by(count).map(|lba| (lba, node.ask(&format!("read pmem0s {lba} {count}"))));
        let failed: Vec<_> = reads.filter(|(_, reply)| reply["ok"] == false).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0].1["error"]["code"], "damaged");
        let after = node.done("errors");
        assert_eq!(after["media"], json!([{"dev": "namespace0.0", "offset": block, "length": 4096}]));
        let lba = after["errors"][0]["lba"].as_u64().expect("a number");
        assert_eq!(after["errors"], json!([{"dev": "pmem0s", "lba": lba, "count": 1}]));
        // The lost block is free now, and is mended before it is used.
        node.done(&format!("write pmem0s {lba} --fill 0x42"));
        assert_eq!(node.done("errors")["errors"], json!([]));
        for _ in 0..6 {
            node.done("write pmem0s 64 --fill 7 --count 64");
            node.done("write pmem0s 0 --fill 0x42 --count 64");
        }
        assert_eq!(node.done("errors")["media"], json!([]));
    }
}

#[test]
fn trimmed_and_failing_sectors_are_as_asked_after_a_reboot_too() {
    for option in ["", "--zero-entries"] {
        let memory = Memory::new(32 * MIB);
        let mut node = boot_one(memory);
        node.done(&format!("create-namespace -l 512 {option}"));
        node.done("write pmem0s 0 --fill 0x42 --count 100");
        node.done("trim pmem0s 10 5");
        node.done("inject-error pmem0s 20 3");
        drop(node);
        let mut node = boot_one(memory);
        assert!(node.refused("read pmem0s 19 3", "damaged").contains("LBA 20"));
        for (lba, begins) in [(9, "QkJCQkJC"), (10, "AAAAAAAA"), (14, "AAAAAAAA"), (15, "QkJCQkJC")] {
            let read = node.done(&format!("read pmem0s {lba}"));
            assert!(read["data"].as_str().is_some_and(|data| data.starts_with(begins)), "LBA {lba}");
        }
        let listed = json!([{"dev": "pmem0s", "lba": 20, "count": 3}]);
        assert_eq!(node.done("errors")["errors"], listed);
        node.done("write pmem0s 20 --fill 1");
        node.done("clear-errors pmem0s 0 100");
        assert_eq!(node.done("errors pmem0s")["errors"], json!([]));
        let read = node.done("read pmem0s 20 2");
        assert!(read["data"].as_str().is_some_and(|data| data.starts_with("AQEBAQ") && data.ends_with("AA==")));
        assert_eq!(node.done("check-namespace namespace0.0")["findings"], json!([]));
    }
}

#[test]
fn a_sector_that_the_medium_lost_becomes_an_error_and_a_write_mends_it() {
    for sector in [520, 4096] {
        let memory = Memory::new(32 * MIB);
        let mut node = boot_one(memory);
        node.done(&format!("create-namespace -l {sector}"));
        node.done("write pmem0s 0 --fill 0x42 --count 8");
        node.done("inject-error pmem0s 3 2 --media");
        assert_eq!(node.done("errors")["errors"], json!([]), "nobody has met them yet");
        assert_eq!(node.done("errors")["media"].as_array().map(Vec::len), Some(2));
        assert!(node.refused("read pmem0s 0 8", "damaged").contains("media error"));
        assert!(node.refused("read pmem0s 3", "damaged").contains("marked as an error"));
        node.done("clear-errors pmem0s 0 8");
        let read = node.done("read pmem0s 3 2");
        assert!(read["data"].as_str().is_some_and(|data| data.bytes().all(|c| c == b'A' || c == b'=')));
        // The lost blocks are free now, and are mended before they are used.
        for _ in 0..3 {
            node.done("write pmem0s 0 --fill 7 --count 300");
        }
        assert_eq!(node.done("errors")["media"], json!([]));
        assert_eq!(node.done("bench pmem0s --seconds 1 --run 9 --verify")["errors"], 0);
    }
}

/// Each figure of `stats`, `errors`, `list` and `bench` is what was done.
#[test]
fn every_figure_counts_what_it_says() {
    let mut node = boot_one(Memory::new(32 * MIB));
    node.done("create-namespace -l 512");
    let counts = |node: &mut Booted| node.done("stats")["devices"][0].clone();
    let number = |counts: &serde_json::Value, key: &str| counts[key].as_u64().expect("a number");
    let keys = ["reads", "writes", "sectors_read", "sectors_written", "read_errors", "write_errors"];
    let since = |node: &mut Booted, line: &str, ok: bool| {
        let before = counts(node);
        assert_eq!(node.ask(line)["ok"], ok, "{line}");
        let after = counts(node);
        assert_eq!(after["cpus"][0]["reads"], after["reads"], "all of it on this CPU");
        keys.map(|key| number(&after, key) - number(&before, key))
    };
    assert_eq!(since(&mut node, "write pmem0s 0 --fill 7 --count 40", true), [0, 1, 0, 40, 0, 0]);
    assert_eq!(since(&mut node, "read pmem0s 1 5", true), [1, 0, 5, 0, 0, 0]);
    assert_eq!(since(&mut node, "trim pmem0s 50 1", true)[..2], [0, 1], "a change of a sector is a write");
    // Looks are no reads.
    assert_eq!(since(&mut node, "clear-errors pmem0s 50 1", true), [0; 6]);
    let bench = since(&mut node, "bench pmem0s --seconds 1 --mix 100", true);
    assert_eq!((bench[0], bench[2]), (0, 0), "{bench:?}");
    node.done("write pmem0s 0 --fill 7 --count 40");
    node.done("inject-error pmem0s 9");
    assert_eq!(since(&mut node, "read pmem0s 9", false), [0, 0, 0, 0, 1, 0]);
    node.done("inject-error pmem0s 3 --media");
    // A sector that the medium lost: one block of it in both lists.
    let list = |node: &mut Booted| node.done("list -RN")["result"]["regions"][0].clone();
    let listed = list(&mut node);
    assert_eq!(
        (&listed["badblock_count"], &listed["namespaces"][0]["badblock_count"]),
        (&1.into(), &1.into()),
        "{listed}"
    );
    let errors = node.done("errors");
    assert_eq!((&errors["errors"][0]["lba"], &errors["media"][0]["length"]), (&9.into(), &512.into()));
    node.done("clear-errors pmem0s 0 40");
    node.done("write pmem0s 0 --fill 7 --count 300");
    assert_eq!(list(&mut node)["badblock_count"], serde_json::Value::Null, "all is written again");
    // Two fences a run of writes, and no more; a line of the flog for each sector.
    let before = counts(&mut node);
    node.done("write pmem0s 64 --fill 1");
    let after = counts(&mut node);
    let [fences, write_backs] = ["fences", "write_backs"].map(|key| number(&after, key) - number(&before, key));
    assert!((2..=3).contains(&fences) && (1..=4).contains(&write_backs), "{fences} {write_backs}");
    let bench = node.done("bench pmem0s --seconds 1 --seed 5 --mix 100 --run 4");
    let of = |key: &str| bench[key].as_u64().expect("a number");
    assert_eq!((of("sectors_written"), of("sectors_read"), of("errors")), (4 * of("ops"), 0, 0), "{bench}");
    assert_eq!((of("cpus"), of("seed"), of("mix"), of("run")), (4, 5, 100, 4));
    let rate = bench["ops_per_second"].as_f64().expect("a rate") * bench["seconds"].as_f64().expect("seconds");
    assert!((rate / of("ops") as f64 - 1.0).abs() < 1e-6, "{bench}");
    assert!((0.2..2.0).contains(&bench["fences_per_sector"].as_f64().expect("a number")), "{bench}");
    assert!((0.5..4.0).contains(&bench["write_backs_per_sector"].as_f64().expect("a number")), "{bench}");
    let reads = node.done("bench pmem0s --seconds 1 --mix 0");
    assert_eq!((&reads["sectors_read"], &reads["sectors_written"]), (&reads["ops"], &0.into()));
    // What a verification distinguishes: sectors of this load, another one's, none, damaged ones.
    let sector = |node: &mut Booted, lba: u64| node.done(&format!("read pmem0s {lba}"))["data"].clone();
    node.done("trim pmem0s 0 64708");
    node.done("bench pmem0s --seconds 1 --seed 5");
    // A fast machine writes every sector in a second: some are blank whatever its speed.
    node.done("trim pmem0s 100 8");
    let verified = |node: &mut Booted| node.done("bench pmem0s --seed 5 --verify")["verify"].clone();
    let whole = verified(&mut node);
    assert_eq!(number(&whole, "good") + number(&whole, "blank"), number(&whole, "sectors"));
    assert!(number(&whole, "version_max") > 0);
    let good = (0..64_708).find(|lba| {
        let both = [sector(&mut node, *lba), sector(&mut node, lba + 1)];
        both.iter().all(|data| !data.as_str().expect("base64").starts_with("AAAAAAAAAAAAAAAA"))
    });
    let good = good.expect("two that were written");
    let own = sector(&mut node, good);
    node.done(&format!("write pmem0s {} --data {}", good + 1, own.as_str().expect("base64")));
    let mut torn = STANDARD.decode(own.as_str().expect("base64")).expect("base64");
    torn[256..].fill(0);
    node.done(&format!("write pmem0s {good} --data {}", STANDARD.encode(&torn)));
    let blank =
        (0..64_708).find(|lba| sector(&mut node, *lba).as_str().expect("base64").starts_with("AAAAAAAAAAAAAAAA"));
    let blank = blank.expect("one that was not written");
    node.done(&format!("write pmem0s {blank} --fill 0x41"));
    let judged = verified(&mut node);
    for (key, more) in [("good", -2), ("blank", -1), ("foreign", 1), ("torn", 1), ("misplaced", 1), ("unreadable", 0)] {
        let by = i64::try_from(number(&judged, key)).expect("few") - i64::try_from(number(&whole, key)).expect("few");
        assert_eq!(by, more, "{key}: {judged}");
    }
    assert_eq!(judged["faults"].as_array().map(Vec::len), Some(2));
    node.done(&format!("inject-error pmem0s {blank}"));
    assert_eq!(number(&verified(&mut node), "unreadable"), 1);
}

#[test]
fn a_load_has_memory_for_all_its_buffers_or_is_refused() {
    let memory = Memory::new(32 * MIB);
    let dimm = Dimm { base: BASE, memory, flags: 0, labels: None };
    let hardware = Hardware { nfits: vec![nfit_of(&[dimm])], heap_bytes: 2 << 20, ..Hardware::default() };
    let mut node = hardware.memory(BASE, memory).boot();
    node.done("create-namespace");
    // Four CPUs have 256 KiB together.
    node.done("bench pmem0s --seconds 1 --run 4");
    assert!(node.refused("bench pmem0s --seconds 1 --run 32", "failed").contains("memory for runs of 32"));
    assert!(node.refused("bench pmem0s --run 4 --verify", "failed").contains("memory for runs of 32"));
}
