//! The seam between the node and the machine below it, which lets the node run on a host, too.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use btt::CpuIndex;
use drivers::flush::Flush;
use drivers::phys::PhysMap;
use nvdimm::error::Place;
use nvdimm::label::LabelStore;
use nvdimm::region::CxlDevice;
use service::admin::AnyAppliance;
use service::events::LastBoot;
use service::progress::Progress;

use super::coroutine::{Coroutine, CoroutineBody};
use super::export::ExportServices;
use super::network::NetworkDevice;
use crate::events::{News, SharedJournal};

/// Persistent memory that no NFIT describes.
#[derive(Clone, Debug)]
pub struct BareMemory {
    /// Where it is from.
    pub at: Place,
    /// The memory, or why its device cannot be used.
    pub memory: Result<FlushedRange, String>,
}

/// A range, and what makes stores to it durable.
#[derive(Clone, Debug)]
pub struct FlushedRange {
    /// The first physical address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// A device, or write-backs from the CPUs' caches.
    pub flush: Option<Arc<dyn Flush>>,
    /// The CXL device that it is, if it is one.
    pub device: Option<CxlDevice>,
}

/// A machine that has been brought up.
pub trait Machine: Send + Sync + 'static {
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

    /// Returns the persistent memory that no NFIT describes: virtio-pmem by PCI address, CXL devices by it, then the
    /// memory map's. The node calls it once.
    fn bare_memory(&self) -> Vec<BareMemory> {
        Vec::new()
    }

    /// Returns what firmware's memory map has for anything else than persistent memory.
    fn in_use(&self) -> Vec<Range<u64>> {
        Vec::new()
    }

    /// Returns the store through which the DIMMs' labels are read and written in one piece of work, which may have a bound.
    fn labels(&self) -> Box<dyn LabelStore + '_>;

    /// Returns what exports need. The node calls it once. Without a link nothing is exported.
    fn export_services(&self) -> ExportServices {
        ExportServices::none()
    }

    /// Attends to who asks at the console, between two steps of a long command on CPU 0: requests that may go beside the
    /// command (`service::console::beside`) are carried out on `node`, which is in the midst of it. Returns whether the command
    /// is to end.
    fn attend(&self, node: &AnyAppliance) -> bool;

    /// Shows who waits for a long command how far it is. Called on CPU 0 between two steps.
    fn progress(&self, _progress: &Progress<'_>) {}

    /// Returns whether there is a stack for another coroutine.
    fn has_stack(&self) -> bool {
        false
    }

    /// Returns a coroutine, which CPU 0 resumes. The caller has seen that there is a stack for it, and goes on with it to its
    /// end.
    fn coroutine(&self, _body: CoroutineBody) -> Box<dyn Coroutine> {
        unreachable!("there is no stack");
    }

    /// Returns the network devices that were set up, in their order. The node calls it once.
    fn network_devices(&self) -> Vec<NetworkDevice> {
        Vec::new()
    }

    /// Returns the image's command line: `KEY=VALUE` words.
    fn command_line(&self) -> String {
        String::new()
    }

    /// Returns the ring of events.
    fn journal(&self) -> SharedJournal;

    /// Adds an event to the ring, and shows it with all before it, on CPU 0 while a command is carried out or at boot.
    fn tell(&self, news: &News<'_>);

    /// Sets the watchdog's time in seconds ([`crate::watchdog`]): `None` turns it off. While it is on, the machine restarts by
    /// itself after a panic, and when a CPU is stuck for that long.
    fn set_watchdog(&self, _seconds: Option<u32>) {}

    /// Returns what memory has kept of the boot before.
    fn last_boot(&self) -> Option<LastBoot> {
        None
    }
}
