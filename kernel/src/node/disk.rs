//! An open namespace in sector mode: its BTT, name and counters.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use core::convert::Infallible;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use btt::bytes::{Sectors, SectorsMut};
use btt::commit::Writes;
use btt::guard::LaneGuard;
use btt::media::{MediaError, Medium, SectorSink, SectorSource};
use btt::{ArenaInfo, Btt, BttError, CpuIndex, ExternalLba, ReadOnlyReason};
use drivers::medium::AnyMedium;
use drivers::raw::RawMedium as _;
use service::error::AdminError;
use service::latency::Histogram;
use service::pattern::{self, Verdict};
use service::stats::{Counter, Counters, DeviceStats, OfCpu};

use super::clock::Clock;
use super::content::name_of;

/// An open BTT with its name and its counters.
pub(super) struct BttDisk<N> {
    /// `pmem0s`.
    pub(super) name: String,
    /// The device.
    pub(super) btt: Btt<N>,
    counters: Box<[OfCpu]>,
    /// By which requests are timed.
    clock: Arc<dyn Clock>,
    /// Whether consumers' requests wait: see [`super::export::Exports::suspend`].
    suspended: AtomicBool,
    /// Whether a command has it in hand that may change it, or suspends it: others that do wait.
    in_hand: AtomicBool,
    /// How many commands have it in hand, or look at it: it is not closed meanwhile.
    held: AtomicU32,
    /// Whether a command waits until others have it in hand no more: no job begins with it.
    awaited: AtomicBool,
}

/// A disk in the hands of a command (invariant 20).
pub(super) struct InHand<N> {
    /// The disk.
    pub(super) disk: Arc<BttDisk<N>>,
    /// Whether the command only looks at it.
    looks: bool,
}

impl<N> Drop for InHand<N> {
    fn drop(&mut self) {
        self.disk.held.fetch_sub(1, Ordering::Relaxed);
        if !self.looks {
            self.disk.in_hand.store(false, Ordering::Relaxed);
        }
    }
}

