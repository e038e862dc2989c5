//! All that needs machines in QEMU, in one program: its tests fill the CPUs, whichever part they belong to.
//!
//! `cargo test -p tests --test qemu interop` runs those of one part.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod admin_port;
mod appliance;
mod attention;
mod boot;
mod cuts;
mod cxl;
mod damage;
mod events;
mod export;
mod interop;
mod jobs;
mod metrics;
mod network;
mod nvme;
mod pages;
mod run_qemu;
mod virtio_pmem;
mod watchdog;
mod windows;
