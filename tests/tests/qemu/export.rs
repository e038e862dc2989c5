//! Disks in other machines, real ones: an unmodified QEMU with its firmware's driver, and an unmodified Linux, that use
//! them while everything around lives and dies.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use host::appliance::die_with_parent;
use host::session::ReplyForm;
use tests::blk::beside::Beside;
use tests::dimm::{Dimm, MIB};
use tests::efi;
use tests::linux::{Consumer, Disk};
use tests::machine::{ApplianceBuilder, Running};
use tests::place::{Place, eventually};

// ---- Linux.

/// fio's options for a load that verifies what it has written, block by block.
const VERIFY: &str = "--name=load --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --verify=crc32c \
                      --verify_fatal=1 --thread --group_reporting --minimal --size";

/// A load on a partition or a disk: so many jobs, in parts of it that are so many MiB each.
fn load(device: &str, jobs: u32, mebibytes: u32) -> String {
    format!("fio {VERIFY}={mebibytes}M --filename=/dev/{device} --numjobs={jobs} --offset_increment={mebibytes}M")
}

/// Two primary partitions.
fn partition(linux: &mut Consumer, disk: &str) {
    linux.run(&format!("printf 'o\\nn\\np\\n1\\n\\n+32M\\nn\\np\\n2\\n\\n\\nw\\n' | fdisk /dev/{disk} >/tmp/fdisk && [ -b /dev/{disk}2 ]"));
}

/// What each file system's file is, by its digest.
fn digests(linux: &mut Consumer, disks: &[&str]) -> String {
    let mut lines = String::new();
    for disk in disks {
        linux.run(&format!("mkdir -p /mnt/{disk} && mount /dev/{disk}1 /mnt/{disk}"));
        lines += &linux.run(&format!("sha256sum /mnt/{disk}/file && umount /mnt/{disk}"));
        linux.run(&format!("e2fsck -fn /dev/{disk}1"));
    }
    lines
}

#[track_caller]
fn saw_no_error(linux: &mut Consumer) {
    assert_eq!(linux.run("dmesg | grep -E 'I/O error|EXT4-fs error' || true"), "");
}

#[test]
fn lines_to_a_consumer_arrive_whole_while_what_it_started_ends() {
    let place = Place::new();
    let mut linux = Consumer::boot(2, &place.at("ram"), 512, &[]);
    let long = "true; ".repeat(60);
    for hundredths in 0..20 {
        linux.start("nap", &format!("sleep 0.{hundredths:02}"));
        assert_eq!(linux.run(&format!("{long} echo whole")), "whole");
        linux.finish("nap");
    }
}

