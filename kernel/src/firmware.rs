//! Finds firmware's ACPI tables, keeps those that we use, and reports the rest.
//!
//! The `acpi` crate walks the table of tables. It trusts lengths that firmware wrote (a table's checksum is taken over as
//! many bytes as its header says), so everything it reads goes through [`Collector`], which hands it copies of sound
//! tables only: whole, with their length checked. A broken table reads as zeroes and is passed over.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::ptr::{NonNull, slice_from_raw_parts_mut};

use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use boot::root_pointer::{self, ROOT_POINTER_BYTES, RootFault, RootTable};
use drivers::phys::MapError;
use kernel::tables::cedt::Cedt;
use kernel::tables::fadt::Fadt;
use kernel::tables::madt::Madt;
use kernel::tables::mcfg;
use kernel::tables::sleep::{self, SleepType};
use kernel::tables::{HEADER_BYTES, Signature, Table, TableFault, host_bridges, is_qemu_nvdimm};

use crate::memory::AddressSpace;

/// More tables than any firmware has: further ones are ignored.
const MAX_TABLES: usize = 256;

/// The most bytes of all tables together that are kept: firmware's are far below, and the heap is for other data, too
/// (invariant 16).
const MAX_KEPT_BYTES: usize = 8 << 20;

/// A table that firmware listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    /// Its name.
    pub(crate) signature: Signature,
    /// Where it lies.
    pub(crate) at: u64,
    /// How long it is, header included; 0 when its header is broken.
    pub(crate) bytes: usize,
    /// What is wrong with it, if anything: then the table was not used.
    pub(crate) fault: Option<TableFault>,
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} at {:#x}", self.signature, self.at)?;
        match self.fault {
            Some(fault) => write!(f, " refused: {fault}"),
            None => write!(f, ", {} bytes", self.bytes),
        }
    }
}

/// The contents of firmware's tables that we use.
#[derive(Debug, Default)]
pub(crate) struct Firmware {
    /// Every table that was found, in firmware's order.
    pub(crate) listed: Vec<Listed>,
    /// All sound NFITs, whole, header included.
    pub(crate) nfits: Vec<Vec<u8>>,
    /// CPUs and interrupts.
    pub(crate) madt: Option<Madt>,
    /// Where PCI's configuration space is.
    pub(crate) pci: Vec<mcfg::Range>,
    /// How many PCI host bridges the DSDT seems to have.
    pub(crate) host_bridges: usize,
    /// CXL host bridges, and windows for their devices' memory.
    pub(crate) cxl: Option<Cedt>,
    /// Power and time.
    pub(crate) fadt: Option<Fadt>,
    /// The sleep type that means "off".
    pub(crate) off: Option<SleepType>,
    /// QEMU's label mailbox is there: I/O port 0xa18 (its NVDIMM SSDT says so).
    pub(crate) qemu_label_mailbox: bool,
}

/// Reads firmware's tables. Missing and broken ones are logged and left out.
pub(crate) fn read(space: &'static AddressSpace, rsdp: Option<u64>) -> Firmware {
    let mut firmware = Firmware::default();
    let collector = Collector { space, found: RefCell::default(), qemu_label_mailbox: Cell::new(false) };
    let collect = |rsdp| {
        let outcome = collector.collect(rsdp);
        outcome.inspect_err(|reason| log!("acpi: the root pointer at {rsdp:#x}: {reason}")).is_ok()
    };
    // What the loader names may be a broken copy: then the original may still be where it can be found.
    if !rsdp.is_some_and(collect) {
        let Some(found) = search_root_pointer(space).filter(|found| Some(*found) != rsdp) else {
            log!("acpi: no root pointer, named by the boot loader or below 1 MiB: no tables, no persistent memory");
            return firmware;
        };
        log!("acpi: the root pointer was searched for, and found at {found:#x}");
        if !collect(found) {
            log!("acpi: no tables, no persistent memory");
            return firmware;
        }
    }
    firmware.qemu_label_mailbox = collector.qemu_label_mailbox.get();
    for (mut listed, bytes) in collector.found.into_inner() {
        if let Ok(table) = Table::check(&bytes) {
            listed.fault = firmware.take(space, &table).err();
        }
        firmware.list(listed);
    }
    log!("acpi: tables{}", Names(&firmware.listed));
    if firmware.nfits.is_empty() {
        log!("acpi: no NFIT");
    }
    firmware
}

