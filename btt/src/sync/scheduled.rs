//! Locks that ask a test's scheduler before they are taken, so that it can try every order of CPUs.
//!
//! The scheduler runs all CPUs on one thread, one at a time. So a CPU that finds a lock taken must hand over to the one
//! that holds it. Without a scheduler these are spin's locks.

pub(crate) use spin::MutexGuard;

/// Where a CPU stands when it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// About to take a lock. Others may go first.
    Locking,
    /// Cannot go on before another CPU has.
    Waiting,
}

static SCHEDULER: spin::Once<fn(Turn)> = spin::Once::new();

/// From now on `scheduler` is asked, on every thread of the process. The first one stays.
pub fn set_scheduler(scheduler: fn(Turn)) {
    SCHEDULER.call_once(|| scheduler);
}

fn ask(turn: Turn) {
    match SCHEDULER.get() {
        Some(scheduler) => scheduler(turn),
        None if turn == Turn::Waiting => core::hint::spin_loop(),
        None => {}
    }
}

/// As spin's mutex.
pub(crate) struct Mutex<T>(spin::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        ask(Turn::Locking);
        loop {
            if let Some(guard) = self.0.try_lock() {
                return guard;
            }
            ask(Turn::Waiting);
        }
    }
}
