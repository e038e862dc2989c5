//! Physical memory as the loader left it, while the first page tables are active.

use crate::{FIRST_TABLES_REACH, image};

/// Returns `count` bytes of physical memory from `at` on; `None` if the first page tables do not reach all of them, or
/// if they lie in the image or at address 0.
pub(crate) fn bytes(at: u64, count: usize) -> Option<&'static [u8]> {
    let end = at.checked_add(count as u64).filter(|end| *end <= FIRST_TABLES_REACH)?;
    let image = image::whole();
    if at == 0 || (at < image.end && image.start < end) {
        return None;
    }
    // SAFETY:
    // 1. The first page tables map everything below FIRST_TABLES_REACH at its own address, and `at` is not null.
    // 2. The range lies outside the image, hence outside every Rust object.
    // 3. Only this CPU runs, and nothing is written outside the image before the kernel starts, which none of these
    //    references outlives: `handoff::enter_kernel` takes copies.
    Some(unsafe { core::slice::from_raw_parts(at as *const u8, count) })
}
