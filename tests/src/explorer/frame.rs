//! The parts of a medium where anything stands, with a hash that follows each change. All else is zero.

use std::ops::Range;
use std::sync::Arc;

/// A number that depends on both, well mixed.
#[must_use]
pub const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ 0xA076_1D64_78BD_642F) as u128 * (b ^ 0xE703_7ED1_A0B4_28DB) as u128;
    #[allow(clippy::cast_possible_truncation)] // both halves are wanted
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

const PIECE: usize = 8;

/// What one piece adds to the hash of all.
const fn piece_hash(number: usize, bytes: [u8; PIECE]) -> u64 {
    mix(mix(number as u64, u64::from_le_bytes(bytes)), 0x9E37_79B9_7F4A_7C15)
}

/// Parts of a medium, in ascending order, whose bytes a frame keeps one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(Arc<[Range<u64>]>);

impl Windows {
    /// These parts: ascending, apart, and made of whole pieces.
    #[must_use]
    pub fn new(parts: &[Range<u64>]) -> Self {
        assert!(parts.iter().all(|part| part.start % 8 == 0 && part.end % 8 == 0), "whole pieces");
        assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start), "ascending");
        Self(parts.into())
    }

    /// The parts.
    #[must_use]
    pub fn parts(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Where in a frame the bytes from `at` on are, if all of them are kept.
    #[must_use]
    pub fn place(&self, at: u64, bytes: usize) -> Option<usize> {
        let mut before = 0;
        for part in &*self.0 {
            if part.contains(&at) {
                let inside = at + bytes as u64 <= part.end;
                return inside.then(|| usize::try_from(before + at - part.start).ok()).flatten();
            }
            before += part.end - part.start;
        }
        None
    }

    /// Copies out the medium's bytes from `at` on; `bytes` are kept as a frame keeps them.
    pub fn read(&self, bytes: &[u8], at: u64, into: &mut [u8]) {
        if let Some(place) = self.place(at, into.len()) {
            into.copy_from_slice(&bytes[place..place + into.len()]);
            return;
        }
        into.fill(0);
        let past = at + into.len() as u64;
        let mut before = 0;
        for part in &*self.0 {
            let (start, end) = (part.start.max(at), part.end.min(past));
            if start < end {
                let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
                let kept = &bytes[index(before + start - part.start)..index(before + end - part.start)];
                into[index(start - at)..index(end - at)].copy_from_slice(kept);
            }
            before += part.end - part.start;
        }
    }
}

/// Bytes, and their hash: the exclusive or of their pieces'.
#[derive(Clone, Debug)]
pub struct Frame {
    windows: Windows,
    bytes: Vec<u8>,
    hash: u64,
}

/// What a piece was before.
#[derive(Clone, Copy, Debug)]
pub struct Before(usize, [u8; PIECE]);

impl Frame {
    /// What `read` gives of these parts of a medium.
    pub fn new(windows: Windows, mut read: impl FnMut(u64, &mut [u8])) -> Self {
        let mut bytes = Vec::new();
        for part in windows.parts() {
            let start = bytes.len();
            bytes.resize(start + usize::try_from(part.end - part.start).unwrap_or(0), 0);
            read(part.start, &mut bytes[start..]);
        }
        let (pieces, _) = bytes.as_chunks::<PIECE>();
        let hash = pieces.iter().enumerate().fold(0, |hash, (number, piece)| hash ^ piece_hash(number, *piece));
        Self { windows, bytes, hash }
    }

    /// Where its bytes are on the medium.
    #[must_use]
    pub const fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The bytes of all parts, one after the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their hash.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    fn piece(&self, number: usize) -> [u8; PIECE] {
        let mut piece = [0; PIECE];
        piece.copy_from_slice(&self.bytes[number * PIECE..][..PIECE]);
        piece
    }

    /// Whether these bytes stand there already.
    #[must_use]
    pub fn has(&self, at: u64, bytes: &[u8]) -> bool {
        self.windows.place(at, bytes.len()).is_some_and(|place| &self.bytes[place..place + bytes.len()] == bytes)
    }

    /// Stores something that lies within one piece, and gives what the piece was before.
    ///
    /// # Panics
    /// If the frame does not keep that place.
    pub fn put(&mut self, at: u64, bytes: &[u8]) -> Before {
        let place = self.windows.place(at, bytes.len()).expect("stores go where the frame's windows are");
        let number = place / PIECE;
        let before = self.piece(number);
        self.bytes[place..place + bytes.len()].copy_from_slice(bytes);
        self.hash ^= piece_hash(number, before) ^ piece_hash(number, self.piece(number));
        Before(number, before)
    }

    /// Takes a [`Frame::put`] back.
    pub fn restore(&mut self, Before(number, before): Before) {
        self.hash ^= piece_hash(number, self.piece(number)) ^ piece_hash(number, before);
        self.bytes[number * PIECE..][..PIECE].copy_from_slice(&before);
    }
}
