//! Why a device cannot be used.

use core::fmt;

use super::{PATIENCE_SECONDS, WORK_SECONDS};
use crate::pci::PciError;

/// Whose decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The host bridge's, which choose among its ports.
    HostBridge,
    /// The device's.
    Device,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostBridge => "the host bridge",
            Self::Device => "the device",
        })
    }
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailboxError {
    /// The device did not finish one in time.
    Silent,
    /// All commands of one piece of work took too long together.
    Slow,
    /// The device refused one.
    Refused {
        /// Which: its opcode.
        opcode: u16,
        /// The device's return code.
        code: u16,
    },
    /// The reply is not a valid one.
    BadReply {
        /// To which: its opcode.
        opcode: u16,
    },
}

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => write!(f, "it did not finish a command within {PATIENCE_SECONDS} s"),
            Self::Slow => write!(f, "its commands took more than {WORK_SECONDS} s together"),
            Self::Refused { opcode, code } => write!(f, "it refused command {opcode:#06x} with code {code}"),
            Self::BadReply { opcode } => write!(f, "its reply to command {opcode:#06x} is not a valid one"),
        }
    }
}

impl core::error::Error for MailboxError {}

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CxlError {
    /// Its PCI configuration is not sound.
    Pci(PciError),
    /// It has no DVSEC of a CXL device, or cannot be memory.
    NotMemory,
    /// Its memory is disabled, and firmware has locked that.
    Locked,
    /// A block of registers is missing, or does not lie in its BAR.
    NoRegisters {
        /// What it should hold.
        what: &'static str,
    },
    /// It is not right below a root port: a switch is between them, or no bridge leads to it.
    NotBelowRootPort,
    /// The device has no decoders.
    NoDecoders,
    /// A component's registers are not as the specification has them, so that its decoders, if any, are not known.
    BadComponent(Which),
    /// The device says that its media or its mailbox are not ready.
    NotReady {
        /// Its status.
        status: u32,
    },
    /// A command failed.
    Command(MailboxError),
    /// It has no persistent memory.
    NoneIsPersistent,
    /// Not all of its memory is persistent.
    PartIsVolatile {
        /// What is persistent, in bytes.
        persistent: u64,
        /// All of it, in bytes.
        total: u64,
    },
    /// No window has room for it.
    NoRoom {
        /// Its memory in bytes.
        bytes: u64,
    },
    /// Decoders would have to be programmed for a window of a fixed configuration.
    FixedWindow {
        /// The window's first address.
        base: u64,
    },
    /// A decoder that firmware has committed interleaves.
    Interleaved(Which),
    /// More than one decoder is committed.
    SeveralRanges(Which),
    /// A committed decoder leaves out memory of the device, does not begin and end where decoders can, leaves every
    /// window, or leads to another port.
    OddRange {
        /// Whose.
        which: Which,
        /// Its first address.
        base: u64,
        /// Its length in bytes.
        bytes: u64,
    },
    /// A decoder did not commit in time.
    NotCommitted(Which),
    /// A decoder reports a fault, or leads elsewhere, once it has committed.
    BadCommit(Which),
}

impl fmt::Display for CxlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(why) => write!(f, "{why}"),
            Self::NotMemory => {
                write!(f, "it is no CXL memory device: it has no such DVSEC, or is not capable of CXL.mem")
            }
            Self::Locked => write!(f, "firmware has disabled its memory, and locked that"),
            Self::NoRegisters { what } => write!(f, "its {what} registers are missing, or do not lie in its BAR"),
            Self::NotBelowRootPort => {
                write!(f, "it is not right below a root port: a device behind a switch is not supported")
            }
            Self::NoDecoders => write!(f, "the device has no HDM decoders"),
            Self::BadComponent(which) => {
                write!(f, "the component registers of {which} do not tell where its HDM decoders are")
            }
            Self::NotReady { status } => write!(f, "its media or its mailbox are not ready (status {status:#x})"),
            Self::Command(why) => write!(f, "{why}"),
            Self::NoneIsPersistent => write!(f, "it has no persistent memory"),
            Self::PartIsVolatile { persistent, total } => {
                write!(f, "only {persistent} of its {total} bytes are persistent: volatile parts are not supported")
            }
            Self::NoRoom { bytes } => write!(f, "no window for persistent memory has room for its {bytes} bytes"),
            Self::FixedWindow { base } => {
                write!(f, "firmware has not led the window at {base:#x} to it, whose configuration is fixed")
            }
            Self::Interleaved(which) => {
                write!(f, "firmware has committed an interleaved decoder of {which}: interleaving is not supported")
            }
            Self::SeveralRanges(which) => {
                write!(f, "{which} has more than one committed decoder: only one is supported")
            }
            Self::OddRange { which, base, bytes } => write!(
                f,
                "firmware has committed a decoder of {which} for {bytes:#x} bytes at {base:#x}, which is not all of \
                 the device's memory in a window for it"
            ),
            Self::NotCommitted(which) => write!(f, "a decoder of {which} did not commit within {PATIENCE_SECONDS} s"),
            Self::BadCommit(which) => {
                write!(f, "a decoder of {which} did not take the range that it was to commit, or reports a fault of it")
            }
        }
    }
}

impl core::error::Error for CxlError {}

impl From<PciError> for CxlError {
    fn from(why: PciError) -> Self {
        Self::Pci(why)
    }
}

impl From<MailboxError> for CxlError {
    fn from(why: MailboxError) -> Self {
        Self::Command(why)
    }
}
