//! The sectors that `bench` writes: each identifies its writer, and shows whether it is whole.
//!
//! # Layout
//! A sector of n bytes (n a multiple of 8, at least [`SECTOR_BYTES_MIN`]; all words little-endian):
//!
//! | offset | word | |
//! |---|---|---|
//! | 0 | [`MAGIC`] | |
//! | 8 | LBA | where it was meant to go |
//! | 16 | version | grows with every write of that LBA |
//! | 24 | seed | of the run |
//! | 32 .. n-16 | fill | a different word at each place, mixed from the three above |
//! | n-16 | check | over all bytes before it |
//! | n-8 | [`MAGIC`], inverted | so that a sector whose head is another's is known as ours, too |
//!
//! # What a reader can tell
//! The head determines every later byte. So a sector made of parts of two writes differs from what its head determines in
//! every word of the other part, and in the check word; a reader reports [`Verdict::Torn`], with the first byte that is
//! wrong. A whole sector in the wrong place, or of another run, is [`Verdict::Whole`] with a [`Tag`] that is not the
//! expected one. What the versions mean is the reader's to know: after a power cut a sector's version must be the last
//! one acknowledged for its LBA, or one that was being written.

use core::fmt;

use serde::Serialize;

use crate::lba::Lba;

/// The first word of every sector of the pattern: `untornP1`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"untornP1");

/// The smallest sector that has room for the pattern, bytes.
pub const SECTOR_BYTES_MIN: usize = 48;

/// The number of operations between two reads of the clock, the same in all loads that are compared with each other.
pub const OPS_PER_LOOK: u32 = 16;

const WORD: usize = 8;
const HEAD_WORDS: usize = 4;

/// The writer of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Tag {
    /// The sector it was written for.
    pub lba: Lba,
    /// Which write of that sector.
    pub version: u64,
    /// The run's seed.
    pub seed: u64,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LBA {}, version {}, seed {}", self.lba.0, self.version, self.seed)
    }
}

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One write's bytes, all of them.
    Whole(Tag),
    /// Parts of the pattern, but not one write's.
    Torn {
        /// The tag in its head, if its head is the pattern's.
        head: Option<Tag>,
        /// The first byte that does not follow from the head.
        first_bad: usize,
    },
    /// Zeroes.
    Blank,
    /// No trace of the pattern.
    Foreign,
}

impl Verdict {
    /// Returns whether a sector may be so while a load that writes the pattern runs: whole and in its place, or as it was
    /// before the load.
    #[must_use]
    pub fn fits(self, lba: Lba) -> bool {
        match self {
            Self::Whole(tag) => tag.lba == lba,
            Self::Torn { .. } => false,
            Self::Blank | Self::Foreign => true,
        }
    }
}

/// Makes the sector of `tag`.
///
/// # Panics
/// If the sector's length is not a multiple of 8, or below [`SECTOR_BYTES_MIN`].
pub fn fill(sector: &mut [u8], tag: Tag) {
    assert_size(sector.len());
    let mut words = Words::new(sector.len(), tag);
    for bytes in sector.chunks_exact_mut(WORD) {
        bytes.copy_from_slice(&words.next_word().to_le_bytes());
    }
}

/// Identifies what a sector holds.
///
/// # Panics
/// As [`fill`].
#[must_use]
pub fn verify(sector: &[u8]) -> Verdict {
    assert_size(sector.len());
    let last = sector.len() - WORD;
    if word(sector, 0) != MAGIC {
        return if word(sector, last) == !MAGIC {
            Verdict::Torn { head: None, first_bad: 0 }
        } else if sector.iter().all(|byte| *byte == 0) {
            Verdict::Blank
        } else {
            Verdict::Foreign
        };
    }
    let tag = Tag { lba: Lba(word(sector, 8)), version: word(sector, 16), seed: word(sector, 24) };
    let mut words = Words::new(sector.len(), tag);
    for (index, bytes) in sector.chunks_exact(WORD).enumerate() {
        let expected = words.next_word().to_le_bytes();
        if bytes != expected {
            let within = bytes.iter().zip(expected).take_while(|(found, expected)| *found == expected).count();
            return Verdict::Torn { head: Some(tag), first_bad: index * WORD + within };
        }
    }
    Verdict::Whole(tag)
}

