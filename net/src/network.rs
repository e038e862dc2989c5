//! An interface: a device, addresses, and sockets, driven in bounded steps.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::dhcpv4;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv6Cidr};

use crate::event::Event;
use crate::nic::{Mac, Nic, NicFault};
use crate::port::{Count, Port};
use crate::setting::{Setting, is_of_an_interface};
use crate::tcp::{First, Listeners, Service, Tcp};
use crate::watch::Sign;

/// The most frames that a step takes in.
const FRAMES_MAX: usize = 32;

/// The most rounds over all sockets in which a step sends, one frame each.
const ROUNDS_MAX: usize = 8;

/// The time between two looks at the device's link.
const LOOK_NS: u64 = 500_000_000;

/// The time between two steps of an interface that is off.
const OFF_NS: u64 = 10_000_000;

/// The time between two looks for frames at a device that does not interrupt.
const UNWOKEN_NS: u64 = 1_000_000;

/// How long a link must have been away for a lease to be asked for anew: less is a loose plug, not another network.
const ANOTHER_LINK_NS: u64 = 10_000_000_000;

/// How long a DHCP server's answer is waited for.
const DHCP_PATIENCE: Duration = Duration::from_secs(2);

/// The most events that are kept until they are taken.
const EVENTS_MAX: usize = 32;

/// An interface as a person is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its name: `net0`.
    pub name: String,
    /// Its device's address.
    pub mac: Mac,
    /// Whether it has a link.
    pub link: bool,
    /// Its MTU, in bytes.
    pub mtu: u16,
    /// What addresses it is to have.
    pub setting: Setting,
    /// Its addresses.
    pub addresses: Vec<IpCidr>,
    /// Where IPv4 packets go that are for none of its networks.
    pub gateway_v4: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub gateway_v6: Option<Ipv6Addr>,
    /// What it has received.
    pub rx: Count,
    /// What it has sent.
    pub tx: Count,
    /// Its addresses that other machines use, too.
    pub duplicates: Vec<(IpAddr, Mac)>,
    /// Why the device is not used any more.
    pub fault: Option<NicFault>,
}

/// An interface.
pub struct Network {
    name: String,
    port: Port,
    interface: Interface,
    sockets: SocketSet<'static>,
    listeners: Listeners,
    services: Vec<Box<dyn Service>>,
    service_due_ns: u64,
    setting: Setting,
    dhcp: Option<SocketHandle>,
    gateway_v4: Option<Ipv4Addr>,
    gateway_v6: Option<Ipv6Addr>,
    link: bool,
    link_went_ns: u64,
    look_at_ns: u64,
    due_ns: u64,
    /// Whether the last step left the device without room: what is to be sent waits for that, and for no time.
    is_full: bool,
    events: Vec<Event>,
    has_told_fault: bool,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

fn instant(now_ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX))
}

impl Network {
    /// An interface of this device. `seed` is another one at each start: TCP's first numbers come of it.
    #[must_use]
    pub fn new(name: String, mut nic: Box<dyn Nic>, setting: Setting, seed: u64, now_ns: u64) -> Self {
        let link = nic.look();
        let mac = nic.mac();
        let mut port = Port::new(nic);
        let mut config = Config::new(EthernetAddress(mac.0).into());
        config.random_seed = seed;
        let interface = Interface::new(config, &mut port, instant(now_ns));
        let mut network = Self {
            name,
            port,
            interface,
            sockets: SocketSet::new(Vec::new()),
            listeners: Listeners::default(),
            services: Vec::new(),
            service_due_ns: u64::MAX,
            setting,
            dhcp: None,
            gateway_v4: None,
            gateway_v6: None,
            link,
            link_went_ns: now_ns,
            look_at_ns: now_ns + LOOK_NS,
            due_ns: now_ns,
            is_full: false,
            events: Vec::new(),
            has_told_fault: false,
        };
        network.tell(if link { Event::LinkUp } else { Event::LinkDown });
        network.configure(now_ns);
        network
    }

    /// Serves connections by this, too, from the next step on. Each service has ports of its own.
    pub fn serve_by(&mut self, service: Box<dyn Service>) {
        self.services.push(service);
        self.due_ns = 0;
    }

    /// Gives it another setting: its addresses are those of the new one, or none until a DHCP server gives one. Connections of
    /// addresses that it has no longer end by their own times.
    pub fn set_setting(&mut self, setting: Setting, now_ns: u64) {
        if setting == self.setting {
            return;
        }
        if let Some(handle) = self.dhcp.take() {
            self.sockets.remove(handle);
        }
        let near = link_local(self.port.nic.mac());
        let own: Vec<IpCidr> = self.interface.ip_addrs().iter().copied().filter(|own| *own != near).collect();
        for address in own {
            self.tell(Event::AddressTaken { address });
        }
        self.set_addresses(&[], now_ns);
        let _ = self.interface.routes_mut().remove_default_ipv4_route();
        let _ = self.interface.routes_mut().remove_default_ipv6_route();
        (self.gateway_v4, self.gateway_v6) = (None, None);
        self.setting = setting;
        self.configure(now_ns);
        self.due_ns = now_ns;
    }

