//! The root system description pointer (RSDP; ACPI 6.5, 5.2.5.3): the one check of it, for the copies that a loader hands
//! over as for what the kernel finds in memory.

use core::fmt;

use crate::bytes::u32_at;

/// The RSDP of ACPI 2.0 and later, in bytes.
pub const ROOT_POINTER_BYTES: usize = 36;

/// Of these the first are that of ACPI 1.0.
const OLD_BYTES: usize = 20;

/// Where the table of tables lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootTable {
    /// The table with 32-bit addresses (RSDT); 0 when there is none.
    pub rsdt: u32,
    /// The table with 64-bit addresses (XSDT), where the revision has one and it is not 0.
    pub xsdt: Option<u64>,
}

/// Why a root pointer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootFault {
    /// It does not say "RSD PTR ".
    Signature,
    /// Its bytes do not add up to 0.
    Checksum,
    /// Its length is not that of any revision.
    Length(u32),
}

impl fmt::Display for RootFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => write!(f, "it does not say \"RSD PTR \""),
            Self::Checksum => write!(f, "its checksum is wrong"),
            Self::Length(length) => write!(f, "its length is {length}"),
        }
    }
}

impl RootTable {
    /// Reads a root pointer.
    ///
    /// # Errors
    /// A [`RootFault`].
    pub fn read(bytes: &[u8; ROOT_POINTER_BYTES]) -> Result<Self, RootFault> {
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        if bytes[..8] != *b"RSD PTR " {
            return Err(RootFault::Signature);
        }
        if sum(&bytes[..OLD_BYTES]) != 0 {
            return Err(RootFault::Checksum);
        }
        let word = |at: usize| u32_at(bytes, at).expect("the fields are within the pointer");
        let rsdt = word(16);
        if bytes[15] == 0 {
            return Ok(Self { rsdt, xsdt: None });
        }
        if word(20) as usize != ROOT_POINTER_BYTES {
            return Err(RootFault::Length(word(20)));
        }
        if sum(bytes) != 0 {
            return Err(RootFault::Checksum);
        }
        let xsdt = u64::from(word(24)) | u64::from(word(28)) << 32;
        Ok(Self { rsdt, xsdt: (xsdt != 0).then_some(xsdt) })
    }
}

/// Copies a sound root pointer from the beginning of `bytes`; an old one is filled up with zeroes.
#[must_use]
pub fn copy(bytes: &[u8]) -> Option<[u8; ROOT_POINTER_BYTES]> {
    let length = if *bytes.get(15)? == 0 { OLD_BYTES } else { ROOT_POINTER_BYTES };
    let mut copy = [0; ROOT_POINTER_BYTES];
    copy[..length].copy_from_slice(bytes.get(..length)?);
    RootTable::read(&copy).is_ok().then_some(copy)
}

/// Where a BIOS leaves the root pointer, and a hypervisor that names none: the last 128 KiB below 1 MiB (5.2.5.1).
pub const SEARCHED: core::ops::Range<u64> = 0xe_0000..0x10_0000;

/// Finds a sound root pointer in memory, and returns where it begins. It lies on a multiple of 16 bytes.
#[must_use]
pub fn find(memory: &[u8]) -> Option<usize> {
    let whole = |at: &usize| memory.get(*at..).and_then(<[u8]>::first_chunk);
    (0..memory.len()).step_by(16).find(|at| whole(at).is_some_and(|bytes| RootTable::read(bytes).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(revision: u8, length: u32) -> [u8; ROOT_POINTER_BYTES] {
        let mut bytes = [0; ROOT_POINTER_BYTES];
        bytes[..8].copy_from_slice(b"RSD PTR ");
        bytes[15] = revision;
        bytes[16..20].copy_from_slice(&0x7fe_1234_u32.to_le_bytes());
        bytes[20..24].copy_from_slice(&length.to_le_bytes());
        bytes[24..32].copy_from_slice(&0x7fe_5678_u64.to_le_bytes());
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
        bytes[8] = sum(&bytes[..20]);
        bytes[32] = sum(&bytes);
        bytes
    }

    #[test]
    fn both_revisions_are_read() {
        let old = RootTable { rsdt: 0x7fe_1234, xsdt: None };
        assert_eq!(RootTable::read(&pointer(0, 0)), Ok(old));
        let new = RootTable { rsdt: 0x7fe_1234, xsdt: Some(0x7fe_5678) };
        assert_eq!(RootTable::read(&pointer(2, 36)), Ok(new));
    }

    #[test]
    fn a_broken_pointer_is_refused() {
        assert_eq!(RootTable::read(&[0; ROOT_POINTER_BYTES]), Err(RootFault::Signature));
        assert_eq!(RootTable::read(&pointer(2, u32::MAX)), Err(RootFault::Length(u32::MAX)));
        for at in [9, 17, 33] {
            let mut bytes = pointer(2, 36);
            bytes[at] ^= 0x10;
            assert_eq!(RootTable::read(&bytes), Err(RootFault::Checksum), "byte {at}");
        }
    }

    #[test]
    fn a_search_finds_the_first_sound_pointer_on_a_paragraph() {
        let mut memory = [0; 0x1000];
        assert_eq!(find(&memory), None);
        assert_eq!(find(&memory[..7]), None);
        let mut broken = pointer(2, 36);
        broken[20] ^= 1;
        memory[0x100..0x124].copy_from_slice(&broken);
        memory[0x208..0x22c].copy_from_slice(&pointer(2, 36));
        assert_eq!(find(&memory), None, "one is broken, the other lies between paragraphs");
        memory[0xfd0..0xff4].copy_from_slice(&pointer(0, 0));
        assert_eq!(find(&memory), Some(0xfd0));
        memory[0x340..0x364].copy_from_slice(&pointer(2, 36));
        assert_eq!(find(&memory), Some(0x340));
        // It begins where the memory searched ends.
        assert_eq!(find(&memory[..0x350]), None);
    }
}
