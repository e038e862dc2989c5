//! Frames: where a message begins and ends on a line that may lose bytes.

use alloc::vec::Vec;

use crc::{CRC_32_ISO_HDLC, Crc};

/// The longest payload, in bytes: an Attach with all its ranges and the longest numbers takes 263.
pub const PAYLOAD_MAX: usize = 288;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
const CRC_BYTES: usize = 4;
/// COBS adds a byte for each 254 begun.
const STUFFED_MAX: usize = PAYLOAD_MAX + CRC_BYTES + 2;

/// Why the bytes between two delimiters are no frame. They are dropped, and the next frame is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// More bytes than a frame can have.
    TooLong,
    /// The byte stuffing is broken, or there is no room for a checksum.
    Malformed,
    /// The checksum is another one.
    Checksum,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "a control frame is too long",
            Self::Malformed => "a control frame is malformed",
            Self::Checksum => "a control frame has a wrong checksum",
        })
    }
}

impl core::error::Error for FrameError {}

/// Makes a frame of a payload.
///
/// # Panics
/// If the payload is longer than [`PAYLOAD_MAX`]: no message is.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_MAX, "the bounds of the messages' fields bound them");
    let stuffed = cobs::encode_vec(&[payload, &CRC.checksum(payload).to_le_bytes()].concat());
    [&[0], &stuffed[..], &[0]].concat()
}

/// Finds frames in the bytes that arrive.
#[derive(Clone, Debug, Default)]
pub struct Deframer {
    stuffed: Vec<u8>,
    too_long: bool,
}

impl Deframer {
    /// A deframer that has taken no byte yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { stuffed: Vec::new(), too_long: false }
    }

    /// Takes the next byte. Returns a payload, or what was wrong, when a frame ends with it.
    ///
    /// Chatter before the first frame is an error too: count it, go on.
    pub fn push(&mut self, byte: u8) -> Option<Result<Vec<u8>, FrameError>> {
        if byte != 0 {
            self.too_long |= self.stuffed.len() == STUFFED_MAX;
            if !self.too_long {
                self.stuffed.push(byte);
            }
            return None;
        }
        if self.stuffed.is_empty() {
            return None; // between two frames
        }
        let result = if self.too_long { Err(FrameError::TooLong) } else { payload(&self.stuffed) };
        self.stuffed.clear();
        self.too_long = false;
        Some(result)
    }
}

fn payload(stuffed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let frame = cobs::decode_vec(stuffed).map_err(|_| FrameError::Malformed)?;
    let (payload, crc) = frame.split_last_chunk::<CRC_BYTES>().ok_or(FrameError::Malformed)?;
    if CRC.checksum(payload) != u32::from_le_bytes(*crc) {
        return Err(FrameError::Checksum);
    }
    if payload.len() > PAYLOAD_MAX {
        return Err(FrameError::TooLong);
    }
    Ok(payload.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heard(deframer: &mut Deframer, bytes: &[u8]) -> Vec<Result<Vec<u8>, FrameError>> {
        bytes.iter().filter_map(|byte| deframer.push(*byte)).collect()
    }

    proptest! {
        #[test]
        fn a_payload_comes_through_whatever_its_bytes(
            payload in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..=PAYLOAD_MAX),
        ) {
            let bytes = frame(&payload);
            prop_assert!(bytes[1..bytes.len() - 1].iter().all(|byte| *byte != 0));
            prop_assert_eq!(heard(&mut Deframer::new(), &bytes), [Ok(payload)]);
        }

        #[test]
        fn long_runs_without_a_zero_come_through(length in 240..=PAYLOAD_MAX) {
            let payload = alloc::vec![0x55; length];
            prop_assert_eq!(heard(&mut Deframer::new(), &frame(&payload)), [Ok(payload)]);
        }

        #[test]
        fn after_noise_and_lost_bytes_the_next_frame_is_heard(
            noise in prop::collection::vec(any::<u8>(), 0..600),
            payload in prop::collection::vec(any::<u8>(), 0..64),
            lost in any::<prop::sample::Index>(),
        ) {
            let mut deframer = Deframer::new();
            heard(&mut deframer, &noise);
            let mut hurt = frame(&payload);
            hurt.remove(lost.index(hurt.len()));
            heard(&mut deframer, &hurt);
            let all = heard(&mut deframer, &frame(&payload));
            prop_assert_eq!(all.last(), Some(&Ok(payload)));
        }

        #[test]
        fn a_changed_bit_is_seen(payload in prop::collection::vec(any::<u8>(), 1..64), bit in any::<prop::sample::Index>()) {
            let mut bytes = frame(&payload);
            let bit = 8 + bit.index((bytes.len() - 2) * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(heard(&mut Deframer::new(), &bytes).iter().all(Result::is_err));
        }
    }
}
