//! A request's bytes, scattered over the shared memory.

use alloc::vec::Vec;

use super::{MemoryOffset, OutsideMemory, SharedMemory};
use crate::control::REGIONS_MAX;
use crate::virtqueue::CHAIN_MAX;

/// The most pieces: one a descriptor, and one more for each boundary in the memory table that they cross.
const SEGMENTS_MAX: usize = CHAIN_MAX + REGIONS_MAX;

/// A contiguous piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins.
    pub at: MemoryOffset,
    /// How long it is.
    pub bytes: u32,
    /// How many bytes stand before it.
    start: u64,
}

impl Segment {
    const fn end(&self) -> u64 {
        self.start + self.bytes as u64
    }
}

/// Pieces in order. It never grows: its room is there from the start.
#[derive(Debug)]
pub struct Segments {
    list: Vec<Segment>,
    /// The most pieces.
    most: usize,
}

impl Segments {
    /// No pieces, with the room for all that a request can have.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn with_room() -> Result<Self, alloc::collections::TryReserveError> {
        Self::with_room_for(SEGMENTS_MAX)
    }

    /// No pieces, with the room for `most`.
    ///
    /// # Errors
    /// There is no memory left.
    pub fn with_room_for(most: usize) -> Result<Self, alloc::collections::TryReserveError> {
        let mut list = Vec::new();
        list.try_reserve_exact(most)?;
        Ok(Self { list, most })
    }

    /// How many bytes they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.list.last().map_or(0, Segment::end)
    }

    /// The pieces.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter()
    }

    /// The bytes from `from` up to `end`; what is beyond their end is left out.
    #[must_use]
    pub fn span(&self, from: u64, end: u64) -> Span<'_> {
        let end = end.min(self.bytes());
        Span { segments: &self.list, from: from.min(end), end }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Appends a piece; false if there is no room.
    pub(super) fn push(&mut self, at: MemoryOffset, bytes: u32) -> bool {
        let room = self.list.len() < self.most;
        if room && bytes > 0 {
            let start = self.bytes();
            self.list.push(Segment { at, bytes, start });
        }
        room
    }

    /// Appends all of these bytes; false, and none, if there is no room for their pieces.
    pub fn append<M: SharedMemory + ?Sized>(&mut self, bytes: &Scatter<'_, M>) -> bool {
        let mark = self.mark();
        let all = bytes.pieces(0, bytes.bytes()).all(|(at, bytes)| self.push(at, bytes));
        if !all {
            self.cut(mark);
        }
        all
    }

    pub(super) fn mark(&self) -> usize {
        self.list.len()
    }

    pub(super) fn cut(&mut self, mark: usize) {
        self.list.truncate(mark);
    }
}

/// Some of the bytes of [`Segments`], in order.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    segments: &'a [Segment],
    from: u64,
    end: u64,
}

impl<'a> Span<'a> {
    /// How many bytes they are.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.from
    }

    /// A window of them: `bytes` bytes after the first `skip`; what is beyond their end is left out.
    pub fn window<M: SharedMemory + ?Sized>(&self, memory: &'a M, skip: u64, bytes: u64) -> Scatter<'a, M> {
        let from = self.from.saturating_add(skip).min(self.end);
        let end = from.saturating_add(bytes).min(self.end);
        Scatter { memory, segments: self.segments, from, end }
    }
}

/// A request's data in a consumer's memory: all of it there, in order, changing at any time.
///
/// This is what a back end moves, once: by [`Scatter::pieces`] and [`SharedMemory::pointer`] straight to and from its
/// medium, or by copies.
pub struct Scatter<'a, M: ?Sized> {
    memory: &'a M,
    segments: &'a [Segment],
    from: u64,
    end: u64,
}

