//! The machine that the node runs on: what it has, threads for CPUs, a clock.

use std::cell::Cell;
use std::ops;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use btt::CpuIndex;
use kernel::events::retained::{RETAINED_BYTES, RetainedMemory};
use kernel::events::{Journal, News, SharedJournal};
use kernel::node::coroutine::{Coroutine, CoroutineBody};
use kernel::node::export::ExportServices;
use kernel::node::network::NetworkDevice;
use kernel::node::{BareMemory, Machine};
use nvdimm::label::LabelStore;
use service::admin::AnyAppliance;
use service::console;
use service::console::ahead::{Found, ReadAhead};
use service::events::LastBoot;
use service::link::{Asker, ByteLink as _};
use service::progress::Progress;

use crate::coroutine::OnThread;
use crate::labels::{Areas, LabelArea};
use crate::line::Wire;
use crate::memory::{Map, Memory};

thread_local! {
    /// The CPU that a thread is.
    static CPU: Cell<CpuIndex> = const { Cell::new(CpuIndex(0)) };
}

/// The machine.
pub struct FakeMachine {
    map: Map,
    nfits: Vec<Vec<u8>>,
    cpus: u32,
    heap_bytes: u64,
    /// By device handle.
    labels: Areas,
    clock: Clock,
    /// The next random bytes of a machine that repeats; the others have one sequence.
    random: Option<AtomicU8>,
    log: Mutex<Vec<String>>,
    journal: Arc<Journal>,
    last_boot: Option<LastBoot>,
    watchdog: Mutex<Option<u32>>,
    bare: Vec<BareMemory>,
    in_use: Vec<ops::Range<u64>>,
    /// Until the node asks.
    services: Mutex<Option<ExportServices>>,
    /// Until the node asks.
    network: Mutex<Vec<NetworkDevice>>,
    command_line: String,
    console: Option<Arc<Console>>,
}

/// Memory that a reset leaves as it is.
#[derive(Debug)]
pub struct Retained(Mutex<Vec<u8>>);

impl Default for Retained {
    fn default() -> Self {
        Self(Mutex::new(vec![0; RETAINED_BYTES]))
    }
}

impl RetainedMemory for Retained {
    fn read(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.lock().expect("no panic")[at..at + into.len()]);
    }
    fn write(&self, at: usize, from: &[u8]) {
        self.0.lock().expect("no panic")[at..at + from.len()].copy_from_slice(from);
    }
}

/// The console's line while a command is carried out.
#[derive(Default)]
pub struct Console {
    /// The line.
    pub wire: Wire,
    /// What has been read ahead of the session.
    pub ahead: Mutex<ReadAhead>,
    /// For whom the command is carried out.
    pub asker: Asker,
    /// How far the command was, each time that it told: what it does, how much is done, of how much, in what unit.
    pub progress: Mutex<Vec<(String, u64, u64, &'static str)>>,
}

impl FakeMachine {
    /// From here on, each look at the clock is a second later than the one before.
    pub fn hurry(&self) {
        self.clock.hurry_ns.store(1_000_000_000, Ordering::Relaxed);
    }

    /// The watchdog's time in seconds.
    ///
    /// # Panics
    /// Never: code that sets it does not panic.
    #[must_use]
    pub fn watchdog(&self) -> Option<u32> {
        *self.watchdog.lock().expect("no panic")
    }

    /// What has been logged.
    ///
    /// # Panics
    /// Never: code that logs does not panic.
    #[must_use]
    pub fn logged(&self) -> Vec<String> {
        self.log.lock().expect("no panic").clone()
    }
}

impl Machine for FakeMachine {
    type Map = Map;

    fn map(&self) -> &Map {
        &self.map
    }
    fn cpus(&self) -> u32 {
        self.cpus
    }
    fn this_cpu() -> CpuIndex {
        CPU.get()
    }
    fn run_on_all(&self, work: &(dyn Fn(CpuIndex) + Sync)) {
        if self.cpus == 1 {
            return work(CpuIndex(0));
        }
        std::thread::scope(|scope| {
            for cpu in 0..self.cpus {
                scope.spawn(move || {
                    CPU.set(CpuIndex(cpu));
                    work(CpuIndex(cpu));
                });
            }
        });
    }
    fn now_ns(&self) -> u64 {
        self.clock.look_ns()
    }
    fn random(&self) -> [u8; 16] {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        [self.random.as_ref().unwrap_or(&NEXT).fetch_add(1, Ordering::Relaxed); 16]
    }
    fn memory_bytes(&self) -> u64 {
        256 << 20
    }
    fn heap_bytes(&self) -> u64 {
        self.heap_bytes
    }
    fn tables(&self) -> Vec<String> {
        vec!["NFIT".into()]
    }
    fn nfits(&self) -> &[Vec<u8>] {
        &self.nfits
    }
    fn bare_memory(&self) -> Vec<BareMemory> {
        self.bare.clone()
    }
    fn in_use(&self) -> Vec<ops::Range<u64>> {
        self.in_use.clone()
    }
    fn labels(&self) -> Box<dyn LabelStore + '_> {
        Box::new(self.labels.clone())
    }
    fn export_services(&self) -> ExportServices {
        self.services.lock().expect("no panic").take().unwrap_or_else(ExportServices::none)
    }
    fn attend(&self, node: &AnyAppliance) -> bool {
        let Some(Console { wire, ahead, asker, .. }) = self.console.as_deref() else { return false };
        let (mut wire, mut ahead) = (wire.clone(), ahead.lock().expect("no panic"));
        console::reply_to_jobs(&mut wire, node);
        loop {
            match ahead.look(&mut wire, *asker) {
                None => return false,
                Some(Found::End) => return true,
                Some(Found::EndJob(number)) => node.end(wire.number(), &number),
                Some(Found::TakenBack(request)) => console::reply_to_taken_back(&request, &mut wire),
                Some(Found::Request(request)) => {
                    if let Err(request) = console::beside(request, &mut wire, node) {
                        ahead.put_back(request);
                    }
                }
            }
        }
    }
    fn progress(&self, Progress { what, done, total, unit }: &Progress<'_>) {
        if let Some(console) = &self.console {
            console.progress.lock().expect("no panic").push((what.to_string(), *done, *total, unit));
        }
    }
    fn has_stack(&self) -> bool {
        true
    }
    fn coroutine(&self, body: CoroutineBody) -> Box<dyn Coroutine> {
        Box::new(OnThread::new(body))
    }
    fn network_devices(&self) -> Vec<NetworkDevice> {
        std::mem::take(&mut self.network.lock().expect("no panic"))
    }
    fn command_line(&self) -> String {
        self.command_line.clone()
    }
    fn journal(&self) -> SharedJournal {
        self.journal.clone()
    }
    fn tell(&self, news: &News<'_>) {
        self.journal.tell(news);
        self.log.lock().expect("no panic").push(format!("{}: {}", news.place, news.what));
    }
    fn last_boot(&self) -> Option<LastBoot> {
        self.last_boot.clone()
    }
    fn set_watchdog(&self, seconds: Option<u32>) {
        *self.watchdog.lock().expect("no panic") = seconds;
    }
}

