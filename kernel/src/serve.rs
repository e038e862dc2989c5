//! Serving: the node on this machine, and the polling loop of its admin console.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use drivers::ivshmem::Ivshmem;
use drivers::label_mailbox::LabelMailbox;
use drivers::shared::SharedWindow;
use kernel::events::retained::Kept;
use kernel::events::{News, SharedJournal};
use kernel::node::coroutine::{Coroutine, CoroutineBody};
use kernel::node::export::{self, AttendedLink, Consumer, ExportServices, Exports, Waker};
use kernel::node::network::{NetworkDevice, Networks};
use kernel::node::{self, BareMemory, FlushedRange, Node};
use kernel::watchdog::Serving;
use nvdimm::error::Place;
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore, NoLabels};
use service::admin::job::JobAdmin as _;
use service::admin::{AnyAppliance, Mode};
use service::console::ahead::{Found, FramedRequest};
use service::console::{Activity, Session};
use service::control::MemoryId;
use service::events::{Ended, Kind, LastBoot, Severity};
use service::link::ByteLink;
use service::progress::Progress;
use spin::{Mutex, MutexGuard, Once};

use crate::admin_port::{self, AdminPort};
use crate::clock::{self, Clock};
use crate::cpu::coroutine::{self, OnStack};
use crate::cpu::{self, BackgroundWork, Cpus, Idle, watchdog};
use crate::devices::CxlLabels;
use crate::hardware::Hardware;
use crate::memory::AddressSpace;
use crate::random::Random;
use crate::{console, devices, log, power};

/// The longest time between two polls of the console and the bridge while this CPU serves or polls consumers' queues, or the
/// network.
const LOOK_NS: u64 = 500_000;

/// The time between two drains of the disks, which make the map entries of finished writes durable. Otherwise these
/// wait for their lane's next write, and until then only a flog record leads to the data: a medium that loses that line
/// loses an acknowledged write.
const SETTLE_NS: u64 = 10_000_000;

/// This machine, as the node sees it.
struct BareMachine {
    hardware: Hardware,
    random: Mutex<Random>,
    labels: Mutex<Labels>,
    /// When the console is to be looked at next while a command is carried out.
    look_at_ns: AtomicU64,
    /// The node's, once it is there.
    exports: Once<Arc<Exports>>,
    /// The boot before.
    last_boot: Option<LastBoot>,
}

/// Where labels are: the DIMMs' behind QEMU's mailbox, and a CXL device's behind its own.
struct Labels {
    dimms: Option<LabelMailbox>,
    cxl: Option<CxlLabels>,
    none: NoLabels,
}

impl Labels {
    /// Returns what reaches this DIMM's labels.
    fn of(&mut self, dimm: DeviceHandle) -> &mut dyn LabelStore {
        match (&mut self.cxl, &mut self.dimms) {
            (Some(cxl), _) if cxl.is_of(dimm) => cxl,
            (_, Some(dimms)) => dimms,
            (_, None) => &mut self.none,
        }
    }
}

/// All labels, locked.
struct LockedLabels<'m>(MutexGuard<'m, Labels>);

impl LabelSource for LockedLabels<'_> {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        self.0.of(dimm).area_bytes(dimm)
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        self.0.of(dimm).read(dimm, offset, into)
    }
}

impl LabelStore for LockedLabels<'_> {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        self.0.of(dimm).write(dimm, offset, from)
    }
}

/// Sets QEMU's label mailbox up, if there is one.
fn mailbox(hardware: &Hardware) -> Option<LabelMailbox> {
    if !hardware.firmware.qemu_label_mailbox {
        return None;
    }
    let Some((page, at)) = hardware.space.new_page() else {
        log!("labels: no memory for the mailbox: label areas are not read");
        return None;
    };
    // SAFETY: 1. the page was allocated for the mailbox alone, and is never freed. 2. QEMU's NVDIMM table is there.
    let mailbox = unsafe { LabelMailbox::new(page, at) };
    mailbox
        .inspect_err(|why| log!("labels: the mailbox's page lies too high ({}): label areas are not read", why.0))
        .ok()
}

impl node::Machine for BareMachine {
    type Map = AddressSpace;

    fn map(&self) -> &AddressSpace {
        self.hardware.space
    }

    fn cpus(&self) -> u32 {
        u32::try_from(self.hardware.cpus.count()).expect("at most MAX_CPUS")
    }

    fn this_cpu() -> btt::CpuIndex {
        index(cpu::current())
    }

