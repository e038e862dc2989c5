//! Configuration space: where a function's CXL registers are, its serial number, and the root port above it.

use super::CxlError;
use crate::pci::{Config, Function, PciError};
use crate::phys::{PhysAddr, PhysMap};
use crate::registers::MappedRegisters;

/// The class of a CXL memory device: base 05, sub-class 02, interface 10 (8.1.12).
const MEMORY_DEVICE: u32 = 0x0005_0210;

/// Ids of extended capabilities (PCI Express Base 5.0, 7.9.3, 7.9.6).
const SERIAL_NUMBER: u32 = 0x03;
const DVSEC: u32 = 0x23;

/// The vendor of CXL's DVSECs, and their ids (8.1.1).
const CXL: u32 = 0x1e98;
const DEVICE: u32 = 0;
const REGISTER_LOCATOR: u32 = 8;

/// In the DVSEC of a device: capabilities in the upper half of a double word, then control (8.1.3).
const CAPABLE_OF_MEM: u32 = 1 << 18;
const DEVICE_CONTROL: u16 = 0xc;
const MEM_ENABLE: u32 = 1 << 2;

/// Kinds of blocks that a register locator names (8.1.9).
const COMPONENT_BLOCK: u32 = 1;
const DEVICE_BLOCK: u32 = 3;

/// The bytes of a component's registers; the least and the most of a device's: a mailbox of 1 MiB, and what is before it.
pub const COMPONENT_BYTES: u32 = 1 << 16;
const DEVICE_BYTES_MIN: u32 = 256;
const DEVICE_BYTES_MAX: u32 = 2 << 20;

/// Extended capabilities, each of 8 bytes at least.
const EXTENDED_START: u16 = 0x100;
const EXTENDED_MAX: usize = (4096 - 256) / 8;

/// A capability's id: PCI Express. The type of a port in it, and a link's port number.
const EXPRESS: u32 = 0x10;
const ROOT_PORT: u32 = 4;
const LINK_CAPABILITIES: u16 = 0xc;

/// A block of registers in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    slot: u8,
    offset: u32,
}

/// The contents of a function's extended configuration space that we use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Where the DVSEC of a device is that can be memory.
    device: Option<u16>,
    component_block: Option<Block>,
    device_block: Option<Block>,
    serial: Option<u64>,
}

impl Extended {
    /// Reads a configuration space by double words. A list that leads back, or out, ends.
    pub fn read(word: impl Fn(u16) -> u32) -> Self {
        let mut found = Self::default();
        let place = |at: u32| u16::try_from(at & 0xffc).ok().filter(|at| *at >= EXTENDED_START);
        let next = |at: &u16| Some(word(*at)).filter(|head| *head != u32::MAX).and_then(|head| place(head >> 20));
        for at in core::iter::successors(Some(EXTENDED_START), next).take(EXTENDED_MAX) {
            // What lies past the end of the space reads as all ones.
            let behind = |offset: u16| word(at.saturating_add(offset));
            match word(at) & 0xffff {
                SERIAL_NUMBER => found.serial = Some(u64::from(behind(8)) << 32 | u64::from(behind(4))),
                DVSEC if behind(4) & 0xffff == CXL => match behind(8) & 0xffff {
                    DEVICE if behind(8) & CAPABLE_OF_MEM != 0 => found.device = found.device.or(Some(at)),
                    REGISTER_LOCATOR => found.locate(at, u16::try_from(behind(4) >> 20).unwrap_or(0), &word),
                    _ => {}
                },
                _ => {}
            }
        }
        // Linux takes no serial number for 0, and so do labels.
        found.serial = found.serial.filter(|serial| *serial != 0 && *serial != u64::MAX);
        found
    }

    /// Reads a register locator: pairs of double words behind its head. Of several blocks of one kind the first counts.
    fn locate(&mut self, at: u16, bytes: u16, word: impl Fn(u16) -> u32) {
        let end = at.saturating_add(bytes).min(4096);
        for at in (at.saturating_add(0xc)..).step_by(8).take_while(|at| at.saturating_add(8) <= end) {
            let (low, high) = (word(at), word(at + 4));
            let slot = u8::try_from(low & 0b111).expect("three bits");
            // No BAR of a block that is supported reaches beyond 4 GiB.
            let block = Some(Block { slot, offset: low & 0xffff_0000 }).filter(|_| slot <= 5 && high == 0);
            match low >> 8 & 0xff {
                COMPONENT_BLOCK => self.component_block = self.component_block.or(block),
                DEVICE_BLOCK => self.device_block = self.device_block.or(block),
                _ => {}
            }
        }
    }
}

/// A memory device on PCI, whose registers are mapped.
#[derive(Debug)]
pub struct Endpoint {
    /// A component's registers, with the decoders.
    pub component: MappedRegisters,
    /// The device's, with the mailbox.
    pub device: MappedRegisters,
    /// The serial number, if it has one.
    pub serial: Option<u64>,
}

/// Returns whether a function is a memory device.
#[must_use]
pub fn is_memory_device(config: &Config, function: &Function) -> bool {
    function.word(config, 8) >> 8 == MEMORY_DEVICE
}

