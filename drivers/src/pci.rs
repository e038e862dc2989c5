//! PCI: finds functions, reads their base address registers (BARs), and sets MSI-X up.
//!
//! BARs stay where firmware placed them. A device's data are bounded before they are used: the walk visits each bus
//! once, a capability list has at most as many members as fit, and a BAR that is not sound is an error. (`pci_types`
//! gives the addresses and the header's words; its BARs and capability lists trust the device.)
//!
//! Names are those of the PCI Local Bus specification 3.0, chapter 6, and PCI Express Base 5.0, chapter 7.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::ptr::NonNull;

pub use pci_types::PciAddress;
use pci_types::{CommandRegister, ConfigRegionAccess, HeaderType, PciHeader};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;

use crate::phys::{Attribute, MapError, PhysAddr, PhysMap};

/// The value that a read without a function returns.
const ALL_ONES: u32 = u32::MAX;

const BUSES: usize = 256;
const DEVICES: u8 = 32;
const FUNCTIONS: u8 = 8;

/// The most capabilities: the first lies behind the header, and each is a double word at least.
const CAPABILITIES_MAX: usize = (256 - 64) / 4;

/// A capability's id: MSI-X.
const MSIX: u32 = 0x11;

/// Access to configuration space.
pub struct Config(Mechanism);

enum Mechanism {
    /// By memory: a page for each function (PCI Express, 7.2.2).
    Memory { base: NonNull<u8>, segment: u16, first_bus: u8, last_bus: u8 },
    /// By the ports 0xcf8 and 0xcfc: the first 256 bytes of segment 0.
    Ports(RefCell<(Port<u32>, Port<u32>)>),
}

impl Config {
    /// Configuration space by memory, as firmware's MCFG table names it: bus 0's page would lie at `base`.
    ///
    /// # Errors
    /// When it cannot be mapped.
    ///
    /// # Safety
    /// The configuration space of these buses is there, and no other code uses it as long as the result lives. `base` is
    /// a multiple of 1 MiB.
    pub unsafe fn by_memory(
        map: &impl PhysMap,
        base: PhysAddr,
        segment: u16,
        first_bus: u8,
        last_bus: u8,
    ) -> Result<Self, MapError> {
        let buses = u64::from(last_bus.saturating_sub(first_bus)) + 1;
        let skipped = u64::from(first_bus) << 20;
        let at = base.0.checked_add(skipped).ok_or(MapError::BeyondPhysicalWidth { at: base, bytes: skipped })?;
        let base = map.map(PhysAddr(at), buses << 20, Attribute::Uncached)?;
        Ok(Self(Mechanism::Memory { base, segment, first_bus, last_bus }))
    }

    /// Configuration space by ports: on every PC.
    ///
    /// # Safety
    /// The ports 0xcf8 to 0xcff belong to a PCI host bridge or to nothing, and no other code uses them as long as the
    /// result lives.
    #[must_use]
    pub unsafe fn by_ports() -> Self {
        Self(Mechanism::Ports(RefCell::new((Port::new(0xcf8), Port::new(0xcfc)))))
    }

    /// Returns all functions, in the order of their addresses: on the first bus, on those of further host bridges if there
    /// are some, and behind the bridges that firmware has set up.
    ///
    /// Which buses further host bridges have only ACPI's namespace tells: all buses are tried that no bridge leads to.
    #[must_use]
    pub fn functions(&self, has_more_roots: bool) -> Vec<Function> {
        let (segment, root, last) = match &self.0 {
            Mechanism::Memory { segment, first_bus, last_bus, .. } => (*segment, *first_bus, *last_bus),
            Mechanism::Ports(_) => (0, 0, u8::MAX),
        };
        let mut found = Vec::new();
        let mut seen = [false; BUSES];
        let mut waiting = vec![root];
        let mut roots = root..=if has_more_roots { last } else { root };
        // A bus behind a bridge comes before those that are only tried.
        while let Some(bus) = waiting.pop().or_else(|| roots.next()) {
            // A bridge that leads back to a visited bus would make the walk endless.
            if core::mem::replace(&mut seen[usize::from(bus)], true) {
                continue;
            }
            for device in 0..DEVICES {
                for function in 0..FUNCTIONS {
                    let header = PciHeader::new(PciAddress::new(segment, bus, device, function));
                    let (vendor, id) = header.id(self);
                    if vendor == 0xffff {
                        if function == 0 {
                            break;
                        }
                        continue;
                    }
                    found.push(Function { address: header.address(), vendor, device: id });
                    waiting.extend(found.last().and_then(|function| function.secondary_bus(self)));
                    if function == 0 && !header.has_multiple_functions(self) {
                        break;
                    }
                }
            }
        }
        found.sort_by_key(|function| function.address);
        found
    }

