//! The seam between the node and the machine below it, which lets the node run on a host, too.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use btt::CpuIndex;
use core::fmt;
use drivers::phys::PhysMap;
use nvdimm::label::LabelStore;

use super::export::ExportServices;

/// A machine that has been brought up.
pub trait Machine: Sync {
    /// The type of its map of physical memory.
    type Map: PhysMap;

    /// Returns its map of physical memory.
    fn map(&self) -> &Self::Map;

    /// Returns how many CPUs run.
    fn cpus(&self) -> u32;

    /// Returns the CPU that calls.
    fn this_cpu() -> CpuIndex;

    /// Runs `work` on every CPU, this one included, and returns when all have finished.
    fn run_on_all(&self, work: &(dyn Fn(CpuIndex) + Sync));

    /// Returns the nanoseconds since the image began. Never goes back.
    fn now_ns(&self) -> u64;

    /// Returns random bytes, for a uuid.
    fn random(&self) -> [u8; 16];

    /// Returns the bytes of RAM.
    fn memory_bytes(&self) -> u64;

    /// Returns the bytes of the heap, used or not. Sizes that media, firmware and peers choose are limited to a part of
    /// it.
    fn heap_bytes(&self) -> u64;

    /// Returns the signatures of the firmware tables that were found, in order.
    fn tables(&self) -> Vec<String>;

    /// Returns the NFITs, each from its header on.
    fn nfits(&self) -> &[Vec<u8>];

    /// Returns the store through which the DIMMs' labels are read and written.
    fn labels(&self) -> Box<dyn LabelStore + '_>;

    /// Returns what exports need. The node calls it once. Without a link nothing is exported.
    fn export_services(&self) -> ExportServices {
        ExportServices::none()
    }

    /// Adds a line to the log.
    fn log(&self, line: fmt::Arguments<'_>);
}
