//! QEMU's ivshmem-doorbell device: another machine's memory as a BAR, and interrupts both ways.
//!
//! Register names and offsets: QEMU's `docs/specs/ivshmem-spec`, revision 1.
//!
//! - BAR2 is the memory. It is mapped write-back: it is RAM.
//! - Writing DOORBELL interrupts a peer. The device ignores the number of a peer that does not exist.
//! - A peer that rings one of our vectors makes the device send the MSI-X message that [`Ivshmem::wake`] set for the
//!   vector: to a local APIC, so that a halted CPU polls again.

use core::fmt;
use core::ptr::NonNull;

use service::memory::SharedMemory;
use volatile::VolatilePtr;

use crate::pci::{Config, Function, Message, Msix, PciAddress, PciError};
use crate::phys::{Attribute, PhysMap};
use crate::shared::SharedWindow;

/// The device's vendor (Red Hat) and device id.
const ID: (u16, u16) = (0x1af4, 0x1110);

/// The registers' BAR, and the bytes of it that the device has.
const REGISTERS: u8 = 0;
const REGISTER_BYTES: u64 = 16;

/// The memory's BAR.
const MEMORY: u8 = 2;

/// The device's own id, by which peers ring it. -1 while it has none.
const IV_POSITION: usize = 8;

/// Writing `peer << 16 | vector` interrupts that peer.
const DOORBELL: usize = 12;

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IvshmemError {
    /// Its PCI configuration is not sound.
    Pci(PciError),
    /// Its server has given it no id.
    NoId,
    /// Its memory is longer than addresses reach.
    TooLarge {
        /// The length of the memory.
        bytes: u64,
    },
}

impl fmt::Display for IvshmemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(why) => write!(f, "{why}"),
            Self::NoId => write!(f, "its server has given it no id"),
            Self::TooLarge { bytes } => write!(f, "its memory of {bytes} bytes is too large"),
        }
    }
}

impl core::error::Error for IvshmemError {}

impl From<PciError> for IvshmemError {
    fn from(why: PciError) -> Self {
        Self::Pci(why)
    }
}

/// Returns whether a function is such a device.
#[must_use]
pub fn is_ivshmem(function: &Function) -> bool {
    (function.vendor, function.device) == ID
}

/// A device, set up.
#[derive(Clone, Debug)]
pub struct Ivshmem {
    address: PciAddress,
    registers: NonNull<u8>,
    msix: Msix,
    memory: SharedWindow,
    id: u16,
}

// SAFETY: the registers are mapped for good on every CPU; any CPU may read and write them whole at any time.
unsafe impl Send for Ivshmem {}
// SAFETY: as for Send.
unsafe impl Sync for Ivshmem {}

impl Ivshmem {
    /// Sets a device up. Its vectors are masked.
    ///
    /// # Errors
    /// [`IvshmemError`].
    ///
    /// # Safety
    /// The function is an ivshmem device ([`is_ivshmem`]), and is set up once.
    pub unsafe fn new(config: &Config, function: &Function, map: &impl PhysMap) -> Result<Self, IvshmemError> {
        let registers = function.bar(config, REGISTERS)?;
        if registers.bytes < REGISTER_BYTES {
            return Err(PciError::Bar { slot: REGISTERS }.into());
        }
        let memory = function.bar(config, MEMORY)?;
        let bytes = usize::try_from(memory.bytes).map_err(|_| IvshmemError::TooLarge { bytes: memory.bytes })?;
        let registers = map.map(registers.at, REGISTER_BYTES, Attribute::Uncached).map_err(PciError::Map)?;
        let base = map.map(memory.at, memory.bytes, Attribute::WriteBack).map_err(PciError::Map)?;
        let msix = function.msix(config, map)?;
        // SAFETY: the BAR's memory is mapped for good, and the map refuses ranges that hold Rust objects.
        let memory = unsafe { SharedWindow::new(base, bytes) };
        let mut device = Self { address: function.address, registers, msix, memory, id: 0 };
        device.id = u16::try_from(device.register(IV_POSITION).read()).map_err(|_| IvshmemError::NoId)?;
        Ok(device)
    }

    /// Returns its id among its peers (IVPosition).
    #[must_use]
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Returns the memory that it shows.
    #[must_use]
    pub const fn memory(&self) -> &SharedWindow {
        &self.memory
    }

    /// Returns how many vectors peers can ring.
    #[must_use]
    pub const fn vectors(&self) -> u16 {
        self.msix.vectors()
    }

    /// Makes a vector send this message when a peer rings it.
    ///
    /// # Safety
    /// A message only interrupts: its address is a local APIC's, and the handler of its vector takes it.
    pub unsafe fn wake(&self, vector: u16, message: Message) {
        // SAFETY: the caller's promise is the table's.
        unsafe { self.msix.send(vector, message) };
    }

    /// Rings a peer: `peer << 16 | vector`. All earlier stores are visible to it when the interrupt arrives.
    pub fn ring(&self, doorbell: u32) {
        // An uncached store is ordered after all earlier stores to memory (Intel SDM volume 3, 9.2).
        self.register(DOORBELL).write(doorbell);
    }

    fn register(&self, at: usize) -> VolatilePtr<'_, u32> {
        // SAFETY: `at` is one of the aligned offsets above, in the mapped registers.
        unsafe { VolatilePtr::new(self.registers.byte_add(at).cast()) }
    }
}

/// `ivshmem 0000:00:04.0: id 3, 512 MiB, 4 vectors`.
impl fmt::Display for Ivshmem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.memory.len_bytes() >> 20;
        write!(f, "ivshmem {}: id {}, {mib} MiB, {} vectors", self.address, self.id, self.vectors())
    }
}
