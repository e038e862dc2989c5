//! `untornctl qemu`, which is what `run-qemu.sh` does once all is built: an appliance in QEMU on NVDIMMs made of files.
//!
//! [`options`] parses them; [`Plan::new`] compares them with the files there are, and changes nothing;
//! [`Plan::prepare`] makes and claims the files. [`dimm`] knows files of persistent memory, [`cxl`] a device made of two,
//! [`net`] network devices, [`boot_file`] what the machine is started from, [`machine`] QEMU's command line.

pub mod boot_file;
pub mod cxl;
pub mod dimm;
pub mod machine;
pub mod net;
pub mod options;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::unistd::{AccessFlags, access};

use self::boot_file::BootFile;
use self::cxl::Cxl;
use self::dimm::{Dimm, DimmWords};
use self::machine::{DEVICES_MAX, DIMMS_MAX, Machine, Window};
use self::options::Options;
use crate::backing::Backing;
use crate::bridge::{ExportSpec, HOLD};
use crate::deadline::Deadline;
use crate::export_words::ExportWords;
use crate::launch::Launch;
use crate::limits::EXPORTS_MAX;

/// The NVDIMM of a plain run, below the target directory, and its size when it is made.
const PLAIN_NVDIMM: &str = "nvdimm0.img";
const PLAIN_NVDIMM_BYTES: u64 = 128 << 20;

/// The sockets of a plain run, below the target directory.
const PLAIN_DISK: &str = "vhost.sock";
pub(crate) const PLAIN_ADMIN: &str = "admin.sock";

/// The longest target directory whose sockets surely fit a socket's name, which takes 107 bytes.
const PLAIN_TARGET_BYTES_MAX: usize = 79;

/// Why there is no such machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QemuError {
    /// The options, or what they name, do not fit.
    Usage(String),
    /// Something could not be had.
    Failed(String),
    /// `--timeout` has struck already.
    Late,
}

/// An appliance in QEMU as it is to be. Nothing of it is there yet.
#[derive(Debug)]
pub struct Plan {
    boot: BootFile,
    dimms: Vec<Dimm>,
    virtio_pmem: Vec<Dimm>,
    cxl: Option<Cxl>,
    qemu: OsString,
    program: Vec<OsString>,
    deadline: Deadline,
    admin: Option<PathBuf>,
    exports: Vec<ExportSpec>,
    hold: Duration,
    control: Option<File>,
    windows: Vec<File>,
    port: Option<File>,
    /// Whether it is a plain run of a person's, which has its NVDIMM formatted if it is blank.
    pub formats_blank: bool,
}

