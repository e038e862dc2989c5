//! Messages as payloads: a header of four bytes that every version of the protocol can read, and a [`postcard`] message.

use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{VERSION, frame};

/// The sender of a message. By it each side knows its own messages, should the line echo.
#[derive(Clone, Copy)]
pub(super) enum Sender {
    Bridge = 0,
    Appliance = 1,
}

/// Why a payload is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The peer speaks another version of the protocol.
    Version {
        /// The one that it speaks.
        found: u8,
        /// The number of its message.
        sequence: u16,
    },
    /// It is a message of our own side: the line echoes. It gets no answer, which would be echoed, too.
    Echo,
    /// There is no message of that kind in this direction, or its fields are not those of its kind.
    Message {
        /// The number of the message: a request's is answered with [`super::Outcome::Unknown`].
        sequence: u16,
    },
    /// Shorter than a header.
    Short,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version { found, .. } => {
                write!(f, "the peer speaks version {found} of the control protocol, this is {VERSION}")
            }
            Self::Message { sequence } => write!(f, "control message {sequence} is malformed, or of an unknown kind"),
            Self::Echo => write!(f, "a control message of our own side came back: the line echoes"),
            Self::Short => write!(f, "a control message is too short"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// The frame of a message.
pub(super) fn encode(sender: Sender, sequence: u16, message: &impl Serialize) -> Vec<u8> {
    let [low, high] = sequence.to_le_bytes();
    let payload = postcard::to_extend(message, alloc::vec![VERSION, sender as u8, low, high]);
    frame::frame(&payload.expect("a vector takes whatever a message holds"))
}

/// The message in a payload, and its number. `is_bounded` checks that the message's lists keep to their limits; until
/// then the payload bounds them, since postcard makes no room for more elements than there are bytes left.
pub(super) fn decode<T: DeserializeOwned>(
    sender: Sender,
    payload: &[u8],
    is_bounded: impl FnOnce(&T) -> bool,
) -> Result<(u16, T), DecodeError> {
    let ([version, from, low, high], message) = payload.split_first_chunk().ok_or(DecodeError::Short)?;
    let sequence = u16::from_le_bytes([*low, *high]);
    if *version != VERSION {
        return Err(DecodeError::Version { found: *version, sequence });
    }
    if *from != sender as u8 {
        return Err(DecodeError::Echo);
    }
    match postcard::take_from_bytes(message) {
        Ok((message, [])) if is_bounded(&message) => Ok((sequence, message)),
        _ => Err(DecodeError::Message { sequence }),
    }
}
