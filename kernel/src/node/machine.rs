//! What the node needs of the machine below it: the seam that lets the node run on a host, too.

use alloc::string::String;
use alloc::vec::Vec;
use btt::CpuIndex;
use core::fmt;
use drivers::phys::PhysMap;

/// A machine that has been brought up.
pub trait Machine: Sync {
    /// How it maps physical memory.
    type Map: PhysMap;

    /// Maps physical memory.
    fn map(&self) -> &Self::Map;

    /// How many CPUs run.
    fn cpus(&self) -> u32;

    /// The CPU that asks.
    fn this_cpu(&self) -> CpuIndex;

    /// Runs `work` on every CPU, this one included, and returns when all have done it.
    fn run_on_all(&self, work: &(dyn Fn(CpuIndex) + Sync));

    /// Nanoseconds since the CPU started. Never goes back.
    fn now_ns(&self) -> u64;

    /// Random bytes, for a uuid.
    fn random(&self) -> [u8; 16];

    /// Bytes of RAM.
    fn memory_bytes(&self) -> u64;

    /// Signatures of the firmware tables that were found, in order.
    fn tables(&self) -> Vec<String>;

    /// The NFITs, each from its header on.
    fn nfits(&self) -> &[Vec<u8>];

    /// Whether the firmware offers QEMU's label mailbox.
    fn has_label_mailbox(&self) -> bool;

    /// Reads `into.len()` bytes from `offset` of the label area of the DIMM with this NFIT handle, through the label
    /// mailbox; `None` asks for the area's size only.
    ///
    /// # Errors
    /// What the mailbox says, in words.
    fn label_area_bytes(&self, handle: u32) -> Result<u64, String>;

    /// Reads from a DIMM's label area.
    ///
    /// # Errors
    /// What the mailbox says, in words.
    fn read_labels(&self, handle: u32, offset: u64, into: &mut [u8]) -> Result<(), String>;

    /// Adds a line to the log.
    fn log(&self, line: fmt::Arguments<'_>);
}
