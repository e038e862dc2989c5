//! virtio-net: frames in and out (virtio 1.2, 5.1), by one queue each way, polled.
//!
//! Of the features those are taken that tell of the device: its address, its MTU, its link. None makes it compute or split
//! anything (checksums, segmentation, merged buffers): each frame lies in one chain, whose descriptors never change but in
//! length.

use alloc::vec::Vec;

use net::nic::{HEADER_BYTES, MTU_DEFAULT, MTU_MAX, MTU_MIN, Mac, Nic, NicFault};

use super::buffers::Ring;
use super::error::VirtioError;
use super::queue::{Misuse, SIZE_MAX};
use super::registers::{Registers, Width};
use super::set_up::{self, Wanted};
use super::structure::Structure;
use crate::dma::{DmaPage, Shape};
use crate::flush::NowNs;
use crate::pci::Function;

/// The vendor, and the id of a modern device of kind 1.
const ID: (u16, u16) = (0x1af4, 0x1040 + 1);

// Features (5.1.3).
const MTU: u32 = 1 << 3;
const MAC: u32 = 1 << 5;
const STATUS: u32 = 1 << 16;

// The device's configuration (5.1.4).
const CONFIG_MAC: u32 = 0;
const CONFIG_STATUS: u32 = 6;
const CONFIG_MTU: u32 = 10;

/// The status's bit for a link (5.1.4.2).
const LINK_UP: u32 = 1;

/// The bytes before each frame (5.1.6): what a device computes or splits, and all zero for one that does not.
const PREFIX_BYTES: u32 = 12;

/// A tag of 802.1Q, by which a frame may be longer. Such frames are not for us, but they fit the buffers.
const TAG_BYTES: usize = 4;

/// The queues: frames from the device, and to it.
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// The message that both queues send.
const VECTOR: u16 = 0;

/// Returns whether a function is such a device.
#[must_use]
pub fn is_virtio_net(function: &Function) -> bool {
    (function.vendor, function.device) == ID
}

/// A device, started.
#[derive(Debug)]
pub struct VirtioNet<R> {
    registers: R,
    mac: Mac,
    mtu: u16,
    has_status: bool,
    has_interrupt: bool,
    receive: Ring,
    transmit: Ring,
    /// Chains of `transmit` that the device does not have.
    free: Vec<u16>,
    fault: Option<NicFault>,
    dropped: u64,
}

impl<R: Registers> VirtioNet<R> {
    /// Takes a device into use. `page` returns pages for its queues and buffers as long as there are some; `has_interrupt`
    /// tells whether its MSI-X vector 0 wakes a CPU.
    ///
    /// # Errors
    /// [`VirtioError`]. The device is out of use then, if it is sound.
    pub fn new(
        registers: R,
        page: &mut dyn FnMut() -> Option<DmaPage>,
        has_interrupt: bool,
        now_ns: NowNs,
    ) -> Result<Self, VirtioError> {
        let started = Self::start(&registers, page, has_interrupt, now_ns);
        let Started { mac, mtu, has_status, receive, transmit } =
            started.inspect_err(|_| set_up::give_up(&registers))?;
        let free = transmit.heads().collect();
        let mut device =
            Self { registers, mac, mtu, has_status, has_interrupt, receive, transmit, free, fault: None, dropped: 0 };
        for head in device.receive.heads() {
            device.receive.queue.offer(head);
        }
        device.receive.queue.publish(&device.registers);
        Ok(device)
    }

    fn start(
        registers: &R,
        page: &mut dyn FnMut() -> Option<DmaPage>,
        has_interrupt: bool,
        now_ns: NowNs,
    ) -> Result<Started, VirtioError> {
        let features = set_up::negotiate(registers, MTU | MAC | STATUS, now_ns)?;
        if features & MAC == 0 {
            return Err(VirtioError::NoMac);
        }
        let byte = |at| registers.read(Structure::Device, at, Width::Byte).to_le_bytes()[0];
        let (mac, mtu) = set_up::read_config(registers, || {
            let mac = Mac([0, 1, 2, 3, 4, 5].map(|at| byte(CONFIG_MAC + at)));
            (mac, registers.read(Structure::Device, CONFIG_MTU, Width::Word))
        })?;
        if !mac.is_of_a_device() {
            return Err(VirtioError::NoMac);
        }
        let mtu = if features & MTU == 0 { MTU_DEFAULT.into() } else { mtu };
        let usable = u16::try_from(mtu.min(MTU_MAX.into())).ok().filter(|mtu| *mtu >= MTU_MIN);
        let mtu = usable.ok_or(VirtioError::Mtu { bytes: mtu })?;

        let shape = Shape::new(PREFIX_BYTES as usize + HEADER_BYTES + TAG_BYTES + usize::from(mtu));
        let vector = has_interrupt.then_some(VECTOR);
        let mut ring = |number, device_writes| {
            let wanted = Wanted { number, size_min: shape.pieces, size_max: SIZE_MAX, vector };
            let own = page().ok_or(VirtioError::NoMemory)?;
            let queue = set_up::add_queue(registers, own, wanted)?;
            Ring::new(queue, shape, device_writes, page).ok_or(VirtioError::NoMemory)
        };
        let (receive, transmit) = (ring(RECEIVE, true)?, ring(TRANSMIT, false)?);
        set_up::start(registers)?;
        Ok(Started { mac, mtu, has_status: features & STATUS != 0, receive, transmit })
    }

