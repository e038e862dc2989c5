//! The fixed ACPI description table (FADT, 5.2.9): the registers that turn the machine off, restart it, and tell time.

use super::{Table, TableFault};

/// A register's place (generic address structure, 5.2.3.2), of the two kinds that we can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// An I/O port.
    Port(u16),
    /// A physical address.
    Memory(u64),
}

/// The power management timer: 3.579545 MHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// Its port.
    pub port: u16,
    /// It counts in 32 bits, not in 24.
    pub wide: bool,
}

/// The write that restarts the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Where.
    pub register: Register,
    /// What.
    pub value: u8,
}

/// The contents of the table that we use. A register that is absent, or in a place that we cannot reach, is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fadt {
    /// Where the differentiated description table (DSDT) lies.
    pub dsdt: Option<u64>,
    /// The port and the byte that hand power management over to us.
    pub enable: Option<(u16, u8)>,
    /// PM1a control.
    pub pm1a_control: Option<u16>,
    /// PM1b control.
    pub pm1b_control: Option<u16>,
    /// The timer.
    pub timer: Option<PmTimer>,
    /// How to restart.
    pub reset: Option<Reset>,
    /// Without ACPI's fixed hardware (4.1): PM1 registers mean nothing.
    pub hardware_reduced: bool,
    /// The sleep control register of a hardware-reduced machine, which has no PM1 registers.
    pub sleep_control: Option<Register>,
}

const TIMER_IS_WIDE: u32 = 1 << 8;
const RESET_SUPPORTED: u32 = 1 << 10;
const HARDWARE_REDUCED: u32 = 1 << 20;

impl Fadt {
    /// Returns whether there is a register that turns the machine off.
    #[must_use]
    pub const fn turns_off(&self) -> bool {
        self.sleep_control.is_some() || self.pm1a_control.is_some()
    }

    /// Reads the table. Fields behind the end of an older revision's table count as absent.
    ///
    /// # Errors
    /// [`TableFault::TooShort`] when not even ACPI 1.0's fields are there.
    pub fn read(table: &Table<'_>) -> Result<Self, TableFault> {
        let flags = table.u32(112)?;
        let timer_port = register(table, 208).or(port(table.u32(76)?));
        let timer = match timer_port {
            Some(Register::Port(port)) if table.u8(91)? == 4 => {
                Some(PmTimer { port, wide: flags & TIMER_IS_WIDE != 0 })
            }
            _ => None,
        };
        let reset = match (register(table, 116), table.u8(128)) {
            (Some(register), Ok(value)) if flags & RESET_SUPPORTED != 0 => Some(Reset { register, value }),
            _ => None,
        };
        let smi = port(table.u32(48)?).zip(Some(table.u8(52)?).filter(|value| *value != 0));
        let enable = match smi {
            Some((Register::Port(port), value)) => Some((port, value)),
            _ => None,
        };
        let hardware_reduced = flags & HARDWARE_REDUCED != 0;
        let fixed = |port: Option<u16>| port.filter(|_| !hardware_reduced);
        let dsdt = table.u64(140).ok().filter(|at| *at != 0);
        Ok(Self {
            dsdt: dsdt.or(Some(u64::from(table.u32(40)?)).filter(|at| *at != 0)),
            enable,
            pm1a_control: fixed(control(table, 172, 64)?),
            pm1b_control: fixed(control(table, 184, 68)?),
            timer,
            reset,
            hardware_reduced,
            sleep_control: register(table, 244).filter(|_| hardware_reduced),
        })
    }
}

/// Returns a PM1 control port: of the extended field if there is one, else of the old one.
fn control(table: &Table<'_>, extended: usize, old: usize) -> Result<Option<u16>, TableFault> {
    match register(table, extended).or(port(table.u32(old)?)) {
        Some(Register::Port(port)) => Ok(Some(port)),
        _ => Ok(None),
    }
}

fn port(number: u32) -> Option<Register> {
    u16::try_from(number).ok().filter(|port| *port != 0).map(Register::Port)
}

