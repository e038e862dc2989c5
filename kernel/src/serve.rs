//! Serving: the node on this machine, and the polling loop of its admin console.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use drivers::ivshmem::Ivshmem;
use drivers::label_mailbox::LabelMailbox;
use drivers::shared::SharedWindow;
use kernel::node::export::{Alarm, Consumer, Exports, Means};
use kernel::node::{self, Node};
use nvdimm::identity::DeviceHandle;
use nvdimm::label::{LabelError, LabelSource, LabelStore, NoLabels};
use service::admin::commands::machine::MachineAdmin;
use service::console::{Activity, Session};
use service::control::MemoryId;
use service::link::ByteLink;
use spin::{Mutex, MutexGuard};

use crate::clock::Clock;
use crate::cpu::{self, Cpus, Duty, Idle};
use crate::machine::Machine;
use crate::memory::AddressSpace;
use crate::random::Random;
use crate::{devices, log, power};

/// The longest that the console and the bridge go unheard while this CPU is busy with consumers, or looks for what they ask.
const LOOK_NS: u64 = 500_000;

/// How often the map entries of finished writes are made durable, which otherwise wait for their lane's next write. Until
/// then their flog records are all that leads to the data: one line that the medium loses would take an acknowledged write
/// with it.
const SETTLE_NS: u64 = 10_000_000;

/// This machine, as the node sees it.
struct Host {
    machine: Machine,
    random: Mutex<Random>,
    labels: Option<Mutex<LabelMailbox>>,
}

/// The label mailbox, for as long as somebody needs it.
struct Labels<'m>(MutexGuard<'m, LabelMailbox>);

impl LabelSource for Labels<'_> {
    fn area_bytes(&mut self, dimm: DeviceHandle) -> Result<Option<u64>, LabelError> {
        self.0.area_bytes(dimm)
    }

    fn read(&mut self, dimm: DeviceHandle, offset: u64, into: &mut [u8]) -> Result<(), LabelError> {
        self.0.read(dimm, offset, into)
    }
}

impl LabelStore for Labels<'_> {
    fn write(&mut self, dimm: DeviceHandle, offset: u64, from: &[u8]) -> Result<(), LabelError> {
        self.0.write(dimm, offset, from)
    }
}

/// QEMU's label mailbox, if there is one.
fn mailbox(machine: &Machine) -> Option<LabelMailbox> {
    if !machine.firmware.qemu_label_mailbox {
        return None;
    }
    let Some((page, at)) = machine.space.new_page() else {
        log!("labels: no memory for the mailbox: label areas are not read");
        return None;
    };
    // SAFETY: 1. the page was handed out to nobody else, and is never taken back. 2. QEMU's NVDIMM table is there.
    let mailbox = unsafe { LabelMailbox::new(page, at) };
    mailbox
        .inspect_err(|why| log!("labels: the mailbox's page lies too high ({}): label areas are not read", why.0))
        .ok()
}

impl node::Machine for Host {
    type Map = AddressSpace;

    fn map(&self) -> &AddressSpace {
        self.machine.space
    }

    fn cpus(&self) -> u32 {
        u32::try_from(self.machine.cpus.count()).unwrap_or(u32::MAX)
    }

    fn this_cpu() -> btt::CpuIndex {
        index(cpu::current())
    }

    fn run_on_all(&self, work: &(dyn Fn(btt::CpuIndex) + Sync)) {
        self.machine.cpus.run_on_all(&|cpu| work(index(cpu)));
    }

    fn now_ns(&self) -> u64 {
        self.machine.clock.now_ns()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.lock().fill(&mut bytes);
        bytes
    }

    fn memory_bytes(&self) -> u64 {
        self.machine.memory.ram_bytes
    }

    fn heap_bytes(&self) -> u64 {
        self.machine.memory.heap_bytes
    }

    fn tables(&self) -> Vec<String> {
        let sound = self.machine.firmware.listed.iter().filter(|table| table.fault.is_none());
        sound.map(|table| table.signature.to_string()).collect()
    }

    fn nfits(&self) -> &[Vec<u8>] {
        &self.machine.firmware.nfits
    }

