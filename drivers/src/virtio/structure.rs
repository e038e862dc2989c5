//! The structures that a device's registers stand in.

use core::fmt;

/// A structure of registers (virtio 1.2, 4.1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The same for every device: features, status, queues.
    Common,
    /// Where the driver tells that a queue has something.
    Notify,
    /// The kind of device's own configuration.
    Device,
}

impl Structure {
    /// Returns its number in a capability.
    pub(super) const fn cfg_type(self) -> u32 {
        match self {
            Self::Common => 1,
            Self::Notify => 2,
            Self::Device => 4,
        }
    }

    /// Returns how much of it must be there.
    pub(super) const fn bytes_min(self) -> u32 {
        match self {
            Self::Common => 56,
            Self::Notify => 2,
            Self::Device => 16,
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Common => "common",
            Self::Notify => "notify",
            Self::Device => "device",
        })
    }
}
