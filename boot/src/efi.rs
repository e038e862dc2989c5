//! UEFI's memory map (UEFI 2.10, 7.2.3), as the stub (`src/stub`) finds it: pure, and tested on a host.

use core::ops::Range;

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::loader::{COMMAND_LINE_BYTES, FirmwareMap, FirmwareRange, TooManyRanges};

/// `EFI_PAGE_SIZE`.
const PAGE_BYTES: u64 = 4096;

/// One descriptor of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// `EFI_MEMORY_TYPE`.
    pub kind: u32,
    /// Its physical addresses, cut off at the end of 64 bits.
    pub range: (u64, u64),
}

impl Descriptor {
    /// Returns whether the memory is free once boot services have ended: the loader's (ours), boot services' and
    /// conventional memory.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        matches!(self.kind, 1..=4 | 7)
    }

    /// Returns the type that ACPI's address maps give to it (ACPI 6.5, table 15.6).
    #[must_use]
    pub const fn address_map_kind(&self) -> u32 {
        match self.kind {
            1..=4 | 7 => FirmwareRange::RAM,
            8 => 5,
            9 => 3,
            10 => 4,
            14 => 7,
            _ => 2,
        }
    }
}

/// Returns a map's descriptors, each of `descriptor_bytes`: firmware's may be longer than what is read of them. There are
/// none if they are shorter.
pub fn descriptors(map: &[u8], descriptor_bytes: usize) -> impl Iterator<Item = Descriptor> {
    map.chunks_exact(descriptor_bytes.max(1)).filter_map(|descriptor| {
        let (kind, start) = (u32_at(descriptor, 0)?, u64_at(descriptor, 8)?);
        let bytes = u64_at(descriptor, 24)?.saturating_mul(PAGE_BYTES);
        Some(Descriptor { kind, range: (start, start.saturating_add(bytes)) })
    })
}

/// Turns a map into that of the other protocols, adjacent ranges of a kind merged.
///
/// # Errors
/// [`TooManyRanges`].
pub fn address_map(map: &[u8], descriptor_bytes: usize) -> Result<FirmwareMap, TooManyRanges> {
    let mut found = FirmwareMap::new();
    for descriptor in descriptors(map, descriptor_bytes) {
        let (start, end) = descriptor.range;
        found.add(FirmwareRange { start, bytes: end - start, kind: descriptor.address_map_kind() })?;
    }
    Ok(found)
}

/// A command line as it is handed over, in bytes: one more than the image keeps, by which it notices a line that is cut,
/// and a zero.
pub const HANDED_LINE_BYTES: usize = COMMAND_LINE_BYTES + 2;

/// The most of the load options that [`command_line`] reads.
pub const OPTIONS_BYTES_MAX: usize = 2 * (COMMAND_LINE_BYTES + 1);

/// Turns load options (UTF-16, perhaps without an end) into a command line. What is no 8-bit character becomes `?`.
#[must_use]
pub fn command_line(options: &[u8]) -> [u8; HANDED_LINE_BYTES] {
    let mut line = [0; HANDED_LINE_BYTES];
    let units = options.chunks_exact(2).map_while(|unit| u16_at(unit, 0).filter(|unit| *unit != 0));
    for (byte, unit) in line[..HANDED_LINE_BYTES - 1].iter_mut().zip(units) {
        *byte = u8::try_from(unit).unwrap_or(b'?');
    }
    line
}

