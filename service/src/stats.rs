//! Counters: one set a CPU, which alone adds to it, so that counting costs a load and a store of its own cache line, and no
//! locked instruction. Where two add to one set all the same, a count may be lost, and nothing else.
//!
//! | who writes | who reads | order |
//! |---|---|---|
//! | the CPU that owns the set | any, through [`Counters::snapshot`] | relaxed: a count is a number, it publishes nothing |

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::admin::commands::network::Traffic;
use crate::latency::{BOUNDS_NS, Histogram, Latencies, add};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident $field:ident $help:literal;)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        /// The values of all counters at a moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counter {
            /// All of them, in the order of [`Counts`].
            pub const ALL: [Self; COUNTERS] = [$(Self::$variant,)*];

            /// Its name in JSON; Prometheus has it as `untorn_<name>_total`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)* }
            }

            /// What it counts, in a phrase.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }

        const COUNTERS: usize = [$(Counter::$variant,)*].len();

        impl Counts {
            /// One counter's value.
            #[must_use]
            pub const fn get(&self, counter: Counter) -> u64 {
                match counter { $(Counter::$variant => self.$field,)* }
            }

            /// The sums. They wrap as the counters do.
            #[must_use]
            pub const fn plus(self, other: Self) -> Self {
                Self { $($field: self.$field.wrapping_add(other.$field),)* }
            }
        }

        impl Counters {
            /// The counters as they stand. Each is read once, but not all at the same moment.
            #[must_use]
            pub fn snapshot(&self) -> Counts {
                Counts { $($field: self.0[Counter::$variant as usize].load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Read requests that were answered.
    Reads reads "Read requests answered";
    /// Write requests that were acknowledged.
    Writes writes "Write requests acknowledged";
    /// Sectors read.
    SectorsRead sectors_read "Sectors read";
    /// Sectors written.
    SectorsWritten sectors_written "Sectors written";
    /// Read requests that failed.
    ReadErrors read_errors "Read requests that failed";
    /// Write requests that failed.
    WriteErrors write_errors "Write requests that failed";
    /// Fences executed.
    Fences fences "Fences executed";
    /// Cache lines whose write-back was started.
    WriteBacks write_backs "Cache lines whose write-back was started";
    /// Writes that met a map entry another lane had not fenced yet.
    Collisions collisions "Writes that met an unfenced map entry of another lane";
    /// Reads tried again because the map entry changed meanwhile.
    ReadRetries read_retries "Reads tried again because their map entry changed";
    /// Free blocks that the medium refused, so that another one was written.
    Refusals refusals "Free blocks that the medium refused";
    /// Runs of writes that were committed, with two fences or three each.
    Commits commits "Runs of writes that were committed";
}

/// One CPU's counters for one device. In cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct Counters([AtomicU64; COUNTERS]);

impl Counters {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; COUNTERS])
    }

    /// Counts `n` more. For its CPU.
    pub fn add(&self, counter: Counter, n: u64) {
        add(&self.0[counter as usize], n);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

/// What a CPU counts for a device.
#[derive(Debug, Default)]
pub struct OfCpu {
    /// What was done. Its CPU adds to it.
    pub counters: Counters,
    /// What its lane has done beside requests. Who reads the counters adds to it: one CPU at a time.
    pub beside: Counters,
    /// How long reads took.
    pub reads: Histogram,
    /// How long writes took, and what is like a write: zeroing, discarding, comparing and writing.
    pub writes: Histogram,
}

impl OfCpu {
    /// All zero.
    #[must_use]
    pub const fn new() -> Self {
        Self { counters: Counters::new(), beside: Counters::new(), reads: Histogram::new(), writes: Histogram::new() }
    }
}

/// A queue of a consumer's, since it was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueStats {
    /// The block device; empty once it is withdrawn.
    pub dev: String,
    /// The bridge's number of the consumer's disk.
    pub export: u16,
    /// The queue's number.
    pub queue: u16,
    /// The CPU that serves it.
    pub cpu: u32,
    /// Requests answered, those that failed included.
    pub requests: u64,
    /// Requests answered with an error.
    pub failed: u64,
    /// Interrupts sent to the driver.
    pub interrupts: u64,
    /// How often it ran empty and its driver was asked to kick.
    pub rests: u64,
    /// Its driver broke it.
    pub broken: bool,
}

/// How long a device's requests took, failed ones included: from when the appliance begins one until it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceLatency {
    /// Reads.
    pub read: Latencies,
    /// Writes, and what is like a write.
    pub write: Latencies,
}

