//! Intel's gigabit controllers: the 82574 (e1000e), which has MSI-X, and the 82540EM and 82545EM (e1000), which are polled.
//! QEMU, VMware and VirtualBox have them, and many boards.
//!
//! Registers, descriptors and their rules are those of Intel's "82574 GbE Controller Family Datasheet", revision 3.4: sections 4.6
//! (start), 7.1.4 (receive descriptors), 7.2.10.1 (transmit descriptors), 7.4 (interrupts), 10.2 (registers); for the older two
//! they are the same ("PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual"). Of the device's
//! features none is used: no checksums, no segmentation, legacy descriptors, and frames of Ethernet's MTU, each in one buffer.

use core::fmt;

use net::nic::{HEADER_BYTES, MTU_DEFAULT, Mac, Nic, NicFault};
use service::memory::MemoryOffset;

use crate::dma::{DmaBuffers, DmaPage, Shape};
use crate::flush::NowNs;
use crate::pci::{Config, Function, PciError};
use crate::phys::PhysMap;
use crate::registers::{MappedRegisters, Registers};

/// The vendor, and its controllers: 82574L, 82574LA; 82540EM, 82545EM.
const VENDOR: u16 = 0x8086;
const DEVICES: [u16; 4] = [0x10d3, 0x10f6, 0x100e, 0x100f];

/// The BAR of the registers, and their bytes.
const BAR: u8 = 0;
const REGISTER_BYTES: u32 = 0x2_0000;

// Registers (10.2).
const CTRL: u32 = 0x0;
const STATUS: u32 = 0x8;
const CTRL_EXT: u32 = 0x18;
const ICR: u32 = 0xc0;
const IMS: u32 = 0xd0;
const IMC: u32 = 0xd8;
const EIAC: u32 = 0xdc;
const IVAR: u32 = 0xe4;
const RCTL: u32 = 0x100;
const TCTL: u32 = 0x400;
const TIPG: u32 = 0x410;
const RECEIVE_RING: u32 = 0x2800;
const TRANSMIT_RING: u32 = 0x3800;
const MTA: u32 = 0x5200;
const RAL: u32 = 0x5400;
const RAH: u32 = 0x5404;

// Of a ring: base, length, head, tail, from its first register on.
const BASE_LOW: u32 = 0x0;
const BASE_HIGH: u32 = 0x4;
const LENGTH: u32 = 0x8;
const HEAD: u32 = 0x10;
const TAIL: u32 = 0x18;

// CTRL: the link is set up, by what both ends can; reset.
const SLU: u32 = 1 << 6;
const ASDE: u32 = 1 << 5;
const RST: u32 = 1 << 26;

/// STATUS: there is a link.
const LU: u32 = 1 << 1;

/// CTRL_EXT: interrupts are MSI-X's.
const PBA_SUPPORT: u32 = 1 << 31;

// IMS, IMC, EIAC: the receive queue's and the transmit queue's cause with MSI-X.
const RXQ0: u32 = 1 << 20;
const TXQ0: u32 = 1 << 22;

/// IVAR: receive queue 0 and transmit queue 0 send vector 0; each finished descriptor is a cause.
const BOTH_SEND_0: u32 = 1 << 31 | 0x8 << 8 | 0x8;

/// RCTL: on, broadcasts and all multicasts, buffers of 2048 bytes, without the frame's checksum.
const RECEIVE_ON: u32 = 1 << 1 | 1 << 4 | 1 << 15 | 1 << 26;

/// TCTL: on, short frames are padded, the collision values of a full duplex link.
const TRANSMIT_ON: u32 = 1 << 1 | 1 << 3 | 0x0f << 4 | 0x3f << 12;

/// TIPG: the gaps of copper.
const GAPS: u32 = 8 | 8 << 10 | 6 << 20;

/// RAH: the address is valid.
const ADDRESS_VALID: u32 = 1 << 31;

/// The number of words in the table of multicasts.
const MTA_WORDS: u32 = 128;

// A descriptor: 16 bytes. Of one received: length at 8, status and errors at 12. Of one to send: length at 8, command at 11,
// status at 12.
const DESCRIPTOR_BYTES: u16 = 16;
const LENGTH_AT: u64 = 8;
const STATUS_AT: u64 = 12;

/// The descriptors of a ring. Their bytes are a multiple of 128.
const RING: u16 = 128;

