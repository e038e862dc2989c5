//! `list` against what an unmodified ndctl 76.1 printed for the same media, and our additions to it.

mod common;

use service::inventory::{BadBlocks, DimmHealth, Fault, Inventory};
use service::mock::{labelled, unlabelled};

use common::Terminal;

/// What `ndctl list -BDRNi` printed of a 32 MiB DIMM without labels.
const NDCTL_UNLABELLED: &str = concat!(
    r#"[{"provider":"ACPI.NFIT","dev":"ndbus0","dimms":[{"dev":"nmem0","id":"8680-56341200","handle":1,"phys_id":0}],"#,
    r#""regions":[{"dev":"region0","size":33554432,"align":16777216,"available_size":0,"max_available_extent":0,"#,
    r#""type":"pmem","mappings":[{"dimm":"nmem0","offset":0,"length":33554432,"position":0}],"#,
    r#""persistence_domain":"unknown","namespaces":[{"dev":"namespace0.0","mode":"sector","size":33130496,"#,
    r#""uuid":"e412ddd9-4a9e-42e8-9953-05cfdd8f0459","sector_size":512,"blockdev":"pmem0s"}]}]}]"#,
);

/// The same of a 64 MiB DIMM with v1.2 labels and two namespaces. ndctl lists namespaces in the order of a directory's
/// hash; here they ascend.
const NDCTL_LABELLED: &str = concat!(
    r#"[{"provider":"ACPI.NFIT","dev":"ndbus0","dimms":[{"dev":"nmem0","id":"8680-56341200","handle":1,"phys_id":0}],"#,
    r#""regions":[{"dev":"region0","size":67108864,"align":16777216,"available_size":0,"max_available_extent":0,"#,
    r#""type":"pmem","iset_id":52512752653219036,"mappings":[{"dimm":"nmem0","offset":0,"length":67108864,"#,
    r#""position":0}],"persistence_domain":"unknown","namespaces":["#,
    r#"{"dev":"namespace0.0","mode":"sector","size":33134592,"uuid":"9ef20213-98a5-48e9-a16f-fcb751b776d5","#,
    r#""sector_size":512,"blockdev":"pmem0s"},"#,
    r#"{"dev":"namespace0.1","mode":"sector","size":32444416,"uuid":"e2d298c0-6e75-4ec8-ae0d-cff9fe03db0b","#,
    r#""sector_size":4096,"blockdev":"pmem0.1s"},"#,
    r#"{"dev":"namespace0.2","mode":"raw","size":0,"uuid":"00000000-0000-0000-0000-000000000000","sector_size":512,"#,
    r#""state":"disabled"}]}]}]"#,
);

const BTT: &str = concat!(
    r#","btt":{"uuid":"e412ddd9-4a9e-42e8-9953-05cfdd8f0459","version":"1.1","arenas":1,"nfree":256,"lanes":2,"#,
    r#""flog_slots":[0,1],"state":"active"}"#,
);

