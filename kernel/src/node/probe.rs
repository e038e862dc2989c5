//! Probes whether a medium keeps what is stored (invariant 5): firmware may describe ranges with no memory behind them,
//! with too little, or with a ROM.
//!
//! A probe stores a line of its own where all bytes are zero (or all are ones), reads it back, and stores the old bytes
//! again. A line that is not blank is never written.
//!
//! | behind the range is | the line |
//! |---|---|
//! | nothing, or a ROM | does not read back |
//! | memory for its first part only | does not read back at the end |
//! | memory with fewer address bits than the range | is at a power of two before its place, too |
//!
//! A power cut during a probe leaves pieces of 8 bytes, each of the probe's line or of the old one. In a blank
//! namespace they are known by their place and their bytes ([`is_left_over`]): it still counts as blank, and the next
//! probe removes them.

use alloc::vec::Vec;
use core::fmt;

use btt::layout::PAGE_BYTES;
use btt::media::{LINE_BYTES, MediaError, Medium, NsOffset};

/// The bytes at either end of a namespace that decide whether it is blank.
pub(super) const ENDS_BYTES: u64 = 1 << 20;

/// The number of places, evenly spaced, that are probed before a namespace is made. Few: where a file is behind the range,
/// a file system may store 2 MiB for each, and a sparse one is to stay sparse. A range that is backed in part is backed
/// from its start, and found at its end; one that wraps is found by the powers of two.
const PLACES: u64 = 4;

/// The bytes of a line.
pub(super) const LINE: usize = 64;
const _: () = assert!(LINE as u64 == LINE_BYTES);

type Line = [u8; LINE];

/// Returns the line that a probe stores at a place. No piece of 8 bytes is zero.
fn line(at: NsOffset) -> Line {
    let mut line = *b"untorn: a probe of what this memory keeps (may be erased)...\0\0\0\0";
    line[48..56].copy_from_slice(&(at.0 | 1).to_le_bytes());
    line[56..].copy_from_slice(&(!at.0 | 1).to_le_bytes());
    line
}

/// Returns whether a power cut during a probe of a line of zeroes may leave these bytes.
pub(super) fn is_left_over(at: NsOffset, found: &Line) -> bool {
    let own = line(at);
    found.as_chunks::<8>().0.iter().zip(own.as_chunks::<8>().0).all(|(found, own)| *found == [0; 8] || found == own)
}

/// A medium that does not keep what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes that were stored do not read back.
    NotKept {
        /// Where.
        at: NsOffset,
    },
    /// Two places reach the same bytes.
    Twin {
        /// Where the line was stored.
        at: NsOffset,
        /// Where it was found as well.
        twin: NsOffset,
    },
    /// The medium failed.
    Media(MediaError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKept { at } => {
                write!(f, "it keeps no bytes at {at}: what is stored there does not read back (no memory, or a ROM)")
            }
            Self::Twin { at, twin } => {
                write!(f, "it is smaller than the firmware says: {at} and {twin} are the same bytes")
            }
            Self::Media(why) => why.fmt(f),
        }
    }
}

/// Returns the lines at the ends that [`ends`] probes.
pub(super) fn places_at_ends(bytes: u64) -> impl Iterator<Item = NsOffset> {
    let last_before = |end: u64| (end / LINE_BYTES).checked_sub(1).map(|line| NsOffset(line * LINE_BYTES));
    let (first, last) = (last_before(bytes.min(ENDS_BYTES)), last_before(bytes));
    [first, last.filter(|_| first != last)].into_iter().flatten()
}

/// Probes a namespace whose ends are blank: two lines.
///
/// # Errors
/// [`Fault`].
pub(super) fn ends<N: Medium>(media: &N) -> Result<(), Fault> {
    places_at_ends(media.len_bytes()).try_for_each(|at| probe(media, at))
}

