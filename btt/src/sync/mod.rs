//! The one door to atomics and locks, so that the very same code runs under a model checker.
//!
//! | package | sources | types |
//! |---|---|---|
//! | `btt` | these | core's and spin's |
//! | `btt` in tests | these, with feature `sim` | core's and spin's, which ask a test's scheduler and show an observer |
//! | `btt-loom` | these, with feature `loom` | loom's: every interleaving, every value that a load may return |
//! | `btt-shuttle` | these, with feature `shuttle` | shuttle's: random interleavings, long ones |

#[cfg(any(feature = "loom", feature = "shuttle"))]
mod model;
#[cfg(all(any(test, feature = "sim"), not(any(feature = "loom", feature = "shuttle"))))]
pub(crate) mod scheduled;

#[cfg(any(feature = "loom", feature = "shuttle"))]
pub(crate) use model::*;

#[cfg(not(any(feature = "sim", feature = "loom", feature = "shuttle")))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub(crate) use core::sync::atomic::{Ordering, fence};
#[cfg(all(feature = "sim", not(any(feature = "loom", feature = "shuttle"))))]
pub(crate) use scheduled::{AtomicU32, AtomicU64, Mutex, MutexGuard};
#[cfg(not(any(feature = "loom", feature = "shuttle")))]
pub(crate) use spin::Once;
#[cfg(not(any(feature = "sim", feature = "loom", feature = "shuttle")))]
pub(crate) use spin::{Mutex, MutexGuard};

/// A size of something in memory: as it is, and under a model checker, where every element multiplies the states.
pub(crate) const fn sized(real: usize, modelled: usize) -> usize {
    if cfg!(any(feature = "loom", feature = "shuttle")) { modelled } else { real }
}
