//! Media that the appliance made, judged by an unmodified Linux; what Linux then wrote on them, read by the appliance;
//! and `list` beside `ndctl list`, for the same media. One boot of Linux judges all of it.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tests::dimm::{Dimm, MIB};
use tests::golden;
use tests::linux::{Job, Phase, Read, Report, Write, judge};
use tests::machine::{Machine, Running};

/// A medium that the appliance makes, and what must be read from it.
struct Medium {
    /// The slot of its NVDIMM.
    slot: u64,
    /// The options that make its namespace.
    made_by: &'static str,
    sector: u64,
    /// What `create-namespace` answered.
    made: Value,
    /// LBA → the byte that fills it.
    written: BTreeMap<u64, u8>,
}

impl Medium {
    fn new(slot: u64, sector: u64, made_by: &'static str) -> Self {
        Self { slot, made_by, sector, made: Value::Null, written: BTreeMap::new() }
    }

    fn sectors(&self) -> u64 {
        self.made["size"].as_u64().unwrap() / self.sector
    }

    fn fill(&mut self, appliance: &mut Running, lba: u64, byte: u8) {
        let dev = self.made["blockdev"].as_str().unwrap();
        appliance.ask(&format!("write {dev} {lba} --fill {byte}"));
        self.written.insert(lba, byte);
    }
}

/// What sectors the judge reads: first, last, some of those between, and some never written.
fn places(sectors: u64) -> Vec<u64> {
    let mut places: Vec<u64> = (0..12).map(|step| step * (sectors - 1) / 12).collect();
    places.extend([1, sectors - 2, sectors - 1]);
    places
}

/// The region on the DIMM in a slot. QEMU's handle is the slot and 1; its tables are in an order of their own.
fn region_in_slot(bus: &Value, slot: u64) -> String {
    let named = |array: &Value, holds: &dyn Fn(&Value) -> bool| {
        array.as_array().unwrap().iter().find(|one| holds(one)).unwrap()["dev"].as_str().unwrap().to_owned()
    };
    let dimm = named(&bus["dimms"], &|dimm| dimm["handle"] == slot + 1);
    named(&bus["regions"], &|region| region["mappings"][0]["dimm"] == dimm.as_str())
}

fn digest(byte: u8, sector: u64) -> String {
    golden::digest(&vec![byte; usize::try_from(sector).unwrap()])
}

