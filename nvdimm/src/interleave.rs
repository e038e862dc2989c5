//! Where a DIMM's registers and windows lie in physical addresses: the arithmetic of interleaved ranges.
//!
//! With lines of L bytes, N lines in the table and W ways, offset o of a DIMM's share lies in line o / L. Line l lies at
//! `base + region_offset + offsets[l % N] * L + (l / N) * N * W * L` (ACPI 6.5, 5.2.25.4). Persistent ranges do not
//! need this: there the memory controller does it.

use alloc::vec::Vec;

use crate::finding::faults;
use crate::nfit::{Interleave, RegionMapping, SystemPhysicalRange};

faults! {
    /// Why an interleaved DIMM's bytes cannot be found.
    pub enum Fault {
        /// A share begins, or windows lie, beyond their address range.
        refused WindowsLeaveRange { index: u16 } => "the windows leave address range {index}";
        /// A line lies outside of the set.
        refused LinesCollide { line: u32 } =>
            "interleave line {line} collides with another line, or lies outside the set";
        /// The interleave structure has no lines.
        refused NoLines => "the interleave structure has no lines";
    }
}

/// A DIMM's share of an address range, as a space of its own that begins at offset 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpace {
    /// Physical address of offset 0 before interleaving.
    base: u64,
    /// Bytes from `base` to the end of the range.
    limit: u64,
    lines: Option<Lines>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Lines {
    line_bytes: u64,
    /// The pattern's length: N * W * L.
    turn_bytes: u64,
    offsets: Vec<u32>,
}

impl DeviceSpace {
    /// The share that `mapping` describes, of the range that it names.
    ///
    /// # Errors
    /// [`Fault::WindowsLeaveRange`] when the share begins beyond the range, [`Fault::LinesCollide`] when a line lies
    /// outside of the pattern, so that the pattern's next turn would hit it again.
    pub fn new(
        range: &SystemPhysicalRange,
        mapping: &RegionMapping,
        interleave: Option<&Interleave>,
    ) -> Result<Self, Fault> {
        let leaves = Fault::WindowsLeaveRange { index: range.index.0 };
        let limit = range.bytes.checked_sub(mapping.region_offset).ok_or(leaves)?;
        let base = range.base.checked_add(mapping.region_offset).ok_or(leaves)?;
        let lines = match interleave {
            None => None,
            Some(table) => {
                let pattern = table.offsets.len() as u64 * u64::from(mapping.ways);
                if let Some(&line) = table.offsets.iter().find(|&&line| u64::from(line) >= pattern) {
                    return Err(Fault::LinesCollide { line });
                }
                let line_bytes = u64::from(table.line_bytes);
                let turn_bytes = pattern.checked_mul(line_bytes).ok_or(leaves)?;
                if turn_bytes == 0 {
                    return Err(Fault::NoLines);
                }
                Some(Lines { line_bytes, turn_bytes, offsets: table.offsets.clone() })
            }
        };
        Ok(Self { base, limit, lines })
    }

    /// The physical address of `offset`, and how many bytes from there on lie together. `None` outside of the range.
    #[must_use]
    pub fn locate(&self, offset: u64) -> Option<(u64, u64)> {
        let (at, together) = match &self.lines {
            None => (offset, self.limit.checked_sub(offset)?),
            Some(lines) => {
                let (line, within) = (offset / lines.line_bytes, offset % lines.line_bytes);
                let count = lines.offsets.len() as u64;
                let place = lines.offsets.get(usize::try_from(line % count).ok()?)?;
                let turn = (line / count).checked_mul(lines.turn_bytes)?;
                let start = turn.checked_add(u64::from(*place).checked_mul(lines.line_bytes)?)?;
                (start.checked_add(within)?, lines.line_bytes - within)
            }
        };
        let together = together.min(self.limit.checked_sub(at)?);
        (together > 0).then_some(())?;
        Some((self.base.checked_add(at)?, together))
    }

    /// Whether all `bytes` bytes from `offset` on lie in the range. `bytes` is not 0.
    ///
    /// Later turns of the pattern lie higher, so it is enough to look at each line of the last two turns.
    #[must_use]
    pub fn holds(&self, offset: u64, bytes: u64) -> bool {
        let Some(last) = bytes.checked_sub(1).and_then(|more| offset.checked_add(more)) else { return false };
        let Some(lines) = &self.lines else { return self.locate(last).is_some() };
        let count = lines.offsets.len() as u64;
        let (first_line, last_line) = (offset / lines.line_bytes, last / lines.line_bytes);
        let from = first_line.max(last_line.saturating_sub(count));
        // Of each line the highest byte that is used: the whole line, but for the last one.
        (from..last_line).all(|line| self.holds_byte(line * lines.line_bytes + lines.line_bytes - 1))
            && self.holds_byte(last)
    }

