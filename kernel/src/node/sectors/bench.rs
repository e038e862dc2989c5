//! The load generator: all CPUs at once, with sectors whose pattern shows a torn write.

use alloc::vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use btt::media::Medium;
use btt::{CpuIndex, ExternalLba};
use service::admin::commands::sectors::bench::{Bench, BenchRequest, Verify};
use service::lba::Lba;
use service::pattern::{self, Choices, OPS_PER_LOOK, Tag};
use service::stats::Counts;
use spin::Mutex;

use crate::node::disk::BttDisk;
use crate::node::machine::Machine;

/// The number of sectors that a verification reads at a time.
pub(super) const VERIFY_RUN: usize = btt::RUN_MAX;

/// How far a bench is.
pub(super) struct At {
    /// What it does.
    pub(super) what: &'static str,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) unit: &'static str,
}

/// Attends to others on a CPU, between two steps. Returns whether the command is to end.
pub(super) type Attend<'a> = &'a (dyn Fn(CpuIndex, At) -> ControlFlow<()> + Sync);

/// Loads and verifies the disk as requested, and attends to others meanwhile.
pub(super) fn run<M: Machine, N: Medium + Sync>(
    machine: &M,
    attend: Attend<'_>,
    disk: &BttDisk<N>,
    request: &BenchRequest,
) -> Bench {
    let ended = AtomicBool::new(false);
    // CPU 0 is told, and tells the others.
    let goes_on = |cpu: CpuIndex, at: At| {
        if attend(cpu, at).is_break() {
            ended.store(true, Ordering::Relaxed);
        }
        !ended.load(Ordering::Relaxed)
    };
    let before = disk.stats().total;
    let load = Load::new(disk, request);
    let start = machine.now_ns();
    if request.seconds > 0 {
        let total = u64::from(request.seconds) * 1000;
        machine.run_on_all(&|cpu| {
            load.work(cpu, || {
                // A look comes late by as much as a step takes.
                let done = total.min((machine.now_ns() - start) / 1_000_000);
                !goes_on(cpu, At { what: "load", done, total, unit: "" }) || done >= total
            });
        });
    }
    let elapsed = machine.now_ns() - start;
    let done = Done::between(&before, &disk.stats().total);
    let is_ended = || ended.load(Ordering::Relaxed);
    let verify = (request.verify && !is_ended()).then(|| verify(machine, &goes_on, disk, request.seed));
    let seconds = elapsed as f64 / 1e9;
    let ops = load.ops.load(Ordering::Relaxed);
    Bench {
        dev: disk.name.clone(),
        seconds,
        cpus: machine.cpus(),
        seed: request.seed,
        mix: request.mix_write_percent,
        run: load.run,
        ops,
        sectors_read: done.sectors_read,
        sectors_written: done.sectors_written,
        errors: load.errors.load(Ordering::Relaxed),
        ops_per_second: ratio(ops, seconds),
        fences_per_sector: ratio(done.fences, done.sectors_written as f64),
        write_backs_per_sector: ratio(done.write_backs, done.sectors_written as f64),
        verify,
        interrupted: is_ended(),
    }
}

fn ratio(amount: u64, per: f64) -> f64 {
    if per > 0.0 { amount as f64 / per } else { 0.0 }
}

/// The differences of two readings of the counters.
struct Done {
    sectors_read: u64,
    sectors_written: u64,
    fences: u64,
    write_backs: u64,
}

impl Done {
    fn between(before: &Counts, after: &Counts) -> Self {
        Self {
            sectors_read: after.sectors_read - before.sectors_read,
            sectors_written: after.sectors_written - before.sectors_written,
            fences: after.fences - before.fences,
            write_backs: after.write_backs - before.write_backs,
        }
    }
}

/// A load, shared by all CPUs.
struct Load<'a, N> {
    disk: &'a BttDisk<N>,
    seed: u64,
    write_percent: u64,
    /// Sectors a run, no more than the disk has.
    run: u32,
    /// The version of the sectors written last: it grows with every run, so with every write of a sector.
    version: AtomicU64,
    ops: AtomicU64,
    errors: AtomicU64,
}

