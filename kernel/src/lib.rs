//! The part of the kernel that touches no hardware, so that it is tested on a host: what firmware's tables and the
//! hardware's error records say, and the node that joins btt, nvdimm and service.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod machine_check;
pub mod node;
pub mod tables;
