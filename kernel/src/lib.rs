//! The part of the kernel that touches no hardware, so that it is tested on a host.
#![no_std]
#![forbid(unsafe_code)]