/// Returns the first address of `target` that will not be free once boot services have ended, if there is one: it is in
/// no descriptor, or in one that firmware keeps.
#[must_use]
pub fn first_taken(map: &[u8], descriptor_bytes: usize, target: &Range<u64>) -> Option<u64> {
    let all = || descriptors(map, descriptor_bytes).filter(|it| it.range.0 < target.end && target.start < it.range.1);
    if let Some(kept) = all().filter(|it| !it.is_free()).map(|it| it.range.0.max(target.start)).min() {
        return Some(kept);
    }
    let mut at = target.start;
    while at < target.end {
        // Each step ends behind `at`: there are at most as many as descriptors.
        match all().find(|it| it.range.0 <= at && at < it.range.1) {
            Some(holds) => at = holds.range.1,
            None => return Some(at),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;
    use crate::loader::CommandLine;

    /// Descriptors of 48 bytes, as OVMF's are: type, first page, number of pages.
    fn map(descriptors: &[(u32, u64, u64)]) -> Vec<u8> {
        let mut map = Vec::new();
        for (kind, page, pages) in descriptors {
            map.extend_from_slice(&kind.to_le_bytes());
            map.extend_from_slice(&[0xee; 4]);
            map.extend_from_slice(&(page << 12).to_le_bytes());
            map.extend_from_slice(&[0; 8]);
            map.extend_from_slice(&pages.to_le_bytes());
            map.extend_from_slice(&[0xdd; 16]);
        }
        map
    }

    #[test]
    fn types_become_those_of_acpi_and_neighbours_one_range() {
        let kinds: Vec<(u32, u64, u64)> = (0..=16).map(|kind| (kind, u64::from(kind), 1)).collect();
        let found = address_map(&map(&kinds), 48).expect("they are few");
        let found: Vec<_> = found.ranges().iter().map(|it| (it.start >> 12, it.bytes >> 12, it.kind)).collect();
        let expected =
            [(0, 1, 2), (1, 4, 1), (5, 2, 2), (7, 1, 1), (8, 1, 5), (9, 1, 3), (10, 1, 4), (11, 3, 2), (14, 1, 7)];
        assert_eq!(found, [&expected[..], &[(15, 2, 2)]].concat());
    }

    #[test]
    fn load_options_become_a_command_line_and_a_cut_is_noticed() {
        let read = |text: &str| {
            let options: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let line = CommandLine::new(command_line(&options[..options.len().min(OPTIONS_BYTES_MAX)]));
            (String::from(line.text()), line.is_cut())
        };
        assert_eq!(read(""), (String::new(), false));
        assert_eq!(read("a=b c=\u{20ac}\u{e4}\u{1b}\0more"), ("a=b c=???".into(), false));
        let kept = "x".repeat(COMMAND_LINE_BYTES);
        assert_eq!(read(&kept), (kept.clone(), false));
        for more in ["x", "yz\0"] {
            assert_eq!(read(&(kept.clone() + more)), (kept.clone(), true));
        }
        assert_eq!(command_line(b"a\0b"), command_line(b"a\0"), "half a unit is none");
    }

    #[test]
    fn a_target_is_free_only_if_all_of_it_is() {
        let pages = |from: u64, to: u64| from << 12..to << 12;
        let free = [(4, 0x180, 0x80), (7, 0x100, 0x80), (2, 0x200, 0x100)]; // in any order
        assert_eq!(first_taken(&map(&free), 48, &pages(0x100, 0x300)), None);
        assert_eq!(first_taken(&map(&free), 48, &pages(0xff, 0x101)), Some(0xff << 12));
        assert_eq!(first_taken(&map(&free), 48, &pages(0x100, 0x301)), Some(0x300 << 12));
        for kept in [0, 5, 6, 8, 9, 10, 11, 14, 15, u32::MAX] {
            let map = map(&[free[0], free[1], free[2], (kept, 0x280, 1)]);
            assert_eq!(first_taken(&map, 48, &pages(0x100, 0x300)), Some(0x280 << 12), "type {kept}");
            assert_eq!(first_taken(&map, 48, &pages(0x100, 0x280)), None);
        }
    }

    #[test]
    fn maps_that_cannot_be_are_no_memory() {
        let free = map(&[(7, 0x100, 0x100)]);
        for descriptor_bytes in [0, 1, 31, 49, usize::MAX] {
            assert_eq!(first_taken(&free, descriptor_bytes, &(0x10_0000..0x10_1000)), Some(0x10_0000));
        }
        let endless = map(&[(7, 0x100, u64::MAX), (7, u64::MAX >> 12, u64::MAX)]);
        assert_eq!(first_taken(&endless, 48, &(0x10_0000..0x10_1000)), None);
        assert!(address_map(&endless, 48).is_ok());
    }
}
