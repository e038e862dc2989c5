//! Disks for other machines: a consumer, its driver, and a bridge that speaks for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use btt::CpuIndex;
use fake_machine::exports::{FakeConsumer, MEMORY, StillClock, services};
use fake_machine::nfit::Table;
use fake_machine::{BASE, Booted, Dimm, Hardware, MIB, Memory, Wire, boot_with};
use kernel::node::export::{AttendedLink, ExportServices};
use kernel::node::network::NetworkDevice;
use net::mock::FakeNic;
use net::nic::Mac;
use net::tcp::{Service, Tcp};
use service::blk::STEP_BYTES;
use service::control::{
    Attach, Deframer, DiskIndex, ExportIndex, MemoryId, MemoryRegion, Outcome, QueueIndex, Report, Request, Start,
};
use service::link::ByteLink as _;
use service::memory::{MemoryOffset, SharedMemory};
use service::mock::{Descriptor, Driver, NEXT, WRITE};
use tests::blk::trap::Trapped;
use tests::blk::{Layout, Model};

/// A consumer: its memory, a driver, and a bridge that speaks for it.
struct Bridge {
    booted: Booted,
    wire: Wire,
    clock: Arc<StillClock>,
    consumer: Arc<FakeConsumer>,
    driver: Driver,
    /// The node's run, as it reports it.
    boot: u64,
}

const RINGS: u16 = 16;
const GPA: u64 = 0x4000_0000;
const BUFFERS: u64 = 0x10000;

impl Bridge {
    /// A node with one formatted namespace of memory, a consumer, and a lease.
    fn new(sector: u32) -> Self {
        Self::with_dimms(1, sector)
    }

    /// The same with so many DIMMs, of which the first one is formatted.
    fn with_dimms(dimms: u64, sector: u32) -> Self {
        let dimm = |number| Dimm { base: BASE * number, memory: Memory::new(32 * MIB), flags: 0, labels: None };
        Self::on(sector, |services, _| boot_with(&(1..=dimms).map(dimm).collect::<Vec<_>>(), services))
    }

    /// The same, with a namespace behind block windows.
    fn behind_windows(sector: u32) -> Self {
        let dimm = Trapped::new(Model::blank(Layout::plain(1, 0xfe90_0000, 2, 20 << 20)));
        let table = dimm.model().layout().describe(Table::default()).finish();
        Self::on(sector, |services, _| {
            dimm.plug(Hardware { nfits: vec![table], services, ..Hardware::default() }).boot()
        })
    }

    fn on(sector: u32, boot: impl FnOnce(ExportServices, &Arc<StillClock>) -> Booted) -> Self {
        let memory = Memory::new(MIB);
        let (wire, clock) = (Wire::default(), Arc::new(StillClock::default()));
        let consumer = Arc::new(FakeConsumer::new(memory, &clock, 4));
        let services = services(&wire, &clock, &consumer);
        let mut booted = boot(services, &clock);
        booted.done(&format!("create-namespace -r region0 -l {sector}"));
        booted.node.offer_new();
        let mut bridge = Self { booted, wire, clock, consumer, driver: Driver::new(RINGS, 0), boot: 0 };
        let reports = bridge.say(Request::Hello { session: 1 });
        let [Report::Hello { boot, .. }, ..] = reports[..] else { panic!("{reports:?}") };
        bridge.boot = boot;
        bridge.ping();
        bridge
    }

    fn ping(&mut self) {
        self.ask(Request::Ping { lease_ms: 5000, boot: self.boot }, Outcome::Ok);
    }

    /// Sends a request; what the appliance reports.
    fn say(&mut self, request: Request) -> Vec<Report> {
        self.wire.0.lock().expect("no panic").to_node.extend(request.encode(7));
        self.hear()
    }

    /// What it reports, but for the Hellos that it sends unasked.
    fn hear(&mut self) -> Vec<Report> {
        let unasked = |report: &(u16, Report)| matches!(report, (0, Report::Hello { .. }));
        self.hear_all().into_iter().filter(|it| !unasked(it)).map(|(_, report)| report).collect()
    }

    /// All that it reports, with the numbers of the requests it replies to.
    fn hear_all(&mut self) -> Vec<(u16, Report)> {
        while self.booted.node.exports().poll_control() {}
        replies(self)
    }

    fn ask(&mut self, request: Request, outcome: Outcome) {
        let words = format!("{request:?}");
        assert_eq!(self.say(request), [Report::Done(outcome)], "{words}");
    }

    fn attach(&mut self) {
        self.attach_as(ExportIndex(0), MEMORY);
    }

    fn attach_as(&mut self, export: ExportIndex, memory: MemoryId) {
        let regions = vec![MemoryRegion { gpa: GPA, bytes: MIB as u64, offset: 0 }];
        let features = 1 << 32 | 1 << 13 | 1 << 14; // VERSION_1, DISCARD, WRITE_ZEROES
        let attach = Attach { export, memory, features, disk: DiskIndex(0), regions };
        self.ask(Request::Attach(attach), Outcome::Ok);
    }

    fn start(&mut self, queue: u16) {
        self.start_with(queue, RINGS, Outcome::Ok);
    }

    fn start_with(&mut self, queue: u16, size: u16, outcome: Outcome) {
        self.ask(Self::start_of(ExportIndex(0), queue, size), outcome);
    }

