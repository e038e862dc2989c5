//! The CXL early discovery table (CEDT; CXL 3.0, 9.17.1): host bridges' registers, and windows of the address space behind
//! which their devices' memory can be.
//!
//! Only what one device of one host bridge needs is told apart: [`Cedt::one_way`]. All else is named, and refused.

use alloc::vec::Vec;
use core::fmt;

use super::{HEADER_BYTES, Table, TableFault};

/// The registers of a CXL host bridge (CHBS, 9.17.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostBridge {
    /// Its `_UID` in ACPI's namespace, by which windows name it.
    pub uid: u32,
    /// Whether its registers are a component's (CXL 2.0), and not those of a CXL 1.1 port.
    pub has_component_registers: bool,
    /// Where its registers are.
    pub base: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// A window of the address space (CFMWS, 9.17.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first physical address.
    pub base: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Among how many host bridges it is interleaved; `None` for a code without a meaning.
    pub ways: Option<u8>,
    /// What may be behind it: type-3 devices, persistent memory and others; and whether it is fixed.
    pub restrictions: u16,
    /// The host bridges, by their `_UID`.
    pub targets: Vec<u32>,
}

/// A restriction of a window: devices of type 3, which are memory alone, may be behind it.
const TYPE_3: u16 = 1 << 1;

/// A restriction of a window: persistent memory may be behind it.
const PERSISTENT: u16 = 1 << 3;

/// A restriction of a window: its configuration is fixed.
const FIXED: u16 = 1 << 4;

impl Window {
    /// Returns whether firmware alone chooses which device's memory is behind it.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.restrictions & FIXED != 0
    }
}

/// The contents of the table that we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cedt {
    /// Host bridges, in the table's order.
    pub bridges: Vec<HostBridge>,
    /// Windows, in the table's order.
    pub windows: Vec<Window>,
    /// Where a structure is broken: it and all behind it are ignored.
    pub broken_at: Option<usize>,
}

/// More host bridges, and more windows, than any machine has: further ones are ignored.
const MAX_STRUCTURES: usize = 64;

const HOST_BRIDGE: u8 = 0;
const WINDOW: u8 = 1;

/// A structure's type, a reserved byte, its length.
const STRUCTURE_HEADER_BYTES: usize = 4;

/// Where a window's targets begin.
const TARGETS: usize = 36;

/// A host bridge's version: its registers are a component's.
const CXL_2: u32 = 1;

/// Why no persistent memory of CXL devices is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoWindow {
    /// No host bridge is described.
    NoHostBridge,
    /// More than one is: which one a device is behind only ACPI's namespace tells.
    SeveralHostBridges(usize),
    /// The host bridge is one of CXL 1.1.
    OldHostBridge,
    /// No window may have persistent memory of type 3 behind it.
    NonePersistent,
    /// All windows that may are interleaved among host bridges.
    Interleaved,
    /// All windows that may lead to a host bridge that is not described.
    ElsewhereTo(u32),
}

impl fmt::Display for NoWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHostBridge => write!(f, "the CEDT describes no host bridge"),
            Self::SeveralHostBridges(count) => {
                write!(f, "the CEDT describes {count} host bridges: only one is supported")
            }
            Self::OldHostBridge => write!(f, "the host bridge is one of CXL 1.1: only CXL 2.0 is supported"),
            Self::NonePersistent => write!(f, "no window of the CEDT is for persistent memory"),
            Self::Interleaved => {
                write!(f, "the windows for persistent memory are interleaved among host bridges: that is not supported")
            }
            Self::ElsewhereTo(uid) => {
                write!(
                    f,
                    "the windows for persistent memory lead to host bridge {uid}, which the CEDT does not describe"
                )
            }
        }
    }
}

impl core::error::Error for NoWindow {}

