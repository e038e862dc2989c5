//! Uses persistent memory as the appliance does, while somebody counts its instructions (`tests::instructions`).
//!
//! `pmem-under-trace OPERATION FILE`: maps the file at a fixed place, and stops (SIGSTOP) just before and just after the
//! operation.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use drivers::persist::Persist;
use drivers::pmem::{Access, Pmem, PmemRegion};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{Signal, raise};
use tests::instructions::{BASE, Operation};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(operation), Some(file), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let Some(operation) = Operation::named(&operation) else { return ExitCode::from(2) };
    operation.perform(&map(&file), || raise(Signal::SIGSTOP).expect("a process may stop itself"));
    ExitCode::SUCCESS
}

fn map(file: &str) -> Pmem {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("the file is there");
    let bytes = usize::try_from(file.metadata().expect("it has a length").len()).expect("it fits");
    let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    let place = NonZeroUsize::new(BASE);
    let length = NonZeroUsize::new(bytes).expect("it is not empty");
    // SAFETY: a new mapping over nothing else (NOREPLACE), which stays for as long as the process does.
    let base = unsafe { mmap(place, length, protection, flags | MapFlags::MAP_FIXED_NOREPLACE, &file, 0) };
    let base = base.expect("the place is free").cast();
    // SAFETY: the mapping is readable and writable for good, and nothing refers to it but this region.
    let region = unsafe { PmemRegion::from_mapping(base, bytes, Access::ReadWrite, Persist::detect(false)) };
    region.namespace(0, bytes as u64, Access::ReadWrite).expect("the whole region")
}
