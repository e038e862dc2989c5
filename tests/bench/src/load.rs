//! Loads: what each thread reads and writes, on a CPU of its own, and how long that takes.
//!
//! # Drawn as other programs draw
//! So that engines can be compared sector by sector, the order of sectors is not this program's own: thread t of mix m (its
//! place in [`Mix`]) draws from SplitMix64 with the state 1000003 + 7919 t + 104729 m + 1, first the words of a sector, then
//! one number r for each operation: its sector is the upper half of the product of r and the number of sectors; in the mix of
//! reads and writes it writes if r modulo 1024 is 717 or more. A sector that is written has its LBA plus 1 in its first
//! word, and how many were written before it in its last; a sector that is read must have the former.

use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use btt::bytes::{Sectors, SectorsMut};
use btt::commit::Writes;
use btt::guard::LaneGuard;
use btt::media::{MediaError, NsOffset, SectorSource};
use btt::{Btt, BttError, CpuIndex, ExternalLba};
use drivers::pmem::Pmem;
use service::pattern::Choices;

use crate::aligned::Aligned;
use crate::cpus::{allowed, cpu_seconds, pin};

/// One operation in so many is timed, so that the clock does not dominate.
const SAMPLE: u64 = 16;

/// Which operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Writes anywhere.
    RandomWrites,
    /// Reads anywhere.
    RandomReads,
    /// Writes in order, each thread in its part of the disk.
    SequentialWrites,
    /// Reads in order, each thread in its part of the disk.
    SequentialReads,
    /// 70 % reads and 30 % writes, anywhere.
    Mixed,
}

/// The mixes, with their names, in the order by which threads draw.
const MIXES: [(Mix, &str); 5] = [
    (Mix::RandomWrites, "randwrite"),
    (Mix::RandomReads, "randread"),
    (Mix::SequentialWrites, "seqwrite"),
    (Mix::SequentialReads, "seqread"),
    (Mix::Mixed, "rw7030"),
];

impl FromStr for Mix {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = MIXES.iter().find(|(_, name)| *name == word);
        found.map(|(mix, _)| *mix).ok_or_else(|| format!("a mix is one of {}", MIXES.map(|(_, name)| name).join(", ")))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MIXES[*self as usize].1)
    }
}

/// The sectors of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// So many, one after another.
    Run(u64),
    /// So many anywhere, each drawn by itself, written together: in one commit, or in as few as take them.
    Scatter(u64),
}

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Which operations.
    pub mix: Mix,
    /// Which sectors each has. What is scattered is written only.
    pub shape: Shape,
    /// How many threads; each has a CPU of its own while there are enough.
    pub threads: u32,
    /// For how long.
    pub time: Duration,
}

/// What all threads did.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Sectors read and written.
    pub sectors: u64,
    /// Operations that failed, and sectors that did not read as they must.
    pub errors: u64,
    /// From the first start to the last end, in seconds.
    pub seconds: f64,
    /// Sectors for each second of CPU time, summed over the threads.
    pub sectors_per_cpu_second: f64,
    /// How long the sampled operations took, in nanoseconds, sorted.
    pub latencies_ns: Vec<u64>,
}

/// What one thread did.
struct Share {
    sectors: u64,
    errors: u64,
    start: Instant,
    end: Instant,
    cpu_seconds: f64,
    latencies_ns: Vec<u64>,
}

impl Load {
    /// Runs it.
    ///
    /// # Errors
    /// It is none; a thread cannot have its CPU, or its clock.
    pub fn run(&self, btt: &Btt<Pmem>) -> Result<Done, Box<dyn Error>> {
        let (Shape::Run(count) | Shape::Scatter(count)) = self.shape;
        if matches!(self.shape, Shape::Scatter(_)) && self.mix != Mix::RandomWrites {
            return Err(format!("scattered sectors are only written (randwrite), not {}", self.mix).into());
        }
        if count == 0 || count > btt.capacity_sectors() {
            return Err(format!("an operation cannot have {count} of {} sectors", btt.capacity_sectors()).into());
        }
        let cpus = allowed()?;
        let barrier = Barrier::new(self.threads as usize);
        let shares: Vec<Share> = std::thread::scope(|scope| {
            let start = |thread: u32| {
                let (cpu, barrier) = (cpus[thread as usize % cpus.len()], &barrier);
                scope.spawn(move || {
                    let pinned = pin(cpu);
                    let worker = Worker::new(self, btt, thread);
                    barrier.wait();
                    pinned.and_then(|()| worker.work())
                })
            };
            let threads: Vec<_> = (0..self.threads).map(start).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("a worker does not panic"))
                .collect::<nix::Result<_>>()
        })?;
        let start = shares.iter().map(|share| share.start).min().ok_or("no thread")?;
        let end = shares.iter().map(|share| share.end).max().ok_or("no thread")?;
        let mut done = Done { seconds: (end - start).as_secs_f64(), ..Done::default() };
        for share in shares {
            done.sectors += share.sectors;
            done.errors += share.errors;
            done.sectors_per_cpu_second += share.sectors as f64 / share.cpu_seconds;
            done.latencies_ns.extend(share.latencies_ns);
        }
        done.latencies_ns.sort_unstable();
        Ok(done)
    }
}