    fn start_of(export: ExportIndex, queue: u16, size: u16) -> Request {
        let avail = 16 * u64::from(RINGS);
        let used = (avail + 6 + 2 * u64::from(RINGS)).next_multiple_of(4);
        let call = Some(service::control::Call { peer: 9, vector: 0 });
        let kick_vector = queue;
        let queue = QueueIndex(queue);
        Request::Start(Start { export, queue, size, base: 0, desc: 0, avail, used, call, kick_vector })
    }

    /// One request: a header, data, a status. Its status, or none if it was not served.
    fn request(&mut self, kind: u32, unit: u64, data: u64, bytes: u32, cpu: u32) -> Option<u8> {
        self.submit(kind, unit, data, bytes);
        self.booted.node.exports().poll(CpuIndex(cpu));
        self.answer()
    }

    fn submit(&mut self, kind: u32, unit: u64, data: u64, bytes: u32) {
        submit(&self.consumer, &mut self.driver, kind, unit, data, bytes);
    }

    /// Who was woken since this was last asked.
    fn woken(&self) -> Vec<CpuIndex> {
        std::mem::take(&mut self.clock.woken.lock().expect("no panic"))
    }

    fn wants_kicks(&self) -> bool {
        self.driver.used_flags(&self.consumer.window) == 0
    }

    fn answer(&mut self) -> Option<u8> {
        answer(&self.consumer, &mut self.driver)
    }
}

/// One request: a header, data, a status.
fn submit(consumer: &FakeConsumer, driver: &mut Driver, kind: u32, unit: u64, data: u64, bytes: u32) {
    let window = consumer.window;
    let header = [&kind.to_le_bytes()[..], &[0; 4], &unit.to_le_bytes()].concat();
    window.write(MemoryOffset(BUFFERS), &header).expect("in memory");
    window.write(MemoryOffset(BUFFERS + 16), &[0xee]).expect("in memory");
    let flags = if kind == 0 { NEXT | WRITE } else { NEXT };
    let parts = [
        Descriptor { addr: GPA + BUFFERS, len: 16, flags: NEXT, next: 1 },
        Descriptor { addr: GPA + data, len: bytes, flags, next: 2 },
        Descriptor { addr: GPA + BUFFERS + 16, len: 1, flags: WRITE, next: 0 },
    ];
    for (index, part) in (0..).zip(parts) {
        driver.set_descriptor(&window, index, part);
    }
    driver.publish(&window, 0);
}

/// The status of the request, if it was served.
fn answer(consumer: &FakeConsumer, driver: &mut Driver) -> Option<u8> {
    driver.collect(&consumer.window)?;
    let mut status = [0];
    consumer.window.read(MemoryOffset(BUFFERS + 16), &mut status).expect("in memory");
    Some(status[0])
}

#[test]
fn a_consumers_sectors_are_the_admins_sectors() {
    let pmem = [512, 4096].map(|sector| (sector, "pmem0s", Bridge::new(sector)));
    let blk = [512, 4096].map(|sector| (sector, "ndblk0.0s", Bridge::behind_windows(sector)));
    for (sector, dev, mut bridge) in pmem.into_iter().chain(blk) {
        bridge.attach();
        bridge.start(1);
        assert_eq!(*bridge.consumer.rung.lock().expect("no panic"), [9 << 16], "a start rings once");
        // Data that begin in the middle of a line, and are three sectors long.
        let data: Vec<u8> = (0..3 * sector).map(|at| u8::try_from(at % 249).expect("small")).collect();
        let at = 0x20000 + 24;
        bridge.consumer.window.write(MemoryOffset(at), &data).expect("in memory");
        let unit = u64::from(sector / 512) * 5;
        assert_eq!(bridge.request(1, unit, at, 3 * sector, 1), Some(0));
        assert_eq!(bridge.consumer.rung.lock().expect("no panic").len(), 2, "one interrupt for it");
        let read = bridge.booted.done(&format!("read {dev} 5 3"));
        let encoded = bridge.booted.done(&format!("read {dev} 6"))["data"].clone();
        assert_ne!(encoded, bridge.booted.done(&format!("read {dev} 8"))["data"]);
        bridge.booted.done(&format!("write {dev} 20 -f --data {}", encoded.as_str().expect("base64")));
        let back = 0x40000;
        assert_eq!(bridge.request(0, u64::from(sector / 512) * 20, back, sector, 1), Some(0));
        let mut got = vec![0; sector as usize];
        bridge.consumer.window.read(MemoryOffset(back), &mut got).expect("in memory");
        assert_eq!(got, data[sector as usize..][..sector as usize], "{read}");
        let stats = bridge.booted.done("stats");
        let queue = &stats["queues"][0];
        assert_eq!((&queue["requests"], &queue["cpu"], &queue["failed"]), (&2.into(), &1.into(), &0.into()), "{stats}");
        assert_eq!((&queue["export"], &queue["queue"], &queue["dev"]), (&0.into(), &1.into(), &dev.into()));
        let rung = bridge.consumer.rung.lock().expect("no panic").len();
        assert_eq!((&queue["interrupts"], &queue["rests"]), (&rung.into(), &0.into()), "{stats}");
        assert_eq!(bridge.request(0, u64::MAX, back, sector, 1), Some(1), "there is no such sector");
        assert!(bridge.booted.node.exports().may_rest(CpuIndex(1)));
        let queue = bridge.booted.done("stats")["queues"][0].clone();
        assert_eq!(
            (&queue["requests"], &queue["failed"], &queue["rests"]),
            (&3.into(), &1.into(), &1.into()),
            "{queue}"
        );
        let events = bridge.booted.done("trace")["events"].to_string();
        assert!(events.contains("export 0 queue 1: 1 served, driver called"), "{events}");
    }
}

