//! UEFI's services, as far as the stub calls them. Offsets are those of UEFI 2.10, 4.3, 4.4, 7.1 and 9.1, for 64 bits.
//!
//! **Red zone.** This program is built for the host's target, whose code keeps data below the stack pointer, and
//! firmware's timer interrupt runs on our stack. So interrupts are off in all of our code: at the entry, and after each
//! call of a service, which may have turned them on.
//!
//! Services take addresses as numbers: `expose_provenance` tells the compiler that what lies there is read and written.

use core::arch::global_asm;
use core::ops::Range;
use core::slice;

use boot::efi::OPTIONS_BYTES_MAX;
use boot::pe::HEADERS_BYTES;

/// A status: 0 is success, the highest bit an error.
pub(crate) type Status = usize;

/// `EFI_LOAD_ERROR`.
pub(crate) const LOAD_ERROR: Status = 1 << 63 | 1;

/// `EFI_BUFFER_TOO_SMALL`.
pub(crate) const BUFFER_TOO_SMALL: Status = 1 << 63 | 5;

/// A GUID's bytes, in the order that they have in memory.
pub(crate) type Guid = [u8; 16];

const LOADED_IMAGE: Guid =
    [0xa1, 0x31, 0x1b, 0x5b, 0x62, 0x95, 0xd2, 0x11, 0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b];
const ACPI_2: Guid = [0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81];
const ACPI_1: Guid = [0x30, 0x2d, 0x9d, 0xeb, 0x88, 0x2d, 0xd3, 0x11, 0x9a, 0x16, 0x00, 0x90, 0x27, 0x3f, 0xc1, 0x4d];

global_asm!(
    r#"
    .section .text.entry, "ax"
    // The entry point (UEFI 2.10, 2.3.4): rcx is the image's handle, rdx the system table.
    .global _start
_start:
    subq $40, %rsp                  // room for the callee's four registers; aligned
    cli
    callq stub_main
    addq $40, %rsp
    sti
    retq

    // call_service(service, a, b, c, d, e): from this target's convention to UEFI's.
    .global call_service
call_service:
    pushq %rbp
    movq %rsp, %rbp
    subq $48, %rsp
    movq %r9, 32(%rsp)
    movq %r8, %r9
    movq %rcx, %r8
    movq %rsi, %rcx
    callq *%rdi
    cli
    cld
    leaveq
    retq
    "#,
    options(att_syntax)
);

unsafe extern "C" {
    /// Calls a service with up to five arguments.
    fn call_service(service: usize, a: usize, b: usize, c: usize, d: usize, e: usize) -> Status;
}

/// The memory map as firmware wrote it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapKey {
    pub(crate) key: usize,
    pub(crate) map_bytes: usize,
    pub(crate) descriptor_bytes: usize,
}

/// What the stub was loaded as.
#[derive(Clone, Debug)]
pub(crate) struct LoadedImage {
    /// Where all of this program lies: also what it writes to, so it is never one slice.
    addresses: Range<usize>,
    /// The load options, as far as they are read.
    pub(crate) options: &'static [u8],
}

impl LoadedImage {
    /// Returns where all of this program lies.
    pub(crate) const fn addresses(&self) -> Range<u64> {
        self.addresses.start as u64..self.addresses.end as u64
    }

    /// Returns the headers of the program's file, if there is room for them.
    pub(crate) fn headers(&self) -> Option<&'static [u8; HEADERS_BYTES]> {
        // SAFETY: the headers are constants.
        unsafe { self.bytes(0..HEADERS_BYTES) }?.first_chunk()
    }

    /// Returns some bytes of the program, counted from its beginning, if all of them are its own.
    ///
    /// # Safety
    /// They hold nothing that is written to while the program runs.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> Option<&'static [u8]> {
        let start = self.addresses.start.checked_add(range.start)?;
        let end = self.addresses.start.checked_add(range.end)?;
        if range.is_empty() || end > self.addresses.end {
            return None;
        }
        // SAFETY: firmware loaded the program there, and it stays until it ends. The caller vouches that nothing writes.
        Some(unsafe { slice::from_raw_parts(start as *const u8, range.len()) })
    }
}

/// The firmware, until boot services end.
#[derive(Debug)]
pub(crate) struct Firmware {
    image: usize,
    system: usize,
}

impl Firmware {
    /// The firmware that called the entry point.
    ///
    /// # Safety
    /// These are the entry point's arguments, and interrupts are off.
    pub(crate) const unsafe fn new(image: usize, system: usize) -> Self {
        Self { image, system }
    }

