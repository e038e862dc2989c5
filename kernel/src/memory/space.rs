//! The address space: page tables, guarded stacks, and physical ranges mapped for drivers.

use alloc::vec::Vec;
use core::arch::x86_64::__cpuid;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use boot::image::{self, Access};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use spin::Mutex;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::{MapToError, Mapper as _};
use x86_64::structures::paging::{
    FrameAllocator, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB, Size2MiB, Size4KiB,
};

use super::frames::Frames;
use super::{DEVICES, DIRECT_MAP, PAGE_BYTES, STACKS, STACKS_END, pointer};

const READ: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE);
const READ_WRITE: PageTableFlags = READ.union(PageTableFlags::WRITABLE);
const EXECUTE: PageTableFlags = PageTableFlags::PRESENT;
/// Entry 3 of the page attribute table, which `cpu` sets to uncached on every CPU.
const UNCACHED: PageTableFlags = PageTableFlags::NO_CACHE.union(PageTableFlags::WRITE_THROUGH);

/// The most bits of a physical address, whatever CPUID says: a page table entry has room for no more.
const MAX_PHYSICAL_BITS: u32 = 52;

/// The address space of all CPUs.
pub(crate) struct AddressSpace {
    regions: &'static [MemoryRegion],
    /// The end of physical addresses.
    physical_end: u64,
    giant_pages: bool,
    root: u64,
    state: Mutex<State>,
}

struct State {
    table: OffsetPageTable<'static>,
    frames: Frames,
    next_device: u64,
    mapped: Vec<Mapping>,
}

/// Whole pages that a driver mapped.
struct Mapping {
    physical: Range<u64>,
    virt: u64,
    attribute: Attribute,
}

impl AddressSpace {
    /// Builds page tables of our own and activates them on this CPU.
    ///
    /// # Panics
    /// When memory runs out.
    ///
    /// # Safety
    /// 1. `offset` shows physical memory, at least the lowest usable pages, writable.
    /// 2. The regions are right, and only the image uses what they call usable or the boot loader's.
    /// 3. The stack in use lies in the image.
    pub(super) unsafe fn switch_to_own(regions: &'static [MemoryRegion], mut frames: Frames, offset: u64) -> Self {
        let giant_pages = giant_pages();
        let root = frames.allocate_frame().expect("there is memory for page tables");
        let place = (offset + root.start_address().as_u64()) as *mut PageTable;
        // SAFETY: the page was just handed out, so no other code has it; `offset` shows it (1).
        let top = unsafe {
            place.write(PageTable::new());
            &mut *place
        };
        // SAFETY: `top` is an empty table, and all further tables come from `frames`, which `offset` shows (1).
        let mut table = unsafe { OffsetPageTable::new(top, VirtAddr::new(offset)) };

        for part in image::parts() {
            let flags = match part.access {
                Access::Read => READ,
                Access::Execute => EXECUTE,
                Access::Write => READ_WRITE,
            };
            let new = NewMapping { virt: part.range.start, physical: part.range, flags };
            map_pages(&mut table, &mut frames, new, giant_pages).expect("there is memory for the image's tables");
        }
        for region in regions.iter().filter(|region| region.kind == MemoryRegionKind::Usable) {
            let physical = region.start..region.end;
            assert!(physical.end <= DEVICES - DIRECT_MAP, "memory at {:#x} is out of reach", physical.start);
            let new = NewMapping { virt: DIRECT_MAP + physical.start, physical, flags: READ_WRITE };
            map_pages(&mut table, &mut frames, new, giant_pages).expect("there is memory for the direct map");
        }

        // SAFETY: the new tables map the image as it is used: code, constants, data and the stack (3).
        unsafe { Cr3::write(root, Cr3Flags::empty()) };
        let root = root.start_address().as_u64();
        // SAFETY: the direct map shows the same tables; the old view of them is not used any more.
        let table =
            unsafe { OffsetPageTable::new(&mut *((DIRECT_MAP + root) as *mut PageTable), VirtAddr::new(DIRECT_MAP)) };
        let state = State { table, frames, next_device: DEVICES, mapped: Vec::new() };
        Self { regions, physical_end: 1 << physical_bits(), giant_pages, root, state: Mutex::new(state) }
    }

    /// Returns the top page table's physical address, which CR3 holds on every CPU.
    pub(crate) const fn root(&self) -> u64 {
        self.root
    }

    /// Returns the bytes of usable RAM, the image included.
    pub(super) fn ram_bytes(&self) -> u64 {
        self.regions.iter().filter(|region| ours(region)).map(|region| region.end - region.start).sum()
    }

    /// Returns how many pages are left for stacks and page tables.
    pub(crate) fn pages_left(&self) -> u64 {
        self.state.lock().frames.left()
    }

    /// Returns where the direct map has the usable RAM at `physical`.
    pub(crate) fn direct(&self, physical: u64) -> Option<NonNull<u8>> {
        let usable = |region: &&MemoryRegion| region.kind == MemoryRegionKind::Usable;
        let mut regions = self.regions.iter().filter(usable);
        regions.find(|region| region.start <= physical && physical < region.end)?;
        pointer(DIRECT_MAP + physical)
    }