impl<'a, N: Medium> Load<'a, N> {
    fn new(disk: &'a BttDisk<N>, request: &BenchRequest) -> Self {
        let run = disk.btt.capacity_sectors().min(request.run.into()).max(1);
        Self {
            disk,
            seed: request.seed,
            write_percent: u64::from(request.mix_write_percent),
            run: u32::try_from(run).expect("at most what was asked for"),
            version: AtomicU64::new(0),
            ops: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Does one CPU's share of the load until `over` returns true.
    fn work(&self, cpu: CpuIndex, over: impl Fn() -> bool) {
        let mut choices = Choices::new(self.seed, u64::from(cpu.0));
        let mut buffer = vec![0; self.disk.sector_bytes() * self.run as usize];
        while !over() {
            for _ in 0..OPS_PER_LOOK {
                let lba = ExternalLba(choices.below(self.disk.btt.capacity_sectors() - u64::from(self.run) + 1));
                let sound = if choices.below(100) < self.write_percent {
                    self.write(cpu, lba, &mut buffer)
                } else {
                    self.read(cpu, lba, &mut buffer)
                };
                self.ops.fetch_add(1, Ordering::Relaxed);
                if !sound {
                    self.errors.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn write(&self, cpu: CpuIndex, lba: ExternalLba, buffer: &mut [u8]) -> bool {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        for (sector, lba) in buffer.chunks_exact_mut(self.disk.sector_bytes()).zip(lba.0..) {
            pattern::fill(sector, Tag { lba: Lba(lba), version, seed: self.seed });
        }
        self.disk.write(cpu, lba, buffer).is_ok()
    }

    /// Reads a run and checks it.
    fn read(&self, cpu: CpuIndex, lba: ExternalLba, buffer: &mut [u8]) -> bool {
        self.disk.read(cpu, lba, buffer).is_ok()
            && buffer
                .chunks_exact(self.disk.sector_bytes())
                .zip(lba.0..)
                .all(|(sector, lba)| pattern::verify(sector).fits(Lba(lba)))
    }
}

/// Reads every sector and judges it, each CPU a part of the disk.
fn verify<M: Machine, N: Medium + Sync>(
    machine: &M,
    goes_on: &(dyn Fn(CpuIndex, At) -> bool + Sync),
    disk: &BttDisk<N>,
    seed: u64,
) -> Verify {
    let total = Mutex::new(Verify::default());
    let share = disk.btt.capacity_sectors().div_ceil(u64::from(machine.cpus()));
    machine.run_on_all(&|cpu| {
        let first = (share * u64::from(cpu.0)).min(disk.btt.capacity_sectors());
        let share = first..(first + share).min(disk.btt.capacity_sectors());
        // The CPUs have as much to do each: one tells for all.
        let (cpus, all) = (u64::from(machine.cpus()), disk.btt.capacity_sectors());
        let at = |done| At { what: "verified", done: all.min(done * cpus), total: all, unit: "sectors" };
        let part = verify_part(disk, cpu, share, seed, |done| goes_on(cpu, at(done)));
        let mut total = total.lock();
        *total = core::mem::take(&mut *total).plus(part);
    });
    total.into_inner()
}

fn verify_part<N: Medium>(
    disk: &BttDisk<N>,
    cpu: CpuIndex,
    lbas: core::ops::Range<u64>,
    seed: u64,
    goes_on: impl Fn(u64) -> bool,
) -> Verify {
    let mut result = Verify::default();
    let mut buffer = vec![0; disk.sector_bytes() * VERIFY_RUN];
    let mut lba = lbas.start;
    while lba < lbas.end && goes_on(lba - lbas.start) {
        let count = (lbas.end - lba).min(VERIFY_RUN as u64);
        let run = &mut buffer[..disk.sector_bytes() * usize::try_from(count).expect("at most VERIFY_RUN")];
        let all = disk.read(cpu, ExternalLba(lba), run).is_ok();
        for (sector, lba) in run.chunks_exact_mut(disk.sector_bytes()).zip(lba..) {
            // If the run cannot be read, each of its sectors is read by itself.
            let readable = all || disk.read(cpu, ExternalLba(lba), sector).is_ok();
            result.count(Lba(lba), seed, readable.then(|| pattern::verify(sector)));
        }
        lba += count;
    }
    result
}
