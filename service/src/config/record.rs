//! A copy of the settings as a medium has it: a header of one cache line, then the lines of [`Settings::text`].
//!
//! | bytes | field |
//! |---|---|
//! | 0 to 15 | signature: `UNTORN_CONFIG` and zeroes |
//! | 16, 17 | major version: 1. Of a greater one nothing is understood |
//! | 18, 19 | minor version: 0. A greater one has the same form, and perhaps more keys |
//! | 20 to 23 | bytes of the lines |
//! | 24 to 31 | sequence: of two sound copies the greater counts |
//! | 32 to 55 | zeroes, now |
//! | 56 to 63 | CRC-64/XZ of the 56 bytes before, and of the lines |
//!
//! All numbers are little-endian.

use alloc::vec::Vec;

use crc::{CRC_64_XZ, Crc};

use super::settings::{Settings, TEXT_BYTES_MAX};

/// Bytes of the header: a cache line.
pub const HEADER_BYTES: usize = 64;

/// The first bytes of every copy.
pub const SIGNATURE: [u8; 16] = *b"UNTORN_CONFIG\0\0\0";

/// The version that is written.
const MAJOR: u16 = 1;

static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// A header.
pub type Header = [u8; HEADER_BYTES];

/// How often the settings were saved: of two sound copies the one with the greater number counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The one that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What a place for a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copy {
    /// None.
    None,
    /// A sound one.
    Sound(Sequence, Settings),
    /// One that a newer version wrote, of this major version.
    Newer(u16),
    /// What is left of one.
    Damaged,
}

/// The bytes that follow a header: a length that no copy has is 0, and the copy damaged.
#[must_use]
pub fn text_bytes(header: &Header) -> usize {
    let [_, _, a, b, c, d, ..] = header[18..] else { unreachable!("a header is longer") };
    usize::try_from(u32::from_le_bytes([a, b, c, d])).ok().filter(|bytes| *bytes <= TEXT_BYTES_MAX).unwrap_or(0)
}

/// Returns the header and the lines of a copy.
#[must_use]
pub fn encode(sequence: Sequence, settings: &Settings) -> (Header, Vec<u8>) {
    let text = settings.text().into_bytes();
    let bytes = u32::try_from(text.len()).expect("at most TEXT_BYTES_MAX");
    let mut header = [0; HEADER_BYTES];
    header[..16].copy_from_slice(&SIGNATURE);
    header[16..18].copy_from_slice(&MAJOR.to_le_bytes());
    header[20..24].copy_from_slice(&bytes.to_le_bytes());
    header[24..32].copy_from_slice(&sequence.0.to_le_bytes());
    let sum = checksum(&header, &text);
    header[56..].copy_from_slice(&sum.to_le_bytes());
    (header, text)
}

/// Reads a copy: a header, and the [`text_bytes`] that follow it.
#[must_use]
pub fn decode(header: &Header, text: &[u8]) -> Copy {
    if header[..16] != SIGNATURE {
        return Copy::None;
    }
    let major = u16::from_le_bytes([header[16], header[17]]);
    if major > MAJOR {
        return Copy::Newer(major);
    }
    let (field, sum) = (header[24..].first_chunk(), header[56..].first_chunk());
    let (Some(sequence), Some(sum)) = (field, sum) else { unreachable!("a header is longer") };
    let is_whole = text.len() == text_bytes(header) && checksum(header, text) == u64::from_le_bytes(*sum);
    let text = core::str::from_utf8(text).ok().filter(|_| is_whole && major == MAJOR);
    match text.and_then(|text| Settings::parse(text).ok()) {
        Some(settings) => Copy::Sound(Sequence(u64::from_le_bytes(*sequence)), settings),
        None => Copy::Damaged,
    }
}

fn checksum(header: &Header, text: &[u8]) -> u64 {
    let mut digest = CRC.digest();
    digest.update(&header[..56]);
    digest.update(text);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::parse("net0=off\nnvme.export=pmem0s\n").expect("plain")
    }

    #[test]
    fn a_copy_is_read_back_and_no_flipped_bit_is_believed() {
        let (header, text) = encode(Sequence(7), &settings());
        assert_eq!(decode(&header, &text), Copy::Sound(Sequence(7), settings()));
        for bit in 0..(HEADER_BYTES + text.len()) * 8 {
            let (mut header, mut text) = (header, text.clone());
            match bit / 8 {
                at if at < HEADER_BYTES => header[at] ^= 1 << (bit % 8),
                at => text[at - HEADER_BYTES] ^= 1 << (bit % 8),
            }
            text.resize(text_bytes(&header), 0);
            assert!(!matches!(decode(&header, &text), Copy::Sound(..)), "bit {bit}");
        }
    }

    #[test]
    fn any_mix_of_a_header_s_pieces_with_zeroes_is_no_copy() {
        let (header, text) = encode(Sequence(1), &settings());
        for there in 0_u32..255 {
            let mut mixed = header;
            for piece in (0..8).filter(|piece| there >> piece & 1 == 0) {
                mixed[piece * 8..][..8].fill(0);
            }
            let of_this_length = text_bytes(&mixed) == text.len();
            let found = decode(&mixed, if of_this_length { &text } else { &[] });
            // Its fourth, fifth and sixth piece are zero in all.
            let whole = there & 0b1000_1111 == 0b1000_1111;
            assert_eq!(matches!(found, Copy::Sound(..)), whole, "{there:#b}");
        }
    }

    #[test]
    fn a_newer_version_is_known_and_its_keys_are_kept() {
        let (mut header, text) = encode(Sequence(1), &settings());
        header[16] = 2;
        assert_eq!(decode(&header, &text), Copy::Newer(2));
        // A newer minor version, with a key that this one does not know.
        let newer = Settings::parse("from.the.future=1\nnet0=off\n").expect("plain");
        let (mut header, text) = encode(Sequence(3), &newer);
        header[18] = 9;
        let sum = checksum(&header, &text);
        header[56..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(decode(&header, &text), Copy::Sound(Sequence(3), newer));
    }
}
