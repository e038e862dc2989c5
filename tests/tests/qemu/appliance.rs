//! The whole appliance in QEMU: what it serves, what it refuses, and what a power cut leaves.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use fake_machine::nfit::{Control, Kind, Mapping, Range, Table};
use host::deadline::Deadline;
use host::session::ReplyForm;
use serde_json::{Value, json};
use tests::dimm::{Dimm, GIB, MIB};
use tests::golden::{self, Golden};
use tests::machine::{ApplianceBuilder, Running};
use tests::monitor;

/// A sector full of a pattern of its own.
fn pattern(lba: u64, version: u64, bytes: usize) -> Vec<u8> {
    let word = (lba + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(version).to_le_bytes();
    word.into_iter().cycle().take(bytes).collect()
}

/// Formats a region's only namespace, and returns its block device and how many sectors it has.
#[track_caller]
fn format(appliance: &mut Running, region: u32, sector: u64) -> (String, u64) {
    let made = appliance.ask(&format!("create-namespace -r region{region} -l {sector}"));
    assert_eq!(made["sector_size"], sector);
    let dev = made["blockdev"].as_str().unwrap().to_owned();
    (dev, made["size"].as_u64().unwrap() / sector)
}

/// Reads every sector that a golden image describes, from this block device.
#[track_caller]
fn read_golden(appliance: &mut Running, dev: &str, golden: &Golden, namespace: usize) {
    let namespace = &golden.namespaces[namespace];
    for (&lba, expected) in &namespace.expected {
        if expected == "EIO" {
            let (code, message) = appliance.refused(&format!("read {dev} {lba}"));
            assert!(message.contains(&lba.to_string()), "{}: LBA {lba}: {code}: {message}", golden.id);
        } else {
            let data = appliance.read(dev, lba);
            assert_eq!(&golden::digest(&data[..namespace.io_size as usize]), expected, "{}: LBA {lba}", golden.id);
        }
    }
}

#[test]
fn as_many_cpus_start_as_there_is_memory_for_their_stacks() {
    let mut appliance = ApplianceBuilder::new().cpus(200).with(&["--memory", "128M"]).boot();
    let told = |line: &&String| line.contains("there is no memory for the stacks of");
    assert!(appliance.boot_log.iter().any(|line| told(&line)), "{:?}", appliance.boot_log);
    let cpus = appliance.ask("status")["cpus"].as_u64().expect("a number");
    assert!((64..200).contains(&cpus), "{cpus}");
}

#[test]
fn sectors_written_with_any_number_of_cpus_are_there_after_power_off_with_any_other() {
    for (cpus, cpus_then, sector) in [(1, 4, 4096), (2, 1, 512), (4, 2, 4096)] {
        let dimm = Dimm::blank(64 * MIB);
        let mut appliance = ApplianceBuilder::new().cpus(cpus).dimm(&dimm).boot();
        assert!(appliance.boot_log.iter().any(|line| line.starts_with("ready in ")), "{:?}", appliance.boot_log);
        assert_eq!(appliance.ask("status")["cpus"], cpus);
        let (dev, sectors) = format(&mut appliance, 0, sector);
        let bench = appliance.ask(&format!("bench {dev} --seconds 1 --run 4 --verify"));
        let verify = &bench["verify"];
        let broken = ["torn", "misplaced", "unreadable", "foreign"].map(|kind| verify[kind].as_u64().unwrap());
        assert_eq!(
            (broken, bench["errors"].as_u64(), bench["cpus"].as_u64()),
            ([0; 4], Some(0), Some(cpus.into())),
            "{bench}"
        );
        assert!(verify["good"].as_u64() > Some(0), "{bench}");

        let places = [0, 1, sectors / 2, sectors - 1];
        for lba in places {
            appliance.write(&dev, lba, &pattern(lba, 7, usize::try_from(sector).unwrap()));
        }
        assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]));
        appliance.power_off();

        let mut appliance = ApplianceBuilder::new().cpus(cpus_then).dimm(&dimm).boot();
        for lba in places {
            assert_eq!(appliance.read(&dev, lba), pattern(lba, 7, usize::try_from(sector).unwrap()), "LBA {lba}");
        }
        assert_eq!(appliance.ask("status")["unclean_shutdowns_recovered"], 0);
        appliance.power_off();
    }
}

