//! The locks and atomics of `held` and `mailbox`. Loom's models (`models/kernel`) put their own in place of these.

pub(super) use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
pub(super) use spin::{Mutex, MutexGuard};
