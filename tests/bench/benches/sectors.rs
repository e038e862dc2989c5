//! The operations that every request is made of, one at a time, on one thread: for a comparison before and after a change.
#![allow(missing_docs, reason = "criterion's macros make a function")]

use std::error::Error;
use std::hint::black_box;
use std::path::Path;

use bench::disk::Disk;
use bench::load::Scattered;
use btt::bytes::{Sectors, SectorsMut};
use btt::{CpuIndex, ExternalLba};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use service::pattern::Choices;

const CPU: CpuIndex = CpuIndex(0);

/// The sectors of a scattered commit.
const SCATTERED: usize = 8;

/// A disk of a name that no other process uses.
fn disk(mib: u64, sector_bytes: u32) -> Result<Disk, Box<dyn Error>> {
    Disk::create(Path::new(&format!("/dev/shm/untorn-criterion-{}", std::process::id())), mib, sector_bytes, false)
}

fn sectors(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    for sector_bytes in [512, 4096] {
        let disk = disk(256, sector_bytes)?;
        let open = disk.open(1)?;
        open.fill()?;
        let btt = &open.btt;
        let size = btt.sector_size();
        let mut group = criterion.benchmark_group(format!("{sector_bytes} B"));
        group.throughput(Throughput::Elements(SCATTERED as u64));
        let (mut choices, mut lbas) = (Choices::new(1, 0), [ExternalLba(0); SCATTERED]);
        let buffer = vec![0xa5; sector_bytes as usize * SCATTERED];
        group.bench_function(format!("commit {SCATTERED} scattered"), |bencher| {
            bencher.iter(|| {
                lbas.fill_with(|| ExternalLba(choices.below(btt.capacity_sectors())));
                let sectors = Sectors::new(&buffer, size).expect("whole sectors");
                let writes = Scattered { sectors, lbas: &lbas };
                black_box(writes.commit_all(&mut btt.lane(CPU))).expect("sound media")
            });
        });
        for run in [1, 8] {
            let mut buffer = vec![0xa5; sector_bytes as usize * usize::try_from(run)?];
            let runs = btt.capacity_sectors() / run;
            group.throughput(Throughput::Elements(run));
            let mut choices = Choices::new(1, 0);
            group.bench_function(format!("read {run}"), |bencher| {
                bencher.iter(|| {
                    let first = ExternalLba(choices.below(runs) * run);
                    let mut sectors = SectorsMut::new(&mut buffer, size).expect("whole sectors");
                    black_box(btt.reader(CPU).read(first, run, &mut sectors)).expect("sound media")
                });
            });
            group.bench_function(format!("write {run}"), |bencher| {
                bencher.iter(|| {
                    let first = ExternalLba(choices.below(runs) * run);
                    let sectors = Sectors::new(&buffer, size).expect("whole sectors");
                    black_box(btt.lane(CPU).write(first, run, &sectors)).expect("sound media")
                });
            });
        }
    }
    Ok(())
}

fn attach(criterion: &mut Criterion) -> Result<(), Box<dyn Error>> {
    let mut group = criterion.benchmark_group("attach");
    for (name, mib) in [("256 MiB", 256), ("1.5 TiB", 3 << 19)] {
        let disk = disk(mib, 4096)?;
        group.bench_function(name, |bencher| bencher.iter(|| black_box(disk.open(1).expect("sound media"))));
    }
    Ok(())
}

fn all(criterion: &mut Criterion) {
    sectors(criterion).and_then(|()| attach(criterion)).expect("/dev/shm has room for a disk");
}

criterion_group!(benches, all);
criterion_main!(benches);