#[test]
fn two_dimms_are_two_regions_that_do_not_mix() {
    let (one, two) = (Dimm::blank(32 * MIB), Dimm::blank(48 * MIB));
    let mut appliance = ApplianceBuilder::new().dimm(&one).dimm(&two).boot();
    let list = appliance.ask("list -R -D -N");
    let (first, first_sectors) = format(&mut appliance, 0, 512);
    let (second, second_sectors) = format(&mut appliance, 1, 4096);
    assert!(first != second && first_sectors > 8 * second_sectors / 2, "{list}");
    for lba in 0..8 {
        appliance.write(&first, lba, &pattern(lba, 1, 512));
        appliance.write(&second, lba, &pattern(lba, 2, 4096));
    }
    for lba in 0..8 {
        assert_eq!(appliance.read(&first, lba), pattern(lba, 1, 512));
        assert_eq!(appliance.read(&second, lba), pattern(lba, 2, 4096));
    }
    let namespaces = appliance.ask("list -N")["result"].as_array().unwrap().len();
    assert_eq!(namespaces, 2);
    appliance.power_off();
}

#[test]
fn namespaces_with_labels_of_either_version_are_found_and_read() {
    for id in ["l12-two", "l11-512"] {
        let golden = golden::named(id);
        let dimm = golden.unpack();
        let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
        let list = appliance.ask("list -N");
        let listed = list["result"].as_array().unwrap();
        assert_eq!(listed.len(), golden.namespaces.len(), "{id}: {list}");
        for (at, namespace) in golden.namespaces.iter().enumerate() {
            let found = listed.iter().find(|found| found["uuid"] == namespace.btt_uuid.as_str()).unwrap();
            read_golden(&mut appliance, found["blockdev"].as_str().unwrap(), &golden, at);
        }
        appliance.power_off();
    }
}

#[test]
fn media_that_linux_left_in_the_middle_of_a_write_are_recovered() {
    for id in ["u-l12-512-pending", "u-nolab-512-half", "l12-512-err"] {
        let golden = golden::named(id);
        let dimm = golden.unpack();
        let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
        let pending = golden.namespaces[0].pending.len();
        assert_eq!(appliance.ask("status")["unclean_shutdowns_recovered"], pending, "{id}");
        let blockdev = appliance.ask("list")["result"][0]["blockdev"].as_str().unwrap().to_owned();
        read_golden(&mut appliance, &blockdev, &golden, 0);
        appliance.power_off();
    }
}

