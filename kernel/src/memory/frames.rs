//! RAM that is handed out page by page, for good, and the range that becomes the heap.

use core::ops::Range;

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

use super::{PAGE_BYTES, retained};

/// Below lie firmware, option ROMs and the trampoline: no page there is handed out.
const FIRST: u64 = 1 << 20;

/// Returns the part of a region that may be handed out.
pub(super) fn usable(region: &MemoryRegion) -> Option<Range<u64>> {
    let start = region.start.max(FIRST);
    (region.kind == MemoryRegionKind::Usable && start < region.end).then_some(start..region.end)
}

/// Hands pages out, lowest first, and never takes one back.
#[derive(Debug)]
pub(super) struct Frames {
    regions: &'static [MemoryRegion],
    /// Not handed out although usable: the heap.
    heap: Range<u64>,
    /// Not handed out either: what a reset leaves as it is. Empty if there is none.
    retained: Range<u64>,
    /// All pages below are handed out.
    next: u64,
}

impl Frames {
    /// Manages all usable memory from 1 MiB on. The regions are sorted and do not overlap (`boot::handoff`).
    pub(super) fn new(regions: &'static [MemoryRegion]) -> Self {
        Self { regions, heap: 0..0, retained: 0..0, next: FIRST }
    }

    /// Takes the memory that a reset leaves as it is. Returns false if there is none there, or too little memory. It is taken
    /// before the heap is.
    pub(super) fn take_retained(&mut self) -> bool {
        let holds = |region: Range<u64>| {
            region.start <= retained::RANGE.start
                && retained::RANGE.end <= region.end
                && retained::RAM_END_MIN <= region.end
        };
        let found = self.regions.iter().filter_map(usable).any(holds);
        if found {
            self.retained = retained::RANGE;
        }
        found
    }

    /// Takes the heap: the upper three quarters of the largest region. The lowest pages stay, below 4 GiB where a
    /// starting CPU's page-table register reaches, and where the first page tables do.
    pub(super) fn take_heap(&mut self) -> Range<u64> {
        let regions = self.regions.iter().filter_map(usable);
        let largest = regions.max_by_key(|region| region.end - region.start).unwrap_or(FIRST..FIRST);
        let quarter = (largest.end - largest.start) / 4;
        let start = largest.start + quarter.next_multiple_of(PAGE_BYTES);
        // It begins behind what is retained, if that lies in its midst.
        let start = if largest.contains(&self.retained.start) { start.max(self.retained.end) } else { start };
        assert!(start < largest.end, "there is not enough memory for a heap");
        self.heap = start..largest.end;
        self.heap.clone()
    }

    /// Returns how many pages are left.
    pub(super) fn left(&self) -> u64 {
        let regions = self.regions.iter().filter_map(usable);
        let bytes = regions.map(|region| {
            let start = region.start.max(self.next);
            let heap = if region.start <= self.heap.start && self.heap.end <= region.end {
                self.heap.end.saturating_sub(self.heap.start.max(start))
            } else {
                0
            };
            region.end.saturating_sub(start).saturating_sub(heap)
        });
        let retained = self.retained.end.saturating_sub(self.retained.start.max(self.next));
        bytes.sum::<u64>().saturating_sub(retained) / PAGE_BYTES
    }
}

// SAFETY: a page is handed out at most once (`next` only grows), lies in usable memory, and neither in the heap nor in what is
// retained.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        for region in self.regions.iter().filter_map(usable) {
            let mut at = region.start.max(self.next);
            // In this order: the heap may follow what is retained at once.
            if self.retained.contains(&at) {
                at = self.retained.end;
            }
            if self.heap.contains(&at) {
                at = self.heap.end;
            }
            if at < region.end {
                self.next = at + PAGE_BYTES;
                return Some(PhysFrame::containing_address(PhysAddr::new(at)));
            }
        }
        None
    }
}
