//! The atomics and locks that loom watches, in place of the kernel's own `sync.rs`.

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

use crate::checker;

/// A lock that is either waited for or tried: which of them differs from lock to lock, and loom does them differently.
pub(crate) struct Mutex<T> {
    /// Where it is waited for.
    lock: checker::Mutex<()>,
    /// Where it is tried: a flag, as spin's is. With a mutex of loom's, who is about to try waits until it is free, so many tries
    /// that fail are left out, and no model notices that [`crate::held::Held::try_take`] leaves letters behind.
    is_taken: AtomicBool,
    value: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'m, T> {
    of: &'m Mutex<T>,
    value: std::sync::MutexGuard<'m, T>,
    /// `None` if it was tried.
    waited: Option<loom::sync::MutexGuard<'m, ()>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        let (lock, is_taken) = (checker::Mutex::new(()), AtomicBool::new(false));
        Self { lock, is_taken, value: std::sync::Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let waited = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard(Some(waited))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(self.guard(None))
    }

    fn guard<'m>(&'m self, waited: Option<loom::sync::MutexGuard<'m, ()>>) -> MutexGuard<'m, T> {
        let value = self.value.try_lock().expect("a lock is waited for or tried, and held once");
        MutexGuard { of: self, value, waited }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.waited.is_none() {
            self.of.is_taken.store(false, Ordering::Release);
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
