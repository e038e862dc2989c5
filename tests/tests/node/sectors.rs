//! Sectors that are trimmed, in error, or lost.

use super::checked;
use drivers::phys::PhysAddr;
use tests::threads::{Dimm, MIB, Memory, boot, boot_one};

#[test]
fn machine_checks_about_persistent_memory_are_errors_of_its_sectors() {
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
    assert_eq!(errors["media"], serde_json::json!([{"dev": "namespace0.0", "offset": block - base, "length": 512}]));
    let mut lost = Vec::new();
    for lba in 0..64 {
        if node.ask(&format!("read pmem0s {lba}"))["ok"] == false {
            lost.push(lba);
        }
    }
    assert_eq!(lost.len(), 1, "{lost:?}");
    let listed = serde_json::json!([{"dev": "pmem0s", "lba": lost[0], "count": 1}]);
    assert_eq!(node.done("errors")["errors"], listed);
    node.done(&format!("write pmem0s {} --fill 0x42", lost[0]));
    assert_eq!(node.done("errors")["errors"], serde_json::json!([]));

    // A line of the map: the arena is read-only from the first access on that needs it, and says why.
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
    let listed = serde_json::json!([{"dev": "pmem0s", "lba": 1600, "count": 16}]);
    assert_eq!(node.done("errors")["errors"], listed);
    assert_eq!(node.done("errors")["media"], serde_json::json!([]));
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
        let listed = serde_json::json!([{"dev": "pmem0s", "lba": 20, "count": 3}]);
        assert_eq!(node.done("errors")["errors"], listed);
        node.done("write pmem0s 20 --fill 1");
        node.done("clear-errors pmem0s 0 100");
        assert_eq!(node.done("errors pmem0s")["errors"], serde_json::json!([]));
        let read = node.done("read pmem0s 20 2");
        assert!(read["data"].as_str().is_some_and(|data| data.starts_with("AQEBAQ") && data.ends_with("AA==")));
        assert_eq!(node.done("check-namespace namespace0.0")["findings"], serde_json::json!([]));
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
        assert_eq!(node.done("errors")["errors"], serde_json::json!([]), "nobody has met them yet");
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
        assert_eq!(node.done("errors")["media"], serde_json::json!([]));
        assert_eq!(node.done("bench pmem0s --seconds 1 --run 9 --verify")["errors"], 0);
    }
}
