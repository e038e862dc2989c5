//! untorn for UEFI: a program that firmware loads wherever there is room, with the image's file in its section
//! `.kernel`. It copies the image to its place, and enters it as a PVH loader would: the image knows one 32-bit entry
//! and one form of memory map (`boot::pvh`).
//!
//! In this order:
//! 1. find the image's file, the command line (the load options) and the ACPI root pointer;
//! 2. check that all of the image's place will be free, and that nothing of ours lies there or above 4 GiB;
//! 3. end boot services; firmware is not called any more;
//! 4. leave 64-bit mode, copy, enter (`leave.rs`).
//!
//! Until step 3 a fault is shown on firmware's console and returned: the firmware tries its next boot entry. From the
//! first call that is to end boot services on, also if it fails, firmware permits calls for memory alone, and another
//! try (UEFI 2.10, 7.4.6): a fault halts the machine.
//!
//! It is built for the host's target, as the image is, but position-independent; `untornctl image efi` turns the ELF file
//! into a PE file. Our writer knows one kind of relocation, which is all that such a program has.
#![no_std]
#![no_main]

mod firmware;
mod leave;

use core::cell::UnsafeCell;
use core::ops::Range;
use core::panic::PanicInfo;

use boot::efi::{self, HANDED_LINE_BYTES};
use boot::elf::{Program, SEGMENTS_MAX};
use boot::loader::MAX_FIRMWARE_RANGES;
use boot::pe;
use boot::pvh::{self, MEMORY_ENTRY_BYTES, START_INFO_BYTES};

use firmware::{BUFFER_TOO_SMALL, Firmware, LOAD_ERROR, MapKey, Status};
use leave::{Copy, leave_to_image};

/// The longest memory map in words: 64 KiB, more than a thousand descriptors.
const MAP_WORDS: usize = 8192;

/// How often firmware may change its memory map while we try to end boot services.
const TRIES: usize = 8;

/// What outlives boot services: the map, and what the image's loader protocol hands over.
struct Handover {
    map: [u64; MAP_WORDS],
    start_info: [u8; START_INFO_BYTES],
    entries: [[u8; MEMORY_ENTRY_BYTES]; MAX_FIRMWARE_RANGES],
    command_line: [u8; HANDED_LINE_BYTES],
    copies: [Copy; SEGMENTS_MAX + 1],
}

struct Place(UnsafeCell<Handover>);

// SAFETY: `stub_main` alone reaches it, once.
unsafe impl Sync for Place {}

static HANDOVER: Place = Place(UnsafeCell::new(Handover {
    map: [0; MAP_WORDS],
    start_info: [0; START_INFO_BYTES],
    entries: [[0; MEMORY_ENTRY_BYTES]; MAX_FIRMWARE_RANGES],
    command_line: [0; HANDED_LINE_BYTES],
    copies: [Copy { source: 0, target: 0, bytes: 0, zero_bytes: 0 }; SEGMENTS_MAX + 1],
}));

/// The entry point's function: returns to the firmware only with an error.
#[unsafe(no_mangle)]
extern "efiapi" fn stub_main(image: usize, system: usize) -> Status {
    // SAFETY: the entry point passes its arguments on, with interrupts off.
    let firmware = unsafe { Firmware::new(image, system) };
    // SAFETY: the firmware enters the program once.
    let handover = unsafe { &mut *HANDOVER.0.get() };
    let why = start(&firmware, handover);
    firmware.show("untorn cannot start:");
    firmware.show(why);
    LOAD_ERROR
}

/// Starts the image; returns why not. Halts where firmware has been asked to end boot services and does not.
fn start(firmware: &Firmware, handover: &mut Handover) -> &'static str {
    let Some(loaded) = firmware.loaded_image() else { return "firmware does not tell where it loaded this program" };
    let section = loaded.headers().and_then(|headers| pe::section(headers, *b".kernel\0"));
    // SAFETY: the section holds the image's file and nothing else: it is constant.
    let file = section.and_then(|section| unsafe { loaded.bytes(section) });
    let Some(file) = file else { return "this file has no section .kernel" };
    let Some(program) = Program::read(file) else { return "its section .kernel holds no image" };
    let (target, own) = (program.target(), loaded.addresses());
    if own.end > 1 << 32 {
        return "firmware loaded it above 4 GiB";
    }
    if own.start < target.end && target.start < own.end {
        return "firmware loaded it where the image is to be";
    }

    handover.command_line = efi::command_line(loaded.options);
    for (copy, segment) in handover.copies.iter_mut().zip(program.segments) {
        // Below 4 GiB, as all of `own` is.
        let source = u32::try_from(file.as_ptr().expose_provenance() + segment.offset).unwrap_or_default();
        let (target, bytes, zero_bytes) = (segment.target, segment.file_bytes, segment.zero_bytes);
        *copy = Copy { source, target, bytes, zero_bytes };
    }
    let root_pointer = firmware.root_pointer();

    let mut key = match describe_memory(firmware, handover, root_pointer, &target) {
        Ok(key) => key,
        Err(why) => return why,
    };
    for _ in 0..TRIES {
        // SAFETY: what follows is
        // 1. if it succeeds, `leave_to_image`;
        // 2. if it fails, the memory map (`describe_memory`) and another try, or a halt.
        if unsafe { firmware.exit(key) }.is_ok() {
            // SAFETY:
            // 1. Boot services have ended; the image's place is free (`first_taken`), and this program is not in it.
            // 2. All of this program, `handover` included, lies below 4 GiB and outside the target. UEFI maps memory at
            //    its physical addresses (UEFI 2.10, 2.3.4).
            unsafe { leave_to_image(handover.copies.as_ptr(), handover.start_info.as_ptr(), program.entry) }
        }
        match describe_memory(firmware, handover, root_pointer, &target) {
            Ok(again) => key = again,
            Err(_) => break, // it can be neither shown nor returned any more
        }
    }
    halt()
}

/// Checks that the image's place will be free, and makes its `start_info` of the firmware's memory map; returns the map's
/// key. Calls nothing of firmware but GetMemoryMap.
fn describe_memory(
    firmware: &Firmware,
    handover: &mut Handover,
    root_pointer: Option<u64>,
    target: &Range<u64>,
) -> Result<MapKey, &'static str> {
    let key = firmware.memory_map(&mut handover.map).map_err(|status| match status {
        BUFFER_TOO_SMALL => "firmware's memory map is too long",
        _ => "firmware does not tell its memory map",
    })?;
    let map = bytes_of(&handover.map).get(..key.map_bytes).ok_or("firmware's memory map is longer than its place")?;
    if efi::first_taken(map, key.descriptor_bytes, target).is_some() {
        return Err("firmware keeps memory where the image is to be (from 1 MiB on)");
    }
    let map = efi::address_map(map, key.descriptor_bytes).map_err(|_| "the memory map has too many ranges")?;
    for (entry, range) in handover.entries.iter_mut().zip(map.ranges()) {
        *entry = range.to_pvh();
    }
    let info = pvh::StartInfo {
        rsdp: root_pointer,
        command_line: Some(handover.command_line.as_ptr().expose_provenance() as u64),
        memory_map: handover.entries.as_ptr().expose_provenance() as u64,
        memory_entries: map.ranges().len(),
    };
    handover.start_info = info.to_bytes();
    Ok(key)
}

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: initialised words are initialised bytes, as many as they take.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

/// A mistake of our own: there is no way back to the firmware.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    halt()
}

fn halt() -> ! {
    loop {
        // SAFETY: waits; with interrupts off for good.
        unsafe { core::arch::asm!("cli", "hlt") }
    }
}