#[test]
fn an_exported_namespace_stays_and_a_withdrawn_one_fails_its_requests() {
    let mut bridge = Bridge::new(4096);
    bridge.attach();
    bridge.start(0);
    assert_eq!(bridge.booted.done("status")["exports"], serde_json::json!(["pmem0s"]));
    for command in ["create-namespace -f", "disable-namespace namespace0.0", "destroy-namespace -f namespace0.0"] {
        let reply = bridge.booted.ask(command);
        let message = reply["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("unexport pmem0s first"), "{command}: {reply}");
    }
    bridge.booted.done("unexport pmem0s");
    assert_eq!(bridge.hear(), [Report::DiskGone { disk: DiskIndex(0) }]);
    assert_eq!(bridge.request(0, 0, 0x20000, 4096, 0), Some(1), "IOERR");
    assert_eq!(bridge.booted.done("status")["exports"], serde_json::json!([]));
    bridge.booted.done("export pmem0s");
    assert!(matches!(&bridge.hear()[..], [Report::Disk(disk)] if disk.name == "pmem0s" && disk.capacity > 0));
    assert_eq!(bridge.request(0, 0, 0x20000, 4096, 0), Some(0), "it is back");
    bridge.booted.done("unexport pmem0s");
    bridge.booted.done("create-namespace -f -l 512");
}

#[test]
fn another_disk_under_the_name_of_a_withdrawn_one_is_not_given_to_the_driver_that_knew_that_one() {
    for sector in [512, 4096] {
        let mut bridge = Bridge::new(4096);
        bridge.attach();
        bridge.start(0);
        assert_eq!(bridge.request(0, 0, 0x20000, 4096, 0), Some(0));
        bridge.booted.done("unexport pmem0s");
        bridge.booted.done(&format!("create-namespace -f -l {sector}"));
        bridge.booted.done("export pmem0s");
        bridge.hear();
        assert_eq!(bridge.request(1, 0, 0x20000, 4096, 0), Some(1), "a queue that runs");
        bridge.booted.done("write pmem0s 0 --fill 0"); // no consumer has this one
        assert_eq!(
            bridge.say(Request::Stop { export: ExportIndex(0), queue: QueueIndex(0) }),
            [Report::Stopped { base: 2 }]
        );
        bridge.start(0);
        assert_eq!(bridge.request(1, 0, 0x20000, 4096, 0), Some(1), "one that is started again");
        bridge.attach();
        assert_eq!(bridge.request(1, 0, 0x20000, 4096, 0), Some(1), "while it runs, an Attach repeats what holds");
        bridge.say(Request::Stop { export: ExportIndex(0), queue: QueueIndex(0) });
        bridge.attach();
        bridge.start(0);
        assert_eq!(bridge.request(1, 0, 0x20000, 4096, 0), Some(0), "one that is attached anew");
        bridge.booted.refused("write pmem0s 0 --fill 0", "failed");
    }
}

#[test]
fn a_queue_that_broke_can_be_started_anew_and_a_start_that_is_refused_leaves_it_stopped() {
    for found_by_a_poll in [true, false] {
        let mut bridge = Bridge::new(512);
        bridge.attach();
        bridge.start(0);
        assert_eq!(bridge.request(0, 0, 0x20000, 512, 0), Some(0));
        // The driver makes more requests available than its ring has room for.
        let (window, avail) = (bridge.consumer.window, 16 * u64::from(RINGS));
        window.write(MemoryOffset(avail + 2), &(1 + RINGS + 1).to_le_bytes()).expect("in memory");
        let exports = bridge.booted.node.exports();
        if found_by_a_poll {
            exports.poll(CpuIndex(0));
        } else {
            exports.may_rest(CpuIndex(0));
        }
        assert!(matches!(bridge.hear()[..], [Report::Broken { used: 1, .. }]));
        let events = bridge.booted.done("trace")["events"].to_string();
        assert!(events.contains("export 0 queue 0: broken"), "{events}");
        window.write(MemoryOffset(avail + 2), &1_u16.to_le_bytes()).expect("in memory");
        bridge.start_with(0, 3, Outcome::BadQueue);
        // Nothing runs, so the Start that did run is no repetition.
        bridge.start(0);
        assert_eq!(bridge.request(0, 0, 0x20000, 512, 0), Some(0));
        let stop = Request::Stop { export: ExportIndex(0), queue: QueueIndex(0) };
        assert_eq!(bridge.say(stop), [Report::Stopped { base: 2 }]);
    }
}

#[test]
fn long_commands_attend_to_consumers_and_their_bridge() {
    let mut bridge = Bridge::with_dimms(2, 512);
    bridge.attach();
    bridge.start(0);
    let ping = Request::Ping { lease_ms: 5000, boot: bridge.boot };
    let stop = Request::Stop { export: ExportIndex(0), queue: QueueIndex(0) };
    let during = |bridge: &mut Bridge, command: &str| {
        for request in [&ping, &stop] {
            bridge.wire.0.lock().expect("no panic").to_node.extend(request.encode(7));
        }
        bridge.submit(0, 40_000, 0x20000, 512);
        bridge.booted.done(command);
        (bridge.answer(), bridge.hear())
    };
    // A namespace that does not exist, or other sectors: nothing changes.
    for (base, command) in (1..).zip([
        "create-namespace -r region1 -f",
        "write pmem0s 0 --fill 1 --count 2048 -f",
        "inject-error pmem0s 0 2048 -f",
        "clear-errors pmem0s 0 2048 -f",
        "trim pmem0s 0 2048 -f",
        "errors pmem0s",
        "inject-error pmem0s 0 2048 --media -f",
    ]) {
        let done = during(&mut bridge, command);
        assert_eq!(done, (Some(0), vec![Report::Done(Outcome::Ok), Report::Stopped { base }]), "{command}");
        bridge.start(0);
        bridge.hear();
    }
    // The requests of a disk that is checked wait, but the bridge is heard.
    let base = bridge.driver.used_index(&bridge.consumer.window);
    let done = during(&mut bridge, "check-namespace namespace0.0");
    assert_eq!(done, (None, vec![Report::Done(Outcome::Ok), Report::Stopped { base }]));
    bridge.start(0);
    bridge.booted.node.exports().poll(CpuIndex(0));
    assert_eq!(bridge.answer(), Some(0));
    bridge.woken();
    bridge.submit(0, 3000, 0x20000, 512);
    bridge.booted.done("check-namespace namespace0.0");
    assert_eq!((bridge.answer(), bridge.woken()), (None, vec![CpuIndex(0)]), "who serves the queue is woken after it");
    bridge.booted.node.exports().poll(CpuIndex(0));
    assert_eq!(bridge.answer(), Some(0));
}

/// A reply of a megabyte takes a serial line seconds.
#[test]
fn a_long_reply_attends_to_consumers_and_their_bridge_between_its_parts() {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    bridge.start(0);
    bridge.submit(0, 5, 0x20000, 512);
    let stop = Request::Stop { export: ExportIndex(0), queue: QueueIndex(0) };
    bridge.wire.0.lock().expect("no panic").to_node.extend(stop.encode(7));
    let console = Wire::default();
    let exports = Arc::clone(bridge.booted.node.exports());
    let mut link = AttendedLink { link: console.clone(), exports, cpu: CpuIndex(0) };
    let reply: Vec<u8> = (0..100_000).map(|at| b'a' + (at % 23) as u8).collect();
    link.send(&reply);
    assert_eq!(console.heard(), reply);
    assert_eq!((bridge.answer(), bridge.hear()), (Some(0), vec![Report::Stopped { base: 1 }]));
}

#[test]
fn a_disk_that_a_consumer_has_is_written_only_by_force() {
    let mut bridge = Bridge::new(512);
    let writing = [
        "write pmem0s 0 --fill 1",
        "trim pmem0s 0 1",
        "inject-error pmem0s 0",
        "inject-error pmem0s 0 --media",
        "clear-errors pmem0s 0",
        "bench pmem0s --seconds 1",
    ];
    // To be exported is not to be used.
    assert_eq!(bridge.booted.done("status")["exports"], serde_json::json!(["pmem0s"]));
    writing.iter().for_each(|line| _ = bridge.booted.done(line));
    bridge.attach();
    for line in writing {
        assert!(bridge.booted.refused(line, "failed").contains("pmem0s is in use by a consumer: -f"), "{line}");
        bridge.booted.done(&format!("{line} -f"));
    }
    bridge.booted.done("read pmem0s 0");
    bridge.booted.done("bench pmem0s --verify");
    bridge.ask(Request::Detach { export: ExportIndex(0) }, Outcome::Ok);
    writing.iter().for_each(|line| _ = bridge.booted.done(line));
    // Withdrawn, the consumer's requests fail: the disk is not in use.
    bridge.attach();
    bridge.booted.done("unexport pmem0s");
    writing.iter().for_each(|line| _ = bridge.booted.done(line));
}

/// Requests of queue 0, which is CPU 0's, one after another, until a CPU may keep watch.
fn calm() -> Bridge {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    bridge.start(0);
    let keeps_watch = |bridge: &Bridge, cpu| bridge.booted.node.exports().keeps_watch(CpuIndex(cpu));
    for _ in 0..16 {
        assert!(!keeps_watch(&bridge, 1), "who knows how they will come");
        assert_eq!(bridge.request(0, 0, 0x20000, 512, 0), Some(0));
    }
    assert!(!keeps_watch(&bridge, 0), "it has the console to look after");
    assert!(keeps_watch(&bridge, 1) && !keeps_watch(&bridge, 2) && keeps_watch(&bridge, 1), "one does");
    bridge.woken();
    bridge
}

#[test]
fn while_requests_come_one_at_a_time_one_cpu_serves_the_queues_of_all_and_the_others_halt() {
    let mut bridge = calm();
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(0)));
    assert!(!bridge.wants_kicks(), "somebody looks");
    assert_eq!(bridge.request(0, 0, 0x20000, 512, 2), None, "not this one");
    assert!(bridge.booted.node.exports().poll(CpuIndex(1)));
    assert_eq!(bridge.answer(), Some(0));
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(1)));
    assert!(bridge.wants_kicks(), "nobody looks any more");
    assert_eq!(bridge.woken(), []);
    assert_eq!(bridge.request(0, 0, 0x20000, 512, 1), None, "not this one any more");
    assert!(!bridge.booted.node.exports().may_rest(CpuIndex(0)), "what waits is seen before a rest");
    assert!(bridge.booted.node.exports().poll(CpuIndex(0)));
    assert_eq!(bridge.answer(), Some(0));
}

