//! The part of the kernel that touches no hardware, so that it is tested on a host.
//!
//! | module | is |
//! |---|---|
//! | [`node`] | joins btt, nvdimm and service: namespaces, disks, exports and the admin commands on them |
//! | [`events`] | the ring of what happens, and the memory that keeps it over a reset |
//! | [`tables`] | decodes firmware's ACPI tables |
//! | [`command_line`] | the image's command line |
//! | [`memory_map`] | finds persistent memory in firmware's memory map |
//! | [`tsc`] | the time stamp counter's rate where no timer measures it |
//! | [`watchdog`] | tells a CPU that is stuck from one that is busy |
//! | [`machine_check`] | judges a machine check by the hardware's error records |
//!
//! The program beside it (`main.rs`) brings the machine up and implements [`node::Machine`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod command_line;
pub mod events;
pub mod machine_check;
pub mod memory_map;
pub mod node;
pub mod tables;
pub mod tsc;
pub mod watchdog;
