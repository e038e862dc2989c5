//! Media that travel: made by the appliance or by an unmodified Linux, of every sector size and kind of label, written by
//! both in turn, judged by each of them; and `list` beside `ndctl list`, for the same media.
//!
//! Four boots: the appliance makes and writes its media; Linux judges and writes them, and makes its own; the appliance
//! judges and writes all of them; Linux judges all again, and puts file systems on some.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use tests::dimm::{Dimm, LABEL_BYTES, MIB};
use tests::golden;
use tests::linux::exercise::{Exercise, PLACE, places};
use tests::linux::{Job, Make, Phase, Report, judge, sample};
use tests::machine::{ApplianceBuilder, Running};

/// All sizes of sectors that a BTT can have.
const SIZES: [u64; 7] = [512, 520, 528, 4096, 4104, 4160, 4224];
/// The slot of the NVDIMM that keeps the configuration in a namespace of its own.
const KEEPS_CONFIG: usize = 1;
/// What a namespace of each size takes where several share a DIMM.
const SHARE: u64 = 32 * MIB;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    Appliance,
    Linux,
}

/// A medium, and what must be read from it.
struct Medium {
    maker: Maker,
    /// The slot of its NVDIMM.
    slot: usize,
    /// The options that make its namespace.
    options: String,
    /// Bytes of a sector, metadata bytes included.
    sector: u64,
    /// What the making of it was answered.
    made: Value,
    /// LBA → the byte that fills its data, and whether it fills its metadata bytes, too.
    written: BTreeMap<u64, (u8, bool)>,
}

impl Medium {
    fn new(maker: Maker, slot: usize, sector: u64, options: &str) -> Self {
        Self { maker, slot, options: options.to_owned(), sector, made: Value::Null, written: BTreeMap::new() }
    }

    /// The bytes of a sector that Linux shows.
    fn data_bytes(&self) -> u64 {
        if self.sector < 4096 { 512 } else { 4096 }
    }

    fn sectors(&self) -> u64 {
        self.made["size"].as_u64().unwrap() / self.data_bytes()
    }

    /// The BTT's uuid.
    fn uuid(&self) -> &str {
        let uuid = if self.maker == Maker::Appliance { &self.made["btt"]["uuid"] } else { &self.made["uuid"] };
        uuid.as_str().unwrap()
    }

    fn fill(&mut self, appliance: &mut Running, dev: &str, lba: u64, byte: u8) {
        appliance.ask(&format!("write {dev} {lba} --fill {byte}"));
        self.written.insert(lba, (byte, true));
    }

    /// What an exercise by Linux leaves.
    fn exercised(&mut self, exercise: Exercise) {
        for run in exercise.runs(self.sectors()) {
            self.written.extend((run.lba..).zip(run.bytes.into_iter().map(|byte| (byte, false))));
        }
    }

    /// What Linux must read.
    fn digest(&self, lba: u64) -> String {
        let byte = self.written.get(&lba).map_or(0, |(byte, _)| *byte);
        golden::digest(&vec![byte; usize::try_from(self.data_bytes()).unwrap()])
    }

    /// Compares what the appliance read: data, and metadata bytes where only it has written them.
    fn assert_reads(&self, lba: u64, found: &[u8]) {
        let (byte, whole) = self.written.get(&lba).copied().unwrap_or((0, true));
        let judged = if whole { self.sector } else { self.data_bytes() };
        assert_eq!(found.len() as u64, self.sector);
        let same = found[..usize::try_from(judged).unwrap()].iter().all(|&found| found == byte);
        assert!(same, "{:?}, LBA {lba} is not filled with {byte:#x}: {found:x?}", self.made);
    }
}

/// The media of every size and kind of label, made by either side, from this slot on; their DIMMs.
fn matrix(mut slot: usize) -> (Vec<Medium>, Vec<Dimm>) {
    let (mut media, mut dimms) = (Vec::new(), Vec::new());
    let makers = [(Maker::Appliance, "-m sector"), (Maker::Linux, "-m sector")];
    for (maker, options) in makers {
        for sector in SIZES {
            media.push(Medium::new(maker, slot, sector, &format!("{options} -l {sector}")));
            dimms.push(Dimm::blank(SHARE));
            slot += 1;
        }
    }
    // The two makers share the DIMMs that have labels: 1.2, then 1.1.
    for slot in [slot, slot + 1] {
        let of_all_sizes = |(maker, options)| {
            SIZES.map(|sector| Medium::new(maker, slot, sector, &format!("{options} -l {sector} -s {SHARE}")))
        };
        media.extend(makers.into_iter().flat_map(of_all_sizes));
        dimms.push(Dimm::blank(2 * SIZES.len() as u64 * SHARE + LABEL_BYTES).with_labels());
    }
    (media, dimms)
}