impl Endpoint {
    /// Finds and maps a memory device's registers, and lets its memory be used.
    ///
    /// # Errors
    /// [`CxlError`].
    pub fn map(config: &Config, function: &Function, map: &impl PhysMap) -> Result<Self, CxlError> {
        let found = Extended::read(|at| function.word(config, at));
        let dvsec = found.device.ok_or(CxlError::NotMemory)?;
        let block = |what, block: Option<Block>, (bytes_min, bytes_max): (u32, u32)| {
            let missing = CxlError::NoRegisters { what };
            let block = block.ok_or(missing)?;
            let bar = function.bar(config, block.slot)?;
            let left = bar.bytes.checked_sub(u64::from(block.offset)).filter(|left| *left >= bytes_min.into());
            let bytes = u32::try_from(left.ok_or(missing)?.min(u64::from(bytes_max))).expect("the maximum has 32 bits");
            // A sound BAR does not leave 64 bits.
            let at = PhysAddr(bar.at.0 + u64::from(block.offset));
            // SAFETY: the function's own BAR is there, by its address and mask; every function is taken into use once.
            let mapped = unsafe { MappedRegisters::map(map, at, bytes) };
            mapped.map_err(|why| CxlError::Pci(PciError::Map(why)))
        };
        let component = block("component", found.component_block, (COMPONENT_BYTES, COMPONENT_BYTES))?;
        let device = block("device", found.device_block, (DEVICE_BYTES_MIN, DEVICE_BYTES_MAX))?;
        function.enable(config);
        let control = function.word(config, dvsec + DEVICE_CONTROL);
        if control & MEM_ENABLE == 0 {
            // The upper half is its status, where a 1 would clear.
            let wanted = control & 0xffff | MEM_ENABLE;
            // SAFETY: the device takes accesses by CXL.mem from here on; its decoders determine which.
            unsafe { function.set_word(config, dvsec + DEVICE_CONTROL, wanted) };
        }
        if function.word(config, dvsec + DEVICE_CONTROL) & MEM_ENABLE == 0 {
            return Err(CxlError::Locked);
        }
        Ok(Self { component, device, serial: found.serial })
    }
}

/// Returns the number of the root port that a device is right below.
///
/// # Errors
/// [`CxlError::NotBelowRootPort`].
pub fn root_port_above(config: &Config, functions: &[Function], device: &Function) -> Result<u8, CxlError> {
    let leads_there = |bridge: &&Function| bridge.secondary_bus(config) == Some(device.address.bus());
    let above = functions.iter().find(leads_there).ok_or(CxlError::NotBelowRootPort)?;
    let express = above.capabilities(config, EXPRESS).next().ok_or(CxlError::NotBelowRootPort)?;
    if above.word(config, express) >> 20 & 0xf != ROOT_PORT {
        return Err(CxlError::NotBelowRootPort);
    }
    let [.., number] = above.word(config, express + LINK_CAPABILITIES).to_le_bytes();
    Ok(number)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A configuration space: these double words, and all ones behind them.
    struct Space(Vec<u32>);

    impl Space {
        /// QEMU's device: serial number, DVSEC of a device, register locator.
        fn qemu() -> Self {
            let mut words = Vec::from([0; 1024]);
            let mut put = |at: usize, values: &[u32]| words[at / 4..at / 4 + values.len()].copy_from_slice(values);
            put(0x100, &[0x1101_0003 | 0x10 << 20, 0x5566_7788, 0x1122_3344]);
            put(0x110, &[0x1501_0023, 0x03c0_1e98, 0x001e_0000, 0x0002_0002]);
            put(0x150, &[0x0001_0023, 0x0240_1e98, 0x0000_0008, 0x0000_0100, 0, 0x0000_0302, 0]);
            Self(words)
        }

        fn with(mut self, at: usize, value: u32) -> Self {
            self.0[at / 4] = value;
            self
        }

        fn read(&self) -> Extended {
            Extended::read(|at| self.0.get(usize::from(at) / 4).copied().unwrap_or(u32::MAX))
        }
    }

    #[test]
    fn qemus_registers_and_serial_number_are_found() {
        let found = Space::qemu().read();
        let block = |slot| Some(Block { slot, offset: 0 });
        assert_eq!((found.component_block, found.device_block), (block(0), block(2)));
        assert_eq!((found.device, found.serial), (Some(0x110), Some(0x1122_3344_5566_7788)));
    }

    #[test]
    fn what_is_missing_or_of_another_kind_is_not_found() {
        let no_mem = Space::qemu().with(0x118, 0x001a_0000).read();
        assert_eq!((no_mem.device, no_mem.serial.is_some()), (None, true));
        let other_vendor = Space::qemu().with(0x154, 0x0240_8086).read();
        assert_eq!((other_vendor.component_block, other_vendor.device.is_some()), (None, true));
        for (low, high) in [(0x0000_0106, 0), (0x0000_0107, 0), (0x0000_0100, 1), (0x0000_0200, 0)] {
            let found = Space::qemu().with(0x15c, low).with(0x160, high).read();
            assert_eq!((found.component_block, found.device_block.is_some()), (None, true), "{low:#x}");
        }
        // A locator that is too short for its pairs.
        let cut = Space::qemu().with(0x154, 0x0130_1e98).read();
        assert_eq!((cut.component_block, cut.device_block), (None, None));
        for serial in [0, u32::MAX] {
            assert_eq!(Space::qemu().with(0x104, serial).with(0x108, serial).read().serial, None);
        }
        assert_eq!(Space(Vec::new()).read(), Extended::default());
        assert_eq!(Space(Vec::from([0; 1024])).read(), Extended::default());
    }

    #[test]
    fn a_list_that_leads_back_or_out_ends() {
        for next in [0x100, 0x110, 0x150, 0xffc, 0x0fc, 0] {
            let found = Space::qemu().with(0x150, 0x0001_0023 | next << 20).read();
            assert_eq!(found.device, Some(0x110), "{next:#x}");
        }
        // A DVSEC at the end of the space, and one that is as long as its field can say.
        let mut end = Space::qemu().with(0x150, 0xffc1_0023);
        end.0[1023] = 0x0001_0023;
        assert_eq!(end.read().device, Some(0x110));
        let long = Space::qemu().with(0x154, 0xfff0_1e98).read();
        assert_eq!(long.component_block, Some(Block { slot: 0, offset: 0 }));
    }
}
