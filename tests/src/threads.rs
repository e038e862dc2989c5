//! The node on a host: firmware tables and media in memory, threads for CPUs, commands as a person types them.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::ops;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use btt::CpuIndex;
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use kernel::node::export::ExportServices;
use kernel::node::{BareMemory, Machine, Node};
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore};
use serde_json::Value;
use service::console::{Activity, Session};
use service::link::ByteLink;

use crate::nfit::{Control, Kind, Mapping, Range, Table};

/// As QEMU lays out one DIMM: the range's base and length, its mapping's flags, and its label area.
#[derive(Clone, Copy, Debug)]
pub struct Dimm {
    /// Its physical address.
    pub base: u64,
    /// Its bytes.
    pub memory: &'static Memory,
    /// Its mapping's flags.
    pub flags: u16,
    /// Its label area, if it has one.
    pub labels: Option<&'static LabelArea>,
}

/// A label area: bytes that outlive the node, and how many writes the power lasts for.
#[derive(Debug)]
pub struct LabelArea {
    /// The area.
    pub bytes: Mutex<Vec<u8>>,
    writes_left: Mutex<usize>,
    /// Whether it can be read no more after the next write.
    fails_after_write: AtomicBool,
    unreadable: AtomicBool,
}

impl LabelArea {
    /// A blank one, never freed.
    #[must_use]
    #[allow(clippy::new_ret_no_self, reason = "never freed")]
    pub fn new() -> &'static Self {
        Box::leak(Box::new(Self {
            bytes: Mutex::new(vec![0; 128 << 10]),
            writes_left: Mutex::new(usize::MAX),
            fails_after_write: AtomicBool::new(false),
            unreadable: AtomicBool::new(false),
        }))
    }

    /// Whether it can be read no more after the next write.
    pub fn fail_after_write(&self, fails: bool) {
        self.fails_after_write.store(fails, Ordering::Relaxed);
        self.unreadable.store(false, Ordering::Relaxed);
    }

    /// Lets the power fail after so many more writes; None: not at all.
    ///
    /// # Panics
    /// When a thread panicked while it wrote.
    pub fn cut_after(&self, writes: Option<usize>) {
        *self.writes_left.lock().expect("no panic") = writes.unwrap_or(usize::MAX);
    }
}

/// Persistent memory: bytes that outlive the node.
#[derive(Debug)]
pub struct Memory {
    /// Where they are.
    pub start: NonNull<u8>,
    /// How many.
    pub bytes: usize,
}

// SAFETY: the bytes are reached through the node's drivers, which allow for any number of CPUs, and by the test only
// while no node is there.
unsafe impl Send for Memory {}
// SAFETY: as for Send.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed memory, never freed.
    #[must_use]
    #[allow(clippy::new_ret_no_self, reason = "never freed")]
    pub fn new(bytes: usize) -> &'static Self {
        let pages: Vec<Page> = std::iter::repeat_with(|| Page([0; 4096])).take(bytes / 4096).collect();
        let start = NonNull::from(pages.leak()).cast();
        Box::leak(Box::new(Self { start, bytes }))
    }

    /// Stores bytes while no node is running.
    ///
    /// # Panics
    /// When they leave the memory.
    pub fn put(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes, "the test keeps to the memory");
        // SAFETY: within the memory, which no other code uses now.
        unsafe { self.start.add(at).as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
    }

    /// All bytes, while no node is running.
    #[must_use]
    pub fn copy(&self) -> Vec<u8> {
        let mut copy = vec![0; self.bytes];
        // SAFETY: as in `put`.
        unsafe { self.start.as_ptr().copy_to(copy.as_mut_ptr(), self.bytes) };
        copy
    }
}

#[repr(align(4096))]
#[expect(dead_code, reason = "only its address is used")]
struct Page([u8; 4096]);

