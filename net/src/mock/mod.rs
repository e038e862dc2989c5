//! A network device in memory, machines that are on its link, and a service: for tests of what stands on [`Nic`].

mod client;
mod echo;
mod host;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use smoltcp::iface::SocketHandle;
use spin::{Mutex, MutexGuard};

use crate::nic::{HEADER_BYTES, MTU_DEFAULT, Mac, Nic, NicFault};
pub use client::{Client, Wire};
pub use echo::Echo;
pub use host::{Arp, Host, advertised_by, arp_of, mend, pong_of};

/// The device, as the test has it.
#[derive(Debug)]
pub struct Ends {
    /// Frames that the device has received, and that were not taken yet.
    pub to_nic: VecDeque<Vec<u8>>,
    /// Frames that were sent, and flushed.
    pub from_nic: VecDeque<Vec<u8>>,
    /// Frames that were sent, and not flushed yet.
    pub in_line: Vec<Vec<u8>>,
    /// The most frames in `from_nic` and in line.
    pub room: usize,
    /// Whether there is a link.
    pub link: bool,
    /// Whether an interrupt was asked for.
    pub waits: bool,
    /// Why the device is not used any more.
    pub fault: Option<NicFault>,
    /// How many frames were dropped.
    pub dropped: u64,
}

/// A device whose other end the test holds.
#[derive(Clone, Debug)]
pub struct FakeNic {
    mac: Mac,
    mtu: u16,
    has_interrupt: bool,
    ends: Arc<Mutex<Ends>>,
}

impl FakeNic {
    /// A device with a link.
    #[must_use]
    pub fn new(mac: Mac) -> Self {
        let ends = Ends {
            to_nic: VecDeque::new(),
            from_nic: VecDeque::new(),
            in_line: Vec::new(),
            room: 64,
            link: true,
            waits: false,
            fault: None,
            dropped: 0,
        };
        Self { mac, mtu: MTU_DEFAULT, has_interrupt: true, ends: Arc::new(Mutex::new(ends)) }
    }

    /// The same with another MTU.
    #[must_use]
    pub fn with_mtu(self, mtu: u16) -> Self {
        Self { mtu, ..self }
    }

    /// The same, but that it wakes no CPU.
    #[must_use]
    pub fn without_interrupt(self) -> Self {
        Self { has_interrupt: false, ..self }
    }

    /// Its other end. All clones have the same.
    pub fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock()
    }
}

impl Nic for FakeNic {
    fn mac(&self) -> Mac {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn look(&mut self) -> bool {
        let ends = self.ends();
        ends.link && ends.fault.is_none()
    }

    fn fault(&self) -> Option<NicFault> {
        self.ends().fault
    }

    fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        let mut ends = self.ends();
        if ends.fault.is_some() {
            return None;
        }
        while let Some(frame) = ends.to_nic.pop_front() {
            if (HEADER_BYTES..=into.len()).contains(&frame.len()) {
                into[..frame.len()].copy_from_slice(&frame);
                return Some(frame.len());
            }
            ends.dropped += 1;
        }
        None
    }

    fn dropped(&self) -> u64 {
        self.ends().dropped
    }

    fn has_room(&mut self) -> bool {
        let ends = self.ends();
        ends.fault.is_none() && ends.in_line.len() + ends.from_nic.len() < ends.room
    }

    fn send(&mut self, frame: &[u8]) {
        assert!(frame.len() <= HEADER_BYTES + usize::from(self.mtu), "the stack keeps to the MTU");
        if self.has_room() {
            self.ends().in_line.push(frame.to_vec());
        }
    }

    fn flush(&mut self) {
        let mut ends = self.ends();
        let sent = core::mem::take(&mut ends.in_line);
        ends.from_nic.extend(sent);
    }

    fn rest(&mut self) -> bool {
        let mut ends = self.ends();
        ends.waits = true;
        let is_full = ends.in_line.len() + ends.from_nic.len() >= ends.room;
        is_full || ends.to_nic.is_empty()
    }

    fn has_interrupt(&self) -> bool {
        self.has_interrupt
    }
}
