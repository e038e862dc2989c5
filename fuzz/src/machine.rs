//! The machine of a real node: one CPU, one DIMM, a consumer's memory, and a clock that runs ahead, so that all waiting
//! for a time ends soon.

use std::sync::Arc;

use fake_machine::exports::{FakeConsumer, StillClock, services};
use fake_machine::{BASE, Dimm, FakeMachine, Hardware, LabelArea, Memory, Wire, nfit_of};

/// How long the DIMM is.
const DIMM_BYTES: usize = 17 << 20;
/// The consumer's memory.
pub const SHARED_BYTES: usize = 128 << 10;

thread_local! {
    /// What is never freed: one of each a thread, blank again for each machine.
    static PARTS: (&'static Memory, &'static LabelArea, &'static Memory) =
        (Memory::new(DIMM_BYTES), LabelArea::new(), Memory::new(SHARED_BYTES));
}

/// The machine, and the far ends of what it has.
pub struct Parts {
    /// The machine, with a blank DIMM.
    pub machine: FakeMachine,
    /// The control link.
    pub control: Wire,
    /// The consumer, whose memory the caller may write.
    pub consumer: Arc<FakeConsumer>,
}

/// A blank DIMM's memory. The machine before, on this thread, is not used any more.
#[must_use]
pub fn blank_memory() -> &'static Memory {
    let memory = PARTS.with(|(memory, ..)| *memory);
    memory.clear();
    memory
}

/// A machine whose DIMM has a label area or not. The one before, on this thread, is not used any more.
#[must_use]
pub fn machine(label_area: bool) -> Parts {
    let (memory, labels, shared) = PARTS.with(|parts| *parts);
    memory.clear();
    labels.clear();
    shared.clear();
    let dimm = Dimm { base: BASE, memory, flags: 0, labels: label_area.then_some(labels) };
    let control = Wire::default();
    // It stands still, so that a consumer's lease lasts.
    let clock = Arc::new(StillClock::default());
    let consumer = Arc::new(FakeConsumer::new(shared, &clock, 1));
    let hardware = Hardware {
        nfits: vec![nfit_of(&[dimm])],
        areas: dimm.labels.map(|area| (1, area)).into_iter().collect(),
        cpus: 1,
        services: services(&control, &clock, &consumer),
        repeats: true,
        ..Hardware::default()
    };
    Parts { machine: hardware.memory(dimm.base, memory).machine(), control, consumer }
}