/// How long the appliance took to attach its first namespace, in microseconds of its own time.
fn attached_us(appliance: &Running) -> u64 {
    let line = appliance.boot_log.iter().find(|line| line.starts_with("namespace0.0: ")).unwrap();
    let said = line.rsplit_once("looked at in ").and_then(|(_, took)| took.strip_suffix(" us"));
    said.and_then(|us| us.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn a_region_of_two_arenas_is_served_at_once_however_large_it_is() {
    let golden = golden::named("nolab-4096-2arena");
    let dimm = golden.unpack();
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    assert!(attached_us(&appliance) < 1_000_000, "attaching costs as much as the flog, not as the map");
    read_golden(&mut appliance, "pmem0s", &golden, 0);
    let last = golden.namespaces[0].nlba - 1;
    appliance.write("pmem0s", last, &pattern(last, 1, 4096));
    assert_eq!(appliance.read("pmem0s", last), pattern(last, 1, 4096));
    let arenas = appliance.ask("arenas namespace0.0")["arenas"].clone();
    assert_eq!(arenas.as_array().unwrap().len(), 2);
    appliance.power_off();

    // A map entry of the second arena leads nowhere: that arena is read-only once it is met, the first one goes on.
    let second = arenas[1]["external_lba_start"].as_u64().unwrap();
    dimm.put(4096 + arenas[1]["mapoff"].as_u64().unwrap() + 4 * 3, &u32::MAX.to_le_bytes());
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    appliance.write("pmem0s", second, &pattern(second, 2, 4096));
    assert_eq!(appliance.refused(&format!("read pmem0s {}", second + 3)).0, "damaged");
    assert_eq!(appliance.refused(&format!("write pmem0s {second} --fill 1")).0, "damaged");
    assert_eq!(appliance.read("pmem0s", second), pattern(second, 2, 4096));
    appliance.write("pmem0s", second - 1, &pattern(second - 1, 2, 4096));
    let arenas = appliance.ask("arenas namespace0.0")["arenas"].clone();
    assert!(arenas[0]["read_only"].is_null() && arenas[0]["flags"] == 0, "{arenas}");
    assert!(arenas[1]["read_only"].as_str().unwrap().contains("map entry 3") && arenas[1]["flags"] == 1, "{arenas}");
    let reason = appliance.ask("list")["result"][0]["btt"]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("arena 1"), "{reason}");
    appliance.power_off();
}

#[test]
fn a_dimm_of_more_than_4_gib_is_formatted_and_stays_sparse() {
    let dimm = Dimm::blank(5 * GIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let (dev, sectors) = format(&mut appliance, 0, 4096);
    assert!(sectors > 4 * GIB / 4096);
    for lba in [0, sectors - 1] {
        appliance.write(&dev, lba, &pattern(lba, 3, 4096));
    }
    appliance.power_off();
    let used = dimm.file().metadata().unwrap().blocks() * 512;
    assert!(used < 64 * MIB, "formatting stored {used} bytes: zeroes over zeroes");

    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    for lba in [0, sectors - 1] {
        assert_eq!(appliance.read(&dev, lba), pattern(lba, 3, 4096));
    }
    appliance.power_off();
}

#[test]
fn a_dimm_of_1_5_tib_is_formatted_sparsely_and_attached_at_once() {
    let dimm = Dimm::blank(1536 * GIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let list = appliance.ask("list -N");
    assert_eq!((&list["result"][0]["mode"], &list["result"][0]["size"]), (&json!("raw"), &json!(1536 * GIB)), "{list}");
    let (dev, sectors) = format(&mut appliance, 0, 4096);
    let arenas = appliance.ask("arenas namespace0.0")["arenas"].clone();
    let first = |arena: usize| arenas[arena]["external_lba_start"].as_u64().unwrap();
    assert_eq!((arenas.as_array().unwrap().len(), first(2) > first(1)), (3, true));
    let places = [0, first(1) - 1, first(1), first(2) - 1, first(2), sectors - 1];
    for lba in places {
        appliance.write(&dev, lba, &pattern(lba, 1, 4096));
    }
    // Sixteen sectors over a border by one request, half of them in either arena.
    appliance.ask(&format!("write {dev} {} --fill 0x42 --count 16", first(1) - 8));
    appliance.cut();

    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    // Milliseconds, on a quiet host; seconds at the least, if the maps were read.
    let attached = attached_us(&appliance);
    assert!(attached < 1_000_000, "attached in {attached} us");
    for lba in places.into_iter().filter(|lba| lba.abs_diff(first(1)) > 8) {
        assert_eq!(appliance.read(&dev, lba), pattern(lba, 1, 4096), "LBA {lba}");
    }
    for lba in [first(1) - 8, first(1) - 1, first(1), first(1) + 7] {
        assert!(appliance.read(&dev, lba).iter().all(|byte| *byte == 0x42), "LBA {lba}");
    }
    assert!(appliance.read(&dev, first(1) + 8).iter().all(|byte| *byte == 0));
    assert_eq!(appliance.ask("arenas namespace0.0")["arenas"], arenas);
    assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]));
    let used = dimm.file().metadata().unwrap().blocks() * 512;
    assert!(
        used < 64 * MIB,
        "{used} bytes are stored: a file system may take 2 MiB for each place, the maps have 1.5 GiB"
    );
    appliance.power_off();
}

#[test]
fn without_an_nvdimm_it_comes_up_and_says_so() {
    let mut appliance = ApplianceBuilder::new().boot();
    assert_eq!(appliance.ask("list")["result"], json!([]));
    assert_eq!(appliance.ask("status")["namespaces"], json!([]));
    for (command, expected) in [
        ("create-namespace", "not-found"),
        ("create-namespace -r region0", "not-found"),
        ("read pmem0s 0", "not-found"),
        ("check-namespace namespace0.0", "not-found"),
    ] {
        assert_eq!(appliance.refused(command).0, expected, "{command}");
    }
    appliance.power_off();
}

#[test]
fn an_unarmed_dimm_reads_its_recovered_state_and_is_never_written() {
    for id in ["u-nolab-4096-pending", "nolab-512"] {
        let golden = golden::named(id);
        let dimm = golden.unpack().unarmed();
        let before = dimm.digest();
        let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
        read_golden(&mut appliance, "pmem0s", &golden, 0);
        for command in ["write pmem0s 0 --fill 1", "create-namespace -r region0 -f"] {
            let (code, message) = appliance.refused(command);
            assert_eq!(code, "read-only", "{id}: {command}: {message}");
        }
        appliance.ask("check-namespace namespace0.0");
        appliance.power_off();
        assert!(dimm.digest() == before, "{id} was written");
    }
}

