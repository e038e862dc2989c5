//! What the tests of the whole stand on. Everything here panics when it is surprised: that is a test's failure.
//!
//! - [`workspace`]: where things are, and the image built once;
//! - [`explorer`]: every state that a power cut can leave;
//! - [`damage`]: damaged BTTs, a kind of damage each;
//! - [`dimm`]: NVDIMM files that are removed again;
//! - [`machine`]: an appliance in QEMU, started as a person starts it, by `run-qemu.sh`;
//! - [`console`]: one with a person at its console, and programs at its admin socket;
//! - [`efi`]: a disk that UEFI firmware boots from;
//! - [`monitor`], [`gdb`]: what only the hardware can do to it;
//! - [`lan`]: a link between its network device and the test;
//! - [`golden`]: images that Linux made, with what they must read;
//! - [`mutants`]: seeded defects that tests must notice;
//! - [`blk`]: a DIMM behind block data windows, in process or as a process beside QEMU;
//! - [`cuts`]: power cuts of real machines;
//! - [`instructions`]: what the machine executes when the BTT runs on mapped memory;
//! - [`pmdk`]: PMDK's checker;
//! - [`linux`]: an unmodified Linux in QEMU that judges our media ([`cpio`] packs what it boots from), and one that uses
//!   our disks;
//! - [`pages`]: the blocks of the documents, to be run;
//! - [`place`]: where disks meet their consumers.

pub mod blk;
pub mod console;
pub mod cpio;
pub mod cuts;
pub mod damage;
pub mod dimm;
pub mod efi;
pub mod explorer;
pub mod gdb;
pub mod golden;
pub mod instructions;
pub mod lan;
pub mod linux;
pub mod machine;
pub mod monitor;
pub mod mutants;
pub mod pages;
pub mod place;
pub mod pmdk;
mod qemu_socket;
pub mod workspace;