/// Gives a sector that is to be written its first and its last word.
pub fn stamp(sector: &mut [u8], lba: u64, count: u64) {
    if let Some(first) = sector.first_chunk_mut() {
        *first = (lba + 1).to_le_bytes();
    }
    if let Some(last) = sector.last_chunk_mut() {
        *last = count.to_le_bytes();
    }
}

/// Whether a sector was written for this LBA.
fn is_of(sector: &[u8], lba: u64) -> bool {
    sector.first_chunk().is_some_and(|first| u64::from_le_bytes(*first) == lba + 1)
}

/// The order in which a thread does its operations.
#[derive(Debug)]
struct Order {
    mix: Mix,
    choices: Choices,
    /// Runs that the disk has.
    runs: u64,
    /// The next operation's run, if they are in order, and the thread's runs.
    next: u64,
    own: Range<u64>,
}

impl Order {
    fn new(mix: Mix, thread: u32, threads: u32, runs: u64) -> Self {
        let state = 1_000_003 + u64::from(thread) * 7919 + mix as u64 * 104_729 + 1;
        let part = |number: u32| runs * u64::from(number) / u64::from(threads);
        let own = part(thread)..part(thread + 1);
        Self { mix, choices: Choices::split_mix(state), runs, next: own.start, own }
    }

    /// The words of the sector that is written: drawn before any operation is.
    fn sector(&mut self, bytes: u32) -> Vec<u8> {
        (0..bytes / 8).flat_map(|_| self.choices.next().to_le_bytes()).collect()
    }

    /// Which run is next, and whether it is written.
    #[inline]
    fn draw(&mut self) -> (u64, bool) {
        match self.mix {
            Mix::SequentialWrites | Mix::SequentialReads => {
                let run = self.next;
                self.next = if run + 1 < self.own.end { run + 1 } else { self.own.start };
                (run, self.mix == Mix::SequentialWrites)
            }
            mix => {
                let drawn = self.choices.next();
                let upper = (u128::from(drawn) * u128::from(self.runs)) >> 64;
                let run = u64::try_from(upper).expect("half of 128 bits");
                (run, mix == Mix::RandomWrites || mix == Mix::Mixed && drawn % 1024 >= 717)
            }
        }
    }
}

/// Sectors that are written together, and where each goes.
pub struct Scattered<'a> {
    /// What is written.
    pub sectors: Sectors<'a>,
    /// Where, for each.
    pub lbas: &'a [ExternalLba],
}

impl Scattered<'_> {
    /// Writes all of them, in as few commits as take them.
    ///
    /// # Errors
    /// btt's.
    #[inline]
    pub fn commit_all(&self, lane: &mut LaneGuard<'_, Pmem>) -> Result<(), BttError> {
        let mut done = 0;
        while done < self.lbas.len() {
            done += lane.commit(self, done)?;
        }
        Ok(())
    }
}

impl SectorSource<Pmem> for Scattered<'_> {
    #[inline]
    fn store(&self, index: usize, media: &Pmem, at: NsOffset) -> Result<(), MediaError> {
        self.sectors.store(index, media, at)
    }
}

impl Writes<Pmem> for Scattered<'_> {
    #[inline]
    fn count(&self) -> usize {
        self.lbas.len()
    }

    #[inline]
    fn lba(&self, index: usize) -> ExternalLba {
        self.lbas[index]
    }
}

/// A thread's part of a load.
struct Worker<'a> {
    load: &'a Load,
    btt: &'a Btt<Pmem>,
    cpu: CpuIndex,
    order: Order,
    /// The sectors of an operation, if they are scattered.
    lbas: Vec<ExternalLba>,
    to_write: Aligned,
    to_read: Aligned,
    written: u64,
}