    /// Gives it what its setting says.
    fn configure(&mut self, now_ns: u64) {
        let mut addresses = Vec::new();
        match &self.setting {
            Setting::Off => return,
            Setting::Dhcp => {
                let mut socket = dhcpv4::Socket::new();
                let mut retry = socket.get_retry_config();
                (retry.discover_timeout, retry.initial_request_timeout) = (DHCP_PATIENCE, DHCP_PATIENCE);
                socket.set_retry_config(retry);
                self.dhcp = Some(self.sockets.add(socket));
            }
            Setting::Fixed(fixed) => {
                addresses.extend(&fixed.addresses);
                (self.gateway_v4, self.gateway_v6) = (fixed.gateway_v4, fixed.gateway_v6);
            }
        }
        let gateway = |address: IpCidr| match address {
            IpCidr::Ipv4(_) => self.gateway_v4.map(IpAddr::V4),
            IpCidr::Ipv6(_) => self.gateway_v6.map(IpAddr::V6),
        };
        let came: Vec<Event> = addresses
            .iter()
            .map(|address| Event::AddressCame { address: *address, gateway: gateway(*address) })
            .collect();
        came.into_iter().for_each(|event| self.tell(event));
        addresses.push(link_local(self.port.nic.mac()));
        self.set_addresses(&addresses, now_ns);
        let routes = self.interface.routes_mut();
        // There is room for one of each kind.
        if let Some(gateway) = self.gateway_v4 {
            let _ = routes.add_default_ipv4_route(gateway);
        }
        if let Some(gateway) = self.gateway_v6 {
            let _ = routes.add_default_ipv6_route(gateway);
        }
    }

    fn set_addresses(&mut self, addresses: &[IpCidr], now_ns: u64) {
        self.interface.update_ip_addrs(|own| {
            own.clear();
            addresses.iter().for_each(|address| own.push(*address).expect("at most ADDRESSES_MAX and one"));
        });
        self.port.watch.set(addresses.iter().map(|own| own.address().into()), now_ns);
    }

    /// Does what is to be done now, but no more than a bounded part of it. Returns whether there was anything.
    pub fn step(&mut self, now_ns: u64) -> bool {
        if self.has_told_fault {
            self.due_ns = u64::MAX;
            return false;
        }
        if self.setting == Setting::Off {
            if now_ns >= self.due_ns {
                self.look(now_ns);
                // Connections from before it was turned off come to their ends.
                self.serve(now_ns);
                self.due_ns = self.look_at_ns.min(self.service_due_ns).max(now_ns.saturating_add(OFF_NS));
            }
            return false;
        }
        let now = instant(now_ns);
        let is_due = now_ns >= self.due_ns || (self.is_full && self.port.nic.has_room());
        let mut frames = 0;
        while frames < FRAMES_MAX
            && let Some(frame) = self.port.look_ahead()
        {
            if let Some(first) = First::of(frame) {
                self.listeners.make_room(first, &mut self.sockets);
            }
            self.interface.poll_ingress_single(now, &mut self.port, &mut self.sockets);
            frames += 1;
        }
        if frames == 0 && !is_due && self.port.nic.fault().is_none() {
            return false;
        }
        self.look(now_ns);
        self.take_signs(now_ns);
        while let Some(frame) = self.port.watch.next_frame(now_ns) {
            self.port.send(&frame);
        }
        self.interface.poll_maintenance(now);
        self.serve(now_ns);
        let mut rounds = 0;
        while rounds < ROUNDS_MAX
            && self.interface.poll_egress(now, &mut self.port, &mut self.sockets) != PollResult::None
        {
            rounds += 1;
        }
        self.take_lease(now_ns);
        self.port.nic.flush();
        if let Some(why) = self.port.nic.fault() {
            self.has_told_fault = true;
            self.link = false;
            self.tell(Event::Failed(why));
        }
        self.is_full = !self.port.nic.has_room();
        let has_more = frames == FRAMES_MAX || rounds == ROUNDS_MAX;
        self.due_ns = if has_more { now_ns } else { self.next_due_ns(now_ns) };
        frames > 0 || rounds > 0
    }

    /// Has connections served, between what came and what goes: what a service writes together leaves together.
    fn serve(&mut self, now_ns: u64) {
        self.listeners.tend(&mut self.sockets, now_ns);
        if self.services.is_empty() {
            return;
        }
        self.service_due_ns = u64::MAX;
        for service in &mut self.services {
            let mut tcp = Tcp { listeners: &mut self.listeners, sockets: &mut self.sockets, now_ns };
            self.service_due_ns = self.service_due_ns.min(service.serve(&mut tcp, now_ns));
        }
        self.listeners.tend(&mut self.sockets, now_ns);
    }

