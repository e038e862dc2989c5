//! What a loader tells us, copied out of its memory: the kernel hands that memory out.
//!
//! Each protocol has a reader that fills a [`LoaderInfo`]; [`crate::handoff`] starts the kernel with it.

use core::fmt;

use crate::root_pointer::ROOT_POINTER_BYTES;

/// The most ranges that a memory map may have once adjacent ranges of a kind are one.
pub const MAX_FIRMWARE_RANGES: usize = 256;

/// The longest command line that is kept, in bytes.
pub const COMMAND_LINE_BYTES: usize = 2048;

/// One range of a firmware memory map, unchecked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FirmwareRange {
    /// The first byte.
    pub start: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The type that the map gives it; 1 is RAM (ACPI 6.5, table 15.1).
    pub kind: u32,
}

impl FirmwareRange {
    /// Ordinary memory.
    pub const RAM: u32 = 1;

    /// Returns the end, cut off at the end of 64 bits.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes)
    }
}

/// More ranges than [`MAX_FIRMWARE_RANGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRanges;

impl fmt::Display for TooManyRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the firmware's memory map has more than {MAX_FIRMWARE_RANGES} ranges")
    }
}

/// A firmware memory map, in the firmware's order.
#[derive(Clone, Debug)]
pub struct FirmwareMap {
    ranges: [FirmwareRange; MAX_FIRMWARE_RANGES],
    count: usize,
}

impl FirmwareMap {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: [FirmwareRange { start: 0, bytes: 0, kind: 0 }; MAX_FIRMWARE_RANGES], count: 0 }
    }

    /// Adds a range: to the last one, if it follows that and is of its kind. UEFI's maps have hundreds of such pieces.
    ///
    /// # Errors
    /// [`TooManyRanges`].
    pub fn add(&mut self, range: FirmwareRange) -> Result<(), TooManyRanges> {
        if range.bytes == 0 {
            return Ok(());
        }
        if let Some(last) = self.ranges[..self.count].last_mut()
            && last.kind == range.kind
            && last.start.checked_add(last.bytes) == Some(range.start)
            && let Some(bytes) = last.bytes.checked_add(range.bytes)
        {
            last.bytes = bytes;
            return Ok(());
        }
        *self.ranges.get_mut(self.count).ok_or(TooManyRanges)? = range;
        self.count += 1;
        Ok(())
    }

    /// Returns the ranges.
    #[must_use]
    pub fn ranges(&self) -> &[FirmwareRange] {
        &self.ranges[..self.count]
    }
}

impl Default for FirmwareMap {
    fn default() -> Self {
        Self::new()
    }
}

/// What the loader says about the ACPI root pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootPointer {
    /// Nothing.
    Untold,
    /// Its address, in memory that firmware keeps.
    At(u64),
    /// A copy of it. Revision 0 is filled up with zeroes.
    Copy([u8; ROOT_POINTER_BYTES]),
}

/// The words that the person who starts the image gives to it. Bytes that are no printable ASCII are `?`.
#[derive(Clone, Debug)]
pub struct CommandLine {
    bytes: [u8; COMMAND_LINE_BYTES],
    length: usize,
    cut: bool,
}

impl CommandLine {
    /// An empty one.
    pub const EMPTY: Self = Self { bytes: [0; COMMAND_LINE_BYTES], length: 0, cut: false };

    /// Takes bytes up to the first that is 0, or to the end.
    #[must_use]
    pub fn new(text: impl IntoIterator<Item = u8>) -> Self {
        let mut line = Self::EMPTY;
        for byte in text.into_iter().take_while(|byte| *byte != 0) {
            let Some(place) = line.bytes.get_mut(line.length) else {
                line.cut = true;
                break;
            };
            *place = if matches!(byte, b' '..=b'~') { byte } else { b'?' };
            line.length += 1;
        }
        line
    }

    /// Returns the text.
    #[must_use]
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default() // ASCII always is
    }

    /// Returns whether it was longer than [`COMMAND_LINE_BYTES`]: the rest is lost.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }
}

/// All that a loader tells us.
#[derive(Clone, Debug)]
pub struct LoaderInfo {
    /// Memory.
    pub memory: FirmwareMap,
    /// ACPI.
    pub root_pointer: RootPointer,
    /// What the person wants.
    pub command_line: CommandLine,
}

impl LoaderInfo {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { memory: FirmwareMap::new(), root_pointer: RootPointer::Untold, command_line: CommandLine::EMPTY }
    }
}

impl Default for LoaderInfo {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(start: u64, bytes: u64) -> FirmwareRange {
        FirmwareRange { start, bytes, kind: FirmwareRange::RAM }
    }

    #[test]
    fn a_thousand_adjacent_pieces_of_a_kind_are_one_range() {
        let mut map = FirmwareMap::new();
        for page in 0..1000 {
            assert_eq!(map.add(ram(page * 4096, 4096)), Ok(()));
            assert_eq!(map.add(ram(7, 0)), Ok(()), "an empty one is nothing");
        }
        assert_eq!(map.ranges(), [ram(0, 1000 * 4096)]);
    }

    #[test]
    fn only_adjacent_ranges_of_a_kind_are_merged() {
        let mut map = FirmwareMap::new();
        let other = FirmwareRange { kind: 2, ..ram(0x3000, 0x1000) };
        let ranges = [ram(0x1000, 0x1000), ram(0x2001, 0xfff), other, ram(0, 0x1000), ram(u64::MAX, 5), ram(4, 1)];
        for range in ranges {
            map.add(range).expect("there is room");
        }
        assert_eq!(map.ranges(), ranges);
    }

    #[test]
    fn a_range_that_has_no_place_is_an_error() {
        let mut map = FirmwareMap::new();
        for number in 0..MAX_FIRMWARE_RANGES as u64 {
            assert_eq!(map.add(ram(number * 8192, 4096)), Ok(()));
        }
        assert_eq!(map.add(ram(1 << 40, 4096)), Err(TooManyRanges));
        assert_eq!(map.ranges().len(), MAX_FIRMWARE_RANGES);
    }

    #[test]
    fn a_command_line_ends_at_a_zero_and_is_printable() {
        let line = CommandLine::new(*b"a=b \"c d\"\x1b[2J\xff\0more");
        assert_eq!((line.text(), line.is_cut()), ("a=b \"c d\"?[2J?", false));
        let line = CommandLine::new([b'x'; COMMAND_LINE_BYTES]);
        assert_eq!((line.text().len(), line.is_cut()), (COMMAND_LINE_BYTES, false));
        let line = CommandLine::new([b'x'; COMMAND_LINE_BYTES + 1]);
        assert_eq!((line.text().len(), line.is_cut()), (COMMAND_LINE_BYTES, true));
    }
}