/// Probes space in which a namespace is to be made: the ends, and places all over it, where they are blank.
///
/// # Errors
/// [`Fault`].
pub(super) fn all_over<N: Medium>(media: &N) -> Result<(), Fault> {
    let bytes = media.len_bytes();
    let mut places: Vec<NsOffset> = places_at_ends(bytes).collect();
    let lines = bytes / LINE_BYTES;
    // Not at powers of two, where the places could be each other's twins.
    places.extend((0..PLACES.min(lines)).map(|n| NsOffset((lines * (2 * n + 1) / (2 * PLACES)) * LINE_BYTES)));
    // From the end to the start: a place's possible twins have not been read yet, so no cache hides them.
    places.sort_unstable_by(|a, b| b.cmp(a));
    places.into_iter().try_for_each(|at| probe(media, at))
}

/// What a probe before the first write has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// What is stored reads back.
    Keeps,
    /// There is no blank line to try it on.
    NoPlace,
}

/// Probes the first blank line of a medium's first page: of the page before a BTT 1.1, which is no part of it, or of space
/// beside a namespace.
///
/// # Errors
/// [`Fault`].
pub(super) fn before_first_write<N: Medium>(media: &N) -> Result<Probed, Fault> {
    for at in (0..PAGE_BYTES).step_by(LINE).map(NsOffset) {
        let Some(found) = read(media, at)? else { continue };
        if is_left_over(at, &found) {
            return probe(media, at).map(|()| Probed::Keeps);
        }
    }
    Ok(Probed::NoPlace)
}

/// Probes one line, if it is blank.
fn probe<N: Medium>(media: &N, at: NsOffset) -> Result<(), Fault> {
    let Some(before) = read(media, at)? else { return Ok(()) };
    let left_over = is_left_over(at, &before);
    if !left_over && before != [0xff; LINE] {
        return Ok(());
    }
    let before = if left_over { [0; LINE] } else { before };
    let own = line(at);
    store(media, at, &own)?;
    let kept = read(media, at)? == Some(own);
    let twin = if kept { find_twin(media, at, &own)? } else { None };
    store(media, at, &before)?;
    match twin {
        Some(twin) => Err(Fault::Twin { at, twin }),
        None if kept && read(media, at)? == Some(before) => Ok(()),
        None => Err(Fault::NotKept { at }),
    }
}

