//! Real hardware behind the traits of `btt`, `nvdimm` and `service`.
//!
//! | module | is |
//! |---|---|
//! | [`phys`] | the trait by which a driver asks for physical memory to be mapped |
//! | [`persist`] | write-back instructions, fences, streaming copies |
//! | [`copies`] | which kind of copy is the fastest here |
//! | [`guarded`] | loads that a machine check may end |
//! | [`raw`] | the trait of both media: raw copies, and what is lost |
//! | [`pmem`] | mapped persistent memory, as regions and namespaces |
//! | [`blk_window`] | block data windows, as regions and namespaces |
//! | [`medium`] | a namespace's medium: [`pmem::Pmem`] or [`blk_window::Blk`] |
//! | [`transfer`] | a run of sectors, moved once between a consumer's memory and a medium |
//! | [`flush`] | fences that are FLUSHes of a device, shared by all CPUs |
//! | `flush_hints` | registers that make durable what was posted to a DIMM |
//! | `bad_ranges` | the list of lines that a region has lost |
//! | [`poison`] | from the physical address of a lost line to its region's list |
//! | [`label_mailbox`] | QEMU's interface to DIMMs' label areas |
//! | [`cxl`] | CXL memory devices: registers, decoders, mailbox |
//! | [`pci`] | PCI configuration space: functions, BARs, MSI-X |
//! | [`registers`] | a block of registers in memory, with a trait that lets a test be the device |
//! | [`dma`] | pages that a device reads and writes by itself, and buffers in them |
//! | [`shared`] | memory that a peer writes to at the same time |
//! | [`ivshmem`] | QEMU's ivshmem-doorbell: a consumer's memory, and interrupts both ways |
//! | [`uart`] | a 16550 UART, as a byte link |
//! | [`virtio`] | the driver's side of virtio over PCI: virtio-pmem, virtio-net, virtio-console |
//! | [`e1000e`] | Intel's gigabit network controllers |
//!
//! [`phys`], [`persist`], [`copies`], [`pmem`], [`blk_window`], [`shared`] and [`transfer`] need no privilege and run in a
//! program on a host, too.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bad_ranges;
pub mod blk_window;
pub mod copies;
pub mod cxl;
pub mod dma;
pub mod e1000e;
pub mod flush;
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
pub mod raw;
pub mod registers;
pub mod shared;
pub mod transfer;
pub mod uart;
pub mod virtio;
