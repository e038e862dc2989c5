//! Random numbers for identifiers (UUIDs): from the CPU where it has a source of them.

use core::fmt;

use x86_64::instructions::port::Port;
use x86_64::instructions::random::RdRand;

use crate::clock;

/// RDRAND may have no number for a moment; Intel's guide recommends ten tries.
const TRIES: u32 = 10;

/// A source of random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random {
    rdrand: Option<RdRand>,
    /// The state of the mixer that stands in for RDRAND.
    state: u64,
    /// A port whose value depends on when it is read.
    timer: Option<u16>,
}

impl fmt::Display for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rdrand {
            Some(_) => write!(f, "RDRAND"),
            None => write!(f, "this CPU has no RDRAND: identifiers are mixed from clocks, distinct but to be guessed"),
        }
    }
}

impl Random {
    /// Finds a source. `timer` is the power management timer's port.
    pub(crate) fn new(timer: Option<u16>) -> Self {
        Self { rdrand: RdRand::new(), state: clock::ticks(), timer }
    }

    /// Returns the next number.
    pub(crate) fn next_u64(&mut self) -> u64 {
        let drawn = self.rdrand.and_then(|source| (0..TRIES).find_map(|_| source.get_u64()));
        drawn.unwrap_or_else(|| self.mix())
    }

    /// Fills `bytes`.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }

    /// Returns a number of SplitMix64 over clock readings.
    fn mix(&mut self) -> u64 {
        // SAFETY: the FADT names this port as the timer; reading it has no effect.
        let timer = self.timer.map_or(0, |port| unsafe { Port::<u32>::new(port).read() });
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ clock::ticks() ^ u64::from(timer) << 32;
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}