/// The region on the DIMM in a slot. QEMU's handle is the slot and 1; its tables are in an order of their own.
fn region_in_slot(bus: &Value, slot: usize) -> String {
    let named = |array: &Value, holds: &dyn Fn(&Value) -> bool| {
        array.as_array().unwrap().iter().find(|one| holds(one)).unwrap()["dev"].as_str().unwrap().to_owned()
    };
    let dimm = named(&bus["dimms"], &|dimm| dimm["handle"] == slot + 1);
    named(&bus["regions"], &|region| region["mappings"][0]["dimm"] == dimm.as_str())
}

fn dimm_in_slot(bus: &Value, slot: usize) -> &str {
    let dimm = bus["dimms"].as_array().unwrap().iter().find(|dimm| dimm["handle"] == slot + 1).unwrap();
    dimm["dev"].as_str().unwrap()
}

#[test]
fn media_travel_between_the_appliance_and_linux_and_both_find_them_sound_and_list_them_alike() {
    // The first slot is the labelled image's: its labels name the DIMM by the serial number that QEMU gives the slot.
    let mut dimms =
        vec![golden::named("l12-two").unpack(), Dimm::blank(160 * MIB).with_labels(), Dimm::blank(48 * MIB)];
    let (mut media, more) = matrix(dimms.len());
    dimms.extend(more);
    let (labels_1_2, labels_1_1) = (dimms.len() - 2, dimms.len() - 1);
    let machine = || dimms.iter().fold(ApplianceBuilder::new(), ApplianceBuilder::dimm);
    media.push(Medium::new(Maker::Appliance, 0, 512, "-l 512 -n remade"));
    media.push(Medium::new(Maker::Appliance, 1, 4096, "-s 64M -n first"));
    let mut loaded = Medium::new(Maker::Appliance, 2, 4096, "-m sector");

    // The appliance makes and writes its own: overwrites, too, and a load on all CPUs at the end.
    let mut appliance = machine().boot();
    let found = appliance.ask("list -BDRi")["result"][0].clone();
    let remade = region_in_slot(&found, 0).replace("region", "namespace") + ".1";
    appliance.ask(&format!("disable-namespace {remade}"));
    appliance.ask(&format!("destroy-namespace {remade}"));
    appliance.ask(&format!("init-labels {}", dimm_in_slot(&found, labels_1_2)));
    appliance.ask(&format!("init-labels {} -V 1.1", dimm_in_slot(&found, labels_1_1)));
    for medium in media.iter_mut().chain([&mut loaded]).filter(|medium| medium.maker == Maker::Appliance) {
        let region = region_in_slot(&found, medium.slot);
        medium.made = appliance.ask(&format!("create-namespace -r {region} {}", medium.options));
    }
    for (number, medium) in (0_u8..).zip(&mut media).filter(|(_, medium)| medium.maker == Maker::Appliance) {
        let dev = medium.made["blockdev"].as_str().unwrap().to_owned();
        for version in 1..=2_u8 {
            for (at, lba) in (0_u8..).zip(sample(medium.sectors())).filter(|(at, _)| at % 4 != 1) {
                medium.fill(&mut appliance, &dev, lba, version * 16 + at + 64 * (number % 3));
            }
        }
    }
    appliance.ask(&format!("bench {} --seconds 1", loaded.made["blockdev"].as_str().unwrap()));
    // In front of each BTT without labels, and in a namespace of its own.
    appliance.ask("config set console text");
    let kept = appliance.ask(&format!("config save -r {}", region_in_slot(&found, KEEPS_CONFIG)))["copies"].clone();
    let kept = kept.as_array().unwrap().len();
    assert_eq!(kept, SIZES.len() + 2);
    let arenas_of = |medium: &Medium| match medium.maker {
        Maker::Appliance => appliance.ask(&format!("arenas {}", medium.made["dev"]))["arenas"].clone(),
        Maker::Linux => Value::Null,
    };
    let our_arenas: Vec<Value> = media.iter().map(arenas_of).collect();
    appliance.power_off();

    // Linux judges them, writes them, and makes its own.
    let slots: Vec<usize> = (0..dimms.len()).filter(|slot| *slot != loaded.slot).collect();
    let exercises: Vec<Exercise> = slots.iter().map(|&slot| Exercise { slot, writes: 60, seed: slot as u64 }).collect();
    let makes = media.iter().filter(|medium| medium.maker == Maker::Linux);
    let makes = makes.map(|medium| Make { slot: medium.slot, options: medium.options.clone() }).collect();
    let job = Job { dimms: dimms.len(), makes, sample: true, exercises, ..Job::default() };
    let mut reports = judge(&dimms.iter().collect::<Vec<_>>(), &job, env!("CARGO_BIN_EXE_linux-guest"));
    for report in &reports {
        if let Report::Made { slot, options, made } = report {
            let is_it = |medium: &&mut Medium| {
                medium.maker == Maker::Linux && medium.slot == *slot && medium.options == *options
            };
            let medium = media.iter_mut().find(is_it).unwrap();
            medium.made = made.clone().unwrap_or_else(|why| panic!("Linux makes no namespace {options}: {why}"));
        }
    }
    let ours = media.iter().filter(|medium| medium.maker == Maker::Appliance).count();
    // The other namespace of the labelled image, and the loaded one.
    let judged = assert_judged(&reports, &media, &job);
    assert_eq!(judged, Judged { before: ours + 2, after: media.len() + 2, used: media.len(), raw: 2 });
    reports.retain(|report| matches!(report, Report::Btt { .. }));
    for report in &reports {
        if let Report::Btt { uuid, arenas, .. } = report
            && let Some(index) = media.iter().position(|medium| medium.uuid() == uuid)
            && our_arenas[index] != Value::Null
        {
            assert_eq!(our_arenas[index], as_arenas(arenas), "{uuid}");
        }
    }

    // The appliance judges and writes all of them.
    for medium in &mut media {
        medium.exercised(Exercise { slot: medium.slot, writes: 60, seed: medium.slot as u64 });
    }
    let mut appliance = machine().boot();
    let config = appliance.ask("config");
    assert_eq!((&config["keys"][0]["key"], &config["copies"].as_array().unwrap().len()), (&"console".into(), &kept));
    assert!(config["copies"].as_array().unwrap().iter().all(|copy| copy["saved"] == 1 && copy["is_whole"] == true));
    let listed = appliance.ask("list -N")["result"].clone();
    for medium in &mut media {
        let named = |listed: &&Value| listed["btt"]["uuid"] == medium.uuid();
        let listed = listed.as_array().unwrap().iter().find(named).unwrap_or_else(|| panic!("{}", medium.made));
        assert_eq!(
            (listed["size"].as_u64(), &listed["sector_size"]),
            (medium.made["size"].as_u64(), &medium.sector.into())
        );
        let (name, dev) = (listed["dev"].as_str().unwrap(), listed["blockdev"].as_str().unwrap());
        let findings = appliance.ask(&format!("check-namespace {name}"))["findings"].clone();
        assert_eq!(findings, Value::Array(Vec::new()), "{}", medium.made);
        let sampled = sample(medium.sectors()).into_iter().map(|lba| (lba, 1));
        for (lba, count) in places(medium.sectors()).map(|lba| (lba, PLACE)).into_iter().chain(sampled) {
            let reply = appliance.ask(&format!("read {dev} {lba} {count}"));
            let data = STANDARD.decode(reply["data"].as_str().unwrap()).unwrap();
            let sectors = data.chunks(usize::try_from(medium.sector).unwrap());
            assert_eq!(sectors.len() as u64, count);
            (lba..).zip(sectors).for_each(|(lba, found)| medium.assert_reads(lba, found));
        }
        for (at, lba) in (0_u8..).zip(sample(medium.sectors())).filter(|(at, _)| at % 3 == 0) {
            medium.fill(&mut appliance, dev, lba, 0xa0 + at);
        }
    }
    let verify = format!("bench {} --seconds 0 --verify", loaded.made["blockdev"].as_str().unwrap());
    let verify = appliance.ask(&verify)["verify"].clone();
    let broken = ["torn", "misplaced", "unreadable", "foreign"].map(|kind| verify[kind].as_u64().unwrap());
    assert!(broken == [0; 4] && verify["good"].as_u64() > Some(0), "{verify}");
    let lists: Vec<String> =
        ["-N", "-R", "-D", "-BDRN", "-vN", "-vvv", "-NRi", "-NM", "-NR -r 0"].map(str::to_owned).into();
    let ours: BTreeMap<String, Value> = lists
        .iter()
        .map(|options| (options.clone(), appliance.ask(&format!("list {options}"))["result"].clone()))
        .collect();
    appliance.power_off();

    // Linux judges all of them again.
    let file_systems = (0..dimms.len()).collect();
    let job = Job { dimms: dimms.len(), sample: true, file_systems, lists, ..Job::default() };
    let reports = judge(&dimms.iter().collect::<Vec<_>>(), &job, env!("CARGO_BIN_EXE_linux-guest"));
    let judged = assert_judged(&reports, &media, &job);
    assert_eq!(judged, Judged { before: media.len() + 2, after: media.len() + 2, used: media.len(), raw: 2 });
    let mut differences = Vec::new();
    for report in &reports {
        if let Report::List { options, list } = report {
            compare(options, &ours[options], list, &mut differences);
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// How much Linux judged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judged {
    /// Namespaces that ndctl checked before Linux touched them.
    before: usize,
    /// Namespaces that ndctl checked in the end.
    after: usize,
    /// Media whose sectors Linux read.
    used: usize,
    /// Namespaces of the configuration, before and after.
    raw: usize,
}

/// Nothing is wrong in what Linux reports, and all is there. (Exercises and file systems come after the reads.)
fn assert_judged(reports: &[Report], media: &[Medium], job: &Job) -> Judged {
    let mut judged = Judged::default();
    let mut current: Option<&Medium> = None;
    let (mut read, mut exercised, mut file_systems) = (0, 0, 0);
    for report in reports {
        match report {
            Report::Check { phase, slot, namespace, ok, text } => {
                let blank = *phase == Phase::Before && job.makes.iter().any(|make| make.slot == *slot);
                if blank && text.contains("Unable to recover any BTT info blocks") {
                    continue;
                }
                // The configuration's namespace, which is raw: ndctl finds nothing in it.
                if *slot == KEEPS_CONFIG && text.contains("This may not be a sector mode namespace") {
                    assert!(!ok);
                    judged.raw += 1;
                    continue;
                }
                // ndctl does not know BTTs whose blocks are larger than their sectors.
                let unknown = media.iter().any(|medium| {
                    medium.slot == *slot
                        && !medium.sector.is_multiple_of(64)
                        && text.contains("Problem parsing arena[0]")
                });
                assert!(*ok || unknown, "ndctl check-namespace {namespace} in slot {slot}, {phase:?}: {text}");
                *(if *phase == Phase::Before { &mut judged.before } else { &mut judged.after }) += 1;
            }
            Report::Btt { slot, uuid, sector_size, size, .. } => {
                // What is read next is read from it.
                current = media.iter().find(|medium| medium.made != Value::Null && medium.uuid() == uuid);
                if let Some(medium) = current {
                    assert_eq!((medium.slot, medium.sector), (*slot, u64::from(*sector_size)));
                    assert_eq!(medium.made["size"], *size);
                    judged.used += 1;
                }
            }
            Report::Sectors { read: at, data } => {
                let Some(medium) = current else { continue };
                assert_eq!(data, &Ok(medium.digest(at.lba)), "{:?}, LBA {}", medium.made, at.lba);
                read += 1;
            }
            Report::Exercised { error, exercise } => {
                assert_eq!(error, &None, "{exercise:?}");
                exercised += 1;
            }
            Report::FileSystem { slot, error } => {
                assert_eq!(error, &None, "slot {slot}");
                file_systems += 1;
            }
            Report::Trouble(what) => panic!("{what}"),
            Report::NoBtt { .. }
            | Report::Release(_)
            | Report::Made { .. }
            | Report::Written { .. }
            | Report::List { .. }
            | Report::End => {}
        }
    }
    assert_eq!(read, media.iter().map(|medium| sample(medium.sectors()).len()).sum::<usize>());
    // The other namespace of the labelled image takes part, and the loaded one, where its slot is named.
    assert_eq!(exercised, if job.exercises.is_empty() { 0 } else { media.len() + 1 });
    assert_eq!(file_systems, if job.file_systems.is_empty() { 0 } else { media.len() + 2 });
    judged
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