#[test]
fn nothing_is_written_to_what_is_not_formatted_or_holds_something_else() {
    let (blank, foreign) = (Dimm::blank(32 * MIB), Dimm::blank(128 * MIB));
    // A master boot record, and what a file system's superblock has at 1 KiB.
    foreign.put(510, &[0x55, 0xaa]);
    foreign.put(1024 + 56, &[0x53, 0xef]);
    let before = (blank.digest(), foreign.digest());
    let mut appliance = ApplianceBuilder::new().dimm(&blank).dimm(&foreign).boot();
    for command in ["write pmem0 0 --fill 1", "write pmem0s 0 --fill 1", "write pmem1 0 --fill 1"] {
        let (code, message) = appliance.refused(command);
        assert!(message.contains("create-namespace"), "{command}: {code}: {message} says what to do");
    }
    let (code, message) = appliance.refused("create-namespace -r region1");
    assert!(message.contains("-f"), "{code}: {message} says how to insist");
    appliance.power_off();
    assert!((blank.digest(), foreign.digest()) == before, "something was written");

    // By force: what could be read is zeroed, and holes stay holes.
    foreign.put(50 * MIB, &[0xee; 9000]);
    let mut appliance = ApplianceBuilder::new().dimm(&foreign).boot();
    appliance.ask("create-namespace -f -l 512");
    let blocks = 50 * MIB / 512;
    for lba in [0, 1, blocks - 24, blocks, blocks + 5] {
        assert_eq!(appliance.read("pmem0s", lba), [0; 512], "LBA {lba}");
    }
    appliance.power_off();
    assert!(foreign.bytes(50 * MIB, 9000).iter().all(|byte| *byte == 0));
    let used = foreign.file().metadata().unwrap().blocks() * 512;
    assert!(used < 32 * MIB, "{used} bytes are stored");
}

#[test]
fn a_damaged_info_block_is_named_and_left_alone() {
    let golden = golden::named("nolab-4096");
    let dimm = golden.unpack();
    dimm.put(4096 + 64, &[0xff; 4]);
    let before = dimm.digest();
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let said = appliance.boot_log.join("\n") + &appliance.ask("status").to_string();
    assert!(said.contains("0x1000") || said.contains("checksum"), "{said}");
    assert_eq!(appliance.reply("read pmem0s 0")["ok"], false);
    assert_eq!(appliance.reply("create-namespace -r region0")["ok"], false, "a damaged BTT is not blank");
    appliance.power_off();
    assert!(dimm.digest() == before, "something was written");
}

#[test]
fn bad_requests_get_an_error_each_and_change_nothing() {
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let (_, sectors) = format(&mut appliance, 0, 4096);
    appliance.write("pmem0s", 0, &pattern(0, 1, 4096));
    let long = "x".repeat(100 << 10);
    for (request, code) in [
        ("frobnicate".to_owned(), "unknown-command"),
        ("read".to_owned(), "usage"),
        ("read pmem0s zero".to_owned(), "usage"),
        ("read pmem0s 0 --quickly".to_owned(), "usage"),
        ("write pmem0s 0 --data AAAA".to_owned(), "usage"),
        ("write pmem0s 0 --data !!!!".to_owned(), "usage"),
        ("write pmem0s 0 --fill 256".to_owned(), "usage"),
        ("write pmem0s 0".to_owned(), "usage"),
        ("a \u{1}\u{2}\u{7f} line".to_owned(), "usage"),
        ("read 'pmem0s 0".to_owned(), "usage"),
        ("read pmem7s 0".to_owned(), "not-found"),
        (format!("read pmem0s {sectors}"), "out-of-range"),
        (format!("write pmem0s {} --fill 1 --count 2", sectors - 1), "out-of-range"),
        (format!("write pmem0s {} --fill 1", u64::MAX), "out-of-range"),
        ("read pmem0s 0 257".to_owned(), "too-long"),
        (format!("version {long}"), "too-long"),
        ("export pmem0s".to_owned(), "failed"),
    ] {
        let shown: String = request.chars().take(60).collect();
        let (found, message) = appliance.refused(&request);
        assert_eq!(found, code, "`{shown}`: {message}");
        assert!(!message.is_empty());
    }
    assert_eq!(appliance.read("pmem0s", 0), pattern(0, 1, 4096));
    assert_eq!(appliance.ask("read pmem0s 0 256")["count"], 256, "a read of 1 MiB");
    appliance.power_off();
}

#[test]
fn text_mode_ends_each_reply_with_its_exit_code() {
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).start();
    appliance.enter(ReplyForm::Text);
    let (code, text) = appliance.text("version");
    assert!(code == 0 && text.contains(env!("CARGO_PKG_VERSION")), "{code} {text}");
    for (command, expected) in [("nonsense", 2), ("read pmem0s 0", 3), ("arenas namespace0.0", 1)] {
        let (code, text) = appliance.text(command);
        assert!(code == expected && !text.trim().is_empty(), "`{command}`: {code} {text}");
    }
    assert_eq!(appliance.text("create-namespace -r region0").0, 0);
    let (code, dump) = appliance.text("read pmem0s 0");
    assert!(code == 0 && dump.contains("00 00 00 00"), "{dump}");
    // Damage is the fourth.
    let metadata = dimm.bytes(4096, 4096);
    dimm.put(dimm.file().metadata().unwrap().len() - 4096, &[0; 4096]);
    assert_eq!(appliance.text("check-namespace namespace0.0").0, 4, "the copy of the info block is gone");
    dimm.put(dimm.file().metadata().unwrap().len() - 4096, &metadata);
    assert_eq!(appliance.text("check-namespace namespace0.0").0, 0);
    appliance.power_off();
}

