//! In the image, under TCG: the appliance's `bench` beside the same loop on an unmodified Linux with nd_btt, in turns. And
//! how long the appliance takes to attach a namespace.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::linux::Consumer;
use tests::machine::{ApplianceBuilder, Running};
use tests::workspace;

use crate::beside::{Effort, SECTORS};
use crate::figure::{Figure, Point, Results};

/// The numbers of CPUs of either machine.
pub(crate) const CPUS: [u32; 2] = [1, 2];
/// The two loads: their names, and how many of a hundred operations write.
pub(crate) const MIXES: [(&str, u32); 2] = [("randwrite", 100), ("randread", 0)];
/// The size of each NVDIMM, MiB.
const MIB: u64 = 128;
/// The sizes of what is attached, MiB, with their names.
pub(crate) const ATTACHED: [(&str, u64); 2] = [("256 MiB", 256), ("1.5 TiB", 3 << 19)];

/// How long it takes to attach a namespace.
#[derive(Debug)]
pub(crate) struct Attach {
    /// Which one.
    pub(crate) what: String,
    /// In microseconds.
    pub(crate) took_us: Figure,
    /// How long it may take, if that is judged.
    pub(crate) most_us: Option<f64>,
}

/// The longest that it may take to attach a namespace of any size, us.
const ATTACH_US_MAX: f64 = 300.0;

/// What was measured in the image.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// Thousands of sectors a second.
    pub(crate) results: Results,
    /// What an operation is made of: nanoseconds, by the name of the part and the size of a sector.
    pub(crate) parts: BTreeMap<(String, u32), f64>,
    /// How long it takes to attach.
    pub(crate) attach: Vec<Attach>,
    /// The appliance's choice of copies, with its times.
    pub(crate) copies: String,
}

