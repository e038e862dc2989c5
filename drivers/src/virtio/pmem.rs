//! virtio-pmem: a range of the machine's memory that a file on the host stands behind (virtio 1.2, 5.19).
//!
//! Loads and stores go to the range itself, which is no BAR: the configuration says where it is. A FLUSH through queue 0
//! makes all stores durable that were made before it; nothing else does, and without one any page may persist at any
//! time. Feature SHMEM_REGION, by which the range would be in a BAR, is not taken.

use btt::media::FenceFault;

use super::error::VirtioError;
use super::queue::{Queue, QueuePage};
use super::registers::Registers;
use super::set_up;
use crate::flush::NowNs;
use crate::flush::Port;
use crate::pci::Function;
use crate::phys::PhysAddr;

/// The vendor, and the id of a modern device of kind 27.
const ID: (u16, u16) = (0x1af4, 0x1040 + 27);

/// A request: flush (5.19.6). An answer of 0 is success.
const FLUSH: u32 = 0;

/// Returns whether a function is such a device.
#[must_use]
pub fn is_virtio_pmem(function: &Function) -> bool {
    (function.vendor, function.device) == ID
}

/// A device, started.
#[derive(Debug)]
pub struct VirtioPmem<R> {
    registers: R,
    queue: Queue,
    start: PhysAddr,
    bytes: u64,
}

impl<R: Registers> VirtioPmem<R> {
    /// Takes a device into use.
    ///
    /// # Errors
    /// [`VirtioError`]. The device is out of use then, if it is sound.
    pub fn new(registers: R, page: QueuePage, now_ns: NowNs) -> Result<Self, VirtioError> {
        let started = set_up::negotiate(&registers, now_ns)
            .and_then(|()| set_up::read_config(&registers))
            .and_then(|config| set_up::start(&registers, page).map(|queue| (config, queue)));
        let ([start, start_high, bytes, bytes_high], queue) = started.inspect_err(|_| set_up::give_up(&registers))?;
        let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Ok(Self { registers, queue, start: PhysAddr(join(start, start_high)), bytes: join(bytes, bytes_high) })
    }

    /// Returns where the device says that its memory begins. Nothing about it has been checked.
    #[must_use]
    pub const fn start(&self) -> PhysAddr {
        self.start
    }

    /// Returns how long the device says that its memory is, in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.bytes
    }
}

impl<R: Registers> Port for VirtioPmem<R> {
    fn submit(&mut self) {
        self.queue.submit(&self.registers, FLUSH);
    }

    fn poll(&mut self) -> Option<Result<(), FenceFault>> {
        let answer = self.queue.poll()?;
        Some(answer.and_then(|status| if status == 0 { Ok(()) } else { Err(FenceFault::Refused { status }) }))
    }

    fn has_stopped(&mut self) -> bool {
        set_up::needs_reset(&self.registers)
    }
}