    /// Reads a pointer-sized field.
    ///
    /// # Safety
    /// `base` is a structure of firmware's that has a field there.
    const unsafe fn word(base: usize, offset: usize) -> usize {
        // SAFETY: the caller vouches for it; firmware's structures are aligned.
        unsafe { ((base + offset) as *const usize).read() }
    }

    /// Calls a boot service.
    ///
    /// # Safety
    /// `offset` is that of a boot service which takes these arguments; boot services have not ended.
    unsafe fn boot_service(&self, offset: usize, arguments: [usize; 5]) -> Status {
        let [a, b, c, d, e] = arguments;
        // SAFETY: the system table has the boot services' at 96; the caller vouches for the rest.
        unsafe { call_service(Self::word(Self::word(self.system, 96), offset), a, b, c, d, e) }
    }

    /// Shows a line on firmware's console.
    pub(crate) fn show(&self, text: &str) {
        // SAFETY: the system table has ConOut at 64, whose OutputString at 8 takes itself and UTF-16 with an end.
        unsafe {
            let console = Self::word(self.system, 64);
            for byte in text.bytes().chain(*b"\r\n") {
                let unit = [u16::from(byte), 0];
                call_service(Self::word(console, 8), console, unit.as_ptr().expose_provenance(), 0, 0, 0);
            }
        }
    }

    /// Returns what we were loaded as (`EFI_LOADED_IMAGE_PROTOCOL`), if firmware tells.
    pub(crate) fn loaded_image(&self) -> Option<LoadedImage> {
        let mut protocol = 0_usize;
        let into = (&raw mut protocol).expose_provenance();
        // SAFETY: HandleProtocol (152) takes a handle, a GUID and a place for a pointer. The protocol has the options'
        // length at 48 (32 bits) and their place at 56, the image's place at 64 and its length at 72; all of that stays
        // as it is until we end.
        unsafe {
            if self.boot_service(152, [self.image, LOADED_IMAGE.as_ptr().expose_provenance(), into, 0, 0]) != 0
                || protocol == 0
            {
                return None;
            }
            let field = |offset| Self::word(protocol, offset);
            let (options, options_bytes) = (field(56), (field(48) & 0xffff_ffff).min(OPTIONS_BYTES_MAX));
            let options = if options == 0 { &[] } else { slice::from_raw_parts(options as *const u8, options_bytes) };
            let start = field(64);
            Some(LoadedImage { addresses: start..start.checked_add(field(72))?, options })
        }
    }

    /// Returns the ACPI root pointer's address, of the newest kind that firmware has.
    pub(crate) fn root_pointer(&self) -> Option<u64> {
        // SAFETY: the system table has the number of configuration tables at 104 and their array at 112: each a GUID and
        // a pointer.
        let tables = unsafe {
            let (count, array) = (Self::word(self.system, 104), Self::word(self.system, 112));
            if array == 0 { &[] } else { slice::from_raw_parts(array as *const (Guid, usize), count) }
        };
        let find = |guid| tables.iter().find(|table| table.0 == guid).map(|table| table.1 as u64);
        find(ACPI_2).or(find(ACPI_1))
    }

    /// Gets the memory map into `map`.
    pub(crate) fn memory_map(&self, map: &mut [u64]) -> Result<MapKey, Status> {
        let mut found = MapKey { key: 0, map_bytes: size_of_val(map), descriptor_bytes: 0 };
        let mut version = 0_u32;
        let MapKey { key, map_bytes, descriptor_bytes } = &mut found;
        let places = [
            (&raw mut *map_bytes).expose_provenance(),
            map.as_mut_ptr().expose_provenance(),
            (&raw mut *key).expose_provenance(),
        ];
        let [size, map, key] = places;
        let descriptor = (&raw mut *descriptor_bytes).expose_provenance();
        // SAFETY: GetMemoryMap (56) takes the places of the map's size, the map, its key, a descriptor's size and its
        // version.
        match unsafe { self.boot_service(56, [size, map, key, descriptor, (&raw mut version).expose_provenance()]) } {
            0 => Ok(found),
            status => Err(status),
        }
    }

    /// Ends boot services; fails when the memory map is another by now.
    ///
    /// # Safety
    /// 1. If it succeeds, no service is called any more, and the memory that the map calls firmware's stays as it is.
    /// 2. If it fails, nothing is called any more but [`Self::memory_map`] and this: firmware may have ended some of its
    ///    services (UEFI 2.10, 7.4.6).
    pub(crate) unsafe fn exit(&self, key: MapKey) -> Result<(), Status> {
        // SAFETY: ExitBootServices (232) takes the image's handle and the map's key.
        match unsafe { self.boot_service(232, [self.image, key.key, 0, 0, 0]) } {
            0 => Ok(()),
            status => Err(status),
        }
    }
}
