//! Random bytes.

use std::fs::File;
use std::io::Read;

/// Fills bytes with random ones that nobody can foresee.
///
/// # Panics
/// If the operating system gives none: nothing is served without them.
pub fn fill(bytes: &mut [u8]) {
    let filled = File::open("/dev/urandom").and_then(|mut source| source.read_exact(bytes));
    filled.expect("the operating system has random bytes");
}