impl Plan {
    /// What these options ask for.
    ///
    /// # Errors
    /// [`QemuError`]: options that do not go together, or do not fit the files there are.
    pub fn new(options: &Options) -> Result<Self, QemuError> {
        let usage = |why: String| Err(QemuError::Usage(why));
        let target = Path::new(&options.target);
        let mut nvdimms = options.nvdimm.clone();
        let mut vhost_user = options.vhost_user.clone();
        let mut admin = options.admin.clone();
        let plain = nvdimms.is_empty() && options.virtio_pmem.is_empty() && options.cxl.is_none();
        let plain = plain && !options.no_nvdimm;
        // A script does not depend on the terminal's settings.
        let of_person = plain && options.exec.is_none();
        if plain {
            let file = target.join(PLAIN_NVDIMM);
            if options.target.contains(',') {
                return usage(format!(
                    "the target directory '{}' has a comma in its name: give a --nvdimm FILE",
                    options.target
                ));
            }
            // A size for the first run only.
            let there = fs::metadata(&file).is_ok_and(|there| there.len() > 0);
            let size = (!there).then_some(PLAIN_NVDIMM_BYTES);
            nvdimms.push(DimmWords { file: file.display().to_string(), size, ..DimmWords::default() });
        }
        // A caller who adds devices gets no others by default.
        let serves = of_person && vhost_user.is_empty() && options.qemu_arg.is_empty();
        if serves && options.target.len() <= PLAIN_TARGET_BYTES_MAX {
            vhost_user.push(ExportWords { socket: target.join(PLAIN_DISK), dev: None, ram: None, trusted: false });
            admin.get_or_insert_with(|| target.join(PLAIN_ADMIN));
        }
        match &options.consumer_ram[..] {
            [] => {}
            [ram] if vhost_user.len() == 1 && vhost_user[0].ram.is_none() => vhost_user[0].ram = Some(ram.clone()),
            _ => {
                return usage(
                    "--consumer-ram goes with one --vhost-user that has no ram=FILE: give each its own there".into(),
                );
            }
        }
        if options.hold.is_some() && vhost_user.is_empty() {
            return usage("--hold goes with --vhost-user".into());
        }
        if vhost_user.len() > EXPORTS_MAX {
            return usage(format!("--vhost-user: {} are more than {EXPORTS_MAX}", vhost_user.len()));
        }
        if nvdimms.len() > DIMMS_MAX {
            return usage(format!("--nvdimm: {} are more than QEMU's {DIMMS_MAX} slots", nvdimms.len()));
        }
        let look = |words: &[DimmWords]| words.iter().map(Dimm::look).collect::<Result<Vec<_>, _>>();
        let dimms = look(&nvdimms).map_err(QemuError::Usage)?;
        let virtio_pmem = look(&options.virtio_pmem).map_err(QemuError::Usage)?;
        let cxl = options.cxl.as_ref().map(Cxl::look).transpose().map_err(QemuError::Usage)?;
        let exports: Vec<ExportSpec> = vhost_user.iter().map(ExportWords::spec).collect();
        let rams = rams(&exports);
        let devices = rams.len() + virtio_pmem.len() + options.net.len() + usize::from(cxl.is_some());
        // Disks for others come with a port, if there is room for it.
        let has_port = options.admin_port || (!exports.is_empty() && devices < DEVICES_MAX);
        let devices = devices + usize::from(has_port);
        if devices > DEVICES_MAX {
            let what = "--virtio-pmem, --net, --cxl, --admin-port and consumers";
            return usage(format!("{devices} {what} are more than {DEVICES_MAX} devices"));
        }

        let keep = || File::open("/dev/null").map_err(|error| QemuError::Failed(format!("/dev/null: {error}")));
        let control = if exports.is_empty() { None } else { Some(keep()?) };
        let port = if has_port { Some(keep()?) } else { None };
        let windows: Vec<File> = rams.iter().map(|_| keep()).collect::<Result<_, _>>()?;
        let qemu = env::var_os("QEMU").filter(|qemu| !qemu.is_empty()).unwrap_or("qemu-system-x86_64".into());
        let image = target.join("release").join("untorn");
        // Its prompt is waited for, whatever the media are configured for.
        let append = options.append.clone().unwrap_or_default().with("console", "person");
        let append = append.map_err(|why| QemuError::Usage(format!("--append: {why}")))?;
        let boot = BootFile::new(options.boot, image, append);
        let program = Machine {
            qemu: qemu.clone(),
            cpus: options.cpus,
            memory_bytes: options.memory,
            accel: options.accel,
            boot: options.boot,
            image: boot.path(),
            append: boot.option(),
            dimms: &dimms,
            virtio_pmem: &virtio_pmem,
            net: &options.net,
            cxl: cxl.as_ref(),
            control_fd: control.as_ref().map(AsRawFd::as_raw_fd),
            windows: &rams
                .iter()
                .zip(&windows)
                .map(|(ram, place)| Window { ram_bytes: ram.bytes, fd: place.as_raw_fd() })
                .collect::<Vec<_>>(),
            port_fd: port.as_ref().map(AsRawFd::as_raw_fd),
            more: &options.qemu_arg,
        }
        .line();
        let deadline = options.timeout.map_or(Ok(Deadline::NEVER), |bound| {
            let spent = options.since.map_or(Duration::ZERO, since);
            bound.checked_sub(spent).map(Deadline::after).ok_or(QemuError::Late)
        })?;
        let hold = options.hold.unwrap_or(HOLD);
        Ok(Self {
            boot,
            dimms,
            virtio_pmem,
            cxl,
            qemu,
            program,
            deadline,
            admin,
            exports,
            hold,
            control,
            windows,
            port,
            formats_blank: of_person,
        })
    }