    /// Returns two adjacent pages of usable RAM that a starting CPU reaches in real mode, and that hold nothing.
    pub(crate) fn low_pages(&self) -> Option<u64> {
        // Not page 0, where the BIOS has its data; not from 0x9f000 on, where its extended data may lie.
        (0x8..0x9e).chain(0x1..0x7).map(|page| page * PAGE_BYTES).find(|at| {
            let both = [*at, *at + PAGE_BYTES];
            both.iter().all(|page| self.direct(*page).is_some())
        })
    }

    /// Copies physical memory that was written from outside: firmware's tables.
    ///
    /// # Errors
    /// When the range cannot be mapped.
    pub(crate) fn read_physical(&self, at: u64, into: &mut [u8]) -> Result<(), MapError> {
        let bytes = into.len() as u64;
        if bytes == 0 {
            return Ok(());
        }
        let last = at.checked_add(bytes - 1).ok_or(MapError::BeyondPhysicalWidth { at: PhysAddr(at), bytes })?;
        let inside = self
            .regions
            .iter()
            .any(|region| region.kind == MemoryRegionKind::Usable && region.start <= at && last < region.end);
        // The image is mapped at its own addresses: a root pointer that `boot` copied lies there.
        let in_image = || image::parts().iter().any(|part| part.range.start <= at && last < part.range.end);
        let from = match self.direct(at).filter(|_| inside).or_else(|| pointer(at).filter(|_| in_image())) {
            Some(from) => from,
            None => self.map(PhysAddr(at), bytes, Attribute::WriteBack)?,
        };
        for (index, byte) in into.iter_mut().enumerate() {
            // SAFETY: `bytes` bytes from `from` on are mapped: by the direct map, which shows all of the region, as a part
            // of the image, or by `map`. They are plain memory; the read is volatile, because firmware may write there.
            *byte = unsafe { from.as_ptr().add(index).read_volatile() };
        }
        Ok(())
    }

    /// Makes a stack of `bytes` (whole pages), with an unmapped page below (invariant 14), and returns its top.
    ///
    /// # Panics
    /// When memory runs out: stacks are made at bring-up, for as many CPUs as there are pages for
    /// ([`AddressSpace::pages_left`]).
    pub(crate) fn new_stack(&self, bytes: u64) -> u64 {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        // Written here only, under the lock.
        let bottom = STACKS_END.load(Ordering::Relaxed) + PAGE_BYTES;
        let top = bottom + bytes;
        STACKS_END.store(top, Ordering::Relaxed);
        for virt in (bottom..top).step_by(4096) {
            let frame = state.frames.allocate_frame().expect("there is memory for stacks");
            let page = Page::<Size4KiB>::containing_address(VirtAddr::new(virt));
            // SAFETY: the frame and the page were never handed out before, so nothing is aliased.
            let flush = unsafe { state.table.map_to(page, frame, READ_WRITE, &mut state.frames) };
            // Not mapped before, so no CPU can have it cached.
            flush.expect("there is memory for the stacks' tables").ignore();
        }
        top
    }

    /// Hands out a page of RAM for good: its place in the direct map, and its physical address.
    pub(crate) fn new_page(&self) -> Option<(NonNull<u8>, PhysAddr)> {
        let at = self.state.lock().frames.allocate_frame()?.start_address().as_u64();
        Some((self.direct(at)?, PhysAddr(at)))
    }

    /// Maps a page below 1 MiB at its own address: for CPUs that start.
    ///
    /// # Panics
    /// When it is mapped already, or memory runs out.
    pub(crate) fn map_low(&self, at: u64, executable: bool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let flags = if executable { EXECUTE } else { READ_WRITE };
        let new = NewMapping { virt: at, physical: at..at + PAGE_BYTES, flags };
        map_pages(&mut state.table, &mut state.frames, new, false).expect("there is memory for a page table");
    }

    /// Unmaps what [`AddressSpace::map_low`] mapped. Other CPUs flush their own TLB afterwards.
    pub(crate) fn unmap_low(&self, at: u64) {
        let page = Page::<Size4KiB>::containing_address(VirtAddr::new(at));
        if let Ok((_, flush)) = self.state.lock().table.unmap(page) {
            flush.flush();
        }
        tlb::flush_all();
    }
}

impl fmt::Debug for AddressSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace").field("root", &self.root).finish_non_exhaustive()
    }
}

