//! The ways in: each brings the appliance up, with its NVDIMM, its label mailbox and its command line; QEMU's older PC
//! does, too. docs/boot.md has what else was tried.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::dimm::{Dimm, MIB};
use tests::machine::ApplianceBuilder;
use tests::workspace;

/// Boots by `route`, with these arguments for QEMU: formats the DIMM, writes and reads; with a socket for the disk, waits
/// for it.
fn serves(route: &str, qemu: &[&str], options: &[&str]) {
    let dimm = Dimm::blank(64 * MIB).with_labels();
    let append = format!("route={route} net0=10.0.0.2/24,gateway=fe80::1");
    let builder = ApplianceBuilder::new().dimm(&dimm).with(&["--boot", route, "--append", &append]).with(options);
    let mut appliance = builder.qemu(qemu).boot();
    let sector = vec![0x42; 4096];
    let said = |line: &str| appliance.boot_log.iter().any(|it| it.ends_with(line));
    // untornctl needs a person's console.
    assert!(said(&format!("command line: {append} console=person")), "{:?}", appliance.boot_log);
    assert!(said("untorn 0.1.0"), "{:?}", appliance.boot_log);
    appliance.ask("init-labels nmem0");
    appliance.ask("create-namespace");
    appliance.write("pmem0s", 7, &sector);
    assert_eq!(appliance.read("pmem0s", 7), sector);
    assert_eq!(appliance.ask("status")["cpus"], 2);
    if let ["--vhost-user", socket] = options {
        let end = Instant::now() + Duration::from_secs(120);
        while !Path::new(socket).exists() {
            assert!(Instant::now() < end, "the bridge hears nothing of the disk");
            sleep(Duration::from_millis(50));
        }
    }
    appliance.power_off();
}

#[test]
fn the_older_pc_boots_by_pvh() {
    serves("pvh", &["-machine", "pc"], &[]);
}

#[test]
fn a_bios_boots_from_a_cd_by_grub() {
    serves("bios", &[], &[]);
    let iso = workspace::target().join("release/untorn.iso");
    let made = host::append::Append::default();
    host::image::iso::make(&workspace::target().join("release/untorn"), &made, &iso).unwrap();
    let bytes = fs::metadata(&iso).unwrap().len();
    assert!(bytes <= 6 << 20, "the ISO has {bytes} bytes");
}

#[test]
fn untornctl_takes_as_long_a_command_line_as_the_image_keeps() {
    assert_eq!(host::append::BYTES_MAX, boot::loader::COMMAND_LINE_BYTES);
}

#[test]
fn a_machine_without_timers_measures_by_the_real_time_clock_and_turns_off() {
    // QEMU's microvm: a hardware-reduced machine, here without a PIT.
    let mut appliance = ApplianceBuilder::new().qemu(&["-machine", "microvm,acpi=on,rtc=on,pit=off"]).boot();
    let measured = appliance.boot_log.iter().any(|line| line.contains("measured by the real-time clock's seconds"));
    assert!(measured, "{:?}", appliance.boot_log);
    assert_eq!(appliance.ask("status")["cpus"], 2);
    appliance.power_off();
}

#[test]
fn what_make_image_makes_for_uefi_firmware_has_the_program_where_firmware_looks() {
    workspace::build();
    let folder = workspace::folder("test-images").join(std::process::id().to_string());
    fs::create_dir_all(&folder).unwrap();
    let [disk, program, found] = ["disk.img", "untorn.efi", "found.efi"].map(|name| folder.join(name));
    for (kind, file) in [("disk", &disk), ("efi", &program)] {
        let made = workspace::command("./make-image.sh").arg(kind).arg(file).output().unwrap();
        assert!(made.status.success(), "{kind}: {}", String::from_utf8_lossy(&made.stderr));
    }
    let partition = format!("{}@@1M", disk.display());
    workspace::run(workspace::command("mcopy").args(["-i", &partition, "::/EFI/BOOT/BOOTX64.EFI"]).arg(&found));
    assert!(fs::read(&found).unwrap() == fs::read(&program).unwrap(), "it is the program");
    // The partition's type is that of an EFI system partition (UEFI 2.10, 5.3.3).
    let table = workspace::run(workspace::command("sgdisk").arg("--info=1").arg(&disk));
    let table = String::from_utf8_lossy(&table);
    assert!(table.contains("C12A7328-F81F-11D2-BA4B-00A0C93EC93B"), "{table}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn uefi_firmware_boots_the_native_program() {
    // OVMF writes to the control link's port, too, before the appliance does: the bridge takes it for noise.
    let socket = workspace::folder("test-dimms").join(format!("{}.disk", std::process::id()));
    serves("uefi", &[], &["--vhost-user", &socket.display().to_string()]);
}
