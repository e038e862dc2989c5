//! How fast the real `btt` over the real `drivers::pmem` reads and writes sectors, on a file mapped into memory.
//!
//! `sector-bench [--sector 512] [--mib 256] [--threads 1] [--seconds 2] [--mix randwrite] [--run 1] [--file PATH]`
//!
//! Prints one CSV line: prog,engine,bsize,pool_MiB,threads,mix,ops,secs,kops,MBps,kops_cpu,p50_ns,p99_ns,p999_ns,max_ns,
//! errors. `ops` counts sectors; latencies are those of a run. Every sector is written once before the clock starts.
//! A file under /dev/shm measures the code; compare ratios in one run, not numbers of two.

use btt::bytes::{Sectors, SectorsMut};
use btt::format::{FormatOptions, format};
use btt::geometry::SectorSize;
use btt::info_block::Version;
use btt::{Btt, CpuIndex, ExternalLba, Placement};
use drivers::persist::Persist;
use drivers::pmem::{Access, Pmem, PmemRegion};
use memmap2::MmapMut;
use service::pattern::Choices;
use std::error::Error;
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What is measured.
struct Options {
    sector: u32,
    mib: u64,
    threads: u32,
    seconds: f64,
    mix: String,
    run: u64,
    file: PathBuf,
}

/// One operation in so many is timed, so that the clock does not dominate.
const SAMPLE: u64 = 16;

/// What a thread did.
#[derive(Default)]
struct Done {
    sectors: u64,
    errors: u64,
    cpu_seconds: f64,
    latencies_ns: Vec<u64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = parse(std::env::args().skip(1))?;
    let size = SectorSize::new(options.sector).ok_or("not a sector size")?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&options.file)?;
    file.set_len(options.mib << 20)?;
    // SAFETY: the file was made for this program, and no other program changes it.
    let mut mapping = unsafe { MmapMut::map_mut(&file)? };
    let base = NonNull::new(mapping.as_mut_ptr()).ok_or("no mapping")?;
    // SAFETY: the mapping outlives the region, and is reached through it only.
    let region = unsafe { PmemRegion::from_mapping(base, mapping.len(), Access::ReadWrite, Persist::detect(false)) };
    let medium = region.namespace(0, options.mib << 20, Access::ReadWrite)?;
    let placement = Placement { version: Version::V1_1, parent_uuid: Uuid::nil() };
    let format_options = FormatOptions {
        sector_size: size,
        uuid: Uuid::from_u128(1),
        parent_uuid: Uuid::nil(),
        version: placement.version,
        zero_data: false,
        zero_entries: false,
    };
    format(&medium, &format_options, &mut |_, _| ())?;
    let btt = Btt::open(medium, placement, options.threads)?;
    fill(&btt)?;

    let start = Instant::now();
    let end = start + Duration::from_secs_f64(options.seconds);
    let all: Vec<Done> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads)
            .map(|cpu| {
                scope.spawn({
                    let (btt, options) = (&btt, &options);
                    move || work(btt, cpu, options, end)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    report(&options, &all, start.elapsed().as_secs_f64());
    std::fs::remove_file(&options.file)?;
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        sector: 4096,
        mib: 256,
        threads: 1,
        seconds: 2.0,
        mix: "randwrite".into(),
        run: 1,
        file: PathBuf::from(format!("/dev/shm/untorn-bench-{}", std::process::id())),
    };
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--sector" => options.sector = value.parse()?,
            "--mib" => options.mib = value.parse()?,
            "--threads" => options.threads = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--mix" => options.mix = value,
            "--run" => options.run = value.parse()?,
            "--file" => options.file = value.into(),
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    if !["randwrite", "randread", "rw7030"].contains(&options.mix.as_str()) {
        return Err("--mix is randwrite, randread or rw7030".into());
    }
    if options.threads == 0 || options.run == 0 {
        return Err("--threads and --run are at least 1".into());
    }
    Ok(options)
}

/// Writes every sector once.
fn fill(btt: &Btt<Pmem>) -> Result<(), Box<dyn Error>> {
    let bytes = vec![0x5a; btt.sector_size().bytes() as usize * 64];
    let mut lba = 0;
    while lba < btt.capacity_sectors() {
        let count = (btt.capacity_sectors() - lba).min(64);
        let part = &bytes[..btt.sector_size().bytes() as usize * usize::try_from(count)?];
        let sectors = Sectors::new(part, btt.sector_size()).ok_or("whole sectors")?;
        btt.lane(CpuIndex(0)).write(ExternalLba(lba), count, &sectors)?;
        lba += count;
    }
    Ok(())
}

fn work(btt: &Btt<Pmem>, cpu: u32, options: &Options, end: Instant) -> Done {
    let mut done = Done::default();
    let mut choices = Choices::new(1, u64::from(cpu));
    let bytes = btt.sector_size().bytes() as usize * usize::try_from(options.run).unwrap_or(1);
    let mut buffer = vec![0xa5; bytes];
    let write_percent = match options.mix.as_str() {
        "randwrite" => 100,
        "randread" => 0,
        _ => 30,
    };
    let cpu_start = cpu_time();
    let slots = (btt.capacity_sectors() / options.run).max(1);
    for op in 0_u64.. {
        let lba = ExternalLba(choices.below(slots) * options.run);
        let writes = choices.below(100) < write_percent;
        let started = op.is_multiple_of(SAMPLE).then(Instant::now);
        let mut lane = btt.lane(CpuIndex(cpu));
        let result = if writes {
            let source = Sectors::new(&buffer, btt.sector_size());
            source.map(|source| lane.write(lba, options.run, &source))
        } else {
            let sink = SectorsMut::new(&mut buffer, btt.sector_size());
            sink.map(|mut sink| lane.read(lba, options.run, &mut sink))
        };
        drop(lane);
        match result {
            Some(Ok(())) => done.sectors += options.run,
            _ => done.errors += 1,
        }
        if let Some(started) = started {
            let now = Instant::now();
            done.latencies_ns.push(u64::try_from((now - started).as_nanos()).unwrap_or(u64::MAX));
            if now >= end {
                break;
            }
        }
    }
    done.cpu_seconds = cpu_time() - cpu_start;
    done
}

/// Seconds of CPU time that this thread has used.
fn cpu_time() -> f64 {
    let time = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    time.map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

fn report(options: &Options, all: &[Done], seconds: f64) {
    let sectors: u64 = all.iter().map(|done| done.sectors).sum();
    let errors: u64 = all.iter().map(|done| done.errors).sum();
    let kops_cpu: f64 = all.iter().map(|done| done.sectors as f64 / done.cpu_seconds / 1e3).sum();
    let mut latencies: Vec<u64> = all.iter().flat_map(|done| done.latencies_ns.iter().copied()).collect();
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies.get(latencies.len() * per_mille / 1000).copied().unwrap_or(0);
    let kops = sectors as f64 / seconds / 1e3;
    println!(
        "sector-bench,untorn-run{},{},{},{},{},{sectors},{seconds:.3},{kops:.1},{:.1},{kops_cpu:.1},{},{},{},{},{errors}",
        options.run,
        options.sector,
        options.mib,
        options.threads,
        options.mix,
        kops * f64::from(options.sector) / 1e3,
        at(500),
        at(990),
        at(999),
        latencies.last().copied().unwrap_or(0),
    );
}
