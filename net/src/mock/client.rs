//! A machine on the link that opens connections, with smoltcp's own sockets. What it sends may be lost, doubled, or come
//! late.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::{FakeNic, Host};
use crate::network::Network;
use crate::nic::{HEADER_BYTES, MTU_DEFAULT};

/// The bytes of a connection's buffer, each way.
const BUFFER_BYTES: usize = 8192;

/// The turns of either end in a piece of time.
const TURNS: usize = 6;

/// More steps than an interface makes in a turn.
const STEPS_MAX: usize = 10_000;

/// Where the numbers of its ports begin.
const FIRST_PORT: u16 = 40_000;

/// The wire to the device.
#[derive(Debug)]
pub struct Wire {
    nic: FakeNic,
    late: VecDeque<Vec<u8>>,
    sent: u64,
    /// Whether some frames are lost, doubled, or come late.
    pub is_bad: bool,
    /// Whether none passes.
    pub is_cut: bool,
}

impl Wire {
    fn send(&mut self, frame: Vec<u8>) {
        self.sent += 1;
        let mut ends = self.nic.ends();
        if self.is_cut {
            return;
        }
        match (self.is_bad, self.sent % 19) {
            (true, 3) => {}
            (true, 7) => self.late.push_back(frame),
            (true, 11) => ends.to_nic.extend([frame.clone(), frame]),
            _ => {
                ends.to_nic.push_back(frame);
                ends.to_nic.extend(self.late.pop_front());
            }
        }
    }
}

/// A frame for the client.
#[derive(Debug)]
pub struct ToClient(Vec<u8>);

/// Room for a frame of the client's.
#[derive(Debug)]
pub struct FromClient<'a>(&'a mut Wire);

impl RxToken for ToClient {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for FromClient<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        let mut frame = vec![0; bytes];
        let result = f(&mut frame);
        self.0.send(frame);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = ToClient;
    type TxToken<'a> = FromClient<'a>;

    fn receive(&mut self, _: Instant) -> Option<(ToClient, FromClient<'_>)> {
        let frame = self.nic.ends().from_nic.pop_front().filter(|_| !self.is_cut)?;
        Some((ToClient(frame), FromClient(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<FromClient<'_>> {
        Some(FromClient(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = HEADER_BYTES + usize::from(MTU_DEFAULT);
        capabilities
    }
}

/// The machine.
pub struct Client {
    /// The wire to the device.
    pub wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
}

impl Client {
    /// Lets so much time pass on the link, in pieces of at most `piece_ns`: the interface at the other end and this machine have
    /// several turns in each.
    ///
    /// # Panics
    /// When the interface does not come to rest.
    pub fn run(&mut self, network: &mut Network, now_ns: &mut u64, ns: u64, piece_ns: u64) {
        let end = *now_ns + ns;
        loop {
            *now_ns = end.min(*now_ns + piece_ns);
            for _ in 0..TURNS {
                let mut steps = 0;
                while network.step(*now_ns) {
                    steps += 1;
                    assert!(steps < STEPS_MAX, "it comes to rest");
                }
                self.poll(*now_ns);
            }
            if *now_ns == end {
                return;
            }
        }
    }

    /// A machine at the other end of this device's wire.
    ///
    /// # Panics
    /// If it has no address of a machine.
    #[must_use]
    pub fn new(host: Host, nic: FakeNic) -> Self {
        let mut wire = Wire { nic, late: VecDeque::new(), sent: 0, is_bad: false, is_cut: false };
        let config = Config::new(EthernetAddress(host.mac.0).into());
        let mut interface = Interface::new(config, &mut wire, Instant::ZERO);
        interface.update_ip_addrs(|own| own.push(IpCidr::new(host.address.into(), 24)).expect("there is room"));
        Self { wire, interface, sockets: SocketSet::new(Vec::new()), next_port: FIRST_PORT }
    }

    /// Does what is to be done.
    pub fn poll(&mut self, now_ns: u64) {
        let now = Instant::from_micros(i64::try_from(now_ns / 1000).unwrap_or(i64::MAX));
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// Begins to connect.
    ///
    /// # Panics
    /// If the address is no machine's.
    pub fn connect(&mut self, address: Ipv4Addr, port: u16) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        self.next_port += 1;
        let context = self.interface.context();
        socket.connect(context, (address, port), self.next_port).expect("an address to connect to");
        self.sockets.add(socket)
    }

    /// Returns a connection.
    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Returns whether a connection is open both ways.
    #[must_use]
    pub fn is_open(&self, handle: SocketHandle) -> bool {
        self.sockets.get::<Socket<'_>>(handle).state() == State::Established
    }

    /// Returns whether a connection is no more, or was refused.
    #[must_use]
    pub fn is_closed(&self, handle: SocketHandle) -> bool {
        self.sockets.get::<Socket<'_>>(handle).state() == State::Closed
    }

    /// Forgets a connection, as a machine that was reset.
    pub fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Sends what there is room for, and returns how much that was.
    pub fn send(&mut self, handle: SocketHandle, bytes: &[u8]) -> usize {
        self.socket(handle).send_slice(bytes).unwrap_or(0)
    }

    /// Adds what has been received to `into`.
    pub fn receive(&mut self, handle: SocketHandle, into: &mut Vec<u8>) {
        while self.socket(handle).recv(|bytes| (bytes.len(), into.extend_from_slice(bytes))).is_ok()
            && self.socket(handle).can_recv()
        {}
    }
}
