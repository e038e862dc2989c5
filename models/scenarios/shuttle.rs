//! shuttle, as the models use it.

pub(crate) use shuttle::sync::Mutex;
pub(crate) use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use shuttle::thread;

use std::sync::atomic::{AtomicI32, Ordering as Order};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Bytes that are copied, which takes a while: two accesses that meet, one of them a store, fail the model.
pub(crate) struct Guarded(AtomicI32);

impl Guarded {
    pub(crate) fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    pub(crate) fn read(&self) {
        assert!(self.0.fetch_add(1, Order::Relaxed) >= 0, "bytes are read while they are written");
        thread::yield_now();
        self.0.fetch_sub(1, Order::Relaxed);
    }

    pub(crate) fn write(&self) {
        assert_eq!(self.0.swap(-1, Order::Relaxed), 0, "bytes are written while they are read or written");
        thread::yield_now();
        self.0.store(0, Order::Relaxed);
    }
}

/// Takes random schedules of `model`, and as many with few changes of the CPU that goes first. The same seed takes the
/// same ones: `UNTORN_SEED` and `UNTORN_SCHEDULES` in the environment take others, or more.
pub(crate) fn explore(name: &str, model: fn()) {
    let number = |name, otherwise| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (seed, schedules) = (number("UNTORN_SEED", 1), number("UNTORN_SCHEDULES", 4000));
    let schedules = usize::try_from(schedules).expect("a number of schedules");
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = Config::new();
        // What orders a load may have is loom's part.
        config.silence_warnings = true;
        Runner::new(scheduler, config).run(model);
    };
    println!("{name}: UNTORN_SEED={seed} UNTORN_SCHEDULES={schedules}, twice");
    run(Box::new(RandomScheduler::new_from_seed(seed, schedules)));
    run(Box::new(PctScheduler::new_from_seed(seed, 3, schedules)));
}