#[test]
fn linux_machines_keep_their_data_whatever_dies() {
    let place = Place::new();
    let dimms = [96, 96, 96, 64].map(|mebibytes| Dimm::blank(mebibytes * MIB));
    let machine = || {
        let machine = dimms.iter().fold(ApplianceBuilder::new(), ApplianceBuilder::dimm);
        [("a", "pmem0s", "one"), ("b", "pmem1s", "one"), ("c", "pmem2s", "one"), ("d", "pmem3s", "two")]
            .into_iter()
            .fold(machine, |machine, (socket, dev, ram)| {
                machine.with(&["--vhost-user", &place.export(socket, dev, ram, 512)])
            })
    };
    let sockets = ["a", "b", "c", "d"].map(|socket| place.at(socket));
    let mut appliance = machine().boot();
    assert!(!sockets[0].exists(), "there is no disk yet, but a socket");
    for (region, sector) in [512, 4096, 512, 4096].into_iter().enumerate() {
        appliance.ask(&format!("create-namespace -r region{region} -l {sector}"));
    }
    eventually("the sockets", || sockets.iter().all(|socket| socket.exists()));

    // Queues of all numbers: 1, 2, 4. Sectors of either size.
    let disk = |number: usize, queues| Disk { socket: &sockets[number], queues };
    let boot_one = || Consumer::boot(4, &place.at("one"), 512, &[disk(0, 1), disk(1, 2), disk(2, 4)]);
    let mut one = boot_one();
    let mut two = Consumer::boot(2, &place.at("two"), 512, &[disk(3, 2)]);
    let seen = |name: &str| format!("for disk in vda vdb vdc; do echo $(cat /sys/block/$disk/queue/{name}); done");
    assert_eq!(one.run(&seen("logical_block_size")), "512\n4096\n512");
    assert_eq!(one.run("for disk in vda vdb vdc; do ls /sys/block/$disk/mq | wc -l; done"), "1\n2\n4");
    two.run("mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt");

    // Partitions and file systems; loads on all at once, through the file systems and beside them.
    let disks = ["vda", "vdb", "vdc"];
    for disk in disks {
        partition(&mut one, disk);
        one.run(&format!("mkfs.ext4 -q /dev/{disk}1 && mkdir -p /mnt/{disk} && mount /dev/{disk}1 /mnt/{disk}"));
        one.run(&format!("dd if=/dev/urandom of=/mnt/{disk}/file bs=1M count=4 conv=fsync 2>/dev/null"));
    }
    two.start("files", &format!("fio {VERIFY}=4M --directory=/mnt --numjobs=2"));
    one.start("files", &format!("fio {VERIFY}=3M --directory=/mnt/vda:/mnt/vdb:/mnt/vdc --numjobs=3"));
    for (disk, jobs) in [("vda", 1), ("vdb", 2), ("vdc", 4)] {
        one.start(disk, &load(&format!("{disk}2"), jobs, 3));
    }
    for name in ["files", "vda", "vdb", "vdc"] {
        one.finish(name);
    }
    two.finish("files");
    for disk in disks {
        let not_zero = format!("dd if=/dev/{disk}2 bs=1M count=8 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c");
        assert_ne!(one.run(&not_zero), "0");
        one.run(&format!("blkdiscard /dev/{disk}2"));
        assert_eq!(one.run(&not_zero), "0");
    }

    // Every queue was used, on both of the appliance's CPUs.
    let stats = appliance.ask("stats")["queues"].clone();
    let served = |queue: &serde_json::Value| queue["requests"].as_u64() > Some(50) && queue["failed"] == 0;
    assert!(stats.as_array().is_some_and(|queues| queues.len() == 9 && queues.iter().all(served)), "{stats}");
    let on = |cpu| stats.as_array().unwrap().iter().filter(|queue| queue["cpu"] == cpu).count();
    assert!(on(0) >= 3 && on(1) >= 3, "{stats}");

    // A hot reboot: two file systems are left as they are, with what was synced on them.
    one.run("umount /mnt/vda");
    one.reboot();
    let files = digests(&mut one, &disks);

    // The appliance's machine is killed under load, and then all of it, with the bridge.
    let loads = |one: &mut Consumer, two: &mut Consumer| {
        one.start("load", &load("vdc2", 4, 6));
        two.start("load", &format!("fio {VERIFY}=12M --directory=/mnt --numjobs=2"));
        sleep(Duration::from_millis(1500));
        assert!(one.is_busy("load") && two.is_busy("load"), "the load is over too early");
    };
    loads(&mut one, &mut two);
    appliance.kill_machine();
    appliance.enter(ReplyForm::Json);
    one.finish("load");
    two.finish("load");
    loads(&mut one, &mut two);
    let mut appliance = machine().boot_after(appliance);
    one.finish("load");
    two.finish("load");
    saw_no_error(&mut one);

    // A consumer is killed and replaced, and the other one sees nothing of it.
    one.start("load", &load("vdb2", 2, 12));
    two.start("load", &format!("fio {VERIFY}=12M --directory=/mnt --numjobs=2"));
    drop(one);
    let mut one = boot_one();
    assert_eq!(digests(&mut one, &disks), files);
    two.finish("load");
    two.run("umount /mnt && e2fsck -fn /dev/vda");
    saw_no_error(&mut one);
    saw_no_error(&mut two);

    // A disk is withdrawn, and its driver hears of it. What is made anew under its name is another disk, for the next
    // machine.
    let sectors = |linux: &mut Consumer| linux.run("cat /sys/block/vda/size").parse::<u64>().unwrap();
    let before = sectors(&mut two);
    appliance.ask("unexport pmem3s");
    eventually("it has no sectors", || sectors(&mut two) == 0);
    let after = appliance.ask("create-namespace -r region3 -l 512 -f")["size"].as_u64().unwrap() / 512;
    appliance.ask("export pmem3s");
    assert_ne!(before, after);
    drop(two);
    let mut two = Consumer::boot(2, &place.at("two"), 512, &[disk(3, 2)]);
    assert_eq!(sectors(&mut two), after);

    drop((one, two));
    appliance.power_off();
}

