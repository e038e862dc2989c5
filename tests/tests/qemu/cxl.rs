//! CXL memory in QEMU: the appliance makes and writes a medium there, and an unmodified Linux takes it up, and back; what is
//! not supported is left out by name.

use std::collections::BTreeMap;

use serde_json::Value;
use tests::dimm::{Dimm, Kind, MIB};
use tests::golden::digest;
use tests::linux::exercise::Exercise;
use tests::linux::{Job, Make, Phase, Read, Report, assert_within, judge};
use tests::machine::{ApplianceBuilder, Running};

/// The sector that byte `lba + 1` fills, for each of these.
const WRITTEN: [u64; 5] = [0, 1, 2, 1000, 2000];

fn device() -> Dimm {
    Dimm::blank(256 * MIB).seen_as(Kind::Cxl)
}

fn boot(medium: &Dimm) -> Running {
    ApplianceBuilder::new().dimm(medium).boot()
}

/// The byte that each sector ends with.
fn last(exercise: Exercise, sectors: u64) -> BTreeMap<u64, u8> {
    exercise.runs(sectors).flat_map(|run| (run.lba..).zip(run.bytes)).collect()
}

/// Asserts that all that Linux lists is listed by us, but for the device's lock: Linux 6.12 asks the device for it, and we do
/// not.
fn assert_listed(mut linux: Value, ours: &Value) {
    for dimm in linux[0]["dimms"].as_array_mut().expect("a device is listed") {
        dimm.as_object_mut().expect("an object").remove("security");
    }
    assert_within(&linux, ours, "list");
}

fn assert_reads(appliance: &mut Running, expected: &BTreeMap<u64, u8>, bytes: usize) {
    for (&lba, &byte) in expected {
        assert_eq!(appliance.read("pmem0s", lba), vec![byte; bytes], "LBA {lba}");
    }
}

#[test]
fn linux_takes_up_a_namespace_that_is_made_here_and_what_it_writes_is_read_here() {
    let medium = device();
    let mut appliance = boot(&medium);
    let blank = appliance.ask("list -B -D -R -N -i")["result"].clone();
    assert_eq!((&blank[0]["provider"], blank[0]["regions"][0].get("namespaces")), (&"CXL".into(), None));
    appliance.ask("create-namespace -l 4096 -s 64M -n disk");
    for lba in WRITTEN {
        appliance.ask(&format!("write pmem0s {lba} --fill {}", lba % 250 + 1));
    }
    let ours = appliance.ask("list -B -D -R -N")["result"].clone();
    let sectors = ours[0]["regions"][0]["namespaces"][0]["size"].as_u64().unwrap() / 4096;
    // The machine ends with a write acknowledged, and perhaps its map entry not drained.
    appliance.cut();
    let mut appliance = boot(&medium);
    for lba in WRITTEN {
        assert_eq!(appliance.read("pmem0s", lba), vec![u8::try_from(lba % 250 + 1).unwrap(); 4096], "LBA {lba}");
    }
    appliance.power_off();

    let guest = env!("CARGO_BIN_EXE_linux-guest");
    let reads = WRITTEN.map(|lba| Read { slot: 0, lba, count: 1 });
    let exercise = Exercise { slot: 0, writes: 30, seed: 9 };
    let lists = vec!["-B -D -R -N".into()];
    let job = Job { dimms: 1, reads: reads.to_vec(), exercises: vec![exercise], lists, ..Job::default() };
    let mut seen = (0, 0, 0);
    let mut read = 0;
    for report in judge(&[&medium], &job, guest) {
        match report {
            Report::Check { phase, ok, text, .. } => {
                assert!(ok, "{phase:?}: {text}");
                seen.0 += u32::from(phase == Phase::After);
            }
            // Those before the exercise come first.
            Report::Sectors { read: Read { lba, .. }, data } if read < WRITTEN.len() => {
                let byte = u8::try_from(lba % 250 + 1).unwrap();
                assert_eq!(data, Ok(digest(&[byte; 4096])), "LBA {lba}");
                read += 1;
            }
            Report::List { list, .. } => {
                assert_listed(list, &ours);
                seen.1 += 1;
            }
            Report::Exercised { error, .. } => {
                assert_eq!(error, None);
                seen.2 += 1;
            }
            Report::Trouble(what) => panic!("{what}"),
            _ => {}
        }
    }
    assert_eq!((seen, read), ((1, 1, 1), WRITTEN.len()));

    let mut appliance = boot(&medium);
    assert_reads(&mut appliance, &last(exercise, sectors), 4096);
    assert_eq!(appliance.ask("check-namespace -f namespace0.0")["findings"], Value::Array(Vec::new()));
    assert_eq!(appliance.ask("health")["state"], "ok");
    appliance.power_off();
}

