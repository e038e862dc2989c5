//! From the physical address of a lost line to the list of the region that holds it.
//!
//! [`report`] is for a machine check handler, which may interrupt any code: it takes no lock and allocates nothing
//! (invariant 15).

use alloc::boxed::Box;
use alloc::sync::Arc;

use spin::{Mutex, Once};

use crate::bad_ranges::{BadRanges, InboxFull};
use crate::phys::PhysAddr;

/// A mapped range of persistent memory. The ranges form a list that only grows: mappings are for good.
struct Watched {
    base: u64,
    bytes: u64,
    bad: Arc<BadRanges>,
    next: Next,
}

type Next = Once<Box<Watched>>;

static FIRST: Next = Once::new();
/// Held while a range is added to the list's end. Readers take no lock.
static GROWING: Mutex<()> = Mutex::new(());

/// Why a lost range was not noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportError {
    /// No mapped persistent memory holds it.
    Elsewhere,
    /// The region's inbox has no room for one more report.
    TooMany,
}

/// Makes reports of the `bytes` bytes from `base` on reach `bad`.
pub(crate) fn watch(base: PhysAddr, bytes: u64, bad: &Arc<BadRanges>) {
    let _growing = GROWING.lock();
    let mut end = &FIRST;
    while let Some(watched) = end.get() {
        end = &watched.next;
    }
    end.call_once(|| Box::new(Watched { base: base.0, bytes, bad: Arc::clone(bad), next: Once::new() }));
}

/// Reports that the hardware has lost the naturally aligned 2^`log2_bytes` bytes that hold `at`: reads of them fail
/// from now on ([`btt::media::MediaError::Poisoned`]), until they are written.
///
/// # Errors
/// [`ReportError`]; then nothing is noted.
pub fn report(at: PhysAddr, log2_bytes: u32) -> Result<(), ReportError> {
    let mut found = &FIRST;
    while let Some(watched) = found.get() {
        if at.0 >= watched.base && at.0 - watched.base < watched.bytes {
            let start = at.0 & !((1_u64 << log2_bytes.clamp(6, 63)) - 1);
            // Bytes before the region are not the region's.
            let skipped = watched.base.saturating_sub(start);
            let bytes = (1_u64 << log2_bytes.clamp(6, 63)) - skipped;
            return watched
                .bad
                .report(start.max(watched.base) - watched.base, bytes)
                .map_err(|InboxFull| ReportError::TooMany);
        }
        found = &watched.next;
    }
    Err(ReportError::Elsewhere)
}