// Status: done, and the last of a frame; errors are in the upper byte.
const DD: u16 = 1;
const EOP: u16 = 2;
const ERRORS: u16 = 0xff00;

/// Command: the last of a frame, with its checksum, and its status is wanted.
const SEND: u8 = 1 | 1 << 1 | 1 << 3;

/// How many received frames are done with before the device is told.
const RETURN_AFTER: u16 = RING / 4;

/// The longest time that a reset may take.
const RESET_NS: u64 = 1_000_000_000;

/// Returns whether a function is such a controller.
#[must_use]
pub fn is_e1000e(function: &Function) -> bool {
    function.vendor == VENDOR && DEVICES.contains(&function.device)
}

/// Why a controller cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum E1000eError {
    /// Its PCI configuration is not sound.
    Pci(PciError),
    /// It does not finish a reset.
    NoReset,
    /// It has no Ethernet address, or one that no device can have.
    NoMac,
    /// There is no memory for its rings and buffers.
    NoMemory,
}

impl fmt::Display for E1000eError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(why) => write!(f, "{why}"),
            Self::NoReset => write!(f, "it does not finish a reset"),
            Self::NoMac => write!(f, "it has no Ethernet address that a device can have"),
            Self::NoMemory => write!(f, "there is no memory for its rings and buffers"),
        }
    }
}

impl core::error::Error for E1000eError {}

/// Maps a controller's registers, and lets it read and write memory.
///
/// # Errors
/// [`E1000eError::Pci`].
///
/// # Safety
/// The function is such a controller ([`is_e1000e`]), and is mapped once.
pub unsafe fn map(config: &Config, function: &Function, map: &impl PhysMap) -> Result<MappedRegisters, E1000eError> {
    let bar = function.bar(config, BAR).map_err(E1000eError::Pci)?;
    if bar.bytes < REGISTER_BYTES.into() {
        return Err(E1000eError::Pci(PciError::Bar { slot: BAR }));
    }
    // SAFETY: the controller's registers are there, and the caller maps them once.
    let registers = unsafe { MappedRegisters::map(map, bar.at, REGISTER_BYTES) };
    let registers = registers.map_err(|why| E1000eError::Pci(PciError::Map(why)))?;
    function.enable(config);
    Ok(registers)
}

/// A ring of descriptors, each with a buffer of its own.
#[derive(Debug)]
struct Ring {
    page: DmaPage,
    buffers: DmaBuffers,
    /// The descriptor that is looked at next: of those that the device has, the one that it was given first.
    next: u16,
    /// The first descriptor that the device does not have.
    tail: u16,
}

const fn after(descriptor: u16) -> u16 {
    (descriptor + 1) % RING
}

impl Ring {
    /// A ring with nothing in it. `None`: there are not enough pages.
    fn new(page: &mut dyn FnMut() -> Option<DmaPage>) -> Option<Self> {
        let own = page()?;
        own.write(MemoryOffset(0), &[0; (RING * DESCRIPTOR_BYTES) as usize]);
        let buffers = DmaBuffers::new(RING, Shape::new(HEADER_BYTES + usize::from(MTU_DEFAULT)), page)?;
        let ring = Self { page: own, buffers, next: 0, tail: 0 };
        for descriptor in 0..RING {
            ring.page.write(place(descriptor), &ring.buffers.physical(descriptor).0.to_le_bytes());
        }
        Some(ring)
    }

    /// Tells the device where the ring is.
    fn tell(&self, registers: &impl Registers, ring: u32) {
        let [a, b, c, d, e, f, g, h] = self.page.physical(MemoryOffset(0)).0.to_le_bytes();
        registers.write(ring + BASE_LOW, u32::from_le_bytes([a, b, c, d]));
        registers.write(ring + BASE_HIGH, u32::from_le_bytes([e, f, g, h]));
        registers.write(ring + LENGTH, u32::from(RING * DESCRIPTOR_BYTES));
        registers.write(ring + HEAD, 0);
        registers.write(ring + TAIL, 0);
    }

    /// Returns the status of the next descriptor, if the device is done with it. What it wrote before is visible then. Of one
    /// that it only says to be done with the buffer has old bytes, which do no harm.
    fn done(&self) -> Option<u16> {
        let status = self.page.load(place(self.next).plus(STATUS_AT));
        (status & DD != 0).then_some(status)
    }
}

/// Returns where a descriptor is in the ring's page.
const fn place(descriptor: u16) -> MemoryOffset {
    MemoryOffset(descriptor as u64 * DESCRIPTOR_BYTES as u64)
}