#[test]
fn who_leaves_the_watch_wakes_those_who_have_requests() {
    let mut bridge = calm();
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(0)));
    bridge.submit(0, 0, 0x20000, 512);
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(1)), "it has none itself");
    assert_eq!(bridge.woken(), [CpuIndex(0)]);
    assert!(bridge.booted.node.exports().poll(CpuIndex(0)));
    assert_eq!(bridge.answer(), Some(0));
    // Before a job that all CPUs have.
    assert!(bridge.booted.node.exports().keeps_watch(CpuIndex(1)));
    bridge.booted.node.exports().leave_watch(CpuIndex(1));
    assert_eq!(bridge.woken(), [CpuIndex(0)]);
    assert!(bridge.booted.node.exports().keeps_watch(CpuIndex(2)));
    bridge.booted.node.exports().leave_watch(CpuIndex(1));
    assert_eq!(bridge.woken(), [], "another one keeps it");
    // Many requests: each CPU is to serve its own.
    for _ in 0..3 {
        bridge.submit(0, 0, 0x20000, 512);
    }
    assert!(bridge.booted.node.exports().poll(CpuIndex(2)));
    assert_eq!(bridge.woken(), [CpuIndex(0)]);
    assert!(!bridge.booted.node.exports().keeps_watch(CpuIndex(2)));
}