    fn read_at(&self, address: PciAddress, offset: u16) -> u32 {
        // SAFETY: any register may be read: one that does not exist reads as all ones.
        unsafe { self.read(address, offset) }
    }

    /// Returns the register, if this mechanism reaches it.
    fn register(&self, address: PciAddress, offset: u16) -> Option<VolatilePtr<'_, u32>> {
        let Mechanism::Memory { base, segment, first_bus, last_bus } = &self.0 else { return None };
        let inside = address.segment() == *segment && (*first_bus..=*last_bus).contains(&address.bus());
        if !inside || offset >= 4096 {
            return None;
        }
        let bus = usize::from(address.bus() - first_bus);
        let function = usize::from(address.device()) << 3 | usize::from(address.function());
        let at = bus << 20 | function << 12 | usize::from(offset & !3);
        // SAFETY: an aligned double word (`base` is aligned, by the promise of `by_memory`'s caller) within the mapping,
        // which has a MiB for each bus.
        Some(unsafe { VolatilePtr::new(base.byte_add(at).cast()) })
    }

    /// Runs `f` on the data port, after the register's address was written to the address port.
    fn ports<T>(&self, address: PciAddress, offset: u16, f: impl FnOnce(&mut Port<u32>) -> T) -> Option<T> {
        let Mechanism::Ports(ports) = &self.0 else { return None };
        if address.segment() != 0 || offset >= 256 {
            return None;
        }
        let [bus, device, function] = [address.bus(), address.device(), address.function()].map(u32::from);
        let (select, data) = &mut *ports.borrow_mut();
        let word = 1 << 31 | bus << 16 | device << 11 | function << 8 | u32::from(offset & !3);
        // SAFETY: the caller of `by_ports` promised that the ports belong to a host bridge. Selecting a register has no
        // effect.
        unsafe { select.write(word) };
        Some(f(data))
    }
}

impl ConfigRegionAccess for Config {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        match &self.0 {
            Mechanism::Memory { .. } => self.register(address, offset).map_or(ALL_ONES, |register| register.read()),
            Mechanism::Ports(_) => {
                // SAFETY: reading the register that was selected has no effect.
                self.ports(address, offset, |data| unsafe { data.read() }).unwrap_or(ALL_ONES)
            }
        }
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        match &self.0 {
            Mechanism::Memory { .. } => {
                if let Some(register) = self.register(address, offset) {
                    register.write(value);
                }
            }
            Mechanism::Ports(_) => {
                // SAFETY: the caller vouches for the effect.
                self.ports(address, offset, |data| unsafe { data.write(value) });
            }
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Mechanism::Memory { .. } => "Config(memory)",
            Mechanism::Ports(_) => "Config(ports)",
        })
    }
}

/// Its mechanism: `by memory`, `by ports`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Mechanism::Memory { .. } => "by memory",
            Mechanism::Ports(_) => "by ports",
        })
    }
}

/// Why a function cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PciError {
    /// A BAR that is needed is not there, not in memory, of no size, or not placed.
    Bar {
        /// Which.
        slot: u8,
    },
    /// The function has no MSI-X capability, or its table does not lie in its BAR.
    NoMsix,
    /// The memory of a BAR cannot be mapped.
    Map(MapError),
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bar { slot } => write!(f, "its BAR {slot} is missing, or firmware has not placed it"),
            Self::NoMsix => write!(f, "it has no MSI-X table"),
            Self::Map(why) => write!(f, "{why}"),
        }
    }
}

impl core::error::Error for PciError {}

impl From<MapError> for PciError {
    fn from(why: MapError) -> Self {
        Self::Map(why)
    }
}

/// A BAR in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Where firmware has placed it.
    pub at: PhysAddr,
    /// How long it is: a power of two.
    pub bytes: u64,
}

/// A function that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its address.
    pub address: PciAddress,
    /// Its vendor's id.
    pub vendor: u16,
    /// Its id among the vendor's devices.
    pub device: u16,
}

