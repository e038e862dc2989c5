//! An unmodified Linux in QEMU: as a judge of our media ([`judge`]: one boot, as many NVDIMMs as there are), and as a
//! [`Consumer`] of our disks.
//!
//! The kernel is the distribution's own (`linux-kernel.sh` fetches it), `ndctl` the host's; the judge's only process is
//! `src/bin/linux-guest`, which does a [`Job`] and sends [`Report`]s, a line of JSON each.

mod consumer;
pub mod direct;
pub mod exercise;
mod initramfs;
mod report;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use host::appliance::die_with_parent;
use serde_json::Value;

use self::initramfs::Initramfs;
use crate::dimm::{Dimm, Kind};
use crate::workspace;
pub use consumer::{Consumer, Disk, HOST_NQN, LINUX_TARGET_NQN, TargetNetwork, linux_kernel, linux_target};
pub use exercise::Exercise;
pub use report::{Job, Make, Phase, Read, Report, Write, sample};

/// The longest that the guest may take.
const LIFE: Duration = Duration::from_secs(600);

/// What every Linux gets. That it does not test its own cryptography saves a tenth of a boot.
const COMMAND_LINE: &str = "console=ttyS1 panic=-1 quiet no_timer_check cryptomgr.notests";

/// Boots Linux on these NVDIMMs, or on virtio-pmem devices or a CXL device alone, has it do the job, and returns what it
/// reports. `guest` is the built `linux-guest`.
///
/// # Panics
/// When the guest cannot be made or does not come to its end; with its last words.
#[must_use]
pub fn judge(dimms: &[&Dimm], job: &Job, guest: &str) -> Vec<Report> {
    workspace::build();
    let kernel = initramfs::kernel();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}.cpio", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let initrd = workspace::folder("linux").join(name);
    let turn = workspace::machine_turn();
    fs::write(&initrd, initramfs(&kernel, job, Path::new(guest))).expect("the initramfs is written");
    let console = initrd.with_extension("console");

    let mut line = workspace::command("./run-qemu.sh");
    line.args(["--dry-run", "--memory", "1G"]);
    for dimm in dimms {
        line.args(dimm.option());
    }
    // The first serial port, on standard output, is for the reports; the kernel talks on the second one.
    let console_port = format!("file:{}", console.display());
    let kernel = kernel.join("vmlinux").display().to_string();
    let initrd_path = initrd.display().to_string();
    for argument in ["-serial", &console_port, "-no-reboot", "-kernel", &kernel, "-initrd", &initrd_path, "-append"] {
        line.args(["--qemu-arg", argument]);
    }
    line.args(["--qemu-arg", COMMAND_LINE]);
    if dimms.iter().any(|dimm| dimm.kind == Kind::Cxl) {
        // From 6.3 on Linux commits no CXL region where it cannot drop the CPUs' caches, which it asks of no hypervisor.
        line.args(["--qemu-arg", "-global", "--qemu-arg", "max-x86_64-cpu.hypervisor=off"]);
    }
    let line = String::from_utf8(workspace::run(&mut line)).expect("a command line is text");

    // Bounded by timeout, which dies with us; and QEMU dies with timeout.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &LIFE.as_secs().to_string(), "setpriv", "--pdeathsig", "KILL", "sh", "-c"]);
    command.arg(format!("exec {line}")).stdin(Stdio::null()).stderr(Stdio::inherit());
    die_with_parent(&mut command);
    let output = command.output().expect("QEMU starts");
    drop(turn);

    let words = String::from_utf8_lossy(&output.stdout);
    let reports: Vec<Report> = words
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("the guest reported {line:?}: {error}")))
        .collect();
    let last_words = fs::read_to_string(&console).unwrap_or_default();
    for file in [&initrd, &console] {
        // Left behind, they would be written over one day.
        let _ = fs::remove_file(file);
    }
    assert!(
        matches!(reports.last(), Some(Report::End)),
        "Linux did not come to its end ({}):\n{words}\n{last_words}",
        output.status
    );
    reports
}

/// Asserts that all that Linux lists is listed by us, with the same values.
///
/// # Panics
/// When something is missing or differs; with its place.
pub fn assert_within(linux: &Value, ours: &Value, place: &str) {
    match (linux, ours) {
        (Value::Object(linux), Value::Object(ours)) => linux.iter().for_each(|(key, value)| {
            let own = ours.get(key).unwrap_or_else(|| panic!("{place}.{key} is not listed beside {linux:?}: {ours:?}"));
            assert_within(value, own, &format!("{place}.{key}"));
        }),
        (Value::Array(linux), Value::Array(ours)) => {
            assert_eq!(linux.len(), ours.len(), "{place}");
            linux.iter().zip(ours).for_each(|(linux, ours)| assert_within(linux, ours, place));
        }
        (linux, ours) => assert_eq!(linux, ours, "{place}"),
    }
}

fn initramfs(kernel: &Path, job: &Job, guest: &Path) -> Vec<u8> {
    let mut initramfs = Initramfs::new(kernel);
    initramfs.program("init", guest);
    for name in ["ndctl", "mke2fs", "e2fsck"] {
        initramfs.program(&format!("bin/{name}"), &initramfs::program(name));
    }
    // The bus first: its namespaces must be there before any driver that could touch the media is.
    initramfs.modules("modules/bus", &["libnvdimm", "nfit", "virtio_pci", "virtio_pmem"]);
    initramfs.modules("modules/cxl", &["cxl_core", "cxl_port", "cxl_acpi", "cxl_pmem", "cxl_mem", "cxl_pci"]);
    initramfs.modules("modules/drivers", &["nd_btt", "nd_pmem"]);
    initramfs.modules("modules/ext4", &["crc32c_generic", "ext4"]);
    initramfs.file("job.json", &serde_json::to_vec(job).expect("a job is JSON"));
    initramfs.finish()
}