#[test]
fn without_a_lease_nobody_keeps_watch_for_long() {
    let mut bridge = calm();
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(0)));
    *bridge.clock.now_ns.lock().expect("no panic") = 5_000_000_001;
    assert_eq!(bridge.request(0, 0, 0x20000, 512, 1), None);
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(1)));
    assert!(bridge.woken().is_empty());
    bridge.ping();
    assert_eq!(bridge.woken(), [CpuIndex(0)]);
    assert!(bridge.booted.node.exports().poll(CpuIndex(0)));
}

#[test]
fn writing_out_trim_entries_attends_to_the_bridge() {
    let mut bridge = Bridge::with_dimms(2, 512);
    for command in ["create-namespace -r region1 -f -l 512 --zero-entries", "trim pmem1s 0 20480"] {
        bridge.booted.done(command);
    }
    let looks = |bridge: &mut Bridge, command: &str| {
        let before = bridge.wire.1.load(Ordering::Relaxed);
        bridge.booted.done(command);
        bridge.wire.1.load(Ordering::Relaxed) - before
    };
    let to_check = looks(&mut bridge, "check-namespace namespace1.0");
    let all = looks(&mut bridge, "check-namespace namespace1.0 --portable");
    assert!(all >= to_check + 40, "{all} looks, {to_check} of them while it was checked");
}

#[test]
fn without_a_lease_a_consumers_memory_is_left_alone() {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    bridge.start(0);
    assert_eq!(bridge.request(1, 0, 0x20000, 512, 0), Some(0));
    *bridge.clock.now_ns.lock().expect("no panic") = 5_000_000_001;
    assert_eq!(bridge.request(1, 0, 0x20000, 512, 0), None);
    assert!(bridge.booted.node.exports().may_rest(CpuIndex(0)));
    bridge.ping();
    assert!(!bridge.booted.node.exports().may_rest(CpuIndex(0)), "what waits is seen before a rest");
    assert!(bridge.booted.node.exports().poll(CpuIndex(0)));
    assert!(bridge.driver.collect(&bridge.consumer.window).is_some(), "a new lease serves what waited");
}

#[test]
fn a_lease_that_runs_out_during_a_round_ends_it_before_the_next_queue() {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    // Two queues of CPU 0 in the same rings: both would serve the request, and ring.
    bridge.start(0);
    bridge.start(4);
    bridge.submit(0, 0, 0x20000, 512);
    let rung = |bridge: &Bridge| bridge.consumer.rung.lock().expect("no panic").len();
    let before = rung(&bridge);
    bridge.consumer.ring_ns.store(6_000_000_000, Ordering::Relaxed);
    bridge.booted.node.exports().poll(CpuIndex(0));
    assert_eq!((bridge.answer(), rung(&bridge)), (Some(0), before + 1));
    bridge.ping();
    bridge.booted.node.exports().poll(CpuIndex(0));
    assert_eq!(rung(&bridge), before + 2, "the other one goes on with the next lease");
}

#[test]
fn a_lease_that_runs_out_while_a_request_is_carried_out_keeps_its_answer_for_the_next() {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    bridge.start(0);
    bridge.consumer.window.write(MemoryOffset(0x20000), &[7; 512]).expect("in memory");
    bridge.submit(1, 0, 0x20000, 512);
    // The lease of 5 s is there for the round and for the request, and has run out when that is durable.
    bridge.clock.look_ns.store(1_500_000_000, Ordering::Relaxed);
    bridge.booted.node.exports().poll(CpuIndex(0));
    bridge.clock.look_ns.store(0, Ordering::Relaxed);
    assert_eq!(bridge.answer(), None);
    assert!(bridge.booted.done("read pmem0s 0")["data"].as_str().expect("text").starts_with("BwcH"), "it is done");
    bridge.ping();
    bridge.booted.node.exports().poll(CpuIndex(0));
    assert_eq!(bridge.answer(), Some(0));
}

