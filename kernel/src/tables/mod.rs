//! ACPI tables as bytes from outside: lengths and checksums are checked before a field is read, and every walk is
//! bounded by the table's end. No AML.
//!
//! Field offsets are those of the ACPI specification 6.5, chapter 5.2.

pub mod cedt;
pub mod fadt;
pub mod host_bridges;
pub mod madt;
pub mod mcfg;
pub mod sleep;

use core::fmt;

/// A table's header: 36 bytes (5.2.6).
pub const HEADER_BYTES: usize = 36;

/// The longest table that is accepted. Firmware's are far shorter; a greater length counts as broken.
pub const MAX_TABLE_BYTES: usize = 1 << 20;

/// A table's name: four characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{}", byte.escape_ascii()))
    }
}

/// What is wrong with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFault {
    /// The length in its header is shorter than a header, or longer than [`MAX_TABLE_BYTES`].
    Length(u32),
    /// Its bytes do not add up to 0.
    Checksum,
    /// It lies where no memory can be read.
    Unreadable,
    /// The tables before it take all the memory that there is for tables.
    TooMany,
    /// A field that its kind needs lies past its end.
    TooShort {
        /// Where the field begins.
        at: usize,
    },
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(f, "its length is {length}"),
            Self::Checksum => write!(f, "its checksum is wrong"),
            Self::Unreadable => write!(f, "it lies where nothing can be read"),
            Self::TooMany => write!(f, "there is no room for it beside the tables before it"),
            Self::TooShort { at } => write!(f, "it ends before its field at {at}"),
        }
    }
}

/// A table whose length and checksum are right.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// Returns the length of the table that begins with `header`.
    ///
    /// # Errors
    /// [`TableFault::Length`].
    pub fn length(header: &[u8; HEADER_BYTES]) -> Result<usize, TableFault> {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        match usize::try_from(length) {
            Ok(bytes @ HEADER_BYTES..=MAX_TABLE_BYTES) => Ok(bytes),
            _ => Err(TableFault::Length(length)),
        }
    }

    /// Checks a whole table: exactly as many bytes as its header says.
    ///
    /// # Errors
    /// [`TableFault::Length`], [`TableFault::Checksum`].
    pub fn check(bytes: &'a [u8]) -> Result<Self, TableFault> {
        let header = bytes.first_chunk().ok_or(TableFault::TooShort { at: 0 })?;
        let length = Self::length(header)?;
        if length != bytes.len() {
            return Err(TableFault::Length(u32::try_from(bytes.len()).expect("callers copy 1 MiB at most")));
        }
        if bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
            return Err(TableFault::Checksum);
        }
        Ok(Self(bytes))
    }

    /// Returns all bytes, the header's included.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Returns its name.
    #[must_use]
    pub fn signature(&self) -> Signature {
        Signature(self.array(0).unwrap_or_default())
    }

    /// Returns its maker's name for it (OEM Table ID), without padding.
    #[must_use]
    pub fn oem_table_id(&self) -> &'a [u8] {
        self.0[16..24].trim_ascii_end().split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// Returns the program that made it (Creator ID).
    #[must_use]
    pub fn creator(&self) -> Signature {
        Signature(self.array(28).unwrap_or_default())
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], TableFault> {
        let field = self.0.get(at..).and_then(<[u8]>::first_chunk);
        field.copied().ok_or(TableFault::TooShort { at })
    }

    fn u8(&self, at: usize) -> Result<u8, TableFault> {
        Ok(u8::from_le_bytes(self.array(at)?))
    }

    fn u16(&self, at: usize) -> Result<u16, TableFault> {
        Ok(u16::from_le_bytes(self.array(at)?))
    }

    fn u32(&self, at: usize) -> Result<u32, TableFault> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    fn u64(&self, at: usize) -> Result<u64, TableFault> {
        Ok(u64::from_le_bytes(self.array(at)?))
    }
}

/// Returns whether this is the SSDT of QEMU's NVDIMMs, which describes the label mailbox at I/O port 0xa18.
#[must_use]
pub fn is_qemu_nvdimm(table: &Table<'_>) -> bool {
    table.signature() == Signature(*b"SSDT")
        && table.oem_table_id() == b"NVDIMM"
        && table.creator() == Signature(*b"BXPC")
}

#[cfg(test)]
pub(crate) mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    /// A table with a sound header around `body`.
    pub(crate) fn table(signature: [u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&signature);
        bytes[16..24].copy_from_slice(b"NVDIMM\0\0");
        bytes[28..32].copy_from_slice(b"BXPC");
        bytes.extend_from_slice(body);
        let length = u32::try_from(bytes.len()).expect("short");
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        bytes[9] = sum.wrapping_neg();
        bytes
    }

    #[test]
    fn a_sound_table_is_taken() {
        let bytes = table(*b"NFIT", &[1, 2, 3]);
        let table = Table::check(&bytes).expect("sound");
        assert_eq!(table.signature(), Signature(*b"NFIT"));
        assert_eq!(table.oem_table_id(), b"NVDIMM");
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut bytes = table(*b"NFIT", &[1, 2, 3]);
        bytes[37] ^= 1;
        assert_eq!(Table::check(&bytes).err(), Some(TableFault::Checksum));
    }

    #[test]
    fn a_length_that_cannot_be_is_noticed() {
        let mut header = [0; HEADER_BYTES];
        for length in [0, 35, u32::MAX] {
            header[4..8].copy_from_slice(&length.to_le_bytes());
            assert_eq!(Table::length(&header), Err(TableFault::Length(length)));
        }
        let bytes = table(*b"NFIT", &[1, 2, 3]);
        assert_eq!(Table::check(&bytes[..38]).err(), Some(TableFault::Length(38)));
        assert_eq!(Table::check(&bytes[..8]).err(), Some(TableFault::TooShort { at: 0 }));
    }

    #[test]
    fn only_qemus_nvdimm_table_names_the_mailbox() {
        let ssdt = table(*b"SSDT", &[]);
        assert!(is_qemu_nvdimm(&Table::check(&ssdt).expect("sound")));
        let dsdt = table(*b"DSDT", &[]);
        assert!(!is_qemu_nvdimm(&Table::check(&dsdt).expect("sound")));
    }
}