#[test]
fn an_endless_line_on_the_console_does_not_stop_it() {
    let mut appliance = ApplianceBuilder::new().start();
    appliance.appliance().wait_for_prompt(Deadline::after(Duration::from_secs(60)), |_| {}).unwrap();
    // To a session the echo of all this is a line like any other; the prompt comes back after it.
    let endless = "y".repeat(200_000) + "\u{1b}[A\u{0}\u{1b}[999999D";
    appliance.appliance().type_line(&endless, Deadline::after(Duration::from_secs(60))).unwrap();
    let mut said = String::new();
    appliance.appliance().wait_for_prompt(Deadline::after(Duration::from_secs(60)), |line| said += line).unwrap();
    appliance.appliance().switch(ReplyForm::Json, Deadline::after(Duration::from_secs(60))).unwrap();
    assert_eq!(appliance.ask("version")["ok"], true);
    appliance.power_off();
}

#[test]
fn every_acknowledged_write_survives_a_power_cut() {
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let (dev, sectors) = format(&mut appliance, 0, 512);
    let mut written = std::collections::BTreeMap::new();
    for round in 1..=3 {
        for step in 0..40 {
            let lba = (step * 1_009 + round) % sectors;
            appliance.write(&dev, lba, &pattern(lba, round, 512));
            written.insert(lba, round);
        }
        appliance.cut();
        appliance = ApplianceBuilder::new().dimm(&dimm).boot();
        for (&lba, &version) in &written {
            assert_eq!(appliance.read(&dev, lba), pattern(lba, version, 512), "LBA {lba} after cut {round}");
        }
    }
    appliance.power_off();
}

#[test]
fn an_idle_appliance_makes_map_entries_durable_that_wait_for_another_write() {
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let (dev, _) = format(&mut appliance, 0, 512);
    let counted = |appliance: &mut Running| {
        let device = appliance.ask("stats")["devices"][0].clone();
        ["sectors_written", "fences", "write_backs"].map(|name| device[name].as_u64().unwrap())
    };
    appliance.write(&dev, 5, &pattern(5, 1, 512));
    let deadline = Deadline::after(Duration::from_secs(60));
    let mut last = [0; 3];
    while last != [1, 3, 2] {
        assert!(!deadline.passed(), "the write's two fences and one line, and a fence for the map's line: {last:?}");
        std::thread::sleep(Duration::from_millis(20));
        last = counted(&mut appliance);
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(counted(&mut appliance), last, "there is nothing left to do");
    appliance.power_off();
}

#[test]
fn a_power_cut_under_load_tears_nothing() {
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance = ApplianceBuilder::new().cpus(4).dimm(&dimm).boot();
    let (dev, _) = format(&mut appliance, 0, 512);
    for round in 1..=2 {
        let load = format!("bench {dev} --seconds 100 --run {}", 1 + 7 * (round % 2));
        let outcome = appliance.appliance().command(&load, Deadline::after(Duration::from_millis(900)));
        assert!(outcome.is_err(), "the load ended by itself");
        appliance.cut();
        appliance = ApplianceBuilder::new().cpus(4).dimm(&dimm).boot();
        assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]), "after cut {round}");
        let found = appliance.ask(&format!("bench {dev} --seconds 0 --verify"));
        let verify = &found["verify"];
        let broken = ["torn", "misplaced", "unreadable", "foreign"].map(|kind| verify[kind].as_u64().unwrap());
        assert_eq!(broken, [0; 4], "after cut {round}: {found}");
        assert!(verify["good"].as_u64() > Some(0), "{found}");
    }
    appliance.power_off();
}

