//! How fast the real `btt` over the real `drivers::pmem` is, on a file that is mapped into memory; and what a host of
//! NVMe/TCP says, to measure targets with.
//!
//! | module | is |
//! |---|---|
//! | [`aligned`] | memory that begins at a page |
//! | [`cpus`] | threads on CPUs of their own |
//! | [`disk`] | a file with a BTT on it |
//! | [`initiator`] | the bytes that a host of NVMe/TCP sends, and those that it gets |
//! | [`load`] | reads and writes of its sectors, drawn as other programs draw theirs |
//!
//! | program | prints |
//! |---|---|
//! | `sector-bench` | a CSV line for each load, as programs for other engines print it |
//! | `attach-bench` | how long a BTT takes to open, and its memory |
//! | `nvme-native` | where the time of an NVMe/TCP operation of `untorn-target` goes |
//! | `block-bench` | on any block device what the appliance's `bench` does on its disks; and how long the parts of that take |
//!
//! `benches/sectors.rs` has the same operations under criterion, which compares them before and after a change.

pub mod aligned;
pub mod cpus;
pub mod disk;
pub mod initiator;
pub mod load;
