//! virtio-pmem against a device of ours that refuses, delays and loses FLUSHes, and whose registers are hostile.

mod common;

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use btt::media::{FenceFault, MediaError, Medium as _, NsOffset};
use drivers::dma::DmaPage;
use drivers::flush::{Flush, Flusher, PATIENCE_SECONDS};
use drivers::persist::Persist;
use drivers::phys::PhysAddr;
use drivers::pmem::{Access, PmemRegion};
use drivers::shared::SharedWindow;
use drivers::virtio::pmem::VirtioPmem;
use drivers::virtio::registers::{Registers, Width};
use drivers::virtio::{Structure, VirtioError};
use service::memory::{MemoryOffset, SharedMemory as _};

use common::quick;

/// Where the queue's page seems to lie.
const PAGE_AT: u64 = 0x1234_5000;

/// What the device does with a FLUSH.
#[derive(Clone, Copy, Debug)]
enum Conduct {
    /// Carries it out, and answers this.
    Answer(u32),
    /// Answers 0 when its status has been read so many times.
    AfterLooks(u32),
    /// Never answers.
    Lose,
    /// Stops, and wants a reset.
    Stop,
    /// Names this descriptor, and adds so much to the used ring's idx.
    Misuse { id: u32, step: u16 },
}

/// The device: registers, and what it is going to do.
#[derive(Debug)]
struct State {
    memory: SharedWindow,
    status: u32,
    features: u64,
    select: [u32; 2],
    chosen: u64,
    queue_size: u32,
    notify_off: u32,
    addresses: [u32; 6],
    enabled: bool,
    config: [u32; 4],
    generation: u32,
    /// Whether the configuration changes with each look.
    restless: bool,
    /// Whether a reset never ends.
    stuck: bool,
    /// Whether FEATURES_OK is taken.
    agreeable: bool,
    /// The bits of a status with which it stops, if any does.
    stops_with: Option<u32>,
    conduct: VecDeque<Conduct>,
    waiting: u32,
    flushes: u64,
    used: u16,
}

#[derive(Clone, Debug)]
struct Device(Arc<Mutex<State>>);

impl Device {
    fn new() -> Self {
        let page: &'static mut [u64; 512] = Box::leak(Box::new([0; 512]));
        // SAFETY: the page is never freed, aligned to 8, and from here on reached through the window only.
        let memory = unsafe { SharedWindow::new(NonNull::from(page).cast(), 4096) };
        Self(Arc::new(Mutex::new(State {
            memory,
            status: 0xff,
            features: 1 << 32 | 1 << 28 | 1 << 29,
            select: [0; 2],
            chosen: 0,
            queue_size: 128,
            notify_off: 0,
            addresses: [0; 6],
            enabled: false,
            config: [0, 1, 0x800_0000, 0],
            generation: 0,
            restless: false,
            stuck: false,
            agreeable: true,
            stops_with: None,
            conduct: VecDeque::new(),
            waiting: 0,
            flushes: 0,
            used: 0,
        })))
    }

    fn with(change: impl FnOnce(&mut State)) -> Self {
        let device = Self::new();
        change(&mut device.state());
        device
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// The driver of this device.
    fn start(&self) -> Result<VirtioPmem<Self>, VirtioError> {
        let page = DmaPage::new(self.state().memory, PhysAddr(PAGE_AT));
        VirtioPmem::new(self.clone(), page, quick)
    }

    fn flusher(&self) -> Arc<Flusher<VirtioPmem<Self>>> {
        Flusher::new(self.start().expect("a sound device"), quick)
    }
}

impl State {
    fn double(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.memory.read(MemoryOffset(at), &mut bytes).expect("in the page");
        u32::from_le_bytes(bytes)
    }

    fn address(&self, number: usize) -> u64 {
        let whole = u64::from(self.addresses[2 * number + 1]) << 32 | u64::from(self.addresses[2 * number]);
        whole.checked_sub(PAGE_AT).filter(|at| *at < 4096).expect("in the page")
    }