#[test]
fn stopping_and_starting_goes_on_where_it_was_and_what_is_impossible_is_refused() {
    let mut bridge = Bridge::new(512);
    let stop = || Request::Stop { export: ExportIndex(0), queue: QueueIndex(2) };
    bridge.ask(stop(), Outcome::NoSuchExport);
    bridge.attach();
    bridge.ask(stop(), Outcome::NotStarted);
    bridge.start(2);
    bridge.start(2); // sent again: nothing changes
    assert_eq!(bridge.request(1, 0, 0x20000, 512, 2), Some(0));
    assert_eq!(bridge.say(stop()), [Report::Stopped { base: 1 }]);
    assert_eq!(bridge.say(stop()), [Report::Stopped { base: 1 }], "the same answer again");
    assert_eq!(bridge.request(1, 1, 0x20000, 512, 2), None, "nobody serves a stopped queue");
    bridge.start(2);
    bridge.booted.node.exports().poll(CpuIndex(2));
    assert!(bridge.driver.collect(&bridge.consumer.window).is_some(), "it is served when it starts again");
    // A new bridge knows nothing of all this.
    let reports = bridge.say(Request::Hello { session: 2 });
    assert!(matches!(&reports[..], [Report::Hello { disks: 1, .. }, Report::Disk(_)]), "{reports:?}");
    bridge.ask(stop(), Outcome::NoSuchExport);
    let regions = vec![MemoryRegion { gpa: 0, bytes: MIB as u64 + 1, offset: 0 }];
    let attach = |memory, disk, regions: &Vec<MemoryRegion>| {
        let (memory, disk) = (MemoryId(memory), DiskIndex(disk));
        Request::Attach(Attach { export: ExportIndex(0), memory, features: 1 << 32, disk, regions: regions.clone() })
    };
    bridge.ask(attach(4, 0, &regions), Outcome::NoSuchMemory);
    bridge.ask(attach(3, 1, &regions), Outcome::NoSuchDisk);
    bridge.ask(attach(3, 0, &regions), Outcome::BadTable);
}

#[test]
fn an_appliance_without_a_lease_says_hello_once_a_second_and_serves_only_pings_for_its_own_run() {
    let mut bridge = Bridge::new(512);
    let unasked = |bridge: &mut Bridge, at_ms: u64| {
        *bridge.clock.now_ns.lock().expect("no panic") = at_ms * 1_000_000;
        for _ in 0..10 {
            bridge.booted.node.exports().poll_control();
        }
        bridge.hear_all()
    };
    let hello = [(0, Report::Hello { boot: bridge.boot, disks: 0 })];
    // With a lease, none; without one, one a second.
    assert_eq!(unasked(&mut bridge, 4999), []);
    assert_eq!(unasked(&mut bridge, 5001), hello);
    assert_eq!(unasked(&mut bridge, 6000), []);
    assert_eq!(unasked(&mut bridge, 6001), hello);
    // A Ping that was for the run before this one is no lease.
    bridge
        .wire
        .0
        .lock()
        .expect("no panic")
        .to_node
        .extend(Request::Ping { lease_ms: 5000, boot: bridge.boot.wrapping_add(1) }.encode(7));
    assert_eq!(bridge.hear_all(), hello);
    assert_eq!(unasked(&mut bridge, 7001), hello);
    bridge.ping();
    assert_eq!(unasked(&mut bridge, 9000), []);
}

#[test]
fn a_line_that_echoes_comes_to_rest() {
    let mut bridge = Bridge::new(512);
    *bridge.clock.now_ns.lock().expect("no panic") = 6_000_000_000;
    bridge.booted.node.exports().poll_control();
    for _ in 0..3 {
        let said = std::mem::take(&mut bridge.wire.0.lock().expect("no panic").from_node);
        bridge.wire.0.lock().expect("no panic").to_node.extend(said);
        while bridge.booted.node.exports().poll_control() {}
    }
    assert_eq!(bridge.hear_all(), []);
}

/// A consumer with a disk of its own, beside a bridge's.
fn with_neighbour(cpus: u32) -> (Bridge, Arc<FakeConsumer>) {
    let id = MemoryId(5);
    let dimm = Dimm { base: BASE, memory: Memory::new(32 * MIB), flags: 0, labels: None };
    let mut neighbour = None;
    let mut bridge = Bridge::on(512, |mut services, clock| {
        let consumer = Arc::new(FakeConsumer::numbered(id, Memory::new(MIB), clock, cpus));
        services.consumers.push(Arc::clone(&consumer) as _);
        neighbour = Some(consumer);
        boot_with(&[dimm], services)
    });
    let neighbour = neighbour.expect("it was made");
    bridge.attach();
    bridge.attach_as(ExportIndex(1), id);
    (bridge, neighbour)
}

