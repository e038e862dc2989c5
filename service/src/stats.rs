//! Counters: one set a CPU, so that counting costs one uncontended add.
//!
//! | who writes | who reads | order |
//! |---|---|---|
//! | the CPU that owns the set | any, through [`Counters::snapshot`] | relaxed: a count is a number, it publishes nothing |

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

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

    /// Counts `n` more.
    pub fn add(&self, counter: Counter, n: u64) {
        self.0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
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
}

impl DeviceStats {
    /// What the CPUs counted for `dev`.
    pub fn new(dev: impl Into<String>, cpus: Vec<Counts>) -> Self {
        let total = cpus.iter().fold(Counts::default(), |sum, cpu| sum.plus(*cpu));
        Self { dev: dev.into(), total, cpus }
    }
}

/// All counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Counters since boot, per device.
    pub devices: Vec<DeviceStats>,
    /// Counters of consumers' queues, since each was started.
    pub queues: Vec<QueueStats>,
}
