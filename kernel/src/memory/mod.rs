//! Physical and virtual memory.
//!
//! # Virtual addresses
//! | from | what | access |
//! |---|---|---|
//! | the image's link address, 1 MiB | the image, where it is loaded; each part exactly (`boot::image`) | code: read, execute; constants: read; data and the boot CPU's stack: read, write |
//! | two pages below 1 MiB | the trampoline, until all CPUs are up: for good if one is missing | code: read, execute; parameters: read, write |
//! | [`DIRECT_MAP`] | RAM that the firmware's map calls usable: heap, page tables | read, write |
//! | [`DEVICES`] | what drivers mapped: registers, persistent memory | read, write |
//! | [`STACKS`] | stacks, an unmapped page below each | read, write |
//!
//! Nothing is both writable and executable (invariant 14), and everything else is not mapped: address 0 and the guard
//! pages fault. One exception: as long as the trampoline is there, its two pages are in the direct map as well.
//!
//! # Physical addresses
//! RAM below 1 MiB stays untouched but for the trampoline, and a few pages at 56 MiB keep events over a reset
//! ([`retained`]). The largest region of RAM gives its upper three quarters to
//! the heap; the rest is handed out page by page, lowest first, for good: page tables and stacks.
//!
//! # Locks
//! The address space's lock, then the heap's (it allocates while it is held). No interrupt handler takes either.

mod frames;
mod heap;
mod retained;
mod space;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use bootloader_api::BootInfo;
use spin::Once;

pub(crate) use retained::RetainedRam;
pub(crate) use space::AddressSpace;

/// Where RAM is mapped, each byte at its physical address from here on: 64 TiB of room. The first page tables map it
/// here, too.
pub(crate) const DIRECT_MAP: u64 = boot::PHYSICAL_MEMORY_OFFSET;

/// Where drivers' mappings lie: 32 TiB of room.
pub(crate) const DEVICES: u64 = 0xffff_c000_0000_0000;

/// Where stacks lie.
pub(crate) const STACKS: u64 = 0xffff_e000_0000_0000;

/// The end of the last stack.
static STACKS_END: AtomicU64 = AtomicU64::new(STACKS);

/// The smallest page.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// How much memory there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    /// Usable RAM, the image included.
    pub(crate) ram_bytes: u64,
    /// The heap, used or not.
    pub(crate) heap_bytes: u64,
}

/// The memory that a reset leaves as it is, if there is enough memory for it.
static RETAINED: Once<Option<RetainedRam>> = Once::new();

static SPACE: Once<AddressSpace> = Once::new();

/// Replaces the loader's page tables by our own and sets the heap up. Called once, before the first allocation.
///
/// # Panics
/// When there is too little memory.
pub(crate) fn init(boot_info: &'static BootInfo) -> Totals {
    let offset = boot_info.physical_memory_offset.into_option();
    let offset = offset.expect("the boot loader maps physical memory");
    let mut frames = frames::Frames::new(&boot_info.memory_regions);
    let retained = frames.take_retained();
    let heap = frames.take_heap();
    // SAFETY: `init` is called once; the loader mapped what the first page tables need at `offset`; it vouches for the
    // regions.
    let space = SPACE.call_once(|| unsafe { AddressSpace::switch_to_own(&boot_info.memory_regions, frames, offset) });
    let heap_bytes = heap.end - heap.start;
    let start = space.direct(heap.start).expect("the heap lies in usable memory");
    // SAFETY: the range is RAM in the direct map, page-aligned, taken out of `frames` for the heap alone.
    unsafe { heap::init(start, usize::try_from(heap_bytes).expect("addresses have 64 bits")) };
    RETAINED.call_once(|| {
        let at = retained.then(|| space.direct(retained::AT)).flatten()?;
        // SAFETY: whole pages of RAM in the direct map, which `frames` has handed out for this alone, for good.
        Some(unsafe { RetainedRam::new(at) })
    });
    Totals { ram_bytes: space.ram_bytes(), heap_bytes }
}

/// Returns the one address space, which all CPUs share.
///
/// # Panics
/// Before [`init`].
pub(crate) fn space() -> &'static AddressSpace {
    SPACE.get().expect("memory comes first")
}

/// Returns the memory that a reset leaves as it is, if there is any. After [`init`].
pub(crate) fn retained() -> Option<&'static RetainedRam> {
    RETAINED.get()?.as_ref()
}

/// Returns whether an address lies in the unmapped page below a stack. Takes no lock: for use in a panic.
pub(crate) fn is_stack_guard(address: u64) -> bool {
    let boot_stack = boot::image::boot_stack().start;
    let stacks = STACKS..STACKS_END.load(Ordering::Relaxed);
    // All else there is mapped.
    (boot_stack - PAGE_BYTES..boot_stack).contains(&address) || stacks.contains(&address)
}

/// Returns the address as a pointer.
fn pointer(virt: u64) -> Option<NonNull<u8>> {
    NonNull::new(virt as *mut u8)
}
