//! From firmware to the kernel's `_start(&'static mut BootInfo)`: the one hand-off type is `bootloader_api`'s.
//!
//! | module | does |
//! |---|---|
//! | `entry` | 32-bit entry to 64-bit Rust: SSE, first page tables, long mode |
//! | [`pvh`] | the PVH note, and the reader of its `start_info` |
//! | [`multiboot2`] | the multiboot2 header, and the reader of its tags |
//! | [`efi`], [`pe`], [`elf`] | UEFI's memory map, the stub's own file and the image's, for the UEFI stub (`src/stub`), which ends at the PVH entry |
//! | [`loader`] | what either reader finds |
//! | [`bytes`] | little-endian numbers in all of these |
//! | [`root_pointer`] | the ACPI root pointer: whether it is sound, and where it is searched for |
//! | `physical` | physical memory as the loader left it |
//! | [`handoff`] | makes `BootInfo` from a firmware memory map, and starts the kernel |
//! | `trampoline` | takes the other CPUs from real mode to 64-bit Rust |
//! | [`image`] | the places of the image's parts |
//! | `runtime`, `compare` | the symbols that a program without a C library must define; what `memcmp` does |
//!
//! Another protocol is one more file beside [`pvh`]: an entry that names its reader to `entry`, and a reader that fills
//! a [`loader::LoaderInfo`]. The readers are free of hardware and tested on a host; the entries are there only with the
//! feature `image`, for the image's linker script and its symbols.
//!
//! # Why the host target
//! The image is built for `x86_64-unknown-linux-gnu`, the target that every Rust installation on Linux has: nothing
//! else has to be fetched, and SSE and AVX intrinsics work, which the bare-metal target's soft-float ABI rules out. The
//! crate provides or avoids what that target assumes and a kernel does not have: no C library (`runtime`),
//! position-dependent static linking (`linker.ld`), SSE on before the first Rust instruction (`entry`), and the red
//! zone below the stack pointer, which is why the kernel takes every interrupt on a stack of its own.
//!
//! # Physical memory while this crate runs
//! ```text
//! 0x0000_0000  below 1 MiB: firmware's; the trampoline borrows two pages of it later
//! 0x0010_0000  the image: read-only data, code, data, zeroed data, a guard page, the boot CPU's stack
//! 0x0080_6000  the image ends below this at the latest: UEFI firmware (OVMF) keeps memory from here on
//! ```
//! The first page tables map the first 4 GiB twice, at 0 and at [`PHYSICAL_MEMORY_OFFSET`], readable, writable and
//! executable. They serve until the kernel has its own.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod bytes;
pub mod efi;
pub mod elf;
pub mod handoff;
pub mod image;
pub mod loader;
pub mod multiboot2;
pub mod pe;
pub mod pvh;
pub mod root_pointer;

#[cfg(any(test, feature = "image", feature = "stub"))]
mod compare;
#[cfg(all(feature = "image", not(test)))]
pub mod entry;
#[cfg(all(feature = "image", not(test)))]
mod physical;
#[cfg(all(any(feature = "image", feature = "stub"), not(test)))]
pub mod runtime;
#[cfg(all(feature = "image", not(test)))]
pub mod trampoline;

/// Where the first page tables map physical memory a second time. The kernel's own tables use the same place.
pub const PHYSICAL_MEMORY_OFFSET: u64 = 0xffff_8000_0000_0000;

/// How much physical memory the first page tables reach: 4 GiB.
pub const FIRST_TABLES_REACH: u64 = 1 << 32;
