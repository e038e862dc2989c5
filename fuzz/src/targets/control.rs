//! The control link of a real node, and the memory of the consumer that it speaks for.
//!
//! The bytes are decisions, one after the other: a request, with numbers that are mostly possible; bytes as they are on
//! the link; bytes into the consumer's memory; a turn for the CPU.

use btt::CpuIndex;
use fake_machine::exports::MEMORY;
use fake_machine::{FakeMachine, Wire};
use kernel::node::Node;
use kernel::node::export::Consumer as _;
use service::console::Session;
use service::control::{
    Attach, Call, Deframer, DiskIndex, ExportIndex, MemoryId, MemoryRegion, Outcome, QueueIndex, Report, Request, Start,
};
use service::memory::{MemoryOffset, SharedMemory as _};
use service::mock::{Descriptor, Driver, NEXT, WRITE};

use crate::choices::Choices;
use crate::machine::{Parts, SHARED_BYTES, machine};

const GPA: u64 = 0x4000_0000;
const RING: u16 = 16;
/// The driver's requests and data are here.
const BUFFERS: u64 = 0x1000;
const VERSION_1: u64 = 1 << 32;
/// More turns than any input needs.
const DECISIONS_MAX: u32 = 200;

pub(super) fn run(bytes: &[u8]) {
    decode(bytes);
    let Parts { machine, control: line, consumer } = machine(false);
    let memory = *consumer.memory();
    let mut node = Node::assemble(machine);
    let mut console = Wire::default();
    console.say(b"create-namespace -l 512\r");
    let mut session = Session::new();
    while session.poll(&mut console, &mut node) == service::console::Activity::Busy {}
    node.offer_new();
    let unasked = hear(&node, &line);
    let [Report::Hello { boot, disks: 0 }, ..] = unasked[..] else { panic!("it says who it is: {unasked:?}") };
    let mut choices = Choices(bytes);
    for _ in 0..DECISIONS_MAX {
        if choices.is_empty() {
            break;
        }
        match choices.byte() {
            0..=127 => line.say(&request(&mut choices, boot).encode(u16::from(choices.byte()))),
            128..=159 => {
                let count = choices.byte();
                line.say(choices.take(usize::from(count)));
            }
            160..=207 => {
                let (at, count) = (choices.u16(), choices.byte());
                let _ = memory.write(MemoryOffset(u64::from(at)), choices.take(usize::from(count)));
            }
            208.. => drop(node.exports().poll(CpuIndex(0))),
        }
        hear(&node, &line);
    }
    node.exports().poll(CpuIndex(0));
    let _ = node.exports().may_rest(CpuIndex(0));
    // A bridge that was cut in the middle of a frame; then a new one, and a driver that does no harm.
    line.say(&[0, 0]);
    let said = ask(&node, &line, &Request::Hello { session: u64::MAX - 1 });
    assert!(said.iter().any(|report| matches!(report, Report::Hello { disks: 1, .. })), "{said:?}");
    is_served(&node, &line, &memory, boot);
}

/// Payloads that decode mean the same when they are encoded again.
fn decode(bytes: &[u8]) {
    let payload = |frame: &[u8]| {
        let mut deframer = Deframer::new();
        frame.iter().find_map(|byte| deframer.push(*byte)).expect("a frame").expect("a sound one")
    };
    if let Ok((sequence, request)) = Request::decode(bytes) {
        assert_eq!(Request::decode(&payload(&request.encode(sequence))), Ok((sequence, request)));
    }
    if let Ok((sequence, report)) = Report::decode(bytes) {
        assert_eq!(Report::decode(&payload(&report.encode(sequence))), Ok((sequence, report)));
    }
    let mut deframer = Deframer::new();
    for payload in bytes.iter().filter_map(|byte| deframer.push(*byte)).flatten() {
        let _ = (Request::decode(&payload), Report::decode(&payload));
    }
}

