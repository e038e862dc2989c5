//! Cuts the power of real machines under load, and judges what is left.
//!
//! `cuts [--load bench|consumer] [--cuts N] [--seed S] [--keep FOLDER]`: a line for each medium that a cut left; the last
//! line is `cuts: N violations: M`. Exits with 1 if there is a violation. Under `bench` each cut has a seed of its own;
//! a consumer's seed has five. The same seed again has the same plan.
//!
//! `cuts write DISK …` is the consumer's load: it runs inside that machine.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tests::cuts::campaign::{self, Left, Media};
use tests::cuts::consumer::{self, CUTS};
use tests::cuts::stamps::Stamps;

/// Cuts the power of real machines under load, and judges what is left.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    campaign: Campaign,
    #[command(subcommand)]
    command: Option<Inside>,
}

#[derive(Args)]
struct Campaign {
    /// What writes meanwhile.
    #[arg(long, value_enum, default_value_t = Load::Bench)]
    load: Load,
    /// How many.
    #[arg(long, default_value_t = 20)]
    cuts: u64,
    /// The first seed; each next one is one higher.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keeps all images in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Load {
    /// The appliance's own `bench`.
    Bench,
    /// An unmodified Linux, by virtio-blk.
    Consumer,
}

#[derive(Subcommand)]
enum Inside {
    /// Writes to a disk, and notes what was acknowledged.
    Write {
        disk: PathBuf,
        /// Bytes of a sector.
        #[arg(long)]
        sector: usize,
        #[command(flatten)]
        stamps: Stamps,
        /// Where the last acknowledged version of each thread is noted.
        #[arg(long)]
        acknowledged: PathBuf,
        /// It ends when there is this file.
        #[arg(long)]
        stop: PathBuf,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Inside::Write { disk, sector, stamps, acknowledged, stop }) = arguments.command {
        return match stamps.write(&disk, sector, &acknowledged, &stop) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("{}: {why}", disk.display());
                ExitCode::FAILURE
            }
        };
    }
    let Campaign { load, cuts, seed, keep } = arguments.campaign;
    let violations = match load {
        Load::Bench => under_bench(cuts, seed, keep.as_ref()),
        Load::Consumer => under_a_consumer(cuts, seed, keep.as_ref()),
    };
    println!("cuts: {cuts} violations: {violations}");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn under_bench(cuts: u64, seed: u64, keep: Option<&PathBuf>) -> u64 {
    let media = Media::new();
    let mut violations = 0;
    for seed in seed..seed + cuts {
        let plan = campaign::Plan::new(seed);
        let left = campaign::cut(&media, &plan).map(|left| vec![left]);
        violations += tell(&plan.to_string(), &format!("{seed}"), left, keep);
    }
    violations
}

fn under_a_consumer(cuts: u64, seed: u64, keep: Option<&PathBuf>) -> u64 {
    let program = std::env::current_exe().expect("a program has a path");
    let mut violations = 0;
    for (seed, done) in (seed..).zip((0..cuts).step_by(CUTS)) {
        let plan = consumer::Plan::new(seed);
        println!("{plan}");
        let cuts = usize::try_from(cuts - done).unwrap_or(CUTS).min(CUTS);
        let end = consumer::cut(&plan, cuts, &program, &mut |how, left| {
            violations += tell(&format!("seed {seed}: {how:?}"), &format!("{seed}-{how:?}"), left, keep);
        });
        if let Err(why) = end {
            violations += 1;
            println!("VIOLATION: {why}");
        }
    }
    violations
}

/// A line for each image, and whether it is a violation.
fn tell(what: &str, name: &str, left: Result<Vec<Left>, String>, keep: Option<&PathBuf>) -> u64 {
    match left {
        Ok(left) => {
            for (number, left) in left.iter().enumerate() {
                let (version, pending, begun) = (left.version, left.found.pending, left.found.begun);
                println!("{what}: {version} runs written, {pending} pending, {begun} begun: sound");
                if let Some(folder) = keep {
                    let path = folder.join(format!("{name}-{number}.img"));
                    fs::copy(left.dimm.path(), path).expect("an image is kept");
                }
            }
            0
        }
        Err(why) => {
            println!("VIOLATION: {what}: {why}");
            1
        }
    }
}