    fn run_on_all(&self, work: &(dyn Fn(btt::CpuIndex) + Sync)) {
        self.hardware.cpus.run_on_all(&|cpu| work(index(cpu)));
    }

    fn now_ns(&self) -> u64 {
        self.hardware.clock.now_ns()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.lock().fill(&mut bytes);
        bytes
    }

    fn memory_bytes(&self) -> u64 {
        self.hardware.memory.ram_bytes
    }

    fn heap_bytes(&self) -> u64 {
        self.hardware.memory.heap_bytes
    }

    fn tables(&self) -> Vec<String> {
        let sound = self.hardware.firmware.listed.iter().filter(|table| table.fault.is_none());
        sound.map(|table| table.signature.to_string()).collect()
    }

    fn nfits(&self) -> &[Vec<u8>] {
        &self.hardware.firmware.nfits
    }

    fn bare_memory(&self) -> Vec<BareMemory> {
        let of_map = self.hardware.map.persistent.iter().map(|range| BareMemory {
            at: Place::MemoryMap { start: range.start, kind: range.kind },
            memory: Ok(FlushedRange { base: range.start, bytes: range.bytes, flush: None, device: None }),
        });
        self.hardware.devices.pmem.iter().cloned().chain(of_map).collect()
    }

    fn in_use(&self) -> Vec<Range<u64>> {
        self.hardware.map.in_use.clone()
    }

    fn labels(&self) -> Box<dyn LabelStore + '_> {
        let mut labels = self.labels.lock();
        labels.cxl.iter_mut().for_each(CxlLabels::begin);
        Box::new(LockedLabels(labels))
    }

    fn export_services(&self) -> ExportServices {
        let cpus = self.hardware.cpus;
        let consumers = self.hardware.devices.consumers.iter().zip(0..).map(|(device, number)| {
            Arc::new(IvshmemConsumer { device: device.clone(), number, cpus }) as Arc<dyn Consumer>
        });
        ExportServices {
            clock: Arc::new(self.hardware.clock),
            waker: Arc::new(cpus),
            consumers: consumers.collect(),
            link: devices::control_link().map(|link| Box::new(link) as Box<dyn ByteLink + Send>),
        }
    }

    fn attend(&self, node: &AnyAppliance) -> bool {
        let now = self.hardware.clock.now_ns();
        // Reading a UART register exits to the hypervisor.
        if now < self.look_at_ns.load(Ordering::Relaxed) {
            return false;
        }
        let Some(exports) = self.exports.get() else { return false };
        let exports = || Arc::clone(exports);
        let mut console = AttendedLink { link: self.hardware.console, exports: exports(), cpu: Self::this_cpu() };
        let mut port = AttendedLink { link: AdminPort, exports: exports(), cpu: Self::this_cpu() };
        let ends = attend_to(node, &mut console, console::look_ahead, console::put_back);
        admin_port::hear();
        if admin_port::has_gone() {
            node.forget(port.number());
        }
        let ends = ends | attend_to(node, &mut port, admin_port::look_ahead, admin_port::put_back);
        admin_port::flush();
        // The command goes on for as long as others took.
        let done = self.hardware.clock.now_ns();
        self.look_at_ns.store(done + LOOK_NS.max(done.saturating_sub(now)), Ordering::Relaxed);
        ends
    }

    fn progress(&self, progress: &Progress<'_>) {
        let now_ns = self.hardware.clock.now_ns();
        console::progress(now_ns, progress);
        admin_port::progress(now_ns, progress);
    }

    fn has_stack(&self) -> bool {
        coroutine::has_stack()
    }

    fn coroutine(&self, body: CoroutineBody) -> Box<dyn Coroutine> {
        Box::new(OnStack::new(body))
    }

    fn network_devices(&self) -> Vec<NetworkDevice> {
        core::mem::take(&mut self.hardware.devices.network.lock())
    }

    fn command_line(&self) -> String {
        boot::handoff::command_line().text().to_string()
    }

    fn journal(&self) -> SharedJournal {
        Arc::new(log::StaticJournal)
    }

    fn tell(&self, news: &News<'_>) {
        log::tell(news);
    }

    fn set_watchdog(&self, seconds: Option<u32>) {
        self.hardware.cpus.set_watchdog(seconds);
    }

    fn last_boot(&self) -> Option<LastBoot> {
        self.last_boot.clone()
    }
}

/// Replies to the jobs of a link that have ended.
fn reply_to_jobs(node: &AnyAppliance, link: &mut impl ByteLink) {
    // No line may come among the bytes of a reply.
    let was_quiet = log::set_quiet(true);
    service::console::reply_to_jobs(link, node);
    log::set_quiet(was_quiet);
}

