//! The checksum of label index blocks, labels and interleave-set cookies.

/// "Fletcher64" as NVDIMM software means it: over little-endian 32-bit words, both sums modulo 2^32.
///
/// Bytes after the last whole word do not count.
pub(crate) fn fletcher64(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = (0u32, 0u32);
    for word in bytes.as_chunks::<4>().0 {
        low = low.wrapping_add(u32::from_le_bytes(*word));
        high = high.wrapping_add(low);
    }
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::fletcher64;

    #[test]
    fn known_sums() {
        assert_eq!(fletcher64(&[]), 0);
        assert_eq!(fletcher64(&[1, 0, 0, 0]), 1 << 32 | 1);
        assert_eq!(fletcher64(&[1, 0, 0, 0, 2, 0, 0, 0]), 4 << 32 | 3);
        assert_eq!(
            fletcher64(&[0xff; 8]),
            (0xffff_ffff_u64.wrapping_add(0xffff_fffe) & 0xffff_ffff) << 32 | 0xffff_fffe
        );
    }
}
