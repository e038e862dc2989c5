//! A network device as smoltcp drives one: each frame is copied, counted, and looked at by the [`Watch`].

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::nic::{HEADER_BYTES, Nic};
use crate::watch::{Sign, Watch};

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames.
    pub frames: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
    /// Frames that were dropped.
    pub dropped: u64,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }
}

/// The most signs that are kept until they are taken: more are only more of the same.
const SIGNS_MAX: usize = 8;

/// The device, and what passes through it.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) nic: Box<dyn Nic>,
    pub(crate) watch: Watch,
    /// What received frames said of own addresses.
    pub(crate) signs: Vec<Sign>,
    received: Vec<u8>,
    /// The length of the frame in `received` that smoltcp has not had yet.
    ahead: Option<usize>,
    outgoing: Vec<u8>,
    rx: Count,
    tx: Count,
}

impl Port {
    pub(crate) fn new(nic: Box<dyn Nic>) -> Self {
        let bytes = HEADER_BYTES + usize::from(nic.mtu());
        Self {
            watch: Watch::new(nic.mac()),
            signs: Vec::new(),
            received: vec![0; bytes],
            ahead: None,
            outgoing: vec![0; bytes],
            rx: Count::default(),
            tx: Count::default(),
            nic,
        }
    }

    /// Sends a frame of our own. Without room it is dropped.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        if self.nic.has_room() {
            self.nic.send(frame);
            self.tx.add(frame.len());
        } else {
            self.tx.dropped += 1;
        }
    }

    /// Returns the frame that smoltcp receives next, if there is one.
    pub(crate) fn look_ahead(&mut self) -> Option<&[u8]> {
        // A frame may ask for one in reply: while there is no room for that, frames wait in the device.
        if self.ahead.is_none() && self.nic.has_room() {
            let bytes = self.nic.receive(&mut self.received)?;
            self.ahead = Some(bytes);
            self.rx.add(bytes);
            if self.signs.len() < SIGNS_MAX {
                self.signs.extend(self.watch.look(&self.received[..bytes]));
            }
        }
        self.ahead.map(|bytes| &self.received[..bytes])
    }

    pub(crate) fn rx(&self) -> Count {
        Count { dropped: self.nic.dropped(), ..self.rx }
    }

    pub(crate) const fn tx(&self) -> Count {
        self.tx
    }
}

impl phy::Device for Port {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Outgoing<'_>)> {
        self.look_ahead()?;
        let frame = &self.received[..self.ahead.take()?];
        Some((Received(frame), Outgoing { nic: &mut *self.nic, frame: &mut self.outgoing, tx: &mut self.tx }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        self.nic.has_room().then_some(Outgoing { nic: &mut *self.nic, frame: &mut self.outgoing, tx: &mut self.tx })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = HEADER_BYTES + usize::from(self.nic.mtu());
        capabilities
    }
}

/// A frame that was received.
pub(crate) struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame to send.
pub(crate) struct Outgoing<'a> {
    nic: &'a mut dyn Nic,
    frame: &'a mut [u8],
    tx: &'a mut Count,
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, f: F) -> R {
        // smoltcp keeps to the MTU in what it makes, and replies with no more than it received.
        let frame = &mut self.frame[..bytes];
        let result = f(frame);
        self.nic.send(frame);
        self.tx.add(bytes);
        result
    }
}