impl<'a, M: SharedMemory + ?Sized> Scatter<'a, M> {
    /// The memory that the pieces are in.
    #[must_use]
    pub const fn memory(&self) -> &'a M {
        self.memory
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.end - self.from
    }

    /// The contiguous pieces of `bytes` bytes after the first `skip`; what is beyond the end is left out.
    pub fn pieces(&self, skip: u64, bytes: u64) -> impl Iterator<Item = (MemoryOffset, u32)> + use<'a, M> {
        let from = self.from.saturating_add(skip).min(self.end);
        let end = from.saturating_add(bytes).min(self.end);
        let first = self.segments.partition_point(|segment| segment.end() <= from);
        let segments = self.segments.get(first..).filter(|_| from < end).unwrap_or_default();
        segments.iter().take_while(move |segment| segment.start < end).map(move |segment| {
            let skipped = from.saturating_sub(segment.start);
            let bytes = segment.end().min(end) - segment.start - skipped;
            (segment.at.plus(skipped), u32::try_from(bytes).expect("a part of a segment"))
        })
    }

    /// Copies bytes from `skip` on out of it, as many as there are, and returns their number.
    ///
    /// # Errors
    /// As [`SharedMemory::read`].
    pub fn read(&self, skip: u64, into: &mut [u8]) -> Result<usize, OutsideMemory> {
        let mut done = 0;
        for (at, bytes) in self.pieces(skip, into.len() as u64) {
            let end = done + bytes as usize;
            self.memory.read(at, &mut into[done..end])?;
            done = end;
        }
        Ok(done)
    }

    /// Copies bytes to `skip` on into it, as many as have room, and returns their number.
    ///
    /// # Errors
    /// As [`SharedMemory::write`].
    pub fn write(&self, skip: u64, from: &[u8]) -> Result<usize, OutsideMemory> {
        let mut done = 0;
        for (at, bytes) in self.pieces(skip, from.len() as u64) {
            let end = done + bytes as usize;
            self.memory.write(at, &from[done..end])?;
            done = end;
        }
        Ok(done)
    }

    /// Stores zeroes in `bytes` bytes after the first `skip`.
    ///
    /// # Errors
    /// As [`SharedMemory::write`].
    pub fn zero(&self, skip: u64, bytes: u64) -> Result<(), OutsideMemory> {
        const ZEROES: [u8; 512] = [0; 512];
        for (at, bytes) in self.pieces(skip, bytes) {
            let mut done = 0;
            while done < bytes as usize {
                let piece = ZEROES.len().min(bytes as usize - done);
                self.memory.write(at.plus(done as u64), &ZEROES[..piece])?;
                done += piece;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]
mod tests {
    use super::super::Words;
    use super::*;
    use proptest::prelude::*;

    fn scattered(lengths: &[u32]) -> (Words, Segments) {
        let mut segments = Segments::with_room().expect("room");
        let mut at = 0;
        for bytes in lengths {
            assert!(segments.push(MemoryOffset(at), *bytes));
            at += u64::from(*bytes) + 3;
        }
        (Words::new(usize::try_from(at).expect("small") + 8), segments)
    }

    proptest! {
        #[test]
        fn what_is_written_through_a_window_is_read_through_it_and_nowhere_else(
            lengths in prop::collection::vec(0_u32..40, 0..12),
            before in 0_u64..60, skip in 0_u64..100, window in 0_u64..300, inner in 0_u64..50, count in 0_usize..300,
        ) {
            let (memory, segments) = scattered(&lengths);
            let all: u64 = lengths.iter().map(|bytes| u64::from(*bytes)).sum();
            let scatter = segments.span(before, u64::MAX).window(&memory, skip, window);
            prop_assert_eq!(scatter.bytes(), all.saturating_sub(before).saturating_sub(skip).min(window));
            let room = usize::try_from(scatter.bytes().saturating_sub(inner)).unwrap().min(count);
            let data: Vec<u8> = (0..count).map(|at| u8::try_from(at % 255).unwrap() + 1).collect();
            prop_assert!(scatter.pieces(inner, count as u64).all(|(_, bytes)| bytes > 0));
            prop_assert_eq!(scatter.write(inner, &data), Ok(room));
            let mut back = alloc::vec![0; count];
            prop_assert_eq!(scatter.read(inner, &mut back), Ok(room));
            prop_assert_eq!(&back[..room], &data[..room]);
            let mut whole = alloc::vec![0; usize::try_from(memory.len_bytes()).unwrap()];
            memory.read(MemoryOffset(0), &mut whole).unwrap();
            prop_assert_eq!(whole.iter().filter(|byte| **byte != 0).count(), room);
            scatter.zero(0, u64::MAX).unwrap();
            memory.read(MemoryOffset(0), &mut whole).unwrap();
            prop_assert!(whole.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn it_takes_no_more_pieces_than_it_has_room_for() {
        let mut segments = Segments::with_room().expect("room");
        let taken = (0..SEGMENTS_MAX * 2).filter(|at| segments.push(MemoryOffset(*at as u64), 1)).count();
        assert_eq!(taken, SEGMENTS_MAX);
    }
}
