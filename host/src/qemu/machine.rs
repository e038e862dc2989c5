//! QEMU's command line: `-machine q35 -nodefaults`, RAM of exactly what was asked for, and nothing of ours on the PCI bus
//! but a consumer's RAM, virtio-pmem, virtio-net, the admin port and a CXL host bridge, so that others can add what they like in
//! slots 04 to 1e.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::cxl::Cxl;
use super::dimm::Dimm;
use super::net::NetWords;
use super::options::{Accel, Boot};
use crate::bridge::ram::TAIL_BYTES_MIN;

/// The most DIMMs that QEMU has slots for.
pub const DIMMS_MAX: usize = 256;

/// The most devices of ours on PCI: the functions of three slots.
pub const DEVICES_MAX: usize = 24;

const GIB: u64 = 1 << 30;

/// Where the 40 address bits end that the processor has by default.
const DEFAULT_REACH: u64 = 1 << 40;

/// From here up to [`DEFAULT_REACH`] nothing may be: QEMU starts above it only (the AMD HyperTransport range).
const RESERVED_FROM: u64 = 1012 * GIB;

/// UEFI firmware, and its variables as they are when it is new: Debian's package ovmf.
pub const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// A consumer's RAM, as a device of the appliance's.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The consumer's RAM in bytes.
    pub ram_bytes: u64,
    /// Where QEMU finds the socket of the device.
    pub fd: RawFd,
}

/// A machine for the appliance.
#[derive(Debug)]
pub struct Machine<'a> {
    /// QEMU.
    pub qemu: OsString,
    /// How many processors.
    pub cpus: u8,
    /// RAM, in bytes: a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Who executes the processors' code.
    pub accel: Accel,
    /// The way the image is started.
    pub boot: Boot,
    /// What it is started from: the image, or the file that `boot` needs.
    pub image: &'a Path,
    /// The image's command line, if it does not stand in that file.
    pub append: &'a str,
    /// The NVDIMMs.
    pub dimms: &'a [Dimm],
    /// The virtio-pmem devices.
    pub virtio_pmem: &'a [Dimm],
    /// The network devices.
    pub net: &'a [NetWords],
    /// A CXL device.
    pub cxl: Option<&'a Cxl>,
    /// Where QEMU finds the socket for the second serial port, if disks are served.
    pub control_fd: Option<RawFd>,
    /// The consumers' RAM.
    pub windows: &'a [Window],
    /// Where QEMU finds the socket of the admin port, if there is one.
    pub port_fd: Option<RawFd>,
    /// What comes after all of ours.
    pub more: &'a [OsString],
}

