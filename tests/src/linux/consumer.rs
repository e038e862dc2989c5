//! An unmodified Linux as a consumer of disks, or as a host of NVMe/TCP: `consumer.sh` is all there is in it, beside the
//! distribution's own kernel, busybox, fio, e2fsprogs, mdadm and LVM. It never runs code that lies on the disks: under TCG a
//! page that another machine writes would not be noticed as code.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use host::appliance::die_with_parent;

use super::COMMAND_LINE;
use super::initramfs::{self, Initramfs};
use crate::workspace;

/// The longest that any one line may take, and a boot.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest that a consumer may live, in seconds.
const LIFE: &str = "900";

/// Ends a reply, before the exit status.
const END: char = '\x1e';

/// The name of a host that [`Consumer::boot_on_network`] boots.
pub const HOST_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:0b06833d-0000-4000-8000-000000000001";

/// The modules of an initiator. The first ones are asked for by what they do.
const NETWORK_MODULES: [&str; 4] = ["crct10dif_generic", "crc64_rocksoft_generic", "virtio_net", "nvme_tcp"];

/// The name of what [`Consumer::boot_target`] serves.
pub const LINUX_TARGET_NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:0b06833d-0000-4000-8000-000000000002";

/// A disk by vhost-user.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// The socket.
    pub socket: &'a Path,
    /// How many queues the driver is to find.
    pub queues: u16,
}

/// What a consumer is made of.
#[derive(Clone, Copy, Debug)]
struct Machine<'a> {
    initrd: &'a Path,
    cpus: u16,
    ram: &'a Path,
    mebibytes: u64,
    disks: &'a [Disk<'a>],
    dimms: &'a [&'a Path],
    netdevs: &'a [&'a str],
    /// More words for its kernel.
    words: &'a str,
}

impl<'a> Machine<'a> {
    const fn new(initrd: &'a Path, cpus: u16, ram: &'a Path, mebibytes: u64) -> Self {
        Self { initrd, cpus, ram, mebibytes, disks: &[], dimms: &[], netdevs: &[], words: "" }
    }
}

/// The network of a target.
#[derive(Clone, Copy, Debug)]
pub struct TargetNetwork<'a> {
    /// QEMU's `-netdev` without its id.
    pub netdev: &'a str,
    /// The target's address there, in a network of 24 bits.
    pub address: &'a str,
}

/// A running consumer. It is killed when it is dropped.
#[derive(Debug)]
pub struct Consumer {
    qemu: Child,
    serial: BufReader<UnixStream>,
    /// Its kernel's messages.
    console: PathBuf,
    /// Its QEMU's messages: many, whenever a back end dies.
    stderr: PathBuf,
}

