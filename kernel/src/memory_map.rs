//! Which parts of firmware's memory map are persistent memory, and which are in use for anything else.
//!
//! | type | is | offered |
//! |---|---|---|
//! | 7 | persistent memory (ACPI 6.5, 15.4; UEFI's type 14) | where nothing else describes it |
//! | 12 | what older firmware says for it; others mean other things | with `pmem.type12=on` on the command line |

use alloc::vec::Vec;
use core::ops::Range;

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

use crate::command_line;

/// The type of persistent memory.
const PERSISTENT: u32 = 7;

/// The older type.
const LEGACY: u32 = 12;

/// A persistent range of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistent {
    /// The first physical address.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Its type.
    pub kind: u32,
}

/// The parts of firmware's memory map, by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// What is persistent.
    pub persistent: Vec<Persistent>,
    /// What is in use for anything else.
    pub in_use: Vec<Range<u64>>,
}

/// Returns whether the command line asks for the older type, too: the last `pmem.type12=on` or `pmem.type12=off` counts.
///
/// # Errors
/// The value, if it is neither. It counts as `off`.
pub fn wants_legacy(line: &str) -> Result<bool, &str> {
    match command_line::values(line, "pmem.type12").next_back() {
        Some("on") => Ok(true),
        Some("off") | None => Ok(false),
        Some(other) => Err(other),
    }
}

/// Returns the persistent ranges, and the ranges in use for anything else. As `boot::handoff::tidy` makes the map, they come by
/// address, do not overlap, and neighbours of one type are joined.
#[must_use]
pub fn split(map: &[MemoryRegion], with_legacy: bool) -> Parts {
    let kind_of = |region: &MemoryRegion| match region.kind {
        MemoryRegionKind::UnknownBios(PERSISTENT) => Some(PERSISTENT),
        MemoryRegionKind::UnknownBios(LEGACY) if with_legacy => Some(LEGACY),
        _ => None,
    };
    let mut parts = Parts { persistent: Vec::new(), in_use: Vec::new() };
    for region in map {
        match kind_of(region) {
            Some(kind) => {
                parts.persistent.push(Persistent { start: region.start, bytes: region.end - region.start, kind })
            }
            None => parts.in_use.push(region.start..region.end),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: MemoryRegionKind) -> MemoryRegion {
        MemoryRegion { start, end, kind }
    }

    #[test]
    fn the_older_type_is_asked_for_by_a_word_of_its_own() {
        for (line, expected) in [
            ("", Ok(false)),
            ("pmem.type12=on", Ok(true)),
            ("a=b  pmem.type12=on\tc", Ok(true)),
            ("pmem.type12=on pmem.type12=off", Ok(false)),
            ("pmem.type12=off pmem.type12=on", Ok(true)),
            ("xpmem.type12=on pmem.type12 pmem.type120=on", Ok(false)),
            ("pmem.type12=", Err("")),
            ("pmem.type12=ON", Err("ON")),
        ] {
            assert_eq!(wants_legacy(line), expected, "{line}");
        }
    }

    #[test]
    fn persistent_ranges_are_found_and_older_ones_only_on_request() {
        let (seven, twelve) = (MemoryRegionKind::UnknownBios(7), MemoryRegionKind::UnknownBios(12));
        let map = [
            region(0, 0x9_f000, MemoryRegionKind::Usable),
            region(0xf000_0000, 0x1_0000_0000, MemoryRegionKind::UnknownBios(2)),
            region(0x1_8000_0000, 0x2_4000_0000, seven),
            region(0x3_0000_0000, 0x3_1000_0000, twelve),
            region(0x3_1000_0000, 0x3_2000_0000, seven),
            region(0x4_0000_0000, 0x4_1000_0000, MemoryRegionKind::UnknownBios(77)),
        ];
        let persistent = |start, bytes, kind| Persistent { start, bytes, kind };
        let first = persistent(0x1_8000_0000, 0xc000_0000, 7);
        let last = persistent(0x3_1000_0000, 0x1000_0000, 7);
        let Parts { persistent: found, in_use } = split(&map, false);
        assert_eq!((found, in_use.len()), ([first, last].to_vec(), 4));
        let Parts { persistent: found, in_use } = split(&map, true);
        assert_eq!(found, [first, persistent(0x3_0000_0000, 0x1000_0000, 12), last]);
        assert_eq!(in_use, [0..0x9_f000, 0xf000_0000..0x1_0000_0000, 0x4_0000_0000..0x4_1000_0000]);
    }
}
