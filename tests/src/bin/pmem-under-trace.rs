//! Uses persistent memory as the appliance does, while its instructions are counted (`tests::instructions`).
//!
//! `pmem-under-trace OPERATION FILE [COPY]`: maps the file at a fixed place, and stops (SIGSTOP) just before and just after
//! the operation, with this kind of copy; by default the widest.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use drivers::persist::Persist;
use drivers::phys::PhysAddr;
use drivers::pmem::{Access, Pmem, PmemRegion};
use fake_machine::Hardware;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{Signal, raise};
use tests::instructions::{BASE, HINT, Operation};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(operation), Some(file), copy) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let Some(operation) = Operation::named(&operation) else { return ExitCode::from(2) };
    let mut copies = Persist::detect().with_each_copy();
    let Some(persist) = copies.find(|persist| copy.as_deref().is_none_or(|copy| copy == persist.copy_name())) else {
        return ExitCode::from(2);
    };
    operation.perform(&map(&file, operation, persist), || raise(Signal::SIGSTOP).expect("a process may stop itself"));
    ExitCode::SUCCESS
}

fn map(file: &str, operation: Operation, persist: Persist) -> Pmem {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("the file is there");
    let bytes = file.metadata().expect("it has a length").len();
    let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    let place = NonZeroUsize::new(BASE);
    let length = usize::try_from(bytes).ok().and_then(NonZeroUsize::new).expect("it is not empty, and fits");
    // SAFETY: a new mapping over nothing else (NOREPLACE), which stays for as long as the process does.
    let base = unsafe { mmap(place, length, protection, flags | MapFlags::MAP_FIXED_NOREPLACE, &file, 0) };
    let base = base.expect("the place is free").cast();
    // SAFETY: the mapping is readable and writable for good, and nothing refers to it but what is mapped here.
    let machine = unsafe { Hardware::default().device(0, bytes, base) };
    let (bytes, hints) = if operation == Operation::Hint { (HINT, &[PhysAddr(HINT)][..]) } else { (bytes, &[][..]) };
    let region =
        PmemRegion::map(&machine.map, PhysAddr(0), bytes, hints, Access::ReadWrite, persist).expect("it is mapped");
    region.namespace(0, bytes, Access::ReadWrite).expect("the whole region")
}
