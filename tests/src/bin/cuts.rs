//! Cuts the power of real machines under load, and judges what is left.
//!
//! `cuts [--cuts N] [--seed S]`: a line for each cut; the last line is `cuts: N violations: M`. Exits with 1 if there is
//! a violation. `--seed S --cuts 1` does the cut of a seed again.

use std::process::ExitCode;

use clap::Parser;
use tests::cuts::campaign::{Media, Plan, cut};

/// Cuts the power of real machines under load, and judges what is left.
#[derive(Parser)]
struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 20)]
    cuts: u64,
    /// The seed of the first; each one's is one higher.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let media = Media::new();
    let mut violations = 0;
    for seed in arguments.seed..arguments.seed + arguments.cuts {
        let plan = Plan::new(seed);
        match cut(&media, &plan) {
            Ok(left) => {
                let (version, pending, begun) = (left.version, left.found.pending, left.found.begun);
                println!("{plan}: {version} runs written, {pending} pending, {begun} begun: sound");
            }
            Err(why) => {
                violations += 1;
                println!("VIOLATION: {why}");
            }
        }
    }
    println!("cuts: {} violations: {violations}", arguments.cuts);
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
