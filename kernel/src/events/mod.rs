//! What happens to the appliance: one ring of events, which the log, `events`, `trace` and a panic's report show.
//!
//! | module | is |
//! |---|---|
//! | `record` | an event as bytes |
//! | [`retained`] | memory that keeps them over a reset |
//!
//! Any CPU tells; it has formatted the event before it takes the ring's lock, and holds that for two copies of 256 bytes. No
//! interrupt handler takes it, and no other lock is taken under it.

mod record;
pub mod retained;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use service::events::{Ended, Event, Filter, Kind};
use spin::Mutex;

pub use record::News;
use record::Slot;
use retained::{Kept, RetainedMemory};

/// How many events are kept.
pub const EVENTS: usize = 112;

/// The ring of events. It needs no heap, so that bring-up can tell.
pub struct Journal {
    ring: Mutex<Ring>,
    /// The number of the newest event, readable without the lock.
    newest: AtomicU64,
    now_ns: fn() -> u64,
    cpu: fn() -> u32,
}

/// A journal that all share: the program's is no object of the heap.
pub type SharedJournal = Arc<dyn AsRef<Journal> + Send + Sync>;

/// The slots.
pub struct Ring {
    slots: [Slot; EVENTS],
    newest: u64,
    /// 0 until memory is attached.
    boot: u32,
    retained: Option<Arc<dyn RetainedMemory>>,
}

impl AsRef<Self> for Journal {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Journal {
    /// An empty one, with what tells the time and the CPU.
    #[must_use]
    pub const fn new(now_ns: fn() -> u64, cpu: fn() -> u32) -> Self {
        let ring = Ring { slots: [Slot::EMPTY; EVENTS], newest: 0, boot: 0, retained: None };
        Self { ring: Mutex::new(ring), newest: AtomicU64::new(0), now_ns, cpu }
    }

    /// Adds an event, in place of the oldest.
    pub fn tell(&self, news: &News<'_>) {
        let mut slot = Slot::new(news, (self.now_ns)(), (self.cpu)());
        let mut ring = self.ring.lock();
        ring.push(&mut slot);
        self.newest.store(ring.newest, Ordering::Release);
    }

    /// Returns the number of the newest event.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Returns the events that the filter takes, oldest first.
    pub fn events(&self, filter: &Filter) -> Vec<Event> {
        let mut events = Vec::new();
        self.each_after(filter.after, |slot| {
            let event = slot.decode();
            if filter.takes(&event) {
                events.push(event);
            }
        });
        events
    }

    /// Calls `each` with the kind and the words of the events after this one, oldest first. Returns the number of the last.
    /// Allocates nothing.
    pub fn lines_after(&self, after: u64, mut each: impl FnMut(Kind, &str, &str)) -> u64 {
        self.each_after(after, |slot| {
            let (place, what) = slot.words();
            each(slot.kind(), place, what);
        })
    }

    /// Calls `each` without the lock.
    fn each_after(&self, after: u64, mut each: impl FnMut(&Slot)) -> u64 {
        let mut last = after;
        loop {
            let slot = {
                let ring = self.ring.lock();
                let next = last.saturating_add(1).max((ring.newest + 1).saturating_sub(EVENTS as u64));
                if next > ring.newest || next == 0 {
                    return last;
                }
                ring.slots[index(next)]
            };
            last = slot.number();
            each(&slot);
        }
    }

    /// Returns the number after which the newest `count` events are.
    pub fn before_last(&self, count: u64) -> u64 {
        self.newest().saturating_sub(count)
    }

    /// Keeps events in this memory from now on, those that there are among them. Returns what the boot before left in it.
    pub fn attach(&self, memory: Arc<dyn RetainedMemory>) -> Kept {
        let found = retained::find(&*memory);
        let before = found.last.as_ref().map_or(0, |last| last.boot);
        let boot = u32::try_from(before.wrapping_add(1)).unwrap_or(1).max(1);
        retained::begin(&*memory, boot);
        let mut ring = self.ring.lock();
        ring.boot = boot;
        for slot in ring.slots.iter_mut().filter(|slot| slot.number() > 0) {
            let number = slot.number();
            slot.stamp(boot, number);
        }
        for (at, slot) in ring.slots.iter().enumerate() {
            retained::set_slot(&*memory, at, slot);
        }
        ring.retained = Some(memory);
        found
    }

    /// Returns the number of this boot since the power came; 0 if no memory keeps it.
    pub fn boot(&self) -> u32 {
        self.ring.lock().boot
    }

    /// Stores how this boot ends.
    pub fn ends(&self, ended: Ended) {
        let (memory, boot) = self.memory();
        if let Some(memory) = memory {
            retained::set_end(&*memory, boot, ended);
        }
    }

    /// Keeps what the console was asked, oldest first: as much of the newest as there is room for.
    pub fn keep_lines(&self, lines: &[String]) {
        if let (Some(memory), _) = self.memory() {
            retained::set_lines(&*memory, lines);
        }
    }

    fn memory(&self) -> (Option<Arc<dyn RetainedMemory>>, u32) {
        let ring = self.ring.lock();
        (ring.retained.clone(), ring.boot)
    }

    /// Returns the ring's lock: a panic takes it from the CPU that it has stopped.
    pub const fn ring(&self) -> &Mutex<Ring> {
        &self.ring
    }
}

impl Ring {
    fn push(&mut self, slot: &mut Slot) {
        self.newest += 1;
        slot.stamp(self.boot, self.newest);
        let at = index(self.newest);
        self.slots[at] = *slot;
        if let Some(memory) = &self.retained {
            retained::set_slot(&**memory, at, slot);
        }
    }
}

/// The place of an event in the ring.
fn index(number: u64) -> usize {
    usize::try_from(number % EVENTS as u64).expect("less than EVENTS")
}

#[cfg(test)]
mod tests;
