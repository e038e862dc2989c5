//! Random bytes, which the owner has a source of.

use alloc::sync::Arc;
use core::fmt;

/// Fills bytes.
type Fill = dyn Fn(&mut [u8]) + Send + Sync;

/// A source of random bytes that nobody can foresee: hosts are challenged with them.
#[derive(Clone)]
pub struct Random(Arc<Fill>);

impl Random {
    /// This one, which fills all that it is given.
    #[must_use]
    pub fn new(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(fill))
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        (self.0)(bytes);
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
