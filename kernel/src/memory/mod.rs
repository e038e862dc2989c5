//! Memory.
pub(crate) mod heap;
