//! The one process of the Linux guest: does its job, reports on the first serial port, and powers off.
//!
//! It is process 1 of an initramfs, packed by `tests::linux`.

mod bus;
mod cxl;
mod disk;

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;
use tests::linux::{Job, Phase, Report};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() {
    if let Err(error) = guest() {
        report(&Report::Trouble(error.to_string()));
    }
    let _ = io::stdout().flush();
    sync();
    // No way is left to report it.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn guest() -> Outcome<()> {
    for (kind, at) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("debugfs", "/sys/kernel/debug")] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)?;
    }
    let job: Job = serde_json::from_slice(&fs::read("/job.json")?)?;

    load("/modules/bus")?;
    if cxl::has_devices() {
        load("/modules/cxl")?;
        cxl::make_region()?;
    }
    bus::wait_for_namespaces(job.dimms)?;
    // No driver is there yet that would touch the media, and from here on none comes by itself.
    bus::probe_by_itself(false)?;
    load("/modules/drivers")?;
    check(Phase::Before, |slot| !job.unchecked.contains(&slot))?;
    for phase in [Phase::Repair, Phase::Repaired] {
        check(phase, |slot| job.repairs.contains(&slot))?;
    }

    bus::probe_by_itself(true)?;
    for make in &job.makes {
        let made = bus::make(make)?;
        report(&Report::Made { slot: make.slot, options: make.options.clone(), made });
    }
    bus::enable_all()?;
    if !job.file_systems.is_empty() {
        load("/modules/ext4")?;
    }
    let mut attached = Vec::new();
    for device in bus::devices("btt")? {
        if bus::has_disk(&device) {
            disk::use_btt(&device, &job)?;
            attached.push(bus::attribute(&device, "namespace")?);
        }
    }
    for namespace in bus::namespaces()?.iter().filter(|namespace| !attached.contains(namespace)) {
        report(&Report::NoBtt { slot: bus::slot(namespace)?, raw: bus::has_disk(namespace) });
    }
    report(&Report::Release(fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned()));
    for options in &job.lists {
        let words: Vec<&str> = ["list"].into_iter().chain(options.split_whitespace()).collect();
        let (_, text) = bus::ndctl(&words)?;
        let list = serde_json::from_str(&text).map_err(|error| format!("ndctl list {options}: {error}: {text}"))?;
        report(&Report::List { options: options.clone(), list });
    }
    bus::disable_all()?;
    check(Phase::After, |slot| ![&job.unchecked, &job.repairs].iter().any(|slots| slots.contains(&slot)))?;
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

/// Has ndctl check the namespaces of some NVDIMMs.
fn check(phase: Phase, of: impl Fn(usize) -> bool) -> Outcome<()> {
    for namespace in bus::namespaces()? {
        let slot = bus::slot(&namespace)?;
        if of(slot) {
            let how = if phase == Phase::Repair { &["--repair"][..] } else { &[] };
            let (ok, text) = bus::ndctl(&[&["check-namespace", &namespace], how].concat())?;
            report(&Report::Check { phase, slot, namespace, ok, text });
        }
    }
    Ok(())
}

/// One line on the first serial port.
fn report(report: &Report) {
    let line = serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"Trouble\":\"{error}\"}}"));
    if let Ok(mut port) = OpenOptions::new().write(true).open("/dev/ttyS0") {
        // Without a port there is no way to report it.
        let _ = writeln!(port, "{line}");
    }
}
