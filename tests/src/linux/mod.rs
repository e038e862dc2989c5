//! An unmodified Linux in QEMU that judges our media: one boot, as many NVDIMMs as there are.
//!
//! The kernel is the distribution's own (`linux-kernel.sh` fetches it), `ndctl` the host's; the guest's only process is
//! `src/bin/linux-guest.rs`, which does a [`Job`] and sends [`Report`]s, a line of JSON each.

mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use host::appliance::die_with_parent;
use nix::unistd::{AccessFlags, access};

pub use report::{Job, Phase, Read, Report, Write};

use crate::cpio::Archive;
use crate::dimm::Dimm;
use crate::workspace;

/// The longest that the guest may take.
const LIFE: Duration = Duration::from_secs(240);

/// Boots Linux on these NVDIMMs, has it do the job, and returns what it reports. `guest` is the built `linux-guest`.
///
/// # Panics
/// When the guest cannot be made or does not come to its end; with its last words.
#[must_use]
pub fn judge(dimms: &[&Dimm], job: &Job, guest: &str) -> Vec<Report> {
    workspace::set_up("tests");
    let folder = workspace::folder("linux");
    let initrd = folder.join(format!("{}.cpio", std::process::id()));
    let turn = workspace::take_turn("linux-kernel");
    workspace::run(workspace::command("tests/linux-kernel.sh").arg(folder.join("kernel")));
    drop(turn);
    let turn = workspace::take_turn("qemu");
    fs::write(&initrd, initramfs(&folder.join("kernel"), job, Path::new(guest))).expect("the initramfs is written");
    let console = initrd.with_extension("console");

    let mut line = workspace::command("./run-qemu.sh");
    line.args(["--dry-run", "--memory", "1G"]);
    for dimm in dimms {
        let mut words = dimm.path().display().to_string();
        if dimm.label_bytes > 0 {
            words += &format!(",label={}", dimm.label_bytes);
        }
        line.args(["--nvdimm", &words]);
    }
    // The first serial port, on standard output, is for the reports; the kernel talks on the second one.
    let console_port = format!("file:{}", console.display());
    let kernel = folder.join("kernel/vmlinuz").display().to_string();
    let initrd_path = initrd.display().to_string();
    let command_line = "console=ttyS1 panic=-1 quiet no_timer_check";
    for argument in ["-serial", &console_port, "-no-reboot", "-kernel", &kernel, "-initrd", &initrd_path, "-append"] {
        line.args(["--qemu-arg", argument]);
    }
    line.args(["--qemu-arg", command_line]);
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

fn initramfs(kernel: &Path, job: &Job, guest: &Path) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "run", "tmp"] {
        archive.folder(folder);
    }
    let mut put = |path: &str, file: &Path| {
        archive.file(path, &fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    };
    put("init", guest);
    put("bin/ndctl", &program("ndctl"));
    for library in libraries(&[guest, &program("ndctl")]) {
        put(library.to_str().expect("a library's path is text").trim_start_matches('/'), &library);
    }
    // The bus first: its namespaces must be there before any driver that could touch the media is.
    let modules = kernel.join("modules");
    let mut order = Vec::new();
    for (folder, names) in [("bus", ["libnvdimm", "nfit"]), ("drivers", ["nd_btt", "nd_pmem"])] {
        for name in names {
            add_module(&modules, name, &mut order);
        }
        for (at, name) in order.iter().enumerate() {
            put(&format!("modules/{folder}/{at:02}-{name}.ko"), &modules.join(format!("{name}.ko")));
        }
    }
    archive.file("job.json", &serde_json::to_vec(job).expect("a job is JSON"));
    archive.finish()
}

/// Appends a module to `order`, after those that it needs. One that is no file is part of the kernel.
fn add_module(folder: &Path, name: &str, order: &mut Vec<String>) {
    let Ok(module) = fs::read(folder.join(format!("{name}.ko"))) else { return };
    if order.iter().any(|there| there == name) {
        return;
    }
    for needed in depends(&module) {
        add_module(folder, &needed, order);
    }
    order.push(name.to_owned());
}

/// The modules that a module needs: its `.modinfo` section says `depends=one,two`.
fn depends(module: &[u8]) -> Vec<String> {
    let word = b"\0depends=";
    let Some(at) = module.windows(word.len()).position(|window| window == word) else { return Vec::new() };
    let value = module[at + word.len()..].split(|&byte| byte == 0).next().unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/sbin".into()]);
    let mut found = folders.map(|folder| folder.join(name)).filter(|file| access(file, AccessFlags::X_OK).is_ok());
    found.next().unwrap_or_else(|| panic!("{name} is not installed"))
}

/// The shared libraries of programs, by the path at which they are looked for.
fn libraries(programs: &[&Path]) -> Vec<PathBuf> {
    let listed = workspace::run(Command::new("ldd").args(programs));
    let listed = String::from_utf8_lossy(&listed);
    let paths = listed.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    let mut paths: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    paths.sort();
    paths.dedup();
    paths
}
