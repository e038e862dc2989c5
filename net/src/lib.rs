//! IPv4 and IPv6 over a network device.
//!
//! | module | is |
//! |---|---|
//! | [`nic`] | the trait of a network device, which drivers implement |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod nic;