#[test]
fn a_raid_over_two_appliances_outlives_one_of_them() {
    let place = Place::new();
    let dimms = [(); 2].map(|()| Dimm::blank(64 * MIB));
    let machine = |number: usize, socket: &str| {
        ApplianceBuilder::new()
            .dimm(&dimms[number])
            .with(&["--vhost-user", &place.export(socket, "pmem0s", "ram", 512)])
    };
    let mut first = machine(0, "a").with(&["--hold", "2"]).run_by(&place.held_back_by("gone")).boot();
    let mut second = machine(1, "b").boot_beside(&first);
    for appliance in [&mut first, &mut second] {
        appliance.ask("create-namespace");
    }
    let sockets = ["a", "b"].map(|socket| place.at(socket));
    eventually("the sockets", || sockets.iter().all(|socket| socket.exists()));
    let disks = sockets.each_ref().map(|socket| Disk { socket, queues: 2 });
    let mut linux = Consumer::boot(2, &place.at("ram"), 512, &disks);
    // Both are blank, hence alike.
    linux.run(
        "mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap=internal --assume-clean \
         /dev/vda /dev/vdb && mkfs.ext4 -q /dev/md0 && mount /dev/md0 /mnt",
    );

    // The first one goes for longer than the bound: its disk fails, and the array goes on with the other one.
    let load = format!("fio {VERIFY}=12M --directory=/mnt --numjobs=2");
    linux.start("load", &load);
    sleep(Duration::from_millis(1500));
    fs::write(place.at("gone"), "").unwrap();
    first.kill_machine();
    assert!(linux.is_busy("load"), "the load is over too early");
    linux.finish("load");
    let missing = |linux: &mut Consumer| linux.run("cat /sys/block/md0/md/degraded");
    assert_eq!(missing(&mut linux), "1");
    let (status, _) = linux.try_run("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct");
    assert_ne!(status, 0, "a disk without an appliance does not hang, it fails");

    // It comes back, is added again, and gets what it missed, by the bitmap.
    fs::remove_file(place.at("gone")).unwrap();
    first.enter(ReplyForm::Json);
    eventually("its disk is served again", || {
        linux.try_run("dd if=/dev/vda of=/dev/null bs=4k count=1 iflag=direct").0 == 0
    });
    linux.run("mdadm /dev/md0 --remove /dev/vda");
    assert_eq!(missing(&mut linux), "1", "it is not a part of the RAID by itself");
    linux.run("mdadm /dev/md0 --re-add /dev/vda");
    eventually("it has what it missed", || missing(&mut linux) == "0");
    // Both halves are the same, and each alone has it all.
    linux.run("sync; echo check >/sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true");
    assert_eq!(linux.run("cat /sys/block/md0/md/mismatch_cnt"), "0");
    linux.run("mdadm /dev/md0 --fail /dev/vdb && echo 3 >/proc/sys/vm/drop_caches");
    linux.run(&format!("{load} --verify_only"));
    linux.run("umount /mnt && e2fsck -fn /dev/md0");
    drop(linux);
    first.power_off();
    second.power_off();
}

// ---- A boot sector.

/// A boot sector that copies sector 1 to sector 2 for ever, and prints `.` on its serial port for each copy and `E` for each
/// error. Real mode, loaded at 0x7c00: INT 13h functions 42h and 43h in a loop, a byte to port 0x3f8 after each pair.
const COPIER: [u8; 90] = [
    0xea, 0x05, 0x7c, 0x00, 0x00, 0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfb, 0x88,
    0x16, 0x4c, 0x7c, 0xc6, 0x06, 0x58, 0x7c, 0x01, 0xb8, 0x00, 0x42, 0xe8, 0x1b, 0x00, 0x72, 0x11, 0xc6, 0x06, 0x58,
    0x7c, 0x02, 0xb8, 0x00, 0x43, 0xe8, 0x0e, 0x00, 0x72, 0x04, 0xb0, 0x2e, 0xeb, 0x02, 0xb0, 0x45, 0xba, 0xf8, 0x03,
    0xee, 0xeb, 0xda, 0xbe, 0x50, 0x7c, 0xc7, 0x06, 0x52, 0x7c, 0x01, 0x00, 0x8a, 0x16, 0x4c, 0x7c, 0xcd, 0x13, 0xc3,
    0x00, 0x8d, 0x74, 0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x7e, 0x00, 0x00, 0x01, 0x00,
];