impl Cedt {
    /// Reads the table up to the first structure that is broken.
    #[must_use]
    pub fn read(table: &Table<'_>) -> Self {
        let mut cedt = Self::default();
        let end = table.bytes().len();
        let mut at = HEADER_BYTES;
        while at < end {
            match cedt.structure(table, at) {
                Ok(bytes) => at += bytes,
                Err(_) => {
                    cedt.broken_at = Some(at);
                    break;
                }
            }
        }
        cedt
    }

    /// Takes the structure at an offset, and returns its length, which is not 0.
    fn structure(&mut self, table: &Table<'_>, at: usize) -> Result<usize, TableFault> {
        let kind = table.u8(at)?;
        let bytes = usize::from(table.u16(at + 2)?);
        let broken = TableFault::TooShort { at };
        if bytes < STRUCTURE_HEADER_BYTES || at + bytes > table.bytes().len() {
            return Err(broken);
        }
        match kind {
            HOST_BRIDGE if bytes < 32 => return Err(broken),
            HOST_BRIDGE if self.bridges.len() < MAX_STRUCTURES => self.bridges.push(HostBridge {
                uid: table.u32(at + 4)?,
                has_component_registers: table.u32(at + 8)? == CXL_2,
                base: table.u64(at + 16)?,
                bytes: table.u64(at + 24)?,
            }),
            WINDOW if bytes < TARGETS => return Err(broken),
            WINDOW if self.windows.len() < MAX_STRUCTURES => {
                let ways = ways(table.u8(at + 24)?);
                let room = (bytes - TARGETS) / 4;
                if ways.is_some_and(|ways| usize::from(ways) > room) {
                    return Err(broken);
                }
                let targets = (0..usize::from(ways.unwrap_or(0))).map(|n| table.u32(at + TARGETS + 4 * n));
                self.windows.push(Window {
                    base: table.u64(at + 8)?,
                    bytes: table.u64(at + 16)?,
                    ways,
                    restrictions: table.u16(at + 32)?,
                    targets: targets.collect::<Result<_, _>>()?,
                });
            }
            _ => {}
        }
        Ok(bytes)
    }

    /// Returns the only host bridge, and the windows that lead to it alone and may have persistent memory behind them.
    ///
    /// # Errors
    /// [`NoWindow`].
    pub fn one_way(&self) -> Result<(HostBridge, Vec<&Window>), NoWindow> {
        let bridge = match self.bridges[..] {
            [] => return Err(NoWindow::NoHostBridge),
            [bridge] if bridge.has_component_registers => bridge,
            [_] => return Err(NoWindow::OldHostBridge),
            _ => return Err(NoWindow::SeveralHostBridges(self.bridges.len())),
        };
        let wanted = TYPE_3 | PERSISTENT;
        let persistent = || self.windows.iter().filter(|window| window.restrictions & wanted == wanted);
        let straight = || persistent().filter(|window| window.ways == Some(1));
        let found: Vec<&Window> = straight().filter(|window| window.targets == [bridge.uid]).collect();
        match (found.is_empty(), straight().next(), persistent().next()) {
            (false, ..) => Ok((bridge, found)),
            (_, Some(other), _) => Err(NoWindow::ElsewhereTo(other.targets.first().copied().unwrap_or_default())),
            (_, _, Some(_)) => Err(NoWindow::Interleaved),
            _ => Err(NoWindow::NonePersistent),
        }
    }
}

