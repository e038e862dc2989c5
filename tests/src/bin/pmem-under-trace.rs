//! Uses persistent memory as the appliance does, while somebody counts its instructions (`tests::instructions`).
//!
//! `pmem-under-trace OPERATION FILE`: maps the file at a fixed place, and stops (SIGSTOP) just before and just after the
//! operation.

use std::fs::OpenOptions;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::ptr::NonNull;

use drivers::persist::Persist;
use drivers::phys::{Attribute, MapError, PhysAddr, PhysMap};
use drivers::pmem::{Access, Pmem, PmemRegion};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use nix::sys::signal::{Signal, raise};
use tests::instructions::{BASE, HINT, Operation};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(operation), Some(file), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::from(2);
    };
    let Some(operation) = Operation::named(&operation) else { return ExitCode::from(2) };
    operation.perform(&map(&file, operation), || raise(Signal::SIGSTOP).expect("a process may stop itself"));
    ExitCode::SUCCESS
}

/// The file, as if it were all of the physical memory.
struct Mapped {
    base: NonNull<u8>,
    bytes: u64,
}

// SAFETY: the mapping is readable and writable for good, and nothing refers to it but what is mapped here.
unsafe impl PhysMap for Mapped {
    fn map(&self, at: PhysAddr, bytes: u64, _: Attribute) -> Result<NonNull<u8>, MapError> {
        let inside = at.0.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        let offset = usize::try_from(at.0).ok().filter(|_| inside).ok_or(MapError::NoRoom { at, bytes })?;
        // SAFETY: within the mapping.
        Ok(unsafe { self.base.add(offset) })
    }
}

fn map(file: &str, operation: Operation) -> Pmem {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("the file is there");
    let bytes = file.metadata().expect("it has a length").len();
    let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    let place = NonZeroUsize::new(BASE);
    let length = usize::try_from(bytes).ok().and_then(NonZeroUsize::new).expect("it is not empty, and fits");
    // SAFETY: a new mapping over nothing else (NOREPLACE), which stays for as long as the process does.
    let base = unsafe { mmap(place, length, protection, flags | MapFlags::MAP_FIXED_NOREPLACE, &file, 0) };
    let phys = Mapped { base: base.expect("the place is free").cast(), bytes };
    let (bytes, hints) = if operation == Operation::Hint { (HINT, &[PhysAddr(HINT)][..]) } else { (bytes, &[][..]) };
    let persist = Persist::detect(false);
    let region = PmemRegion::map(&phys, PhysAddr(0), bytes, hints, Access::ReadWrite, persist).expect("it is mapped");
    region.namespace(0, bytes, Access::ReadWrite).expect("the whole region")
}