    /// Answers the request that is available.
    fn finish(&mut self, answer: u32, id: u32, step: u16) {
        let [descriptors, available, used] = [0, 1, 2].map(|number| self.address(number));
        let place = u64::from(self.used) % u64::from(self.queue_size);
        let head = self.memory.load_u16(MemoryOffset(available + 4 + 2 * place)).expect("in the page");
        assert_eq!(head, 0);
        let request = u64::from(self.double(descriptors)) - PAGE_AT;
        let flags = self.double(descriptors + 12);
        let reply = u64::from(self.double(descriptors + 16)) - PAGE_AT;
        let reply_flags = self.double(descriptors + 28);
        assert_eq!((self.double(request), flags, reply_flags), (0, 1 << 16 | 1, 2), "a FLUSH, and a place to answer");
        assert_eq!((self.double(descriptors + 8), self.double(descriptors + 24)), (4, 4), "of 4 bytes each");
        self.memory.write(MemoryOffset(reply), &answer.to_le_bytes()).expect("in the page");
        self.memory.write(MemoryOffset(used + 4 + 8 * place), &id.to_le_bytes()).expect("in the page");
        self.memory.write(MemoryOffset(used + 8 + 8 * place), &4_u32.to_le_bytes()).expect("in the page");
        self.used = self.used.wrapping_add(step);
        self.memory.store_u16(MemoryOffset(used + 2), self.used).expect("in the page");
    }

    fn notified(&mut self) {
        let available = self.memory.load_u16(MemoryOffset(self.address(1) + 2)).expect("in the page");
        assert_eq!(available, self.used.wrapping_add(1), "one request at a time");
        self.flushes += 1;
        match self.conduct.pop_front().unwrap_or(Conduct::Answer(0)) {
            Conduct::Answer(answer) => self.finish(answer, 0, 1),
            Conduct::AfterLooks(looks) => self.waiting = looks,
            Conduct::Lose => {}
            Conduct::Stop => self.status |= 64,
            Conduct::Misuse { id, step } => self.finish(0, id, step),
        }
    }
}

impl Registers for Device {
    fn read(&self, structure: Structure, at: u32, width: Width) -> u32 {
        let mut state = self.state();
        match (structure, at, width) {
            (Structure::Common, 4, Width::Double) => {
                let half = state.select[0].min(1) * 32;
                u32::try_from(state.features >> half & 0xffff_ffff).expect("32 bits")
            }
            (Structure::Common, 20, Width::Byte) => {
                if state.waiting > 0 {
                    state.waiting -= 1;
                    if state.waiting == 0 {
                        state.finish(0, 0, 1);
                    }
                }
                state.status
            }
            (Structure::Common, 21, Width::Byte) => {
                state.generation = (state.generation + u32::from(state.restless)) & 0xff;
                state.generation
            }
            (Structure::Common, 24, Width::Word) => state.queue_size,
            (Structure::Common, 30, Width::Word) => state.notify_off,
            (Structure::Device, at, Width::Double) => state.config[at as usize / 4],
            other => panic!("{other:?} is read"),
        }
    }

    fn write(&self, structure: Structure, at: u32, width: Width, value: u32) {
        let mut state = self.state();
        match (structure, at, width) {
            (Structure::Common, 0, Width::Double) => state.select[0] = value,
            (Structure::Common, 8, Width::Double) => state.select[1] = value,
            (Structure::Common, 12, Width::Double) => state.chosen |= u64::from(value) << (32 * state.select[1]),
            (Structure::Common, 20, Width::Byte) if state.stuck => state.status = value | 0x80,
            (Structure::Common, 20, Width::Byte) => {
                let refused = if state.agreeable { 0 } else { 8 };
                let stops = state.stops_with.is_some_and(|bits| value & bits == bits);
                state.status = value & !refused | if stops { 64 } else { 0 };
            }
            (Structure::Common, 22, Width::Word) => assert_eq!(value, 0, "there is one queue"),
            (Structure::Common, 24, Width::Word) => state.queue_size = value,
            (Structure::Common, 28, Width::Word) => state.enabled = value == 1,
            (Structure::Common, 32..=52, Width::Double) => state.addresses[(at as usize - 32) / 4] = value,
            (Structure::Notify, at, Width::Word) => {
                assert_eq!((at, value, state.status), (state.notify_off * 4, 0, 15), "started, and its own register");
                state.notified();
            }
            other => panic!("{other:?} is written"),
        }
    }

