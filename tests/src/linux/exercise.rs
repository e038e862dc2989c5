//! Writes that a test, the appliance and Linux can all work out for themselves: where, how many sectors, filled with
//! what. A sector is filled with one byte, so a torn one shows; which, depends on its LBA, its version and the seed.

use serde::{Deserialize, Serialize};

/// A number of writes of several sectors each, at the beginning, in the middle and at the end of a BTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exercise {
    /// The slot of the NVDIMM whose BTTs are all written.
    pub slot: usize,
    /// How many writes.
    pub writes: u32,
    /// Tells one exercise from another.
    pub seed: u64,
}

/// A write: these bytes fill the sectors from `lba` on, one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first sector.
    pub lba: u64,
    /// A byte for each sector.
    pub bytes: Vec<u8>,
}

/// How many sectors each of the three places has.
pub const PLACE: u64 = 8;

/// Where the places begin.
#[must_use]
pub const fn places(sectors: u64) -> [u64; 3] {
    [0, sectors / 2, sectors - PLACE]
}

impl Exercise {
    /// What is written, in order, to a BTT of so many sectors.
    pub fn runs(self, sectors: u64) -> impl Iterator<Item = Run> {
        let places = places(sectors);
        (0..u64::from(self.writes)).map(move |version| {
            let random = mix(self.seed ^ version << 32);
            let count = 1 + random % 8;
            let lba = places[usize::try_from(version % 3).expect("below 3")] + (random >> 8) % (PLACE - count + 1);
            Run { lba, bytes: (lba..lba + count).map(|lba| mix(random ^ lba).to_le_bytes()[0]).collect() }
        })
    }
}

/// Bits that look random (splitmix64's last step).
const fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