#[test]
fn a_namespace_that_linux_makes_is_served_here_and_taken_away_here() {
    let medium = device();
    let guest = env!("CARGO_BIN_EXE_linux-guest");
    let exercise = Exercise { slot: 0, writes: 30, seed: 11 };
    let make = Make { slot: 0, options: "-m sector -l 512 -s 64M -n theirs".into() };
    let job = Job {
        dimms: 1,
        makes: vec![make],
        exercises: vec![exercise],
        lists: vec!["-B -D -R -N".into()],
        ..Job::default()
    };
    let (mut exercised, mut listed) = (0, Value::Null);
    for report in judge(&[&medium], &job, guest) {
        match report {
            Report::Check { phase, ok, text, .. } => assert!(ok, "{phase:?}: {text}"),
            Report::Made { made, .. } => drop(made.unwrap()),
            Report::Exercised { error, .. } => {
                assert_eq!(error, None);
                exercised += 1;
            }
            Report::List { list, .. } => listed = list,
            Report::Trouble(what) => panic!("{what}"),
            _ => {}
        }
    }
    assert_eq!(exercised, 1);

    let mut appliance = boot(&medium);
    let ours = appliance.ask("list -B -D -R -N")["result"].clone();
    assert_listed(listed, &ours);
    let sectors = ours[0]["regions"][0]["namespaces"][0]["size"].as_u64().unwrap() / 512;
    assert_reads(&mut appliance, &last(exercise, sectors), 512);
    assert_eq!(appliance.ask("check-namespace -f namespace0.0")["findings"], Value::Array(Vec::new()));
    appliance.ask("destroy-namespace -f namespace0.0");
    appliance.ask("create-namespace -l 4096");
    appliance.ask("write pmem0s 5 --fill 77");
    appliance.power_off();
    assert_eq!(boot(&medium).read("pmem0s", 5), vec![77; 4096]);
}

/// The window of a machine with one host bridge.
const WINDOW: &str = "cxl-fmw.0.targets.0=b0,cxl-fmw.0.size=256M";

/// A machine with a CXL host bridge, two root ports and such windows, and what `more` adds: a line of QEMU's.
fn boot_with(windows: &str, more: &str) -> Running {
    let machine = format!("-machine cxl=on,{windows}");
    let common = "-object memory-backend-ram,id=l0,size=128K -object memory-backend-ram,id=l1,size=128K \
        -object memory-backend-ram,id=m0,size=256M -object memory-backend-ram,id=m1,size=512M \
        -device pxb-cxl,id=b0,bus=pcie.0,bus_nr=52,addr=5 \
        -device cxl-rp,id=p0,bus=b0,port=0,chassis=9,slot=0 -device cxl-rp,id=p1,bus=b0,port=1,chassis=9,slot=1";
    let words: Vec<&str> =
        machine.split_whitespace().chain(common.split_whitespace()).chain(more.split_whitespace()).collect();
    ApplianceBuilder::new().qemu(&words).boot()
}

#[test]
fn what_is_not_supported_is_left_out_by_name() {
    let own = "-device cxl-type3,bus=p0,memdev=m0,lsa=l0,sn=7";
    let two = "cxl-fmw.0.targets.0=b0,cxl-fmw.0.targets.1=b1,cxl-fmw.0.size=512M";
    for (windows, more, why) in [
        (
            WINDOW,
            "-device cxl-upstream,bus=p0,id=u -device cxl-downstream,bus=u,port=0,id=d,chassis=9,slot=4 \
             -device cxl-type3,bus=d,memdev=m0,lsa=l0,sn=7",
            "it is not right below a root port: a device behind a switch is not supported",
        ),
        (
            two,
            &format!(
                "-device pxb-cxl,id=b1,bus=pcie.0,bus_nr=80,addr=6 \
                 -device cxl-rp,id=p2,bus=b1,port=0,chassis=9,slot=2 {own}"
            ),
            "the CEDT describes 2 host bridges: only one is supported",
        ),
        (
            WINDOW,
            "-device cxl-type3,bus=p0,memdev=m1,lsa=l1,sn=7",
            "no window for persistent memory has room for its 536870912 bytes",
        ),
    ] {
        let mut appliance = boot_with(windows, more);
        let health = appliance.ask("health");
        assert_eq!(health["state"], "failed");
        let what = health["findings"][0]["what"].as_str().unwrap_or_default();
        assert!(what.contains(why), "{more}: {health}");
        assert_eq!(appliance.ask("list")["result"], Value::Array(Vec::new()));
        appliance.power_off();
    }
    // The first of two is served.
    let mut appliance = boot_with(WINDOW, &format!("{own} -device cxl-type3,bus=p1,memdev=m1,lsa=l1,sn=8"));
    let health = appliance.ask("health");
    assert!(health["findings"][0]["what"].as_str().unwrap().contains("only one CXL device is supported"), "{health}");
    appliance.ask("create-namespace -s 32M");
    appliance.power_off();
    // Labels cannot name a device without a serial number.
    let mut appliance = boot_with(WINDOW, "-device cxl-type3,bus=p0,memdev=m0,lsa=l0");
    let told = appliance.boot_log.iter().any(|line| line.contains("the device has no serial number"));
    assert!(told, "{:?}", appliance.boot_log);
    appliance.refused("create-namespace -s 32M");
    appliance.power_off();
}

#[test]
fn a_host_that_lets_nothing_be_written_is_noticed_where_space_is_free() {
    let medium = device();
    let mut appliance = boot(&medium);
    appliance.ask("create-namespace -s 32M");
    appliance.ask("write pmem0s 5 --fill 77");
    appliance.cut();
    let before = medium.digest();
    let (file, labels) = (medium.path().display(), medium.cxl_labels());
    let mut appliance = boot_with(
        WINDOW,
        &format!(
            "-object memory-backend-file,id=f,share=on,readonly=on,mem-path={file},size=256M \
         -object memory-backend-file,id=fl,share=on,mem-path={},size=128K \
         -device cxl-type3,bus=p0,memdev=f,lsa=fl,sn=0x756e746f726e",
            labels.display()
        ),
    );
    let told = appliance.boot_log.iter().any(|line| line.contains("namespace0.0: read-only: it keeps no bytes"));
    assert!(told, "{:?}", appliance.boot_log);
    assert_eq!(appliance.read("pmem0s", 5), vec![77; 4096]);
    assert_eq!(appliance.refused("write pmem0s 5 --fill 1").0, "read-only");
    appliance.power_off();
    assert!(medium.digest() == before);
}