impl Consumer {
    /// Boots one with so many processors, whose memory is `ram`, on disks that are `/dev/vda`, `/dev/vdb` and so on.
    ///
    /// # Panics
    /// When it does not come up; with its kernel's last words.
    #[must_use]
    pub fn boot(cpus: u16, ram: &Path, mebibytes: u64, disks: &[Disk<'_>]) -> Self {
        static MADE: OnceLock<PathBuf> = OnceLock::new();
        let initrd = MADE.get_or_init(|| initrd("consumer", None, &[]));
        Self::boot_machine(&Machine { disks, ..Machine::new(initrd, cpus, ram, mebibytes) })
    }

    /// As [`Consumer::boot`]; it has a program of ours, too, which it knows as `program`.
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_with(program: &Path, cpus: u16, ram: &Path, mebibytes: u64, disks: &[Disk<'_>]) -> Self {
        let initrd = initrd("consumer-with-program", Some(program), &[]);
        Self::boot_machine(&Machine { disks, ..Machine::new(&initrd, cpus, ram, mebibytes) })
    }

    /// As [`Consumer::boot_with`], but on NVDIMMs of its own, without label areas, and the drivers for them: a BTT on one is
    /// `/dev/pmem0s`, or of another number.
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_on(dimms: &[&Path], program: &Path, cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        let initrd = initrd("consumer-on-dimms", Some(program), &["nfit", "nd_btt", "nd_pmem"]);
        Self::boot_machine(&Machine { dimms, ..Machine::new(&initrd, cpus, ram, mebibytes) })
    }

    /// As [`Consumer::boot`], but without disks: an initiator of NVMe/TCP, with nvme-cli, on networks that are QEMU's `-netdev`
    /// without its id. Its addresses are 10.0.2.15, 10.0.3.15 and so on, and its name is [`HOST_NQN`].
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_on_networks(netdevs: &[&str], cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        static MADE: OnceLock<PathBuf> = OnceLock::new();
        let initrd = MADE.get_or_init(|| initrd("initiator", None, &NETWORK_MODULES));
        Self::boot_initiator(initrd, netdevs, cpus, ram, mebibytes)
    }

    /// As [`Consumer::boot_on_networks`]; it has LVM, too.
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_with_lvm(netdevs: &[&str], cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        let initrd = initrd("initiator-with-lvm", None, &[&NETWORK_MODULES[..], &["dm_raid"]].concat());
        let mut host = Self::boot_initiator(&initrd, netdevs, cpus, ram, mebibytes);
        for name in ["vgcreate", "lvcreate", "lvchange", "lvs"] {
            host.run(&format!("ln -s lvm /bin/{name}"));
        }
        host
    }

    /// As [`Consumer::boot_on_network`]; it has a program of ours, too, which it knows as `program`.
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_on_network_with(program: &Path, netdev: &str, cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        let initrd = initrd("initiator-with-program", Some(program), &NETWORK_MODULES);
        Self::boot_initiator(&initrd, &[netdev], cpus, ram, mebibytes)
    }

    fn boot_initiator(initrd: &Path, netdevs: &[&str], cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        let mut host = Self::boot_machine(&Machine { netdevs, ..Machine::new(initrd, cpus, ram, mebibytes) });
        host.run("ip link set lo up");
        for number in 0..netdevs.len() {
            let (dev, net) = (format!("eth{number}"), number + 2);
            host.run(&format!("ip address add 10.0.{net}.15/24 dev {dev} && ip link set {dev} up"));
        }
        host.run(&format!("mkdir -p /etc/nvme && echo {HOST_NQN} >/etc/nvme/hostnqn"));
        host.run(&format!("echo {} >/etc/nvme/hostid", HOST_NQN.rsplit(':').next().expect("its uuid")));
        host
    }

    /// As [`Consumer::boot_on_networks`], on one.
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_on_network(netdev: &str, cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        Self::boot_on_networks(&[netdev], cpus, ram, mebibytes)
    }

    /// Boots a target: Linux's own, nvmet-tcp, which has served the BTT on an NVDIMM without a label area under
    /// [`LINUX_TARGET_NQN`] to all hosts since it came up. It has busybox, and no more modules than it takes.
    ///
    /// # Panics
    /// As [`Consumer::boot`].
    #[must_use]
    pub fn boot_target(dimm: &Path, network: TargetNetwork<'_>, cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        let mut target = Self::start_target(dimm, network, cpus, ram, mebibytes);
        target.reply("the boot");
        target
    }

    /// Starts the same, and does not wait until it is up. It is not asked for anything.
    ///
    /// # Panics
    /// When QEMU does not start.
    #[must_use]
    pub fn start_target(dimm: &Path, network: TargetNetwork<'_>, cpus: u16, ram: &Path, mebibytes: u64) -> Self {
        let TargetNetwork { netdev, address } = network;
        let (dimms, netdevs, words) = (&[dimm][..], &[netdev][..], format!("untorn_address={address}"));
        let initrd = linux_target();
        Self::start_machine(&Machine { dimms, netdevs, words: &words, ..Machine::new(&initrd, cpus, ram, mebibytes) })
    }

    fn boot_machine(machine: &Machine<'_>) -> Self {
        let mut consumer = Self::start_machine(machine);
        consumer.reply("the boot");
        consumer
    }

    fn start_machine(machine: &Machine<'_>) -> Self {
        let Machine { initrd, cpus, ram, mebibytes, disks, dimms, netdevs, words } = *machine;
        let [console, stderr] = ["console", "stderr"].map(|end| ram.with_extension(end));
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", LIFE, "setpriv", "--pdeathsig", "KILL"]);
        command.arg(std::env::var_os("QEMU").unwrap_or_else(|| "qemu-system-x86_64".into()));
        command.args(["-nodefaults", "-display", "none", "-accel", "tcg", "-cpu", "max"]);
        // Under TCG a machine that can only ever have one processor leaves out its memory barriers: room for a second.
        let smp = if cpus == 1 { "1,maxcpus=2".into() } else { cpus.to_string() };
        let (mut size, mut board) = (format!("{mebibytes}M"), "q35,memory-backend=mem".to_owned());
        if !dimms.is_empty() {
            // A GiB more for each: QEMU aligns what it plugs in.
            let bytes = |dimm: &&Path| fs::metadata(dimm).expect("an NVDIMM has a file").len();
            let most = mebibytes + dimms.iter().map(|dimm| bytes(dimm) >> 20).sum::<u64>() + 1024 * dimms.len() as u64;
            size += &format!(",slots={},maxmem={most}M", dimms.len());
            board += ",nvdimm=on";
        }
        command.args(["-smp", &smp, "-m", &size, "-machine", &board]);
        for (number, dimm) in dimms.iter().enumerate() {
            let bytes = fs::metadata(dimm).expect("an NVDIMM has a file").len();
            let file = format!("memory-backend-file,id=m{number},share=on,mem-path={},size={bytes}", dimm.display());
            command.args(["-object", &file, "-device", &format!("nvdimm,id=d{number},memdev=m{number}")]);
        }
        let memory = format!("memory-backend-file,id=mem,share=on,size={mebibytes}M,mem-path={}", ram.display());
        command.args(["-object", &memory, "-serial", "stdio", "-serial", &format!("file:{}", console.display())]);
        command.arg("-kernel").arg(linux_kernel()).arg("-initrd").arg(initrd);
        command.args(["-append", &format!("{} {words}", COMMAND_LINE)]);
        for (number, disk) in disks.iter().enumerate() {
            command.args(["-chardev", &format!("socket,id=c{number},path={},reconnect=1", disk.socket.display())]);
            let queues = disk.queues;
            let device = format!("vhost-user-blk-pci,chardev=c{number},num-queues={queues},addr={}", 4 + number);
            command.args(["-device", &device]);
        }
        for (number, netdev) in netdevs.iter().enumerate() {
            // Each its own Ethernet address, also of several machines on one link.
            let mac = format!("52:54:00:4c:{:02x}:{number:02x}", u8::from(!dimms.is_empty()));
            command.args(["-netdev", &format!("{netdev},id=n{number}")]);
            command.args(["-device", &format!("virtio-net-pci,netdev=n{number},mac={mac}")]);
        }
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        command.stdin(OwnedFd::from(theirs.try_clone().expect("a socket is cloned"))).stdout(OwnedFd::from(theirs));
        command.stderr(Stdio::from(File::create(&stderr).expect("a file for what goes to stderr")));
        die_with_parent(&mut command);
        let qemu = command.spawn().expect("QEMU starts");
        Self { qemu, serial: BufReader::new(ours), console, stderr }
    }

    /// The process that is its machine.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn process(&self) -> u32 {
        workspace::innermost(self.qemu.id())
    }

    /// Runs a line that must succeed, and returns what it printed.
    ///
    /// # Panics
    /// When it fails; with what it printed and the kernel's last words.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> String {
        let (status, text) = self.try_run(line);
        assert_eq!(status, 0, "the consumer failed to `{line}`: {text}\n{}", self.last_words());
        text
    }

