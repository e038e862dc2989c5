//! A disk for UEFI firmware: a GPT with an EFI system partition, on which the native program is what firmware starts by
//! itself (`\EFI\BOOT\BOOTX64.EFI`; UEFI 2.10, 3.5.1.1). Written to a USB stick or a disk as it is, it boots there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{efi, fault, replace};

const SECTOR: u64 = 512;
/// Where partitions begin by custom: at 1 MiB.
const FIRST_SECTOR: u64 = 2048;
/// The backup of the partition table takes the last 33 sectors; rounded up.
const LAST_SECTORS: u64 = 2048;
/// Room for the program, and for what a person adds.
const SPARE_BYTES: u64 = 6 << 20;

/// Makes the disk of the linked image and stub. Replaces `disk` at once.
///
/// # Errors
/// Why it could not be made, for people.
pub fn make(image: &Path, stub: &Path, disk: &Path) -> Result<(), String> {
    let made = replace(disk, |folder| make_in(folder, image, stub));
    made.map_err(|why| format!("the disk could not be made: {why}"))
}

fn make_in(folder: &Path, image: &Path, stub: &Path) -> Result<PathBuf, String> {
    let (program, disk) = (folder.join("program.efi"), folder.join("disk.img"));
    let bytes = efi::program(image, stub)?;
    fs::write(&program, &bytes).map_err(fault(&program))?;
    let sectors = (bytes.len() as u64 + SPARE_BYTES).div_ceil(SECTOR).next_multiple_of(FIRST_SECTOR);
    let whole = (FIRST_SECTOR + sectors + LAST_SECTORS) * SECTOR;
    File::create(&disk).and_then(|file| file.set_len(whole)).map_err(fault(&disk))?;

    // gdisk's and mtools's words: one partition of type ef00, and a file system in it.
    let last = FIRST_SECTOR + sectors - 1;
    let partition = format!("--new=1:{FIRST_SECTOR}:{last}");
    run("sgdisk", &["--clear", &partition, "--typecode=1:ef00", "--change-name=1:untorn"], &[disk.as_os_str()])?;
    let mut inside = disk.as_os_str().to_owned();
    inside.push(format!("@@{}", FIRST_SECTOR * SECTOR));
    let sectors = sectors.to_string();
    let geometry = ["-v", "UNTORN", "-h", "16", "-s", "63", "-T", &sectors, "-i"];
    run("mformat", &geometry, &[&inside])?;
    run("mmd", &["-i"], &[&inside, OsStr::new("::/EFI"), OsStr::new("::/EFI/BOOT")])?;
    run("mcopy", &["-i"], &[&inside, program.as_os_str(), OsStr::new("::/EFI/BOOT/BOOTX64.EFI")])?;
    Ok(disk)
}

fn run(program: &str, words: &[&str], files: &[&OsStr]) -> Result<(), String> {
    let output = Command::new(program).args(words).args(files).output();
    let output = output.map_err(|error| format!("{program}: {error} (host/setup.sh disk installs it)"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end())),
    }
}
