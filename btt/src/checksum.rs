//! The checksum of info blocks: two running sums over little-endian words, known as "Fletcher64".
//!
//! UEFI 2.10, section 13.19 names it for label index blocks; the info block uses the same (NVDIMM Namespace
//! Specification, table 4). The sums are taken modulo 2^32, not modulo 2^32 - 1.

/// The checksum of `bytes`, whose length is a multiple of 4; the checksum field itself counts as zero.
#[must_use]
pub fn fletcher64(bytes: &[u8]) -> u64 {
    fletcher64_before(bytes, 0)
}

/// The checksum of `bytes`, whose length is a multiple of 4, with so many words of zeroes behind them: a checksum field that
/// comes last.
pub(crate) fn fletcher64_before(bytes: &[u8], zeroes: u32) -> u64 {
    let mut low = 0_u32;
    let mut high = 0_u32;
    for word in bytes.chunks_exact(4) {
        low = low.wrapping_add(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        high = high.wrapping_add(low);
    }
    high = high.wrapping_add(low.wrapping_mul(zeroes));
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::{fletcher64, fletcher64_before};

    #[test]
    fn sums_wrap_at_two_to_the_32() {
        assert_eq!(fletcher64(&[]), 0);
        assert_eq!(fletcher64(&[1, 0, 0, 0, 2, 0, 0, 0]), 4 << 32 | 3);
        assert_eq!(fletcher64(&[0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]), 0xffff_ffff << 32);
    }

    #[test]
    fn zeroes_behind_count_as_if_they_were_there() {
        let bytes: [u8; 36] = core::array::from_fn(|at| if at < 24 { 0xf3 ^ at.to_le_bytes()[0] } else { 0 });
        for zeroes in 0..=3 {
            assert_eq!(fletcher64_before(&bytes[..24], zeroes), fletcher64(&bytes[..24 + 4 * zeroes as usize]));
        }
    }
}
