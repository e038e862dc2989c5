//! How a device is taken into use: reset, features, one queue (virtio 1.2, 3.1 and 4.1.5).

use super::error::VirtioError;
use super::queue::{Queue, QueuePage, SIZE_MAX};
use super::registers::{Registers, Width};
use super::structure::Structure;
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

/// How often a configuration that changes is read.
const CONFIG_READS: u32 = 16;

fn status(registers: &impl Registers) -> u32 {
    registers.read(Structure::Common, DEVICE_STATUS, Width::Byte)
}

fn set_status(registers: &impl Registers, value: u32) {
    registers.write(Structure::Common, DEVICE_STATUS, Width::Byte, value);
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

/// Resets the device and chooses its features: VERSION_1 and no other.
///
/// # Errors
/// [`VirtioError`].
pub(super) fn negotiate(registers: &impl Registers, now_ns: NowNs) -> Result<(), VirtioError> {
    reset(registers, now_ns)?;
    set_status(registers, ACKNOWLEDGE);
    set_status(registers, ACKNOWLEDGE | DRIVER);
    registers.write(Structure::Common, DEVICE_FEATURE_SELECT, Width::Double, 1);
    let offered = registers.read(Structure::Common, DEVICE_FEATURE, Width::Double);
    if offered & VERSION_1 == 0 {
        return Err(VirtioError::Legacy);
    }
    if offered & ACCESS_PLATFORM != 0 {
        return Err(VirtioError::BehindIommu);
    }
    for (half, chosen) in [(0, 0), (1, VERSION_1)] {
        registers.write(Structure::Common, DRIVER_FEATURE_SELECT, Width::Double, half);
        registers.write(Structure::Common, DRIVER_FEATURE, Width::Double, chosen);
    }
    set_status(registers, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    match status(registers) {
        status if status & NEEDS_RESET != 0 => Err(VirtioError::Stopped),
        status if status & FEATURES_OK == 0 => Err(VirtioError::FeaturesRefused),
        _ => Ok(()),
    }
}

/// Reads double words of the device's own configuration that belong together.
///
/// # Errors
/// [`VirtioError::Unsettled`].
pub(super) fn read_config<const WORDS: usize>(registers: &impl Registers) -> Result<[u32; WORDS], VirtioError> {
    let generation = || registers.read(Structure::Common, CONFIG_GENERATION, Width::Byte);
    for _ in 0..CONFIG_READS {
        let before = generation();
        let mut words = [0; WORDS];
        for (word, at) in words.iter_mut().zip((0..).step_by(4)) {
            *word = registers.read(Structure::Device, at, Width::Double);
        }
        if generation() == before {
            return Ok(words);
        }
    }
    Err(VirtioError::Unsettled)
}

/// Gives the device its queue 0, and starts it.
///
/// # Errors
/// [`VirtioError::NoQueue`], [`VirtioError::Stopped`].
pub(super) fn start(registers: &impl Registers, page: QueuePage) -> Result<Queue, VirtioError> {
    let read = |at| registers.read(Structure::Common, at, Width::Word);
    registers.write(Structure::Common, QUEUE_SELECT, Width::Word, 0);
    // A power of two; a device that names none gets the next smaller one.
    let most = read(QUEUE_SIZE).min(SIZE_MAX.into());
    let size = most.checked_ilog2().and_then(|log| u16::try_from(1_u32 << log).ok()).filter(|size| *size >= 2);
    let size = size.ok_or(VirtioError::NoQueue)?;
    let notify_at = read(QUEUE_NOTIFY_OFF).checked_mul(registers.notify_multiplier()).ok_or(VirtioError::NoQueue)?;
    registers.write(Structure::Common, QUEUE_SIZE, Width::Word, size.into());
    let queue = Queue::new(page, size, notify_at);
    for (register, address) in [QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE].into_iter().zip(queue.addresses()) {
        // Devices need not take 64 bits at once (4.1.3.1).
        let [a, b, c, d, e, f, g, h] = address.0.to_le_bytes();
        registers.write(Structure::Common, register, Width::Double, u32::from_le_bytes([a, b, c, d]));
        registers.write(Structure::Common, register + 4, Width::Double, u32::from_le_bytes([e, f, g, h]));
    }
    registers.write(Structure::Common, QUEUE_ENABLE, Width::Word, 1);
    set_status(registers, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    if needs_reset(registers) { Err(VirtioError::Stopped) } else { Ok(queue) }
}
