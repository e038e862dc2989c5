//! loom, as the models use it.

pub(crate) use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use loom::thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Count, Ordering as Order};

use loom::cell::UnsafeCell;

/// Bytes that are copied: loom fails where two accesses, one of them a store, are not ordered by what it sees.
pub(crate) struct Guarded(UnsafeCell<()>);

impl Guarded {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(()))
    }

    pub(crate) fn read(&self) {
        self.0.with(|_| ());
    }

    pub(crate) fn write(&self) {
        self.0.with_mut(|_| ());
    }
}

/// How far a model is explored.
pub(crate) enum Depth {
    /// Every schedule.
    All,
    /// Every schedule in which a CPU is interrupted at most so many times in favour of another.
    Preemptions(usize),
}

/// Goes through the schedules of `model`, and returns how many there were.
pub(crate) fn explore(name: &str, depth: Depth, model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 10_000;
    let how = match depth {
        Depth::All => "all of them".to_owned(),
        Depth::Preemptions(most) => {
            builder.preemption_bound = Some(most);
            format!("at most {most} preemptions")
        }
    };
    let count = Arc::new(Count::new(0));
    let (counted, begin) = (Arc::clone(&count), std::time::Instant::now());
    builder.check(move || {
        counted.fetch_add(1, Order::Relaxed);
        model();
    });
    let seconds = begin.elapsed().as_secs_f64();
    println!("{name}: {} executions, {how}, {seconds:.1} s", count.load(Order::Relaxed));
}