fn list(inventory: Inventory, options: &str) -> String {
    let mut terminal = Terminal::in_mode("json");
    terminal.machine.inventory = inventory;
    let reply = terminal.say(format!("list {options}\n").as_bytes());
    let list = reply.strip_prefix(r#"{"ok":true,"result":"#).and_then(|list| list.strip_suffix("}\n"));
    list.unwrap_or_else(|| panic!("{reply}")).into()
}

/// A list without what is ours: the `btt` objects.
fn ndctls(list: &str) -> String {
    let mut parts = list.split(r#","btt":{"#);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |list, part| list + part.split_once('}').expect("an object's end").1)
}

#[test]
fn everything_is_what_ndctl_prints_key_for_key() {
    assert_eq!(ndctls(&list(unlabelled(), "-BDRNi")), NDCTL_UNLABELLED);
    assert_eq!(ndctls(&list(labelled(), "-BDRNi")), NDCTL_LABELLED);
}

#[test]
fn namespaces_are_the_default_and_show_their_btt() {
    let namespace = concat!(
        r#"{"dev":"namespace0.0","mode":"sector","size":33130496,"uuid":"e412ddd9-4a9e-42e8-9953-05cfdd8f0459","#,
        r#""sector_size":512,"blockdev":"pmem0s""#
    );
    assert_eq!(list(unlabelled(), ""), format!("[{namespace}{BTT}}}]"));
    assert_eq!(list(unlabelled(), "-N"), list(unlabelled(), ""));
    assert!(
        list(labelled(), "").contains(r#""state":"read-only","reason":"arena 0: flog entry 3 is not consistent"}"#)
    );
}

#[test]
fn types_nest_as_in_ndctl() {
    let dimm = r#"{"dev":"nmem0","id":"8680-56341200","handle":1,"phys_id":0}"#;
    let region = concat!(
        r#"{"dev":"region0","size":33554432,"align":16777216,"available_size":0,"max_available_extent":0,"type":"pmem","#,
        r#""persistence_domain":"unknown""#
    );
    let mapped = concat!(
        r#"{"dev":"region0","size":33554432,"align":16777216,"available_size":0,"max_available_extent":0,"type":"pmem","#,
        r#""mappings":[{"dimm":"nmem0","offset":0,"length":33554432,"position":0}],"persistence_domain":"unknown""#
    );
    let namespace = concat!(
        r#"{"dev":"namespace0.0","mode":"sector","size":33130496,"uuid":"e412ddd9-4a9e-42e8-9953-05cfdd8f0459","#,
        r#""sector_size":512,"blockdev":"pmem0s"}"#
    );
    let bus = r#""provider":"ACPI.NFIT","dev":"ndbus0""#;
    for (options, expected) in [
        ("-B", format!(r#"[{{{bus}}}]"#)),
        ("-D", format!("[{dimm}]")),
        ("-R", format!("[{region}}}]")),
        ("-BD", format!(r#"[{{{bus},"dimms":[{dimm}]}}]"#)),
        ("-BN", format!(r#"[{{{bus},"namespaces":[{namespace}]}}]"#)),
        ("-RN", format!(r#"{{"regions":[{region},"namespaces":[{namespace}]}}]}}"#)),
        ("-DR", format!(r#"{{"dimms":[{dimm}],"regions":[{mapped}}}]}}"#)),
        ("-DN", format!(r#"{{"dimms":[{dimm}],"namespaces":[{namespace}]}}"#)),
    ] {
        assert_eq!(ndctls(&list(unlabelled(), options)), expected, "{options}");
    }
}

#[test]
fn what_is_disabled_is_listed_only_on_request() {
    let mut inventory = unlabelled();
    let bus = &mut inventory.buses[0];
    bus.dimms[0].enabled = false;
    bus.dimms[0].flags.failed_arm = true;
    bus.regions[0].enabled = false;
    bus.regions[0].namespaces[0].enabled = false;
    bus.regions[0].namespaces[0].blockdev = None;
    for options in ["-D", "-R", "-N", "-DRN"] {
        assert_eq!(list(inventory.clone(), options), "[]", "{options}");
    }
    assert_eq!(
        list(inventory.clone(), "-Di"),
        r#"[{"dev":"nmem0","id":"8680-56341200","handle":1,"phys_id":0,"state":"disabled","flag_failed_arm":true}]"#
    );
    let all = list(inventory, "-RNi");
    assert!(all.contains(r#""type":"pmem","state":"disabled","persistence_domain""#), "{all}");
    assert!(all.contains(r#""sector_size":512,"state":"disabled","btt""#), "{all}");
}

#[test]
fn verbosity_adds_details_then_types_then_everything() {
    let mut inventory = labelled();
    let region = &mut inventory.buses[0].regions[0];
    region.numa_node = Some(1);
    region.badblocks = vec![BadBlocks { offset: 8, length: 2, dimms: vec!["nmem0".into()] }];
    region.namespaces[0].badblock_count = 2;
    region.namespaces[0].name = Some("disk".into());
    inventory.buses[0].dimms[0].health = Some(DimmHealth { health_state: "ok".into() });

    let plain = list(inventory.clone(), "");
    assert!(!plain.contains("raw_uuid"), "{plain}");
    let details = list(inventory.clone(), "-v");
    assert!(details.starts_with(concat!(
        r#"[{"dev":"namespace0.0","mode":"sector","size":33134592,"uuid":"9ef20213-98a5-48e9-a16f-fcb751b776d5","#,
        r#""raw_uuid":"11111111-2222-4333-8444-555555555555","sector_size":512,"blockdev":"pmem0s","name":"disk","#,
        r#""badblock_count":2,"btt":"#
    )));
    let types = list(inventory.clone(), "-vv");
    assert!(types.starts_with(r#"[{"provider":"#) && types.contains(r#""type":"pmem","numa_node":1,"iset_id""#));
    assert!(
        types.contains(r#""badblock_count":2,"badblocks":[{"offset":8,"length":2,"dimms":["nmem0"]}],"persistence"#)
    );
    assert!(!types.contains("namespace0.2") && !types.contains("health"));
    let everything = list(inventory.clone(), "-vvv");
    assert!(everything.contains("namespace0.2") && everything.contains(r#""health":{"health_state":"ok"}"#));
    assert!(everything.contains(
        r#""capabilities":[{"mode":"sector","sector_sizes":[512,520,528,4096,4104,4160,4224]}],"persistence_domain""#
    ));
    assert!(list(inventory, "-DH").contains("health_state"));
}

#[test]
fn names_take_along_what_they_are_on_and_what_is_in_them() {
    let names = |options: &str| {
        let list = list(labelled(), &format!("-BDRNi {options}"));
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let mut found = Vec::new();
        collect(&list, &mut found);
        found.join(" ")
    };
    fn collect(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Array(all) => all.iter().for_each(|one| collect(one, found)),
            serde_json::Value::Object(all) => {
                found.extend(all.get("dev").and_then(|dev| dev.as_str()).map(String::from));
                all.values().for_each(|one| collect(one, found));
            }
            _ => {}
        }
    }
    for (options, expected) in [
        ("-n namespace0.1", "ndbus0 nmem0 region0 namespace0.1"),
        ("-n 0.1,0.0", "ndbus0 nmem0 region0 namespace0.0 namespace0.1"),
        ("-r 0", "ndbus0 nmem0 region0 namespace0.0 namespace0.1 namespace0.2"),
        ("-d nmem0 -n 0.2", "ndbus0 nmem0 region0 namespace0.2"),
        ("-d all", "ndbus0 nmem0 region0 namespace0.0 namespace0.1 namespace0.2"),
        ("-r region1", ""),
        ("-d 7", ""),
        ("-n namespace0", ""),
    ] {
        assert_eq!(names(options), expected, "{options}");
    }
    assert_eq!(list(labelled(), "-D -r region7"), "[]");
}

#[test]
fn numbers_for_people_are_ndctls() {
    let human = list(labelled(), "-BDRNiu");
    for expected in [
        r#""handle":"0x1","phys_id":"0""#,
        r#""size":"64.00 MiB (67.11 MB)","align":"16.00 MiB (16.78 MB)","available_size":0"#,
        r#""iset_id":"0xba90120012b4dc""#,
        r#""offset":"0","length":"0x4000000","position":0"#,
        r#""size":"31.60 MiB (33.13 MB)""#,
    ] {
        assert!(human.contains(expected), "{expected}: {human}");
    }
    let mut big = unlabelled();
    for (bytes, shown) in [
        (5_119_999, "5119999"),
        (5_120_000, r#""4.88 MiB (5.12 MB)""#),
        ((2 << 30) - 1, r#""2048.00 MiB (2.15 GB)""#),
        (2 << 30, r#""2.00 GiB (2.15 GB)""#),
        (3 << 40, r#""3.00 TiB (3.30 TB)""#),
    ] {
        big.buses[0].regions[0].size = bytes;
        let list = list(big.clone(), "-Ru");
        assert!(list.contains(&format!(r#""size":{shown},"#)), "{shown}: {list}");
    }
}

#[test]
fn what_is_wrong_with_a_namespace_is_its_state_and_lost_blocks_are_listed() {
    let mut inventory = unlabelled();
    let namespace = &mut inventory.buses[0].regions[0].namespaces[0];
    namespace.badblock_count = 8;
    namespace.badblocks = vec![BadBlocks { offset: 24, length: 8, dimms: vec![] }];
    let listed = list(inventory.clone(), "-M");
    assert!(listed.contains(r#""badblock_count":8,"badblocks":[{"offset":24,"length":8}],"btt""#), "{listed}");
    let namespace = &mut inventory.buses[0].regions[0].namespaces[0];
    namespace.btt = None;
    namespace.fault = Some(Fault { state: "damaged", reason: "both info blocks are gone".into() });
    let listed = list(inventory.clone(), "");
    assert!(listed.contains(r#""state":"damaged","reason":"both info blocks are gone""#), "{listed}");
    let namespace = &mut inventory.buses[0].regions[0].namespaces[0];
    namespace.enabled = false;
    let listed = list(inventory, "-i");
    assert!(listed.contains(r#""state":"disabled","reason":"both info blocks are gone""#), "{listed}");
}
