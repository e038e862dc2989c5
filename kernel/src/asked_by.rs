//! The line that the command under way was asked by: what comes on another line meanwhile concerns it less. CPU 0's alone.

use core::sync::atomic::{AtomicBool, Ordering};

static BY_PORT: AtomicBool = AtomicBool::new(false);

/// A line that commands come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// COM1.
    Console,
    /// The admin port.
    AdminPort,
}

impl Line {
    /// Notes that a command is carried out that came by this line.
    pub(crate) fn begins(self) {
        BY_PORT.store(self == Self::AdminPort, Ordering::Relaxed);
    }

    /// Returns whether the command under way, or the last one, came by this line.
    pub(crate) fn asked(self) -> bool {
        BY_PORT.load(Ordering::Relaxed) == (self == Self::AdminPort)
    }
}
