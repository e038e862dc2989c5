//! Numbers and texts in a payload.

use alloc::string::String;
use alloc::vec::Vec;

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
    /// There is no message of that kind in this direction.
    Kind {
        /// The kind.
        found: u8,
        /// The number of its message: a request's is answered with [`super::Outcome::Unknown`].
        sequence: u16,
    },
    /// The body is too short, too long, or holds what its kind does not allow.
    Body {
        /// The message's kind.
        kind: u8,
        /// The number of its message: a request's is answered with [`super::Outcome::Unknown`].
        sequence: u16,
    },
    /// Shorter than a message's first four bytes.
    Short,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Version { found, .. } => {
                write!(f, "the peer speaks version {found} of the control protocol, this is {}", super::VERSION)
            }
            Self::Kind { found, .. } => write!(f, "no control message is of kind {found:#04x}"),
            Self::Body { kind, .. } => write!(f, "the body of a control message of kind {kind:#04x} is malformed"),
            Self::Short => write!(f, "a control message is too short"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// What is left to read of a body.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A length byte, at most `max`, and that many bytes.
    pub(super) fn counted(&mut self, max: usize) -> Option<&'a [u8]> {
        let count = usize::from(self.u8()?);
        if count > max { None } else { self.bytes(count) }
    }

    pub(super) fn text(&mut self, max: usize) -> Option<String> {
        core::str::from_utf8(self.counted(max)?).ok().map(String::from)
    }
}

/// Appends a length byte and `bytes`, cut to `max`.
pub(super) fn put_counted(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let bytes = &bytes[..bytes.len().min(max)];
    out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(bytes);
}

/// Appends a text, cut to `max` bytes between two characters.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str, max: usize) {
    put_counted(out, &text.as_bytes()[..text.floor_char_boundary(max)], max);
}