/// A folder in memory that goes when we do.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = Path::new("/dev/shm").join(format!("untorn-speed-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("/dev/shm takes files");
        Self(folder)
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// An NVDIMM's file of the appliance's, and of the Linux's.
    fn dimm(&self, of: &str, sector: u32) -> PathBuf {
        self.at(format!("{of}-{sector}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures all of it. Loads last a second.
///
/// # Errors
/// A load had errors, or something printed what it must not.
///
/// # Panics
/// When a machine does not do what machines do.
pub(crate) fn measure(effort: Effort) -> Result<Image, Box<dyn Error>> {
    let folder = Folder::new();
    let mut image = Image::default();
    make_media(&folder);
    for cpus in CPUS {
        let mut appliance = boot(&folder, cpus);
        let last = appliance.boot_log.iter().rev().find_map(|line| line.split_once("persist: "));
        image.copies = last.map(|(_, choice)| choice.trim().to_owned()).unwrap_or_default();
        let disks = disks(&mut appliance)?;
        let dimms = SECTORS.map(|sector| folder.dimm("linux", sector));
        let dimms: Vec<&Path> = dimms.iter().map(PathBuf::as_path).collect();
        let program = workspace::target().join("release/block-bench");
        let mut linux = Consumer::boot_on(&dimms, &program, cpus.try_into()?, &folder.at("ram"), 512);
        let devices = devices(&mut linux)?;
        for round in 0..effort.rounds {
            for sector in SECTORS {
                for (mix, writes) in MIXES {
                    let ours = |appliance: &mut Running| ours(appliance, &disks[&sector], writes);
                    let theirs = |linux: &mut Consumer| theirs(linux, &devices[&sector], sector, writes);
                    // The first changes, so that what grows or shrinks with time hits both.
                    let (our, their) = if round % 2 == 0 {
                        let our = ours(&mut appliance)?;
                        (our, theirs(&mut linux)?)
                    } else {
                        let their = theirs(&mut linux)?;
                        (ours(&mut appliance)?, their)
                    };
                    image.results.add(Point::new("untorn", mix, sector, cpus), round, our);
                    image.results.add(Point::new("Linux nd_btt", mix, sector, cpus), round, their);
                }
            }
            eprintln!("image, {cpus} CPUs: round {} of {}", round + 1, effort.rounds);
        }
        if cpus == 1 {
            for sector in SECTORS {
                for line in linux.run(&format!("program parts --sector {sector}")).lines() {
                    let (name, ns) = line.split_once(',').ok_or_else(|| format!("no part: {line}"))?;
                    image.parts.insert((name.into(), sector), ns.parse()?);
                }
            }
        }
        drop(linux);
        appliance.power_off();
    }
    image.attach = attach(&folder, effort.rounds)?;
    Ok(image)
}

fn boot(folder: &Folder, cpus: u32) -> Running {
    let dimms = SECTORS.map(|sector| format!("{},size={MIB}M", folder.dimm("untorn", sector).display()));
    dimms.iter().fold(ApplianceBuilder::new().cpus(cpus), |machine, dimm| machine.nvdimm(dimm)).boot()
}

/// Makes a BTT for each size of sectors, all sectors of it written with the pattern, and a copy for the Linux.
fn make_media(folder: &Folder) {
    let mut appliance = boot(folder, 2);
    for (region, sector) in SECTORS.iter().enumerate() {
        appliance.ask(&format!("create-namespace -r region{region} -l {sector}"));
        // Runs anywhere: after so many no sector is left out but by an accident of one in thousands.
        appliance.ask(&format!("bench pmem{region}s --seconds 3 --run 32"));
    }
    appliance.power_off();
    // QEMU's tables are in an order of their own, so a file may have got the other one's sectors; either way there is one
    // of each, and all later look at the sizes.
    for sector in SECTORS {
        fs::copy(folder.dimm("untorn", sector), folder.dimm("linux", sector)).expect("/dev/shm has room");
    }
}

/// The appliance's disk for each size of sectors.
fn disks(appliance: &mut Running) -> Result<BTreeMap<u32, String>, Box<dyn Error>> {
    let list = appliance.ask("list -N");
    let namespaces = list["result"].as_array().ok_or("list has a result")?;
    let disk = |namespace: &Value| {
        let sector = u32::try_from(namespace["sector_size"].as_u64()?).ok()?;
        Some((sector, namespace["blockdev"].as_str()?.to_owned()))
    };
    complete(namespaces.iter().filter_map(disk).collect())
}

/// The Linux's device for each size of sectors.
fn devices(linux: &mut Consumer) -> Result<BTreeMap<u32, String>, Box<dyn Error>> {
    let shown = "for i in $(seq 100); do [ -e /sys/block/pmem0s ] && [ -e /sys/block/pmem1s ] && break; sleep 0.1; done; \
                 for disk in /sys/block/pmem*s; do echo $(cat $disk/queue/logical_block_size) ${disk##*/}; done";
    let text = linux.run(shown);
    let device = |line: &str| {
        let (sector, name) = line.split_once(' ')?;
        Some((sector.parse().ok()?, format!("/dev/{name}")))
    };
    complete(text.lines().filter_map(device).collect())
}

fn complete(found: BTreeMap<u32, String>) -> Result<BTreeMap<u32, String>, Box<dyn Error>> {
    if SECTORS.iter().all(|sector| found.contains_key(sector)) {
        Ok(found)
    } else {
        Err(format!("only {found:?}").into())
    }
}

/// Thousands of sectors a second.
fn ours(appliance: &mut Running, disk: &str, writes: u32) -> Result<f64, Box<dyn Error>> {
    let reply = appliance.ask(&format!("bench {disk} --seconds 1 --mix {writes} -f"));
    let number = |key: &str| reply[key].as_f64().ok_or_else(|| format!("bench has no {key}: {reply}"));
    if number("errors")? != 0.0 {
        return Err(format!("bench had errors: {reply}").into());
    }
    Ok(number("ops")? / number("seconds")? / 1e3)
}

fn theirs(linux: &mut Consumer, device: &str, sector: u32, writes: u32) -> Result<f64, Box<dyn Error>> {
    let text = linux.run(&format!("program load {device} --sector {sector} --seconds 1 --mix {writes}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let [ops, seconds, "0"] = words[..] else { return Err(format!("the Linux's load: {text}").into()) };
    Ok(ops.parse::<f64>()? / seconds.parse::<f64>()? / 1e3)
}

/// How long it takes to attach namespaces, as the log of so many boots has it. There are two of each size: in the first that
/// is attached at all the emulator translates the code, so of each size the last one counts.
fn attach(folder: &Folder, rounds: usize) -> Result<Vec<Attach>, Box<dyn Error>> {
    let mut machine = ApplianceBuilder::new();
    let nvdimms: Vec<String> = (0..2)
        .flat_map(|copy| ATTACHED.map(|(_, mib)| (folder.at(format!("attach-{mib}-{copy}")), mib)))
        .map(|(path, mib)| format!("{},size={mib}M", path.display()))
        .collect();
    for nvdimm in &nvdimms {
        machine = machine.nvdimm(nvdimm);
    }
    let mut appliance = machine.boot();
    for region in 0..nvdimms.len() {
        appliance.ask(&format!("create-namespace -r region{region}"));
    }
    appliance.power_off();
    let (mut first, mut last) = (Vec::new(), ATTACHED.map(|_| Vec::new()));
    for _ in 0..rounds {
        let machine = nvdimms.iter().fold(ApplianceBuilder::new(), |machine, nvdimm| machine.nvdimm(nvdimm));
        let appliance = machine.boot();
        let told: Vec<(u64, f64)> = appliance.boot_log.iter().filter_map(|line| attached(line)).collect();
        appliance.power_off();
        first.push(told.first().ok_or("the log does not tell how long it took to attach")?.1);
        for ((_, mib), took) in ATTACHED.iter().zip(&mut last) {
            // A block is 4096 bytes, and not all are sectors.
            let of_size = told.iter().rfind(|(sectors, _)| (mib * 200..mib * 256).contains(sectors));
            took.push(of_size.ok_or_else(|| format!("no namespace of {mib} MiB is in the log: {told:?}"))?.1);
        }
    }
    let figure = |took: Vec<f64>| Figure::of(took.into_iter()).ok_or("there was no round");
    let what = "the first of a boot, whose code is translated meanwhile".into();
    let mut all = vec![Attach { what, took_us: figure(first)?, most_us: None }];
    for ((name, _), took) in ATTACHED.iter().zip(last) {
        all.push(Attach { what: (*name).into(), took_us: figure(took)?, most_us: Some(ATTACH_US_MAX) });
    }
    Ok(all)
}

/// The sectors of a namespace that was attached, and how long it took, us: `…: pmem0s, 65208 sectors of …; looked at in 123 us`.
fn attached(line: &str) -> Option<(u64, f64)> {
    let (before, took) = line.split_once("; looked at in ")?;
    let (sectors, _) = before.split_once(" sectors of ")?;
    let sectors = sectors.rsplit(' ').next()?.parse().ok()?;
    Some((sectors, took.trim().strip_suffix(" us")?.parse().ok()?))
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn a_line_of_the_log_tells_what_was_attached_and_how_long_it_took() {
        let line = "namespace0.0: pmem0s, 65208 sectors of 4096 bytes, 2 lanes; looked at in 3541 us";
        assert_eq!(attached(line), Some((65208, 3541.0)));
        assert_eq!(attached("namespace0.0: no BTT, blank; looked at in 60753 us"), None);
    }
}
