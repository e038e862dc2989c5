//! The node on a host: firmware tables and media in memory, threads for CPUs, commands as a person types them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use btt::CpuIndex;
use drivers::phys::PhysAddr;
use drivers::shared::SharedWindow;
use kernel::node::export::{Alarm, Consumer, Means};
use serde_json::Value;
use service::control::{
    Attach, Deframer, DiskIndex, ExportIndex, MemoryId, Outcome, QueueIndex, Region, Report, Request, Start,
};
use service::link::ByteLink;
use service::memory::{MemoryOffset, SharedMemory};
use service::mock::{Descriptor, Driver, NEXT, WRITE};
use std::sync::{Arc, Mutex};
use tests::blk::trap::Trapped;
use tests::blk::{Layout, Model};
use tests::nfit::Table;
use tests::threads::{BASE, Booted, Dimm, Hardware, Line, MIB, Memory, boot, boot_one, boot_with, labelled};

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
fn without_an_nfit_there_is_nothing_and_that_is_no_error() {
    let mut node = boot(&[]);
    assert_eq!(node.done("list")["result"], serde_json::json!([]));
    assert_eq!(node.done("nfit")["structures"], serde_json::json!([]));
    assert!(node.refused("read pmem0s 0", "not-found").contains("pmem0s"));
    node.refused("create-namespace", "not-found");
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

/// `list -Ni`, in short: name, mode or state, sector size.
fn listed(node: &mut Booted) -> Vec<String> {
    let list = node.done("list -Ni");
    let short = |it: &Value| {
        let how = it["state"].as_str().or(it["mode"].as_str()).expect("a mode");
        format!("{} {how} {}", it["dev"].as_str().expect("a name"), it["sector_size"])
    };
    list["result"].as_array().expect("a list").iter().map(short).collect()
}

#[test]
fn a_labelled_dimm_holds_several_namespaces_and_keeps_them_over_a_reboot() {
    for (version, btt, slots) in [("1.1", "1.1", 1020), ("1.2", "2.0", 510)] {
        let dimm = labelled(160);
        let mut node = boot(&[dimm]);
        let area = node.done(&format!("init-labels nmem0 -V {version}"));
        assert_eq!((&area["label_version"], &area["slots"]), (&version.into(), &slots.into()));
        assert_eq!(listed(&mut node), [""; 0]);
        let region = |node: &mut Booted| {
            let region = node.done("list -R")["result"][0].clone();
            (region["available_size"].as_u64(), region["max_available_extent"].as_u64(), region["iset_id"].clone())
        };
        assert_eq!(region(&mut node).0, Some(160 << 20));
        let first = node.done("create-namespace -s 48M -n first -u 21704d23-024c-4b18-8e35-7a42a8bcdb46");
        assert_eq!((&first["dev"], &first["blockdev"]), (&"namespace0.0".into(), &"pmem0s".into()));
        assert_eq!((&first["name"], &first["btt"]["version"]), (&"first".into(), &btt.into()));
        let second = node.done("create-namespace -s 32M -l 512");
        assert_eq!((&second["dev"], &second["blockdev"]), (&"namespace0.1".into(), &"pmem0.1s".into()));
        let third = node.done("create-namespace -m raw -s 16M");
        assert_eq!((&third["mode"], &third["size"]), (&"raw".into(), &(16 << 20).into()));
        node.done("create-namespace");
        assert_eq!(region(&mut node).0, Some(0));
        assert!(node.refused("create-namespace", "failed").contains("no space is free"));
        for (dev, byte) in [("pmem0s", 1), ("pmem0.1s", 2), ("pmem0.3s", 3)] {
            node.done(&format!("write {dev} 7 --fill {byte} --count 3"));
        }
        let uuids = |node: &mut Booted| {
            let list = node.done("list -Nv")["result"].clone();
            list.as_array().expect("a list").iter().map(|it| (it["uuid"].clone(), it["raw_uuid"].clone())).collect()
        };
        let before: Vec<(Value, Value)> = uuids(&mut node);
        assert_eq!(before[0].1, "21704d23-024c-4b18-8e35-7a42a8bcdb46");
        drop(node);

        let mut node = boot(&[dimm]);
        assert_eq!(
            listed(&mut node),
            ["namespace0.0 sector 4096", "namespace0.1 sector 512", "namespace0.2 raw 512", "namespace0.3 sector 4096"]
        );
        assert_eq!(uuids(&mut node), before);
        for (dev, sector) in [("pmem0s", "AQEB"), ("pmem0.1s", "AgIC"), ("pmem0.3s", "AwMD")] {
            assert!(node.done(&format!("read {dev} 8"))["data"].as_str().is_some_and(|it| it.starts_with(sector)));
        }
        for namespace in ["namespace0.0", "namespace0.1", "namespace0.3"] {
            assert_eq!(node.done(&format!("check-namespace {namespace}"))["findings"], serde_json::json!([]));
        }
        // A piece in the middle is given back and taken again; the others are not touched.
        assert!(node.refused("destroy-namespace namespace0.1", "failed").contains("disable-namespace"));
        node.done("disable-namespace namespace0.1");
        assert_eq!(node.done("destroy-namespace namespace0.1")["state"], "destroyed");
        assert_eq!((region(&mut node).0, region(&mut node).1), (Some(32 << 20), Some(32 << 20)));
        node.refused("read pmem0.1s 8", "not-found");
        let usage = node.refused("create-namespace -s 20M", "usage");
        assert!(usage.contains("use 33554432"), "{usage}");
        assert!(node.refused("create-namespace -s 48M", "failed").contains("largest free piece is 33554432"));
        assert_eq!(node.done("create-namespace -l 520")["dev"], "namespace0.1");
        // What stood there before cannot be read.
        let read = node.done("read pmem0.1s 8");
        assert!(read["data"].as_str().is_some_and(|data| data.bytes().all(|c| c == b'A' || c == b'=')));
        assert!(node.done("read pmem0s 8")["data"].as_str().is_some_and(|it| it.starts_with("AQEB")));
    }
}

#[test]
fn a_blank_label_area_is_used_when_a_size_or_a_name_asks_for_it() {
    let dimm = labelled(96);
    let mut node = boot(&[dimm]);
    assert_eq!(listed(&mut node), ["namespace0.0 raw 512"]);
    // Without either, the region stays as it is: one namespace without a label.
    node.done("create-namespace");
    assert!(dimm.labels.expect("labels").bytes.lock().expect("no panic").iter().all(|byte| *byte == 0));
    assert!(node.refused("create-namespace -s 32M", "failed").contains("sector mode already"));
    let made = node.done("create-namespace -s 32M -f");
    assert_eq!((&made["dev"], &made["btt"]["version"]), (&"namespace0.0".into(), &"2.0".into()));
    assert_eq!(node.done("create-namespace -n 'the rest'")["name"], "the rest");
    assert_eq!(listed(&mut node), ["namespace0.0 sector 4096", "namespace0.1 sector 4096"]);

    let mut node = boot_one(Memory::new(64 * MIB));
    assert!(node.refused("create-namespace -s 32M", "failed").contains("without a label area"));
    node.done("create-namespace -s 64M");
    assert!(node.refused("init-labels nmem0", "failed").contains("no label area"));
    node.refused("init-labels nmem1", "not-found");
    node.refused("init-labels nmem00", "not-found");
}

#[test]
fn labels_that_are_there_are_overwritten_only_by_force() {
    let dimm = labelled(64);
    let mut node = boot(&[dimm]);
    node.done("create-namespace");
    assert!(node.refused("init-labels nmem0", "failed").contains("sector mode already"));
    node.done("init-labels nmem0 -f");
    // The old BTT is still there, in free space now.
    assert!(node.refused("create-namespace", "failed").contains("a BTT"));
    node.done("create-namespace -f");
    assert!(node.refused("init-labels nmem0", "failed").contains("-f"));
    node.done("init-labels nmem0 -f -V 1.1");
    assert_eq!(listed(&mut node), [""; 0]);
    drop(node);
    // Damaged index blocks: nothing is served, nothing made, until somebody decides.
    dimm.labels.expect("labels").bytes.lock().expect("no panic")[..512].fill(0x5a);
    let mut node = boot(&[dimm]);
    assert_eq!(listed(&mut node), [""; 0]);
    assert!(node.refused("create-namespace -f", "failed").contains("damaged"));
    node.refused("init-labels nmem0", "failed");
    node.done("init-labels nmem0 -f");
    node.done("create-namespace -f -s 32M");
    // A name that no label keeps, and a uuid that is in use.
    assert!(node.refused(&format!("create-namespace -s 16M -n {}", "n".repeat(64)), "failed").contains("63 bytes"));
    let uuid = node.done("list -Nv")["result"][0]["raw_uuid"].clone();
    let uuid = uuid.as_str().expect("a uuid").to_owned();
    assert!(node.refused(&format!("create-namespace -s 16M -u {uuid}"), "failed").contains("in use"));

    let unarmed = Dimm { flags: 1 << 3, ..labelled(64) };
    let mut node = boot(&[unarmed]);
    node.refused("init-labels nmem0 -f", "read-only");
    node.refused("create-namespace -s 32M", "read-only");
}

#[test]
fn a_disabled_namespace_is_closed_and_comes_back_with_its_data() {
    for dimm in [labelled(64), Dimm { labels: None, ..labelled(64) }] {
        let mut node = boot(&[dimm]);
        node.done("create-namespace");
        node.done("write pmem0s 3 --fill 5");
        assert_eq!(node.done("disable-namespace pmem0s")["dev"], "namespace0.0");
        node.done("disable-namespace namespace0.0");
        assert_eq!(listed(&mut node), ["namespace0.0 disabled 512"]);
        assert_eq!(node.done("list")["result"], serde_json::json!([]));
        assert_eq!(node.done("status")["namespaces"][0]["state"], "disabled");
        for line in ["read pmem0s 3", "write pmem0s 3 --fill 1", "bench pmem0s --seconds 1"] {
            assert!(node.refused(line, "not-found").contains("enable-namespace"), "{line}");
        }
        node.refused("arenas namespace0.0", "failed");
        assert_eq!(node.done("check-namespace namespace0.0")["findings"], serde_json::json!([]));
        assert!(node.refused("create-namespace", "failed").contains("disabled"));
        assert_eq!(node.done("enable-namespace namespace0.0")["blockdev"], "pmem0s");
        assert!(node.done("read pmem0s 3")["data"].as_str().is_some_and(|it| it.starts_with("BQUF")));
        node.refused("enable-namespace namespace0.1", "not-found");
        node.refused("disable-namespace namespace0.1", "not-found");
        node.refused("destroy-namespace namespace0.1", "not-found");
    }
}

#[test]
fn destroying_the_namespace_of_a_region_without_labels_leaves_it_raw() {
    let memory = Memory::new(64 * MIB);
    let mut node = boot_one(memory);
    assert!(node.refused("destroy-namespace namespace0.0 -f", "failed").contains("no BTT"));
    assert_eq!(listed(&mut node), ["namespace0.0 raw 512"]);
    node.done("create-namespace -l 512");
    node.done("destroy-namespace namespace0.0 -f");
    assert_eq!(listed(&mut node), ["namespace0.0 raw 512"]);
    drop(node);
    let mut node = boot_one(memory);
    assert_eq!(listed(&mut node), ["namespace0.0 raw 512"]);
}

#[test]
fn a_cut_at_any_write_to_the_labels_leaves_the_old_namespaces_or_the_new_ones() {
    let kept = ["namespace0.0 sector 4096", "namespace0.1 sector 4096"];
    let grown = [&kept[..], &["namespace0.2 sector 512"]].concat();
    let reboot = |dimm: Dimm| listed(&mut boot(&[dimm]));
    let mut cuts = 0;
    for writes in 0.. {
        let dimm = labelled(96);
        let mut node = boot(&[dimm]);
        node.done("create-namespace -s 16M");
        node.done("create-namespace -s 32M");
        let area = dimm.labels.expect("labels");
        area.cut_after(Some(writes));
        let made = node.ask("create-namespace -s 32M -l 512")["ok"] == true;
        area.cut_after(None);
        drop(node);
        assert_eq!(reboot(dimm), if made { &grown[..] } else { &kept });
        cuts += 1;
        if made {
            break;
        }
        // What the cut left in the free space is a BTT like any other.
        let mut node = boot(&[dimm]);
        assert!(node.refused("create-namespace -s 32M -l 512", "failed").contains("-f"));
        node.done("create-namespace -s 32M -l 512 -f");
        assert_eq!(listed(&mut node), grown);
    }
    assert_eq!(cuts, 3, "a label and an index block");
    for writes in 0.. {
        let dimm = labelled(96);
        let mut node = boot(&[dimm]);
        node.done("create-namespace -s 16M");
        node.done("create-namespace -s 32M");
        node.done("create-namespace -s 32M -l 512");
        let area = dimm.labels.expect("labels");
        area.cut_after(Some(writes));
        let destroyed = node.ask("destroy-namespace namespace0.2 -f")["ok"] == true;
        area.cut_after(None);
        drop(node);
        assert_eq!(reboot(dimm), if destroyed { &kept[..] } else { &grown });
        if destroyed {
            break;
        }
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

/// All findings of a check, and whether all of them are repaired.
fn checked(node: &mut Booted, options: &str) -> (usize, bool) {
    let check = node.done(&format!("check-namespace namespace0.0 {options}"));
    let findings = check["findings"].as_array().expect("a list").clone();
    let repaired = findings.iter().all(|finding| finding["repaired"] == true);
    assert_eq!(check["exit"] == 4, !repaired, "{check}");
    (findings.len(), repaired)
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

/// A consumer: its memory, a driver, and a bridge that speaks for it.
struct Neighbour {
    window: SharedWindow,
    rung: Mutex<Vec<u32>>,
}

impl Consumer for Neighbour {
    fn id(&self) -> MemoryId {
        MemoryId(3)
    }
    fn memory(&self) -> &SharedWindow {
        &self.window
    }
    fn ring(&self, doorbell: u32) {
        self.rung.lock().expect("no panic").push(doorbell);
    }
    fn cpu(&self, vector: u16) -> CpuIndex {
        CpuIndex(u32::from(vector) % 4)
    }
}

/// A clock that stands still, but for the test.
#[derive(Default)]
struct Clock(Mutex<u64>);

impl Alarm for Clock {
    fn now_ns(&self) -> u64 {
        *self.0.lock().expect("no panic")
    }
    fn wake(&self, _: CpuIndex) {}
}

/// The control link's two directions.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Line>>);

impl ByteLink for Wire {
    fn receive(&mut self) -> Option<u8> {
        self.0.lock().expect("no panic").receive()
    }
    fn send(&mut self, bytes: &[u8]) {
        self.0.lock().expect("no panic").send(bytes);
    }
}

struct Bridge {
    booted: Booted,
    wire: Wire,
    clock: Arc<Clock>,
    consumer: Arc<Neighbour>,
    driver: Driver,
}

const RINGS: u16 = 16;
const GPA: u64 = 0x4000_0000;
const BUFFERS: u64 = 0x10000;

impl Bridge {
    /// A node with one formatted namespace of memory, a consumer, and a lease.
    fn new(sector: u32) -> Self {
        Self::with_dimms(1, sector)
    }

    /// The same with so many DIMMs, of which the first one is formatted.
    fn with_dimms(dimms: u64, sector: u32) -> Self {
        let dimm = |number| Dimm { base: BASE * number, memory: Memory::new(32 * MIB), flags: 0, labels: None };
        Self::on(sector, |means| boot_with(&(1..=dimms).map(dimm).collect::<Vec<_>>(), means))
    }

    /// The same, with a namespace behind block windows.
    fn behind_windows(sector: u32) -> Self {
        let dimm = Trapped::new(Model::blank(Layout::plain(1, 0xfe90_0000, 2, 20 << 20)));
        let table = dimm.model().layout().describe(Table::default()).finish();
        Self::on(sector, |means| dimm.plug(Hardware { nfits: vec![table], means, ..Hardware::default() }).boot())
    }

    fn on(sector: u32, boot: impl FnOnce(Means) -> Booted) -> Self {
        let memory = Memory::new(MIB);
        // SAFETY: the memory is never freed, and nothing but the window leads there.
        let window = unsafe { SharedWindow::new(memory.start, memory.bytes) };
        let (wire, clock) = (Wire::default(), Arc::new(Clock::default()));
        let consumer = Arc::new(Neighbour { window, rung: Mutex::default() });
        let means = Means {
            alarm: Arc::clone(&clock) as Arc<dyn Alarm>,
            consumers: vec![Arc::clone(&consumer) as Arc<dyn Consumer>],
            link: Some(Box::new(wire.clone())),
        };
        let mut booted = boot(means);
        booted.done(&format!("create-namespace -r region0 -l {sector}"));
        booted.node.offer_new();
        let mut bridge = Self { booted, wire, clock, consumer, driver: Driver::new(RINGS, 0) };
        bridge.say(Request::Hello { session: 1 });
        bridge.ask(Request::Ping { lease_ms: 5000 }, Outcome::Ok);
        bridge
    }

    /// Sends a request; what the appliance reports.
    fn say(&mut self, request: Request) -> Vec<Report> {
        self.wire.0.lock().expect("no panic").to_node.extend(request.encode(7));
        self.hear()
    }

    fn hear(&mut self) -> Vec<Report> {
        while self.booted.node.exports().poll_control() {}
        let bytes = std::mem::take(&mut self.wire.0.lock().expect("no panic").from_node);
        let mut deframer = Deframer::new();
        let payloads = bytes.iter().filter_map(|byte| deframer.push(*byte));
        payloads.map(|payload| Report::decode(&payload.expect("a sound frame")).expect("a report").1).collect()
    }

    fn ask(&mut self, request: Request, outcome: Outcome) {
        let words = format!("{request:?}");
        assert_eq!(self.say(request), [Report::Done(outcome)], "{words}");
    }

    fn attach(&mut self) {
        let regions = vec![Region { gpa: GPA, bytes: MIB as u64, offset: 0 }];
        let features = 1 << 32 | 1 << 13 | 1 << 14; // VERSION_1, DISCARD, WRITE_ZEROES
        let attach = Attach { export: ExportIndex(0), memory: MemoryId(3), features, disk: DiskIndex(0), regions };
        self.ask(Request::Attach(attach), Outcome::Ok);
    }

    fn start(&mut self, queue: u16) {
        let avail = 16 * u64::from(RINGS);
        let used = (avail + 6 + 2 * u64::from(RINGS)).next_multiple_of(4);
        let call = Some(service::control::Call { peer: 9, vector: 0 });
        let start = Start {
            export: ExportIndex(0),
            queue: QueueIndex(queue),
            size: RINGS,
            base: 0,
            desc: 0,
            avail,
            used,
            call,
            kick_vector: queue,
        };
        self.ask(Request::Start(start), Outcome::Ok);
    }

    /// One request: a header, data, a status. Its status, or none if nobody served it.
    fn request(&mut self, kind: u32, unit: u64, data: u64, bytes: u32, cpu: u32) -> Option<u8> {
        self.submit(kind, unit, data, bytes);
        self.booted.node.exports().poll(CpuIndex(cpu));
        self.answer()
    }

    fn submit(&mut self, kind: u32, unit: u64, data: u64, bytes: u32) {
        let window = self.consumer.window;
        let header = [&kind.to_le_bytes()[..], &[0; 4], &unit.to_le_bytes()].concat();
        window.write(MemoryOffset(BUFFERS), &header).expect("in memory");
        window.write(MemoryOffset(BUFFERS + 16), &[0xee]).expect("in memory");
        let flags = if kind == 0 { NEXT | WRITE } else { NEXT };
        let parts = [
            Descriptor { addr: GPA + BUFFERS, len: 16, flags: NEXT, next: 1 },
            Descriptor { addr: GPA + data, len: bytes, flags, next: 2 },
            Descriptor { addr: GPA + BUFFERS + 16, len: 1, flags: WRITE, next: 0 },
        ];
        for (index, part) in (0..).zip(parts) {
            self.driver.set_descriptor(&window, index, part);
        }
        self.driver.publish(&window, 0);
    }

    fn answer(&mut self) -> Option<u8> {
        let window = self.consumer.window;
        self.driver.collect(&window)?;
        let mut status = [0];
        window.read(MemoryOffset(BUFFERS + 16), &mut status).expect("in memory");
        Some(status[0])
    }
}

#[test]
fn a_consumers_sectors_are_the_admins_sectors() {
    let pmem = [512, 4096].map(|sector| (sector, "pmem0s", Bridge::new(sector)));
    let blk = [512, 4096].map(|sector| (sector, "ndblk0.0s", Bridge::behind_windows(sector)));
    for (sector, dev, mut bridge) in pmem.into_iter().chain(blk) {
        bridge.attach();
        bridge.start(1);
        assert_eq!(*bridge.consumer.rung.lock().expect("no panic"), [9 << 16], "a start rings once");
        // Data that begin in the middle of a line, and are three sectors long.
        let data: Vec<u8> = (0..3 * sector).map(|at| u8::try_from(at % 249).expect("small")).collect();
        let at = 0x20000 + 24;
        bridge.consumer.window.write(MemoryOffset(at), &data).expect("in memory");
        let unit = u64::from(sector / 512) * 5;
        assert_eq!(bridge.request(1, unit, at, 3 * sector, 1), Some(0));
        assert_eq!(bridge.consumer.rung.lock().expect("no panic").len(), 2, "one interrupt for it");
        let read = bridge.booted.done(&format!("read {dev} 5 3"));
        let encoded = bridge.booted.done(&format!("read {dev} 6"))["data"].clone();
        assert_ne!(encoded, bridge.booted.done(&format!("read {dev} 8"))["data"]);
        bridge.booted.done(&format!("write {dev} 20 --data {}", encoded.as_str().expect("base64")));
        let back = 0x40000;
        assert_eq!(bridge.request(0, u64::from(sector / 512) * 20, back, sector, 1), Some(0));
        let mut got = vec![0; sector as usize];
        bridge.consumer.window.read(MemoryOffset(back), &mut got).expect("in memory");
        assert_eq!(got, data[sector as usize..][..sector as usize], "{read}");
        let stats = bridge.booted.done("stats");
        assert_eq!((&stats["queues"][0]["requests"], &stats["queues"][0]["cpu"]), (&2.into(), &1.into()), "{stats}");
        let events = bridge.booted.done("trace")["events"].to_string();
        assert!(events.contains("export 0 queue 1: 1 served, driver called"), "{events}");
    }
}

#[test]
fn an_exported_namespace_stays_and_a_withdrawn_one_fails_its_requests() {
    let mut bridge = Bridge::new(4096);
    bridge.attach();
    bridge.start(0);
    assert_eq!(bridge.booted.done("status")["exports"], serde_json::json!(["pmem0s"]));
    for command in ["create-namespace -f", "disable-namespace namespace0.0", "destroy-namespace -f namespace0.0"] {
        let reply = bridge.booted.ask(command);
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("unexport pmem0s first"), "{command}: {reply}");
    }
    bridge.booted.done("unexport pmem0s");
    assert_eq!(bridge.hear(), [Report::DiskGone { disk: DiskIndex(0) }]);
    assert_eq!(bridge.request(0, 0, 0x20000, 4096, 0), Some(1), "IOERR");
    assert_eq!(bridge.booted.done("status")["exports"], serde_json::json!([]));
    bridge.booted.done("export pmem0s");
    assert!(matches!(&bridge.hear()[..], [Report::Disk(disk)] if disk.name == "pmem0s" && disk.capacity > 0));
    assert_eq!(bridge.request(0, 0, 0x20000, 4096, 0), Some(0), "it is back");
    bridge.booted.done("unexport pmem0s");
    bridge.booted.done("create-namespace -f -l 512");
}

#[test]
fn long_commands_attend_to_consumers_and_their_bridge() {
    let mut bridge = Bridge::with_dimms(2, 512);
    bridge.attach();
    bridge.start(0);
    let ping = || Request::Ping { lease_ms: 5000 };
    let stop = Request::Stop { export: ExportIndex(0), queue: QueueIndex(0) };
    let during = |bridge: &mut Bridge, command: &str| {
        for request in [&ping(), &stop] {
            bridge.wire.0.lock().expect("no panic").to_node.extend(request.encode(7));
        }
        bridge.submit(0, 40_000, 0x20000, 512);
        bridge.booted.done(command);
        (bridge.answer(), bridge.hear())
    };
    // A namespace that nobody has, or other sectors: all goes on as ever.
    for (base, command) in (1..).zip([
        "create-namespace -r region1 -f",
        "write pmem0s 0 --fill 1 --count 2048",
        "inject-error pmem0s 0 2048",
        "clear-errors pmem0s 0 2048",
        "trim pmem0s 0 2048",
        "inject-error pmem0s 0 2048 --media",
    ]) {
        let done = during(&mut bridge, command);
        assert_eq!(done, (Some(0), vec![Report::Done(Outcome::Ok), Report::Stopped { base }]), "{command}");
        bridge.start(0);
        bridge.hear();
    }
    // A disk that a consumer has is not touched, but the bridge hears that we are there.
    let done = during(&mut bridge, "check-namespace namespace0.0");
    assert_eq!(done, (None, vec![Report::Done(Outcome::Ok)]));
    let base = bridge.driver.used_index(&bridge.consumer.window);
    assert_eq!(bridge.say(stop.clone()), [Report::Stopped { base }], "asked again");
    bridge.start(0);
    bridge.booted.node.exports().poll(CpuIndex(0));
    assert_eq!(bridge.answer(), Some(0));
}

#[test]
fn without_a_lease_a_consumers_memory_is_left_alone() {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    bridge.start(0);
    assert_eq!(bridge.request(1, 0, 0x20000, 512, 0), Some(0));
    *bridge.clock.0.lock().expect("no panic") = 5_000_000_001;
    assert_eq!(bridge.request(1, 0, 0x20000, 512, 0), None);
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(0)));
    bridge.ask(Request::Ping { lease_ms: 5000 }, Outcome::Ok);
    assert!(!bridge.booted.node.exports().may_rest(CpuIndex(0)), "what waits is seen before a rest");
    assert!(bridge.booted.node.exports().poll(CpuIndex(0)));
    assert!(bridge.driver.collect(&bridge.consumer.window).is_some(), "a new lease serves what waited");
}

#[test]
fn stopping_and_starting_goes_on_where_it_was_and_what_is_impossible_is_refused() {
    let mut bridge = Bridge::new(512);
    let stop = || Request::Stop { export: ExportIndex(0), queue: QueueIndex(2) };
    bridge.ask(stop(), Outcome::NoSuchExport);
    bridge.attach();
    bridge.ask(stop(), Outcome::NotStarted);
    bridge.start(2);
    bridge.start(2); // sent again: nothing changes
    assert_eq!(bridge.request(1, 0, 0x20000, 512, 2), Some(0));
    assert_eq!(bridge.say(stop()), [Report::Stopped { base: 1 }]);
    assert_eq!(bridge.say(stop()), [Report::Stopped { base: 1 }], "the same answer again");
    assert_eq!(bridge.request(1, 1, 0x20000, 512, 2), None, "nobody serves a stopped queue");
    bridge.start(2);
    bridge.booted.node.exports().poll(CpuIndex(2));
    assert!(bridge.driver.collect(&bridge.consumer.window).is_some(), "it is served when it starts again");
    // A new bridge knows nothing of all this.
    let reports = bridge.say(Request::Hello { session: 2 });
    assert!(matches!(&reports[..], [Report::Hello { disks: 1, .. }, Report::Disk(_)]), "{reports:?}");
    bridge.ask(stop(), Outcome::NoSuchExport);
    let regions = vec![Region { gpa: 0, bytes: MIB as u64 + 1, offset: 0 }];
    let attach = |memory, disk, regions: &Vec<Region>| {
        let (memory, disk) = (MemoryId(memory), DiskIndex(disk));
        Request::Attach(Attach { export: ExportIndex(0), memory, features: 1 << 32, disk, regions: regions.clone() })
    };
    bridge.ask(attach(4, 0, &regions), Outcome::NoSuchMemory);
    bridge.ask(attach(3, 1, &regions), Outcome::NoSuchDisk);
    bridge.ask(attach(3, 0, &regions), Outcome::BadTable);
}
