//! Bytes of a region: what namespaces are made of.

/// Bytes of a region that belong to a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where they begin: from the region's first byte in a PMEM region, a DIMM physical address in a BLK region.
    pub start: u64,
    /// How many.
    pub bytes: u64,
}
