//! `bench`: its arguments, and what a load and its verification found.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::Arguments;
use crate::admin::reply::{Object, Reply};
use crate::admin::text::{line, sectors};
use crate::admin::values;
use crate::error::{AdminError, EXIT_DAMAGED, ErrorCode};
use crate::lba::Lba;
use crate::pattern::Verdict;

/// `bench`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchRequest {
    /// The block device.
    pub dev: String,
    /// How long the load runs. 0: no load (so that `--verify` only verifies).
    pub seconds: u32,
    /// The seed of the sectors' pattern and of the choice of sectors.
    pub seed: u64,
    /// How many of a hundred runs write; the others read.
    pub mix_write_percent: u8,
    /// Sectors a run; at least 1.
    pub run: u32,
    /// Afterwards, read every sector and judge it (see [`crate::pattern`]).
    pub verify: bool,
    /// `-f`: even if a consumer uses the device, or it holds something recognisable.
    pub force: bool,
}

impl BenchRequest {
    /// The arguments of `bench`.
    ///
    /// # Errors
    /// Usage.
    pub(super) fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        let verify = line.flag("verify");
        let number = |name: &str, option: &str, otherwise: u32, least: u32, most: u32| match line.value(option) {
            Some(text) => line.check(values::number_in(name, text, least, most)),
            None => Ok(otherwise),
        };
        let mix = line.value("mix").map_or("100", |mix| mix.strip_suffix('%').unwrap_or(mix));
        Ok(Self {
            dev: line.required(0)?.into(),
            seconds: number("--seconds", "seconds", if verify { 0 } else { 5 }, 0, 86_400)?,
            seed: line.value("seed").map_or(Ok(1), |text| line.check(values::number("--seed", text)))?,
            mix_write_percent: line.check(values::number_in("--mix", mix, 0, 100))?,
            run: number("--run", "run", 1, 1, 256)?,
            verify,
            force: line.flag("force"),
        })
    }

    /// Whether it overwrites sectors.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.seconds > 0 && self.mix_write_percent > 0
    }
}

/// The reply to `bench`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// The block device.
    pub dev: String,
    /// How long the load ran, seconds.
    pub seconds: f64,
    /// CPUs that took part.
    pub cpus: u32,
    /// The seed.
    pub seed: u64,
    /// Per cent of the runs that wrote.
    pub mix: u8,
    /// Sectors a run.
    pub run: u32,
    /// Runs that finished.
    pub ops: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Sectors written and acknowledged.
    pub sectors_written: u64,
    /// Runs that failed, and sectors read back that were not whole.
    pub errors: u64,
    /// Runs a second.
    pub ops_per_second: f64,
    /// Fences for each sector written.
    pub fences_per_sector: f64,
    /// Cache lines written back for each sector written.
    pub write_backs_per_sector: f64,
    /// What `--verify` found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// It was ended before it was done, by who asked for it: the rest is what was done by then.
    #[serde(skip_serializing_if = "is_false")]
    pub interrupted: bool,
}

/// For members that are there where they are true.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Reply for Bench {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(
            out,
            "{}: {:.3} s on {} CPUs, seed {}, {} % writes, runs of {}",
            self.dev, self.seconds, self.cpus, self.seed, self.mix, self.run
        )?;
        line(out, "ops", self.ops)?;
        line(out, "ops_per_second", format_args!("{:.0}", self.ops_per_second))?;
        line(out, "sectors_read", self.sectors_read)?;
        line(out, "sectors_written", self.sectors_written)?;
        line(out, "errors", self.errors)?;
        line(out, "fences_per_sector", format_args!("{:.3}", self.fences_per_sector))?;
        line(out, "write_backs_per_sector", format_args!("{:.3}", self.write_backs_per_sector))?;
        if self.interrupted {
            writeln!(out, "ended before it was done")?;
        }
        let Some(verify) = &self.verify else { return Ok(()) };
        writeln!(out, "verified {}", sectors(verify.sectors))?;
        line(out, "good", verify.good)?;
        line(out, "blank", verify.blank)?;
        line(out, "foreign", verify.foreign)?;
        line(out, "torn", verify.torn)?;
        line(out, "misplaced", verify.misplaced)?;
        line(out, "unreadable", verify.unreadable)?;
        line(out, "version_max", verify.version_max)?;
        for fault in &verify.faults {
            writeln!(out, "  {fault}")?;
        }
        Ok(())
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    fn exit_code(&self) -> u8 {
        match (self.verify.as_ref().is_some_and(Verify::damaged), self.interrupted) {
            (true, _) => EXIT_DAMAGED,
            (false, true) => ErrorCode::Interrupted.exit_code(),
            (false, false) => 0,
        }
    }
}

/// What a verification of the whole device found. Every sector counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verify {
    /// Sectors read.
    pub sectors: u64,
    /// Whole, of this LBA and seed.
    pub good: u64,
    /// All zeroes: never written.
    pub blank: u64,
    /// Something else's data: no trace of the pattern, or another run's seed.
    pub foreign: u64,
    /// Part of one write and part of another (or of something else): must never be.
    pub torn: u64,
    /// Whole, but written for another LBA.
    pub misplaced: u64,
    /// Could not be read.
    pub unreadable: u64,
    /// The greatest version seen.
    pub version_max: u64,
    /// The first few sectors that are torn, misplaced or unreadable, in words.
    pub faults: Vec<String>,
}

impl Verify {
    /// The most sectors that [`Verify::faults`] names.
    pub const FAULTS_MAX: usize = 16;

    /// Counts one sector: what was found where sector `lba` of a run with `seed` belongs; `None` if it could not be
    /// read.
    pub fn count(&mut self, lba: Lba, seed: u64, found: Option<Verdict>) {
        self.sectors += 1;
        let fault = match found {
            Some(Verdict::Whole(tag)) if (tag.lba, tag.seed) == (lba, seed) => {
                self.good += 1;
                self.version_max = self.version_max.max(tag.version);
                return;
            }
            Some(Verdict::Blank) => {
                self.blank += 1;
                return;
            }
            // Whole and in its place, of an earlier run with another seed: nothing is wrong with it.
            Some(Verdict::Whole(tag)) if tag.lba == lba => {
                self.foreign += 1;
                return;
            }
            Some(Verdict::Foreign) => {
                self.foreign += 1;
                return;
            }
            Some(Verdict::Whole(tag)) => {
                self.misplaced += 1;
                format!("LBA {}: whole, but written as {tag}", lba.0)
            }
            Some(Verdict::Torn { head: Some(tag), first_bad }) => {
                self.torn += 1;
                format!("LBA {}: torn, begins as {tag}, other bytes from {first_bad} on", lba.0)
            }
            Some(Verdict::Torn { head: None, .. }) => {
                self.torn += 1;
                format!("LBA {}: torn, only its end is the pattern's", lba.0)
            }
            None => {
                self.unreadable += 1;
                format!("LBA {}: could not be read", lba.0)
            }
        };
        if self.faults.len() < Self::FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// What two CPUs found on their shares of a device.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.sectors += other.sectors;
        self.good += other.good;
        self.blank += other.blank;
        self.foreign += other.foreign;
        self.torn += other.torn;
        self.misplaced += other.misplaced;
        self.unreadable += other.unreadable;
        self.version_max = self.version_max.max(other.version_max);
        self.faults.extend(other.faults);
        self.faults.truncate(Self::FAULTS_MAX);
        self
    }

    /// Whether a promise was broken.
    #[must_use]
    pub const fn damaged(&self) -> bool {
        self.torn > 0 || self.misplaced > 0 || self.unreadable > 0
    }
}
