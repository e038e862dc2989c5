//! A machine of one CPU for the real node: one DIMM, a consumer's memory, and a clock that runs ahead, so that all
//! waiting for a time ends soon.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use btt::CpuIndex;
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use drivers::shared::SharedWindow;
use kernel::node::export::{self, Consumer, ExportServices, Waker};
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore};
use service::control::MemoryId;
use service::link::ByteLink;

/// Where the DIMM is.
const BASE: u64 = 1 << 32;
/// How long it is.
const DIMM_BYTES: u64 = 17 << 20;
/// As QEMU describes one: range, mapping and control region, with that place and length.
const TABLE: &[u8] = include_bytes!("../../nvdimm/tests/fixtures/nfit/qemu-one-dimm.nfit");
const LABEL_AREA_BYTES: usize = 128 << 10;
/// The consumer's memory.
pub const SHARED_BYTES: usize = 128 << 10;
/// The consumer's number.
pub const MEMORY: MemoryId = MemoryId(3);

/// Zeroed memory, freed with its last owner.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes are only reached through drivers that allow for any number of CPUs.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, 4096).expect("a small size");
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) });
        Self { start: start.unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and code with pointers into it holds `self`, too.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line's two directions. Copies of it are the same line.
#[derive(Clone, Debug, Default)]
pub struct Line(Arc<Mutex<(VecDeque<u8>, Vec<u8>)>>);

impl Line {
    /// Bytes for the node.
    pub fn say(&self, bytes: &[u8]) {
        lock(&self.0).0.extend(bytes);
    }

    /// What the node has sent since the last time.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0).1)
    }
}

impl ByteLink for Line {
    fn receive(&mut self) -> Option<u8> {
        lock(&self.0).0.pop_front()
    }

    fn send(&mut self, bytes: &[u8]) {
        lock(&self.0).1.extend_from_slice(bytes);
    }
}

/// Nanoseconds. Each look moves them on, by more and more.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl Clock {
    fn look(&self) -> u64 {
        let now = self.0.load(Ordering::Relaxed);
        let next = now.saturating_add(10_000_000).saturating_add(now / 16);
        self.0.store(next, Ordering::Relaxed);
        now
    }
}

/// A clock that stands still, so that a consumer's lease lasts, and one CPU, which is never asleep.
struct StoppedClock;

impl export::Clock for StoppedClock {
    fn now_ns(&self) -> u64 {
        0
    }
}

impl Waker for StoppedClock {
    fn wake(&self, _: CpuIndex) {}
}

/// A consumer: its memory. Its interrupts are lost.
#[derive(Debug)]
pub struct FakeConsumer {
    window: SharedWindow,
    /// What the window shows.
    _memory: Memory,
}

impl FakeConsumer {
    fn new() -> Self {
        let memory = Memory::new(SHARED_BYTES);
        // SAFETY: the memory is as long as that, lives as long as the window's owner, and is no Rust object.
        let window = unsafe { SharedWindow::new(memory.start, SHARED_BYTES) };
        Self { window, _memory: memory }
    }
}

impl Consumer for FakeConsumer {
    fn id(&self) -> MemoryId {
        MEMORY
    }

    fn memory(&self) -> &SharedWindow {
        &self.window
    }

    fn ring(&self, _: u32) {}

    fn cpu(&self, _: u16) -> CpuIndex {
        CpuIndex(0)
    }
}

/// The machine.
pub struct FakeMachine {
    map: Map,
    nfits: Vec<Vec<u8>>,
    /// None: the DIMM has no label area.
    labels: Option<Mutex<Vec<u8>>>,
    clock: Clock,
    random: AtomicU8,
    link: Line,
    consumer: Arc<FakeConsumer>,
}

/// The DIMM in physical memory.
pub struct Map(Memory);