fn request(choices: &mut Choices<'_>, boot: u64) -> Request {
    let export = ExportIndex(choices.below(3));
    let queue = QueueIndex(choices.below(5));
    let call = |choices: &mut Choices<'_>| {
        (choices.byte() & 1 != 0).then(|| Call { peer: choices.below(8), vector: choices.below(2) })
    };
    match choices.byte() % 16 {
        0 => Request::Hello { session: u64::from(choices.byte()) },
        1 => Request::Ping { lease_ms: choices.u32(), boot },
        2..=5 => {
            let memory = if choices.byte() < 240 { MEMORY } else { MemoryId(choices.u16()) };
            let features = if choices.byte() < 200 { VERSION_1 | u64::from(choices.u32()) } else { choices.u64() };
            let regions = (0..choices.byte() % 9).map(|_| region(choices)).collect();
            let disk = DiskIndex(if choices.byte() < 240 { 0 } else { choices.byte() });
            Request::Attach(Attach { export, memory, features, disk, regions })
        }
        6 => Request::Detach { export },
        7..=11 => {
            let size = if choices.byte() < 220 { RING } else { choices.u16() };
            let (base, place) = (choices.below(2), Driver::new(size.max(1), u64::from(choices.below(64)) * 16));
            let avail = 16 * u64::from(size);
            let (desc, avail, used) = match choices.byte() {
                0..=219 => (0, avail, (avail + 6 + 2 * u64::from(size)).next_multiple_of(4)),
                220..=239 => (place.end(), choices.u64(), u64::from(choices.u16())),
                240.. => (choices.u64(), choices.u64(), choices.u64()),
            };
            let call = call(choices);
            Request::Start(Start { export, queue, size, base, desc, avail, used, call, kick_vector: choices.below(2) })
        }
        12 => Request::Stop { export, queue },
        13 => Request::SetCall { export, queue, call: call(choices) },
        _ => {
            let (at, count) = (choices.byte(), choices.byte() % 17);
            Request::WriteConfig { export, at, bytes: choices.take(usize::from(count)).to_vec() }
        }
    }
}

fn region(choices: &mut Choices<'_>) -> MemoryRegion {
    match choices.byte() {
        0..=199 => MemoryRegion { gpa: GPA, bytes: SHARED_BYTES as u64, offset: 0 },
        200..=229 => {
            let offset = u64::from(choices.byte()) << 10;
            MemoryRegion { gpa: GPA + offset, bytes: u64::from(choices.byte()) << 10, offset }
        }
        230.. => MemoryRegion { gpa: choices.u64(), bytes: choices.u64(), offset: choices.u64() },
    }
}

/// Lets the node take in what is there; what it reports.
fn hear(node: &Node<FakeMachine>, line: &Wire) -> Vec<Report> {
    while node.exports().poll_control() {}
    let mut deframer = Deframer::new();
    let heard = line.heard();
    let payloads = heard.iter().filter_map(|byte| deframer.push(*byte));
    payloads.map(|payload| Report::decode(&payload.expect("a sound frame")).expect("a report").1).collect()
}

fn ask(node: &Node<FakeMachine>, line: &Wire, request: &Request) -> Vec<Report> {
    line.say(&request.encode(7));
    hear(node, line)
}

/// A good bridge and a good driver: a sector is written, and read.
fn is_served(node: &Node<FakeMachine>, line: &Wire, memory: &drivers::shared::SharedWindow, boot: u64) {
    memory.write(MemoryOffset(0), &vec![0; SHARED_BYTES]).expect("in memory");
    let mut driver = Driver::new(RING, 0);
    let (export, avail) = (ExportIndex(0), 16 * u64::from(RING));
    let used = (avail + 6 + 2 * u64::from(RING)).next_multiple_of(4);
    let regions = vec![MemoryRegion { gpa: GPA, bytes: SHARED_BYTES as u64, offset: 0 }];
    let attach = Attach { export, memory: MEMORY, features: VERSION_1, disk: DiskIndex(0), regions };
    let (queue, call) = (QueueIndex(0), None);
    let start = Start { export, queue, size: RING, base: 0, desc: 0, avail, used, call, kick_vector: 0 };
    for request in [Request::Ping { lease_ms: 1000, boot }, Request::Attach(attach), Request::Start(start)] {
        assert_eq!(ask(node, line, &request), [Report::Done(Outcome::Ok)], "{request:?}");
    }
    let data = BUFFERS + 0x1000;
    for (kind, flags) in [(1_u32, NEXT), (0, NEXT | WRITE)] {
        let header = [&kind.to_le_bytes()[..], &[0; 12]].concat();
        memory.write(MemoryOffset(BUFFERS), &header).expect("in memory");
        memory.write(MemoryOffset(BUFFERS + 16), &[0xee]).expect("in memory");
        memory.write(MemoryOffset(data), &[if kind == 1 { 0x42 } else { 0 }; 512]).expect("in memory");
        let parts = [
            Descriptor { addr: GPA + BUFFERS, len: 16, flags: NEXT, next: 1 },
            Descriptor { addr: GPA + data, len: 512, flags, next: 2 },
            Descriptor { addr: GPA + BUFFERS + 16, len: 1, flags: WRITE, next: 0 },
        ];
        (0..).zip(parts).for_each(|(index, part)| driver.set_descriptor(memory, index, part));
        driver.publish(memory, 0);
        node.exports().poll(CpuIndex(0));
        assert!(driver.collect(memory).is_some(), "a good request is served");
        let mut status = [0];
        memory.read(MemoryOffset(BUFFERS + 16), &mut status).expect("in memory");
        assert_eq!(status, [0], "and well");
    }
    let mut sector = [0; 512];
    memory.read(MemoryOffset(data), &mut sector).expect("in memory");
    assert_eq!(sector, [0x42; 512], "what was written is read");
}