#[test]
fn linux_reads_checks_and_writes_what_the_appliance_made_and_lists_it_alike() {
    // The first slot is the labelled image's: its labels name the DIMM by the serial number that QEMU gives the slot.
    let labelled = golden::named("l12-two");
    let mut dimms = vec![labelled.unpack(), Dimm::blank(64 * MIB), Dimm::blank(32 * MIB), Dimm::blank(48 * MIB)];
    // The last two have labels of our own, of either version.
    dimms.extend([Dimm::blank(160 * MIB).with_labels(), Dimm::blank(48 * MIB).with_labels()]);
    let machine = || dimms.iter().fold(Machine::new(), Machine::dimm);
    let mut media = [
        Medium::new(0, 512, "-l 512 -n remade"),
        Medium::new(1, 4096, "-l 4096"),
        Medium::new(2, 512, "-l 512"),
        Medium::new(4, 4096, "-s 64M -n first"),
        Medium::new(4, 512, "-s 48M -l 512"),
        Medium::new(5, 4096, "-n old"),
        // This one is for a load on all CPUs.
        Medium::new(3, 4096, "-m sector"),
    ];

    // The appliance makes and writes them: overwrites, too, and a load on all CPUs at the end.
    let mut appliance = machine().boot();
    let found = appliance.ask("list -BDRi")["result"][0].clone();
    let remade = region_in_slot(&found, 0).replace("region", "namespace") + ".1";
    appliance.ask(&format!("disable-namespace {remade}"));
    appliance.ask(&format!("destroy-namespace {remade}"));
    let old = found["dimms"].as_array().unwrap().iter().find(|dimm| dimm["handle"] == 6).unwrap();
    appliance.ask(&format!("init-labels {} -V 1.1", old["dev"].as_str().unwrap()));
    for medium in &mut media {
        let region = region_in_slot(&found, medium.slot);
        medium.made = appliance.ask(&format!("create-namespace -r {region} {}", medium.made_by));
    }
    // What the judge reads and writes in each slot is on all of its namespaces.
    let sectors_of = |slot| media.iter().filter(|medium| medium.slot == slot).map(Medium::sectors).min().unwrap();
    let sectors: BTreeMap<u64, u64> = [0, 1, 2, 4, 5].map(|slot| (slot, sectors_of(slot))).into();
    let (loaded, media) = media.split_last_mut().unwrap();
    for (number, medium) in (0..).zip(media.iter_mut()) {
        for version in 1..=3_u8 {
            for (at, lba) in places(sectors[&medium.slot]).into_iter().enumerate().filter(|(at, _)| at % 4 != 1) {
                medium.fill(&mut appliance, lba, version * 16 + u8::try_from(at).unwrap() + 64 * (number % 2));
            }
        }
    }
    let loaded = loaded.made["blockdev"].as_str().unwrap().to_owned();
    appliance.ask(&format!("bench {loaded} --seconds 1"));
    let lists: Vec<String> = ["-N", "-R", "-D", "-BDRN", "-vN", "-vvv", "-NRi"].map(str::to_owned).into();
    let ours: BTreeMap<String, Value> = lists
        .iter()
        .map(|options| (options.clone(), appliance.ask(&format!("list {options}"))["result"].clone()))
        .collect();
    let arenas_of = |medium: &Medium| appliance.ask(&format!("arenas {}", medium.made["dev"]))["arenas"].clone();
    let our_arenas: Vec<Value> = media.iter().map(arenas_of).collect();
    appliance.power_off();

    // Linux judges them.
    let mut job = Job { dimms: dimms.len(), lists, ..Job::default() };
    for (&slot, &sectors) in &sectors {
        let slot = usize::try_from(slot).unwrap();
        job.reads.extend(places(sectors).into_iter().map(|lba| Read { slot, lba }));
        let writes = [(0, 0xc1), (2, 0xc2), (sectors - 1, 0xc3)];
        job.writes.extend(writes.map(|(lba, byte)| Write { slot, lba, byte }));
    }
    let reports = judge(&dimms.iter().collect::<Vec<_>>(), &job, env!("CARGO_BIN_EXE_linux-guest"));
    let mut checked = BTreeMap::new();
    let mut attached = 0;
    let mut current = None;
    let mut read = 0;
    let mut differences = Vec::new();
    for report in &reports {
        match report {
            Report::Check { phase, slot, namespace, ok, text } => {
                assert!(ok, "ndctl check-namespace {namespace} in slot {slot}, {phase:?}: {text}");
                *checked.entry(*phase == Phase::Before).or_insert(0) += 1;
            }
            Report::Btt { slot, uuid, sector_size, size, arenas, .. } => {
                attached += 1;
                // What is read next is read from it.
                current = media.iter().position(|medium| medium.made["btt"]["uuid"] == uuid.as_str());
                if let Some(medium) = current {
                    let made = &media[medium].made;
                    assert_eq!(media[medium].slot, *slot as u64);
                    assert_eq!((&made["sector_size"], &made["size"]), (&(*sector_size).into(), &(*size).into()));
                    assert_eq!(our_arenas[medium], as_arenas(arenas), "slot {slot}");
                }
            }
            Report::Sector { slot, lba, data } => {
                let Some(medium) = current.map(|medium| &media[medium]) else { continue };
                let byte = medium.written.get(lba).copied().unwrap_or(0);
                assert_eq!(data, &Ok(digest(byte, medium.sector)), "slot {slot}, LBA {lba}, filled with {byte}");
                read += 1;
            }
            Report::Written { write, error } => assert_eq!(error, &None, "{write:?}"),
            Report::List { options, list } => compare(options, &ours[options], list, &mut differences),
            Report::Trouble(what) => panic!("{what}"),
            Report::End => {}
        }
    }
    assert_eq!((checked.get(&true), checked.get(&false), attached), (Some(&8), Some(&8), 8), "{reports:?}");
    assert_eq!(read, media.iter().map(|medium| places(sectors[&medium.slot]).len()).sum::<usize>());
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));

    // The appliance reads what Linux wrote.
    let mut appliance = machine().boot();
    for medium in media {
        let slot = usize::try_from(medium.slot).unwrap();
        let writes = job.writes.iter().filter(|write| write.slot == slot);
        medium.written.extend(writes.map(|write| (write.lba, write.byte)));
        let dev = medium.made["blockdev"].as_str().unwrap();
        for (&lba, &byte) in &medium.written {
            assert_eq!(golden::digest(&appliance.read(dev, lba)), digest(byte, medium.sector), "{dev}, LBA {lba}");
        }
    }
    let verify = appliance.ask(&format!("bench {loaded} --seconds 0 --verify"))["verify"].clone();
    let broken = ["torn", "misplaced", "unreadable", "foreign"].map(|kind| verify[kind].as_u64().unwrap());
    assert!(broken == [0; 4] && verify["good"].as_u64() > Some(0), "{verify}");
    appliance.power_off();
}

/// What debugfs shows, in the form of our `arenas`.
fn as_arenas(arenas: &[Vec<(String, String)>]) -> Value {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    let arena = |values: &Vec<(String, String)>| -> Map<String, Value> {
        values.iter().map(|(name, text)| (name.clone(), number(text).into())).collect()
    };
    arenas.iter().map(|values| Value::Object(arena(values))).collect()
}

/// Appends how our list differs from ndctl's, key for key.
fn compare(options: &str, ours: &Value, ndctl: &Value, differences: &mut Vec<String>) {
    let (ours, ndctl) = (comparable(ours.clone()), comparable(ndctl.clone()));
    if ours != ndctl {
        differences.push(format!("list {options}\nours:  {ours}\nndctl: {ndctl}"));
    }
}

/// A list as it can be compared: arrays of devices in the order of their names, without what is one side's own.
fn comparable(value: Value) -> Value {
    match value {
        Value::Array(mut items) => {
            // Linux keeps a namespace of no size on a labelled region, to make the next one of.
            items.retain(|item| !(item["state"] == "disabled" && item["size"] == 0));
            items = items.into_iter().map(comparable).collect();
            if items.iter().all(|item| item["dev"].is_string()) {
                items.sort_by_key(|item| item["dev"].to_string());
            }
            Value::Array(items)
        }
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter_map(|(key, value)| match key.as_str() {
                    // Ours: ndctl has no such object.
                    "btt" => None,
                    // Ours can make sectors only; Linux can do more, by its page tables.
                    "capabilities" => None,
                    // Where Linux would bring the memory up as RAM: nothing that a storage node does.
                    "target_node" => None,
                    _ => Some((key, comparable(value))),
                })
                .collect(),
        ),
        other => other,
    }
}
