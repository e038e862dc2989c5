//! Atomics and locks that a model checker watches. Never part of an image.

extern crate std;

#[cfg(feature = "loom")]
use loom as checker;
#[cfg(feature = "shuttle")]
use shuttle as checker;

pub(crate) use checker::sync::MutexGuard;
pub(crate) use checker::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{OnceLock, PoisonError};

/// As spin's mutex, whose locking cannot fail.
#[derive(Debug)]
pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(checker::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// As spin's once. Setting it is one step, as the code that runs in it touches nothing shared.
pub(crate) struct Once<T> {
    set: AtomicU32,
    value: OnceLock<T>,
}

impl<T> Once<T> {
    pub(crate) fn new() -> Self {
        Self { set: AtomicU32::new(0), value: OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.set.load(Ordering::Acquire) == 0 { None } else { self.value.get() }
    }

    pub(crate) fn call_once(&self, make: impl FnOnce() -> T) -> &T {
        // The second caller sees the first one's value, and what happened before it.
        self.set.fetch_add(1, Ordering::AcqRel);
        self.value.get_or_init(make)
    }
}