    fn labels(&self) -> Box<dyn LabelStore + '_> {
        match &self.labels {
            Some(mailbox) => Box::new(Labels(mailbox.lock())),
            None => Box::new(NoLabels),
        }
    }

    fn means(&self) -> Means {
        let cpus = self.machine.cpus;
        let consumers =
            self.machine.consumers.iter().zip(0..).map(|(device, number)| {
                Arc::new(Neighbour { device: device.clone(), number, cpus }) as Arc<dyn Consumer>
            });
        Means {
            alarm: Arc::new(Rouser { clock: self.machine.clock, cpus }),
            consumers: consumers.collect(),
            link: devices::control_link().map(|link| Box::new(link) as Box<dyn ByteLink + Send>),
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        log::line(line);
    }
}

/// A consumer, by the device that shows its memory.
struct Neighbour {
    device: Ivshmem,
    number: usize,
    cpus: Cpus,
}

impl Consumer for Neighbour {
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
}

/// Time, and waking CPUs.
struct Rouser {
    clock: Clock,
    cpus: Cpus,
}

impl Alarm for Rouser {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn wake(&self, cpu: btt::CpuIndex) {
        self.cpus.wake(cpu::CpuIndex(cpu.0 as usize));
    }
}

/// What each CPU does when there is nothing else: it serves its consumers' queues.
struct ServeQueues(Arc<Exports>);

impl Duty for ServeQueues {
    fn poll(&self, cpu: cpu::CpuIndex) -> bool {
        self.0.poll(index(cpu))
    }

    fn keeps_watch(&self, cpu: cpu::CpuIndex) -> bool {
        self.0.keeps_watch(index(cpu))
    }

    fn leave_watch(&self, cpu: cpu::CpuIndex) {
        self.0.leave_watch(index(cpu));
    }

    fn may_rest(&self, cpu: cpu::CpuIndex) -> bool {
        self.0.may_rest(index(cpu))
    }
}

fn index(cpu: cpu::CpuIndex) -> btt::CpuIndex {
    btt::CpuIndex(u32::try_from(cpu.0).unwrap_or(0)) // at most a few hundred
}

/// Assembles the node and serves its console, the bridge and this CPU's queues for ever.
pub(crate) fn run(machine: Machine) -> ! {
    let (mut console, cpus, clock) = (machine.console, machine.cpus, machine.clock);
    let labels = mailbox(&machine).map(Mutex::new);
    let random = Mutex::new(machine.random);
    let mut node = Node::assemble(Host { machine, random, labels });
    log!("ready in {} ms", clock.now_ns() / 1_000_000);

    let exports = Arc::clone(node.exports());
    cpus.set_duty(Box::leak(Box::new(ServeQueues(Arc::clone(&exports)))));
    let this_cpu = index(cpu::current());

    let mut idle = Idle::new(cpus);
    let mut session = Session::new();
    session.start(&mut console);
    let mut looked_at = clock.now_ns();
    let mut settled_at = looked_at;
    loop {
        // Queues first: to ask a UART is dear in a virtual machine. Nobody waits for an answer by it for long.
        let served = exports.poll(this_cpu);
        if served {
            idle.worked();
        }
        if (served || idle.is_patient()) && clock.now_ns() - looked_at < LOOK_NS {
            continue;
        }
        looked_at = clock.now_ns();
        if looked_at - settled_at >= SETTLE_NS {
            settled_at = looked_at;
            // What the medium refuses here it refuses the next write, too, which says so.
            let _ = node.quiesce();
        }
        let activity = session.poll(&mut console, &mut node);
        log::set_quiet(session.is_quiet());
        if activity == Activity::Busy {
            node.offer_new(); // a command may have made a disk
        }
        let served = exports.poll_control() | exports.poll(this_cpu);
        match activity {
            Activity::Idle if served => idle.worked(),
            Activity::Idle => idle.rest(),
            Activity::Busy => idle.worked(),
            Activity::Poweroff => power::off(),
            Activity::Reboot => power::reboot(),
        }
    }
}
