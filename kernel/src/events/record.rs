//! An event as bytes: one slot of the ring, whole in itself.
//!
//! | offset | bytes | is |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of all that follows |
//! | 4 | 4 | the boot that it is of |
//! | 8 | 8 | its number; 0: none |
//! | 16 | 8 | when: nanoseconds since the image began |
//! | 24 | 4 | the CPU |
//! | 28 | 1 | severity, by its place in [`Severity::ALL`] |
//! | 29 | 1 | kind, by its place in [`Kind::ALL`] |
//! | 30 | 1 | bytes of where |
//! | 31 | 1 | bytes of what |
//! | 32 | | where, then what, in UTF-8 |
//!
//! All numbers are little-endian. Longer words are cut. Slots that memory kept may hold anything: [`Slot::decode`] takes only
//! what has its checksum, and cannot fail otherwise.

use alloc::string::String;
use core::fmt::{self, Write as _};

use crc::{CRC_32_ISCSI, Crc};
use service::events::{Event, Kind, Severity};

/// The bytes of a slot.
pub(super) const SLOT_BYTES: usize = 256;

/// The bytes before the words.
const HEAD_BYTES: usize = 32;

/// The most bytes of where. The rest of a slot is for what.
const PLACE_BYTES_MAX: usize = 80;

/// CRC-32C.
pub(super) const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// An event as it is told.
#[derive(Clone, Copy)]
pub struct News<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// Where.
    pub place: &'a dyn fmt::Display,
    /// What, in a sentence.
    pub what: fmt::Arguments<'a>,
}

/// A slot.
#[derive(Clone, Copy)]
pub(super) struct Slot(pub(super) [u8; SLOT_BYTES]);

impl Slot {
    /// One without an event.
    pub(super) const EMPTY: Self = Self([0; SLOT_BYTES]);

    /// The event, without its number and boot.
    pub(super) fn new(news: &News<'_>, at_ns: u64, cpu: u32) -> Self {
        let mut slot = Self::EMPTY;
        let (head, words) = slot.0.split_at_mut(HEAD_BYTES);
        head[16..24].copy_from_slice(&at_ns.to_le_bytes());
        head[24..28].copy_from_slice(&cpu.to_le_bytes());
        let place = |found: Option<usize>| u8::try_from(found.unwrap_or_default()).expect("there are few");
        head[28] = place(Severity::ALL.iter().position(|it| *it == news.severity));
        head[29] = place(Kind::ALL.iter().position(|it| *it == news.kind));
        let mut place = Words { into: &mut words[..PLACE_BYTES_MAX], len: 0 };
        // What is too long is cut, and the error dropped.
        let _ = write!(place, "{}", news.place);
        let place_len = place.len;
        let most = (words.len() - place_len).min(usize::from(u8::MAX));
        let mut what = Words { into: &mut words[place_len..place_len + most], len: 0 };
        let _ = what.write_fmt(news.what);
        head[30] = u8::try_from(place_len).expect("at most PLACE_BYTES_MAX");
        head[31] = u8::try_from(what.len).expect("less than a slot");
        slot
    }

    /// Gives it its number and boot.
    pub(super) fn stamp(&mut self, boot: u32, number: u64) {
        self.0[4..8].copy_from_slice(&boot.to_le_bytes());
        self.0[8..16].copy_from_slice(&number.to_le_bytes());
        let sum = CHECKSUM.checksum(&self.0[4..]);
        self.0[..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Whether it is what was stored, and an event of this boot.
    pub(super) fn is_sound(&self, boot: u32) -> bool {
        self.number() > 0 && self.u32_at(4) == boot && self.u32_at(0) == CHECKSUM.checksum(&self.0[4..])
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.u64_at(8)
    }

    /// Its kind.
    pub(super) fn kind(&self) -> Kind {
        Kind::ALL.get(usize::from(self.0[29])).copied().unwrap_or(Kind::Machine)
    }

    fn severity(&self) -> Severity {
        Severity::ALL.get(usize::from(self.0[28])).copied().unwrap_or(Severity::Info)
    }

    /// Where, and what. Bytes that are no text end them.
    pub(super) fn words(&self) -> (&str, &str) {
        let words = &self.0[HEAD_BYTES..];
        let place_len = usize::from(self.0[30]).min(words.len());
        let what_end = (place_len + usize::from(self.0[31])).min(words.len());
        (text(&words[..place_len]), text(&words[place_len..what_end]))
    }

    /// The event.
    pub(super) fn decode(&self) -> Event {
        let (place, what) = self.words();
        Event {
            number: self.number(),
            at_ns: self.u64_at(16),
            cpu: self.u32_at(24),
            severity: self.severity(),
            kind: self.kind(),
            place: String::from(place),
            what: String::from(what),
        }
    }
}

/// As much of it as is text.
pub(super) fn text(bytes: &[u8]) -> &str {
    match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(why) => str::from_utf8(&bytes[..why.valid_up_to()]).unwrap_or_default(),
    }
}

/// Takes text as far as there is room, up to a whole character.
struct Words<'a> {
    into: &'a mut [u8],
    len: usize,
}

impl fmt::Write for Words<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let count = text.floor_char_boundary(self.into.len() - self.len);
        self.into[self.len..self.len + count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        if count == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(place: &str, what: &str) -> Slot {
        let news = News { severity: Severity::Warning, kind: Kind::Host, place: &place, what: format_args!("{what}") };
        let mut slot = Slot::new(&news, 1_234_567, 3);
        slot.stamp(7, 9);
        slot
    }

    #[test]
    fn an_event_comes_back_and_long_words_are_cut_between_characters() {
        let event = slot("net0", "link up").decode();
        assert_eq!((event.number, event.at_ns, event.cpu), (9, 1_234_567, 3));
        assert_eq!((event.severity, event.kind), (Severity::Warning, Kind::Host));
        assert_eq!((event.place.as_str(), event.what.as_str()), ("net0", "link up"));
        let event = slot(&"ä".repeat(100), &"ü".repeat(300)).decode();
        assert_eq!((event.place.as_str(), event.what.as_str()), ("ä".repeat(40).as_str(), "ü".repeat(72).as_str()));
        let event = slot("", &"x".repeat(300)).decode();
        assert_eq!(event.what.len(), SLOT_BYTES - HEAD_BYTES);
    }

    #[test]
    fn a_slot_with_any_bit_changed_is_not_sound_and_any_bytes_decode() {
        let sound = slot("namespace0.0", "disabled");
        assert!(sound.is_sound(7) && !sound.is_sound(8) && !Slot::EMPTY.is_sound(0));
        for bit in 0..SLOT_BYTES * 8 {
            let mut broken = sound;
            broken.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!broken.is_sound(7), "bit {bit}");
            let _ = broken.decode();
        }
        for byte in 0..=u8::MAX {
            let _ = Slot([byte; SLOT_BYTES]).decode();
        }
    }
}
