//! The one door to atomics and locks, so that the same code can run under a model checker.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use spin::{Mutex, MutexGuard, Once};

/// What a waiting loop does between two looks.
pub(crate) fn relax() {
    core::hint::spin_loop();
}