/// A controller, started.
#[derive(Debug)]
pub struct E1000e<R> {
    registers: R,
    mac: Mac,
    has_interrupt: bool,
    receive: Ring,
    transmit: Ring,
    /// The tail of `transmit` that the device was told.
    told: u16,
    /// The descriptors of `receive` that are done with, and that the device was not told of.
    done: u16,
    /// The causes that may interrupt now.
    armed: u32,
    /// Whether the rest of a frame that began in another buffer is to come.
    is_in_frame: bool,
    fault: Option<NicFault>,
    dropped: u64,
}

impl<R: Registers> E1000e<R> {
    /// Takes a controller into use. `page` returns pages for its rings and buffers as long as there are some; `has_interrupt`
    /// tells whether its MSI-X vector 0 wakes a CPU.
    ///
    /// # Errors
    /// [`E1000eError`]. The controller is out of use then, if it is sound.
    pub fn new(
        registers: R,
        page: &mut dyn FnMut() -> Option<DmaPage>,
        has_interrupt: bool,
        now_ns: NowNs,
    ) -> Result<Self, E1000eError> {
        reset(&registers, now_ns)?;
        let mac = mac(&registers).ok_or(E1000eError::NoMac)?;
        let mut ring = || Ring::new(page).ok_or(E1000eError::NoMemory);
        let (mut receive, transmit) = (ring()?, ring()?);
        receive.tell(&registers, RECEIVE_RING);
        transmit.tell(&registers, TRANSMIT_RING);
        for word in 0..MTA_WORDS {
            registers.write(MTA + 4 * word, 0);
        }
        registers.write(CTRL, registers.read(CTRL) | SLU | ASDE);
        if has_interrupt {
            registers.write(CTRL_EXT, registers.read(CTRL_EXT) | PBA_SUPPORT);
            registers.write(IVAR, BOTH_SEND_0);
            registers.write(EIAC, RXQ0 | TXQ0);
        }
        registers.write(TIPG, GAPS);
        registers.write(TCTL, TRANSMIT_ON);
        registers.write(RCTL, RECEIVE_ON);
        // All but one: a ring whose head is its tail is empty.
        receive.tail = RING - 1;
        registers.write(RECEIVE_RING + TAIL, receive.tail.into());
        Ok(Self {
            registers,
            mac,
            has_interrupt,
            receive,
            transmit,
            told: 0,
            done: 0,
            armed: 0,
            is_in_frame: false,
            fault: None,
            dropped: 0,
        })
    }

    /// Takes the controller out of use, for good. Its memory stays its own: it may write late.
    fn fail(&mut self, why: NicFault) {
        self.registers.write(IMC, u32::MAX);
        self.registers.write(RCTL, 0);
        self.registers.write(TCTL, 0);
        self.registers.write(CTRL, RST);
        self.fault = Some(why);
    }

    /// Takes the next received descriptor: its frame's length, if it holds a whole one.
    fn take(&mut self) -> Result<Option<(u16, Option<usize>)>, NicFault> {
        let Some(status) = self.receive.done() else { return Ok(None) };
        let descriptor = self.receive.next;
        let length = self.receive.page.load(place(descriptor).plus(LENGTH_AT));
        if u32::from(length) > self.receive.buffers.shape().bytes() {
            return Err(NicFault::Length { bytes: length.into() });
        }
        self.receive.next = after(descriptor);
        let is_last = status & EOP != 0;
        let is_whole = is_last && !self.is_in_frame && status & ERRORS == 0;
        self.is_in_frame = !is_last;
        Ok(Some((descriptor, is_whole.then_some(length.into()))))
    }

    /// Tells the device of the buffers that are done with.
    fn give_back(&mut self) {
        if self.done > 0 {
            self.receive.tail = (self.receive.tail + self.done) % RING;
            self.done = 0;
            // An uncached store is ordered after all earlier stores to memory.
            self.registers.write(RECEIVE_RING + TAIL, self.receive.tail.into());
        }
    }

    /// Keeps the device from interrupting, if it may.
    fn disarm(&mut self) {
        if core::mem::take(&mut self.armed) != 0 {
            self.registers.write(IMC, u32::MAX);
        }
    }
}

