//! The NVDIMM bus: what is on it, by sysfs, and what is done to namespaces, by ndctl.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tests::linux::Make;

use crate::Outcome;

const DEVICES: &str = "/sys/bus/nd/devices";
const AUTOPROBE: &str = "/sys/bus/nd/drivers_autoprobe";

/// Whether drivers bind to what appears.
pub(crate) fn probe_by_itself(on: bool) -> io::Result<()> {
    fs::write(AUTOPROBE, if on { "1" } else { "0" })
}

/// Waits until the bus has probed all DIMMs and made their namespaces.
pub(crate) fn wait_for_namespaces(dimms: usize) -> Outcome<()> {
    for _ in 0..400 {
        // Reading it waits for the bus's asynchronous work.
        let _ = fs::read(Path::new(DEVICES).join("ndbus0/wait_probe"));
        if devices("region")?.len() >= dimms && devices("namespace")?.len() >= dimms {
            sleep(Duration::from_millis(200));
            return Ok(());
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!("{dimms} NVDIMMs, but only {:?} and {:?}", devices("region")?, devices("namespace")?).into())
}

/// The devices on the bus whose name is `kind` and a number.
pub(crate) fn devices(kind: &str) -> Outcome<Vec<String>> {
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
pub(crate) fn namespaces() -> Outcome<Vec<String>> {
    let mut names = devices("namespace")?;
    names.retain(|name| attribute(name, "size").is_ok_and(|size| size != "0"));
    Ok(names)
}

pub(crate) fn attribute(device: &str, name: &str) -> Outcome<String> {
    let path = folder(device).join(name);
    Ok(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?.trim().to_owned())
}

/// A device's folder in sysfs.
pub(crate) fn folder(device: &str) -> PathBuf {
    Path::new(DEVICES).join(device)
}

/// Whether a BTT or a namespace has a block device.
pub(crate) fn has_disk(device: &str) -> bool {
    folder(device).join("block").is_dir()
}

/// The slot of the first NVDIMM of a region or namespace: QEMU's device handle is the slot and 1. A region without one is a
/// virtio-pmem or a CXL device's, and there are no others: then its number counts.
pub(crate) fn slot(device: &str) -> Outcome<usize> {
    let number = device.trim_start_matches(char::is_alphabetic).split('.').next().unwrap_or_default();
    if attribute(&format!("region{number}"), "mappings")? == "0" {
        return Ok(number.parse()?);
    }
    let mapping = attribute(&format!("region{number}"), "mapping0")?;
    let Ok(handle) = attribute(mapping.split(',').next().unwrap_or_default(), "nfit/handle") else {
        return Ok(number.parse()?);
    };
    let handle = usize::from_str_radix(handle.trim_start_matches("0x"), 16)?;
    Ok(handle.checked_sub(1).ok_or("a handle of 0")?)
}

/// Runs ndctl: whether it succeeded, and what it printed.
pub(crate) fn ndctl(words: &[&str]) -> Outcome<(bool, String)> {
    let output = Command::new("/bin/ndctl").args(words).output()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok((output.status.success(), text.into_owned()))
}

/// Makes a namespace, and returns ndctl's output on it.
pub(crate) fn make(make: &Make) -> Outcome<Result<Value, String>> {
    let mut place = None;
    for region in devices("region")? {
        if slot(&region)? == make.slot {
            // Without labels there is one namespace, always, to be given another mode.
            let labelled = attribute(&region, "nstype")? != "4";
            let namespace = region.replace("region", "namespace") + ".0";
            place = Some(if labelled { ["-r".to_owned(), region] } else { ["-fe".to_owned(), namespace] });
        }
    }
    let place = place.ok_or("there is no region in that slot")?;
    let words = ["create-namespace", &place[0], &place[1]].into_iter().chain(make.options.split_whitespace());
    let (ok, text) = ndctl(&words.collect::<Vec<_>>())?;
    let json = text.find('{').and_then(|at| serde_json::from_str(text[at..].trim()).ok());
    Ok(json.filter(|_| ok).ok_or(text))
}

pub(crate) fn enable_all() -> Outcome<()> {
    // What cannot be enabled shows by having no disk.
    ndctl(&["enable-namespace", "all"])?;
    Ok(())
}

/// Lets go of all namespaces.
pub(crate) fn disable_all() -> Outcome<()> {
    ndctl(&["disable-namespace", "all"])?;
    Ok(probe_by_itself(false)?)
}
