//! The one door to atomics and locks, so that the same code can run under a model checker.

#[cfg(feature = "sim")]
pub(crate) mod scheduled;

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(feature = "sim")]
pub(crate) use scheduled::{Mutex, MutexGuard, relax};
pub(crate) use spin::Once;
#[cfg(not(feature = "sim"))]
pub(crate) use spin::{Mutex, MutexGuard};

/// What a waiting loop does between two looks.
#[cfg(not(feature = "sim"))]
pub(crate) fn relax() {
    core::hint::spin_loop();
}
