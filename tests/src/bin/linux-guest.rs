//! The one process of the Linux guest: does its job, reports on the first serial port, and powers off.
//!
//! It is process 1 of an initramfs, packed by `tests::linux`.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;
use tests::golden::digest;
use tests::linux::{Job, Phase, Report, Write};

const DEVICES: &str = "/sys/bus/nd/devices";
const AUTOPROBE: &str = "/sys/bus/nd/drivers_autoprobe";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() {
    if let Err(error) = guest() {
        report(&Report::Trouble(error.to_string()));
    }
    let _ = io::stdout().flush();
    sync();
    // Nobody is left to tell.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn guest() -> Outcome<()> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("debugfs", "/sys/kernel/debug")] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)?;
    }
    let job: Job = serde_json::from_slice(&fs::read("/job.json")?)?;

    load("/modules/bus")?;
    wait_for_namespaces(job.dimms)?;
    // No driver is there yet that would touch the media, and from here on none comes by itself.
    fs::write(AUTOPROBE, "0")?;
    load("/modules/drivers")?;
    check(Phase::Before)?;

    fs::write(AUTOPROBE, "1")?;
    for namespace in namespaces()? {
        ndctl(&["enable-namespace", &namespace])?;
    }
    for device in devices("btt")? {
        if Path::new(DEVICES).join(&device).join("block").is_dir() {
            use_btt(&device, &job)?;
        }
    }
    for options in &job.lists {
        let words: Vec<&str> = ["list"].into_iter().chain(options.split_whitespace()).collect();
        let (_, text) = ndctl(&words)?;
        let list = serde_json::from_str(&text).map_err(|error| format!("ndctl list {options}: {error}: {text}"))?;
        report(&Report::List { options: options.clone(), list });
    }
    for namespace in namespaces()? {
        ndctl(&["disable-namespace", &namespace])?;
    }
    fs::write(AUTOPROBE, "0")?;
    check(Phase::After)?;
    report(&Report::End);
    Ok(())
}

fn load(folder: &str) -> Outcome<()> {
    let mut modules: Vec<PathBuf> = fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    modules.sort();
    for module in modules {
        match finit_module(File::open(&module)?, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("{}: {error}", module.display()).into()),
        }
    }
    Ok(())
}

/// Waits until the bus has probed all DIMMs and made their namespaces.
fn wait_for_namespaces(dimms: usize) -> Outcome<()> {
    for _ in 0..200 {
        // Reading it waits for the bus's asynchronous work.
        let _ = fs::read(Path::new(DEVICES).join("ndbus0/wait_probe"));
        if devices("region")?.len() >= dimms && namespaces()?.len() >= dimms {
            sleep(Duration::from_millis(200));
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!("{dimms} NVDIMMs, but only {:?} and {:?}", devices("region")?, namespaces()?).into())
}

/// The devices on the bus whose name is `kind` and a number.
fn devices(kind: &str) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(DEVICES)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(kind).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit())) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The namespaces that have a size: the others are seeds for new ones.
fn namespaces() -> Outcome<Vec<String>> {
    let mut names = devices("namespace")?;
    names.retain(|name| attribute(name, "size").is_ok_and(|size| size != "0"));
    Ok(names)
}

fn attribute(device: &str, name: &str) -> Outcome<String> {
    let path = Path::new(DEVICES).join(device).join(name);
    Ok(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?.trim().to_owned())
}

/// The slot of the first NVDIMM that a namespace lies on: QEMU's device handle is the slot and 1.
fn slot(namespace: &str) -> Outcome<usize> {
    let number = namespace.trim_start_matches("namespace").split('.').next().unwrap_or_default();
    let mapping = attribute(&format!("region{number}"), "mapping0")?;
    let handle = attribute(mapping.split(',').next().unwrap_or_default(), "nfit/handle")?;
    let handle = usize::from_str_radix(handle.trim_start_matches("0x"), 16)?;
    Ok(handle.checked_sub(1).ok_or("a handle of 0")?)
}

fn ndctl(words: &[&str]) -> Outcome<(bool, String)> {
    let output = Command::new("/bin/ndctl").args(words).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text.into_owned()))
}

fn check(phase: Phase) -> Outcome<()> {
    for namespace in namespaces()? {
        let (ok, text) = ndctl(&["check-namespace", &namespace])?;
        report(&Report::Check { phase, slot: slot(&namespace)?, namespace, ok, text });
    }
    Ok(())
}

fn use_btt(device: &str, job: &Job) -> Outcome<()> {
    let namespace = attribute(device, "namespace")?;
    let slot = slot(&namespace)?;
    let block = fs::read_dir(Path::new(DEVICES).join(device).join("block"))?.next().ok_or("a BTT without a disk")??;
    let dev = block.file_name().to_string_lossy().into_owned();
    let sizes = attribute(device, "sector_size")?;
    // All sizes, the chosen one in brackets.
    let sector_size = sizes.split(['[', ']']).nth(1).unwrap_or(&sizes).parse()?;
    let sectors: u64 = fs::read_to_string(format!("/sys/block/{dev}/size"))?.trim().parse()?;
    let size = sectors * 512;
    let uuid = attribute(device, "uuid")?;
    report(&Report::Btt { slot, namespace, uuid, dev: dev.clone(), sector_size, size, arenas: arenas(device)? });

    let bytes: usize = fs::read_to_string(format!("/sys/block/{dev}/queue/logical_block_size"))?.trim().parse()?;
    let disk =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_DIRECT.bits()).open(format!("/dev/{dev}"))?;
    for read in job.reads.iter().filter(|read| read.slot == slot) {
        let mut buffer = Buffer::new(bytes);
        let done = disk.read_exact_at(buffer.bytes(), read.lba * bytes as u64);
        let data = done.map(|()| digest(buffer.bytes())).map_err(|error| error.to_string());
        report(&Report::Sector { slot, lba: read.lba, data });
    }
    for write in job.writes.iter().filter(|write| write.slot == slot) {
        report(&Report::Written {
            write: *write,
            error: fill(&disk, *write, bytes).err().map(|error| error.to_string()),
        });
    }
    Ok(())
}

fn fill(disk: &File, write: Write, bytes: usize) -> io::Result<()> {
    let mut buffer = Buffer::new(bytes);
    buffer.bytes().fill(write.byte);
    disk.write_all_at(buffer.bytes(), write.lba * bytes as u64)?;
    disk.sync_all()
}

fn arenas(device: &str) -> Outcome<Vec<Vec<(String, String)>>> {
    let mut arenas = Vec::new();
    loop {
        let Ok(files) = fs::read_dir(format!("/sys/kernel/debug/btt/{device}/arena{}", arenas.len())) else {
            return Ok(arenas);
        };
        let mut values = Vec::new();
        for file in files {
            let file = file?;
            let value = fs::read_to_string(file.path())?.trim().to_owned();
            values.push((file.file_name().to_string_lossy().into_owned(), value));
        }
        values.sort();
        arenas.push(values);
    }
}

/// One line on the first serial port.
fn report(report: &Report) {
    let line = serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"Trouble\":\"{error}\"}}"));
    if let Ok(mut port) = OpenOptions::new().write(true).open("/dev/ttyS0") {
        // Without a port there is nobody to tell.
        let _ = writeln!(port, "{line}");
    }
}

/// Memory that is aligned as direct I/O wants it.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Buffer {
    const ALIGN: usize = 4096;

    fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + Self::ALIGN];
        let start = memory.as_ptr().align_offset(Self::ALIGN);
        Self { memory, start, bytes }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.bytes]
    }
}