/// One device's counters: together, and each CPU's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceStats {
    /// The block device.
    pub dev: String,
    /// Over all CPUs.
    #[serde(flatten)]
    pub total: Counts,
    /// By CPU, from CPU 0 on.
    pub cpus: Vec<Counts>,
    /// Bytes of a sector's data.
    pub sector_size: u32,
    /// How long requests took.
    pub latency: DeviceLatency,
}

impl DeviceStats {
    /// What the CPUs counted for `dev`, whose sectors have so many bytes of data.
    pub fn new<'a>(dev: impl Into<String>, sector_size: u32, cpus: impl Iterator<Item = &'a OfCpu>) -> Self {
        let (mut latency, mut counts) = (DeviceLatency::default(), Vec::new());
        for cpu in cpus {
            counts.push(cpu.counters.snapshot().plus(cpu.beside.snapshot()));
            cpu.reads.add_to(&mut latency.read);
            cpu.writes.add_to(&mut latency.write);
        }
        let total = counts.iter().fold(Counts::default(), |sum, cpu| sum.plus(*cpu));
        Self { dev: dev.into(), total, cpus: counts, sector_size, latency }
    }
}

/// The machine, as a scraper sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MachineStats {
    /// The image's version.
    pub version: String,
    /// Nanoseconds since the image began: when the counters were read.
    pub uptime_ns: u64,
    /// CPUs that serve.
    pub cpus: u32,
    /// Bytes of RAM.
    pub memory: u64,
    /// How often a namespace was opened whose interrupted writes had to be finished.
    pub recovered: u64,
    /// `ok`, `degraded` or `failed`.
    pub health: String,
    /// How many warnings `health` has.
    pub warnings: u64,
    /// How many errors it has.
    pub errors: u64,
}

/// What a namespace can be, in a word.
pub const STATES: [&str; 5] = ["active", "read-only", "disabled", "damaged", "unsupported"];

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamespaceStats {
    /// `namespace0.0`.
    pub dev: String,
    /// Its block device.
    pub blockdev: Option<String>,
    /// `sector` or `raw`.
    pub mode: String,
    /// One of [`STATES`].
    pub state: String,
    /// Bytes that it offers.
    pub size: u64,
    /// Arenas of its BTT.
    pub arenas: u64,
    /// Of these, how many take no writes.
    pub read_only_arenas: u64,
    /// Bytes that its medium is known to have lost.
    pub lost_bytes: u64,
}

/// A disk of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerStats {
    /// The block device; empty once it is withdrawn.
    pub dev: String,
    /// The bridge's number of the consumer's disk.
    pub export: u16,
    /// Queues that run.
    pub queues: u64,
}

/// What is served by NVMe/TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NvmeStats {
    /// Connections now.
    pub connections: u64,
    /// The most that there may be.
    pub connections_max: u64,
    /// Connections that were one too many, since boot.
    pub refused_connections: u64,
    /// Hosts that were refused, since boot: not allowed, or without the right secret.
    pub refused_hosts: u64,
    /// The disks.
    pub exports: Vec<NvmeExportStats>,
}

/// A disk that is served by NVMe/TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NvmeExportStats {
    /// The block device.
    pub dev: String,
    /// The NQNs of the hosts that are connected.
    pub hosts: Vec<String>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkStats {
    /// `net0`.
    pub dev: String,
    /// Whether it has a link.
    pub up: bool,
    /// What it has received.
    pub rx: Traffic,
    /// What it has sent.
    pub tx: Traffic,
}

/// All counters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Counters per device, since it was opened.
    pub devices: Vec<DeviceStats>,
    /// Counters of consumers' queues, since each was started.
    pub queues: Vec<QueueStats>,
    /// The bounds of latencies' buckets, in nanoseconds: [`BOUNDS_NS`].
    pub latency_bounds_ns: Vec<u64>,
    /// The machine.
    pub machine: MachineStats,
    /// The namespaces.
    pub namespaces: Vec<NamespaceStats>,
    /// Disks of consumers.
    pub consumers: Vec<ConsumerStats>,
    /// What is served by NVMe/TCP.
    pub nvme: NvmeStats,
    /// The network interfaces.
    pub networks: Vec<NetworkStats>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            queues: Vec::new(),
            latency_bounds_ns: BOUNDS_NS.to_vec(),
            machine: MachineStats::default(),
            namespaces: Vec::new(),
            consumers: Vec::new(),
            nvme: NvmeStats::default(),
            networks: Vec::new(),
        }
    }
}