    /// Takes the device out of use, for good. Its memory stays its own: it may write late.
    fn fail(&mut self, why: NicFault) {
        set_up::give_up(&self.registers);
        self.fault = Some(why);
    }

    /// Takes the next chain that holds a frame, and its frame's length.
    fn take_frame(&mut self) -> Result<Option<(u16, u32)>, NicFault> {
        let Some(used) = self.receive.queue.take().map_err(|Misuse| NicFault::NotItsBuffer)? else { return Ok(None) };
        let length =
            used.bytes.checked_sub(PREFIX_BYTES).filter(|_| used.bytes <= self.receive.buffers.shape().bytes());
        length.map(|bytes| Some((used.head, bytes))).ok_or(NicFault::Length { bytes: used.bytes })
    }
}

/// What a device that was started is.
struct Started {
    mac: Mac,
    mtu: u16,
    has_status: bool,
    receive: Ring,
    transmit: Ring,
}

impl<R: Registers> Nic for VirtioNet<R> {
    fn mac(&self) -> Mac {
        self.mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn look(&mut self) -> bool {
        if self.fault.is_some() {
            return false;
        }
        if set_up::is_gone(&self.registers) {
            self.fault = Some(NicFault::Gone);
            return false;
        }
        if set_up::needs_reset(&self.registers) {
            self.fail(NicFault::Stopped);
            return false;
        }
        !self.has_status || self.registers.read(Structure::Device, CONFIG_STATUS, Width::Word) & LINK_UP != 0
    }

    fn fault(&self) -> Option<NicFault> {
        self.fault
    }

    fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        // A device that fills buffers faster than this empties them gets no more than one round.
        for _ in 0..self.receive.queue.size() {
            if self.fault.is_some() {
                return None;
            }
            let (head, bytes) = match self.take_frame() {
                Ok(taken) => taken?,
                Err(why) => {
                    self.fail(why);
                    return None;
                }
            };
            let bytes = bytes as usize;
            let fits = (HEADER_BYTES..=into.len()).contains(&bytes);
            if fits {
                self.receive.buffers.read(head, PREFIX_BYTES as usize, &mut into[..bytes]);
            }
            self.receive.queue.offer(head);
            self.receive.queue.publish(&self.registers);
            if fits {
                return Some(bytes);
            }
            self.dropped += 1;
        }
        None
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn has_room(&mut self) -> bool {
        // At most as many as there are chains.
        while self.fault.is_none() {
            match self.transmit.queue.take() {
                Ok(Some(used)) => self.free.push(used.head),
                Ok(None) => break,
                Err(Misuse) => self.fail(NicFault::NotItsBuffer),
            }
        }
        self.fault.is_none() && !self.free.is_empty()
    }

    fn send(&mut self, frame: &[u8]) {
        assert!(frame.len() <= HEADER_BYTES + usize::from(self.mtu), "the stack keeps to the MTU");
        if !self.has_room() {
            return;
        }
        let Some(head) = self.free.pop() else { return };
        self.transmit.fill(head, &[0; PREFIX_BYTES as usize], frame);
        self.transmit.queue.offer(head);
    }

    fn flush(&mut self) {
        if self.fault.is_none() {
            self.transmit.queue.publish(&self.registers);
        }
    }

    fn rest(&mut self) -> bool {
        if self.fault.is_some() {
            return true;
        }
        let is_full = !self.has_room();
        let has_frame = self.receive.queue.want_interrupt(!is_full) && !is_full;
        let has_room = self.transmit.queue.want_interrupt(is_full) && is_full;
        !(has_frame || has_room)
    }

    fn has_interrupt(&self) -> bool {
        self.has_interrupt
    }
}
