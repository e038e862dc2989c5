//! How often cache lines move between CPUs, with 1 to 64 of them: the real code on CPUs that take turns, each line owned as
//! in a coherent machine. Nothing moves more often with more CPUs, but what must: a line that another CPU changed last.
//!
//! `cargo test -p btt --test cpus -- --nocapture` prints the table of `docs/speed.md`.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;

use btt::format::format;
use btt::media::{MediaError, Medium, NsOffset};
use btt::ram::Ram;
use btt::sim::{Access, set_observer};
use btt::{Btt, CpuIndex, ExternalLba};

use common::{BYTES, content, format_options, open, write};

/// The bytes of a cache line.
const LINE: usize = 64;

/// Where the medium's lines begin, among those of memory: no program has its memory there.
const MEDIUM: usize = 1 << 60;

/// Who has a line.
#[derive(Default)]
struct Holders {
    /// One bit for each CPU that has a copy.
    copies: u64,
}

/// All lines, and how often one had to come from another CPU.
#[derive(Default)]
struct Lines {
    holders: HashMap<usize, Holders>,
    memory_moves: u64,
    medium_moves: u64,
}

thread_local! {
    static CPU: Cell<u32> = const { Cell::new(0) };
    static LINES: RefCell<Lines> = RefCell::default();
}

impl Lines {
    fn access(&mut self, bytes: Range<usize>, access: Access) {
        let me = 1 << CPU.get();
        for line in bytes.start / LINE..bytes.end.div_ceil(LINE) {
            let holders = self.holders.entry(line).or_default();
            let alone = holders.copies & !me == 0;
            let moves = match access {
                Access::Load => holders.copies & me == 0 && !alone,
                Access::Store => !alone,
            };
            holders.copies = if access == Access::Store { me } else { holders.copies | me };
            let count = if line * LINE >= MEDIUM { &mut self.medium_moves } else { &mut self.memory_moves };
            *count += u64::from(moves);
        }
    }
}

fn observe(bytes: Range<usize>, access: Access) {
    LINES.with_borrow_mut(|lines| lines.access(bytes, access));
}

/// A medium whose map and flog lines are observed. Data are not: each block is written by the CPU that has it, whoever that
/// was before.
struct Observed(Ram);

impl Observed {
    fn word(at: NsOffset, bytes: usize, access: Access) {
        let start = MEDIUM + usize::try_from(at.0).expect("a small medium");
        observe(start..start + bytes, access);
    }
}

impl Medium for Observed {
    fn len_bytes(&self) -> u64 {
        self.0.len_bytes()
    }
    fn read_only(&self) -> bool {
        false
    }
    fn keeps_line_order(&self) -> bool {
        true
    }
    fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
        self.0.read(at, into)
    }
    fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
        self.0.write(at, from)
    }
    fn load_u32(&self, at: NsOffset) -> Result<u32, MediaError> {
        Self::word(at, 4, Access::Load);
        self.0.load_u32(at)
    }
    fn load_u64(&self, at: NsOffset) -> Result<u64, MediaError> {
        Self::word(at, 8, Access::Load);
        self.0.load_u64(at)
    }
    fn store_u32(&self, at: NsOffset, value: u32) -> Result<(), MediaError> {
        Self::word(at, 4, Access::Store);
        self.0.store_u32(at, value)
    }
    fn store_u64(&self, at: NsOffset, value: u64) -> Result<(), MediaError> {
        Self::word(at, 8, Access::Store);
        self.0.store_u64(at, value)
    }
    fn start_write_back(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.0.start_write_back(at, bytes)
    }
    fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
        self.0.look_again(at, bytes)
    }
    fn will_store(&self, at: NsOffset) {
        Self::word(at, 4, Access::Store);
    }
    fn order_stores(&self) {
        self.0.order_stores();
    }
    fn fence(&self) -> Result<(), MediaError> {
        self.0.fence()
    }
}

/// The lines that move for a thousand operations: in memory, and of map and flog.
#[derive(Clone, Copy, Debug)]
struct Moves {
    memory: u64,
    medium: u64,
}

/// The next sector, anywhere.
fn draw(state: &mut u64, sectors: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sectors
}

/// Runs operations on as many CPUs, each in its turn, first half uncounted: until all is warm.
fn moves(btt: &Btt<Observed>, cpus: u32, operation: impl Fn(&Btt<Observed>, u32, u64)) -> Moves {
    const OPERATIONS: u64 = 40_000;
    let mut state = 1;
    let mut before = (0, 0);
    let counts = || LINES.with_borrow(|lines| (lines.memory_moves, lines.medium_moves));
    for number in 0..2 * OPERATIONS {
        if number == OPERATIONS {
            before = counts();
        }
        let cpu = u32::try_from(number % u64::from(cpus)).expect("few");
        CPU.set(cpu);
        operation(btt, cpu, draw(&mut state, btt.capacity_sectors()));
    }
    let after = counts();
    let each = |moved: u64| moved * 1000 / OPERATIONS;
    Moves { memory: each(after.0 - before.0), medium: each(after.1 - before.1) }
}

fn made() -> Observed {
    let ram = Ram::new(BYTES.try_into().expect("a small medium"));
    format(&ram, &format_options(512), &mut |_, _| ()).expect("a medium without faults");
    Observed(ram)
}

#[test]
fn nothing_moves_more_often_with_more_cpus_but_what_must() {
    set_observer(observe);
    let write_one = |btt: &Btt<Observed>, cpu: u32, lba: u64| write(btt, cpu, lba, &[lba]).expect("a sound medium");
    let read_one = |btt: &Btt<Observed>, cpu: u32, lba: u64| {
        let mut bytes = content(512, 0);
        let mut sink = btt::bytes::SectorsMut::new(&mut bytes, btt.sector_size()).expect("one sector");
        btt.reader(CpuIndex(cpu)).read(ExternalLba(lba), 1, &mut sink).expect("a sound medium");
    };
    println!("| CPUs | write: memory | write: map and flog | read: memory | read: map |\n|---|---|---|---|---|");
    let mut all = Vec::new();
    for cpus in [1, 2, 8, 16, 64] {
        LINES.set(Lines::default());
        let btt = open(made(), cpus);
        let written = moves(&btt, cpus, write_one);
        // Each line that was written moves once to each CPU that reads it.
        for cpu in 0..cpus {
            CPU.set(cpu);
            (0..btt.capacity_sectors()).step_by(16).for_each(|lba| read_one(&btt, cpu, lba));
        }
        let read = moves(&btt, cpus, read_one);
        println!("| {cpus} | {} | {} | {} | {} |", written.memory, written.medium, read.memory, read.medium);
        all.push((cpus, written, read));
    }
    let (one, many) = (all[0], &all[1..]);
    assert_eq!((one.1.memory, one.1.medium, one.2.memory, one.2.medium), (0, 0, 0, 0), "a CPU alone meets nobody");
    for (cpus, written, read) in many {
        // A map line, and its stripe, were another CPU's last with a probability that nears 1. A fence count is looked at if
        // the change on the stripe is younger than the last look, and then comes back when its lane fences next.
        assert!(written.medium <= 1000, "{cpus} CPUs: at most the map line: {written:?}");
        assert!(written.memory <= 3000, "{cpus} CPUs: at most the stripe and a fence count: {written:?}");
        assert_eq!((read.memory, read.medium), (0, 0), "{cpus} CPUs: reads store nothing: {read:?}");
    }
}
