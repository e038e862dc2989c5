//! Header and data digests: CRC32C (NVMe/TCP 1.0, section 3.3.1.1).

use crc::{CRC_32_ISCSI, Crc, Digest as Sum, Table};

/// Sixteen bytes at a time.
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Its size on the wire, little-endian.
pub(crate) const DIGEST_BYTES: usize = 4;

/// A digest that is being made.
#[derive(Clone)]
pub(crate) struct Digest(Sum<'static, u32, Table<16>>);

impl Digest {
    /// Of no bytes yet.
    pub(crate) fn new() -> Self {
        Self(CRC32C.digest())
    }

    /// Of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut digest = Self::new();
        digest.update(bytes);
        digest.finish()
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// As it stands on the wire.
    pub(crate) fn finish(self) -> [u8; DIGEST_BYTES] {
        self.0.finalize().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    /// RFC 3720, appendix B.4.
    #[test]
    fn digests_are_those_of_iscsi() {
        assert_eq!(Digest::of(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(Digest::of(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
    }
}
