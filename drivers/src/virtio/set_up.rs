//! How a device is taken into use: reset, features, queues (virtio 1.2, 3.1 and 4.1.5).

use super::error::VirtioError;
use super::queue::{self, Queue};
use super::registers::{Registers, Width};
use super::structure::Structure;
use crate::dma::DmaPage;
use crate::flush::NowNs;

// Registers of the common structure (4.1.4.3).
const DEVICE_FEATURE_SELECT: u32 = 0;
const DEVICE_FEATURE: u32 = 4;
const DRIVER_FEATURE_SELECT: u32 = 8;
const DRIVER_FEATURE: u32 = 12;
const DEVICE_STATUS: u32 = 20;
const CONFIG_GENERATION: u32 = 21;
const QUEUE_SELECT: u32 = 22;
const QUEUE_SIZE: u32 = 24;
const QUEUE_MSIX_VECTOR: u32 = 26;
const QUEUE_ENABLE: u32 = 28;
const QUEUE_NOTIFY_OFF: u32 = 30;
const QUEUE_DESC: u32 = 32;
const QUEUE_DRIVER: u32 = 40;
const QUEUE_DEVICE: u32 = 48;

// Bits of the device's status (2.1).
const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const NEEDS_RESET: u32 = 64;

// Features, from 32 on (6).
const VERSION_1: u32 = 1;
const ACCESS_PLATFORM: u32 = 2;

/// The longest time that a reset may take.
const RESET_NS: u64 = 1_000_000_000;

/// What a vector's register reads when the device has taken none (4.1.5.1.3).
const NO_VECTOR: u32 = 0xffff;

/// What a register that is not there reads.
const NOT_THERE: u32 = 0xff;

/// How often a configuration that changes is read.
const CONFIG_READS: u32 = 16;

fn status(registers: &impl Registers) -> u32 {
    registers.read(Structure::Common, DEVICE_STATUS, Width::Byte)
}

fn set_status(registers: &impl Registers, value: u32) {
    registers.write(Structure::Common, DEVICE_STATUS, Width::Byte, value);
}

/// Returns whether the device's registers are gone: a status has no such bits.
pub(super) fn is_gone(registers: &impl Registers) -> bool {
    status(registers) == NOT_THERE
}

/// Returns whether the device has stopped, and is good for nothing before a reset.
pub(super) fn needs_reset(registers: &impl Registers) -> bool {
    status(registers) & NEEDS_RESET != 0
}