/// An NFIT as QEMU makes it for these DIMMs.
#[must_use]
pub fn nfit(dimms: &[Dimm]) -> Vec<u8> {
    let table = (1_u16..).zip(dimms).fold(Table::default(), |table, (index, dimm)| {
        let (handle, bytes) = (u32::from(index), dimm.memory.bytes as u64);
        let range = Range { index: 2 * index, kind: Kind::Memory, base: dimm.base, bytes };
        let mapping = Mapping {
            handle,
            range: 2 * index,
            control: 2 * index + 1,
            bytes,
            flags: dimm.flags,
            ..Mapping::default()
        };
        let control = Control { index: 2 * index + 1, serial: handle, format: 0x301, registers: None };
        table.range(range).mapping(mapping).control(control)
    });
    table.finish()
}

thread_local! {
    /// The CPU that a thread is.
    static CPU: Cell<CpuIndex> = const { Cell::new(CpuIndex(0)) };
}

/// A machine of threads.
pub struct Threads {
    map: Map,
    nfits: Vec<Vec<u8>>,
    cpus: u32,
    heap_bytes: u64,
    /// By device handle.
    labels: Areas,
    start: Instant,
    /// How much each look at the clock moves it on, beside the time itself.
    hurry_ns: AtomicU64,
    hurried_ns: AtomicU64,
    log: Mutex<Vec<String>>,
    bare: Vec<BareMemory>,
    in_use: Vec<ops::Range<u64>>,
    /// Until the node asks.
    services: Mutex<Option<ExportServices>>,
}

