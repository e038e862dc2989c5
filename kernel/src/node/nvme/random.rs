//! Random bytes for what hosts are challenged with: hashes of the machine's and a count.

use core::sync::atomic::{AtomicU64, Ordering};

use nvmf::Random;
use sha2::{Digest, Sha256};

/// A source of random bytes from a seed that nobody can foresee.
pub(super) fn seeded(seed: [u8; 32]) -> Random {
    let count = AtomicU64::new(0);
    Random::new(move |bytes: &mut [u8]| {
        for part in bytes.chunks_mut(32) {
            let number = count.fetch_add(1, Ordering::Relaxed);
            let block = Sha256::new().chain_update(seed).chain_update(number.to_le_bytes()).finalize();
            part.copy_from_slice(&block[..part.len()]);
        }
    })
}