#[test]
fn a_consumer_has_its_turn_whatever_another_one_on_its_cpu_asks_for() {
    let (mut bridge, neighbour) = with_neighbour(4);
    // Four queues of CPU 0, in the same rings: each of them serves the large request.
    for queue in [0, 4, 8, 12] {
        bridge.start(queue);
    }
    bridge.ask(Bridge::start_of(ExportIndex(1), 0, RINGS), Outcome::Ok);
    let large = 512 << 10;
    bridge.submit(0, 0, 0x40000, large);
    let mut driver = Driver::new(RINGS, 0);
    let served =
        |bridge: &mut Bridge| bridge.booted.done("stats")["devices"][0]["sectors_read"].as_u64().expect("a number");
    for round in 1..=16 {
        submit(&neighbour, &mut driver, 0, 0, 0x20000, 512);
        bridge.booted.node.exports().poll(CpuIndex(0));
        assert_eq!(answer(&neighbour, &mut driver), Some(0), "round {round}");
        assert_eq!(served(&mut bridge), round * (1 + STEP_BYTES / 512), "a step of the other one's each");
    }
    assert_eq!(bridge.answer(), Some(0), "sixteen steps are four times the request");
}

/// A driver of the bridge's consumer and one of its neighbour, each with a request at a time for CPU 1.
struct Pair {
    bridge: Bridge,
    neighbour: Arc<FakeConsumer>,
    driver: Driver,
}

impl Pair {
    /// Requests take half a millisecond.
    fn new() -> Self {
        let (mut bridge, neighbour) = with_neighbour(4);
        bridge.start(1);
        for consumer in [&bridge.consumer, &neighbour] {
            consumer.ring_ns.store(500_000, Ordering::Relaxed);
        }
        Self { bridge, neighbour, driver: Driver::new(RINGS, 0) }
    }

    fn start_neighbour(&mut self) {
        self.bridge.ask(Bridge::start_of(ExportIndex(1), 1, RINGS), Outcome::Ok);
    }

    /// CPU 1 serves so many requests of each driver, one after the other.
    fn load(&mut self, requests: u64, with_neighbour: bool) {
        for _ in 0..requests {
            self.bridge.submit(0, 0, 0x20000, 512);
            if with_neighbour {
                submit(&self.neighbour, &mut self.driver, 0, 0, 0x20000, 512);
                // A round may have no time for both.
                self.bridge.booted.node.exports().poll(CpuIndex(1));
            }
            self.bridge.booted.node.exports().poll(CpuIndex(1));
            assert_eq!(self.bridge.answer(), Some(0));
            assert_eq!(self.neighbour_answers(), with_neighbour.then_some(0));
        }
        self.bridge.hear();
    }

    fn neighbour_answers(&mut self) -> Option<u8> {
        answer(&self.neighbour, &mut self.driver)
    }

    /// The CPUs that have the queues, of both exports in turn.
    fn cpus(&mut self) -> Vec<u64> {
        let stats = self.bridge.booted.done("stats");
        let queues = stats["queues"].as_array().expect("an array");
        let mut of_export: Vec<_> = queues.iter().map(|it| (it["export"].as_u64(), it["cpu"].as_u64())).collect();
        of_export.sort_unstable();
        of_export.into_iter().map(|(_, cpu)| cpu.expect("a number")).collect()
    }
}

#[test]
fn a_busy_cpu_gives_queues_to_an_idle_one_where_they_go_on() {
    let mut pair = Pair::new();
    pair.start_neighbour();
    assert_eq!(pair.cpus(), [1, 1]);
    pair.load(99, true);
    assert_eq!(pair.cpus(), [1, 1], "it is too early to tell");
    pair.bridge.woken();
    pair.load(1, true);
    let cpus = pair.cpus();
    assert!([[2, 1], [1, 2]].contains(&[cpus[0], cpus[1]]), "{cpus:?}");
    assert!(pair.bridge.woken().contains(&CpuIndex(2)), "a kick may have woken the other one");
    let trace = pair.bridge.booted.done("trace").to_string();
    assert!(trace.contains("comes from another CPU"), "{trace}");
    // Each is served by its own CPU, and by that one alone.
    pair.bridge.submit(0, 0, 0x20000, 512);
    submit(&pair.neighbour, &mut pair.driver, 0, 0, 0x20000, 512);
    for cpu in [2, 1] {
        pair.bridge.booted.node.exports().poll(CpuIndex(cpu));
        let served = [pair.bridge.answer(), pair.neighbour_answers()];
        let own = cpus.iter().position(|it| *it == u64::from(cpu)).expect("one of them");
        assert_eq!((served[own], served[1 - own]), (Some(0), None), "CPU {cpu}");
    }
    // What is asked for finds it there, and its kicks wake that CPU.
    let moved = cpus.iter().position(|cpu| *cpu == 2).expect("one of them");
    let (export, consumer) = ([ExportIndex(0), ExportIndex(1)][moved], [&pair.bridge.consumer, &pair.neighbour][moved]);
    assert_eq!(*consumer.woken_by.lock().expect("no panic"), [(1, CpuIndex(2))].into());
    let stop = Request::Stop { export, queue: QueueIndex(1) };
    assert_eq!(pair.bridge.say(stop), [Report::Stopped { base: 101 }]);
}

#[test]
fn a_queue_that_keeps_a_cpu_busy_alone_stays_and_a_new_one_begins_elsewhere() {
    let mut pair = Pair::new();
    pair.load(600, false);
    assert_eq!(pair.cpus(), [1], "nobody would gain");
    pair.start_neighbour();
    assert_eq!(pair.cpus(), [1, 2]);
    // Another queue by the same vector is served where the vector wakes a CPU.
    let Request::Start(start) = Bridge::start_of(ExportIndex(1), 2, RINGS) else { panic!("a Start") };
    pair.bridge.ask(Request::Start(Start { kick_vector: 1, ..start }), Outcome::Ok);
    assert_eq!(pair.cpus(), [1, 2, 2]);
}