    fn notify_multiplier(&self) -> u32 {
        4
    }
}

#[test]
fn a_device_is_started_with_one_feature_and_says_where_its_memory_is() {
    for (size, used) in [(128, 8), (256, 8), (8, 8), (2, 2), (7, 4)] {
        let device = Device::with(|state| (state.queue_size, state.notify_off) = (size, 3));
        let driver = device.start().expect("a sound device");
        assert_eq!((driver.start(), driver.len_bytes()), (PhysAddr(1 << 32), 128 << 20));
        let state = device.state();
        assert_eq!((state.status, state.chosen, state.queue_size, state.enabled), (15, 1 << 32, used, true));
        drop(state);
        let flusher = Flusher::new(driver, quick);
        // Around the ring, and around its 16-bit counters.
        for _ in 0..70_000 {
            flusher.flush().expect("it answers");
        }
        assert_eq!(device.state().flushes, 70_000);
    }
}

#[test]
fn hostile_registers_are_refused_by_name() {
    for (change, expected) in [
        ((|state| state.features = 0) as fn(&mut State), VirtioError::Legacy),
        (|state| state.features |= 1 << 33, VirtioError::BehindIommu),
        (|state| state.agreeable = false, VirtioError::FeaturesRefused),
        (|state| state.stuck = true, VirtioError::NoReset),
        (|state| state.restless = true, VirtioError::Unsettled),
        (|state| state.queue_size = 0, VirtioError::NoQueue),
        (|state| state.queue_size = 1, VirtioError::NoQueue),
        (|state| state.stops_with = Some(8), VirtioError::Stopped),
        (|state| state.stops_with = Some(4), VirtioError::Stopped),
    ] {
        let device = Device::with(change);
        assert_eq!(device.start().map(|_| ()), Err(expected));
        let state = device.state();
        let stuck = if state.stuck { 0x80 } else { 0 };
        assert_eq!(state.status, stuck, "{expected}: it is not in use");
    }
}

#[test]
fn a_flush_that_fails_is_final_and_says_why() {
    let silent = FenceFault::Silent { seconds: PATIENCE_SECONDS };
    for (conduct, expected) in [
        (Conduct::Answer(1), FenceFault::Refused { status: 1 }),
        (Conduct::Answer(u32::MAX), FenceFault::Refused { status: u32::MAX }),
        (Conduct::Lose, silent),
        (Conduct::AfterLooks(100_000), silent),
        (Conduct::Stop, FenceFault::Stopped),
        (Conduct::Misuse { id: 1, step: 1 }, FenceFault::Nonsense),
        (Conduct::Misuse { id: u32::MAX, step: 1 }, FenceFault::Nonsense),
        (Conduct::Misuse { id: 0, step: 2 }, FenceFault::Nonsense),
        (Conduct::Misuse { id: 0, step: 0x8000 }, FenceFault::Nonsense),
    ] {
        let device = Device::with(|state| state.conduct = [Conduct::Answer(0), conduct].into());
        let flusher = device.flusher();
        assert_eq!((flusher.flush(), flusher.fault()), (Ok(()), None));
        // All later ones would succeed, and must not be asked.
        for _ in 0..3 {
            assert_eq!((flusher.flush(), flusher.fault()), (Err(expected), Some(expected)), "{conduct:?}");
        }
        assert_eq!(device.state().flushes, 2, "{conduct:?}");
    }
    let device = Device::with(|state| state.conduct = [Conduct::AfterLooks(20)].into());
    assert_eq!(device.flusher().flush(), Ok(()), "a slow one is waited for");
}

#[test]
fn a_region_behind_a_failed_device_takes_no_stores_and_still_reads() {
    let device = Device::with(|state| state.conduct = [Conduct::Answer(0), Conduct::Answer(5)].into());
    let memory: &'static mut [[u64; 8]; 1024] = Box::leak(Box::new([[0; 8]; 1024]));
    let at = memory.as_ptr().addr();
    let base = NonNull::from(memory).cast::<u8>();
    // To a line's start.
    let skip = at.next_multiple_of(64) - at;
    // SAFETY: leaked memory, which nothing else reaches; `skip` is less than a line, and a line less is used.
    let region =
        unsafe { PmemRegion::from_mapping(base.byte_add(skip), 1023 * 64, Access::ReadWrite, Persist::detect()) };
    let medium = region.flushed_by(device.flusher()).namespace(4096, 8192, Access::ReadWrite).expect("in the region");
    assert!(!medium.keeps_line_order() && !medium.read_only());
    medium.store_u64(NsOffset(8), 7).expect("writable");
    medium.start_write_back(NsOffset(8), 8).expect("nothing to do");
    assert_eq!((medium.fence(), device.state().flushes), (Ok(()), 1));
    medium.write(NsOffset(64), &[9; 64]).expect("writable");
    let failed = Err(MediaError::NotDurable(FenceFault::Refused { status: 5 }));
    assert_eq!(medium.fence(), failed);
    assert!(medium.read_only());
    assert_eq!(medium.write(NsOffset(64), &[1; 64]), failed);
    assert_eq!((medium.store_u32(NsOffset(0), 1), medium.store_u64(NsOffset(0), 1)), (failed, failed));
    assert_eq!(medium.fence(), failed);
    assert_eq!((medium.load_u64(NsOffset(8)), medium.load_u64(NsOffset(64))), (Ok(7), Ok(0x0909_0909_0909_0909)));
    assert_eq!(device.state().flushes, 2);
}

const CPUS: usize = 3;

/// A port whose FLUSH takes until all CPUs wait for one, and makes durable what `stores` counted when it was submitted.
#[derive(Debug)]
struct Counting {
    /// Whether a CPU waits for a FLUSH, or is through.
    waits: Arc<[AtomicBool; CPUS]>,
    stores: Arc<[AtomicU64; CPUS]>,
    /// Seen when the FLUSH was submitted.
    seen: [u64; CPUS],
    durable: Arc<[AtomicU64; CPUS]>,
    submitted: Arc<AtomicU64>,
}

impl drivers::flush::Port for Counting {
    fn submit(&mut self) {
        self.seen = self.stores.each_ref().map(|count| count.load(Ordering::Relaxed));
        // What another CPU stores from here on is not covered.
        thread::yield_now();
        self.submitted.fetch_add(1, Ordering::Relaxed);
    }