/// A wrong size is the caller's mistake: devices have sectors of 512 bytes and more.
fn assert_size(bytes: usize) {
    assert!(
        bytes >= SECTOR_BYTES_MIN && bytes.is_multiple_of(WORD),
        "the pattern needs sectors of a multiple of 8 bytes, at least {SECTOR_BYTES_MIN}, not {bytes}"
    );
}

/// The word at byte `at`; zero past the end.
fn word(sector: &[u8], at: usize) -> u64 {
    sector.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A sector's words, one after another.
struct Words {
    head: [u64; HEAD_WORDS],
    key: u64,
    check: u64,
    index: usize,
    count: usize,
}

impl Words {
    fn new(sector_bytes: usize, tag: Tag) -> Self {
        let head = [MAGIC, tag.lba.0, tag.version, tag.seed];
        let key = head.into_iter().fold(0, |key, word| mix(key ^ word));
        Self { head, key, check: 0, index: 0, count: sector_bytes / WORD }
    }

    fn next_word(&mut self) -> u64 {
        let word = match self.index {
            index if index < HEAD_WORDS => self.head[index],
            index if index == self.count - 2 => self.check,
            index if index == self.count - 1 => !MAGIC,
            // The key differs between any two writes, the index within one: no two words are alike but by chance.
            index => mix(self.key ^ (index as u64)),
        };
        self.check = (self.check ^ word).rotate_left(23).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.index += 1;
        word
    }
}

/// A bijection that spreads every bit over all (the finaliser of SplitMix64).
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// A stream of numbers that are as good as random, the same for the same seed: which sectors a load touches, and which
/// runs write.
#[derive(Clone, Debug)]
pub struct Choices {
    state: u64,
}

impl Choices {
    /// The stream of `seed` for lane, CPU or thread `stream`.
    #[must_use]
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self { state: mix(seed ^ mix(stream)) }
    }

    /// The stream of SplitMix64 from this state on. Any other program with that generator draws the same numbers.
    #[must_use]
    pub const fn split_mix(state: u64) -> Self {
        Self { state }
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        let number = mix(self.state);
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        number
    }

    /// The next number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        // The upper half of the product is below the bound.
        u64::try_from(product >> 64).expect("half of 128 bits")
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SIZES: [usize; 8] = [48, 512, 520, 528, 4096, 4104, 4160, 4224];

    fn sector(bytes: usize, lba: u64, version: u64, seed: u64) -> Vec<u8> {
        let mut sector = vec![0xee; bytes];
        fill(&mut sector, Tag { lba: Lba(lba), version, seed });
        sector
    }

    #[test]
    fn a_whole_sector_tells_its_writer() {
        for bytes in SIZES {
            let tag = Tag { lba: Lba(7), version: 3, seed: 99 };
            assert_eq!(verify(&sector(bytes, 7, 3, 99)), Verdict::Whole(tag), "{bytes}");
        }
    }

    #[test]
    fn every_tear_at_a_word_between_two_versions_is_seen() {
        for bytes in SIZES {
            let (old, new) = (sector(bytes, 7, 3, 99), sector(bytes, 7, 4, 99));
            for cut in (8..bytes).step_by(8) {
                for (first, second) in [(&old, &new), (&new, &old)] {
                    let torn = [&first[..cut], &second[cut..]].concat();
                    let same = torn == *first || torn == *second;
                    let whole = matches!(verify(&torn), Verdict::Whole(_));
                    assert_eq!(whole, same, "{bytes} bytes cut at {cut}");
                    // The words before the version are alike, and so is the last.
                    assert_eq!(same, cut <= 16 || cut == bytes - 8, "{bytes} bytes cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_tear_against_blank_or_foreign_data_is_seen() {
        let pattern = sector(512, 7, 3, 99);
        for other in [vec![0; 512], vec![0xa5; 512]] {
            for cut in (8..512).step_by(8) {
                let head = [&pattern[..cut], &other[cut..]].concat();
                assert!(matches!(verify(&head), Verdict::Torn { head: Some(_), .. }), "head up to {cut}");
                let tail = [&other[..cut], &pattern[cut..]].concat();
                assert_eq!(verify(&tail), Verdict::Torn { head: None, first_bad: 0 }, "tail from {cut}");
            }
        }
    }

    #[test]
    fn what_is_not_ours_is_blank_or_foreign() {
        assert_eq!(verify(&[0; 512]), Verdict::Blank);
        assert_eq!(verify(&[1; 512]), Verdict::Foreign);
        let mut late = [0; 512];
        late[300] = 1;
        assert_eq!(verify(&late), Verdict::Foreign);
    }

    #[test]
    fn only_a_torn_or_misplaced_sector_does_not_fit() {
        let whole = sector(512, 7, 3, 99);
        let torn = [&whole[..64], &sector(512, 7, 4, 99)[64..]].concat();
        assert!(verify(&whole).fits(Lba(7)) && !verify(&whole).fits(Lba(8)) && !verify(&torn).fits(Lba(7)));
        assert!(verify(&[0; 512]).fits(Lba(7)) && verify(&[1; 512]).fits(Lba(7)));
    }

    #[test]
    fn choices_repeat_by_seed_and_stay_below_their_bound() {
        let take = |seed, stream| {
            let mut choices = Choices::new(seed, stream);
            (0..64).map(|_| choices.below(10)).collect::<Vec<_>>()
        };
        assert_eq!(take(1, 0), take(1, 0));
        assert_ne!(take(1, 0), take(1, 1));
        assert_ne!(take(1, 0), take(2, 0));
        let drawn = take(1, 0);
        assert!((0..10).all(|number| drawn.contains(&number)), "{drawn:?}");
        assert_eq!(Choices::new(1, 0).below(0), 0);
    }

    #[test]
    fn split_mix_is_drawn_as_it_is_published() {
        // Steele, Lea, Flood: Fast splittable pseudorandom number generators; the first numbers of seed 1234567.
        let mut choices = Choices::split_mix(1_234_567);
        assert_eq!(choices.next(), 6_457_827_717_110_365_317);
        assert_eq!(choices.next(), 3_203_168_211_198_807_973);
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_seen(
            size in prop::sample::select(&SIZES[..]), lba: u64, version: u64, seed: u64, at: usize, by in 1_u8..,
        ) {
            let tag = Tag { lba: Lba(lba), version, seed };
            let mut bytes = sector(size, lba, version, seed);
            prop_assert_eq!(verify(&bytes), Verdict::Whole(tag));
            bytes[at % size] ^= by;
            prop_assert!(matches!(verify(&bytes), Verdict::Torn { .. }), "{:?}", verify(&bytes));
        }

        #[test]
        fn any_mix_of_two_writes_by_words_is_seen(
            size in prop::sample::select(&SIZES[..]), lba: u64, one: u64, other: u64, seed: u64, mask: u64,
        ) {
            let (old, new) = (sector(size, lba, one, seed), sector(size, lba, other, seed));
            let mut mixed = old.clone();
            for (index, word) in mixed.chunks_exact_mut(8).enumerate() {
                if mask >> (index % 64) & 1 == 1 {
                    word.copy_from_slice(&new[index * 8..index * 8 + 8]);
                }
            }
            let whole = matches!(verify(&mixed), Verdict::Whole(_));
            prop_assert_eq!(whole, mixed == old || mixed == new);
        }
    }
}
