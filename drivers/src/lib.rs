//! Real hardware behind the traits of `btt`, `nvdimm` and `service`.
//!
//! | module | drives |
//! |---|---|
//! | [`phys`] | nothing: the trait by which a driver has physical memory mapped |
//! | [`persist`] | write-back instructions, fences, streaming copies |
//! | [`pmem`] | mapped persistent memory, as regions and namespaces |
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
//! [`phys`], [`persist`], [`pmem`], [`shared`] and [`transfer`] need no privilege and run in a program on a host, too.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bad_ranges;
pub mod guarded;
pub mod ivshmem;
pub mod label_mailbox;
pub mod pci;
pub mod persist;
pub mod phys;
pub mod pmem;
pub mod poison;
pub mod shared;
pub mod transfer;
pub mod uart;
