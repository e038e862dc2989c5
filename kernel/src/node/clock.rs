//! The machine's clock, as all that serves requests has it.

/// The machine's clock.
pub trait Clock: Send + Sync {
    /// Returns the nanoseconds since the image began.
    fn now_ns(&self) -> u64;
}
