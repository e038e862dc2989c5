//! Locks that ask a test's scheduler before they are taken, so that it can try every order of CPUs; and locks and atomics
//! that show a test's observer what they access, so that it can count how often cache lines move between CPUs.
//!
//! The scheduler runs all CPUs on one thread, one at a time. So a CPU that finds a lock taken must hand over to the one
//! that holds it. Without a scheduler and an observer these are spin's locks and core's atomics.

use core::ops::Range;
use core::sync::atomic;

use atomic::Ordering;
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

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Load,
    /// It is written: no other CPU may keep a copy of its lines.
    Store,
}

/// Is shown the addresses of what is accessed.
pub type Observer = fn(Range<usize>, Access);

static OBSERVER: spin::Once<Observer> = spin::Once::new();

/// From now on `observer` is shown each access, on every thread of the process. The first one stays.
pub fn set_observer(observer: Observer) {
    OBSERVER.call_once(|| observer);
}

fn show<T>(what: &T, access: Access) {
    if let Some(observer) = OBSERVER.get() {
        let start = core::ptr::from_ref(what).addr();
        observer(start..start + size_of::<T>(), access);
    }
}

/// As core's, in as far as it is used.
macro_rules! atomic {
    ($name:ident, $integer:ty) => {
        #[derive(Debug)]
        pub(crate) struct $name(atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $integer) -> Self {
                Self(atomic::$name::new(value))
            }

            pub(crate) fn load(&self, order: Ordering) -> $integer {
                show(self, Access::Load);
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $integer, order: Ordering) {
                show(self, Access::Store);
                self.0.store(value, order);
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);

/// As spin's mutex. What it holds counts as written by each CPU that locks it.
pub(crate) struct Mutex<T>(spin::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(spin::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        ask(Turn::Locking);
        loop {
            if let Some(guard) = self.0.try_lock() {
                show(self, Access::Store);
                return guard;
            }
            ask(Turn::Waiting);
        }
    }

    /// Locks it if nobody has it.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        ask(Turn::Locking);
        self.0.try_lock().inspect(|_| show(self, Access::Store))
    }
}
