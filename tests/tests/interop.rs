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
    /// The options that make its namespace.
    made_by: &'static str,
    sector: u64,
    /// What `create-namespace` answered.
    made: Value,
    /// LBA → the byte that fills it.
    written: BTreeMap<u64, u8>,
}

impl Medium {
    fn new(sector: u64, made_by: &'static str) -> Self {
        Self { made_by, sector, made: Value::Null, written: BTreeMap::new() }
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
    let dimms = [labelled.unpack(), Dimm::blank(64 * MIB), Dimm::blank(32 * MIB), Dimm::blank(48 * MIB)];
    let machine = || dimms.iter().fold(Machine::new(), Machine::dimm);
    let mut media = [Medium::new(4096, "-l 4096"), Medium::new(512, "-l 512"), Medium::new(4096, "-m sector")];

    // The appliance makes and writes them: overwrites, too, and a load on all CPUs at the end.
    let mut appliance = machine().boot();
    let found = appliance.ask("list -BDRi")["result"][0].clone();
    for (slot, medium) in (1..).zip(&mut media) {
        let region = region_in_slot(&found, slot);
        medium.made = appliance.ask(&format!("create-namespace -r {region} {}", medium.made_by));
        // The last one is for the load.
        let places = if slot < 3 { places(medium.sectors()) } else { Vec::new() };
        for version in 1..=3_u8 {
            for (at, &lba) in places.iter().enumerate().filter(|(at, _)| at % 4 != 1) {
                medium.fill(&mut appliance, lba, version * 16 + u8::try_from(at).unwrap());
            }
        }
    }
    let loaded = media[2].made["blockdev"].as_str().unwrap().to_owned();
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
    let mut job = Job { dimms: 4, lists, ..Job::default() };
    for (slot, medium) in (1..).zip(&media[..2]) {
        job.reads.extend(places(medium.sectors()).into_iter().map(|lba| Read { slot, lba }));
        job.writes.extend([(0, 0xc1), (2, 0xc2), (medium.sectors() - 1, 0xc3)].map(|(lba, byte)| Write {
            slot,
            lba,
            byte,
        }));
    }
    let reports = judge(&dimms.each_ref(), &job, env!("CARGO_BIN_EXE_linux-guest"));
    let mut checked = BTreeMap::new();
    let mut attached = 0;
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
                if let Some(medium) = slot.checked_sub(1) {
                    let made = &media[medium].made;
                    assert_eq!(made["btt"]["uuid"], uuid.as_str());
                    assert_eq!((&made["sector_size"], &made["size"]), (&(*sector_size).into(), &(*size).into()));
                    assert_eq!(our_arenas[medium], as_arenas(arenas), "slot {slot}");
                }
            }
            Report::Sector { slot, lba, data } => {
                let medium = &media[slot - 1];
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
    assert_eq!((checked.get(&true), checked.get(&false), attached), (Some(&5), Some(&5), 5), "{reports:?}");
    assert_eq!(read, job.reads.len());
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));

    // The appliance reads what Linux wrote.
    let mut appliance = machine().boot();
    for write in &job.writes {
        let medium = &mut media[write.slot - 1];
        medium.written.insert(write.lba, write.byte);
    }
    for medium in &media[..2] {
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
