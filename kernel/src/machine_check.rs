//! Judges a machine check: whether the CPU can go on, and which bytes are lost.
//!
//! Source: Intel SDM volume 3B, chapter 16 (machine-check architecture): 16.3.2 (bank registers), 16.6 (recovery of
//! uncorrected recoverable errors). Without software error recovery (IA32_MCG_CAP.MCG_SER_P) every uncorrected error is
//! fatal.

use core::fmt;

/// IA32_MCG_CAP: the number of banks.
pub const CAP_BANKS: u64 = 0xff;
/// IA32_MCG_CAP: IA32_MCG_CTL is there.
pub const CAP_CONTROL: u64 = 1 << 8;
/// IA32_MCG_CAP: software can recover from errors.
pub const CAP_RECOVERY: u64 = 1 << 24;

/// IA32_MCG_STATUS: the interrupted program can go on.
const RESTART_VALID: u64 = 1 << 0;
/// IA32_MCG_STATUS: the interrupted instruction is the one that met the error.
const ERROR_AT_RIP: u64 = 1 << 1;

/// IA32_MCi_STATUS: the bank holds an error.
pub const VALID: u64 = 1 << 63;
const OVERFLOW: u64 = 1 << 62;
const UNCORRECTED: u64 = 1 << 61;
const MISC_VALID: u64 = 1 << 59;
/// IA32_MCi_STATUS: the address register is valid.
pub const ADDRESS_VALID: u64 = 1 << 58;
const CONTEXT_CORRUPT: u64 = 1 << 57;
const ACTION_REQUIRED: u64 = 1 << 55;

/// IA32_MCi_MISC, bits 8 to 6: the address is a physical one.
const PHYSICAL: u64 = 2;
/// The coarsest address that is accepted: a page's.
const COARSEST: u32 = 12;
/// The bits that an address can have.
const ADDRESS: u64 = (1 << 52) - 1;

/// One bank of error registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bank {
    /// Which one.
    pub number: u32,
    /// IA32_MCi_STATUS.
    pub status: u64,
    /// IA32_MCi_ADDR; 0 where the status says that there is none.
    pub address: u64,
    /// IA32_MCi_MISC; 0 where the status says that there is none.
    pub misc: u64,
}

impl Bank {
    /// Returns whether the bank holds an error.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.status & VALID != 0
    }

    /// Returns whether IA32_MCi_MISC may be read.
    #[must_use]
    pub const fn has_misc(status: u64) -> bool {
        status & MISC_VALID != 0
    }
}

/// Why the machine cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// An uncorrected error that is not known to be memory that was lost at one place.
    Uncorrected(Bank),
    /// Memory that is not persistent was lost.
    Memory(Bank),
    /// There is no room to note that the bytes are lost.
    TooMuch(Bank),
    /// An instruction needs the lost bytes and cannot be skipped.
    Needed(Bank),
    /// The CPU cannot resume the interrupted program.
    NoWayBack,
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, bank) = match self {
            Self::Uncorrected(bank) => ("uncorrected error", bank),
            Self::Memory(bank) => ("memory lost outside of persistent memory", bank),
            Self::TooMuch(bank) => ("more persistent memory lost than can be remembered", bank),
            Self::Needed(bank) => ("lost memory used by an instruction that is no guarded load", bank),
            Self::NoWayBack => return write!(f, "the interrupted program cannot go on"),
        };
        let Bank { number, status, address, misc } = bank;
        write!(f, "{what}: bank {number}, status {status:#018x}, address {address:#x}, misc {misc:#x}")
    }
}

/// The result of noting that bytes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// They are persistent memory, and were noted.
    Yes,
    /// They are other memory.
    Elsewhere,
    /// They are persistent memory, but there is no room to note them.
    NoRoom,
}

/// The machine-check registers of a CPU.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// IA32_MCG_CAP.
    pub capabilities: u64,
    /// IA32_MCG_STATUS.
    pub status: u64,
}

/// Judges a machine check. `in_guarded_load` says whether the interrupted instruction is a guarded load. Calls `lose`
/// with each place that was lost: a physical address, and the binary logarithm of the number of bytes, which are
/// naturally aligned.
///
/// # Errors
/// Why the machine cannot go on. Otherwise it can: at the interrupted instruction, or, if that is a guarded load,
/// behind the load.
pub fn judge(
    registers: Registers,
    banks: impl Iterator<Item = Bank>,
    in_guarded_load: bool,
    lose: &mut dyn FnMut(u64, u32) -> Noted,
) -> Result<(), Fatal> {
    for bank in banks.filter(|bank| bank.is_valid() && bank.status & UNCORRECTED != 0) {
        let Some((address, log2_bytes)) = lost_memory(registers.capabilities, &bank) else {
            return Err(Fatal::Uncorrected(bank));
        };
        match lose(address, log2_bytes) {
            Noted::Yes => {}
            Noted::Elsewhere => return Err(Fatal::Memory(bank)),
            Noted::NoRoom => return Err(Fatal::TooMuch(bank)),
        }
        let needed = bank.status & ACTION_REQUIRED != 0 && registers.status & ERROR_AT_RIP != 0;
        if needed && !in_guarded_load {
            return Err(Fatal::Needed(bank));
        }
    }
    if registers.status & RESTART_VALID == 0 { Err(Fatal::NoWayBack) } else { Ok(()) }
}