/// Resets the controller: it touches no memory of ours any more, if it is sound, and interrupts nothing.
fn reset(registers: &impl Registers, now_ns: NowNs) -> Result<(), E1000eError> {
    registers.write(IMC, u32::MAX);
    registers.write(RCTL, 0);
    registers.write(TCTL, 0);
    registers.write(CTRL, registers.read(CTRL) | RST);
    let began = now_ns();
    while registers.read(CTRL) & RST != 0 {
        if now_ns().saturating_sub(began) > RESET_NS {
            return Err(E1000eError::NoReset);
        }
        core::hint::spin_loop();
    }
    registers.write(IMC, u32::MAX);
    registers.read(ICR); // which clears what has come until now
    Ok(())
}

/// Returns the address that the controller has from its memory.
fn mac(registers: &impl Registers) -> Option<Mac> {
    let high = registers.read(RAH);
    let ([a, b, c, d], [e, f, ..]) = (registers.read(RAL).to_le_bytes(), high.to_le_bytes());
    let mac = Mac([a, b, c, d, e, f]);
    (high & ADDRESS_VALID != 0 && mac.is_of_a_device()).then_some(mac)
}

impl<R: Registers> Nic for E1000e<R> {
    fn mac(&self) -> Mac {
        self.mac
    }

    fn mtu(&self) -> u16 {
        MTU_DEFAULT
    }

    fn look(&mut self) -> bool {
        if self.fault.is_some() {
            return false;
        }
        match self.registers.read(STATUS) {
            u32::MAX => {
                self.fault = Some(NicFault::Gone);
                false
            }
            status => status & LU != 0,
        }
    }

    fn fault(&self) -> Option<NicFault> {
        self.fault
    }

    fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        // A device that fills buffers faster than this empties them gets no more than one round.
        for _ in 0..RING {
            if self.fault.is_some() {
                return None;
            }
            let taken = match self.take() {
                Ok(Some(taken)) => taken,
                Ok(None) => break,
                Err(why) => {
                    self.fail(why);
                    return None;
                }
            };
            self.disarm();
            let (descriptor, bytes) = taken;
            let bytes = bytes.filter(|bytes| (HEADER_BYTES..=into.len()).contains(bytes));
            if let Some(bytes) = bytes {
                self.receive.buffers.read(descriptor, 0, &mut into[..bytes]);
            }
            self.receive.page.store(place(descriptor).plus(STATUS_AT), 0);
            self.done += 1;
            if self.done >= RETURN_AFTER {
                self.give_back();
            }
            if bytes.is_some() {
                return bytes;
            }
            self.dropped += 1;
        }
        self.give_back();
        None
    }

    fn dropped(&self) -> u64 {
        self.dropped
    }

    fn has_room(&mut self) -> bool {
        // At most as many as there are descriptors.
        while self.transmit.next != self.transmit.tail && self.transmit.done().is_some() {
            self.transmit.next = after(self.transmit.next);
        }
        self.fault.is_none() && after(self.transmit.tail) != self.transmit.next
    }

    fn send(&mut self, frame: &[u8]) {
        assert!(frame.len() <= HEADER_BYTES + usize::from(MTU_DEFAULT), "the stack keeps to the MTU");
        if !self.has_room() {
            return;
        }
        let descriptor = self.transmit.tail;
        self.transmit.buffers.write(descriptor, 0, frame);
        let [low, high] = u16::try_from(frame.len()).expect("a frame is short").to_le_bytes();
        self.transmit.page.write(place(descriptor).plus(LENGTH_AT), &[low, high, 0, SEND, 0, 0, 0, 0]);
        self.transmit.tail = after(descriptor);
    }

    fn flush(&mut self) {
        if self.fault.is_none() && self.told != self.transmit.tail {
            self.told = self.transmit.tail;
            // An uncached store is ordered after all earlier stores to memory.
            self.registers.write(TRANSMIT_RING + TAIL, self.told.into());
        }
    }

    fn rest(&mut self) -> bool {
        if self.fault.is_some() {
            return true;
        }
        let is_full = !self.has_room();
        let wanted = if is_full { TXQ0 } else { RXQ0 };
        if self.has_interrupt && self.armed != wanted {
            self.armed = wanted;
            self.registers.write(IMC, u32::MAX);
            self.registers.write(IMS, wanted);
        }
        // What came before that is seen here, or its cause interrupts as soon as it may; what comes later interrupts.
        let has_frame = !is_full && self.receive.done().is_some();
        let has_room = is_full && self.has_room();
        !(has_frame || has_room)
    }

    fn has_interrupt(&self) -> bool {
        self.has_interrupt
    }
}
