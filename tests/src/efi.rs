//! A disk that UEFI firmware boots from: a FAT file system with a program on it that prints a word on the serial port.

use std::fs;
use std::path::Path;

use crate::workspace;

/// The word that the program prints again and again.
pub const SAYS: &str = "untorn's disk has booted\r\n";

/// Where the program's only section is: right after a page of headers, in the file as in memory.
const SECTION: u32 = 0x1000;
const SECTION_BYTES: u32 = 0x200;

/// Says what follows it, byte by byte, at port 0x3f8, and begins anew at a zero.
///
/// `lea rsi, [rip + text]; mov dx, 0x3f8; next: lodsb; test al, al; jz $; out dx, al; jmp next` with the `jz` to the start.
const SPEAKER: [u8; 19] = [
    0x48, 0x8d, 0x35, 0x0c, 0x00, 0x00, 0x00, // lea rsi, [rip + 12]
    0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xac, // lodsb
    0x84, 0xc0, // test al, al
    0x74, 0xf0, // jz the beginning
    0xee, // out dx, al
    0xeb, 0xf8, // jmp lodsb
];

/// The program: a PE32+ image for x86-64 with subsystem 10, an EFI application (PE/COFF specification, sections 2 to 4; UEFI
/// 2.10, 2.1.1). The file is as long as asked for, at least two pages: firmware reads all of it at once.
///
/// # Panics
/// When so much does not fit a `Vec`.
#[must_use]
pub fn program(file_bytes: usize) -> Vec<u8> {
    let mut file = vec![0; file_bytes.max(2 * SECTION as usize)];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(b"MZ");
    put(&[0; 58]);
    put(&64_u32.to_le_bytes()); // where the next one is
    put(b"PE\0\0");
    // COFF: machine, one section, no symbols, 0xf0 bytes of optional header; executable, large addresses.
    for half in [0x8664_u16, 1, 0, 0, 0, 0, 0, 0, 0xf0, 0x22] {
        put(&half.to_le_bytes());
    }
    // Optional header: PE32+, linker version; sizes of code and data, entry, base of code.
    put(&0x20b_u16.to_le_bytes());
    put(&[0; 2]);
    for word in [SECTION_BYTES, 0, 0, SECTION, SECTION] {
        put(&word.to_le_bytes());
    }
    put(&0_u64.to_le_bytes()); // image base: wherever there is room
    for word in [0x1000_u32, 0x200, 0, 0, 0, 0, 2 * SECTION, SECTION, 0] {
        put(&word.to_le_bytes()); // alignments, versions, size of the image and its headers, checksum
    }
    for half in [10_u16, 0] {
        put(&half.to_le_bytes()); // subsystem, DLL characteristics
    }
    put(&[0; 32]); // stack and heap
    for word in [0_u32, 16] {
        put(&word.to_le_bytes()); // loader flags, directories: none is used
    }
    put(&[0; 16 * 8]);
    // The section: its place in memory and in the file; code that is read and executed.
    put(b".text\0\0\0");
    for word in [SECTION_BYTES, SECTION, SECTION_BYTES, SECTION, 0, 0, 0, 0x6000_0020] {
        put(&word.to_le_bytes());
    }
    at = SECTION as usize;
    let mut put = |bytes: &[u8]| {
        file[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&SPEAKER);
    put(SAYS.as_bytes());
    file
}

/// The first bytes of a disk of `disk_bytes`, with the program as what UEFI firmware starts from a disk that it knows
/// nothing of. `folder` takes the files that it is made of.
///
/// # Panics
/// When mtools cannot make it.
#[must_use]
pub fn disk(folder: &Path, disk_bytes: u64, program: &[u8]) -> Vec<u8> {
    workspace::set_up("tests");
    let [image, file] = ["efi.img", "efi.program"].map(|name| folder.join(name));
    let made = fs::File::create(&image).and_then(|image| image.set_len(disk_bytes));
    made.expect("an image is made");
    fs::write(&file, program).expect("a program is written");
    let tool = |program: &str, arguments: &[&str]| {
        workspace::run(workspace::command(program).args(["-i"]).arg(&image).args(arguments));
    };
    let sectors = (disk_bytes / 512).to_string();
    tool("mformat", &["-T", &sectors, "-h", "64", "-s", "32", "-c", "32", "::"]);
    tool("mmd", &["::/EFI", "::/EFI/BOOT"]);
    tool("mcopy", &[&file.display().to_string(), "::/EFI/BOOT/BOOTX64.EFI"]);
    fs::read(&image).expect("the image is there")
}