/// Resets the device: it touches no memory of ours any more, if it is sound.
///
/// # Errors
/// [`VirtioError::NoReset`].
fn reset(registers: &impl Registers, now_ns: NowNs) -> Result<(), VirtioError> {
    set_status(registers, 0);
    let began = now_ns();
    while status(registers) != 0 {
        if now_ns().saturating_sub(began) > RESET_NS {
            return Err(VirtioError::NoReset);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// Takes a device out of use that could not be taken into use, without a wait.
pub(super) fn give_up(registers: &impl Registers) {
    set_status(registers, 0);
}

/// Resets the device and chooses its features: VERSION_1, and those of `wanted` that it offers. Returns the latter. They are
/// features 0 to 31.
///
/// # Errors
/// [`VirtioError`].
pub(super) fn negotiate(registers: &impl Registers, wanted: u32, now_ns: NowNs) -> Result<u32, VirtioError> {
    reset(registers, now_ns)?;
    set_status(registers, ACKNOWLEDGE);
    set_status(registers, ACKNOWLEDGE | DRIVER);
    let offered = |half| {
        registers.write(Structure::Common, DEVICE_FEATURE_SELECT, Width::Double, half);
        registers.read(Structure::Common, DEVICE_FEATURE, Width::Double)
    };
    let high = offered(1);
    if high & VERSION_1 == 0 {
        return Err(VirtioError::Legacy);
    }
    if high & ACCESS_PLATFORM != 0 {
        return Err(VirtioError::BehindIommu);
    }
    let low = offered(0) & wanted;
    for (half, chosen) in [(0, low), (1, VERSION_1)] {
        registers.write(Structure::Common, DRIVER_FEATURE_SELECT, Width::Double, half);
        registers.write(Structure::Common, DRIVER_FEATURE, Width::Double, chosen);
    }
    set_status(registers, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    match status(registers) {
        status if status & NEEDS_RESET != 0 => Err(VirtioError::Stopped),
        status if status & FEATURES_OK == 0 => Err(VirtioError::FeaturesRefused),
        _ => Ok(low),
    }
}

/// Reads what belongs together of the device's own configuration: again, when it changes meanwhile.
///
/// # Errors
/// [`VirtioError::Unsettled`].
pub(super) fn read_config<T>(registers: &impl Registers, read: impl Fn() -> T) -> Result<T, VirtioError> {
    let generation = || registers.read(Structure::Common, CONFIG_GENERATION, Width::Byte);
    for _ in 0..CONFIG_READS {
        let before = generation();
        let read = read();
        if generation() == before {
            return Ok(read);
        }
    }
    Err(VirtioError::Unsettled)
}

/// A queue that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Which of the device's.
    pub(super) number: u16,
    /// The fewest descriptors that it is good for anything with.
    pub(super) size_min: u16,
    /// The most that are used, up to what a queue's page has room for.
    pub(super) size_max: u16,
    /// The message that it sends, if it is to send one.
    pub(super) vector: Option<u16>,
}

/// Gives the device a queue, before it is started.
///
/// # Errors
/// [`VirtioError::NoQueue`], [`VirtioError::NoVector`].
pub(super) fn add_queue(registers: &impl Registers, page: DmaPage, wanted: Wanted) -> Result<Queue, VirtioError> {
    let read = |at| registers.read(Structure::Common, at, Width::Word);
    registers.write(Structure::Common, QUEUE_SELECT, Width::Word, wanted.number.into());
    // A power of two; a device that names none gets the next smaller one.
    let most = read(QUEUE_SIZE).min(wanted.size_max.min(queue::SIZE_MAX).into());
    let size = most.checked_ilog2().and_then(|log| u16::try_from(1_u32 << log).ok());
    let size = size.filter(|size| *size >= wanted.size_min).ok_or(VirtioError::NoQueue)?;
    let notify_at = read(QUEUE_NOTIFY_OFF).checked_mul(registers.notify_multiplier()).ok_or(VirtioError::NoQueue)?;
    registers.write(Structure::Common, QUEUE_SIZE, Width::Word, size.into());
    if let Some(vector) = wanted.vector {
        registers.write(Structure::Common, QUEUE_MSIX_VECTOR, Width::Word, vector.into());
        if read(QUEUE_MSIX_VECTOR) == NO_VECTOR {
            return Err(VirtioError::NoVector);
        }
    }
    let queue = Queue::new(page, wanted.number, size, notify_at);
    for (register, address) in [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].into_iter().zip(queue.addresses()) {
        // Devices need not take 64 bits at once (4.1.3.1).
        let [a, b, c, d, e, f, g, h] = address.0.to_le_bytes();
        registers.write(Structure::Common, register, Width::Double, u32::from_le_bytes([a, b, c, d]));
        registers.write(Structure::Common, register + 4, Width::Double, u32::from_le_bytes([e, f, g, h]));
    }
    registers.write(Structure::Common, QUEUE_ENABLE, Width::Word, 1);
    Ok(queue)
}

/// Starts the device, which has all its queues.
///
/// # Errors
/// [`VirtioError::Stopped`].
pub(super) fn start(registers: &impl Registers) -> Result<(), VirtioError> {
    set_status(registers, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    if needs_reset(registers) { Err(VirtioError::Stopped) } else { Ok(()) }
}
