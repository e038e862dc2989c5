//! The image's own file, as the UEFI stub (`src/stub`) carries it: the segments that are to be loaded (System V ABI,
//! ELF-64). Our own tools made it; its numbers are checked all the same, as it was a file once.

use core::ops::Range;

use crate::bytes::{u16_at, u32_at, u64_at};

/// The most segments that are loaded.
pub const SEGMENTS_MAX: usize = 8;

/// A segment that is to be loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Where its bytes are in the file.
    pub offset: usize,
    /// How many bytes the file has of it.
    pub file_bytes: u32,
    /// The physical address that it belongs to.
    pub target: u32,
    /// How many bytes of zeroes follow.
    pub zero_bytes: u32,
}

/// An image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its 32-bit entry point.
    pub entry: u32,
    /// What is loaded, then empty segments.
    pub segments: [Segment; SEGMENTS_MAX],
}

impl Program {
    /// Reads an image's file. `None` if it is no ELF file of 64 bits, if a segment is cut off or lies above 4 GiB, or if
    /// there are none or too many.
    #[must_use]
    pub fn read(file: &[u8]) -> Option<Self> {
        const LOAD: u32 = 1;
        if !file.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let entry = u32::try_from(u64_at(file, 24)?).ok()?;
        let table = usize::try_from(u64_at(file, 32)?).ok()?;
        let (header_bytes, count) = (usize::from(u16_at(file, 54)?), usize::from(u16_at(file, 56)?));
        let mut segments = [Segment::default(); SEGMENTS_MAX];
        let mut places = segments.iter_mut();
        for number in 0..count {
            let header = file.get(table.checked_add(number * header_bytes)?..)?;
            if u32_at(header, 0)? != LOAD || u64_at(header, 40)? == 0 {
                continue;
            }
            let field = |at| u64_at(header, at).and_then(|field| u32::try_from(field).ok());
            let (offset, target, file_bytes) = (usize::try_from(field(8)?).ok()?, field(24)?, field(32)?);
            let zero_bytes = field(40)?.checked_sub(file_bytes)?;
            file.get(offset..offset.checked_add(usize::try_from(file_bytes).ok()?)?)?;
            target.checked_add(file_bytes)?.checked_add(zero_bytes).filter(|_| target != 0)?;
            *places.next()? = Segment { offset, file_bytes, target, zero_bytes };
        }
        let program = Self { entry, segments };
        (!program.target().is_empty()).then_some(program)
    }

    /// Returns the physical addresses from the lowest segment's first to the highest one's last.
    #[must_use]
    pub fn target(&self) -> Range<u64> {
        let loaded = || self.segments.iter().filter(|it| it.target != 0);
        let end = |it: &Segment| u64::from(it.target) + u64::from(it.file_bytes) + u64::from(it.zero_bytes);
        let start = loaded().map(|it| u64::from(it.target)).min().unwrap_or_default();
        start..loaded().map(end).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// A file with these segments: type, offset, target, bytes in the file, bytes in memory.
    fn file(segments: &[[u64; 5]]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01".to_vec();
        file.resize(24, 0);
        file.extend_from_slice(&0x10_0040_u64.to_le_bytes());
        file.extend_from_slice(&64_u64.to_le_bytes());
        file.resize(54, 0);
        file.extend_from_slice(&[56, 0, u8::try_from(segments.len()).expect("few"), 0]);
        file.resize(64, 0);
        for [kind, offset, target, file_bytes, memory_bytes] in segments {
            for word in [*kind, *offset, 0xdead, *target, *file_bytes, *memory_bytes, 4096] {
                file.extend_from_slice(&word.to_le_bytes());
            }
        }
        file.resize(0x800, 0);
        file
    }

    #[test]
    fn what_is_to_be_loaded_is_found() {
        let read =
            Program::read(&file(&[[1, 0x400, 0x10_0000, 0x80, 0x80], [4, 0, 0, 0, 0], [1, 0x480, 0x10_1000, 8, 16]]));
        let read = read.expect("it is sound");
        assert_eq!((read.entry, read.target()), (0x10_0040, 0x10_0000..0x10_1010));
        let last = Segment { offset: 0x480, file_bytes: 8, target: 0x10_1000, zero_bytes: 8 };
        assert_eq!(read.segments[1..3], [last, Segment::default()]);
    }

    #[test]
    fn files_that_cannot_be_loaded_are_refused() {
        let good = [1, 0x400, 0x10_0000, 0x80, 0x80];
        assert!(Program::read(&file(&[good; SEGMENTS_MAX])).is_some());
        assert!(Program::read(&file(&[good; SEGMENTS_MAX + 1])).is_none(), "too many");
        assert!(Program::read(&file(&[])).is_none(), "nothing to load");
        assert!(Program::read(&file(&[[1, 0x400, 0x10_0000, 0, 0]])).is_none(), "nothing to load");
        let wrong = [
            [1, 0x7f0, 0x10_0000, 0x80, 0x80], // beyond the file
            [1, u64::MAX, 0x10_0000, 0x80, 0x80],
            [1, 0x400, 0x10_0000, 0x80, 0x7f], // less memory than bytes
            [1, 0x400, 0, 0x80, 0x80],
            [1, 0x400, 0xffff_ff80, 0x80, 0x81], // beyond 4 GiB
            [1, 0x400, 1 << 32, 0x80, 0x80],
        ];
        for segment in wrong {
            assert!(Program::read(&file(&[segment])).is_none(), "{segment:x?}");
        }
        let whole = file(&[good]);
        for length in 0..121 {
            assert!(Program::read(&whole[..length]).is_none(), "{length} bytes");
        }
        assert!(Program::read(&[0; 0x800]).is_none());
    }
}