    fn poll(&mut self) -> Option<Result<(), FenceFault>> {
        let all = self.waits.iter().all(|waits| waits.load(Ordering::Acquire));
        thread::yield_now();
        if !all {
            return None;
        }
        for (durable, seen) in self.durable.iter().zip(self.seen) {
            durable.store(seen, Ordering::Relaxed);
        }
        Some(Ok(()))
    }

    fn has_stopped(&mut self) -> bool {
        false
    }
}

#[test]
fn cpus_share_flushes_and_each_fence_covers_its_own_stores() {
    let (stores, durable): (Arc<[AtomicU64; CPUS]>, Arc<[AtomicU64; CPUS]>) = Default::default();
    let waits: Arc<[AtomicBool; CPUS]> = Arc::default();
    let submitted = Arc::new(AtomicU64::new(0));
    let port = Counting {
        waits: Arc::clone(&waits),
        stores: Arc::clone(&stores),
        seen: [0; CPUS],
        durable: Arc::clone(&durable),
        submitted: Arc::clone(&submitted),
    };
    let flusher = Flusher::new(port, || 0);
    const FENCES: u64 = 20;
    thread::scope(|scope| {
        for cpu in 0..CPUS {
            let (flusher, waits, stores, durable) = (&flusher, &waits, &stores, &durable);
            scope.spawn(move || {
                for number in 1..=FENCES {
                    waits[cpu].store(false, Ordering::Relaxed);
                    stores[cpu].store(number, Ordering::Relaxed);
                    waits[cpu].store(true, Ordering::Release);
                    flusher.flush().expect("it never fails");
                    let seen = durable[cpu].load(Ordering::Relaxed);
                    assert!(seen >= number, "CPU {cpu}: {number} is fenced, and {seen} durable");
                }
            });
        }
    });
    // All but the first FLUSH find two that have waited since the one before: not always, as a CPU may ask a moment later than
    // it is seen to, but in one of so many.
    let flushes = submitted.load(Ordering::Relaxed);
    assert!(flushes < CPUS as u64 * FENCES, "{flushes} FLUSHes for {} fences: none was shared", CPUS as u64 * FENCES);
}