// SAFETY:
// 1. A mapping is never taken back; all CPUs use these tables; `map_pages` maps page by page exactly what was asked.
// 2. Everything Rust owns lies in regions that `ours` names (image, heap, tables, stacks): such ranges are refused.
// 3. Whole pages are mapped, and the offset in the page is kept.
unsafe impl PhysMap for AddressSpace {
    fn map(&self, at: PhysAddr, bytes: u64, attribute: Attribute) -> Result<NonNull<u8>, MapError> {
        if bytes == 0 {
            return Err(MapError::Empty { at });
        }
        let beyond = MapError::BeyondPhysicalWidth { at, bytes };
        let no_room = MapError::NoRoom { at, bytes };
        let end = at.0.checked_add(bytes).filter(|end| *end <= self.physical_end).ok_or(beyond)?;
        let within_page = at.0 % PAGE_BYTES;
        let physical = at.0 - within_page..end.next_multiple_of(PAGE_BYTES);
        if self.regions.iter().any(|region| ours(region) && overlap(&(region.start..region.end), &physical)) {
            return Err(MapError::OverlapsMemory { at, bytes });
        }

        let mut guard = self.state.lock();
        let state = &mut *guard;
        for old in state.mapped.iter().filter(|old| overlap(&old.physical, &physical)) {
            if old.attribute != attribute {
                return Err(MapError::AttributeConflict { at });
            }
            if old.physical.start <= physical.start && physical.end <= old.physical.end {
                return pointer(old.virt + (at.0 - old.physical.start)).ok_or(no_room);
            }
        }

        // The same offset within the largest page that fits, so that such pages can be used.
        let length = physical.end - physical.start;
        let unit = match length {
            Size1GiB::SIZE.. if self.giant_pages => Size1GiB::SIZE,
            Size2MiB::SIZE.. => Size2MiB::SIZE,
            _ => PAGE_BYTES,
        };
        let virt = state.next_device.next_multiple_of(unit) + physical.start % unit;
        let next = virt.checked_add(length + PAGE_BYTES).filter(|next| *next <= STACKS).ok_or(no_room)?;
        // The most tables that this can take: small pages at the edges, and a directory for each GiB in between.
        if state.frames.left() < length / Size1GiB::SIZE + (length >> 39) + 8 {
            return Err(no_room);
        }
        state.next_device = next;
        let flags = if attribute == Attribute::Uncached { READ_WRITE | UNCACHED } else { READ_WRITE };
        let new = NewMapping { virt, physical: physical.clone(), flags };
        map_pages(&mut state.table, &mut state.frames, new, self.giant_pages).map_err(|_| no_room)?;
        state.mapped.push(Mapping { physical, virt, attribute });
        pointer(virt + within_page).ok_or(no_room)
    }
}

/// Returns whether Rust objects may lie there.
fn ours(region: &MemoryRegion) -> bool {
    matches!(region.kind, MemoryRegionKind::Usable | MemoryRegionKind::Bootloader)
}

const fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Pages to be mapped.
struct NewMapping {
    virt: u64,
    physical: Range<u64>,
    flags: PageTableFlags,
}

/// No memory for page tables, or something is mapped there already.
#[derive(Debug)]
struct NotMapped;

/// Maps pages: the largest that their alignment and the CPU allow.
fn map_pages(
    table: &mut OffsetPageTable<'static>,
    frames: &mut Frames,
    new: NewMapping,
    giant_pages: bool,
) -> Result<(), NotMapped> {
    let NewMapping { mut virt, physical, flags } = new;
    let mut at = physical.start;
    while at < physical.end {
        let left = physical.end - at;
        let fits = |size: u64| (virt | at).is_multiple_of(size) && left >= size;
        let size = if giant_pages && fits(Size1GiB::SIZE) {
            map_page::<Size1GiB>(table, frames, virt, at, flags)
        } else if fits(Size2MiB::SIZE) {
            map_page::<Size2MiB>(table, frames, virt, at, flags)
        } else {
            map_page::<Size4KiB>(table, frames, virt, at, flags)
        }?;
        virt += size;
        at += size;
    }
    Ok(())
}

fn map_page<S: PageSize>(
    table: &mut OffsetPageTable<'static>,
    frames: &mut Frames,
    virt: u64,
    physical: u64,
    flags: PageTableFlags,
) -> Result<u64, NotMapped>
where
    OffsetPageTable<'static>: x86_64::structures::paging::Mapper<S>,
{
    let page = Page::<S>::containing_address(VirtAddr::new(virt));
    let frame = PhysFrame::<S>::containing_address(x86_64::PhysAddr::new(physical));
    // SAFETY: callers map the image as it is used, RAM into the direct map (whose only other view is the trampoline's,
    // see the module), and physical ranges outside all Rust objects.
    match unsafe { table.map_to(page, frame, flags, frames) } {
        Ok(flush) => {
            flush.ignore(); // not mapped before, so no CPU can have it cached
            Ok(S::SIZE)
        }
        Err(MapToError::FrameAllocationFailed | MapToError::ParentEntryHugePage | MapToError::PageAlreadyMapped(_)) => {
            Err(NotMapped)
        }
    }
}

/// Returns the bits of a physical address (CPUID leaf 8000_0008h).
fn physical_bits() -> u32 {
    let bits = if __cpuid(0x8000_0000).eax >= 0x8000_0008 { __cpuid(0x8000_0008).eax & 0xff } else { 36 };
    bits.min(MAX_PHYSICAL_BITS)
}

/// Returns whether the CPU has 1 GiB pages (CPUID leaf 8000_0001h, EDX bit 26).
fn giant_pages() -> bool {
    __cpuid(0x8000_0001).edx & 1 << 26 != 0
}