impl Function {
    /// Reads a BAR in memory; a 64-bit one by its first slot.
    ///
    /// The size is found by writing all ones, with decoding off: the function must not be in use.
    ///
    /// # Errors
    /// [`PciError::Bar`].
    pub fn bar(&self, config: &Config, slot: u8) -> Result<Bar, PciError> {
        const IO_SPACE: u32 = 1;
        const WIDE: u32 = 0b100;
        const KIND: u32 = 0b110;
        let error = PciError::Bar { slot };
        let mut header = PciHeader::new(self.address);
        if slot > 5 || header.header_type(config) != HeaderType::Endpoint {
            return Err(error);
        }
        let at = 0x10 + 4 * u16::from(slot);
        let low = config.read_at(self.address, at);
        let wide = match low & (KIND | IO_SPACE) {
            0 => false,
            WIDE if slot < 5 => true,
            _ => return Err(error),
        };
        let high = if wide { config.read_at(self.address, at + 4) } else { 0 };
        let decoding = header.command(config);
        header.update_command(config, |command| command - CommandRegister::MEMORY_ENABLE);
        // SAFETY: with decoding off the passing address has no effect; the register gets its old value back.
        let mask = unsafe {
            config.write(self.address, at, u32::MAX);
            let low_mask = config.read_at(self.address, at) & !0xf;
            config.write(self.address, at, low);
            let high_mask = if wide {
                config.write(self.address, at + 4, u32::MAX);
                let mask = config.read_at(self.address, at + 4);
                config.write(self.address, at + 4, high);
                mask
            } else {
                u32::MAX
            };
            u64::from(high_mask) << 32 | u64::from(low_mask)
        };
        header.update_command(config, |_| decoding);
        placed(u64::from(high) << 32 | u64::from(low & !0xf), mask).ok_or(error)
    }

    /// Switches on its decoding of the BARs, and its interrupts.
    pub fn enable(&self, config: &Config) {
        let wanted = CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE;
        PciHeader::new(self.address).update_command(config, |command| command | wanted);
    }

    /// Maps its MSI-X table, all of it masked, and turns MSI-X on.
    ///
    /// # Errors
    /// [`PciError`].
    pub fn msix(&self, config: &Config, map: &impl PhysMap) -> Result<Msix, PciError> {
        let capability = self.capability(config, MSIX).ok_or(PciError::NoMsix)?;
        let control = config.read_at(self.address, capability);
        let vectors = u16::try_from((control >> 16 & 0x7ff) + 1).expect("11 bits and one");
        let place = config.read_at(self.address, capability + 4);
        let slot = u8::try_from(place & 7).expect("three bits");
        let bar = self.bar(config, slot)?;
        let (offset, bytes) = (u64::from(place & !7), u64::from(vectors) * ENTRY_BYTES);
        if offset + bytes > bar.bytes {
            return Err(PciError::NoMsix);
        }
        let at = bar.at.0.checked_add(offset).ok_or(PciError::NoMsix)?;
        let table = map.map(PhysAddr(at), bytes, Attribute::Uncached)?;
        self.enable(config);
        let msix = Msix { table, vectors };
        for vector in 0..vectors {
            msix.word(vector, 3).write(MASKED);
        }
        const ENABLE: u32 = 1 << 31;
        const ALL_MASKED: u32 = 1 << 30;
        // SAFETY: every entry is masked, so no message is sent before the caller has set its address.
        unsafe { config.write(self.address, capability, (control | ENABLE) & !ALL_MASKED) };
        Ok(msix)
    }

    /// Returns the offset of a capability, all three of whose words are in the first 256 bytes.
    fn capability(&self, config: &Config, wanted: u32) -> Option<u16> {
        self.capabilities(config, wanted).next().filter(|at| *at <= 0xf4)
    }

    /// Returns the offsets of all capabilities of a kind, in the list's order.
    pub(crate) fn capabilities<'c>(&self, config: &'c Config, wanted: u32) -> impl Iterator<Item = u16> + Clone + 'c {
        const HAS_CAPABILITIES: u32 = 1 << 20;
        let address = self.address;
        let place = |at: u32| u16::try_from(at & 0xfc).ok().filter(|at| *at >= 0x40);
        let has_any = config.read_at(address, 4) & HAS_CAPABILITIES != 0;
        let first = if has_any { place(config.read_at(address, 0x34)) } else { None };
        let all = core::iter::successors(first, move |at| place(config.read_at(address, *at) >> 8));
        all.take(CAPABILITIES_MAX).filter(move |at| config.read_at(address, *at) & 0xff == wanted)
    }

    /// Returns the bus that it leads to, if it is a bridge.
    #[must_use]
    pub fn secondary_bus(&self, config: &Config) -> Option<u8> {
        let is_bridge = PciHeader::new(self.address).header_type(config) == HeaderType::PciPciBridge;
        let [_, secondary, ..] = config.read_at(self.address, 0x18).to_le_bytes();
        is_bridge.then_some(secondary)
    }

    /// Reads a double word of its configuration space.
    pub(crate) fn word(&self, config: &Config, offset: u16) -> u32 {
        config.read_at(self.address, offset)
    }

    /// Writes a double word of its configuration space.
    ///
    /// # Safety
    /// The caller vouches for the effect.
    pub(crate) unsafe fn set_word(&self, config: &Config, offset: u16, value: u32) {
        // SAFETY: the caller vouches for the effect.
        unsafe { config.write(self.address, offset, value) };
    }
}