/// Returns the place that a recoverable error is about.
fn lost_memory(capabilities: u64, bank: &Bank) -> Option<(u64, u32)> {
    let places = MISC_VALID | ADDRESS_VALID;
    let recoverable = capabilities & CAP_RECOVERY != 0
        && bank.status & (OVERFLOW | CONTEXT_CORRUPT) == 0
        && bank.status & places == places
        && bank.misc >> 6 & 7 == PHYSICAL;
    let coarse = u32::try_from(bank.misc & 0x3f).ok().filter(|bits| *bits <= COARSEST)?;
    recoverable.then_some((bank.address & ADDRESS, coarse.max(6)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// A load that met poison; memory that a scrubber found lost.
    const LOAD: u64 = 0xbd80_0000_0000_0134;
    const SCRUB: u64 = 0xbd00_0000_0000_00c0;
    const MISC: u64 = 0x86;
    const RESTART: u64 = 5;
    const AT_RIP: u64 = 7;

    fn bank(status: u64, misc: u64) -> Bank {
        Bank { number: 1, status, address: 0x1_2345_6789, misc }
    }

    fn judged(status: u64, bank: Bank, guarded: bool, noted: Noted) -> (Result<(), Fatal>, Vec<(u64, u32)>) {
        let mut lost = vec![];
        let registers = Registers { capabilities: CAP_RECOVERY | 10, status };
        let result = judge(registers, [bank].into_iter(), guarded, &mut |at, bytes| {
            lost.push((at, bytes));
            noted
        });
        (result, lost)
    }

    #[test]
    fn lost_persistent_memory_is_told_and_the_machine_goes_on() {
        let lost = vec![(0x1_2345_6789, 6)];
        assert_eq!(judged(AT_RIP, bank(LOAD, MISC), true, Noted::Yes), (Ok(()), lost.clone()));
        for guarded in [false, true] {
            assert_eq!(judged(RESTART, bank(LOAD, MISC), guarded, Noted::Yes), (Ok(()), lost.clone()));
            assert_eq!(judged(RESTART, bank(SCRUB, MISC), guarded, Noted::Yes), (Ok(()), lost.clone()));
        }
        assert_eq!(judged(RESTART, bank(SCRUB, 0x8c), true, Noted::Yes), (Ok(()), vec![(0x1_2345_6789, 12)]));
        // Another CPU's, or a corrected one.
        assert_eq!(judged(RESTART, bank(0, 0), false, Noted::Yes), (Ok(()), vec![]));
        assert_eq!(judged(RESTART, bank(LOAD & !UNCORRECTED, MISC), false, Noted::Yes), (Ok(()), vec![]));
    }

    #[test]
    fn what_cannot_be_recovered_from_is_the_end() {
        let load = bank(LOAD, MISC);
        assert_eq!(judged(AT_RIP, load, false, Noted::Yes).0, Err(Fatal::Needed(load)));
        assert_eq!(judged(AT_RIP, load, true, Noted::Elsewhere).0, Err(Fatal::Memory(load)));
        assert_eq!(judged(AT_RIP, load, true, Noted::NoRoom).0, Err(Fatal::TooMuch(load)));
        assert_eq!(judged(4, load, true, Noted::Yes).0, Err(Fatal::NoWayBack));
        for bad in [
            bank(LOAD | CONTEXT_CORRUPT, MISC),
            bank(LOAD | OVERFLOW, MISC),
            bank(LOAD & !ADDRESS_VALID, MISC),
            bank(LOAD & !MISC_VALID, MISC),
            bank(LOAD, 0x46), // a linear address
            bank(LOAD, 0x94), // somewhere in a mebibyte
        ] {
            assert_eq!(judged(AT_RIP, bad, true, Noted::Yes), (Err(Fatal::Uncorrected(bad)), vec![]));
        }
        let old = Registers { capabilities: 10, status: AT_RIP };
        assert_eq!(judge(old, [load].into_iter(), true, &mut |_, _| Noted::Yes), Err(Fatal::Uncorrected(load)));
    }
}