/// Looks for the root pointer where a loader that names none may have left it: Firecracker does, and GRUB where a BIOS
/// gives it none.
fn search_root_pointer(space: &AddressSpace) -> Option<u64> {
    let mut memory = Vec::new();
    let bytes = usize::try_from(root_pointer::SEARCHED.end - root_pointer::SEARCHED.start).ok()?;
    memory.try_reserve_exact(bytes).ok()?;
    memory.resize(bytes, 0);
    if let Err(error) = space.read_physical(root_pointer::SEARCHED.start, &mut memory) {
        log!("acpi: the root pointer cannot be searched for: {error}");
        return None;
    }
    root_pointer::find(&memory).map(|at| root_pointer::SEARCHED.start + at as u64)
}

impl Firmware {
    fn list(&mut self, listed: Listed) {
        if listed.fault.is_some() {
            log!("acpi: {listed}");
        }
        self.listed.push(listed);
    }

    /// Takes what we use from a table. If a table that should be unique is there twice, the first counts.
    fn take(&mut self, space: &'static AddressSpace, table: &Table<'_>) -> Result<(), TableFault> {
        match &table.signature().0 {
            // `MAX_KEPT_BYTES` bounds the copy.
            b"NFIT" => self.nfits.push(table.bytes().to_vec()),
            b"APIC" if self.madt.is_none() => {
                let madt = Madt::read(table)?;
                if let Some(at) = madt.broken_at {
                    log!("acpi: table APIC: the entry at {at} is broken: it and all behind it are ignored");
                }
                self.madt = Some(madt);
            }
            b"FACP" if self.fadt.is_none() => {
                let fadt = Fadt::read(table)?;
                self.fadt = Some(fadt);
                if let Some(at) = fadt.dsdt {
                    let (listed, bytes) = copy_table(space, at);
                    self.list(listed);
                    self.off = sleep::find_off(&bytes);
                    self.host_bridges = host_bridges::count(&bytes);
                }
            }
            b"CEDT" if self.cxl.is_none() => {
                let cedt = Cedt::read(table);
                if let Some(at) = cedt.broken_at {
                    log!("acpi: table CEDT: the structure at {at} is broken: it and all behind it are ignored");
                }
                self.cxl = Some(cedt);
            }
            b"MCFG" if self.pci.is_empty() => self.pci = mcfg::read(table)?,
            _ => {}
        }
        Ok(())
    }
}

/// The names of sound tables.
struct Names<'a>(&'a [Listed]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sound = self.0.iter().filter(|listed| listed.fault.is_none());
        sound.try_for_each(|listed| write!(f, " {}", listed.signature))
    }
}

/// Copies a table. If it is broken, the result has no bytes.
fn copy_table(space: &AddressSpace, at: u64) -> (Listed, Vec<u8>) {
    let mut header = [0; HEADER_BYTES];
    let mut listed = Listed { signature: Signature(*b"????"), at, bytes: 0, fault: None };
    let bytes = (|| {
        space.read_physical(at, &mut header).map_err(|_| TableFault::Unreadable)?;
        listed.signature = Signature([header[0], header[1], header[2], header[3]]);
        listed.bytes = Table::length(&header)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(listed.bytes).map_err(|_| TableFault::TooMany)?;
        bytes.resize(listed.bytes, 0);
        space.read_physical(at, &mut bytes).map_err(|_| TableFault::Unreadable)?;
        Table::check(&bytes)?;
        Ok(bytes)
    })();
    match bytes {
        Ok(bytes) => (listed, bytes),
        Err(fault) => (Listed { fault: Some(fault), ..listed }, Vec::new()),
    }
}

/// Reads physical memory for the `acpi` crate, and keeps the tables that the crate reads.
#[derive(Debug)]
struct Collector {
    space: &'static AddressSpace,
    found: RefCell<Vec<(Listed, Vec<u8>)>>,
    /// Whether a table was [`is_qemu_nvdimm`]: of those only the header counts, so none of their bytes are kept.
    qemu_label_mailbox: Cell<bool>,
}

