//! Halts a CPU for good, and notes that one has panicked.

use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::{hlt, interrupts};

static PANICKING: AtomicBool = AtomicBool::new(false);

/// Notes that this CPU panics. Returns true if it is the first one.
pub(crate) fn first_to_panic() -> bool {
    !PANICKING.swap(true, Ordering::SeqCst)
}

/// Returns whether a CPU has panicked.
pub(crate) fn is_panicking() -> bool {
    PANICKING.load(Ordering::SeqCst)
}

/// Stops this CPU for good.
pub(crate) fn halt() -> ! {
    loop {
        interrupts::disable();
        hlt();
    }
}