/// Returns the BAR that an address and the mask of its settable bits describe; `None` if they are not sound.
fn placed(address: u64, mask: u64) -> Option<Bar> {
    let lowest = mask & mask.wrapping_neg();
    // All bits above the lowest one can be set, in 32 bits or in 64.
    let sound = lowest != 0 && mask == lowest.wrapping_neg();
    let aligned = address != 0 && address & lowest.wrapping_sub(1) == 0 && address.checked_add(lowest).is_some();
    (sound && aligned).then_some(Bar { at: PhysAddr(address), bytes: lowest })
}

/// An entry of an MSI-X table: address, upper address, data, control (PCI 3.0, 6.8.2.6).
const ENTRY_BYTES: u64 = 16;

/// An entry's control: sends nothing.
const MASKED: u32 = 1;

/// A message-signalled interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address that the device writes to.
    pub address: u64,
    /// The value that it writes.
    pub data: u32,
}

/// A function's MSI-X table.
#[derive(Clone, Copy, Debug)]
pub struct Msix {
    table: NonNull<u8>,
    vectors: u16,
}

// SAFETY: the table is mapped for good on every CPU; its words are read and written whole.
unsafe impl Send for Msix {}
// SAFETY: as for Send.
unsafe impl Sync for Msix {}

impl Msix {
    /// Returns how many messages it has room for.
    #[must_use]
    pub const fn vectors(&self) -> u16 {
        self.vectors
    }

    /// Makes a vector send this message. Does nothing for a vector that does not exist.
    ///
    /// # Safety
    /// A message only interrupts: its address is a local APIC's, and the handler of its vector takes it.
    pub unsafe fn send(&self, vector: u16, message: Message) {
        if vector >= self.vectors {
            return;
        }
        // Masked meanwhile (PCI Local Bus Specification 3.0, 6.8.2): none is sent with half of another's address.
        self.word(vector, 3).write(1);
        let [a, b, c, d, e, f, g, h] = message.address.to_le_bytes();
        self.word(vector, 0).write(u32::from_le_bytes([a, b, c, d]));
        self.word(vector, 1).write(u32::from_le_bytes([e, f, g, h]));
        self.word(vector, 2).write(message.data);
        self.word(vector, 3).write(0);
    }

    /// Returns a word of an existing entry.
    fn word(&self, vector: u16, word: usize) -> VolatilePtr<'_, u32> {
        let at = usize::from(vector) * 16 + word * 4;
        // SAFETY: an aligned word of one of the entries, all of which are mapped: the callers keep to `vectors`.
        unsafe { VolatilePtr::new(self.table.byte_add(at).cast()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_where_its_address_says_and_as_long_as_its_mask_says() {
        for (address, mask, bytes) in [
            (0xfebd_0000, 0xffff_ffff_ffff_ff00, 256),
            (0x8_0000_0000, 0xffff_ffff_e000_0000, 512 << 20),
            (0x8_0000_0000, 0xffff_fffc_0000_0000, 16 << 30),
        ] {
            assert_eq!(placed(address, mask), Some(Bar { at: PhysAddr(address), bytes }), "{address:#x} {mask:#x}");
        }
    }

    #[test]
    fn a_bar_that_cannot_be_is_refused() {
        for (address, mask, why) in [
            (0, 0xffff_ffff_ffff_ff00, "not placed"),
            (0xfebd_0000, 0, "not there"),
            (0xfebd_0010, 0xffff_ffff_ffff_ff00, "not aligned"),
            (0xfebd_0000, 0xffff_ffff_ff00_ff00, "bits missing"),
            (1 << 63, 1 << 63, "leaves 64 bits"),
        ] {
            assert_eq!(placed(address, mask), None, "{why}");
        }
    }
}
