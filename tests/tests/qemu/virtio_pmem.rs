//! virtio-pmem in QEMU: the appliance makes and writes a medium there, an unmodified Linux reads it as virtio-pmem, and
//! writes and checks it as an NVDIMM without labels; and a host that does not let it be written.

use serde_json::Value;
use tests::dimm::{Dimm, Kind, MIB};
use tests::golden::digest;
use tests::linux::exercise::Exercise;
use tests::linux::{Job, Phase, Read, Report, assert_within, judge};
use tests::machine::{ApplianceBuilder, Running};

#[test]
fn a_device_on_a_second_root_bus_is_found() {
    let words = "-m 256M,maxmem=2G -object memory-backend-ram,id=m,size=32M -device pxb-pcie,id=b,bus=pcie.0,bus_nr=80,addr=5 \
        -device pcie-root-port,id=p,bus=b,chassis=9,slot=3 -device virtio-pmem-pci,memdev=m,bus=p";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut appliance = ApplianceBuilder::new().qemu(&words).boot();
    assert_eq!(appliance.ask("list -B")["result"][0]["provider"], "virtio-pmem");
    appliance.power_off();
}

/// The sector that byte `lba + 1` fills, for each of these.
const WRITTEN: [u64; 5] = [0, 1, 2, 1000, 2000];

fn boot(medium: &Dimm) -> Running {
    ApplianceBuilder::new().dimm(medium).boot()
}

#[test]
fn linux_reads_it_as_virtio_pmem_and_writes_it_as_an_nvdimm_and_a_read_only_host_is_noticed() {
    let medium = Dimm::blank(64 * MIB).seen_as(Kind::VirtioPmem);
    let mut appliance = boot(&medium);
    appliance.ask("create-namespace -l 4096");
    for lba in WRITTEN {
        appliance.ask(&format!("write pmem0s {lba} --fill {}", lba % 250 + 1));
    }
    let ours = appliance.ask("list -B -R -N")["result"].clone();
    assert_eq!(ours[0]["provider"], "virtio-pmem");
    appliance.power_off();

    let guest = env!("CARGO_BIN_EXE_linux-guest");
    let reads = WRITTEN.map(|lba| Read { slot: 0, lba, count: 1 });
    let job = Job { dimms: 1, reads: reads.to_vec(), lists: vec!["-B -R -N".into()], ..Job::default() };
    let mut read = 0;
    for report in judge(&[&medium], &job, guest) {
        match report {
            Report::Check { ok, text, .. } => assert!(ok, "{text}"),
            Report::Sectors { read: Read { lba, .. }, data } => {
                let byte = u8::try_from(lba % 250 + 1).unwrap();
                assert_eq!(data, Ok(digest(&[byte; 4096])), "LBA {lba}");
                read += 1;
            }
            Report::List { list, .. } => assert_within(&list, &ours, "list"),
            Report::Trouble(what) => panic!("{what}"),
            _ => {}
        }
    }
    assert_eq!(read, WRITTEN.len());

    // Linux kills what writes to a BTT on virtio-pmem. The same file as an NVDIMM has the same layout.
    let medium = medium.seen_as(Kind::Nvdimm);
    let exercise = Exercise { slot: 0, writes: 60, seed: 9 };
    let job = Job { dimms: 1, exercises: vec![exercise], ..Job::default() };
    let mut judged = (0, 0);
    for report in judge(&[&medium], &job, guest) {
        match report {
            Report::Check { phase, ok, text, .. } => {
                assert!(ok, "{phase:?}: {text}");
                judged.0 += u32::from(phase == Phase::After);
            }
            Report::Exercised { error, .. } => {
                assert_eq!(error, None);
                judged.1 += 1;
            }
            Report::Trouble(what) => panic!("{what}"),
            _ => {}
        }
    }
    assert_eq!(judged, (1, 1));

    let medium = medium.seen_as(Kind::VirtioPmem);
    let mut appliance = boot(&medium);
    let sectors = appliance.ask("list")["result"][0]["size"].as_u64().unwrap() / 4096;
    let mut last = std::collections::BTreeMap::new();
    for run in exercise.runs(sectors) {
        last.extend((run.lba..).zip(run.bytes));
    }
    for (lba, byte) in last {
        assert_eq!(appliance.read("pmem0s", lba), vec![byte; 4096], "LBA {lba}");
    }
    // The machine ends with a write acknowledged, and perhaps its map entry not drained.
    appliance.ask("write pmem0s 5 --fill 77");
    appliance.cut();

    // A host that has the file read-only drops stores without a word.
    let backend =
        format!("memory-backend-file,id=frozen,share=on,readonly=on,mem-path={},size=64M", medium.path().display());
    let frozen = ["-m", "256M,maxmem=2G", "-object", &backend, "-device", "virtio-pmem-pci,memdev=frozen,addr=4"];
    let before = medium.digest();
    let mut appliance = ApplianceBuilder::new().qemu(&frozen).boot();
    let told = appliance.boot_log.iter().any(|line| line.contains("namespace0.0: read-only: it keeps no bytes"));
    assert!(told, "{:?}", appliance.boot_log);
    assert_eq!(appliance.ask("list")["result"][0]["btt"]["state"], "read-only");
    assert_eq!(appliance.read("pmem0s", 5), vec![77; 4096]);
    assert_eq!(appliance.refused("write pmem0s 5 --fill 1").0, "read-only");
    appliance.power_off();
    assert!(medium.digest() == before);

    let mut appliance = boot(&medium);
    assert_eq!(appliance.read("pmem0s", 5), vec![77; 4096]);
    assert_eq!(appliance.ask("check-namespace -f namespace0.0")["findings"], Value::Array(Vec::new()));
    appliance.power_off();
}