    fn holds_byte(&self, offset: u64) -> bool {
        self.locate(offset).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DeviceHandle;
    use crate::nfit::{ControlRegionIndex, InterleaveIndex, MappingFlags, RangeFlags, RangeIndex, RangeKind};
    use alloc::vec;

    fn range(bytes: u64) -> SystemPhysicalRange {
        SystemPhysicalRange {
            index: RangeIndex(1),
            flags: RangeFlags::empty(),
            proximity_domain: 0,
            kind: RangeKind::BlockDataWindow,
            base: 0x1000_0000,
            bytes,
            memory_attribute: 0,
            location_cookie: None,
        }
    }

    fn mapping(region_offset: u64, ways: u16) -> RegionMapping {
        RegionMapping {
            device: DeviceHandle(1),
            physical_id: 0,
            region_id: 0,
            range: RangeIndex(1),
            control_region: ControlRegionIndex(1),
            region_bytes: 0,
            region_offset,
            dpa: 0,
            interleave: InterleaveIndex(1),
            ways,
            flags: MappingFlags::empty(),
        }
    }

    fn table(line_bytes: u32, offsets: &[u32]) -> Interleave {
        Interleave { index: InterleaveIndex(1), line_bytes, offsets: offsets.to_vec() }
    }

    #[test]
    fn without_a_table_a_share_lies_together() {
        let space = DeviceSpace::new(&range(0x1000), &mapping(0x100, 1), None).expect("in the range");
        assert_eq!(space.locate(0), Some((0x1000_0100, 0xf00)));
        assert_eq!(space.locate(0xeff), Some((0x1000_0fff, 1)));
        assert_eq!(space.locate(0xf00), None);
        assert_eq!(space.locate(u64::MAX), None);
        assert!(space.holds(0, 0xf00) && !space.holds(0, 0xf01) && !space.holds(u64::MAX, 2));
    }

    #[test]
    fn lines_follow_the_table_and_turns_follow_the_ways() {
        // Two ways, two lines of 256 bytes: this DIMM has lines 1 and 2 of each turn of four.
        let space = DeviceSpace::new(&range(0x1000), &mapping(0, 2), Some(&table(256, &[1, 2]))).expect("in the range");
        for (offset, address, together) in [
            (0x000, 0x1000_0100, 0x100),
            (0x0ff, 0x1000_01ff, 0x001),
            (0x100, 0x1000_0200, 0x100),
            (0x200, 0x1000_0500, 0x100),
            (0x310, 0x1000_0610, 0x0f0),
            (0x7ff, 0x1000_0eff, 0x001),
        ] {
            assert_eq!(space.locate(offset), Some((address, together)), "{offset:#x}");
        }
        assert_eq!(space.locate(0x800), None);
        assert!(space.holds(0, 0x800) && !space.holds(0, 0x801));
    }

    #[test]
    fn every_byte_has_its_own_place_and_holds_agrees_with_locate() {
        let lines = vec![5, 0, 3];
        let space =
            DeviceSpace::new(&range(0x1234), &mapping(0x40, 2), Some(&table(64, &lines))).expect("in the range");
        let mut seen = alloc::collections::BTreeSet::new();
        let reachable = (0..0x2000).take_while(|&offset| match space.locate(offset) {
            Some((address, _)) => seen.insert(address),
            None => false,
        });
        let reachable = reachable.count() as u64;
        assert!(reachable > 0 && space.locate(reachable).is_none());
        for offset in 0..reachable {
            for bytes in [1, 63, 64, 65, 200, reachable] {
                let all = (offset..offset + bytes).all(|byte| space.locate(byte).is_some());
                assert_eq!(space.holds(offset, bytes), all, "{bytes} at {offset}");
            }
        }
    }

    #[test]
    fn lines_outside_of_the_pattern_and_shares_outside_of_the_range_are_refused() {
        let far = DeviceSpace::new(&range(0x1000), &mapping(0, 2), Some(&table(256, &[0, 4])));
        assert_eq!(far, Err(Fault::LinesCollide { line: 4 }));
        let beyond = DeviceSpace::new(&range(0x1000), &mapping(0x1001, 1), None);
        assert_eq!(beyond, Err(Fault::WindowsLeaveRange { index: 1 }));
    }
}
