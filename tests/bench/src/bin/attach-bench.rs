//! How long a BTT takes to open, and how much memory it then has.
//!
//! `attach-bench [--mib 256] [--sector 4096] [--threads 1] [--rounds 101]`
//!
//! Prints one CSV line: mib,sector,threads,arenas,rounds,median_us,least_us,most_us,memory_bytes. The file is sparse and under
//! /dev/shm, so it may be far larger than the memory.

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use bench::disk::Disk;
use clap::Parser;

/// Measures how long a BTT takes to open.
#[derive(Debug, Parser)]
struct Options {
    /// The file's size, MiB
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// The bytes of a sector
    #[arg(long, default_value_t = 4096)]
    sector: u32,
    /// For how many threads it is opened
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// How often
    #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let file = PathBuf::from(format!("/dev/shm/untorn-attach-bench-{}", std::process::id()));
    let disk = Disk::create(&file, options.mib, options.sector, false)?;
    let mut took_us = Vec::new();
    for _ in 0..options.rounds {
        let start = Instant::now();
        let open = disk.open(options.threads)?;
        took_us.push(start.elapsed().as_secs_f64() * 1e6);
        drop(open);
    }
    took_us.sort_by(f64::total_cmp);
    let open = disk.open(options.threads)?;
    println!(
        "{},{},{},{},{},{:.1},{:.1},{:.1},{}",
        options.mib,
        options.sector,
        options.threads,
        open.btt.arenas().count(),
        options.rounds,
        took_us[took_us.len() / 2],
        took_us[0],
        took_us[took_us.len() - 1],
        open.btt.memory_bytes(),
    );
    Ok(())
}
