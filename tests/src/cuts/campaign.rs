//! One cut under `bench`: a machine is started on a copy of a fresh medium, loaded, and cut; then the judges look at what
//! is left. (Those of a consumer's cuts are the same.)
//!
//! A seed chooses everything that can be chosen: sectors, CPUs, the load, when and how the cut comes. The instruction at
//! which it strikes is chance: who replays a seed gets the same plan, and not the same instruction.

use std::fmt;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use btt::bytes::SectorsMut;
use btt::check::check;
use btt::file::FileMedium;
use btt::info_block::Version;
use btt::{Btt, CpuIndex, ExternalLba, Placement};
use host::deadline::Deadline;
use host::session::ReplyForm;
use nix::sys::signal::Signal;
use service::pattern::Choices;
use uuid::Uuid;

use super::history::{self, Load};
use super::reader::{self, ArenaContents, metadata_at, under_way};
use crate::dimm::{Dimm, MIB};
use crate::machine::{ApplianceBuilder, Running};
use crate::monitor;

pub(super) const DIMM_BYTES: u64 = 32 * MIB;
const PLACEMENT: Placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };
const WINDOW_BLOCKS: u32 = 1 << 20;
/// How often a machine is stopped and let go on, to see whether its flog is in the state that is wanted. Not for how long: where
/// much else runs, each look takes longer.
const LOOKS: u32 = 2000;

/// How the cut comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// SIGKILL, some milliseconds after the load has begun.
    Kill,
    /// The machine's reset line; it comes up again, and recovers.
    Reset,
    /// SIGKILL, when a write is in the flog and not in the map.
    Pending,
    /// SIGKILL, when two or more are.
    Several,
    /// SIGKILL, when a flog record is begun and not committed.
    Begun,
}

impl How {
    pub(super) const ALL: [Self; 5] = [Self::Kill, Self::Reset, Self::Pending, Self::Several, Self::Begun];

    /// Whether a flog is in the state that is waited for, with so many writes that are not in the map, and so many
    /// records that are not committed.
    #[must_use]
    pub fn holds(self, pending: usize, begun: usize) -> bool {
        match self {
            Self::Kill | Self::Reset => true,
            Self::Pending => pending > 0,
            Self::Several => pending > 1,
            Self::Begun => begun > 0,
        }
    }
}

/// The choices that a seed stands for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    sector: u64,
    cpus: u32,
    load: Load,
    after: Duration,
    /// How its cut comes.
    pub how: How,
}

impl Plan {
    /// The plan of a seed. Five seeds that follow each other have five kinds of cut.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut choices = Choices::new(seed, 1);
        let mut one_of = |numbers: &[u64]| numbers[usize::try_from(choices.below(numbers.len() as u64)).unwrap_or(0)];
        let (sector, run) = (one_of(&[512, 512, 4096]), one_of(&[1, 1, 4, 8, 32]));
        let (cpus, write_percent) = (one_of(&[1, 1, 2]), one_of(&[100, 100, 70]));
        let after = Duration::from_millis(one_of(&[0, 20, 50, 100, 200]) + choices.below(50));
        let how = How::ALL[usize::try_from(seed % 5).unwrap_or(0)];
        // A run of one sector on one CPU never has several sectors under way.
        let run = if how == How::Several && cpus == 1 { run.max(4) } else { run };
        let load = Load { seed, write_percent, run: u32::try_from(run).unwrap_or(1) };
        Self { seed, sector, cpus: u32::try_from(cpus).unwrap_or(1), load, after, how }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpus, run, percent) = (self.cpus, self.load.run, self.load.write_percent);
        write!(f, "seed {}: {:?} after {} ms; {cpus} CPUs, ", self.seed, self.how, self.after.as_millis())?;
        write!(f, "runs of {run} sectors of {} bytes, {percent} % writes", self.sector)
    }
}

/// What a cut left.
#[derive(Debug)]
pub struct Left {
    /// The medium, as the cut left it.
    pub dimm: Dimm,
    /// What the strict reader found.
    pub found: ArenaContents,
    /// How many runs had been written, or begun.
    pub version: u64,
}

/// Fresh media, each made once by the appliance.
#[derive(Debug)]
pub struct Media([Dimm; 2]);

impl Media {
    /// Makes them: with sectors of 512 bytes, and of 4096.
    #[must_use]
    pub fn new() -> Self {
        let dimms = [Dimm::blank(DIMM_BYTES), Dimm::blank(DIMM_BYTES)];
        let mut appliance = dimms.iter().fold(ApplianceBuilder::new(), ApplianceBuilder::dimm).boot();
        appliance.ask("create-namespace -r region0 -l 512");
        appliance.ask("create-namespace -r region1 -l 4096");
        appliance.power_off();
        let is_512 = |dimm: &Dimm| reader::read(&image(dimm)).expect("a fresh BTT").sector_bytes == 512;
        let [one, two] = dimms;
        // QEMU's tables are in an order of their own.
        Self(if is_512(&one) { [one, two] } else { [two, one] })
    }

    fn copy(&self, sector: u64) -> Dimm {
        copy(&self.0[usize::from(sector == 4096)])
    }
}