impl Machine<'_> {
    /// Its command line.
    #[must_use]
    pub fn line(&self) -> Vec<OsString> {
        let mut line = vec![self.qemu.clone(), "-nodefaults".into()];
        let mut add = |words: &[&str]| line.extend(words.iter().map(OsString::from));
        let nvdimm = if self.dimms.is_empty() { "" } else { ",nvdimm=on" };
        let window = self.cxl.map(Cxl::window).unwrap_or_default();
        add(&["-machine", &format!("q35{nvdimm}{window}"), "-accel", self.accel.word(), "-cpu", &self.cpu()]);
        add(&["-smp", &self.smp(), "-m", &self.memory(), "-display", "none", "-serial", "stdio"]);
        add(&["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        for (number, dimm) in self.dimms.iter().enumerate() {
            line.extend(dimm.arguments(number, "").map(OsString::from));
        }
        for (number, dimm) in self.virtio_pmem.iter().enumerate() {
            let address = self.address(self.windows.len() + number);
            line.extend(dimm.arguments(number, &address).map(OsString::from));
        }
        line.extend(self.bridge().into_iter().map(OsString::from));
        for (number, net) in self.net.iter().enumerate() {
            let address = self.address(self.windows.len() + self.virtio_pmem.len() + number);
            line.extend(net.arguments(number, &address).map(OsString::from));
        }
        if let Some(fd) = self.port_fd {
            let address = self.address(self.windows.len() + self.virtio_pmem.len() + self.net.len());
            line.extend(port(fd, &address).map(OsString::from));
        }
        if let Some(cxl) = self.cxl {
            // The last one.
            let address = self.address(self.devices() - 1);
            line.extend(cxl.arguments(&address).into_iter().map(OsString::from));
        }
        match self.boot {
            Boot::Pvh => line.extend(["-kernel".into(), self.image.into()]),
            Boot::Bios => {
                let cd = "if=ide,media=cdrom,format=raw,readonly=on,file=";
                line.extend(["-boot".into(), "order=d".into(), "-drive".into(), option(cd, self.image)]);
            }
            Boot::Uefi => {
                let flash = "if=pflash,format=raw";
                line.extend(["-drive".into(), format!("{flash},unit=0,readonly=on,file={OVMF_CODE}").into()]);
                // Its variables are this run's, and forgotten.
                line.extend(["-drive".into(), format!("{flash},unit=1,snapshot=on,file={OVMF_VARS}").into()]);
                line.extend(["-kernel".into(), self.image.into()]);
            }
        }
        if !self.append.is_empty() {
            line.extend(["-append".into(), self.append.into()]);
        }
        line.extend_from_slice(self.more);
        line
    }

    /// Under TCG a machine that can only ever have one processor leaves out its memory barriers: room for a second.
    fn smp(&self) -> String {
        if self.cpus == 1 { "1,maxcpus=2".into() } else { self.cpus.to_string() }
    }

    fn memory(&self) -> String {
        let mib = self.memory_bytes >> 20;
        let most = self.memory_bytes_max() >> 20;
        match (self.dimms.len(), self.virtio_pmem.len()) {
            (0, 0) => format!("{mib}M"),
            (0, _) => format!("{mib}M,maxmem={most}M"),
            (slots, _) => format!("{mib}M,slots={slots},maxmem={most}M"),
        }
    }

    /// RAM, DIMMs and virtio-pmem. QEMU aligns what it plugs in; up to a GiB for each makes room for that.
    fn memory_bytes_max(&self) -> u64 {
        self.memory_bytes
            + self.dimms.iter().chain(self.virtio_pmem).map(|dimm| (dimm.bytes / GIB + 1) * GIB).sum::<u64>()
    }

    /// The processor, with as many address bits as it takes to reach all that is above 4 GiB: RAM, the DIMMs with a GiB
    /// of alignment each, a CXL device's window with one, too, 32 GiB for PCI and there the consumers' RAM,
    /// each aligned to its size.
    fn cpu(&self) -> String {
        // A window's BAR has the length of its file.
        let bars: u64 = self.windows.iter().map(|window| (window.ram_bytes + TAIL_BYTES_MIN).next_power_of_two()).sum();
        let slots = (self.dimms.len() + self.virtio_pmem.len()) as u64;
        let window = self.cxl.map_or(0, |cxl| cxl.memory.bytes + GIB);
        let top = 4 * GIB + self.memory_bytes_max() + window + (slots + 33) * GIB + 2 * bars;
        if top <= RESERVED_FROM {
            return "max".into();
        }
        format!("max,phys-bits={}", (top + DEFAULT_REACH).next_power_of_two().trailing_zeros())
    }

    /// How many devices of ours there are on PCI.
    fn devices(&self) -> usize {
        let single = usize::from(self.port_fd.is_some()) + usize::from(self.cxl.is_some());
        self.windows.len() + self.virtio_pmem.len() + self.net.len() + single
    }

    /// Where our device of this number is on PCI: in slots 01 to 03, then in their other functions. Beside a second root bus
    /// QEMU is told which one.
    fn address(&self, number: usize) -> String {
        let all = self.devices();
        let functions = if all > 3 { ",multifunction=on" } else { "" };
        let is_bridge = number + 1 == all;
        let bus = if self.cxl.is_some() && !is_bridge { ",bus=pcie.0" } else { "" };
        format!("{}.{}{functions}{bus}", 1 + number % 3, number / 3)
    }

    /// The second serial port, and a device for each consumer's RAM.
    fn bridge(&self) -> Vec<String> {
        let Some(control) = self.control_fd else { return Vec::new() };
        let mut words = vec!["-chardev".into(), format!("socket,id=untorn-control,fd={control}")];
        words.extend(["-serial".into(), "chardev:untorn-control".into()]);
        for (number, window) in self.windows.iter().enumerate() {
            let address = self.address(number);
            words.extend(["-chardev".into(), format!("socket,id=untorn-ram{number},fd={}", window.fd)]);
            words.push("-device".into());
            words.push(format!("ivshmem-doorbell,chardev=untorn-ram{number},vectors=256,addr={address}"));
        }
        words
    }
}

/// The admin port: number 1, as QEMU's port 0 is a console, and drops what is not taken at once.
fn port(fd: RawFd, address: &str) -> [String; 6] {
    let name = "untorn-admin";
    let bus = format!("virtio-serial-pci,id={name}-ports,max_ports=2,disable-legacy=on,addr={address}");
    let port = format!("virtserialport,bus={name}-ports.0,nr=1,chardev={name},name=org.untorn.admin");
    ["-chardev".into(), format!("socket,id={name},fd={fd}"), "-device".into(), bus, "-device".into(), port]
}

/// An option that ends in a file's name, in which QEMU wants commas twice.
fn option(option: &str, file: &Path) -> OsString {
    let mut word = OsString::from(option);
    let name = file.as_os_str().as_encoded_bytes().split(|byte| *byte == b',').map(OsStr::from_bytes);
    for (number, part) in name.enumerate() {
        word.push(if number > 0 { ",," } else { "" });
        word.push(part);
    }
    word
}

/// A command line as a shell takes it.
#[must_use]
pub fn shell_line(words: &[OsString]) -> Vec<u8> {
    let mut line = Vec::new();
    for word in words {
        if !line.is_empty() {
            line.push(b' ');
        }
        let bytes = word.as_encoded_bytes();
        if !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_,.=/:+@%-".contains(byte)) {
            line.extend(bytes);
            continue;
        }
        line.push(b'\'');
        for byte in bytes {
            match byte {
                b'\'' => line.extend(br"'\''"),
                other => line.push(*other),
            }
        }
        line.push(b'\'');
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::ffi::OsString;
    use std::path::Path;
    use std::process::Command;

    use super::{option, shell_line};

    #[test]
    fn a_files_commas_are_its_own() {
        assert_eq!(option("file=", Path::new("a,b/,c")), "file=a,,b/,,c");
    }

    #[test]
    fn a_shell_reads_a_line_back_as_the_words_that_it_was() {
        let words =
            ["printf", "%s\\n", "plain", "", "a b", "it's", "$HOME `x` \"y\" \\", "*", "#", "a;b|c&d", "-x=~", "a\nb"];
        let line = shell_line(&words.map(OsString::from));
        let output = Command::new("sh").arg("-c").arg(String::from_utf8(line).unwrap()).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words[2..].join("\n") + "\n");
    }
}
