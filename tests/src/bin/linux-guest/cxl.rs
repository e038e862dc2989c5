//! CXL memory: Linux makes a region of it on request only, by sysfs (Documentation/ABI/testing/sysfs-bus-cxl), on each boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::Outcome;

const DEVICES: &str = "/sys/bus/cxl/devices";

/// Whether firmware describes CXL host bridges.
pub(crate) fn has_devices() -> bool {
    Path::new("/sys/firmware/acpi/tables/CEDT").exists()
}

/// Makes a region of the only window, of all persistent memory of the only device.
pub(crate) fn make_region() -> Outcome<()> {
    let (root, memory) = (wait_for("decoder0.0", "create_pmem_region")?, wait_for("mem0", "pmem/size")?);
    let bytes = read(&memory, "pmem/size")?;
    // Of the device's decoders, which have this attribute, the first.
    let own = find_decoder()?;

    let name = read(&root, "create_pmem_region")?;
    write(&root, "create_pmem_region", &name)?;
    let region = Path::new(DEVICES).join(&name);
    write(&region, "uuid", "00000000-0000-4000-8000-000000000001")?;
    write(&region, "interleave_ways", "1")?;
    write(&region, "interleave_granularity", &read(&root, "interleave_granularity")?)?;
    write(&region, "size", &bytes)?;
    write(&own, "mode", "pmem")?;
    write(&own, "dpa_size", &bytes)?;
    let target = own.file_name().unwrap_or_default().to_string_lossy().into_owned();
    write(&region, "target0", &target)?;
    write(&region, "commit", "1")?;
    fs::write("/sys/bus/cxl/drivers/cxl_region/bind", &name).map_err(|error| format!("{name}: {error}"))?;
    Ok(())
}

/// Waits for a device that has an attribute.
fn wait_for(device: &str, attribute: &str) -> Outcome<PathBuf> {
    let path = Path::new(DEVICES).join(device);
    until(&format!("{device} with {attribute}"), || Ok(path.join(attribute).exists().then(|| path.clone())))
}

/// Waits for the first of the device's decoders.
fn find_decoder() -> Outcome<PathBuf> {
    until("decoder of the device", || {
        let all: Vec<PathBuf> =
            fs::read_dir(DEVICES)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        Ok(all.into_iter().filter(|path| path.join("dpa_size").exists()).min())
    })
}

/// Looks until something is there, for 20 s.
fn until(what: &str, look: impl Fn() -> Outcome<Option<PathBuf>>) -> Outcome<PathBuf> {
    for _ in 0..400 {
        if let Some(found) = look()? {
            return Ok(found);
        }
        sleep(Duration::from_millis(50));
    }
    Err(format!("there is no {what}").into())
}

fn read(device: &Path, attribute: &str) -> Outcome<String> {
    let path = device.join(attribute);
    Ok(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?.trim().to_owned())
}

/// Writes a line: a uuid without its end is refused.
fn write(device: &Path, attribute: &str, value: &str) -> Outcome<()> {
    let path = device.join(attribute);
    Ok(fs::write(&path, format!("{value}\n")).map_err(|error| format!("{} = {value}: {error}", path.display()))?)
}