/// Returns the number of ways that a code stands for (CXL 3.0, 8.2.4.19.7).
const fn ways(code: u8) -> Option<u8> {
    match code {
        0..=4 => Some(1 << code),
        8..=10 => Some(3 << (code - 8)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::tables::tests::table;

    /// QEMU's: one host bridge.
    fn bridge(uid: u32, version: u32) -> Vec<u8> {
        let mut bytes = vec![HOST_BRIDGE, 0, 32, 0];
        bytes.extend([uid, version, 0].iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend([0x3_c000_0000_u64, 0x1_0000].iter().flat_map(|wide| wide.to_le_bytes()));
        bytes
    }

    fn window(code: u8, restrictions: u16, targets: &[u32]) -> Vec<u8> {
        let length = u8::try_from(TARGETS + 4 * targets.len()).expect("short");
        let mut bytes = vec![WINDOW, 0, length, 0, 0, 0, 0, 0];
        bytes.extend([0x3_d000_0000_u64, 1 << 30].iter().flat_map(|wide| wide.to_le_bytes()));
        bytes.extend([code, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(restrictions.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(targets.iter().flat_map(|target| target.to_le_bytes()));
        bytes
    }

    fn read(structures: &[Vec<u8>]) -> Cedt {
        let bytes = table(*b"CEDT", &structures.concat());
        Cedt::read(&Table::check(&bytes).expect("sound"))
    }

    #[test]
    fn qemus_host_bridge_and_window_are_found() {
        // A structure of another kind stands between them.
        let cedt = read(&[bridge(12, 1), vec![3, 0, 8, 0, 1, 2, 3, 4], window(0, 0xf, &[12])]);
        assert_eq!(cedt.broken_at, None);
        let (found, windows) = cedt.one_way().expect("it is served");
        assert_eq!((found.uid, found.base, found.bytes), (12, 0x3_c000_0000, 0x1_0000));
        let [only] = windows[..] else { panic!("one window") };
        assert_eq!((only.base, only.bytes, only.ways, only.is_fixed()), (0x3_d000_0000, 1 << 30, Some(1), false));
        let fixed = read(&[bridge(12, 1), window(0, 0x1f, &[12])]);
        assert!(fixed.one_way().expect("it is served").1[0].is_fixed());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let one = || bridge(12, 1);
        for (structures, why) in [
            (vec![], NoWindow::NoHostBridge),
            (vec![one(), bridge(13, 1), window(0, 0xf, &[12])], NoWindow::SeveralHostBridges(2)),
            (vec![bridge(12, 0), window(0, 0xf, &[12])], NoWindow::OldHostBridge),
            (vec![one()], NoWindow::NonePersistent),
            (vec![one(), window(0, 0b0110, &[12])], NoWindow::NonePersistent),
            (vec![one(), window(0, 0b1001, &[12])], NoWindow::NonePersistent),
            (vec![one(), window(1, 0xf, &[12, 13])], NoWindow::Interleaved),
            (vec![one(), window(8, 0xf, &[12, 12, 12])], NoWindow::Interleaved),
            (vec![one(), window(7, 0xf, &[12])], NoWindow::Interleaved),
            (vec![one(), window(0, 0xf, &[13])], NoWindow::ElsewhereTo(13)),
        ] {
            assert_eq!(read(&structures).one_way(), Err(why), "{structures:x?}");
        }
        // Others beside it do not matter.
        let beside = read(&[window(1, 0xf, &[12, 13]), window(0, 0b0110, &[12]), one(), window(0, 0b1010, &[12])]);
        assert_eq!(beside.one_way().expect("it is served").1.len(), 1);
    }

    #[test]
    fn a_broken_structure_ends_the_walk_and_what_came_before_counts() {
        let whole = [bridge(12, 1), window(0, 0xf, &[12])];
        for (length, behind) in [(0, 0), (3, 0), (4, 0), (39, 0), (41, 0), (255, 0), (40, 1), (40, 3)] {
            let mut structures = whole.to_vec();
            structures[1][2] = length;
            structures.push(vec![WINDOW; behind]);
            let cedt = read(&structures);
            assert_eq!(cedt.bridges.len(), 1, "{length}");
            assert_eq!(cedt.windows.len(), usize::from(behind > 0), "{length}");
            let expected = HEADER_BYTES + 32 + if behind > 0 { 40 } else { 0 };
            assert_eq!(cedt.broken_at, Some(expected), "{length}");
        }
        // More ways than there are targets.
        assert_eq!(read(&[window(2, 0xf, &[12, 12, 12])]).broken_at, Some(HEADER_BYTES));
        let many = vec![bridge(1, 1); 300];
        assert_eq!(read(&many).bridges.len(), MAX_STRUCTURES);
    }
}
