//! Real hardware behind the traits of `btt`, `nvdimm` and `service`.
//!
//! | module | drives |
//! |---|---|
//! | [`phys`] | nothing: the trait by which a driver has physical memory mapped |
//! | [`persist`] | write-back instructions, fences, streaming copies |
//! | [`pmem`] | mapped persistent memory, as regions and namespaces |
//! | [`blk_window`] | block data windows, as regions and namespaces |
//! | [`medium`] | nothing: either of the two |
//! | `flush_hints` | registers that make durable what was posted to a DIMM |
//! | [`guarded`] | loads that a machine check may end |
//! | [`poison`] | nothing: finds the region that holds a lost line |
//! | `bad_ranges` | nothing: what a region has lost |
//! | [`label_mailbox`] | QEMU's way to DIMMs' label areas |
//! | [`pci`] | PCI configuration space: functions, BARs, MSI-X |
//! | [`shared`] | nothing: memory that a peer writes to at the same time |
//! | [`transfer`] | nothing: moves sectors between such memory and persistent memory, once |
//! | [`ivshmem`] | QEMU's ivshmem-doorbell: a consumer's memory, and interrupts both ways |
//! | [`uart`] | a 16550 UART, as a byte link |
//!
//! [`phys`], [`persist`], [`pmem`], [`blk_window`], [`shared`] and [`transfer`] need no privilege and run in a program
//! on a host, too.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bad_ranges;
pub mod blk_window;
mod flush_hints;
pub mod guarded;
pub mod ivshmem;
pub mod label_mailbox;
pub mod medium;
pub mod pci;
pub mod persist;
pub mod phys;
pub mod pmem;
pub mod poison;
pub mod shared;
pub mod transfer;
pub mod uart;
