//! The appliance's `bench` on a block device of a Linux: the same sectors, the same pattern, the same checks, by direct I/O,
//! one thread on each CPU. And how long the parts of it take on this machine.
//!
//! `block-bench load DEVICE --sector 4096 [--seconds 1] [--mix 100] [--seed 1]`: prints operations, seconds and errors.
//! `block-bench parts --sector 4096`: prints a line `name,ns` for each part.

use std::error::Error;
use std::fs::OpenOptions;
use std::hint::black_box;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bench::aligned::Aligned;
use bench::cpus::{allowed, pin};
use clap::{Parser, Subcommand};
use drivers::copies;
use drivers::persist::Persist;
use nix::fcntl::OFlag;
use service::lba::Lba;
use service::pattern::{Choices, OPS_PER_LOOK, Tag, fill, verify};

/// Measures a block device as the appliance's `bench` does its disks.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Reads and writes sectors of a device, whose content is lost
    Load {
        /// The device
        device: PathBuf,
        /// The bytes of a sector
        #[arg(long)]
        sector: usize,
        /// For how long
        #[arg(long, default_value_t = 1.0)]
        seconds: f64,
        /// How many of a hundred operations write
        #[arg(long, default_value_t = 100)]
        mix: u64,
        /// Of the pattern, and of the choice of sectors
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Measures what operations are made of
    Parts {
        /// The bytes of a sector
        #[arg(long)]
        sector: usize,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    match Options::parse().what {
        What::Load { device, sector, seconds, mix, seed } => {
            let time = Duration::try_from_secs_f64(seconds)?;
            let cpus = allowed()?;
            let start = Instant::now();
            let done: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..)
                    .zip(&cpus)
                    .map(|(thread, &cpu)| {
                        let device = &device;
                        scope.spawn(move || {
                            pin(cpu)?;
                            work(device, sector, start + time, mix, seed, thread)
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
            });
            let seconds = start.elapsed().as_secs_f64();
            let (mut ops, mut errors) = (0, 0);
            for share in done {
                let (more, wrong) = share.map_err(|why| format!("{}: {why}", device.display()))?;
                ops += more;
                errors += wrong;
            }
            println!("{ops} {seconds:.4} {errors}");
        }
        What::Parts { sector } => parts(sector),
    }
    Ok(())
}

/// One thread's share: operations, and errors.
fn work(
    device: &Path,
    sector_bytes: usize,
    end: Instant,
    mix: u64,
    seed: u64,
    thread: u64,
) -> Result<(u64, u64), std::io::Error> {
    let mut options = OpenOptions::new();
    let mut device = options.read(true).write(true).custom_flags(OFlag::O_DIRECT.bits()).open(device)?;
    let sectors = device.seek(SeekFrom::End(0))? / sector_bytes as u64;
    let mut choices = Choices::new(seed, thread);
    let mut memory = Aligned::new(sector_bytes);
    let sector = memory.bytes_mut();
    let (mut ops, mut errors, mut version) = (0, 0, 0);
    while Instant::now() < end {
        for _ in 0..OPS_PER_LOOK {
            let lba = choices.below(sectors);
            let at = lba * sector_bytes as u64;
            let good = if choices.below(100) < mix {
                version += 1;
                fill(sector, Tag { lba: Lba(lba), version, seed });
                device.write_all_at(sector, at).is_ok()
            } else {
                device.read_exact_at(sector, at).is_ok() && verify(sector).fits(Lba(lba))
            };
            ops += 1;
            errors += u64::from(!good);
        }
    }
    Ok((ops, errors))
}

fn parts(sector_bytes: usize) {
    let start = Instant::now();
    let now = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    // What drivers copy is 4096 bytes.
    let part = |ns: u64| ns as f64 * sector_bytes as f64 / 4096.0;
    for times in copies::measure(Persist::detect(), &now) {
        let name = times.persist.copy_name();
        println!("{name} in,{:.0}\n{name} out,{:.0}", part(times.stream_ns), part(times.load_ns));
    }
    let (from, mut to) = (Aligned::new(sector_bytes), Aligned::new(sector_bytes));
    let (from, to) = (from.bytes(), to.bytes_mut());
    println!("rep movsb,{:.0}", least_ns(|| copy_by_string(to, from)));
    let mut version = 0;
    let pattern_in = least_ns(|| {
        version += 1;
        fill(black_box(to), Tag { lba: Lba(version), version, seed: 1 });
    });
    println!("pattern made,{pattern_in:.0}");
    println!("pattern checked,{:.0}", least_ns(|| _ = black_box(verify(black_box(to)))));
}

/// How long it takes: the least mean of some rounds.
fn least_ns(mut part: impl FnMut()) -> f64 {
    const TIMES: u32 = 64;
    let mut round = || {
        let start = Instant::now();
        (0..TIMES).for_each(|_| part());
        start.elapsed().as_nanos() as f64 / f64::from(TIMES)
    };
    (0..32).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// Copies as Linux copies out of persistent memory where the CPU claims fast string operations.
fn copy_by_string(to: &mut [u8], from: &[u8]) {
    let bytes = to.len().min(from.len());
    // SAFETY: REP MOVSB loads and stores `bytes` bytes, which both slices have; it changes these three registers only, and
    // the direction flag is clear (System V ABI).
    unsafe {
        std::arch::asm!("rep movsb", inout("rcx") bytes => _, inout("rsi") from.as_ptr() => _,
            inout("rdi") to.as_mut_ptr() => _, options(nostack, preserves_flags));
    }
}