/// Where a sector's data are in physical memory, by the map in the file, and where its map entry is in the file.
fn place_of(appliance: &mut Running, dimm: &Dimm, lba: u64) -> (u64, u64) {
    let nfit = appliance.ask("nfit");
    let range = nfit["structures"].as_array().unwrap().iter().find(|one| one["kind"] == "spa_range").unwrap();
    let base = range["base"].as_str().and_then(|hex| u64::from_str_radix(hex.strip_prefix("0x")?, 16).ok());
    let base = base.or(range["base"].as_u64()).unwrap();
    let arena = &appliance.ask("arenas namespace0.0")["arenas"][0];
    let number = |key: &str| arena[key].as_u64().unwrap();
    // Offsets of arenas count from the first info block's place.
    let initial = 4096;
    let map_entry = initial + number("mapoff") + 4 * lba;
    let entry = u32::from_le_bytes(dimm.bytes(map_entry, 4).try_into().unwrap());
    let block = if entry >> 30 == 0 { lba } else { u64::from(entry) & 0x3fff_ffff };
    (base + initial + number("dataoff") + block * number("internal_lbasize"), map_entry)
}

#[test]
fn what_a_machine_check_reports_is_looked_at_again_and_what_is_lost_is_an_error_of_its_sector() {
    // What a CPU reports that a load met poison, and that a scrubber did (Intel SDM 3B, 16.9.3).
    const LOAD: u64 = 0xbd80_0000_0000_0134;
    const SCRUB: u64 = 0xbd00_0000_0000_00c0;
    const PHYSICAL_LINE: u64 = 0x86;
    let dimm = Dimm::blank(32 * MIB);
    let socket = monitor::Socket::new();
    let [option, value] = socket.arguments();
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).qemu(&[&option, &value]).boot();
    let mut monitor = socket.connect();
    format(&mut appliance, 0, 520);
    for lba in 0..8 {
        appliance.write("pmem0s", lba, &pattern(lba, 1, 520));
    }
    // One CPU halts, the other one waits for the console: neither can do without what it was about to do.
    let (second, _) = place_of(&mut appliance, &dimm, 2);
    let (fifth, _) = place_of(&mut appliance, &dimm, 5);
    monitor.machine_check(0, LOAD, 5, second + 64, PHYSICAL_LINE);
    // The line that holds the last eight bytes of the sector.
    monitor.machine_check(1, SCRUB, 5, fifth + 512, PHYSICAL_LINE);
    let errors = appliance.ask("errors pmem0s");
    assert_eq!(errors["media"].as_array().unwrap().len(), 2, "{errors}");
    // QEMU's memory has these bytes all the same: they are looked at again, and no sector is lost.
    for lba in 0..8 {
        assert_eq!(appliance.read("pmem0s", lba), pattern(lba, 1, 520), "LBA {lba}");
    }
    let errors = appliance.ask("errors pmem0s");
    assert_eq!((&errors["media"], &errors["errors"]), (&json!([]), &json!([])));

    // Memory that fails whenever it is looked at.
    for lba in [2, 5] {
        appliance.ask(&format!("inject-error pmem0s {lba} --media"));
    }
    for lba in 0..8 {
        if lba == 2 || lba == 5 {
            let (code, message) = appliance.refused(&format!("read pmem0s {lba}"));
            assert!(code == "damaged" && message.contains(&format!("LBA {lba}")), "{code}: {message}");
            let entry = u32::from_le_bytes(dimm.bytes(place_of(&mut appliance, &dimm, lba).1, 4).try_into().unwrap());
            assert_eq!(entry >> 30, 1, "LBA {lba} is an error in the map: {entry:#x}");
        } else {
            assert_eq!(appliance.read("pmem0s", lba), pattern(lba, 1, 520), "LBA {lba}");
        }
    }
    let errors = appliance.ask("errors pmem0s");
    let marked: Vec<_> = errors["errors"].as_array().unwrap().iter().map(|one| one["lba"].as_u64().unwrap()).collect();
    assert_eq!(marked, [2, 5], "{errors}");

    // Another machine knows by the map; a write mends the sector, also where its block has lost a line.
    appliance.write("pmem0s", 5, &pattern(5, 2, 520));
    appliance.cut();
    let socket = monitor::Socket::new();
    let [option, value] = socket.arguments();
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).qemu(&[&option, &value]).boot();
    let mut monitor = socket.connect();
    appliance.refused("read pmem0s 2");
    assert_eq!(appliance.read("pmem0s", 5), pattern(5, 2, 520));
    appliance.write("pmem0s", 2, &pattern(2, 2, 520));
    assert_eq!(appliance.read("pmem0s", 2), pattern(2, 2, 520));
    assert_eq!(appliance.ask("errors")["errors"], json!([]));
    assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]));

    // Machine checks strike in the middle of a load, again and again: nothing reads as what it is not.
    let (first, _) = place_of(&mut appliance, &dimm, 0);
    let bench = std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in 0..40 {
                monitor.machine_check(line % 2, LOAD, 5, first + u64::from(line) * 576, PHYSICAL_LINE);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        appliance.ask("bench pmem0s --seconds 2 --mix 50 --run 8 --verify")
    });
    let verify = &bench["verify"];
    let broken = ["torn", "misplaced"].map(|kind| verify[kind].as_u64().unwrap());
    assert!(broken == [0; 2] && verify["good"].as_u64() > Some(0), "{bench}");
    assert!(verify["foreign"].as_u64() <= Some(8), "those that stand there from before: {bench}");
    assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]));

    // Memory of ours is another matter.
    monitor.last_machine_check(1, SCRUB, 5, 2 * MIB, PHYSICAL_LINE);
    let end = Deadline::after(Duration::from_secs(20));
    let words = appliance.appliance().wait_for_prompt(end, |_| {}).expect_err("it has stopped").to_string();
    assert!(words.contains("machine check") && words.contains("outside of persistent memory"), "{words}");
}

