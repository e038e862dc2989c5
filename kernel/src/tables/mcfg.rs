//! The PCI Express memory-mapped configuration table (MCFG; PCI Firmware 3.3, 4.1.2): where configuration space is.

use alloc::vec::Vec;

use super::{Table, TableFault};

/// The configuration space of some buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The address at which bus 0's would lie.
    pub base: u64,
    /// The segment.
    pub segment: u16,
    /// The first bus.
    pub first_bus: u8,
    /// The last one.
    pub last_bus: u8,
}

const FIRST_ENTRY: usize = 44;
const ENTRY_BYTES: usize = 16;

/// More ranges than any machine has: further ones are ignored.
const MAX_RANGES: usize = 64;

/// The bytes of a bus: an area begins at a multiple of them.
const BUS_BYTES: u64 = 1 << 20;

/// Reads the table. Entries whose buses are the wrong way around, or that do not begin where an area can, are left out;
/// a last one that is cut, too.
///
/// # Errors
/// When the table ends before its first entry could begin.
pub fn read(table: &Table<'_>) -> Result<Vec<Range>, TableFault> {
    let end = table.bytes().len();
    if end < FIRST_ENTRY {
        return Err(TableFault::TooShort { at: end });
    }
    let mut ranges = Vec::new();
    for at in (FIRST_ENTRY..).step_by(ENTRY_BYTES).take_while(|at| at + ENTRY_BYTES <= end).take(MAX_RANGES) {
        let segment = table.u16(at + 8)?;
        let range =
            Range { base: table.u64(at)?, segment, first_bus: table.u8(at + 10)?, last_bus: table.u8(at + 11)? };
        if range.first_bus <= range.last_bus && range.base.is_multiple_of(BUS_BYTES) {
            ranges.push(range);
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::tables::tests::table;

    fn entry(base: u64, segment: u16, buses: [u8; 2]) -> Vec<u8> {
        [&base.to_le_bytes()[..], &segment.to_le_bytes(), &buses, &[0; 4]].concat()
    }

    #[test]
    fn every_whole_entry_is_a_range() {
        let body = [vec![0; 8], entry(0xb000_0000, 0, [0, 255]), entry(0xc000_0000, 1, [3, 3])].concat();
        let bytes = table(*b"MCFG", &body);
        let first = Range { base: 0xb000_0000, segment: 0, first_bus: 0, last_bus: 255 };
        let second = Range { base: 0xc000_0000, segment: 1, first_bus: 3, last_bus: 3 };
        assert_eq!(read(&Table::check(&bytes).expect("sound")), Ok(vec![first, second]));
        let cut = table(*b"MCFG", &body[..body.len() - 1]);
        assert_eq!(read(&Table::check(&cut).expect("sound")), Ok(vec![first]));
    }

    #[test]
    fn what_no_configuration_space_can_be_and_a_table_without_room_are_refused() {
        for wrong in [entry(0xb000_0000, 0, [4, 3]), entry(0xb000_0002, 0, [0, 3]), entry(0xb008_0000, 0, [0, 3])] {
            let bytes = table(*b"MCFG", &[vec![0; 8], wrong].concat());
            assert_eq!(read(&Table::check(&bytes).expect("sound")), Ok(vec![]));
        }
        let short = table(*b"MCFG", &[0; 7]);
        assert_eq!(read(&Table::check(&short).expect("sound")), Err(TableFault::TooShort { at: 43 }));
    }
}
