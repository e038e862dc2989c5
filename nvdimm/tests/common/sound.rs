//! What holds of whatever was found, whatever bytes it was found in.

use nvdimm::Inventory;
use nvdimm::region::{Kind, MAX_REGIONS};

/// What holds whatever the bytes were.
pub(crate) fn check(inventory: &Inventory) {
    assert!(inventory.regions.len() <= MAX_REGIONS);
    assert!(inventory.regions.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert!(inventory.dimms.windows(2).all(|pair| pair[0].handle < pair[1].handle));
    let mut ranges: Vec<_> = inventory
        .regions
        .iter()
        .filter_map(|region| match &region.kind {
            Kind::Pmem(pmem) => Some((pmem.base, pmem.bytes)),
            Kind::Blk(blk) => {
                let windows = &blk.windows;
                for window in 0..u64::from(windows.count) {
                    assert!(windows.control.locate(window * windows.registers.window_bytes).is_some());
                    assert!(windows.data.locate(windows.data_offset + window * windows.data_stride).is_some());
                }
                assert!(windows.transfer_bytes > 0 && windows.transfer_bytes.is_multiple_of(64));
                None
            }
        })
        .collect();
    ranges.sort_unstable();
    for (base, bytes) in &ranges {
        assert!(*bytes > 0 && (base | bytes).is_multiple_of(4096) && base + bytes <= 1 << 52);
    }
    assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "regions are apart");
    for namespace in &inventory.namespaces {
        let region = inventory.region(namespace.id.region).expect("a namespace has its region");
        for extent in &namespace.extents {
            let start = if let Kind::Blk(blk) = &region.kind { extent.start - blk.mapping.dpa } else { extent.start };
            assert!(extent.bytes > 0 && start + extent.bytes <= region.bytes());
        }
    }
    for (place, namespace) in inventory.namespaces.iter().enumerate() {
        for other in &inventory.namespaces[..place] {
            assert_ne!(namespace.id, other.id);
            let apart = namespace
                .extents
                .iter()
                .all(|a| other.extents.iter().all(|b| a.start + a.bytes <= b.start || b.start + b.bytes <= a.start));
            assert!(apart || namespace.id.region != other.id.region, "namespaces are apart");
        }
    }
    // Everything can be shown.
    for entry in &inventory.nfit.entries {
        assert!(!format!("{}: {}", entry.at, entry.structure).is_empty());
    }
    assert!(inventory.findings().all(|finding| !finding.to_string().is_empty()));
}
