//! How many PCI host bridges ACPI's namespace has.
//!
//! Which bus each of them begins at stands in methods, and there is no interpreter here. That there is more than one can be
//! seen from their ids, which stand in the DSDT's bytes as they are (ACPI 6.5, 20.2.3): a double word behind its prefix.

/// `PNP0A03`, a PCI host bridge, and `PNP0A08`, one of PCI Express, which usually has both, as AML has them.
const PCI: [u8; 5] = [0x0c, 0x41, 0xd0, 0x0a, 0x03];
const PCI_EXPRESS: [u8; 5] = [0x0c, 0x41, 0xd0, 0x0a, 0x08];

/// Returns how many host bridges a table with these bytes seems to describe. Bytes that look alike only count too many.
#[must_use]
pub fn count(bytes: &[u8]) -> usize {
    let of = |id: [u8; 5]| bytes.windows(id.len()).filter(|window| *window == id).count();
    of(PCI).max(of(PCI_EXPRESS))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn each_host_bridge_counts_once_whichever_ids_it_has() {
        for (ids, expected) in [
            (&[][..], 0),
            (&[PCI], 1),
            (&[PCI_EXPRESS, PCI], 1),
            (&[PCI, PCI_EXPRESS, PCI_EXPRESS, PCI], 2),
            (&[PCI, PCI_EXPRESS, PCI], 2),
        ] {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| [&[0x08, b'_', b'H', b'I', b'D'][..], id].concat()).collect();
            assert_eq!(count(&bytes), expected);
        }
        assert_eq!(count(&PCI_EXPRESS[..4]), 0);
    }
}