impl Threads {
    /// From here on, each look at the clock is a second later than the one before.
    pub fn hurry(&self) {
        self.hurry_ns.store(1_000_000_000, Ordering::Relaxed);
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

#[derive(Clone)]
struct Areas(Vec<(u32, &'static LabelArea)>);

impl Areas {
    fn of(&self, dimm: DeviceHandle) -> Result<&'static LabelArea, LabelError> {
        let found = self.0.iter().find(|(handle, _)| *handle == dimm.0);
        found.map(|(_, area)| *area).ok_or(LabelError::NoAnswer)
    }
}

impl LabelSource for Areas {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        Ok(self.of(dimm).ok().map(|area| area.bytes.lock().expect("no panic").len() as u64))
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        let area = self.of(dimm)?;
        if area.unreadable.load(Ordering::Relaxed) {
            return Err(LabelError::NoAnswer);
        }
        let (start, bytes) = (usize::try_from(offset).expect("small"), area.bytes.lock().expect("no panic"));
        into.copy_from_slice(&bytes[start..start + into.len()]);
        Ok(())
    }
}

impl LabelStore for Areas {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        let area = self.of(dimm)?;
        let mut left = area.writes_left.lock().expect("no panic");
        *left = left.checked_sub(1).ok_or(LabelError::NoAnswer)?;
        area.unreadable.store(area.fails_after_write.load(Ordering::Relaxed), Ordering::Relaxed);
        let start = usize::try_from(offset).expect("small");
        area.bytes.lock().expect("no panic")[start..start + from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// Physical memory: what begins where, how long it is, and where the host has it.
#[derive(Debug, Default)]
pub struct Map(Vec<(u64, u64, NonNull<u8>)>);

// SAFETY: the pointers reach memory that is never freed, by any thread.
unsafe impl Send for Map {}
// SAFETY: as for Send.
unsafe impl Sync for Map {}

// SAFETY:
// 1. The memory is never freed, and all threads see it.
// 2. It is no Rust object any more: only pointers lead there.
// 3. Both the ranges and the memory are page-aligned.
unsafe impl PhysMap for Map {
    fn map(&self, at: PhysAddr, bytes: u64, _: Attribute) -> Result<NonNull<u8>, MapError> {
        let no_room = MapError::NoRoom { at, bytes };
        let end = at.0.checked_add(bytes).ok_or(no_room)?;
        let holds = |(base, length, _): &&(u64, u64, _)| *base <= at.0 && end <= base + length;
        let (base, _, start) = self.0.iter().find(holds).ok_or(no_room)?;
        // SAFETY: within the memory.
        Ok(unsafe { start.add(usize::try_from(at.0 - base).expect("small")) })
    }
}

impl Machine for Threads {
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
        let hurry = self.hurry_ns.load(Ordering::Relaxed);
        let hurried = self.hurried_ns.fetch_add(hurry, Ordering::Relaxed);
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX) + hurried
    }
    fn random(&self) -> [u8; 16] {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        [NEXT.fetch_add(1, Ordering::Relaxed); 16]
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
    fn log(&self, line: fmt::Arguments<'_>) {
        self.log.lock().expect("no panic").push(line.to_string());
    }
}

/// A serial line with a program at its other end.
#[derive(Debug, Default)]
pub struct Line {
    /// On its way in.
    pub to_node: VecDeque<u8>,
    /// What came out.
    pub from_node: Vec<u8>,
}

impl ByteLink for Line {
    fn receive(&mut self) -> Option<u8> {
        self.to_node.pop_front()
    }
    fn send(&mut self, bytes: &[u8]) {
        self.from_node.extend(bytes);
    }
}

/// A booted node in machine mode.
pub struct Booted {
    /// The node.
    pub node: Node<Threads>,
    session: Session,
    line: Line,
}

/// A MiB.
pub const MIB: usize = 1 << 20;
/// Where QEMU puts the first DIMM.
pub const BASE: u64 = 1 << 32;

/// Boots on these DIMMs.
#[must_use]
pub fn boot(dimms: &[Dimm]) -> Booted {
    boot_with(dimms, ExportServices::none())
}

/// Boots on these DIMMs, with what exports need.
///
/// # Panics
/// When it does not come up.
#[must_use]
pub fn boot_with(dimms: &[Dimm], services: ExportServices) -> Booted {
    let nfits = if dimms.is_empty() { vec![] } else { vec![nfit(dimms)] };
    let map = Map(dimms.iter().map(|dimm| (dimm.base, dimm.memory.bytes as u64, dimm.memory.start)).collect());
    let areas = (1..).zip(dimms).filter_map(|(handle, dimm)| Some((handle, dimm.labels?)));
    Hardware { map, nfits, areas: areas.collect(), services, ..Hardware::default() }.boot()
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

    /// Boots it into machine mode.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn boot(self) -> Booted {
        let node = Node::assemble(Threads {
            map: self.map,
            nfits: self.nfits,
            labels: Areas(self.areas),
            bare: self.bare,
            in_use: self.in_use,
            cpus: self.cpus,
            heap_bytes: self.heap_bytes,
            start: Instant::now(),
            hurry_ns: AtomicU64::new(0),
            hurried_ns: AtomicU64::new(0),
            log: Mutex::default(),
            services: Mutex::new(Some(self.services)),
        });
        let mut booted = Booted { node, session: Session::new(), line: Line::default() };
        booted.session.start(&mut booted.line);
        assert_eq!(booted.ask("mode json")["mode"], "json");
        booted
    }
}

/// Boots on one DIMM without labels.
#[must_use]
pub fn boot_one(memory: &'static Memory) -> Booted {
    boot(&[Dimm { base: BASE, memory, flags: 0, labels: None }])
}

/// A DIMM with a label area.
#[must_use]
pub fn labelled(mib: usize) -> Dimm {
    Dimm { base: BASE, memory: Memory::new(mib * MIB), flags: 0, labels: Some(LabelArea::new()) }
}

impl Booted {
    /// Sends a line; the reply.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask(&mut self, line: &str) -> Value {
        self.line.from_node.clear();
        self.line.to_node.extend(line.bytes().chain([b'\n']));
        while self.session.poll(&mut self.line, &mut self.node) == Activity::Busy {}
        let text = String::from_utf8(self.line.from_node.clone()).expect("UTF-8");
        let reply = text.lines().last().expect("a reply");
        serde_json::from_str(reply).unwrap_or_else(|why| panic!("{line}: {why}: {reply}"))
    }

    /// The reply to a line that must be obeyed.
    ///
    /// # Panics
    /// When it is not.
    pub fn done(&mut self, line: &str) -> Value {
        let reply = self.ask(line);
        assert_eq!(reply["ok"], true, "{line}: {reply}");
        reply
    }

    /// The error to a line that must not.
    ///
    /// # Panics
    /// When it is obeyed, or refused for another reason.
    pub fn refused(&mut self, line: &str, code: &str) -> String {
        let reply = self.ask(line);
        assert_eq!(reply["error"]["code"], code, "{line}: {reply}");
        reply["error"]["message"].as_str().expect("a message").into()
    }
}
