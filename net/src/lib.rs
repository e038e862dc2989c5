//! IPv4 and IPv6 over a network device, by smoltcp: addresses, fixed or by DHCP, and what a neighbour expects of a machine
//! (ARP, neighbour discovery, ping, a reset for a port that nothing listens on).
//!
//! | module | is |
//! |---|---|
//! | [`nic`] | the trait of a network device, which drivers implement |
//! | [`setting`] | what addresses an interface is to have, as it is configured |
//! | [`network`] | an interface, driven in bounded steps |
//! | [`tcp`] | listening ports and connections, and what serves them |
//! | [`http`] | a small server of pages, which serves them |
//! | [`event`] | what happens to it, for the log |
//! | [`mock`] | a device in memory, and a machine on its link, for tests |
//! | `port` | the device as smoltcp drives it |
//! | `watch` | its own addresses: probed, announced, and watched for other machines that use them |
//!
//! Frames are from anyone on the link: no frame and no sequence of them panics, loops, or takes more memory than is set aside
//! at the start.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod event;
pub mod http;
#[cfg(feature = "mock")]
pub mod mock;
pub mod network;
pub mod nic;
mod port;
pub mod setting;
pub mod tcp;
mod watch;

pub use port::Count;
pub use smoltcp::wire::IpCidr;
