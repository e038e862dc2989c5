//! Why a device cannot be used.

use core::fmt;

use net::nic::MTU_MIN;

use super::structure::Structure;
use crate::pci::PciError;

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioError {
    /// Its PCI configuration is not sound.
    Pci(PciError),
    /// It has no such structure of registers, or none that lies in its BAR and is long enough.
    NoStructure(Structure),
    /// It does not finish a reset.
    NoReset,
    /// It does not offer VERSION_1: it is a legacy device.
    Legacy,
    /// It wants its addresses translated (ACCESS_PLATFORM): it is behind an IOMMU.
    BehindIommu,
    /// It does not take the features that were chosen.
    FeaturesRefused,
    /// It asks for a reset while it is taken into use.
    Stopped,
    /// A queue is missing, or has room for less than one request.
    NoQueue,
    /// It has no message to send for its queue.
    NoVector,
    /// Its configuration changes all the time.
    Unsettled,
    /// It has no Ethernet address, or one that no device can have.
    NoMac,
    /// The longest packet that it takes is too short.
    Mtu {
        /// Its length in bytes.
        bytes: u32,
    },
    /// It has several ports, of which none has the number that is looked for.
    NoPort,
    /// There is no memory for its queues and buffers.
    NoMemory,
}

impl fmt::Display for VirtioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(why) => write!(f, "{why}"),
            Self::NoStructure(which) => write!(f, "its {which} registers are missing, or do not lie in its BAR"),
            Self::NoReset => write!(f, "it does not finish a reset"),
            Self::Legacy => write!(f, "it is a legacy device (no VERSION_1)"),
            Self::BehindIommu => write!(f, "it is behind an IOMMU (ACCESS_PLATFORM): give it without one"),
            Self::FeaturesRefused => write!(f, "it does not take the features that were chosen"),
            Self::Stopped => write!(f, "it stopped while it was taken into use (NEEDS_RESET)"),
            Self::NoQueue => write!(f, "it has no queue with room for a request"),
            Self::NoVector => write!(f, "it has no message to send for its queue"),
            Self::Unsettled => write!(f, "its configuration does not settle"),
            Self::NoMac => write!(f, "it has no Ethernet address that a device can have"),
            Self::Mtu { bytes } => write!(f, "its MTU of {bytes} is less than {MTU_MIN}"),
            Self::NoPort => write!(f, "it has no port 1"),
            Self::NoMemory => write!(f, "there is no memory for its queues and buffers"),
        }
    }
}

impl core::error::Error for VirtioError {}

impl From<PciError> for VirtioError {
    fn from(why: PciError) -> Self {
        Self::Pci(why)
    }
}
