//! How many sectors can be written at once.

/// The lanes of a BTT: as many as it has free blocks and the machine has CPUs, and on a BLK region no more than there
/// are windows. At least one.
///
/// More lanes than CPUs would never be used at once; more than free blocks could not own one each; more than windows
/// would wait for each other.
#[must_use]
pub fn lanes(nfree: u32, cpus: u32, windows: Option<u16>) -> u32 {
    nfree.min(cpus).min(windows.map_or(u32::MAX, u32::from)).max(1)
}

#[cfg(test)]
mod tests {
    use super::lanes;

    #[test]
    fn the_scarcest_thing_decides() {
        //         nfree cpus windows  lanes
        for (nfree, cpus, windows, expected) in [
            (256, 4, None, 4),
            (2, 4, None, 2),
            (256, 1024, None, 256),
            (256, 8, Some(3), 3),
            (256, 2, Some(3), 2),
            (256, 0, Some(0), 1),
        ] {
            assert_eq!(lanes(nfree, cpus, windows), expected, "{nfree} {cpus} {windows:?}");
        }
    }
}