/// A consumer: QEMU with the disk and nothing else. It is killed when it is dropped.
struct Firmware {
    qemu: Child,
    serial: PathBuf,
}

impl Firmware {
    /// SeaBIOS, in a machine with 64 MiB.
    fn seabios(place: &Place, sharing: &str) -> Self {
        Self::start(place, 64, sharing, "", &[])
    }

    /// OVMF, in a machine with 256 MiB, and its disk with these properties.
    fn ovmf(place: &Place, properties: &str) -> Self {
        let flash = |unit, file, how| format!("if=pflash,format=raw,unit={unit},file=/usr/share/OVMF/{file},{how}");
        let code = flash(0, "OVMF_CODE_4M.fd", "readonly=on");
        let variables = flash(1, "OVMF_VARS_4M.fd", "snapshot=on");
        Self::start(place, 256, "share=on", properties, &["-drive", &code, "-drive", &variables])
    }

    fn start(place: &Place, mebibytes: u32, sharing: &str, properties: &str, more: &[&str]) -> Self {
        let serial = place.at("serial");
        let _ = fs::remove_file(&serial);
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "300", "setpriv", "--pdeathsig", "KILL"]);
        command.arg(std::env::var_os("QEMU").unwrap_or_else(|| "qemu-system-x86_64".into()));
        command.args(["-nodefaults", "-accel", "tcg", "-smp", "2", "-display", "none"]);
        command.args(["-m", &format!("{mebibytes}M"), "-machine", "q35,memory-backend=mem", "-object"]);
        let ram = place.at("ram");
        command.arg(format!("memory-backend-file,id=mem,mem-path={},size={mebibytes}M,{sharing}", ram.display()));
        command.arg("-serial").arg(format!("file:{}", serial.display()));
        command.arg("-chardev").arg(format!("socket,id=disk,path={},reconnect=1", place.at("disk").display()));
        let device = format!("vhost-user-blk-pci,chardev=disk,num-queues=2,bootindex=1{properties}");
        command.arg("-device").arg(device).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_parent(&mut command);
        Self { qemu: command.spawn().unwrap(), serial }
    }

    /// Whether it has printed something.
    fn has_said(&self, words: &str) -> bool {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).contains(words)
    }

    /// How often it has printed a byte.
    fn said(&self, byte: u8) -> usize {
        fs::read(&self.serial).unwrap_or_default().iter().filter(|said| **said == byte).count()
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Something new in sector 1 comes to sector 2.
#[track_caller]
fn copies(appliance: &mut Running, dev: &str, byte: u8) {
    // By force: the consumer uses the disk.
    let reply = appliance.ask(&format!("write -f {dev} 1 --fill {byte:#x}"));
    assert_eq!(reply["count"], 1);
    eventually(&format!("the consumer copies {byte:#x}"), || appliance.read(dev, 2) == [byte; 512]);
}

/// Makes it a disk that a machine boots from.
fn make_bootable(appliance: &mut Running, dev: &str) {
    let mut sector = COPIER.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    appliance.write(dev, 0, &sector);
}

#[test]
fn a_machine_boots_from_the_disk_and_outlives_appliances() {
    let place = Place::new();
    let dimm = Dimm::blank(32 * MIB);
    let mut appliance =
        ApplianceBuilder::new().dimm(&dimm).with(&["--vhost-user", &place.export("disk", "pmem0s", "ram", 64)]).boot();
    assert!(!place.at("disk").exists(), "there is no disk yet, but a socket");
    appliance.ask("create-namespace -l 512");
    make_bootable(&mut appliance, "pmem0s");
    eventually("the socket", || place.at("disk").exists());

    // A consumer whose memory no other program sees gets an error.
    let private = Firmware::seabios(&place, "share=off");
    eventually("the message", || appliance.said().contains("give its -object memory-backend-file share=on"));
    drop(private);

    let consumer = Firmware::seabios(&place, "share=on");
    copies(&mut appliance, "pmem0s", 0x11);
    // Killed and replaced.
    drop(consumer);
    let consumer = Firmware::seabios(&place, "share=on");
    copies(&mut appliance, "pmem0s", 0x22);

    // The appliance's machine is killed in the midst of it, twice. It is started anew, and no request has failed.
    for byte in [0x33, 0x44] {
        appliance.kill_machine();
        appliance.enter(ReplyForm::Json);
        copies(&mut appliance, "pmem0s", byte);
    }
    assert_eq!(consumer.said(b'E'), 0);

    // Withdrawn and offered again.
    appliance.ask("unexport pmem0s");
    eventually("requests fail", || consumer.said(b'E') > 0);
    appliance.ask("export pmem0s");
    copies(&mut appliance, "pmem0s", 0x55);
    drop(consumer);
    appliance.power_off();
}

/// The largest request that OVMF sends here: it reads a program at once, and in one piece.
const PROGRAM_BYTES: usize = 20 << 20;

#[test]
fn uefi_boots_from_the_disk_by_the_modern_interface_and_is_told_so_on_the_legacy_one() {
    let place = Place::new();
    let dimm = Dimm::blank(64 * MIB);
    let mut appliance =
        ApplianceBuilder::new().dimm(&dimm).with(&["--vhost-user", &place.export("disk", "pmem0s", "ram", 256)]).boot();
    appliance.ask("create-namespace -l 512");
    eventually("the socket", || place.at("disk").exists());
    let disk = efi::disk(&place.at(""), 48 * MIB, &efi::program(PROGRAM_BYTES));
    // What was never written reads as zeroes.
    for (lba, sector) in (0..).zip(disk.chunks(512)).filter(|(_, sector)| sector.iter().any(|byte| *byte != 0)) {
        appliance.write("pmem0s", lba, sector);
    }

    // On the root bus of a q35 the device has both interfaces, and OVMF takes the legacy one. It is not left to hang: it goes
    // on to what is built into it.
    let consumer = Firmware::ovmf(&place, "");
    eventually("the message", || appliance.said().contains("pmem0s: the consumer has a legacy driver"));
    eventually("it goes on", || consumer.has_said("EFI Internal Shell"));
    assert!(!consumer.has_said(efi::SAYS));
    drop(consumer);
    assert!(appliance.said().contains("-device vhost-user-blk-pci,chardev=disk,disable-legacy=on"), "the line to use");

    let consumer = Firmware::ovmf(&place, ",disable-legacy=on");
    eventually("it boots", || consumer.has_said(efi::SAYS));
    drop(consumer);
    let failed = |queue: &serde_json::Value| queue["failed"] != 0;
    let stats = appliance.ask("stats")["queues"].clone();
    assert!(!stats.as_array().unwrap().iter().any(failed), "{stats}");
    appliance.power_off();
}

#[test]
fn a_machine_boots_from_a_disk_behind_block_data_windows() {
    let place = Place::new();
    let (media, memory) = (Dimm::blank(17 * MIB), Dimm::blank(32 * MIB));
    let mut beside = Beside::new(media.path(), 2);
    beside.memory = Some(memory.path().to_owned());
    let plug = beside.plug();
    let machine = || {
        let exported = place.export("disk", "ndblk1.0s", "ram", 64);
        plug.into_machine(ApplianceBuilder::new().with(&["--vhost-user", &exported]))
    };
    let mut appliance = machine().boot();
    appliance.ask("create-namespace -t blk -l 512");
    make_bootable(&mut appliance, "ndblk1.0s");
    eventually("the socket", || place.at("disk").exists());
    let consumer = Firmware::seabios(&place, "share=on");
    copies(&mut appliance, "ndblk1.0s", 0x11);
    let mut appliance = machine().boot_after(appliance);
    copies(&mut appliance, "ndblk1.0s", 0x22);
    assert_eq!((consumer.said(b'E'), plug.dimm.model().strays()), (0, 0));
    drop(consumer);
    assert_eq!(appliance.ask("check-namespace namespace1.0")["findings"], serde_json::json!([]));
    appliance.power_off();
}