/// When an event is told: since the first one of the process.
fn since_start_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Time, in nanoseconds.
#[derive(Debug)]
struct Clock {
    /// Real time passes since then. `None`: each look moves the time on, by more and more, so that all waiting ends soon.
    start: Option<Instant>,
    /// How much each look moves it on beside.
    hurry_ns: AtomicU64,
    hurried_ns: AtomicU64,
}

impl Clock {
    fn look_ns(&self) -> u64 {
        let Some(start) = self.start else {
            let now = self.hurried_ns.load(Ordering::Relaxed);
            self.hurried_ns.store(now.saturating_add(10_000_000).saturating_add(now / 16), Ordering::Relaxed);
            return now;
        };
        let hurried = self.hurried_ns.fetch_add(self.hurry_ns.load(Ordering::Relaxed), Ordering::Relaxed);
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX) + hurried
    }
}

/// What a machine has.
pub struct Hardware {
    /// Physical memory.
    pub map: Map,
    /// Firmware's tables.
    pub nfits: Vec<Vec<u8>>,
    /// Label areas by device handle.
    pub areas: Vec<(u32, &'static LabelArea)>,
    /// Persistent memory that no NFIT describes.
    pub bare: Vec<BareMemory>,
    /// What the memory map has for anything else.
    pub in_use: Vec<ops::Range<u64>>,
    /// How many CPUs.
    pub cpus: u32,
    /// The length that is reported for the heap.
    pub heap_bytes: u64,
    /// What exports need.
    pub services: ExportServices,
    /// Network devices.
    pub network: Vec<NetworkDevice>,
    /// The image's command line.
    pub command_line: String,
    /// The console's line while a command is carried out, if anything comes by it.
    pub console: Option<Arc<Console>>,
    /// Memory that a reset leaves as it is.
    pub retained: Option<Arc<Retained>>,
    /// Whether it does the same each time: its clock moves with each look, and its random bytes begin anew.
    pub repeats: bool,
}

impl Default for Hardware {
    fn default() -> Self {
        Self {
            map: Map::default(),
            nfits: Vec::new(),
            areas: Vec::new(),
            bare: Vec::new(),
            in_use: Vec::new(),
            cpus: 4,
            heap_bytes: 192 << 20,
            services: ExportServices::none(),
            network: Vec::new(),
            command_line: String::new(),
            console: None,
            retained: None,
            repeats: false,
        }
    }
}

impl Hardware {
    /// With memory at this physical address.
    #[must_use]
    pub fn memory(mut self, base: u64, memory: &'static Memory) -> Self {
        self.map.0.push((base, memory.bytes as u64, memory.start));
        self
    }

    /// With something at this physical address that the host has at `start`.
    ///
    /// # Safety
    /// It is never unmapped, and no Rust object.
    #[must_use]
    pub unsafe fn device(mut self, base: u64, bytes: u64, start: NonNull<u8>) -> Self {
        self.map.0.push((base, bytes, start));
        self
    }

    /// The machine.
    #[must_use]
    pub fn machine(self) -> FakeMachine {
        let start = (!self.repeats).then(Instant::now);
        let journal = Journal::new(if self.repeats { || 0 } else { since_start_ns }, || CPU.get().0);
        let last_boot = self.retained.and_then(|memory| journal.attach(memory).last);
        FakeMachine {
            map: self.map,
            nfits: self.nfits,
            labels: Areas(self.areas),
            bare: self.bare,
            in_use: self.in_use,
            cpus: self.cpus,
            heap_bytes: self.heap_bytes,
            clock: Clock { start, hurry_ns: AtomicU64::new(0), hurried_ns: AtomicU64::new(0) },
            random: self.repeats.then(|| AtomicU8::new(1)),
            log: Mutex::default(),
            journal: Arc::new(journal),
            last_boot,
            watchdog: Mutex::default(),
            services: Mutex::new(Some(self.services)),
            network: Mutex::new(self.network),
            command_line: self.command_line,
            console: self.console,
        }
    }
}