    /// QEMU's command line, as a shell takes it.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        machine::shell_line(&self.program)
    }

    /// How each disk is given to another QEMU: a line for each.
    pub fn consumers(&self) -> impl Iterator<Item = String> {
        self.exports.iter().map(|export| {
            let (ram, mib, socket) = (export.ram.display(), export.ram_bytes >> 20, export.socket.display());
            format!(
                "{} -smp 2 -m {mib}M -machine q35,memory-backend=mem -object \
                 memory-backend-file,id=mem,share=on,mem-path={ram},size={mib}M -chardev \
                 socket,id=disk,path={socket},reconnect=1 -device vhost-user-blk-pci,chardev=disk,disable-legacy=on",
                self.qemu.display()
            )
        })
    }

    /// The admin socket that it is to have.
    #[must_use]
    pub fn admin(&self) -> Option<&Path> {
        self.admin.as_deref()
    }

    /// Makes the NVDIMMs' files if they are absent, and claims them. `say` gets what is worth telling.
    ///
    /// # Errors
    /// [`QemuError`]: a program or a file that is not to be had.
    pub fn prepare(self, say: impl Fn(&str)) -> Result<Launch, QemuError> {
        if !is_program(&self.qemu) {
            return Err(QemuError::Usage(format!("'{}' is no program: $QEMU names another", self.qemu.display())));
        }
        self.boot.make().map_err(QemuError::Failed)?;
        let mut held = Vec::new();
        let files = || self.dimms.iter().chain(&self.virtio_pmem).chain(self.cxl.iter().flat_map(Cxl::files));
        for dimm in files() {
            held.push(dimm.claim(&say).map_err(QemuError::Failed)?);
        }
        let memory = files().map(Dimm::backing).chain(rams(&self.exports)).collect();
        let control_fd = self.control.as_ref().map(AsRawFd::as_raw_fd);
        let ivshmem_fds: Vec<RawFd> = self.windows.iter().map(AsRawFd::as_raw_fd).collect();
        let port_fd = self.port.as_ref().map(AsRawFd::as_raw_fd);
        held.extend(self.control);
        held.extend(self.port);
        held.extend(self.windows);
        Ok(Launch {
            program: self.program,
            deadline: self.deadline,
            admin: self.admin,
            exports: self.exports,
            hold: self.hold,
            control_fd,
            ivshmem_fds,
            port_fd,
            memory,
            held,
        })
    }
}

/// The RAM files of all consumers, in their order: the same file is the same consumer, by whatever name.
fn rams(exports: &[ExportSpec]) -> Vec<Backing> {
    let mut rams: Vec<(PathBuf, Backing)> = Vec::new();
    for export in exports {
        let whole = fs::canonicalize(&export.ram).unwrap_or_else(|_| export.ram.clone());
        if rams.iter().all(|(other, _)| *other != whole) {
            rams.push((whole, Backing { path: export.ram.clone(), bytes: export.ram_bytes }));
        }
    }
    rams.into_iter().map(|(_, backing)| backing).collect()
}

/// How long ago that was, in seconds since 1970.
fn since(began: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(began)
}

/// Whether a word is a program, as a shell finds one.
fn is_program(word: &OsStr) -> bool {
    let runs = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if Path::new(word).components().count() > 1 {
        return runs(Path::new(word));
    }
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| runs(&folder.join(word))))
}