#[test]
fn it_comes_up_again_after_reboot_with_its_sectors() {
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance = ApplianceBuilder::new().dimm(&dimm).boot();
    let (dev, _) = format(&mut appliance, 0, 4096);
    appliance.write(&dev, 5, &pattern(5, 5, 4096));
    // The time stamp counter may go on over a reset: the time of what runs now does not.
    let uptime = |appliance: &mut Running| appliance.ask("status")["uptime"].as_f64().expect("seconds");
    std::thread::sleep(Duration::from_millis(1500));
    let before = uptime(&mut appliance);
    let reset = Instant::now();
    appliance.ask("reboot");
    appliance.enter(ReplyForm::Json);
    assert_eq!(appliance.read(&dev, 5), pattern(5, 5, 4096));
    let after = uptime(&mut appliance);
    let passed = reset.elapsed().as_secs_f64();
    // A tenth for clocks that differ.
    assert!(before > 1.0 && after < 1.1 * passed, "{before} s before the reset, {after} s {passed} s after it");
    appliance.power_off();
}

/// An NFIT as ACPI has it: the header, four reserved bytes, the structures.
fn nfit(structures: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = [&[0; 4]].into_iter().copied().flatten().chain(structures.concat()).collect();
    let mut table = b"NFIT".to_vec();
    table.extend(u32::try_from(36 + body.len()).unwrap().to_le_bytes());
    table.extend([1, 0]); // revision; QEMU makes the checksum
    table.extend(b"UNTORNTESTNFIT\0\0");
    table.extend([1, 0, 0, 0, b'T', b'E', b'S', b'T', 1, 0, 0, 0]);
    table.resize(36, 0);
    table.extend(body);
    table
}

/// A persistent range, 16 MiB at `base`.
fn range(base: u64) -> Vec<u8> {
    let mut range = vec![0, 0, 56, 0, 1, 0];
    range.resize(16, 0);
    range.extend([0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4, 0x74, 0x40, 0xac, 0x43, 0x0d, 0x33, 0x18, 0xb7, 0x8c, 0xdb]);
    range.extend(base.to_le_bytes());
    range.extend((16 * MIB).to_le_bytes());
    range.extend(0x8008_u64.to_le_bytes());
    range
}

#[test]
fn a_broken_nfit_is_told_and_the_console_comes_up() {
    let endless = [1, 0, 0xff, 0xff, 0, 0, 0, 0];
    let nothing = [0; 8];
    let unknown = [99, 0, 8, 0, 0, 0, 0, 0];
    for (what, structures) in [
        ("a structure without length", vec![&nothing[..], &unknown[..]]),
        ("a structure longer than its table", vec![&unknown[..], &endless[..]]),
        ("half a structure", vec![&unknown[..], &unknown[..3]]),
        ("ranges that wrap or hide RAM", vec![&range(u64::MAX - 4095), &range(MIB)]),
    ] {
        let file = Dimm::blank(0); // a file like any other
        file.put(0, &nfit(&structures));
        let mut appliance =
            ApplianceBuilder::new().qemu(&["-acpitable", &format!("file={}", file.path().display())]).boot();
        let found = appliance.ask("nfit");
        let refused = found["refused"].as_array().unwrap();
        assert!(!refused.is_empty() && refused.iter().all(|one| one["why"].is_string()), "{what}: {found}");
        let list = appliance.ask("list -N");
        assert_eq!(list["result"], Value::Array(Vec::new()), "{what}: nothing is served of it");
        appliance.power_off();
    }
}

