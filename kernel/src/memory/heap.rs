//! The heap: one range of RAM, sized at boot, under `linked_list_allocator`.
//!
//! Its lock is the innermost: its holder takes no other lock, and no interrupt handler allocates.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap(Mutex::new(Heap::empty()));

struct LockedHeap(Mutex<Heap>);

// SAFETY: the allocator underneath keeps `GlobalAlloc`'s promises; the lock admits one caller at a time.
unsafe impl GlobalAlloc for LockedHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if let Some(at) = NonNull::new(at) {
            // SAFETY: the caller got `at` from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(at, layout) }
        }
    }
}

/// Gives the heap its memory.
///
/// # Safety
/// The range is mapped, writable, 8-byte aligned, larger than a few words and the heap's alone for good, and this is
/// the only call.
pub(crate) unsafe fn init(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller vouches for the range and that this is the first call.
    unsafe { HEAP.0.lock().init(start.as_ptr(), bytes) }
}