/// Reads a generic address structure: space, width, offset, access size, address.
fn register(table: &Table<'_>, at: usize) -> Option<Register> {
    let address = table.u64(at + 4).ok().filter(|address| *address != 0)?;
    match table.u8(at).ok()? {
        0 => Some(Register::Memory(address)),
        1 => u16::try_from(address).ok().map(Register::Port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::tables::tests::table;

    /// QEMU's q35, in the fields that count.
    fn body(length: usize) -> Vec<u8> {
        let mut bytes = [0_u8; 276];
        bytes[40..44].copy_from_slice(&0x0ffe_0040_u32.to_le_bytes());
        bytes[48..52].copy_from_slice(&0xb2_u32.to_le_bytes());
        bytes[52] = 2;
        bytes[64..68].copy_from_slice(&0x604_u32.to_le_bytes());
        bytes[76..80].copy_from_slice(&0x608_u32.to_le_bytes());
        bytes[91] = 4;
        bytes[112..116].copy_from_slice(&(RESET_SUPPORTED | TIMER_IS_WIDE).to_le_bytes());
        bytes[116..120].copy_from_slice(&[1, 8, 0, 0]);
        bytes[120..128].copy_from_slice(&0xcf9_u64.to_le_bytes());
        bytes[128] = 0xf;
        bytes[140..148].copy_from_slice(&0x1_0ffe_0040_u64.to_le_bytes());
        bytes[208..212].copy_from_slice(&[1, 32, 0, 0]);
        bytes[212..220].copy_from_slice(&0x708_u64.to_le_bytes());
        bytes[36..length].to_vec()
    }

    fn read(body: &[u8]) -> Result<Fadt, TableFault> {
        let bytes = table(*b"FACP", body);
        Fadt::read(&Table::check(&bytes).expect("sound"))
    }

    #[test]
    fn a_new_table_is_read_with_its_extended_fields() {
        let found = read(&body(276)).expect("read");
        assert_eq!(found.dsdt, Some(0x1_0ffe_0040));
        assert_eq!(found.enable, Some((0xb2, 2)));
        assert_eq!((found.pm1a_control, found.pm1b_control), (Some(0x604), None));
        assert_eq!(found.timer, Some(PmTimer { port: 0x708, wide: true }));
        assert_eq!(found.reset, Some(Reset { register: Register::Port(0xcf9), value: 0xf }));
        assert_eq!(found.sleep_control, None);
    }

    #[test]
    fn an_old_table_is_read_without_them() {
        let found = read(&body(116)).expect("read");
        assert_eq!(found.dsdt, Some(0x0ffe_0040));
        assert_eq!(found.timer, Some(PmTimer { port: 0x608, wide: true }));
        assert_eq!(found.reset, None);
    }

    #[test]
    fn a_hardware_reduced_machine_has_a_sleep_register_or_none_and_no_pm1() {
        // Cloud Hypervisor's, whose sleep and reset registers are one port.
        let mut bytes = body(276);
        let flags = HARDWARE_REDUCED | RESET_SUPPORTED | TIMER_IS_WIDE;
        bytes[112 - 36..116 - 36].copy_from_slice(&flags.to_le_bytes());
        bytes[244 - 36..248 - 36].copy_from_slice(&[1, 8, 0, 1]);
        bytes[248 - 36..256 - 36].copy_from_slice(&0x600_u64.to_le_bytes());
        let found = read(&bytes).expect("read");
        assert_eq!((found.pm1a_control, found.hardware_reduced, found.turns_off()), (None, true, true));
        assert_eq!(found.sleep_control, Some(Register::Port(0x600)));
        // Firecracker's has neither.
        bytes[248 - 36..256 - 36].fill(0);
        let found = read(&bytes).expect("read");
        assert_eq!((found.sleep_control, found.hardware_reduced, found.turns_off()), (None, true, false));
        assert!(read(&body(276)).is_ok_and(|fadt| fadt.turns_off() && !fadt.hardware_reduced));
    }

    #[test]
    fn a_table_that_ends_before_its_flags_is_refused() {
        assert_eq!(read(&body(100)), Err(TableFault::TooShort { at: 112 }));
    }
}
