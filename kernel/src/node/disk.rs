//! A namespace in sector mode, open: what reads, writes and counts.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use core::convert::Infallible;
use core::sync::atomic::{AtomicBool, Ordering};

use super::content::name_of;
use btt::bytes::{Sectors, SectorsMut};
use btt::media::{MediaError, Medium, SectorSink, SectorSource};
use btt::{ArenaInfo, Btt, BttError, CpuIndex, ExternalLba, ReadOnlyReason};
use service::error::AdminError;
use service::pattern::{self, Verdict};
use service::stats::{Counter, Counters, DeviceStats};

/// An open BTT with its name and its counters.
pub(super) struct Disk<N> {
    /// `pmem0s`.
    pub(super) name: String,
    /// The device.
    pub(super) btt: Btt<N>,
    counters: Box<[Counters]>,
    /// Consumers' requests wait: see [`super::export::Exports::hold`].
    held: AtomicBool,
}

impl<N: Medium> Disk<N> {
    /// The disk of that name, on a machine with `cpus` CPUs.
    pub(super) fn new(name: String, btt: Btt<N>, cpus: u32) -> Self {
        Self { name, btt, counters: (0..cpus).map(|_| Counters::new()).collect(), held: AtomicBool::new(false) }
    }

    /// Whether consumers' requests wait.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Has consumers' requests wait, or be served again: for [`super::export::Exports::hold`].
    pub(super) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
    }

    /// Bytes of an external sector.
    pub(super) fn sector_bytes(&self) -> usize {
        self.btt.sector_size().bytes() as usize
    }

    /// Reads whole external sectors; `into` holds a whole number of them.
    ///
    /// # Errors
    /// The first sector that could not be read.
    pub(super) fn read(&self, cpu: CpuIndex, lba: u64, into: &mut [u8]) -> Result<(), BttError> {
        let count = (into.len() / self.sector_bytes()) as u64;
        match SectorsMut::new(into, self.btt.sector_size()) {
            Some(mut sink) => self.read_to(cpu, lba, count, &mut sink),
            None => Err(self.not_whole(lba, count)),
        }
    }

    /// Reads whole external sectors to wherever `sink` has them.
    ///
    /// # Errors
    /// The first sector that could not be read.
    pub(super) fn read_to(
        &self,
        cpu: CpuIndex,
        lba: u64,
        count: u64,
        sink: &mut impl SectorSink<N>,
    ) -> Result<(), BttError> {
        let mut lane = self.btt.lane(cpu);
        let result = lane.read(ExternalLba(lba), count, sink);
        let counted = if result.is_ok() { Counter::Reads } else { Counter::ReadErrors };
        self.count(cpu, counted, &lane.take_counters());
        result
    }

    /// Writes whole external sectors; `from` holds a whole number of them. Durable when it returns.
    ///
    /// # Errors
    /// Where it stopped.
    pub(super) fn write(&self, cpu: CpuIndex, lba: u64, from: &[u8]) -> Result<(), BttError> {
        match Sectors::new(from, self.btt.sector_size()) {
            Some(source) => self.write_from(cpu, lba, source.count() as u64, &source),
            None => Err(self.not_whole(lba, 0)),
        }
    }

    /// Makes sectors read as zeroes, by the map where the BTT was made for it. Durable when it returns.
    ///
    /// # Errors
    /// Where it stopped.
    pub(super) fn zero(&self, cpu: CpuIndex, lba: u64, count: u64) -> Result<(), BttError> {
        let mut lane = self.btt.lane(cpu);
        let result = lane.zero(ExternalLba(lba), count);
        let counted = if result.is_ok() { Counter::Writes } else { Counter::WriteErrors };
        self.count(cpu, counted, &lane.take_counters());
        result
    }

    /// Writes whole external sectors from wherever `source` has them. Durable when it returns.
    ///
    /// # Errors
    /// Where it stopped.
    pub(super) fn write_from(
        &self,
        cpu: CpuIndex,
        lba: u64,
        count: u64,
        source: &impl SectorSource<N>,
    ) -> Result<(), BttError> {
        let mut lane = self.btt.lane(cpu);
        let result = lane.write(ExternalLba(lba), count, source);
        let counted = if result.is_ok() { Counter::Writes } else { Counter::WriteErrors };
        self.count(cpu, counted, &lane.take_counters());
        result
    }

    /// The name of what somebody made on it, if it is recognised. Sectors that cannot be read hold nothing, and sectors of
    /// a load ([`service::pattern`]) nothing but that, whatever their bytes look like.
    pub(super) fn content(&self, cpu: CpuIndex) -> Option<&'static str> {
        let size = self.btt.sector_size();
        let data_bytes = u64::from(size.data_bytes());
        let mut sector = vec![0; self.sector_bytes()];
        let mut read = |at: u64, into: &mut [u8]| {
            let mut done = 0;
            while done < into.len() {
                let here = at + done as u64;
                let sound = self.read(cpu, here / data_bytes, &mut sector).is_ok();
                let meant = sound && !matches!(pattern::verify(&sector), Verdict::Whole(_));
                let from = usize::try_from(here % data_bytes).unwrap_or(0);
                let count = (size.data_bytes() as usize - from).min(into.len() - done);
                let part = &mut into[done..done + count];
                if meant {
                    part.copy_from_slice(&sector[from..from + count])
                } else {
                    part.fill(0)
                }
                done += count;
            }
            Ok::<(), Infallible>(())
        };
        match name_of(self.btt.capacity_sectors() * data_bytes, &mut read) {
            Ok(name) => name,
            Err(never) => match never {},
        }
    }

    /// Lets the map know of sectors that the medium has lost: those that cannot be read become errors.
    ///
    /// # Errors
    /// What keeps the map from being read or written.
    pub(super) fn settle_losses(&self, cpu: CpuIndex, lba: u64, count: u64) -> Result<(), BttError> {
        let mut sector = vec![0; self.sector_bytes()];
        for lba in lba..lba.saturating_add(count) {
            match self.read(cpu, lba, &mut sector) {
                Ok(()) | Err(BttError::SectorError { .. } | BttError::Data { .. } | BttError::Drain { .. }) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Bytes that are no whole number of sectors are asked for by nobody; if somebody does, nothing is done.
    fn not_whole(&self, lba: u64, count: u64) -> BttError {
        BttError::OutOfRange { lba: ExternalLba(lba), count, capacity: self.btt.capacity_sectors() }
    }

    fn count(&self, cpu: CpuIndex, outcome: Counter, done: &btt::lane::Counters) {
        let counters = &self.counters[cpu.0 as usize % self.counters.len()];
        counters.add(outcome, 1);
        counters.add(Counter::SectorsRead, done.sectors_read);
        counters.add(Counter::SectorsWritten, done.sectors_written);
        counters.add(Counter::Fences, done.fences);
        counters.add(Counter::WriteBacks, done.write_backs);
        counters.add(Counter::Collisions, done.collisions);
        counters.add(Counter::ReadRetries, done.read_retries);
        counters.add(Counter::Refusals, done.refusals);
    }

    /// The counters since boot.
    pub(super) fn stats(&self) -> DeviceStats {
        DeviceStats::new(self.name.as_str(), self.counters.iter().map(Counters::snapshot).collect())
    }

    /// Why it takes no writes, if one of its arenas does not.
    pub(super) fn read_only(&self) -> Option<String> {
        self.btt.arenas().find_map(|arena| read_only_reason(&arena))
    }

    /// Whether its medium as a whole takes no writes.
    pub(super) fn all_read_only(&self) -> bool {
        self.btt.arenas().all(|arena| arena.read_only.is_some())
    }
}

/// Why an arena takes no writes, in words.
pub(super) fn read_only_reason(arena: &ArenaInfo) -> Option<String> {
    arena.read_only.map(|why| match why {
        ReadOnlyReason::Medium => why.to_string(),
        why => format!("arena {}: {why}", arena.index),
    })
}

/// A device's error as the admin side says it. The one place where they meet.
pub(super) fn admin_error(dev: &str, why: &BttError) -> AdminError {
    let message = format!("{dev}: {why}");
    match why {
        BttError::OutOfRange { .. } => AdminError::out_of_range(message),
        BttError::SectorError { .. } | BttError::Data { why: MediaError::Poisoned { .. }, .. } => {
            AdminError::damaged(message)
        }
        BttError::Data { .. } | BttError::Drain { .. } => AdminError::failed(message),
        BttError::ReadOnly { why: ReadOnlyReason::Medium | ReadOnlyReason::ErrorFlag, .. } => {
            AdminError::read_only(message)
        }
        BttError::ReadOnly { .. } => AdminError::damaged(message),
    }
}
