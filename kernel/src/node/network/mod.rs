//! The network: interfaces, each driven by one CPU, and the admin command about them.
//!
//! | part | does | runs on |
//! |---|---|---|
//! | `admin` | the command `net` | CPU 0 |
//! | this | steps of the interfaces, which are bounded (`net::network`) | the CPU of each interface |
//!
//! An interface is behind a lock. Its CPU takes it for a step; CPU 0 for a moment, to show it and to take its events. It is
//! taken with no other lock held, and no other is taken under it.

mod admin;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use btt::CpuIndex;
use net::event::Event;
use net::network::{Network, Shown};
use net::nic::Nic;
use net::setting::Setting;
use net::tcp::Service;
use service::events::Severity;
use spin::{Mutex, MutexGuard};

use super::waker::Waker;

/// A network device that its driver has set up.
#[derive(Debug)]
pub struct NetworkDevice {
    /// The device.
    pub nic: Box<dyn Nic>,
    /// The CPU that its interrupts wake, and that drives it.
    pub cpu: CpuIndex,
}

struct Port {
    cpu: CpuIndex,
    network: Mutex<Network>,
}

/// All interfaces. Shared by all CPUs.
pub struct Networks {
    ports: Vec<Port>,
    waker: Arc<dyn Waker>,
}

impl Networks {
    /// Makes an interface of each device: `net0` of the first. They are off until [`Networks::configure`]. `seed` returns
    /// another number each time. A CPU that waits for another one tells `waker` so.
    pub(super) fn new(
        devices: Vec<NetworkDevice>,
        waker: &Arc<dyn Waker>,
        now_ns: u64,
        mut seed: impl FnMut() -> u64,
    ) -> Self {
        let port = |(number, NetworkDevice { nic, cpu }): (usize, NetworkDevice)| {
            let network = Network::new(format!("net{number}"), nic, Setting::Off, seed(), now_ns);
            Port { cpu, network: Mutex::new(network) }
        };
        let waker = Arc::clone(waker);
        Self { waker, ports: devices.into_iter().enumerate().map(port).collect() }
    }

    /// Waits for an interface's CPU to end its step, and is not stuck if that CPU is.
    fn lock<'a>(&'a self, port: &'a Port) -> MutexGuard<'a, Network> {
        loop {
            if let Some(network) = port.network.try_lock() {
                return network;
            }
            self.waker.turn();
        }
    }

    /// Gives an interface another setting. Returns false if there is none of that number.
    pub(super) fn configure(&self, number: usize, setting: Setting, now_ns: u64) -> bool {
        self.ports.get(number).map(|port| self.lock(port).set_setting(setting, now_ns)).is_some()
    }

    /// Returns the device of an interface that there is, for people: its address, and its MTU.
    pub(super) fn describe(&self, number: usize) -> String {
        let shown = self.lock(&self.ports[number]).show();
        format!("{}, mtu {}", shown.mac, shown.mtu)
    }

    /// Returns how many there are.
    pub(super) fn count(&self) -> usize {
        self.ports.len()
    }

    fn of(&self, cpu: CpuIndex) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(move |port| port.cpu == cpu)
    }

    /// Makes a step of each of this CPU's interfaces. Returns whether there was anything to do.
    pub fn poll(&self, cpu: CpuIndex, now_ns: u64) -> bool {
        self.of(cpu).fold(false, |worked, port| port.network.lock().step(now_ns) | worked)
    }

    /// Called before a CPU halts: from now on a frame wakes it. Returns false if there is something to do already.
    #[must_use]
    pub fn may_rest(&self, cpu: CpuIndex, now_ns: u64) -> bool {
        self.of(cpu).all(|port| port.network.lock().rest(now_ns))
    }

    /// Returns when the next step of this CPU's interfaces is due, however long it halts: `u64::MAX` for never.
    #[must_use]
    pub fn due_ns(&self, cpu: CpuIndex) -> u64 {
        self.of(cpu).map(|port| port.network.lock().due_ns()).min().unwrap_or(u64::MAX)
    }

    /// Has an interface's connections served by this from its next step on, by its CPU: half a second from now at the latest.
    /// Returns false if there is no such interface.
    pub fn serve_by(&self, number: usize, service: Box<dyn Service>) -> bool {
        self.ports.get(number).map(|port| port.network.lock().serve_by(service)).is_some()
    }

    /// Returns the CPU of each interface.
    pub(super) fn cpus(&self) -> impl ExactSizeIterator<Item = CpuIndex> {
        self.ports.iter().map(|port| port.cpu)
    }

    /// Waits until the steps are over that are under way.
    pub(super) fn wait_for_steps(&self) {
        self.ports.iter().for_each(|port| drop(self.lock(port)));
    }

    /// Returns the addresses of all interfaces by which other networks can reach them too, not those of a link alone.
    pub(super) fn addresses(&self) -> Vec<String> {
        let of = |shown: Shown| shown.addresses.into_iter().map(|own| own.address());
        let all = self.show().flat_map(of).map(IpAddr::from);
        let is_wide = |address: &IpAddr| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        all.filter(is_wide).map(|address| address.to_string()).collect()
    }

    /// Returns each interface as a person is shown it.
    pub(super) fn show(&self) -> impl Iterator<Item = Shown> {
        self.ports.iter().map(|port| self.lock(port).show())
    }

    /// Calls `tell` with what has happened, and to which. An interface that is in a step is left for the next call.
    pub(super) fn tell(&self, mut tell: impl FnMut(&str, &Event)) {
        for mut network in self.ports.iter().filter_map(|port| port.network.try_lock()) {
            let events = network.take_events();
            events.iter().for_each(|event| tell(network.name(), event));
        }
    }
}

/// Returns how bad it is that this has happened to an interface.
pub(super) const fn severity(event: &Event) -> Severity {
    match event {
        Event::LinkUp | Event::AddressCame { .. } | Event::AddressTaken { .. } => Severity::Info,
        Event::LinkDown | Event::AddressWent { .. } | Event::BadLease { .. } | Event::Duplicate { .. } => {
            Severity::Warning
        }
        Event::Failed(_) => Severity::Error,
    }
}

/// What is wrong with an interface, a sentence each.
pub(super) fn faults(shown: &Shown) -> Vec<String> {
    if let Some(why) = shown.fault {
        return Vec::from([format!("its device failed, and is not used until a reboot: {why}")]);
    }
    let mut faults = Vec::new();
    if !shown.link && shown.setting != Setting::Off {
        faults.push(format!("it has no link: plug it in, or set {}=off", shown.name));
    }
    faults.extend(
        shown.duplicates.iter().map(|(address, by)| format!("{address} is used by another machine, too ({by})")),
    );
    faults
}
