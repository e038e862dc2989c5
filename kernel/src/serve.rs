//! Serving: the node on this machine, and the polling loop of its admin console.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use drivers::label_mailbox::LabelMailbox;
use kernel::node::{self, Node};
use nvdimm::label::{LabelSource, NoLabels};
use service::admin::command::Mode;
use service::console::{Activity, Session};
use spin::Mutex;

use crate::cpu::{self, Idle};
use crate::machine::Machine;
use crate::memory::AddressSpace;
use crate::random::Random;
use crate::{log, power};

/// This machine, as the node sees it.
struct Host {
    machine: Machine,
    random: Mutex<Random>,
}

impl node::Machine for Host {
    type Map = AddressSpace;

    fn map(&self) -> &AddressSpace {
        self.machine.space
    }

    fn cpus(&self) -> u32 {
        u32::try_from(self.machine.cpus.count()).unwrap_or(u32::MAX)
    }

    fn this_cpu(&self) -> btt::CpuIndex {
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

    fn tables(&self) -> Vec<String> {
        let sound = self.machine.firmware.listed.iter().filter(|table| table.fault.is_none());
        sound.map(|table| table.signature.to_string()).collect()
    }

    fn nfits(&self) -> &[Vec<u8>] {
        &self.machine.firmware.nfits
    }

    fn labels(&self) -> Box<dyn LabelSource + '_> {
        if !self.machine.firmware.qemu_label_mailbox {
            return Box::new(NoLabels);
        }
        let Some((page, at)) = self.machine.space.new_page() else {
            log!("labels: no memory for the mailbox: label areas are not read");
            return Box::new(NoLabels);
        };
        // SAFETY: 1. the page was handed out to nobody else, and is never taken back. 2. QEMU's NVDIMM table is there.
        match unsafe { LabelMailbox::new(page, at) } {
            Ok(mailbox) => Box::new(mailbox),
            Err(why) => {
                log!("labels: the mailbox's page lies too high ({}): label areas are not read", why.0);
                Box::new(NoLabels)
            }
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        log::line(line);
    }
}

fn index(cpu: cpu::CpuIndex) -> btt::CpuIndex {
    btt::CpuIndex(u32::try_from(cpu.0).unwrap_or(0)) // at most a few hundred
}

/// Assembles the node and serves its console for ever.
pub(crate) fn run(machine: Machine) -> ! {
    let (mut console, cpus, clock) = (machine.console, machine.cpus, machine.clock);
    let random = Mutex::new(machine.random);
    let mut node = Node::assemble(Host { machine, random });
    log!("ready in {} ms", clock.now_ns() / 1_000_000);

    let mut idle = Idle::new(cpus);
    let mut session = Session::new();
    session.start(&mut console);
    loop {
        let activity = session.poll(&mut console, &mut node);
        // In the modes for programs, no line may come between the replies.
        log::set_quiet(session.mode() != Mode::Console);
        match activity {
            Activity::Idle => idle.rest(),
            Activity::Busy => idle.worked(),
            Activity::Poweroff => power::off(),
            Activity::Reboot => power::reboot(),
        }
    }
}
