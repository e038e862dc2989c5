//! Making namespaces, and using them: sizes, force, reboots, several DIMMs, all CPUs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fake_machine::nfit::{Control, Kind, Mapping, Range, Table};
use fake_machine::{BASE, Dimm, Hardware, MIB, Memory, boot, boot_one, nfit_of};

use super::checked;

#[test]
fn what_is_created_and_written_is_there_after_a_reboot() {
    for sector in [512, 4096] {
        let memory = Memory::new(32 * MIB);
        let mut node = boot_one(memory);
        let made = node.done(&format!("create-namespace -l {sector}"));
        assert_eq!(made["sector_size"], sector);
        node.done("write pmem0s 5 --fill 0x42 --count 3");
        drop(node);
        let mut node = boot_one(memory);
        let read = node.done("read pmem0s 6");
        let data = read["data"].as_str().expect("base64");
        assert!(data.starts_with("QkJCQkJC"), "{data:.20}");
        assert_eq!(read["sector_size"], sector);
        assert_eq!(node.done("check-namespace namespace0.0")["findings"], serde_json::json!([]));
        assert_eq!(node.done("list")["result"][0]["btt"]["lanes"], 4);
    }
}

#[test]
fn one_lane_and_one_byte_are_told_as_one() {
    let memory = Memory::new(32 * MIB);
    boot_one(memory).done("create-namespace");
    let dimm = Dimm { base: BASE, memory, flags: 0, labels: None };
    let hardware = Hardware { nfits: vec![nfit_of(&[dimm])], cpus: 1, ..Hardware::default() };
    let mut node = hardware.memory(BASE, memory).boot();
    let logged = node.node.machine().logged();
    assert!(logged.iter().any(|line| line.contains("sectors of 4096 bytes, 1 lane; looked at")), "{logged:?}");
    let wrong = node.refused("write pmem0s 0 --data AA==", "usage");
    assert_eq!(wrong, "--data: a length of 1 is not whole sectors; pmem0s has sectors of 4096 bytes");
}

#[test]
fn every_sector_size_is_created_written_read_and_checked_with_its_metadata_bytes() {
    // The metadata bytes and the sectors of 32 MiB, less the page before the first info block.
    for (sector, metadata, sectors) in [
        (512_u32, 0_usize, 64_708_u64),
        (520, 8, 57_539),
        (528, 16, 57_539),
        (4096, 0, 7_920),
        (4104, 8, 7_794),
        (4160, 64, 7_794),
        (4224, 128, 7_672),
    ] {
        let memory = Memory::new(32 * MIB);
        let mut node = boot_one(memory);
        let made = node.done(&format!("create-namespace -l {sector}"));
        let data = if sector >= 4096 { 4096 } else { 512 };
        assert_eq!((&made["sector_size"], &made["size"]), (&sector.into(), &(sectors * data).into()), "{made}");
        let bytes = usize::try_from(sector).expect("small");
        let content = |lba: u64| -> Vec<u8> {
            let data = (0..bytes - metadata).map(|at| (at as u64 * 31 + lba).to_le_bytes()[0]);
            data.chain((0..metadata).map(|at| 0xc0 | (at as u64 + lba).to_le_bytes()[0] & 0x3f)).collect()
        };
        let last = sectors - 1;
        for lba in [0, 1, last / 2, last] {
            node.done(&format!("write pmem0s {lba} --data {}", STANDARD.encode(content(lba))));
        }
        node.refused(&format!("write pmem0s {sectors} --fill 1"), "out-of-range");
        // A sector without its metadata bytes is no sector.
        if metadata > 0 {
            let data_only = STANDARD.encode(&content(0)[..bytes - metadata]);
            node.refused(&format!("write pmem0s 0 --data {data_only}"), "usage");
        }
        drop(node);
        let mut node = boot_one(memory);
        for lba in [0, 1, last / 2, last] {
            let read = node.done(&format!("read pmem0s {lba}"));
            let found = STANDARD.decode(read["data"].as_str().expect("base64")).expect("base64");
            assert!(found == content(lba), "{sector}: LBA {lba}");
        }
        let both = node.done("read pmem0s 0 2");
        let found = STANDARD.decode(both["data"].as_str().expect("base64")).expect("base64");
        assert!(found == [content(0), content(1)].concat(), "{sector}: two at once");
        node.done("write pmem0s 0 --fill 0 --count 2");
        node.done(&format!("write pmem0s {} --fill 0", last / 2));
        node.done(&format!("write pmem0s {last} --fill 0"));
        let bench = node.done("bench pmem0s --seconds 1 --mix 60 --run 7 --verify");
        let broken = ["torn", "misplaced", "foreign", "unreadable"].map(|kind| bench["verify"][kind].as_u64());
        assert_eq!((broken, &bench["errors"]), ([Some(0); 4], &0.into()), "{sector}: {bench}");
        assert_eq!(checked(&mut node, ""), (0, true));
        let internal = node.done("arenas namespace0.0")["arenas"][0]["internal_lbasize"].clone();
        assert_eq!(internal, sector.next_multiple_of(64), "{sector}");
    }
}