/// Carries out a request on `link` that goes beside the command under way. Returns whether that command is to end.
fn attend_to(
    node: &AnyAppliance,
    link: &mut impl ByteLink,
    look_ahead: impl Fn() -> Option<Found>,
    put_back: impl Fn(FramedRequest),
) -> bool {
    reply_to_jobs(node, link);
    // Bounded: what is put back fills the buffer.
    loop {
        match look_ahead() {
            None => return false,
            Some(Found::End) => return true,
            Some(Found::EndJob(number)) => node.end(link.number(), &number),
            Some(Found::TakenBack(request)) => service::console::reply_to_taken_back(&request, link),
            Some(Found::Request(request)) => {
                // No line may come among the bytes of the reply.
                let was_quiet = log::set_quiet(true);
                let replied = service::console::beside(request, link, node);
                log::set_quiet(was_quiet);
                match replied {
                    // One at a time: then the command goes on.
                    Ok(()) => return false,
                    Err(request) => put_back(request),
                }
            }
        }
    }
}

/// A consumer behind an ivshmem device, which shows its memory.
struct IvshmemConsumer {
    device: Ivshmem,
    number: usize,
    cpus: Cpus,
}

impl Consumer for IvshmemConsumer {
    fn id(&self) -> MemoryId {
        MemoryId(self.device.id())
    }

    fn memory(&self) -> &SharedWindow {
        self.device.memory()
    }

    fn ring(&self, doorbell: u32) {
        self.device.ring(doorbell);
    }

    fn cpu(&self, vector: u16) -> btt::CpuIndex {
        index(devices::cpu_of(&self.cpus, self.number, vector))
    }

    fn wakes(&self, vector: u16, cpu: btt::CpuIndex) -> bool {
        let message = self.cpus.wake_message(cpu::CpuIndex(cpu.0 as usize)).filter(|_| vector < self.device.vectors());
        let Some(message) = message else { return false };
        // SAFETY: the message is an interrupt to a CPU of ours, whose handler only returns.
        unsafe { self.device.wake(vector, message) };
        true
    }
}

impl export::Clock for Clock {
    fn now_ns(&self) -> u64 {
        self.now_ns()
    }
}

impl Waker for Cpus {
    fn wake(&self, cpu: btt::CpuIndex) {
        self.wake(cpu::CpuIndex(cpu.0 as usize));
    }

    fn turn(&self) {
        watchdog::turn();
    }

    fn serves(&self, what: Serving) {
        watchdog::serves(what);
    }
}

/// The background work of each CPU: it serves its consumers' queues, and drives its network interfaces.
struct Serve {
    exports: Arc<Exports>,
    networks: Arc<Networks>,
}

impl BackgroundWork for Serve {
    fn poll(&self, cpu: cpu::CpuIndex) -> bool {
        let served = self.exports.poll(index(cpu));
        watchdog::serves(Serving::Network);
        served | self.exports.poll_networks(index(cpu))
    }

    fn keeps_watch(&self, cpu: cpu::CpuIndex) -> bool {
        self.exports.keeps_watch(index(cpu))
    }

    fn leave_watch(&self, cpu: cpu::CpuIndex) {
        self.exports.leave_watch(index(cpu));
    }

    fn may_rest(&self, cpu: cpu::CpuIndex) -> bool {
        self.exports.may_rest(index(cpu))
            && self.networks.may_rest(index(cpu), clock::now_ns())
            && (cpu.0 > 0 || admin_port::rest())
    }

    fn due_ns(&self, cpu: cpu::CpuIndex) -> u64 {
        self.networks.due_ns(index(cpu))
    }
}

fn index(cpu: cpu::CpuIndex) -> btt::CpuIndex {
    btt::CpuIndex(u32::try_from(cpu.0).expect("at most MAX_CPUS"))
}

/// Serves the admin port after the console. Returns what is to be done after both.
fn with_port(
    on_console: Activity,
    session: &mut Session,
    port: &mut AttendedLink<AdminPort>,
    node: &mut Node<BareMachine>,
) -> Activity {
    if admin_port::look() {
        *session = Session::in_mode(Mode::Json);
    }
    if admin_port::has_gone() {
        node.forget(port.number());
    }
    reply_to_jobs(node, port);
    // What is told meanwhile is shown at the console's next turn, above what is typed there.
    let was_quiet = log::set_quiet(true);
    let on_port = session.poll(port, node);
    log::set_quiet(was_quiet);
    admin_port::flush();
    if on_port == Activity::Idle { on_console } else { on_port }
}

