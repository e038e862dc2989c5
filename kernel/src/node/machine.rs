//! What the node needs of the machine below it: the seam that lets the node run on a host, too.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use btt::CpuIndex;
use core::fmt;
use drivers::phys::PhysMap;
use nvdimm::label::LabelStore;

use super::export::Means;

/// A machine that has been brought up.
pub trait Machine: Sync {
    /// How it maps physical memory.
    type Map: PhysMap;

    /// Maps physical memory.
    fn map(&self) -> &Self::Map;

    /// How many CPUs run.
    fn cpus(&self) -> u32;

    /// The CPU that asks.
    fn this_cpu() -> CpuIndex;

    /// Runs `work` on every CPU, this one included, and returns when all have done it.
    fn run_on_all(&self, work: &(dyn Fn(CpuIndex) + Sync));

    /// Nanoseconds since the image began. Never goes back.
    fn now_ns(&self) -> u64;

    /// Random bytes, for a uuid.
    fn random(&self) -> [u8; 16];

    /// Bytes of RAM.
    fn memory_bytes(&self) -> u64;

    /// Bytes of the heap, used or not: what others choose (media, firmware, peers) may take a part of it.
    fn heap_bytes(&self) -> u64;

    /// Signatures of the firmware tables that were found, in order.
    fn tables(&self) -> Vec<String>;

    /// The NFITs, each from its header on.
    fn nfits(&self) -> &[Vec<u8>];

    /// Where the DIMMs' labels are read and written.
    fn labels(&self) -> Box<dyn LabelStore + '_>;

    /// What exports need. Asked once. Without it nothing is exported.
    fn means(&self) -> Means {
        Means::none()
    }

    /// Adds a line to the log.
    fn log(&self, line: fmt::Arguments<'_>);
}