impl Collector {
    /// Finds all tables, and leaves them in `found`.
    fn collect(&self, rsdp: u64) -> Result<(), RootProblem> {
        let mut bytes = [0; ROOT_POINTER_BYTES];
        self.space.read_physical(rsdp, &mut bytes).map_err(RootProblem::Unreadable)?;
        let root = RootTable::read(&bytes).map_err(RootProblem::Broken)?;
        // The newer table of tables first. To the crate, revisions above 0 mean 64-bit addresses.
        let candidates = [root.xsdt.map(|at| (2, at)), Some((0, u64::from(root.rsdt)))];
        for (revision, at) in candidates.into_iter().flatten().filter(|(_, at)| *at != 0) {
            let Ok(address) = usize::try_from(at) else { continue };
            // SAFETY: the crate reads only what `map_physical_region` below hands out: copies of whole, sound tables.
            if let Ok(tables) = unsafe { AcpiTables::from_rsdt(self, revision, address) } {
                self.found.borrow_mut().clear(); // the table of tables itself
                // The collector keeps each table as the iterator passes it.
                let _ = tables.headers().take(MAX_TABLES).count();
                return Ok(());
            }
        }
        Err(RootProblem::NoTables)
    }
}

/// Why the root pointer leads to no tables.
#[derive(Debug)]
enum RootProblem {
    /// It cannot be read.
    Unreadable(MapError),
    /// It is broken.
    Broken(RootFault),
    /// The tables of tables that it names are broken, or it names none.
    NoTables,
}

impl fmt::Display for RootProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::Broken(fault) => write!(f, "{fault}"),
            Self::NoTables => write!(f, "it names no sound table of tables (RSDT, XSDT)"),
        }
    }
}

impl AcpiHandler for &Collector {
    unsafe fn map_physical_region<T>(&self, physical_address: usize, size: usize) -> PhysicalMapping<Self, T> {
        let (listed, bytes) = copy_table(self.space, physical_address as u64);
        let mut found = self.found.borrow_mut();
        let known = found.iter().any(|(old, _)| old.at == listed.at);
        if !known && found.len() < MAX_TABLES {
            let used = matches!(&listed.signature.0, b"NFIT" | b"APIC" | b"FACP" | b"MCFG" | b"CEDT");
            let kept: usize = found.iter().map(|(_, bytes)| bytes.len()).sum();
            if &listed.signature.0 == b"SSDT" && Table::check(&bytes).is_ok_and(|table| is_qemu_nvdimm(&table)) {
                self.qemu_label_mailbox.set(true);
            }
            let mut listed = listed;
            let mut own = Vec::new();
            if used && kept + bytes.len() > MAX_KEPT_BYTES {
                listed.fault.get_or_insert(TableFault::TooMany);
            } else if used {
                own.clone_from(&bytes);
            }
            found.push((listed, own));
        }
        let mut copy = bytes;
        if copy.len() < size.max(size_of::<T>()) {
            // Broken: reads as a header full of zeroes, of a table that ends where it begins.
            copy = vec![0; size.max(size_of::<T>())];
        }
        let length = copy.len();
        let start = NonNull::from(Box::leak(copy.into_boxed_slice())).cast::<T>();
        // SAFETY:
        // 1. At least `size` and at least `size_of::<T>()` bytes follow `start`, all initialised; they live until
        //    `unmap_physical_region` takes them back.
        // 2. The crate asks for its packed, byte-aligned table types only, for which any bytes are valid.
        unsafe { PhysicalMapping::new(physical_address, start, size, length, *self) }
    }

    fn unmap_physical_region<T>(region: &PhysicalMapping<Self, T>) {
        let bytes = slice_from_raw_parts_mut(region.virtual_start().as_ptr().cast::<u8>(), region.mapped_length());
        // SAFETY: these are the start and the length of the boxed slice that `map_physical_region` leaked; the crate
        // calls this once for each mapping.
        drop(unsafe { Box::from_raw(bytes) });
    }
}