impl Default for Media {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn copy(dimm: &Dimm) -> Dimm {
    let copy = Dimm::blank(0);
    fs::copy(dimm.path(), copy.path()).expect("an image is copied");
    copy
}

pub(super) fn image(dimm: &Dimm) -> Vec<u8> {
    fs::read(dimm.path()).expect("an image is read")
}

/// Cuts as planned, and judges what is left: by the strict reader, by the load's history, and by `btt`.
///
/// # Errors
/// What is wrong with it, with where the image is kept.
///
/// # Panics
/// When the machine does not do what machines do.
pub fn cut(media: &Media, plan: &Plan) -> Result<Left, String> {
    let dimm = media.copy(plan.sector);
    let socket = monitor::Socket::new();
    let monitor = socket.arguments();
    let machine = ApplianceBuilder::new().cpus(plan.cpus).dimm(&dimm).qemu(&[&monitor[0], &monitor[1]]);
    let mut appliance = machine.boot();
    let Load { seed, write_percent, run } = plan.load;
    let load = format!("bench pmem0s --seconds 100 --seed {seed} --mix {write_percent} --run {run}");
    let outcome = appliance.appliance().command(&load, Deadline::after(plan.after));
    assert!(outcome.is_err(), "the load ended by itself");
    if plan.how == How::Reset {
        socket.connect().reset();
        appliance.enter(ReplyForm::Json);
        let findings = appliance.ask("check-namespace namespace0.0")["findings"].clone();
        if findings.as_array().is_none_or(|findings| !findings.is_empty()) {
            return Err(kept(
                &dimm,
                &format!("seed-{}", plan.seed),
                &format!("{plan}: the appliance finds {findings}"),
            ));
        }
    } else {
        wait_for(plan.how, &appliance, &[&dimm]);
    }
    appliance.cut();
    let load = |found: &ArenaContents, image: &[u8]| {
        history::judge(plan.load, plan.cpus, 0..found.sectors, 0, |lba| found.sector(image, lba))
    };
    match judge(&dimm, plan.cpus, load) {
        Ok((found, version)) => Ok(Left { dimm, found, version }),
        Err(why) => Err(kept(&dimm, &format!("seed-{}", plan.seed), &format!("{plan}: {why}"))),
    }
}

/// Stops the machine now and then, until a flog of it is as wanted; then it stays stopped. Not every state comes up on
/// every machine: the cut then strikes where it is.
pub(super) fn wait_for(how: How, appliance: &Running, dimms: &[&Dimm]) {
    if how.holds(0, 0) {
        return;
    }
    let mut images: Vec<_> = dimms.iter().map(|dimm| (dimm.file(), image(dimm))).collect();
    let mut is_as_wanted = || {
        images.iter_mut().any(|(file, image)| {
            // All metadata that change are behind the data.
            let looked = metadata_at(image).and_then(|at| {
                file.read_exact_at(&mut image[at..], at as u64).map_err(|error| error.to_string())?;
                under_way(image)
            });
            looked.is_ok_and(|(pending, begun)| how.holds(pending, begun))
        })
    };
    for look in 1..=LOOKS {
        appliance.signal_machine(Signal::SIGSTOP);
        // Its threads may stop a little later.
        let holds = is_as_wanted() && {
            std::thread::sleep(Duration::from_millis(2));
            is_as_wanted()
        };
        if holds || look == LOOKS {
            return;
        }
        appliance.signal_machine(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An image that is not sound stays.
pub(super) fn kept(dimm: &Dimm, name: &str, why: &str) -> String {
    let path = crate::workspace::folder("cuts").join(format!("{name}.img"));
    match fs::copy(dimm.path(), &path) {
        Ok(_) => format!("{why} (kept: {})", path.display()),
        Err(error) => format!("{why} (not kept: {error})"),
    }
}

/// Judges an image that a cut left, and leaves it as it is: by the strict reader, by what `load` knows of the bytes that
/// must be in it, and by `btt` with so many CPUs. What was found, and how many runs were written.
pub(super) fn judge(
    dimm: &Dimm,
    cpus: u32,
    load: impl FnOnce(&ArenaContents, &[u8]) -> Result<u64, String>,
) -> Result<(ArenaContents, u64), String> {
    let before = image(dimm);
    let found = reader::read(&before)?;
    let version = load(&found, &before)?;
    // The crate: first without a store, then with recovery.
    for read_only in [true, false] {
        let media = FileMedium::part(dimm.file(), 0, DIMM_BYTES, read_only).unsynced();
        let btt = Btt::open(media, PLACEMENT, cpus).map_err(|why| format!("it does not open: {why}"))?;
        // Where nothing may be stored nothing is recovered, and all reads as if it were.
        if !read_only && btt.recovered_writes() as usize != found.pending {
            return Err(format!("{} writes recovered, not {}", btt.recovered_writes(), found.pending));
        }
        let mut sector = vec![0; found.sector_bytes];
        for lba in 0..found.sectors {
            let mut room = SectorsMut::new(&mut sector, btt.sector_size()).ok_or("a sector of another size")?;
            let read = btt.reader(CpuIndex(0)).read(ExternalLba(lba.into()), 1, &mut room);
            read.map_err(|why| format!("sector {lba}: {why}"))?;
            if sector != found.sector(&before, lba) {
                return Err(format!("sector {lba} reads otherwise after recovery (read-only: {read_only})"));
            }
        }
    }
    let media = FileMedium::part(dimm.file(), 0, DIMM_BYTES, true).unsynced();
    let mut findings = Vec::new();
    check(&media, PLACEMENT, WINDOW_BLOCKS, &mut |finding| findings.push(finding), &mut |_, _| {
        ControlFlow::Continue(())
    });
    if !findings.is_empty() {
        return Err(format!("the checker finds {findings:?}"));
    }
    let after = image(dimm);
    let recovered = reader::read(&after)?;
    if recovered.pending != 0 {
        return Err(format!("recovery left {} writes", recovered.pending));
    }
    // The image goes on as the cut left it.
    fs::write(dimm.path(), &before).map_err(|error| error.to_string())?;
    Ok((found, version))
}