    /// Runs a line, and returns its exit status and what it printed.
    ///
    /// # Panics
    /// When there is no reply.
    #[track_caller]
    pub fn try_run(&mut self, line: &str) -> (i32, String) {
        self.send(line);
        self.reply(line)
    }

    /// Runs a line in the background, under a name.
    ///
    /// # Panics
    /// When there is no reply.
    #[track_caller]
    pub fn start(&mut self, name: &str, line: &str) {
        self.run(&format!(
            "( ( {line} ) >/tmp/{name} 2>&1; echo $? >/tmp/{name}.status ) </dev/null >/dev/null 2>&1 &"
        ));
    }

    /// Whether what was started under a name still runs.
    #[track_caller]
    pub fn is_busy(&mut self, name: &str) -> bool {
        self.try_run(&format!("[ -s /tmp/{name}.status ]")).0 != 0
    }

    /// Waits for what was started under a name: it must succeed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn finish(&mut self, name: &str) -> String {
        self.run(&format!(
            "for i in $(seq 1000); do [ -s /tmp/{name}.status ] && break; sleep 0.1; done; cat /tmp/{name}; \
             status=$(cat /tmp/{name}.status); rm /tmp/{name}.status; [ \"$status\" = 0 ]"
        ))
    }

    /// Reboots it, by its firmware.
    ///
    /// # Panics
    /// When it does not come up again.
    #[track_caller]
    pub fn reboot(&mut self) {
        self.send("sync; echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger");
        self.reply("the reboot");
    }

    /// The messages of its QEMU and its kernel.
    fn last_words(&self) -> String {
        [&self.stderr, &self.console].map(|file| fs::read_to_string(file).unwrap_or_default()).concat()
    }

    fn send(&mut self, line: &str) {
        writeln!(self.serial.get_mut(), "{line}").expect("the consumer takes a line");
    }

    #[track_caller]
    fn reply(&mut self, line: &str) -> (i32, String) {
        let mut text = String::new();
        loop {
            let mut piece = Vec::new();
            let read = self.serial.read_until(b'\n', &mut piece);
            let piece = String::from_utf8_lossy(&piece);
            if !matches!(read, Ok(1..)) {
                panic!("no answer to `{line}` ({read:?}): {text}{piece}\n{}", self.last_words());
            }
            match piece.split_once(END) {
                Some((before, status)) => {
                    text.push_str(before);
                    return (status.trim().parse().expect("an exit status"), text.trim_end().to_owned());
                }
                None => text.push_str(&piece),
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        for file in [&self.console, &self.stderr] {
            let _ = fs::remove_file(file);
        }
    }
}

/// The kernel that they all boot, unpacked: the distribution's `vmlinuz` stands beside it.
#[must_use]
pub fn linux_kernel() -> PathBuf {
    initramfs::kernel().join("vmlinux")
}

/// What [`Consumer::boot_target`] boots from, beside [`linux_kernel`].
#[must_use]
pub fn linux_target() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let kernel = initramfs::kernel();
        let mut initramfs = Initramfs::new(&kernel);
        initramfs.file("init", include_bytes!("consumer.sh"));
        initramfs.file("prepare", include_bytes!("target.sh"));
        initramfs.program("bin/busybox", &initramfs::program("busybox"));
        initramfs.modules("modules", &["crct10dif_generic", "crc64_rocksoft_generic", "virtio_pci", "virtio_net"]);
        initramfs.modules("modules", &["nfit", "nd_btt", "nd_pmem", "nvmet", "nvmet_tcp"]);
        write(initramfs, &kernel, "target")
    });
    made.clone()
}