    fn next_due_ns(&mut self, now_ns: u64) -> u64 {
        let sockets = self.interface.poll_at(instant(now_ns), &self.sockets).filter(|_| !self.is_full);
        let sockets = sockets.map_or(u64::MAX, |at| u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        let unwoken = if self.port.nic.has_interrupt() { u64::MAX } else { now_ns.saturating_add(UNWOKEN_NS) };
        let timers = self.look_at_ns.min(self.port.watch.due_ns()).min(self.listeners.due_ns(now_ns));
        sockets.min(timers).min(self.service_due_ns).min(unwoken)
    }

    /// Looks at the link, if it is time.
    fn look(&mut self, now_ns: u64) {
        if now_ns < self.look_at_ns {
            return;
        }
        self.look_at_ns = now_ns.saturating_add(LOOK_NS);
        let link = self.port.nic.look();
        if link == self.link || self.port.nic.fault().is_some() {
            return;
        }
        self.link = link;
        if !link {
            self.link_went_ns = now_ns;
            self.tell(Event::LinkDown);
            return;
        }
        self.tell(Event::LinkUp);
        self.port.watch.restart(now_ns);
        if let Some(handle) = self.dhcp
            && now_ns.saturating_sub(self.link_went_ns) >= ANOTHER_LINK_NS
        {
            self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).reset();
        }
    }

    /// Acts on what received frames said of own addresses.
    fn take_signs(&mut self, now_ns: u64) {
        for sign in core::mem::take(&mut self.port.signs) {
            match sign {
                Sign::Used { address, by } => {
                    if self.port.watch.note(address, by, now_ns) {
                        self.tell(Event::Duplicate { address, by });
                    }
                }
                Sign::Probed { address, by } => {
                    let answer = self.port.watch.answer(address, by);
                    self.port.send(&answer);
                }
            }
        }
    }

    /// Takes the address that a DHCP server gave, or took away.
    fn take_lease(&mut self, now_ns: u64) {
        let Some(handle) = self.dhcp else { return };
        let lease = match self.sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => return,
            Some(dhcpv4::Event::Deconfigured) => None,
            Some(dhcpv4::Event::Configured(config)) => Some((IpCidr::Ipv4(config.address), config.router)),
        };
        let before = self.interface.ip_addrs().iter().copied().find(|own| matches!(own, IpCidr::Ipv4(_)));
        let lease = lease.filter(|(address, _)| {
            let is_good = is_of_an_interface(*address);
            if !is_good {
                self.tell(Event::BadLease { address: *address });
            }
            is_good
        });
        let address = lease.map(|(address, _)| address);
        let router = lease.and_then(|(_, router)| router);
        self.gateway_v4 =
            router.filter(|it| !(it.is_unspecified() || it.is_multicast() || it.is_broadcast() || it.is_loopback()));
        let addresses: Vec<IpCidr> = address.into_iter().chain([link_local(self.port.nic.mac())]).collect();
        self.set_addresses(&addresses, now_ns);
        match self.gateway_v4 {
            Some(gateway) => {
                let _ = self.interface.routes_mut().add_default_ipv4_route(gateway);
            }
            None => {
                let _ = self.interface.routes_mut().remove_default_ipv4_route();
            }
        }
        if let Some(address) = before.filter(|before| address.is_none_or(|now| now != *before)) {
            self.tell(Event::AddressWent { address });
        }
        if let Some(address) = address {
            self.tell(Event::AddressCame { address, gateway: self.gateway_v4.map(IpAddr::V4) });
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what has happened since the last call, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// Returns when the next step is to be made at the latest.
    #[must_use]
    pub const fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Called before a CPU halts: from now on a frame wakes it. Returns false if there is something to do already.
    pub fn rest(&mut self, now_ns: u64) -> bool {
        now_ns < self.due_ns && (self.setting == Setting::Off || self.port.nic.rest())
    }

    /// Returns it as a person is shown it.
    #[must_use]
    pub fn show(&self) -> Shown {
        Shown {
            name: self.name.clone(),
            mac: self.port.nic.mac(),
            link: self.link,
            mtu: self.port.nic.mtu(),
            setting: self.setting.clone(),
            addresses: self.interface.ip_addrs().to_vec(),
            gateway_v4: self.gateway_v4,
            gateway_v6: self.gateway_v6,
            rx: self.port.rx(),
            tx: self.port.tx(),
            duplicates: self.port.watch.duplicates().collect(),
            fault: self.port.nic.fault(),
        }
    }
}

/// Returns the address that a device has on its own link (RFC 4291, 2.5.6 and appendix A).
#[must_use]
pub fn link_local_of(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

fn link_local(mac: Mac) -> IpCidr {
    IpCidr::Ipv6(Ipv6Cidr::new(link_local_of(mac), 64))
}
