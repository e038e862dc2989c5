//! How fast the real `btt` over the real `drivers::pmem` reads and writes sectors, on a file mapped into memory.
//!
//! `sector-bench [--sector 4096] [--mib 256] [--threads 1] [--seconds 2] [--mix randwrite,…]
//! [--run 1 | --scatter 8] [--caches-survive] [--file PATH]`
//!
//! Prints one CSV line for each mix: prog,engine,bsize,pool_MiB,threads,mix,ops,secs,kops,MBps,kops_cpu,p50_ns,p99_ns,
//! p999_ns,max_ns,errors. `ops` counts sectors; latencies are those of an operation. Every sector is written once before the
//! clock starts. A file under /dev/shm measures the code; compare ratios in one run, not numbers of two.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use bench::disk::Disk;
use bench::load::{Done, Load, Mix, Shape};
use clap::Parser;

/// Measures reads and writes of sectors.
#[derive(Debug, Parser)]
struct Options {
    /// The bytes of a sector
    #[arg(long, default_value_t = 4096)]
    sector: u32,
    /// The file's size, MiB
    #[arg(long, default_value_t = 256)]
    mib: u64,
    /// Threads, each on a CPU of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// How long each mix is measured
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// randwrite, randread, seqwrite, seqread, rw7030: one or several, in turn
    #[arg(long, value_delimiter = ',', default_value = "randwrite")]
    mix: Vec<Mix>,
    /// Sectors of an operation, one after another
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    run: u64,
    /// Sectors of an operation anywhere, committed together; writes only
    #[arg(long, conflicts_with = "run", value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    scatter: Option<u64>,
    /// As where the platform writes its caches back when power fails: without write-backs (engine `-eadr`)
    #[arg(long)]
    caches_survive: bool,
    /// The file, which must not be there; by default one under /dev/shm
    #[arg(long)]
    file: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let unnamed = || PathBuf::from(format!("/dev/shm/untorn-bench-{}", std::process::id()));
    let file = options.file.clone().unwrap_or_else(unnamed);
    let disk = Disk::create(&file, options.mib, options.sector, options.caches_survive)?;
    let open = disk.open(options.threads)?;
    open.fill()?;
    let time = Duration::try_from_secs_f64(options.seconds)?;
    let shape = options.scatter.map_or(Shape::Run(options.run), Shape::Scatter);
    for &mix in &options.mix {
        let load = Load { mix, shape, threads: options.threads, time };
        report(&options, &load, &load.run(&open.btt)?);
    }
    Ok(())
}

fn report(options: &Options, load: &Load, done: &Done) {
    let at = |per_mille: usize| done.latencies_ns.get(done.latencies_ns.len() * per_mille / 1000).copied().unwrap_or(0);
    let kops = done.sectors as f64 / done.seconds / 1e3;
    println!(
        "sector-bench,untorn-{}{},{},{},{},{},{},{:.4},{kops:.1},{:.1},{:.1},{},{},{},{},{}",
        match load.shape {
            Shape::Run(count) => format!("run{count}"),
            Shape::Scatter(count) => format!("scatter{count}"),
        },
        if options.caches_survive { "-eadr" } else { "" },
        options.sector,
        options.mib,
        load.threads,
        load.mix,
        done.sectors,
        done.seconds,
        kops * f64::from(options.sector) / 1e3,
        done.sectors_per_cpu_second / 1e3,
        at(500),
        at(990),
        at(999),
        done.latencies_ns.last().copied().unwrap_or(0),
        done.errors,
    );
}