/// Returns the place where the line is found a second time, if address bits are missing.
fn find_twin<N: Medium>(media: &N, at: NsOffset, own: &Line) -> Result<Option<NsOffset>, Fault> {
    for distance in (LINE_BYTES.ilog2()..u64::BITS).map(|bit| 1_u64 << bit).take_while(|distance| *distance <= at.0) {
        let place = NsOffset(at.0 - distance);
        if read(media, place)?.as_ref() == Some(own) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Stores a line. It is durable when this returns.
fn store<N: Medium>(media: &N, at: NsOffset, line: &Line) -> Result<(), Fault> {
    media.write(at, line).and_then(|()| media.fence()).map_err(Fault::Media)
}

/// Reads a line; `None` if the medium has lost it.
fn read<N: Medium>(media: &N, at: NsOffset) -> Result<Option<Line>, Fault> {
    let mut line = [0; LINE];
    match media.read(at, &mut line) {
        Ok(()) => Ok(Some(line)),
        Err(MediaError::Poisoned { .. }) => Ok(None),
        Err(why) => Err(Fault::Media(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use btt::sim::{Choose, Event, Plan, Seeded, Sim};

    const BYTES: u64 = 8 << 20;

    /// A range of `len` bytes with memory behind some of it only.
    struct Behind {
        inner: Sim,
        len: u64,
        /// Where in the memory an address leads; `None` if it leads nowhere.
        to: fn(u64) -> Option<u64>,
        /// What reads as this where it leads nowhere.
        open_bus: u8,
        /// Stores are lost.
        rom: bool,
    }

    impl Medium for Behind {
        fn len_bytes(&self) -> u64 {
            self.len
        }
        fn read_only(&self) -> bool {
            false
        }
        fn keeps_line_order(&self) -> bool {
            true
        }
        fn read(&self, at: NsOffset, into: &mut [u8]) -> Result<(), MediaError> {
            match (self.to)(at.0) {
                Some(to) => self.inner.read(NsOffset(to), into),
                None => {
                    into.fill(self.open_bus);
                    Ok(())
                }
            }
        }
        fn write(&self, at: NsOffset, from: &[u8]) -> Result<(), MediaError> {
            match (self.to)(at.0) {
                Some(to) if !self.rom => self.inner.write(NsOffset(to), from),
                _ => Ok(()),
            }
        }
        fn load_u32(&self, _: NsOffset) -> Result<u32, MediaError> {
            unreachable!("a probe moves lines")
        }
        fn load_u64(&self, _: NsOffset) -> Result<u64, MediaError> {
            unreachable!("a probe moves lines")
        }
        fn store_u32(&self, _: NsOffset, _: u32) -> Result<(), MediaError> {
            unreachable!("a probe moves lines")
        }
        fn store_u64(&self, _: NsOffset, _: u64) -> Result<(), MediaError> {
            unreachable!("a probe moves lines")
        }
        fn start_write_back(&self, _: NsOffset, _: u64) -> Result<(), MediaError> {
            unreachable!("a probe streams")
        }
        fn look_again(&self, at: NsOffset, bytes: u64) -> Result<(), MediaError> {
            self.inner.look_again(at, bytes)
        }
        fn order_stores(&self) {
            self.inner.order_stores();
        }
        fn fence(&self) -> Result<(), MediaError> {
            self.inner.fence()
        }
    }

    fn behind(to: fn(u64) -> Option<u64>, open_bus: u8, rom: bool) -> Behind {
        Behind { inner: Sim::new(BYTES), len: BYTES, to, open_bus, rom }
    }

    #[test]
    fn what_keeps_no_bytes_is_found_at_the_ends() {
        let last = NsOffset(BYTES - LINE_BYTES);
        let first = NsOffset(ENDS_BYTES - LINE_BYTES);
        for open_bus in [0, 0xff] {
            let nothing = behind(|_| None, open_bus, false);
            assert_eq!(ends(&nothing), Err(Fault::NotKept { at: first }));
            let half = behind(|at| (at < BYTES / 2).then_some(at), open_bus, false);
            assert_eq!(
                (ends(&half), all_over(&half)),
                (Err(Fault::NotKept { at: last }), Err(Fault::NotKept { at: last }))
            );
            let upper = behind(|at| (at >= BYTES / 2).then_some(at), open_bus, false);
            assert_eq!(ends(&upper), Err(Fault::NotKept { at: first }));
            let hole = behind(|at| (at >> 20 != 3).then_some(at), open_bus, false);
            assert_eq!(ends(&hole), Ok(()));
            assert!(matches!(all_over(&hole), Err(Fault::NotKept { at }) if at.0 >> 20 == 3));
        }
        let rom = behind(Some, 0, true);
        assert_eq!(ends(&rom), Err(Fault::NotKept { at: first }));
        for (to, distance) in
            [((|at| Some(at % (BYTES / 2))) as fn(u64) -> Option<u64>, BYTES / 2), (|at| Some(at % (4 << 12)), 4 << 12)]
        {
            let wraps = behind(to, 0, false);
            let found = ends(&wraps);
            let Err(Fault::Twin { at, twin }) = found else { panic!("{found:?}") };
            assert_eq!(at.0 - twin.0, distance);
            assert!(matches!(all_over(&wraps), Err(Fault::Twin { .. })));
            assert!(wraps.inner.image().iter().all(|byte| *byte == 0), "it is as it was");
        }
        assert_eq!((ends(&behind(Some, 0, false)), all_over(&behind(Some, 0, false))), (Ok(()), Ok(())));
    }

    #[test]
    fn only_blank_lines_are_written_and_stay_what_they_were() {
        let sim = Sim::new(BYTES);
        let mut random = Seeded::new(5);
        // Lines of zeroes, of ones, and of anything.
        for line in 0..BYTES / LINE_BYTES {
            let fill = match random.below(3) {
                0 => [0; 64],
                1 => [0xff; 64],
                _ => [7; 64],
            };
            sim.write(NsOffset(line * LINE_BYTES), &fill).expect("in range");
        }
        sim.fence().expect("no faults");
        let before = sim.image();
        assert_eq!((ends(&sim), all_over(&sim)), (Ok(()), Ok(())));
        assert!(sim.image() == before);
    }

    #[test]
    fn what_is_not_blank_is_not_written_for_a_moment_either() {
        const SMALL: usize = 1 << 16;
        let sim = Sim::new(SMALL as u64);
        // Half of the places hold data.
        for line in (0..SMALL as u64 / LINE_BYTES).filter(|line| line / 16 % 2 == 0) {
            sim.write(NsOffset(line * LINE_BYTES), &[7; 64]).expect("in range");
        }
        sim.fence().expect("no faults");
        let before = sim.image();
        for access in 0.. {
            let stopped = sim.fork();
            stopped.set_plan(Plan::FailFrom(access));
            let result = all_over(&stopped);
            let now = stopped.image();
            assert_eq!((0..SMALL).find(|at| before[*at] == 7 && now[*at] != 7), None, "access {access}");
            if result.is_ok() {
                assert!(access > 20, "{access} accesses");
                break;
            }
        }
    }

    #[test]
    fn what_a_cut_leaves_of_a_probe_is_known_and_goes_with_the_next_one() {
        for bits in 0_u32..256 {
            let sim = Sim::new(BYTES);
            for at in places_at_ends(BYTES) {
                let own = line(at);
                let pieces = (0_u64..).step_by(8).zip(own.chunks_exact(8));
                for (place, piece) in pieces.filter(|(place, _)| bits >> (place / 8) & 1 != 0) {
                    sim.write(at.plus(place), piece).expect("in range");
                }
                assert!(is_left_over(at, &read(&sim, at).expect("no faults").expect("not lost")));
                // Of another place it is not.
                let other = is_left_over(at.plus(64), &read(&sim, at).expect("no faults").expect("not lost"));
                assert_eq!(other, bits >> 6 == 0, "{bits:#x}");
            }
            assert_eq!(ends(&sim), Ok(()));
            assert!(sim.image().iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn before_the_first_write_a_blank_line_in_front_of_the_btt_is_probed_and_no_other() {
        let sim = Sim::new(BYTES);
        // A partition table's mark, and the BTT.
        for at in [0, 448, 4096] {
            sim.write(NsOffset(at), &[7; 64]).expect("in range");
        }
        sim.record();
        assert_eq!(before_first_write(&sim), Ok(Probed::Keeps));
        for event in sim.recorded() {
            if let Event::Stream { at, .. } = event {
                assert_eq!(at, NsOffset(64));
            }
        }
        let before = sim.image();
        let rom = Behind { inner: sim, len: BYTES, to: Some, open_bus: 0, rom: true };
        assert_eq!(before_first_write(&rom), Err(Fault::NotKept { at: NsOffset(64) }));
        assert!(rom.inner.image() == before);
        let full = Sim::new(BYTES);
        full.write(NsOffset(0), &[7; 4096]).expect("in range");
        full.record();
        assert_eq!((before_first_write(&full), full.recorded().len()), (Ok(Probed::NoPlace), 0));
    }

    #[test]
    fn tiny_namespaces_are_probed_within_their_bounds() {
        for bytes in [0, 1, 63, 64, 65, 4096, ENDS_BYTES, ENDS_BYTES + 64] {
            let sim = Sim::new(bytes);
            assert_eq!((ends(&sim), all_over(&sim)), (Ok(()), Ok(())), "{bytes}");
        }
    }
}