/// Ranges with nothing behind them, or with half of their memory: reported at boot, and a namespace on them is an error with its
/// place, not a success that keeps nothing.
#[test]
fn a_range_that_keeps_no_bytes_is_told_and_gets_no_namespace() {
    let base = 1 << 32;
    let table = Dimm::blank(0); // a file like any other
    let structures = Table::default()
        .range(Range { index: 1, kind: Kind::Memory, base, bytes: 64 * MIB })
        .mapping(Mapping { handle: 1, range: 1, control: 1, bytes: 64 * MIB, ..Mapping::default() })
        .control(Control { index: 1, serial: 7, format: 0x301, registers: None });
    // QEMU puts a header of its own before a file that has one.
    table.put(0, &structures.finish());
    let memory = Dimm::blank(64 * MIB);
    for (what, backed, place) in
        [("nothing", 0, Some("0xfffc0")), ("a half", 32 * MIB, Some("0x3ffffc0")), ("all of it", 64 * MIB, None)]
    {
        let file = format!("file={}", table.path().display());
        let path = memory.path().display();
        let ram = format!("memory-backend-file,id=m,share=on,mem-path={path},size={backed}");
        let mut machine = ApplianceBuilder::new().qemu(&["-acpitable", &file]);
        if backed > 0 {
            machine = machine.qemu(&["-m", "256M,slots=2,maxmem=4G", "-object", &ram, "-device", "pc-dimm,memdev=m"]);
        }
        let mut appliance = machine.boot();
        let status = appliance.ask("status")["namespaces"][0].clone();
        let Some(place) = place else {
            assert_eq!(status["state"], "active: blank", "{what}");
            appliance.ask("create-namespace -l 512");
            appliance.ask("write pmem0s 0 --fill 7");
            appliance.power_off();
            continue;
        };
        let expected = format!("it keeps no bytes at {place}");
        assert!(status["state"].as_str().unwrap().contains(&expected), "{what}: {status}");
        assert!(appliance.boot_log.iter().any(|line| line.contains(&expected)), "{what}: {:?}", appliance.boot_log);
        for command in ["create-namespace", "create-namespace -f -l 512", "create-namespace -m raw -f"] {
            let (code, message) = appliance.refused(command);
            assert!(code == "damaged" && message.contains(&expected), "{what}: {command}: {code}: {message}");
        }
        assert_eq!(appliance.ask("list")["result"], json!([]), "{what}");
        appliance.power_off();
        assert!(memory.bytes(0, 64 << 20).iter().all(|byte| *byte == 0), "{what}: nothing is left of the probe");
    }
}

/// Tables with one thing wrong each (`nvdimm/tests/fixtures/broken`), the structures that are refused for it, and those
/// that get a remark.
const BROKEN: [(&str, &[u64], &[u64]); 20] = [
    ("dcr_code", &[256], &[352]),
    ("dcr_missing", &[96, 256, 304, 352], &[]),
    ("dcr_short", &[96, 256, 304, 352, 384], &[]),
    ("dup_dcr", &[], &[256, 432]),
    ("dup_spa_index", &[544], &[256]),
    ("idt_ways_0", &[256, 304], &[]),
    ("len_3", &[40], &[]),
    ("len_ffff", &[40], &[]),
    ("len_past_end", &[528], &[256]),
    ("md_bdw_missing", &[152, 256], &[]),
    ("md_dangling_dcr", &[96, 256], &[]),
    ("spa_wrap", &[40, 208], &[256]),
    ("stat_off_past", &[256], &[]),
    ("trail_1", &[544], &[256]),
    ("unknown_guid", &[96, 256], &[]),
    ("unknown_types", &[], &[40, 56, 60, 340, 628]),
    ("windows_ffff", &[256], &[]),
    ("wsize_0", &[256], &[]),
    ("zero_len", &[40], &[]),
    ("zero_len_last", &[544], &[256]),
];

#[test]
fn twenty_broken_tables_are_booted_and_the_log_says_what_was_refused() {
    for (name, refused, remarked) in BROKEN {
        let table = tests::workspace::top().join(format!("nvdimm/tests/fixtures/broken/{name}.nfit"));
        let mut appliance = ApplianceBuilder::new().qemu(&["-acpitable", &format!("file={}", table.display())]).boot();
        let told = appliance.boot_log.iter().filter(|line| line.starts_with("nvdimm: ")).count();
        assert!(told >= refused.len() + remarked.len(), "{name}: {:?}", appliance.boot_log);
        let found = appliance.ask("nfit");
        for (list, expected) in [("refused", refused), ("remarks", remarked)] {
            let offsets = found[list].as_array().unwrap().iter().map(|one| one["offset"].as_u64().unwrap());
            let offsets: BTreeSet<u64> = offsets.collect();
            assert!(offsets.iter().eq(expected), "{name}, {list}: {found}");
        }
        appliance.cut();
    }
}
