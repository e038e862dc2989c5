//! The device configuration space (VirtIO 1.3, section 5.2.4).

use super::{DiskProperties, SEG_MAX, UNIT_BYTES, ZEROES_SEGMENTS_MAX, ZEROES_UNITS_MAX};

/// Up to and with `unused1`; what follows in the specification needs features that are not offered.
pub const CONFIG_BYTES: usize = 60;

/// Where the field `writeback` is, the only one that a driver may write.
pub const WRITEBACK_AT: u8 = 32;

/// The bytes for a disk in a cache mode.
pub(super) fn bytes(disk: &DiskProperties, writeback: bool) -> [u8; CONFIG_BYTES] {
    let sector_units = disk.sector_bytes / UNIT_BYTES;
    // A discard of less than a sector would have to be refused.
    let discard = if disk.discard { [ZEROES_UNITS_MAX, ZEROES_SEGMENTS_MAX, sector_units] } else { [0; 3] };
    let zeroes = if disk.write_zeroes { [ZEROES_UNITS_MAX, ZEROES_SEGMENTS_MAX] } else { [0; 2] };

    let mut out = [0; CONFIG_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &disk.capacity_units().to_le_bytes());
    // 8: size_max, which is not offered
    put(12, &SEG_MAX.to_le_bytes());
    // 16: geometry, which is not offered
    put(20, &disk.sector_bytes.to_le_bytes());
    // 24: physical_block_exp and 25: alignment_offset are 0: a sector is what never tears
    put(26, &1_u16.to_le_bytes()); // min_io_size, in sectors
    put(28, &disk.run_sectors.to_le_bytes()); // opt_io_size
    put(usize::from(WRITEBACK_AT), &[u8::from(writeback)]);
    put(34, &disk.queues.to_le_bytes());
    put(36, &discard[0].to_le_bytes());
    put(40, &discard[1].to_le_bytes());
    put(44, &discard[2].to_le_bytes());
    put(48, &zeroes[0].to_le_bytes());
    put(52, &zeroes[1].to_le_bytes());
    put(56, &[u8::from(disk.write_zeroes && disk.discard)]); // write_zeroes_may_unmap
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_stands_where_the_specification_has_it() {
        let disk = DiskProperties {
            sector_bytes: 4096,
            sectors: 0x0102_0304,
            read_only: false,
            discard: true,
            write_zeroes: true,
            queues: 0x0506,
            run_sectors: 32,
            serial: [0; 20],
        };
        let expected: [&[u8]; 17] = [
            &[0x20, 0x18, 0x10, 0x08, 0, 0, 0, 0], // capacity: 8 units a sector
            &[0; 4],                               // size_max
            &[126, 0, 0, 0],                       // seg_max
            &[0; 4],                               // geometry
            &[0, 16, 0, 0],                        // blk_size
            &[0, 0, 1, 0, 32, 0, 0, 0],            // topology
            &[1],                                  // writeback
            &[0],                                  // unused0
            &[6, 5],                               // num_queues
            &[0, 0, 1, 0],                         // max_discard_sectors
            &[1, 0, 0, 0],                         // max_discard_seg
            &[8, 0, 0, 0],                         // discard_sector_alignment
            &[0, 0, 1, 0],                         // max_write_zeroes_sectors
            &[1, 0, 0, 0],                         // max_write_zeroes_seg
            &[1],                                  // write_zeroes_may_unmap
            &[0; 3],                               // unused1
            &[],
        ];
        assert_eq!(bytes(&disk, true).as_slice(), expected.concat());
    }
}
