//! Secrets as nvme-cli writes them: `DHHC-1:HH:BASE64:` (NVMe Base 2.0, section 8.13.5.8). HH is the hash by which a secret
//! becomes a key, 00 for none; the text is the secret's 32, 48 or 64 bytes and their CRC-32.

use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc::{CRC_32_ISO_HDLC, Crc};

use super::hash::Hash;
use crate::name::Nqn;

static CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A secret. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    hash: Option<Hash>,
    bytes: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a secret")
    }
}

impl Secret {
    /// The secret that is written so.
    ///
    /// # Errors
    /// It is none, or mistyped.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let rest = text.strip_prefix("DHHC-1:").ok_or(InvalidSecret)?;
        let (hash, rest) = rest.split_once(':').ok_or(InvalidSecret)?;
        let hash = match hash {
            "00" => None,
            "01" => Some(Hash::Sha256),
            "02" => Some(Hash::Sha384),
            "03" => Some(Hash::Sha512),
            _ => return Err(InvalidSecret),
        };
        let all = STANDARD.decode(rest.strip_suffix(':').unwrap_or(rest)).map_err(|_| InvalidSecret)?;
        let (bytes, crc) = all.split_last_chunk::<4>().ok_or(InvalidSecret)?;
        if !matches!(bytes.len(), 32 | 48 | 64) || CRC32.checksum(bytes) != u32::from_le_bytes(*crc) {
            return Err(InvalidSecret);
        }
        Ok(Self { hash, bytes: bytes.to_vec() })
    }

    /// The key that it is for the host or subsystem of that name: so one secret for many is still a key of each.
    pub(super) fn key(&self, name: &Nqn) -> Vec<u8> {
        match self.hash {
            None => self.bytes.clone(),
            Some(hash) => hash.hmac(&self.bytes, &[name.as_str().as_bytes(), b"NVMe-over-Fabrics"]),
        }
    }
}

/// The text is no secret, or a digit of it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSecret;

impl fmt::Display for InvalidSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no secret, or mistyped: one is made by nvme gen-dhchap-key, and begins with DHHC-1:")
    }
}

impl core::error::Error for InvalidSecret {}

/// The secrets of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The host's, which it must prove to know.
    pub host: Secret,
    /// The controller's, for hosts that want it to prove itself.
    pub controller: Option<Secret>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_those_of_nvme_cli() {
        // Made by nvme gen-dhchap-key.
        let whole = "DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:";
        let secret = Secret::parse(whole).expect("a secret");
        assert_eq!((secret.hash, secret.bytes.len()), (None, 32));
        assert_eq!(Secret::parse(whole.trim_end_matches(':')), Ok(secret), "the last colon may be missing");
        for wrong in [
            "",
            "DHHC-1:",
            "DHHC-1:00:",
            "DHHC-2:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:",
            "DHHC-1:04:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:",
            "DHHC-1:00:NYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:",
            "DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKA==:",
            "DHHC-1:00:%%%:",
        ] {
            assert_eq!(Secret::parse(wrong), Err(InvalidSecret), "{wrong}");
        }
        assert_eq!(alloc::format!("{:?}", Secret::parse(whole)), "Ok(a secret)");
    }
}