/// Assembles the node and serves its console, the bridge and this CPU's queues until the machine ends.
pub(crate) fn run(mut hardware: Hardware) -> ! {
    let (console, cpus, clock) = (hardware.console, hardware.cpus, hardware.clock);
    let dimms = mailbox(&hardware);
    let labels = Mutex::new(Labels { dimms, cxl: hardware.devices.cxl_labels.take(), none: NoLabels });
    let random = Mutex::new(hardware.random);
    let (look_at_ns, of_node) = (AtomicU64::new(0), Once::new());
    let Kept { last: last_boot, lines } = log::keep_over_reset();
    hardware.devices.admin_port.get_mut().take().into_iter().for_each(admin_port::init);
    let machine = BareMachine { hardware, random, labels, look_at_ns, exports: of_node, last_boot };
    let mut node = Node::assemble(machine);
    node.look_around();
    let what = format_args!("ready in {} ms", clock.now_ns() / 1_000_000);
    log::tell(&News { severity: Severity::Info, kind: Kind::Boot, place: &"", what });

    let (exports, networks) = (Arc::clone(node.exports()), Arc::clone(node.networks()));
    node.machine().exports.call_once(|| Arc::clone(&exports));
    let serve: &'static Serve = Box::leak(Box::new(Serve { exports: Arc::clone(&exports), networks }));
    cpus.set_background(serve);
    let this_cpu = index(cpu::current());

    let mut idle = Idle::new(cpus);
    let mut console = AttendedLink { link: console, exports: Arc::clone(&exports), cpu: this_cpu };
    let mut console_mode = node.console_mode();
    let mut session = Session::in_mode(console_mode);
    session.remember(lines);
    log::set_quiet(session.is_quiet());
    session.start(&mut console);
    let mut port = AttendedLink { link: AdminPort, exports: Arc::clone(&exports), cpu: this_cpu };
    let mut of_port = Session::in_mode(Mode::Json);
    let mut looked_at = clock.now_ns();
    let mut settled_at = looked_at;
    loop {
        watchdog::turn();
        // Queues first: reading a UART register exits to the hypervisor. The UARTs are read at least every LOOK_NS.
        let has_jobs = node.step_jobs();
        let served = serve.poll(cpu::current()) | has_jobs;
        if served {
            idle.worked();
        }
        if (served || idle.is_patient()) && clock.now_ns() - looked_at < LOOK_NS {
            continue;
        }
        looked_at = clock.now_ns();
        watchdog::serves(Serving::Console);
        node.make_pages();
        if looked_at - settled_at >= SETTLE_NS {
            settled_at = looked_at;
            node.settle();
        }
        node.look_around();
        log::unshown(|place, what| session.log(place, what, &mut console));
        reply_to_jobs(&node, &mut console);
        let activity = session.poll(&mut console, &mut node);
        if let Some(lines) = session.new_lines() {
            log::JOURNAL.keep_lines(&lines);
        }
        log::set_quiet(session.is_quiet());
        if session.mode() != Mode::Console {
            log::skip();
        }
        let activity = match activity {
            Activity::Idle | Activity::Busy => with_port(activity, &mut of_port, &mut port, &mut node),
            ends => ends,
        };
        if activity == Activity::Busy {
            node.offer_new(); // a command may have made a disk
            let configured = node.console_mode();
            if configured != console_mode {
                // A program that chose a mode of its own keeps it.
                if session.mode() == console_mode {
                    session.set_mode(configured, &mut console);
                }
                console_mode = configured;
                log::set_quiet(session.is_quiet());
            }
        }
        // Who has a job to go on with does not halt.
        let served = exports.poll_control() | serve.poll(cpu::current()) | has_jobs;
        match activity {
            Activity::Idle if served => idle.worked(),
            Activity::Idle => idle.rest(),
            Activity::Busy => idle.worked(),
            Activity::Poweroff => {
                log::JOURNAL.ends(Ended::Poweroff);
                reply_to_jobs(&node, &mut console);
                reply_to_jobs(&node, &mut port);
                admin_port::drain();
                power::off()
            }
            Activity::Reboot => {
                log::JOURNAL.ends(Ended::Reboot);
                reply_to_jobs(&node, &mut console);
                reply_to_jobs(&node, &mut port);
                admin_port::drain();
                power::reboot()
            }
        }
    }
}
