//! Interleave structure, type 2 (ACPI 6.5, 5.2.25.4).

use alloc::vec::Vec;
use core::fmt;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::Fault;
use super::{InterleaveIndex, wrong_size};

#[derive(FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawInterleave {
    kind: U16,
    length: U16,
    index: U16,
    reserved: U16,
    lines: U32,
    line_bytes: U32,
}
const _: () = assert!(size_of::<RawInterleave>() == 16);

/// Where the lines of a DIMM's share lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interleave {
    /// What mappings name it by.
    pub index: InterleaveIndex,
    /// Bytes in a line.
    pub line_bytes: u32,
    /// Line `i` of the DIMM lies at line `offsets[i]` of the set's pattern.
    pub offsets: Vec<u32>,
}

impl Interleave {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let (raw, rest) =
            RawInterleave::ref_from_prefix(bytes).map_err(|_| wrong_size(bytes, size_of::<RawInterleave>()))?;
        let offsets = rest.as_chunks::<4>();
        let room = offsets.0.len();
        if usize::try_from(raw.lines.get()) != Ok(room) || !offsets.1.is_empty() {
            return Err(Fault::BadCount { count: raw.lines.get().into(), room });
        }
        Ok(Self {
            index: InterleaveIndex(raw.index.get()),
            line_bytes: raw.line_bytes.get(),
            offsets: offsets.0.iter().map(|offset| u32::from_le_bytes(*offset)).collect(),
        })
    }

    /// What is wrong with the structure by itself.
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.index == InterleaveIndex(0) {
            return Some(Fault::IndexZero);
        }
        if self.offsets.is_empty() {
            return Some(Fault::NoLines);
        }
        if !self.line_bytes.is_power_of_two() {
            return Some(Fault::BadLineSize { line_bytes: self.line_bytes });
        }
        let mut sorted = self.offsets.clone();
        sorted.sort_unstable();
        let twin = sorted.windows(2).find(|pair| pair[0] == pair[1])?;
        Some(Fault::LinesCollide { line: twin[0] })
    }
}

impl fmt::Display for Interleave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, line_bytes, offsets } = self;
        write!(f, "interleave {index}: {} lines of {line_bytes} bytes at", offsets.len())?;
        offsets.iter().take(8).try_for_each(|offset| write!(f, " {offset}"))?;
        if offsets.len() > 8 { f.write_str(" ...") } else { Ok(()) }
    }
}
