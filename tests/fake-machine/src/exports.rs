//! What exports need: a consumer's memory, and a clock that stands still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use btt::CpuIndex;
use drivers::shared::SharedWindow;
use kernel::node::export::{Clock, Consumer, ExportServices, Waker};
use service::control::MemoryId;

use crate::line::Wire;
use crate::memory::Memory;

/// The number of a [`FakeConsumer`]'s memory.
pub const MEMORY: MemoryId = MemoryId(3);

/// A clock that stands still, but for the test, and the CPUs that were woken.
#[derive(Debug, Default)]
pub struct StillClock {
    /// The time.
    pub now_ns: Mutex<u64>,
    /// By how much each look moves it on.
    pub look_ns: AtomicU64,
    /// The CPUs, in order.
    pub woken: Mutex<Vec<CpuIndex>>,
}

impl Clock for StillClock {
    fn now_ns(&self) -> u64 {
        let mut now_ns = self.now_ns.lock().expect("no panic");
        *now_ns += self.look_ns.load(Ordering::Relaxed);
        *now_ns
    }
}

impl Waker for StillClock {
    fn wake(&self, cpu: CpuIndex) {
        self.woken.lock().expect("no panic").push(cpu);
    }
}

/// A consumer: its memory, and the interrupts that it got.
#[derive(Debug)]
pub struct FakeConsumer {
    /// Its memory.
    pub window: SharedWindow,
    /// The doorbells that were rung.
    pub rung: Mutex<Vec<u32>>,
    /// By how much an interrupt moves the clock on.
    pub ring_ns: AtomicU64,
    /// Whoever holds it keeps a CPU that interrupts the consumer within its step.
    pub held: Mutex<()>,
    /// The CPUs that kicks wake, by their vectors.
    pub woken_by: Mutex<BTreeMap<u16, CpuIndex>>,
    id: MemoryId,
    clock: Arc<StillClock>,
    cpus: u32,
}

impl FakeConsumer {
    /// [`MEMORY`] with this memory, for a machine of so many CPUs.
    #[must_use]
    pub fn new(memory: &'static Memory, clock: &Arc<StillClock>, cpus: u32) -> Self {
        Self::numbered(MEMORY, memory, clock, cpus)
    }

    /// The same under another number.
    #[must_use]
    pub fn numbered(id: MemoryId, memory: &'static Memory, clock: &Arc<StillClock>, cpus: u32) -> Self {
        // SAFETY: the memory is never freed, and only pointers lead there.
        let window = unsafe { SharedWindow::new(memory.start, memory.bytes) };
        let (rung, ring_ns, held) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        Self { window, rung, ring_ns, held, woken_by: Mutex::default(), id, clock: Arc::clone(clock), cpus }
    }
}

impl Consumer for FakeConsumer {
    fn id(&self) -> MemoryId {
        self.id
    }
    fn memory(&self) -> &SharedWindow {
        &self.window
    }
    fn ring(&self, doorbell: u32) {
        drop(self.held.lock().expect("no panic"));
        self.rung.lock().expect("no panic").push(doorbell);
        *self.clock.now_ns.lock().expect("no panic") += self.ring_ns.load(Ordering::Relaxed);
    }
    fn cpu(&self, vector: u16) -> CpuIndex {
        CpuIndex(u32::from(vector) % self.cpus)
    }
    fn wakes(&self, vector: u16, cpu: CpuIndex) -> bool {
        self.woken_by.lock().expect("no panic").insert(vector, cpu);
        true
    }
}

/// These and the control link, as a node takes them.
#[must_use]
pub fn services(wire: &Wire, clock: &Arc<StillClock>, consumer: &Arc<FakeConsumer>) -> ExportServices {
    ExportServices {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        waker: Arc::clone(clock) as Arc<dyn Waker>,
        consumers: vec![Arc::clone(consumer) as Arc<dyn Consumer>],
        link: Some(Box::new(wire.clone())),
    }
}
