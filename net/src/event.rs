//! What happens to an interface, for the log.

use core::fmt;
use core::net::IpAddr;

use smoltcp::wire::IpCidr;

use crate::nic::{Mac, NicFault};

/// Something that happened to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The link came.
    LinkUp,
    /// The link went.
    LinkDown,
    /// It has an address now.
    AddressCame {
        /// The address.
        address: IpCidr,
        /// Where packets go that are for none of the networks.
        gateway: Option<IpAddr>,
    },
    /// It has an address no more: its setting is another one.
    AddressTaken {
        /// The address.
        address: IpCidr,
    },
    /// It has an address no more: its lease has ended, or the server refuses it.
    AddressWent {
        /// The address.
        address: IpCidr,
    },
    /// The DHCP server gave what no interface can have.
    BadLease {
        /// What it gave.
        address: IpCidr,
    },
    /// Another machine uses one of its addresses.
    Duplicate {
        /// The address.
        address: IpAddr,
        /// The other machine's.
        by: Mac,
    },
    /// The device is not used any more.
    Failed(NicFault),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkUp => write!(f, "link up"),
            Self::LinkDown => write!(f, "link down"),
            Self::AddressCame { address, gateway: None } => write!(f, "address {address}"),
            Self::AddressCame { address, gateway: Some(gateway) } => write!(f, "address {address}, gateway {gateway}"),
            Self::AddressTaken { address } => write!(f, "address {address} is taken away: its setting is another one"),
            Self::AddressWent { address } => write!(f, "address {address} is gone: its lease has ended"),
            Self::BadLease { address } => write!(f, "the DHCP server gave {address}, which no interface can have"),
            Self::Duplicate { address, by } => {
                write!(f, "{address} is used by another machine, too ({by}): give one of them another address")
            }
            Self::Failed(why) => write!(f, "device failed: {why}; it is not used any more"),
        }
    }
}
