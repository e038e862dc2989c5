//! A device's registers: the trait that the rest stands on, and those of a device in PCI's memory.

use core::fmt;
use core::ptr::NonNull;

use volatile::VolatilePtr;

use super::capabilities::{Capability, Place, Structures, VENDOR};
use super::error::VirtioError;
use super::structure::Structure;
use crate::pci::{Config, Function, PciError};
use crate::phys::{Attribute, PhysAddr, PhysMap};

/// How wide an access is. Devices need the width of the register; those of 64 bits are written as two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Double,
}

/// A device's registers, in the order in which they are accessed. A register that is not there reads as all ones and
/// takes nothing, as on PCI.
pub trait Registers: fmt::Debug + Send {
    /// Reads a register.
    fn read(&self, structure: Structure, at: u32, width: Width) -> u32;

    /// Writes a register. All earlier stores to memory are visible to the device when it arrives.
    fn write(&self, structure: Structure, at: u32, width: Width, value: u32);

    /// Returns the bytes between two queues' notify registers.
    fn notify_multiplier(&self) -> u32;
}

/// A mapped structure.
#[derive(Debug)]
struct Mapped {
    base: NonNull<u8>,
    bytes: u32,
}

/// The registers of a device on PCI.
#[derive(Debug)]
pub struct PciRegisters {
    common: Mapped,
    notify: Mapped,
    device: Mapped,
    notify_multiplier: u32,
}

// SAFETY: the registers are mapped for good on every CPU; their words are read and written whole.
unsafe impl Send for PciRegisters {}

impl PciRegisters {
    /// Finds and maps a function's registers, and lets it read and write memory.
    ///
    /// # Errors
    /// [`VirtioError`].
    pub fn map(config: &Config, function: &Function, map: &impl PhysMap) -> Result<Self, VirtioError> {
        let words = |at: u16| -> Capability { [0, 4, 8, 12, 16].map(|word| function.word(config, at + word)) };
        let capabilities = function.capabilities(config, VENDOR).filter(|at| *at <= 256 - 16).map(words);
        let found = Structures::find(capabilities)?;
        let structure = |which: Structure, place: Place| {
            let bar = function.bar(config, place.slot)?;
            if u64::from(place.offset) + u64::from(place.bytes) > bar.bytes {
                return Err(VirtioError::NoStructure(which));
            }
            // A sound BAR does not leave 64 bits.
            let at = PhysAddr(bar.at.0 + u64::from(place.offset));
            let base = map.map(at, u64::from(place.bytes), Attribute::Uncached).map_err(PciError::Map)?;
            Ok(Mapped { base, bytes: place.bytes })
        };
        let registers = Self {
            common: structure(Structure::Common, found.common)?,
            notify: structure(Structure::Notify, found.notify)?,
            device: structure(Structure::Device, found.device)?,
            notify_multiplier: found.notify_multiplier,
        };
        function.enable(config);
        Ok(registers)
    }

    /// Returns a register as wide as this integer, if it is there.
    fn at<T>(&self, structure: Structure, at: u32) -> Option<VolatilePtr<'_, T>> {
        let mapped = match structure {
            Structure::Common => &self.common,
            Structure::Notify => &self.notify,
            Structure::Device => &self.device,
        };
        const { assert!(size_of::<T>() <= 4 && align_of::<T>() == size_of::<T>()) };
        let (at, bytes) = (at as usize, size_of::<T>());
        let inside = at.is_multiple_of(bytes) && at + bytes <= mapped.bytes as usize;
        // SAFETY: all bytes of the register are mapped, and it is aligned, as structures begin at multiples of 4. It is read as
        // an integer only (below), so any bytes are a value.
        inside.then(|| unsafe { VolatilePtr::new(mapped.base.byte_add(at).cast()) })
    }
}

impl Registers for PciRegisters {
    fn read(&self, structure: Structure, at: u32, width: Width) -> u32 {
        match width {
            Width::Byte => self.at::<u8>(structure, at).map_or(u8::MAX, |it| it.read()).into(),
            Width::Word => self.at::<u16>(structure, at).map_or(u16::MAX, |it| it.read()).into(),
            Width::Double => self.at::<u32>(structure, at).map_or(u32::MAX, |it| it.read()),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // the register has these bits
    fn write(&self, structure: Structure, at: u32, width: Width, value: u32) {
        match width {
            Width::Byte => self.at::<u8>(structure, at).into_iter().for_each(|it| it.write(value as u8)),
            Width::Word => self.at::<u16>(structure, at).into_iter().for_each(|it| it.write(value as u16)),
            Width::Double => self.at::<u32>(structure, at).into_iter().for_each(|it| it.write(value)),
        }
    }

    fn notify_multiplier(&self) -> u32 {
        self.notify_multiplier
    }
}
