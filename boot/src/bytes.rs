//! Little-endian numbers in bytes from outside: `None` where a field reaches past the end.

/// Reads the 16-bit field at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

/// Reads the 32-bit field at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

/// Reads the 64-bit field at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_only_if_all_of_it_is_there() {
        let bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!((u16_at(&bytes, 7), u16_at(&bytes, 8)), (Some(0x0807), None));
        assert_eq!((u32_at(&bytes, 5), u32_at(&bytes, 6)), (Some(0x0807_0605), None));
        assert_eq!((u64_at(&bytes, 1), u64_at(&bytes, 2)), (Some(0x0807_0605_0403_0201), None));
        assert_eq!((u16_at(&bytes, usize::MAX), u64_at(&[], 0)), (None, None));
    }
}