// SAFETY:
// 1. The machine, which every user of the mapping belongs to, owns the memory.
// 2. It is no Rust object: only pointers lead there.
// 3. Both the range and the memory are page-aligned.
unsafe impl PhysMap for Map {
    fn map(&self, at: PhysAddr, bytes: u64, _: Attribute) -> Result<NonNull<u8>, MapError> {
        if at.0 == BASE && bytes <= DIMM_BYTES { Ok(self.0.start) } else { Err(MapError::NoRoom { at, bytes }) }
    }
}

impl FakeMachine {
    /// A machine with a blank DIMM, that has a label area or not. The control link is there.
    #[must_use]
    pub fn new(label_area: bool) -> Self {
        let mut nfit = TABLE.to_vec();
        // QEMU's own order: the range (56 bytes), the mapping (48), the control region (80).
        nfit[40 + 32..40 + 40].copy_from_slice(&BASE.to_le_bytes());
        nfit[40 + 40..40 + 48].copy_from_slice(&DIMM_BYTES.to_le_bytes());
        nfit[96 + 16..96 + 24].copy_from_slice(&DIMM_BYTES.to_le_bytes());
        nfit[9] = 0;
        nfit[9] = nfit.iter().fold(0, |sum, byte| sum.wrapping_sub(*byte));
        Self {
            map: Map(Memory::new(usize::try_from(DIMM_BYTES).expect("it is small"))),
            nfits: vec![nfit],
            labels: label_area.then(|| Mutex::new(vec![0; LABEL_AREA_BYTES])),
            clock: Clock::default(),
            random: AtomicU8::new(1),
            link: Line::default(),
            consumer: Arc::new(FakeConsumer::new()),
        }
    }

    /// The control link.
    #[must_use]
    pub fn control(&self) -> Line {
        self.link.clone()
    }

    /// The consumer, whose memory the caller may write.
    #[must_use]
    pub fn consumer(&self) -> Arc<FakeConsumer> {
        Arc::clone(&self.consumer)
    }
}

/// The DIMM's label area.
struct Area<'a>(Option<&'a Mutex<Vec<u8>>>);

impl LabelSource for Area<'_> {
    fn area_bytes(&mut self, _: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(self.0.map(|_| LABEL_AREA_BYTES as u64))
    }

    fn read(&mut self, _: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let at = usize::try_from(offset).expect("in the label area");
        let area = lock(self.0.ok_or(LabelError::NoAnswer)?);
        into.copy_from_slice(&area[at..at + into.len()]);
        Ok(())
    }
}

impl LabelStore for Area<'_> {
    fn write(&mut self, _: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let at = usize::try_from(offset).expect("in the label area");
        lock(self.0.ok_or(LabelError::NoAnswer)?)[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl kernel::node::Machine for FakeMachine {
    type Map = Map;

    fn map(&self) -> &Map {
        &self.map
    }

    fn cpus(&self) -> u32 {
        1
    }

    fn this_cpu() -> CpuIndex {
        CpuIndex(0)
    }

    fn run_on_all(&self, work: &(dyn Fn(CpuIndex) + Sync)) {
        work(CpuIndex(0));
    }

    fn now_ns(&self) -> u64 {
        self.clock.look()
    }

    fn random(&self) -> [u8; 16] {
        [self.random.fetch_add(1, Ordering::Relaxed); 16]
    }

    fn memory_bytes(&self) -> u64 {
        256 << 20
    }
    fn heap_bytes(&self) -> u64 {
        192 << 20
    }

    fn tables(&self) -> Vec<String> {
        vec!["NFIT".into()]
    }

    fn nfits(&self) -> &[Vec<u8>] {
        &self.nfits
    }

    fn labels(&self) -> Box<dyn LabelStore + '_> {
        Box::new(Area(self.labels.as_ref()))
    }

    fn export_services(&self) -> ExportServices {
        let consumers: Vec<Arc<dyn Consumer>> = vec![self.consumer()];
        let (clock, waker) = (Arc::new(StoppedClock), Arc::new(StoppedClock));
        ExportServices { clock, waker, consumers, link: Some(Box::new(self.control())) }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        // The node's messages are formatted, and dropped.
        let _ = line.to_string();
    }
}