#[test]
fn without_an_nfit_there_is_nothing_and_that_is_no_error() {
    let mut node = boot(&[]);
    assert_eq!(node.done("list")["result"], serde_json::json!([]));
    assert_eq!(node.done("nfit")["structures"], serde_json::json!([]));
    assert!(node.refused("read pmem0s 0", "not-found").contains("pmem0s"));
    assert!(node.refused("create-namespace", "not-found").contains("the firmware has no NFIT"));
}

#[test]
fn where_there_is_no_region_the_reason_is_told() {
    let range = |index: u16| Range { index, kind: Kind::Memory, base: BASE * u64::from(index), bytes: 32 << 20 };
    let mapping = |index: u16, flags| Mapping {
        handle: u32::from(index),
        range: index,
        control: 1,
        bytes: 32 << 20,
        flags,
        ..Mapping::default()
    };
    let control = Control { index: 1, serial: 7, format: 0x301, registers: None };
    let boot = |table: Table| Hardware { nfits: vec![table.finish()], ..Hardware::default() }.boot();
    // The firmware did not map the DIMM.
    let mut node = boot(Table::default().range(range(1)).mapping(mapping(1, 1 << 6)).control(control));
    for line in ["create-namespace", "create-namespace -r region0", "create-namespace -t pmem"] {
        let why = node.refused(line, "not-found");
        assert!(why.contains("region0 is left out") && why.contains("failed to map DIMM 0x1"), "{line}: {why}");
    }
    assert!(node.refused("create-namespace -r region7", "not-found").contains("failed to map"));
    // It is not what a wish for the other kind is refused for.
    assert!(!node.refused("create-namespace -t blk", "not-found").contains("left out"));
    // A mapping that leads nowhere: there is not even a region to leave out.
    let mut node = boot(Table::default().mapping(mapping(9, 0)).control(control));
    assert!(node.refused("create-namespace", "not-found").contains("refers to address range 9"));
    let mut node = boot(Table::default().control(control));
    assert!(node.refused("create-namespace", "not-found").contains("names no range of persistent memory"));
    // One that is there, and another.
    let memory = Memory::new(32 * MIB);
    let table = Table::default().range(range(1)).mapping(mapping(1, 1 << 6)).range(range(2)).mapping(mapping(2, 0));
    let hardware = Hardware { nfits: vec![table.control(control).finish()], ..Hardware::default() };
    let mut node = hardware.memory(2 * BASE, memory).boot();
    assert!(node.refused("create-namespace -r region0", "not-found").contains("region0 is left out"));
    assert!(node.refused("create-namespace -r region9", "not-found").contains("no region \"region9\": list -R"));
    assert_eq!(node.done("create-namespace")["dev"], "namespace1.0");
}

#[test]
fn nfit_tells_refusals_from_remarks() {
    let (memory, mapped) = (Memory::new(32 * MIB), 1 << 3);
    let node = boot(&[Dimm { base: BASE, memory, flags: mapped, labels: None }]).done("nfit");
    assert_eq!(node["refused"], serde_json::json!([]));
    assert!(node["remarks"][0]["why"].as_str().is_some_and(|why| why.contains("not armed")), "{node}");
}

#[test]
fn a_load_leaves_alone_what_somebody_made_on_a_disk() {
    for (sector, lba) in [(512, 2), (520, 2), (4096, 0)] {
        let mut node = boot_one(Memory::new(32 * MIB));
        node.done(&format!("create-namespace -l {sector}"));
        // The magic number of ext4, at 0x438 of the disk.
        let mut data = vec![0; sector];
        let at = 0x438 - lba * 512;
        data[at..at + 2].copy_from_slice(&[0x53, 0xef]);
        node.done(&format!("write pmem0s {lba} --data {}", STANDARD.encode(&data)));
        let why = node.refused("bench pmem0s --seconds 1", "failed");
        assert!(why.contains("pmem0s holds an ext2, ext3 or ext4 file system: -f"), "{sector}: {why}");
        node.done("bench pmem0s --seconds 1 --mix 0");
        node.done("bench pmem0s --verify");
        assert_eq!(node.done(&format!("read pmem0s {lba}"))["data"], STANDARD.encode(&data).as_str());
        node.done("bench pmem0s --seconds 1 -f");
        // A load's own sectors are no file system, whatever their bytes look like: over and over.
        for seed in 0..3 {
            node.done(&format!("bench pmem0s --seconds 1 --seed {seed} -f --run 64"));
            node.done(&format!("bench pmem0s --seconds 0 --seed {seed} --verify"));
        }
        node.done("write pmem0s 0 --fill 0 --count 4");
        node.done("bench pmem0s --seconds 1");
    }
}

