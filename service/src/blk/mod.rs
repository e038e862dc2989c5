//! A virtio block device (VirtIO 1.3, section 5.2): features, configuration, requests, and a queue of them.
//!
//! # Invariants
//! 1. A request is in the used ring only when what it wrote is durable. So every cache mode that a driver may choose is
//!    kept: the device is a writethrough one, and FLUSH has nothing left to do.
//! 2. Every request that has a status byte gets a status, by one match: [`RequestError::virtio_status`].
//! 3. Nothing reaches the back end but whole sectors of the disk.

mod batch;
mod config;
mod execute;
mod features;
mod queue;
mod request;

use core::fmt;

pub use config::{CONFIG_BYTES, WRITEBACK_AT};
pub use execute::{STEP_BYTES, STEP_SECTORS, STEP_UNITS, Served, refuse};
pub use features::Features;
pub use queue::{BlkQueue, Budget, Progress};
pub use request::{Request, RequestKind};

use crate::backend::BackendError;
use crate::virtqueue::ChainFault;

/// The unit in which virtio-blk counts: 512 bytes, whatever the disk's sectors are.
pub const UNIT_BYTES: u32 = 512;

/// The most segments that a driver should send: what fits a queue of 128 beside header and status. A driver that sends
/// more is served up to [`crate::virtqueue::CHAIN_MAX`]. There is no limit to a segment's length: a request may be as
/// large as the disk, and some drivers use no disk that has such a limit (docs/export.md).
pub const SEG_MAX: u32 = 126;

/// The most units of a segment to discard or to zero, and one segment a request: 32 MiB.
pub const ZEROES_UNITS_MAX: u32 = 65536;

/// The most segments in a request to discard or to zero.
pub const ZEROES_SEGMENTS_MAX: u32 = 1;

/// The properties of a disk that do not depend on a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskProperties {
    /// Bytes of a sector: 512 or 4096.
    pub sector_bytes: u32,
    /// How many sectors it has. 0 once it is withdrawn: every request then fails.
    pub sectors: u64,
    /// It takes no writes.
    pub read_only: bool,
    /// It takes DISCARD.
    pub discard: bool,
    /// It takes WRITE_ZEROES.
    pub write_zeroes: bool,
    /// How many queues it may have.
    pub queues: u16,
    /// How many sectors are best written at a time.
    pub run_sectors: u32,
    /// The identification that GET_ID returns.
    pub serial: [u8; 20],
}

impl DiskProperties {
    /// Its size in virtio's units.
    #[must_use]
    pub const fn capacity_units(&self) -> u64 {
        self.sectors.saturating_mul((self.sector_bytes / UNIT_BYTES) as u64)
    }

    /// The features that it offers.
    #[must_use]
    pub fn features(&self) -> Features {
        let mut offered = Features::VERSION_1
            | Features::INDIRECT_DESC
            | Features::EVENT_IDX
            | Features::SEG_MAX
            | Features::BLK_SIZE
            | Features::TOPOLOGY
            | Features::FLUSH
            | Features::CONFIG_WCE
            | Features::MQ;
        offered.set(Features::RO, self.read_only);
        offered.set(Features::DISCARD, self.discard && !self.read_only);
        offered.set(Features::WRITE_ZEROES, self.write_zeroes && !self.read_only);
        offered
    }
}

/// The identification that GET_ID returns for a BTT of that uuid: its first 20 hexadecimal digits, the same after every start.
#[must_use]
pub fn serial(uuid: &uuid::Uuid) -> [u8; 20] {
    let mut text = [0; uuid::fmt::Simple::LENGTH];
    uuid.simple().encode_lower(&mut text);
    let mut serial = [0; 20];
    serial.copy_from_slice(&text[..20]);
    serial
}

/// The driver accepted features that were not offered, or not VERSION_1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeaturesRefused {
    /// The bits that it accepted.
    pub accepted: u64,
}

impl fmt::Display for FeaturesRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted = self.accepted;
        if accepted & Features::VERSION_1.bits() == 0 {
            write!(f, "a legacy driver: the features {accepted:#x} that it accepted lack VERSION_1")
        } else {
            write!(f, "the driver accepted features {accepted:#x}, which were not all offered")
        }
    }
}

impl core::error::Error for FeaturesRefused {}

/// Drivers may not write that part of the configuration space, or not that value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigRefused;

impl fmt::Display for ConfigRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a driver may write only 0 or 1 to the field writeback, and only if it accepted CONFIG_WCE")
    }
}

impl core::error::Error for ConfigRefused {}

/// A disk as one driver has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlkDevice {
    /// The disk.
    pub disk: DiskProperties,
    features: Features,
    writeback: bool,
}

impl BlkDevice {
    /// The device once a driver has accepted these features.
    ///
    /// # Errors
    /// If some were not offered, or VERSION_1 is not among them.
    pub fn new(disk: DiskProperties, accepted: u64) -> Result<Self, FeaturesRefused> {
        let features = Features::from_bits(accepted)
            .filter(|features| disk.features().contains(*features) && features.contains(Features::VERSION_1))
            .ok_or(FeaturesRefused { accepted })?;
        Ok(Self { disk, features, writeback: false })
    }

    /// The features in force.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Whether the driver chose to see a writeback cache. Writes are durable when they are answered all the same.
    #[must_use]
    pub const fn writeback(&self) -> bool {
        self.writeback
    }

    /// The configuration space.
    #[must_use]
    pub fn config(&self) -> [u8; CONFIG_BYTES] {
        config::bytes(&self.disk, self.writeback)
    }

