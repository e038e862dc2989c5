//! Whose a lost line is: finds the region of persistent memory that holds a physical address.
//!
//! [`report`] is for a machine check handler: it takes no lock and allocates nothing, so that it can strike in the middle
//! of anything.

use alloc::boxed::Box;
use alloc::sync::Arc;

use spin::{Mutex, Once};

use crate::bad_ranges::{BadRanges, InboxFull};
use crate::phys::PhysAddr;

/// A mapped range of persistent memory. They form a list that only grows: memory stays where it is.
struct Watched {
    base: u64,
    bytes: u64,
    bad: Arc<BadRanges>,
    next: Next,
}

type Next = Once<Box<Watched>>;

static FIRST: Next = Once::new();
/// Held while a range is put at the list's end. Readers do without.
static GROWING: Mutex<()> = Mutex::new(());

/// Why a lost range was not noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportError {
    /// No mapped persistent memory holds it.
    Elsewhere,
    /// More ranges were reported than anybody has looked at since.
    TooMany,
}

/// Lets reports of `bytes` bytes from `base` on reach `bad`, from now on.
pub(crate) fn watch(base: PhysAddr, bytes: u64, bad: &Arc<BadRanges>) {
    let _growing = GROWING.lock();
    let mut end = &FIRST;
    while let Some(watched) = end.get() {
        end = &watched.next;
    }
    end.call_once(|| Box::new(Watched { base: base.0, bytes, bad: Arc::clone(bad), next: Once::new() }));
}

/// The hardware has lost the naturally aligned 2^`log2_bytes` bytes that hold `at`: reads of them fail from now on
/// ([`btt::media::MediaError::Poisoned`]), until they are written.
///
/// # Errors
/// [`ReportError`]; then nothing is noted.
pub fn report(at: PhysAddr, log2_bytes: u32) -> Result<(), ReportError> {
    let mut found = &FIRST;
    while let Some(watched) = found.get() {
        if at.0 >= watched.base && at.0 - watched.base < watched.bytes {
            let start = at.0 & !((1_u64 << log2_bytes.clamp(6, 63)) - 1);
            // What lies before the region is not the region's.
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