impl<'a> Worker<'a> {
    /// Lanes go by threads, whatever CPU a thread is on.
    fn new(load: &'a Load, btt: &'a Btt<Pmem>, thread: u32) -> Self {
        let (unit, count) = match load.shape {
            Shape::Run(count) => (count, count),
            Shape::Scatter(count) => (1, count),
        };
        let count = usize::try_from(count).expect("an operation fits in memory");
        let mut order = Order::new(load.mix, thread, load.threads, btt.capacity_sectors() / unit);
        let sector = order.sector(btt.sector_size().bytes());
        let (mut to_write, to_read) = (Aligned::new(sector.len() * count), Aligned::new(sector.len() * count));
        to_write.bytes_mut().chunks_exact_mut(sector.len()).for_each(|into| into.copy_from_slice(&sector));
        let lbas = vec![ExternalLba(0); count];
        Self { load, btt, cpu: CpuIndex(thread), order, lbas, to_write, to_read, written: 0 }
    }

    fn work(mut self) -> nix::Result<Share> {
        let cpu_start = cpu_seconds()?;
        let start = Instant::now();
        let (mut sectors, mut errors, mut latencies_ns) = (0, 0, Vec::new());
        let mut end = start;
        for op in 0_u64.. {
            let began = op.is_multiple_of(SAMPLE).then(Instant::now);
            let good = match self.load.shape {
                Shape::Run(count) => {
                    sectors += count;
                    let (run, writes) = self.order.draw();
                    if writes { self.write(run * count, count) } else { self.read(run * count, count) }
                }
                Shape::Scatter(count) => {
                    sectors += count;
                    self.scatter()
                }
            };
            errors += u64::from(!good);
            if let Some(began) = began {
                end = Instant::now();
                latencies_ns.push(u64::try_from((end - began).as_nanos()).unwrap_or(u64::MAX));
                if end - start >= self.load.time {
                    break;
                }
            }
        }
        Ok(Share { sectors, errors, start, end, cpu_seconds: cpu_seconds()? - cpu_start, latencies_ns })
    }

    #[inline]
    fn write(&mut self, lba: u64, count: u64) -> bool {
        let size = self.btt.sector_size();
        for (sector, lba) in self.to_write.bytes_mut().chunks_exact_mut(size.bytes() as usize).zip(lba..) {
            self.written += 1;
            stamp(sector, lba, self.written);
        }
        let Some(sectors) = Sectors::new(self.to_write.bytes(), size) else { return false };
        self.btt.lane(self.cpu).write(ExternalLba(lba), count, &sectors).is_ok()
    }

    #[inline]
    fn scatter(&mut self) -> bool {
        let size = self.btt.sector_size();
        for (sector, lba) in self.to_write.bytes_mut().chunks_exact_mut(size.bytes() as usize).zip(&mut self.lbas) {
            *lba = ExternalLba(self.order.draw().0);
            self.written += 1;
            stamp(sector, lba.0, self.written);
        }
        let Some(sectors) = Sectors::new(self.to_write.bytes(), size) else { return false };
        Scattered { sectors, lbas: &self.lbas }.commit_all(&mut self.btt.lane(self.cpu)).is_ok()
    }

    #[inline]
    fn read(&mut self, lba: u64, count: u64) -> bool {
        let size = self.btt.sector_size();
        let Some(mut sectors) = SectorsMut::new(self.to_read.bytes_mut(), size) else { return false };
        if self.btt.reader(self.cpu).read(ExternalLba(lba), count, &mut sectors).is_err() {
            return false;
        }
        if count == 1 {
            return is_of(self.to_read.bytes(), lba);
        }
        self.to_read.bytes().chunks_exact(size.bytes() as usize).zip(lba..).all(|(sector, lba)| is_of(sector, lba))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_draw_the_sectors_that_other_programs_draw() {
        // Worked out by another program from the rule at the top.
        let drawn = |mix, thread, sector| {
            let mut order = Order::new(mix, thread, 2, 65_000);
            let words = order.sector(sector);
            (u64::from_le_bytes(*words.first_chunk().expect("a word")), [(); 4].map(|()| order.draw()))
        };
        assert_eq!(
            drawn(Mix::RandomWrites, 0, 512),
            (4_294_279_809_680_864_835, [(38956, true), (43537, true), (5182, true), (6355, true)])
        );
        assert_eq!(
            drawn(Mix::RandomReads, 1, 4096),
            (15_798_585_606_304_134_002, [(58829, false), (35209, false), (16513, false), (17611, false)])
        );
        assert_eq!(
            drawn(Mix::Mixed, 0, 4096),
            (3_843_092_316_668_241_029, [(48388, false), (38954, false), (21601, false), (45877, false)])
        );
    }

    #[test]
    fn threads_in_order_go_round_in_their_own_parts() {
        let mut order = Order::new(Mix::SequentialReads, 1, 2, 5);
        assert_eq!([(); 4].map(|()| order.draw()), [(2, false), (3, false), (4, false), (2, false)]);
    }
}