    /// Takes what the driver wrote to the configuration space: the cache mode (5.2.6.1).
    ///
    /// # Errors
    /// If it is anything else; nothing is changed.
    pub fn write_config(&mut self, at: u8, bytes: &[u8]) -> Result<(), ConfigRefused> {
        match bytes {
            [mode @ 0..=1] if at == WRITEBACK_AT && self.features.contains(Features::CONFIG_WCE) => {
                self.writeback = *mode == 1;
                Ok(())
            }
            _ => Err(ConfigRefused),
        }
    }
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// There is no such request, or its feature was not negotiated.
    Unsupported,
    /// A flag that is not known, or not allowed.
    Flags,
    /// It has no whole header, no room, or the wrong length of data.
    Malformed,
    /// It is not about whole sectors, or goes past the end.
    OutOfRange,
    /// More sectors to discard or zero than a request may name.
    TooLarge,
    /// It would write to a read-only disk.
    ReadOnly,
    /// Its buffer can't be served.
    Buffer(ChainFault),
    /// The consumer's memory went away meanwhile.
    Memory,
    /// The back end failed.
    Backend(BackendError),
}

impl RequestError {
    /// The status byte (5.2.6). The one place where errors become statuses.
    #[must_use]
    pub const fn virtio_status(self) -> u8 {
        match self {
            Self::Unsupported | Self::Flags | Self::Backend(BackendError::Unsupported) => STATUS_UNSUPP,
            Self::Malformed
            | Self::OutOfRange
            | Self::TooLarge
            | Self::ReadOnly
            | Self::Buffer(_)
            | Self::Memory
            | Self::Backend(
                BackendError::OutOfRange | BackendError::Media | BackendError::ReadOnly | BackendError::Memory,
            ) => STATUS_IOERR,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("the request is not supported"),
            Self::Flags => f.write_str("the request has a flag that is not known or not allowed"),
            Self::Malformed => f.write_str("the request is malformed"),
            Self::OutOfRange => f.write_str("the request is not about whole sectors of the disk"),
            Self::TooLarge => f.write_str("the request is too large"),
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::Buffer(fault) => fault.fmt(f),
            Self::Memory => f.write_str("the consumer's memory is gone"),
            Self::Backend(why) => why.fmt(f),
        }
    }
}

impl core::error::Error for RequestError {}

/// VIRTIO_BLK_S_OK.
pub const STATUS_OK: u8 = 0;
/// VIRTIO_BLK_S_IOERR.
pub const STATUS_IOERR: u8 = 1;
/// VIRTIO_BLK_S_UNSUPP.
pub const STATUS_UNSUPP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DiskProperties = DiskProperties {
        sector_bytes: 4096,
        sectors: 1000,
        read_only: false,
        discard: true,
        write_zeroes: true,
        queues: 4,
        run_sectors: 32,
        serial: *b"0123456789abcdef0123",
    };

    #[test]
    fn a_driver_gets_only_what_was_offered() {
        let offered = DISK.features().bits();
        assert!(BlkDevice::new(DISK, offered).is_ok());
        assert!(BlkDevice::new(DISK, Features::VERSION_1.bits()).is_ok());
        let ring_packed = 1 << 34;
        let read_only = DiskProperties { read_only: true, ..DISK };
        for (disk, accepted) in [
            (DISK, offered & !Features::VERSION_1.bits()),
            (DISK, offered | ring_packed),
            (DISK, offered | Features::RO.bits()),
            (read_only, offered),
        ] {
            assert_eq!(BlkDevice::new(disk, accepted), Err(FeaturesRefused { accepted }));
        }
    }

    /// VirtIO 1.3, 5.2.5.2: "Devices SHOULD always offer VIRTIO_BLK_F_FLUSH, and MUST offer it if they offer
    /// VIRTIO_BLK_F_CONFIG_WCE."
    #[test]
    fn flush_is_always_offered() {
        for read_only in [false, true] {
            assert!(DiskProperties { read_only, ..DISK }.features().contains(Features::FLUSH));
        }
    }

    /// VirtIO 1.3, 5.2.5.2: "If VIRTIO_BLK_F_CONFIG_WCE is negotiated but VIRTIO_BLK_F_FLUSH is not, the device MUST
    /// initialize writeback to 0." Ours always does: it is a writethrough device.
    #[test]
    fn the_cache_is_writethrough_until_the_driver_asks_for_another() {
        let mut device = BlkDevice::new(DISK, DISK.features().bits()).expect("offered");
        let field = |device: &BlkDevice| device.config()[usize::from(WRITEBACK_AT)];
        assert_eq!(field(&device), 0);
        device.write_config(WRITEBACK_AT, &[1]).expect("allowed");
        assert_eq!(field(&device), 1);
        device.write_config(WRITEBACK_AT, &[0]).expect("allowed");
        assert_eq!(field(&device), 0);
    }

    #[test]
    fn nothing_but_the_cache_mode_can_be_written_to_the_configuration() {
        let before = BlkDevice::new(DISK, DISK.features().bits()).expect("offered");
        let mut device = before;
        for (at, bytes) in [(0, &[0; 8][..]), (32, &[2]), (32, &[1, 1]), (32, &[]), (33, &[1]), (255, &[1])] {
            assert_eq!(device.write_config(at, bytes), Err(ConfigRefused));
        }
        assert_eq!(device, before);
        let mut without = BlkDevice::new(DISK, Features::VERSION_1.bits()).expect("offered");
        assert_eq!(without.write_config(WRITEBACK_AT, &[1]), Err(ConfigRefused));
    }

    #[test]
    fn the_serial_is_the_beginning_of_the_uuid() {
        let uuid = uuid::uuid!("01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(&serial(&uuid), b"0123456789abcdef0123");
    }
}
