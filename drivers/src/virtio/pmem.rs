//! virtio-pmem: a range of the machine's memory that a file on the host stands behind (virtio 1.2, 5.19).
//!
//! Loads and stores go to the range itself, which is no BAR: the configuration says where it is. A FLUSH through queue 0
//! makes all stores durable that were made before it; nothing else does, and without one any page may persist at any
//! time. Feature SHMEM_REGION, by which the range would be in a BAR, is not taken.

use btt::media::FenceFault;
use service::memory::MemoryOffset;

use super::error::VirtioError;
use super::queue::{Misuse, OWN, Piece, Queue};
use super::registers::{Registers, Width};
use super::set_up::{self, Wanted};
use super::structure::Structure;
use crate::dma::DmaPage;
use crate::flush::{NowNs, Port};
use crate::pci::Function;
use crate::phys::PhysAddr;

/// The vendor, and the id of a modern device of kind 27.
const ID: (u16, u16) = (0x1af4, 0x1040 + 27);

/// A request: flush (5.19.6). An answer of 0 is success.
const FLUSH: u32 = 0;

/// Its queue: one request at a time, of two descriptors, the first of which stands for the whole.
const QUEUE: Wanted = Wanted { number: 0, size_min: 2, size_max: 8, vector: None };
const HEAD: u16 = 0;

/// Where in the queue's page the request is, and its answer: 4 bytes each, in lines of their own.
const REQUEST: MemoryOffset = OWN;
const ANSWER: MemoryOffset = OWN.plus(64);

/// What stands in the answer before the device writes it. No answer of theirs, and none that counts as success.
const NO_ANSWER: u32 = u32::MAX;

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
    pub fn new(registers: R, page: DmaPage, now_ns: NowNs) -> Result<Self, VirtioError> {
        let double = |at| registers.read(Structure::Device, at, Width::Double);
        let started = set_up::negotiate(&registers, 0, now_ns)
            .and_then(|_| set_up::read_config(&registers, || [0, 4, 8, 12].map(double)))
            .and_then(|config| set_up::add_queue(&registers, page, QUEUE).map(|queue| (config, queue)))
            .and_then(|started| set_up::start(&registers).map(|()| started));
        let ([start, start_high, bytes, bytes_high], queue) = started.inspect_err(|_| set_up::give_up(&registers))?;
        let piece = |at, device_writes| Piece { at: queue.page().physical(at), bytes: 4, device_writes };
        queue.describe(HEAD, piece(REQUEST, false), Some(1));
        queue.describe(1, piece(ANSWER, true), None);
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
        let page = self.queue.page();
        page.write(REQUEST, &FLUSH.to_le_bytes());
        page.write(ANSWER, &NO_ANSWER.to_le_bytes());
        self.queue.offer(HEAD);
        self.queue.publish(&self.registers);
    }

    fn poll(&mut self) -> Option<Result<(), FenceFault>> {
        match self.queue.take() {
            Ok(None) => None,
            Ok(Some(_)) => match self.queue.page().double(ANSWER) {
                0 => Some(Ok(())),
                status => Some(Err(FenceFault::Refused { status })),
            },
            Err(Misuse) => Some(Err(FenceFault::Nonsense)),
        }
    }

    fn has_stopped(&mut self) -> bool {
        set_up::needs_reset(&self.registers)
    }
}
