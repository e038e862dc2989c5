//! Namespaces by labels: made, disabled, destroyed, cut off.

use fake_machine::nfit::{Control, Kind, Mapping, Range, Table};
use fake_machine::{BASE, Booted, Dimm, Hardware, LabelArea, MIB, Memory, boot, boot_one, labelled};
use serde_json::Value;

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
fn a_label_area_of_an_unsupported_size_is_not_initialised_by_force_either() {
    for bytes in [512, (16 << 20) + 128] {
        let dimm = labelled(64);
        dimm.labels.expect("labels").bytes.lock().expect("no panic").resize(bytes, 0x5a);
        let mut node = boot(&[dimm]);
        assert!(node.refused("init-labels nmem0 -f", "failed").contains("is not supported"), "{bytes}");
        let area = dimm.labels.expect("labels").bytes.lock().expect("no panic");
        assert!(area[..512].iter().all(|&byte| byte == 0), "nothing was written");
    }
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
    // Damaged index blocks: nothing is served, nothing made, until an administrator decides.
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
    assert_eq!(cuts, 5, "a label, and an index block in three steps");
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
fn a_change_of_labels_that_is_refused_leaves_namespaces_open() {
    let dimm = labelled(96);
    let area = dimm.labels.expect("an area");
    let mut node = boot(&[dimm]);
    node.done("create-namespace -s 32M");
    node.done("write pmem0s 3 --fill 9");
    node.done("create-namespace -s 32M -l 512");
    node.done("disable-namespace namespace0.1");
    let before = listed(&mut node);
    area.cut_after(Some(0));
    for command in ["destroy-namespace namespace0.0 -f", "destroy-namespace namespace0.1 -f", "init-labels nmem0 -f"] {
        assert!(node.refused(command, "failed").contains("the labels were not written"), "{command}");
        assert_eq!(listed(&mut node), before, "{command}: what was open is open, and nothing else is");
        assert!(node.done("read pmem0s 3")["data"].as_str().is_some_and(|it| it.starts_with("CQkJ")), "{command}");
    }
    area.cut_after(None);
    node.done("destroy-namespace namespace0.0 -f");

    // Blank areas that get labels for a namespace with a size.
    let dimm = labelled(96);
    let area = dimm.labels.expect("an area");
    let mut node = boot(&[dimm]);
    node.done("create-namespace");
    area.cut_after(Some(0));
    assert!(node.refused("create-namespace -s 32M -f", "failed").contains("the labels were not written"));
    node.done("read pmem0s 3");
    // What has no BTT is not closed for being asked to go.
    area.cut_after(None);
    node.done("create-namespace -m raw -f");
    node.done("disable-namespace namespace0.0");
    assert!(node.refused("destroy-namespace namespace0.0", "failed").contains("no BTT to destroy"));
    assert_eq!(listed(&mut node), ["namespace0.0 disabled 512"], "nor opened");
}

#[test]
fn labels_that_do_not_read_back_are_an_error_and_namespaces_stay_open() {
    for command in ["destroy-namespace namespace0.0 -f", "init-labels nmem0 -f"] {
        let dimm = labelled(96);
        let area = dimm.labels.expect("an area");
        let mut node = boot(&[dimm]);
        node.done("create-namespace -s 32M");
        node.done("write pmem0s 3 --fill 9");
        let before = listed(&mut node);
        area.fail_after_write(true);
        assert!(node.refused(command, "damaged").contains("nmem0 do not read as they were written"), "{command}");
        area.fail_after_write(false);
        assert_eq!(listed(&mut node), before, "{command}");
        assert!(node.done("read pmem0s 3")["data"].as_str().is_some_and(|it| it.starts_with("CQkJ")), "{command}");
    }
}

/// A set of two DIMMs whose creation of a namespace was cut, and a DIMM beside it.
#[test]
fn what_an_interrupted_change_left_is_taken_back_only_where_it_can_be_written() {
    const SET_BYTES: usize = 64 * MIB;
    let (set, alone) = (Memory::new(SET_BYTES), Memory::new(64 * MIB));
    let areas: Vec<&'static LabelArea> = (0..3).map(|_| LabelArea::new()).collect();
    let boot = |flags: u16| {
        let range = |index, base| Range { index, kind: Kind::Memory, base, bytes: SET_BYTES as u64 };
        let share = |handle: u32, range, bytes, ways| Mapping {
            handle,
            range,
            control: u16::try_from(handle).expect("small"),
            bytes,
            ways,
            flags: if range == 1 { flags } else { 0 },
            ..Mapping::default()
        };
        let half = SET_BYTES as u64 / 2;
        let control = |index: u16| Control { index, serial: index.into(), format: 0x301, registers: None };
        let table = Table::default().range(range(1, BASE)).range(range(2, 2 * BASE));
        let table =
            table.mapping(share(1, 1, half, 2)).mapping(Mapping { region_offset: 4096, ..share(2, 1, half, 2) });
        let table = table.mapping(share(3, 2, 2 * half, 1)).control(control(1)).control(control(2)).control(control(3));
        let areas = (1..).zip(areas.iter().copied()).collect();
        let hardware = Hardware { nfits: vec![table.finish()], areas, ..Hardware::default() };
        hardware.memory(BASE, set).memory(2 * BASE, alone).boot()
    };
    let bytes = |area: usize| areas[area].bytes.lock().expect("no panic").clone();
    let mut node = boot(0);
    (0..3).for_each(|dimm| _ = node.done(&format!("init-labels nmem{dimm}")));
    areas[1].cut_after(Some(0));
    node.refused("create-namespace -r region0 -s 32M", "failed");
    areas[1].cut_after(None);
    drop(node);
    let before = [bytes(0), bytes(1)];
    let held_back = "-f takes back what an interrupted change left";
    assert!(boot(0).refused("create-namespace -r region0 -s 64M", "failed").contains(held_back));

    // Not armed: nothing is written to its DIMMs, and the next region serves.
    let mut node = boot(1 << 3);
    assert_eq!(node.done("create-namespace -f -s 16M")["dev"], "namespace1.0");
    assert!(before == [bytes(0), bytes(1)], "nothing was written");
    drop(node);
    // A DIMM whose labels cannot be written does not stand in another region's way.
    let mut node = boot(0);
    areas[0].cut_after(Some(0));
    assert_eq!(node.done("create-namespace -f -s 16M")["dev"], "namespace1.1");
    areas[0].cut_after(None);
    assert_eq!(node.done("create-namespace -f -s 64M")["dev"], "namespace0.0");
}

#[test]
fn the_sector_size_of_a_label_is_shown_where_there_is_no_btt() {
    let mut node = boot(&[labelled(64)]);
    node.done("create-namespace -s 32M");
    node.done("disable-namespace namespace0.0");
    assert_eq!(listed(&mut node), ["namespace0.0 disabled 4096"]);
}