impl<N: Medium> BttDisk<N> {
    /// Makes the disk of that name, on a machine with `cpus` CPUs and this clock.
    pub(super) fn new(name: String, btt: Btt<N>, cpus: u32, clock: Arc<dyn Clock>) -> Self {
        let counters = (0..cpus.max(1)).map(|_| OfCpu::new()).collect();
        let (suspended, in_hand, held) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU32::new(0));
        Self { name, btt, counters, clock, suspended, in_hand, held, awaited: AtomicBool::new(false) }
    }

    /// Returns whether consumers' requests wait.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::Acquire)
    }

    /// Sets whether consumers' requests wait. Only [`super::export::Exports::suspend`] and its guard call it.
    pub(super) fn set_suspended(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Release);
    }

    /// Returns whether a command has it in hand that may change it.
    pub(super) fn is_in_hand(&self) -> bool {
        self.in_hand.load(Ordering::Relaxed)
    }

    /// Returns whether another command may take it in hand.
    pub(super) fn is_free(&self) -> bool {
        !self.is_in_hand() && !self.is_suspended() && !self.is_awaited()
    }

    /// Returns how many commands have it in hand, or look at it.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed) as usize
    }

    /// Returns whether a command waits for others that have it in hand.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    /// Sets whether a command waits for others that have it in hand.
    pub(super) fn set_awaited(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::Relaxed);
    }

    /// Takes it in hand for a command that may change it or suspends it. Commands are carried out on CPU 0, and those beside
    /// another one only on other disks.
    ///
    /// # Panics
    /// A command has it in hand.
    pub(super) fn take_in_hand(self: &Arc<Self>) -> InHand<N> {
        assert!(!self.in_hand.swap(true, Ordering::Relaxed), "{}: one command at a time", self.name);
        self.held.fetch_add(1, Ordering::Relaxed);
        InHand { disk: Arc::clone(self), looks: false }
    }

    /// Keeps it open for a command that only looks at it.
    pub(super) fn hold(self: &Arc<Self>) -> InHand<N> {
        self.held.fetch_add(1, Ordering::Relaxed);
        InHand { disk: Arc::clone(self), looks: true }
    }

    /// Returns the bytes of an external sector.
    pub(super) fn sector_bytes(&self) -> usize {
        self.btt.sector_size().bytes() as usize
    }

    /// Reads whole external sectors; `into` holds a whole number of them.
    ///
    /// # Errors
    /// The first sector that could not be read.
    pub(super) fn read(&self, cpu: CpuIndex, lba: ExternalLba, into: &mut [u8]) -> Result<(), BttError> {
        let count = (into.len() / self.sector_bytes()) as u64;
        match SectorsMut::new(into, self.btt.sector_size()) {
            Some(mut sink) => self.read_to(cpu, lba, count, &mut sink),
            None => Err(self.not_whole(lba, count)),
        }
    }

    /// Reads whole external sectors to the places that `sink` names.
    ///
    /// # Errors
    /// The first sector that could not be read.
    pub(super) fn read_to(
        &self,
        cpu: CpuIndex,
        lba: ExternalLba,
        count: u64,
        sink: &mut impl SectorSink<N>,
    ) -> Result<(), BttError> {
        let begun_ns = self.clock.now_ns();
        let mut reader = self.btt.reader(cpu);
        let result = reader.read(lba, count, sink);
        let counted = if result.is_ok() { Counter::Reads } else { Counter::ReadErrors };
        self.count(cpu, counted, &reader.take_counters(), begun_ns);
        result
    }

    /// Reads a sector to learn something about the disk: it counts for nothing.
    pub(super) fn look(&self, cpu: CpuIndex, lba: ExternalLba, into: &mut [u8]) -> Result<(), BttError> {
        let mut sink = SectorsMut::new(into, self.btt.sector_size()).ok_or_else(|| self.not_whole(lba, 1))?;
        self.btt.reader(cpu).read(lba, 1, &mut sink)
    }

    /// Writes whole external sectors; `from` holds a whole number of them. They are durable when it returns.
    ///
    /// # Errors
    /// Where it stopped.
    pub(super) fn write(&self, cpu: CpuIndex, lba: ExternalLba, from: &[u8]) -> Result<(), BttError> {
        match Sectors::new(from, self.btt.sector_size()) {
            Some(source) => self.write_from(cpu, lba, source.count() as u64, &source),
            None => Err(self.not_whole(lba, 0)),
        }
    }

    /// Makes sectors read as zeroes, by the map if the BTT was made for it. The change is durable when it returns.
    ///
    /// # Errors
    /// Where it stopped.
    pub(super) fn zero(&self, cpu: CpuIndex, lba: ExternalLba, count: u64) -> Result<(), BttError> {
        self.change(cpu, |lane| lane.zero(lba, count))
    }

    /// Writes whole external sectors from the places that `source` names. They are durable when it returns (invariant
    /// 3).
    ///
    /// # Errors
    /// Where it stopped.
    pub(super) fn write_from(
        &self,
        cpu: CpuIndex,
        lba: ExternalLba,
        count: u64,
        source: &impl SectorSource<N>,
    ) -> Result<(), BttError> {
        self.change(cpu, |lane| lane.write(lba, count, source))
    }

    /// Changes sectors by this CPU's lane, as one request.
    fn change(
        &self,
        cpu: CpuIndex,
        change: impl FnOnce(&mut LaneGuard<'_, N>) -> Result<(), BttError>,
    ) -> Result<(), BttError> {
        let begun_ns = self.clock.now_ns();
        let mut lane = self.btt.lane(cpu);
        let result = change(&mut lane);
        self.count(cpu, written(&result), &lane.take_counters(), begun_ns);
        result
    }

    /// Writes one whole external sector if it holds what is expected. Returns false, with nothing changed, if it does not.
    /// Consumers, and hosts on other interfaces, may write to it as well: nobody writes in between.
    ///
    /// # Errors
    /// It could not be read, or not be written.
    pub(super) fn compare_and_write(
        &self,
        cpu: CpuIndex,
        lba: ExternalLba,
        expected: &[u8],
        data: &[u8],
    ) -> Result<bool, BttError> {
        let source = Sectors::new(data, self.btt.sector_size()).ok_or_else(|| self.not_whole(lba, 1))?;
        let mut found = vec![0; self.sector_bytes()];
        let begun_ns = self.clock.now_ns();
        self.btt.alone(cpu, |lane| {
            self.look(cpu, lba, &mut found)?;
            if found != expected {
                return Ok(false);
            }
            let result = lane.write(lba, 1, &source);
            self.count(cpu, written(&result), &lane.take_counters(), begun_ns);
            result.map(|()| true)
        })
    }

    /// Writes whole external sectors of several requests, one after the other, of as many sectors as `counts` has. What is
    /// durable is shared: `done` gets what became of each request, in order, when all its sectors are durable.
    pub(super) fn commit_from(
        &self,
        cpu: CpuIndex,
        counts: impl Iterator<Item = u64>,
        writes: &impl Writes<N>,
        mut done: impl FnMut(Result<(), BttError>),
    ) {
        let counts = counts.map(|count| usize::try_from(count).expect("a request's sectors are in memory"));
        let begun_ns = self.clock.now_ns();
        self.btt.lane(cpu).commit_each(writes, counts, |lane, result| {
            self.count(cpu, written(&result), &lane.take_counters(), begun_ns);
            done(result);
        });
    }

    /// Returns the name of the content that is recognised on it, if any. A sector that cannot be read counts as zeroes,
    /// and so does a sector of `bench`'s pattern ([`service::pattern`]), whose bytes may look like anything.
    pub(super) fn content(&self, cpu: CpuIndex) -> Option<&'static str> {
        let size = self.btt.sector_size();
        let data_bytes = u64::from(size.data_bytes());
        let mut sector = vec![0; self.sector_bytes()];
        let mut read = |at: u64, into: &mut [u8]| {
            let mut done = 0;
            while done < into.len() {
                let here = at + done as u64;
                let sound = self.look(cpu, ExternalLba(here / data_bytes), &mut sector).is_ok();
                let meant = sound && !matches!(pattern::verify(&sector), Verdict::Whole(_));
                let from = usize::try_from(here % data_bytes).expect("less than a sector");
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

    /// Reads sectors so that the map learns which of them the medium has lost: those become errors.
    ///
    /// # Errors
    /// The error that kept the map from being read or written.
    pub(super) fn settle_losses(&self, cpu: CpuIndex, lba: ExternalLba, count: u64) -> Result<(), BttError> {
        let mut sector = vec![0; self.sector_bytes()];
        for lba in (lba.0..lba.0.saturating_add(count)).map(ExternalLba) {
            match self.look(cpu, lba, &mut sector) {
                Ok(()) | Err(BttError::SectorError { .. } | BttError::Data { .. } | BttError::Drain { .. }) => {}
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Callers pass whole sectors; anything else is refused before the medium is touched.
    fn not_whole(&self, lba: ExternalLba, count: u64) -> BttError {
        BttError::OutOfRange { lba, count, capacity: self.btt.capacity_sectors() }
    }

    /// Counts a request that was begun at that time and is done.
    fn count(&self, cpu: CpuIndex, outcome: Counter, done: &btt::lane::Counters, begun_ns: u64) {
        let of_cpu = &self.counters[cpu.0 as usize % self.counters.len()];
        of_cpu.counters.add(outcome, 1);
        Self::add(&of_cpu.counters, done);
        let took: &Histogram = match outcome {
            Counter::Reads | Counter::ReadErrors => &of_cpu.reads,
            _ => &of_cpu.writes,
        };
        took.record(self.clock.now_ns().saturating_sub(begun_ns));
    }

    fn add(counters: &Counters, done: &btt::lane::Counters) {
        counters.add(Counter::SectorsRead, done.sectors_read);
        counters.add(Counter::SectorsWritten, done.sectors_written);
        counters.add(Counter::Fences, done.fences);
        counters.add(Counter::WriteBacks, done.write_backs);
        counters.add(Counter::Collisions, done.collisions);
        counters.add(Counter::ReadRetries, done.read_retries);
        counters.add(Counter::Refusals, done.refusals);
        counters.add(Counter::Commits, done.commits);
    }

    /// Returns the counters since it was opened. The caller is CPU 0. While the disk is suspended, and who suspended it may have
    /// all lanes, without what its lanes have done for no request.
    pub(super) fn stats(&self) -> DeviceStats {
        // Map entries that were drained, and edits.
        for (cpu, of_cpu) in (0..).map(CpuIndex).zip(&self.counters).filter(|_| !self.is_suspended()) {
            // Of a lane in use, the next time: CPU 0 must not be stuck because another one is.
            if let Some(mut lane) = self.btt.try_lane(cpu) {
                Self::add(&of_cpu.beside, &lane.take_counters());
            }
        }
        DeviceStats::new(self.name.as_str(), self.btt.sector_size().data_bytes(), self.counters.iter())
    }

    /// Returns why an arena takes no writes, if one does not.
    pub(super) fn read_only(&self) -> Option<String> {
        self.btt.arenas().find_map(|arena| read_only_reason(&arena))
    }

    /// Returns whether none of its arenas takes writes.
    pub(super) fn all_read_only(&self) -> bool {
        self.btt.arenas().all(|arena| arena.read_only.is_some())
    }
}

impl BttDisk<AnyMedium> {
    /// Returns how many bytes of it the medium is known to have lost.
    pub(super) fn lost_bytes(&self) -> u64 {
        self.btt.media().lost().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Returns what is to be told of that, if anything is lost.
    pub(super) fn loss(&self) -> Option<String> {
        let bytes = self.lost_bytes();
        (bytes > 0).then(|| format!("the medium has lost {bytes} bytes: errors shows where"))
    }
}

/// What a write counts as.
const fn written(result: &Result<(), BttError>) -> Counter {
    if result.is_ok() { Counter::Writes } else { Counter::WriteErrors }
}

/// Returns in words why an arena takes no writes, if it does not.
pub(super) fn read_only_reason(arena: &ArenaInfo) -> Option<String> {
    arena.read_only.map(|why| match why {
        ReadOnlyReason::Medium => why.to_string(),
        why => format!("arena {}: {why}", arena.index),
    })
}

/// Translates a device's error to the admin side's. It is translated here only.
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

#[cfg(test)]
mod tests {
    use btt::Placement;
    use btt::format::{FormatOptions, format};
    use btt::geometry::SectorSize;
    use btt::info_block::Version;
    use btt::ram::Ram;
    use uuid::Uuid;

    use super::*;

    /// Each look at it is a microsecond later.
    struct Steps(core::sync::atomic::AtomicU64);

    impl Clock for Steps {
        fn now_ns(&self) -> u64 {
            self.0.fetch_add(1000, Ordering::Relaxed)
        }
    }

    #[test]
    fn every_request_is_counted_and_timed_once() {
        let (medium, version, uuid) = (Ram::new(32 << 20), Version::V1_1, Uuid::from_u128(7));
        let placement = Placement { version, parent_uuid: Uuid::nil() };
        let options = FormatOptions {
            sector_size: SectorSize::new(512).expect("a size"),
            uuid,
            parent_uuid: Uuid::nil(),
            version,
            zero_data: false,
            zero_entries: false,
        };
        format(&medium, &options, &mut |_, _| ()).expect("it is formatted");
        let btt = Btt::open(medium, placement, 2).expect("it opens");
        let disk = BttDisk::new("pmem0s".into(), btt, 2, Arc::new(Steps(0.into())));
        let (old, new) = ([0; 512], [7; 512]);
        let counts = || {
            let stats = disk.stats();
            let total = &stats.total;
            let timed = [stats.latency.read.count(), stats.latency.write.count()];
            assert_eq!(timed, [total.reads + total.read_errors, total.writes + total.write_errors]);
            assert_eq!(stats.latency.read.sum_ns + stats.latency.write.sum_ns, 1000 * (timed[0] + timed[1]));
            [total.reads, total.writes, total.sectors_written, total.commits, total.read_errors]
        };
        assert_eq!(disk.compare_and_write(CpuIndex(1), ExternalLba(3), &old, &new), Ok(true));
        assert_eq!(counts(), [0, 1, 1, 1, 0], "a write that compares is a write");
        assert_eq!(disk.compare_and_write(CpuIndex(1), ExternalLba(3), &old, &new), Ok(false));
        assert_eq!(counts(), [0, 1, 1, 1, 0], "one that differs is none");
        let mut found = [0; 512];
        disk.read(CpuIndex(0), ExternalLba(3), &mut found).expect("a sector");
        assert_eq!((found, counts()), (new, [1, 1, 1, 1, 0]));
        disk.write(CpuIndex(0), ExternalLba(0), &[1; 40 * 512]).expect("forty sectors");
        assert_eq!(counts(), [1, 2, 41, 3, 0], "in two commits");
        disk.read(CpuIndex(0), ExternalLba(u64::MAX), &mut found).expect_err("there is none");
        assert_eq!(counts(), [1, 2, 41, 3, 1]);
    }
}