#[test]
fn an_unformatted_namespace_takes_no_sectors_and_says_what_to_do() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    for dev in ["pmem0s", "pmem0"] {
        assert!(node.refused(&format!("write {dev} 0 --fill 1"), "not-found").contains("create-namespace"));
        node.refused(&format!("read {dev} 0"), "not-found");
    }
    node.refused("arenas namespace0.0", "failed");
    node.refused("check-namespace namespace0.0", "failed");
    node.refused("bench pmem0s --seconds 1", "not-found");
    drop(node);
    assert!(memory.copy().iter().all(|byte| *byte == 0), "nothing was written");
}

#[test]
fn what_somebody_made_is_formatted_only_by_force() {
    let memory = Memory::new(32 * MIB);
    memory.put(0x438, &[0x53, 0xef]);
    memory.put(9 * MIB, &[0xaa; 4096]);
    let mut node = boot_one(memory);
    assert!(node.refused("create-namespace", "failed").contains("ext4"));
    node.done("create-namespace -f");
    // The old data in the middle cannot be read any more.
    let count = node.done("list")["result"][0]["size"].as_u64().expect("a size") / 4096;
    for lba in (0..count).step_by(128) {
        let read = node.done(&format!("read pmem0s {lba} {}", 128.min(count - lba)));
        assert!(read["data"].as_str().is_some_and(|data| data.bytes().all(|c| c == b'A' || c == b'=')), "LBA {lba}");
    }
    assert!(node.refused("create-namespace", "failed").contains("sector mode already"));
}

#[test]
fn bytes_that_mean_nothing_to_us_are_not_formatted_unasked_either() {
    let memory = Memory::new(32 * MIB);
    memory.put(77, b"somebody's secret");
    let mut node = boot_one(memory);
    assert!(node.refused("create-namespace", "failed").contains("not blank"));
}

#[test]
fn an_unarmed_dimm_is_read_only() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace");
    node.done("write pmem0s 0 --fill 9");
    drop(node);
    let before = memory.copy();
    let mut node = boot(&[Dimm { base: BASE, memory, flags: 1 << 3, labels: None }]);
    node.done("read pmem0s 0");
    node.refused("write pmem0s 0 --fill 8", "read-only");
    node.refused("bench pmem0s --seconds 1", "read-only");
    node.refused("create-namespace -f", "read-only");
    drop(node);
    assert!(before == memory.copy(), "nothing was written");
}

#[test]
fn two_dimms_are_two_regions() {
    let (first, second) = (Memory::new(32 * MIB), Memory::new(48 * MIB));
    let mut node = boot(&[
        Dimm { base: BASE, memory: first, flags: 0, labels: None },
        Dimm { base: BASE + (1 << 30), memory: second, flags: 0, labels: None },
    ]);
    node.done("create-namespace -r region1 -l 512");
    node.done("create-namespace");
    node.refused("create-namespace -r region2", "not-found");
    node.done("write pmem1s 100 --fill 3");
    let list = node.done("list");
    assert_eq!(list["result"][0]["blockdev"], "pmem0s");
    assert_eq!(list["result"][1]["sector_size"], 512);
    assert_eq!(node.done("status")["namespaces"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_load_on_all_cpus_tears_nothing() {
    let memory = Memory::new(32 * MIB);
    let mut node = boot_one(memory);
    node.done("create-namespace -l 512");
    for run in [1, 7, 64] {
        let bench = node.done(&format!("bench pmem0s --seconds 1 --mix 70 --run {run} --seed {run} --verify"));
        assert_eq!(bench["errors"], 0);
        assert_eq!((&bench["verify"]["torn"], &bench["verify"]["misplaced"]), (&0.into(), &0.into()));
        assert!(bench["sectors_written"].as_u64() > Some(1000), "{bench}");
    }
    let stats = node.done("stats");
    assert_eq!(stats["devices"][0]["cpus"].as_array().map(Vec::len), Some(4));
    assert_eq!(node.done("check-namespace namespace0.0")["findings"], serde_json::json!([]));
}