/// What it boots from: a file of this name.
fn initrd(name: &str, program: Option<&Path>, modules: &[&str]) -> PathBuf {
    let kernel = initramfs::kernel();
    let mut initramfs = Initramfs::new(&kernel);
    initramfs.file("init", include_bytes!("consumer.sh"));
    for name in ["busybox", "fio", "mkfs.ext4", "e2fsck"] {
        initramfs.program(&format!("bin/{name}"), &initramfs::program(name));
    }
    initramfs.program("bin/mdadm", &kernel.join("mdadm"));
    if let Some(program) = program {
        initramfs.program("bin/program", program);
    }
    if modules.contains(&"nvme_tcp") {
        initramfs.program("bin/nvme", &initramfs::program("nvme"));
    }
    if modules.contains(&"dm_raid") {
        initramfs.program("bin/lvm", &initramfs::program("lvm"));
        initramfs.file("etc/lvm/lvm.conf", include_bytes!("lvm.conf"));
    }
    // ext4 and RAID bitmaps ask for this one by what it does.
    initramfs.modules("modules", &["crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "raid1"]);
    initramfs.modules("modules", modules);
    write(initramfs, &kernel, name)
}

/// Writes an initramfs to a file of this name, and returns its path.
fn write(initramfs: Initramfs, kernel: &Path, name: &str) -> PathBuf {
    let path = kernel.with_file_name(format!("{name}.cpio"));
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let beside = path.with_extension(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    File::create(&beside).and_then(|mut file| file.write_all(&initramfs.finish())).expect("an initramfs is written");
    fs::rename(&beside, &path).expect("an initramfs gets its name");
    path
}