/// A service that keeps its CPU for so long at each frame.
#[derive(Debug)]
struct Slow {
    clock: Arc<StillClock>,
    ns: u64,
}

impl Service for Slow {
    fn serve(&mut self, _: &mut Tcp<'_>, _: u64) -> u64 {
        *self.clock.now_ns.lock().expect("no panic") += self.ns;
        u64::MAX
    }
}

#[test]
fn a_queue_leaves_a_cpu_that_its_network_keeps_busy() {
    let nic = FakeNic::new(Mac([0x52, 0x54, 0, 0x75, 0x6e, 0]));
    let memory = Memory::new(32 * MIB);
    let mut bridge = Bridge::on(512, |services, clock| {
        let dimm = Dimm { base: BASE, memory, flags: 0, labels: None };
        let network = vec![NetworkDevice { nic: Box::new(nic.clone()), cpu: CpuIndex(1) }];
        let command_line = "net0=10.0.2.15/24".into();
        let booted = Hardware { network, command_line, ..Hardware::with_dimms(&[dimm], services) }.boot();
        booted.node.networks().serve_by(0, Box::new(Slow { clock: Arc::clone(clock), ns: 1_500_000 }));
        booted
    });
    bridge.attach();
    bridge.start(1);
    bridge.consumer.ring_ns.store(500_000, Ordering::Relaxed);
    let cpu = |bridge: &mut Bridge| bridge.booted.done("stats")["queues"][0]["cpu"].as_u64();
    // CPU 1 serves a request in half a millisecond, and a frame in three times that.
    let load = |bridge: &mut Bridge, with_network: bool| {
        for _ in 0..if with_network { 50 } else { 200 } {
            bridge.submit(0, 0, 0x20000, 512);
            bridge.booted.node.exports().poll(CpuIndex(1));
            assert_eq!(bridge.answer(), Some(0));
            if with_network {
                nic.ends().to_nic.push_back(vec![0; 60]);
                assert!(bridge.booted.node.exports().poll_networks(CpuIndex(1)));
            }
        }
        bridge.hear();
    };
    (0..3).for_each(|_| load(&mut bridge, false));
    assert_eq!(cpu(&mut bridge), Some(1), "nobody would gain");
    (0..2).for_each(|_| load(&mut bridge, true));
    assert_eq!(cpu(&mut bridge), Some(2));
}

/// Does something while CPU 1 is in a step of queue 1 of a new bridge, and then lets the step end.
fn within_a_step(does: impl FnOnce(&mut Bridge)) -> Bridge {
    let mut bridge = Bridge::new(512);
    bridge.attach();
    bridge.start(1);
    bridge.submit(0, 0, 0x20000, 512);
    let exports = Arc::clone(bridge.booted.node.exports());
    let consumer = Arc::clone(&bridge.consumer);
    let held = consumer.held.lock().expect("no panic");
    std::thread::scope(|scope| {
        let cpu = scope.spawn(|| exports.poll(CpuIndex(1)));
        // It has served the request, and interrupts the driver now.
        while bridge.answer().is_none() {
            std::thread::yield_now();
        }
        does(&mut bridge);
        drop(held);
        assert!(cpu.join().expect("no panic"));
    });
    exports.poll_control();
    bridge
}

/// The bridge says this, and the appliance has much time for it.
fn say_within_a_step(bridge: &Bridge, request: &Request, sequence: u16) {
    bridge.wire.say(&request.encode(sequence));
    for _ in 0..100 {
        bridge.booted.node.exports().poll_control();
    }
}

#[test]
fn a_cpu_in_a_step_keeps_only_the_request_waiting_that_needs_it() {
    let bridge = within_a_step(|bridge| {
        let stop = Request::Stop { export: ExportIndex(0), queue: QueueIndex(1) };
        say_within_a_step(bridge, &stop, 7);
        bridge.wire.say(&Request::Ping { lease_ms: 5000, boot: bridge.boot }.encode(8));
        say_within_a_step(bridge, &stop, 7); // again, as nothing was heard
        assert_eq!(replies(bridge), [(8, Report::Done(Outcome::Ok))], "it is not stopped yet");
    });
    assert_eq!(replies(&bridge), [(7, Report::Stopped { base: 1 })]);
}

#[test]
fn a_new_bridge_is_answered_when_no_cpu_has_a_queue_of_the_old_one() {
    for detached in [false, true] {
        let bridge = within_a_step(|bridge| {
            if detached {
                say_within_a_step(bridge, &Request::Detach { export: ExportIndex(0) }, 7);
            }
            say_within_a_step(bridge, &Request::Hello { session: 2 }, 8);
            assert_eq!(replies(bridge), [], "a step of its queue is under way");
        });
        let replies = replies(&bridge);
        assert!(matches!(replies[..], [(8, Report::Hello { .. }), ..]), "{replies:?}");
    }
}

/// What the node has sent, with the numbers of the requests.
fn replies(bridge: &Bridge) -> Vec<(u16, Report)> {
    let mut deframer = Deframer::new();
    let payloads: Vec<_> = bridge.wire.heard().into_iter().filter_map(|byte| deframer.push(byte)).collect();
    payloads.into_iter().map(|payload| Report::decode(&payload.expect("a sound frame")).expect("a report")).collect()
}
