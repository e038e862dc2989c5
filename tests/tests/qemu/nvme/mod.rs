//! An unmodified Linux as a host of NVMe/TCP: against the appliance over a link of their own, and against `untorn-target`,
//! which is the appliance's crates as a process.

mod atomic;
mod lvm;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use host::appliance::die_with_parent;
use serde_json::json;
use tests::dimm::{Dimm, MIB};
use tests::linux::{Consumer, HOST_NQN};
use tests::machine::{ApplianceBuilder, Running};
use tests::place::{Place, eventually, free_port};
use tests::workspace;

/// fio's options for a load that verifies what it has written, block by block.
const VERIFY: &str = "--name=load --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1 --thread \
                      --group_reporting --minimal";

/// How the guest reaches this machine.
const US: &str = "10.0.2.2";

/// The target. It is killed when it is dropped.
struct Target {
    process: Child,
    file: PathBuf,
    port: u16,
    nqn: String,
}

impl Target {
    /// Serves a file, which is made if it is not there, to these hosts.
    fn start(file: &Path, allow: &str, port: u16) -> Self {
        Self::start_with(file, port, 4096, &["--allow", allow])
    }

    /// The same, with sectors of so many bytes and these options.
    fn start_with(file: &Path, port: u16, sector_bytes: u32, options: &[&str]) -> Self {
        if !file.exists() {
            File::create(file).and_then(|made| made.set_len(96 << 20)).expect("a file is made");
        }
        let mut command = Command::new(workspace::untorn_target());
        command.args(["--format", &sector_bytes.to_string(), "--listen", &format!("127.0.0.1:{port}")]).args(options);
        command.arg("--advertise").arg(format!("{US}:{port}")).arg(file).stdout(Stdio::piped());
        die_with_parent(&mut command);
        let mut process = command.spawn().expect("the target starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut line = || lines.next().expect("the target tells what it serves").expect("text");
        let (disk, listens) = (line(), line());
        let nqn = disk.split_once(": ").expect("a name").0.to_owned();
        assert_eq!(listens, format!("listening on 127.0.0.1:{port}"));
        Self { process, file: file.to_owned(), port, nqn }
    }

    fn kill(&mut self) {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it has ended");
    }

    /// Kills it, and starts it anew.
    fn restart(&mut self) {
        self.kill();
        let nqn = self.nqn.clone();
        *self = Self::start(&self.file, "any", self.port);
        assert_eq!(self.nqn, nqn, "it keeps its name");
    }

    fn address(&self) -> String {
        format!("-t tcp -a {US} -s {}", self.port)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A host on the network of its QEMU, from which [`US`] is this machine.
fn initiator(place: &Place) -> Consumer {
    Consumer::boot_on_network("user", 2, &place.at("ram"), 512)
}

/// Waits for the one disk, and returns its name.
fn disk(linux: &mut Consumer) -> String {
    linux.run("for i in $(seq 300); do ls /dev/nvme*n1 2>/dev/null | sed s,/dev/,, | grep . && exit 0; sleep 0.1; done; exit 1")
}

#[test]
fn linux_discovers_connects_and_uses_a_file() {
    let (place, turn) = (Place::new(), workspace::machine_turn());
    let target = Target::start(&place.at("disk"), HOST_NQN, free_port());
    let mut linux = initiator(&place);
    let address = target.address();
    let log = linux.run(&format!("nvme discover {address}"));
    for line in [&format!("subnqn:  {}", target.nqn), &format!("traddr:  {US}"), &format!("trsvcid: {}", target.port)] {
        assert!(log.contains(line), "{line}: {log}");
    }
    linux.run(&format!("nvme connect-all {address}"));
    let name = disk(&mut linux);
    let uuid = target.nqn.rsplit(':').next().expect("its uuid");
    assert_eq!(linux.run(&format!("cat /sys/block/{name}/wwid")), format!("uuid.{uuid}"));
    for (file, value) in [
        ("queue/logical_block_size", "4096"),
        ("queue/physical_block_size", "4096"),
        ("queue/max_hw_sectors_kb", "128"),
        ("queue/write_cache", "write through"),
        ("ro", "0"),
    ] {
        assert_eq!(linux.run(&format!("cat /sys/block/{name}/{file}")), value, "{file}");
    }
    linux.run(&format!("fio {VERIFY} --filename=/dev/{name} --rw=randwrite --bs=4k --size=16M"));
    linux.run(&format!("fio {VERIFY} --filename=/dev/{name} --rw=randrw --bsrange=4k-256k --size=24M"));
    linux.run(&format!("blkdiscard -o 0 -l 8388608 /dev/{name}"));
    linux.run(&format!("nvme write-zeroes /dev/{name} -s 2048 -c 1023"));
    for skip in [0, 2048] {
        let zeroes = format!("dd if=/dev/{name} bs=4k count=1024 skip={skip} 2>/dev/null | tr -d '\\0' | wc -c");
        assert_eq!(linux.run(&zeroes), "0", "from {skip} on");
    }
    linux.run(&format!("mkfs.ext4 -q /dev/{name} && mount /dev/{name} /mnt && cp /bin/busybox /mnt && umount /mnt"));
    linux.run("nvme disconnect-all");

    for digests in ["-g", "-G", "-g -G"] {
        linux.run(&format!("nvme connect {address} -n {} {digests}", target.nqn));
        let name = disk(&mut linux);
        linux.run(&format!("mount /dev/{name} /mnt && cmp /bin/busybox /mnt/busybox && umount /mnt"));
        linux.run(&format!("fio {VERIFY} --filename=/dev/{name} --offset=80M --rw=randrw --bsrange=4k-128k --size=8M"));
        linux.run(&format!("e2fsck -fn /dev/{name} && nvme disconnect-all"));
    }
    assert_eq!(linux.run("dmesg | grep -E 'I/O error|digest error|EXT4-fs error' || true"), "");

    let (refused, _) = linux.try_run(&format!("nvme connect {address} -n {} -q nqn.stranger", target.nqn));
    assert_ne!(refused, 0);
    linux.run("dmesg | grep 'is not allowed, hostnqn: nqn.stranger'");
    drop(turn);
}

/// Writes to a disk and verifies what it has written, while what serves the disk is killed and started again so many times by
/// `restart`: nothing that was acknowledged is lost, and it is the same disk.
fn outlives(linux: &mut Consumer, name: &str, times: usize, mut restart: impl FnMut()) {
    // Linux 6.1 gives up a request that it sends just when the connection is reset after five tries, which take no
    // millisecond, and signals SIGPIPE to the program whose request that is.
    linux.run("echo 255 >/sys/module/nvme_core/parameters/max_retries");
    // It writes for longer than the kills take, and then verifies; an error ends it.
    let load = format!("fio {VERIFY} --filename=/dev/{name} --rw=randwrite --bs=4k --size=64M");
    linux.start("load", &format!("trap '' PIPE; {load}"));
    for _ in 0..times {
        linux.run("sleep 2");
        if !linux.is_busy("load") {
            panic!("it is killed under load: {}", linux.run("cat /tmp/load /tmp/load.status; dmesg | tail -n 20"));
        }
        restart();
        linux
            .run("for i in $(seq 600); do grep -q live /sys/class/nvme/nvme*/state && exit 0; sleep 0.1; done; exit 1");
    }
    linux.finish("load");
    // The same disk, by all its names.
    assert_eq!(linux.run("dmesg | grep 'identifiers changed' || true"), "");
    assert_eq!(disk(linux), name);
}

#[test]
fn a_target_that_dies_under_load_keeps_what_it_acknowledged() {
    let (place, turn) = (Place::new(), workspace::machine_turn());
    let mut target = Target::start(&place.at("disk"), "any", free_port());
    let mut linux = initiator(&place);
    linux.run(&format!("nvme connect {} -n {} --reconnect-delay=1", target.address(), target.nqn));
    let name = disk(&mut linux);
    outlives(&mut linux, &name, 3, || target.restart());
    drop(turn);
}

#[test]
fn host_and_target_prove_who_they_are_if_the_hosts_kernel_can() {
    const SECRET: &str = "DHHC-1:00:MYrE3veovAyyPo/nmGBxhvD5qPbMMIwrJ/EOFEPZbEkXKOxe:";
    const OTHER: &str = "DHHC-1:00:+1h/WsWKuMz36qeY7kpaI35yMgtgqBV7Vr07bSjzwo6xMLXR:";
    let (place, turn) = (Place::new(), workspace::machine_turn());
    const OWN: &str = "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:";
    let proofs = ["--allow", HOST_NQN, "--secret", SECRET, "--controller-secret", OWN];
    let target = Target::start_with(&place.at("disk"), free_port(), 4096, &proofs);
    let mut linux = initiator(&place);
    let connect = format!("nvme connect {} -n {}", target.address(), target.nqn);
    assert_ne!(linux.try_run(&connect).0, 0, "without a secret");
    linux.run("dmesg | grep 'authentication setup failed'");
    let (status, _) = linux.try_run(&format!("{connect} -S {SECRET}"));
    if status == 0 {
        linux.run("dmesg | grep 'qid 0: authenticated with hash hmac(sha256) dhgroup ffdhe3072'");
        let name = disk(&mut linux);
        linux.run(&format!(
            "fio {VERIFY} --filename=/dev/{name} --rw=randwrite --bs=4k --size=4M && nvme disconnect-all"
        ));
        assert_ne!(linux.try_run(&format!("{connect} -S {OTHER}")).0, 0, "with another secret");
        linux.run("dmesg | grep 'authentication failed'");
        linux.run(&format!("{connect} -S {SECRET} -C {OWN} && nvme disconnect-all"));
        linux.run("dmesg | grep 'qid 0: controller authenticated'");
        assert_ne!(linux.try_run(&format!("{connect} -S {SECRET} -C {OTHER}")).0, 0, "the target has another one");
    } else {
        // Debian 12's kernel is built without it, so that nvme-cli leaves the secret out.
        assert_eq!(linux.run("dmesg | grep -c 'authentication setup failed'"), "2");
    }
    drop(turn);
}

/// The appliance's address on the link.
const APPLIANCE: &str = "10.0.2.2";

/// A link between a host and an appliance, which may come and go.
struct Link {
    socket: PathBuf,
    /// The appliance's address on it.
    address: &'static str,
}

impl Link {
    fn new(place: &Place) -> Self {
        Self { socket: place.at("link"), address: APPLIANCE }
    }

    /// The host's end.
    fn netdev(&self) -> String {
        format!("stream,server=on,addr.type=unix,addr.path={}", self.socket.display())
    }

    fn host(&self, place: &Place) -> Consumer {
        Consumer::boot_on_network(&self.netdev(), 2, &place.at("ram"), 512)
    }

    /// An appliance on it, with these words on its command line.
    fn appliance(&self, dimm: &Dimm, words: &str) -> ApplianceBuilder {
        let netdev = format!("stream,server=off,addr.type=unix,addr.path={}", self.socket.display());
        let words = format!("net0={}/24 {words}", self.address);
        ApplianceBuilder::new().dimm(dimm).with(&["--net", &netdev, "--append", &words])
    }
}

/// Serves the disk to one host at this address, and returns its subsystem's name.
fn serve(appliance: &mut Running, address: &str) -> String {
    let served = appliance.ask("export pmem0s --nvme");
    assert_eq!((&served["port"], &served["addresses"]), (&json!(4420), &json!([address])), "{served}");
    let nqn = served["nqn"].as_str().expect("a name").to_owned();
    appliance.ask(&format!("allow {HOST_NQN}"));
    nqn
}

/// Connects to an appliance's disk, as soon as it is served. When the appliance is gone, the host knows within seconds; when it
/// is back, too.
fn connect(linux: &mut Consumer, address: &str, nqn: &str) {
    linux.run(&format!(
        "for i in $(seq 50); do nvme connect -t tcp -a {address} -s 4420 -n {nqn} --reconnect-delay=1 --keep-alive-tmo=2 \
         && exit 0; sleep 0.2; done; exit 1"
    ));
}

/// An appliance that serves a new disk, and the disk's NQN.
fn serving(link: &Link, dimm: &Dimm) -> (Running, String) {
    let mut appliance = link.appliance(dimm, "").boot();
    appliance.ask("create-namespace -l 4096");
    let nqn = serve(&mut appliance, APPLIANCE);
    (appliance, nqn)
}

#[test]
fn linux_uses_an_appliances_disk_over_the_network() {
    let (place, dimm) = (Place::new(), Dimm::blank(96 * MIB));
    let link = Link::new(&place);
    let mut linux = link.host(&place);
    let (mut appliance, nqn) = serving(&link, &dimm);
    // A node that serves nothing listens on no port; it has seen within a second that it serves now.
    let address = format!("-t tcp -a {APPLIANCE} -s 4420");
    linux.run(&format!(
        "for i in $(seq 50); do nvme discover {address} >/tmp/log 2>&1 && exit 0; sleep 0.2; done; cat /tmp/log; exit 1"
    ));
    for port in [4420, 8009] {
        let log = linux.run(&format!("nvme discover -t tcp -a {APPLIANCE} -s {port}"));
        for line in [&format!("subnqn:  {nqn}"), &format!("traddr:  {APPLIANCE}"), &"trsvcid: 4420".to_owned()] {
            assert!(log.contains(line), "{line}: {log}");
        }
    }
    linux.run(&format!("nvme connect-all {address}"));
    let name = disk(&mut linux);
    assert_eq!(linux.run(&format!("cat /sys/block/{name}/wwid")), format!("uuid.{}", nqn.rsplit(':').next().unwrap()));
    linux.run(&format!("fio {VERIFY} --filename=/dev/{name} --rw=randwrite --bs=4k --size=16M"));
    linux.run(&format!("fio {VERIFY} --filename=/dev/{name} --rw=randrw --bsrange=4k-256k --size=24M"));
    linux.run(&format!("blkdiscard -o 0 -l 8388608 /dev/{name}"));
    linux.run(&format!("mkfs.ext4 -q /dev/{name} && mount /dev/{name} /mnt && cp /bin/busybox /mnt && umount /mnt"));

    // The appliance tells who uses it, and takes the disk away from nobody by accident.
    let status = appliance.ask("status");
    let hosts = status["nvme"][0]["hosts"].as_array().expect("a list");
    assert!(hosts.iter().all(|host| host == HOST_NQN) && !hosts.is_empty(), "{status}");
    assert!(appliance.refused("write pmem0s 0 --fill 1").1.contains("in use"));
    assert!(appliance.refused("disable-namespace namespace0.0").1.contains("unexport pmem0s --nvme"));
    // It is checked while it is in use: what the host asks for waits.
    linux.start("load", &format!("fio {VERIFY} --filename=/dev/{name} --offset=64M --rw=randwrite --bs=4k --size=8M"));
    let check = appliance.ask("check-namespace namespace0.0");
    assert_eq!(check["findings"], json!([]));
    linux.finish("load");

    linux.run("nvme disconnect-all");
    for digests in ["-g", "-g -G"] {
        linux.run(&format!("nvme connect {address} -n {nqn} {digests}"));
        let name = disk(&mut linux);
        linux.run(&format!("mount /dev/{name} /mnt && cmp /bin/busybox /mnt/busybox && umount /mnt"));
        linux.run("nvme disconnect-all");
    }
    let (refused, _) = linux.try_run(&format!("nvme connect {address} -n {nqn} -q nqn.stranger"));
    assert_ne!(refused, 0);
    linux.run("dmesg | grep 'is not allowed, hostnqn: nqn.stranger'");

    // Denied, and withdrawn: the host's disk goes.
    linux.run(&format!("nvme connect {address} -n {nqn} --ctrl-loss-tmo=1 --reconnect-delay=1"));
    disk(&mut linux);
    appliance.ask(&format!("deny {HOST_NQN}"));
    linux.run("for i in $(seq 300); do ls /dev/nvme*n1 2>/dev/null || exit 0; sleep 0.1; done; exit 1");
    appliance.ask("unexport pmem0s --nvme");
    appliance.ask("disable-namespace namespace0.0");
    assert_eq!(linux.run("dmesg | grep -E 'digest error|EXT4-fs error' || true"), "");
    appliance.power_off();
}

#[test]
fn an_appliance_that_loses_its_power_under_a_hosts_load_keeps_what_it_acknowledged() {
    let (place, dimm) = (Place::new(), Dimm::blank(96 * MIB));
    let link = Link::new(&place);
    let mut linux = link.host(&place);
    let (appliance, nqn) = serving(&link, &dimm);
    connect(&mut linux, APPLIANCE, &nqn);
    let name = disk(&mut linux);
    // What it serves, and to whom, is on its command line from the start.
    let words = format!("nvme.export=pmem0s nvme.allow={HOST_NQN}");
    let mut running = Some(appliance);
    outlives(&mut linux, &name, 2, || {
        running.take().expect("it runs").cut();
        running = Some(link.appliance(&dimm, &words).boot());
    });
    let mut appliance = running.expect("it runs");
    linux.run("nvme disconnect-all");
    assert_eq!(appliance.ask("check-namespace namespace0.0")["findings"], json!([]));
    appliance.power_off();
}

/// The controller of a subsystem, once its disk is there.
fn controller(linux: &mut Consumer, nqn: &str) -> String {
    let find = format!("grep -lx {nqn} /sys/class/nvme/nvme*/subsysnqn | cut -d/ -f5");
    linux.run(&format!(
        "for i in $(seq 300); do c=$({find}); [ -b /dev/${{c}}n1 ] && echo $c && exit 0; sleep 0.1; done; exit 1"
    ))
}

/// Has a mirror go on without this controller's disk: otherwise it waits for it as long as the host tries to reach it.
fn fail_soon(linux: &mut Consumer, controller: &str) {
    linux.run(&format!("echo 2 >/sys/class/nvme/{controller}/fast_io_fail_tmo"));
}

/// Waits until the host has reached a controller again.
fn wait_for(linux: &mut Consumer, controller: &str) {
    let live = format!("grep -qx live /sys/class/nvme/{controller}/state");
    linux.run(&format!("for i in $(seq 600); do {live} && exit 0; sleep 0.1; done; exit 1"));
}

/// Whether this Linux's md breaks connections by its bitmap: it writes pages beyond it, up to the optimal size that a disk names,
/// and nvme-tcp cannot send these. From 6.5, which sends pages without a copy, until 6.11 (commit ab99a87542f1).
fn breaks_by_bitmaps(linux: &mut Consumer) -> bool {
    let release = linux.run("uname -r");
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    ((6, 5)..(6, 11)).contains(&(numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
}

#[test]
fn a_raid_over_two_targets_outlives_one_of_them() {
    let (place, turn) = (Place::new(), workspace::machine_turn());
    let mut targets = ["a", "b"].map(|name| Target::start(&place.at(name), "any", free_port()));
    let mut linux = initiator(&place);
    let mut controllers = Vec::new();
    for target in &targets {
        linux.run(&format!("nvme connect {} -n {} --reconnect-delay=1", target.address(), target.nqn));
        let name = controller(&mut linux, &target.nqn);
        fail_soon(&mut linux, &name);
        controllers.push(name);
    }
    let [first, second] = [0, 1].map(|at| format!("/dev/{}n1", controllers[at]));
    // Without a bitmap a half that comes back gets everything.
    let (bitmap, add) = if breaks_by_bitmaps(&mut linux) { ("none", "--add") } else { ("internal", "--re-add") };
    // Both are blank, hence alike.
    linux.run(&format!(
        "mdadm --create /dev/md0 --run --level=1 --raid-devices=2 --bitmap={bitmap} --assume-clean {first} {second} \
         && mkfs.ext4 -q /dev/md0 && mount /dev/md0 /mnt"
    ));
    let load = format!("fio {VERIFY} --rw=randwrite --bs=4k --size=12M --directory=/mnt --numjobs=2");
    linux.start("load", &format!("trap '' PIPE; {load}"));
    linux.run("sleep 1");
    targets[0].kill();
    assert!(linux.is_busy("load"), "it is killed under load");
    linux.finish("load");
    let missing = |linux: &mut Consumer| linux.run("cat /sys/block/md0/md/degraded");
    assert_eq!(missing(&mut linux), "1", "the array goes on with the other half");

    // It comes back, is added again, and gets what it missed.
    targets[0].restart();
    wait_for(&mut linux, &controllers[0]);
    linux.run(&format!("mdadm /dev/md0 --remove {first} && mdadm /dev/md0 {add} {first}"));
    eventually("it has what it missed", || missing(&mut linux) == "0");
    // Both halves are the same, and each alone has it all.
    linux.run("sync; echo check >/sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true");
    assert_eq!(linux.run("cat /sys/block/md0/md/mismatch_cnt"), "0");
    linux.run(&format!("mdadm /dev/md0 --fail {second} && echo 3 >/proc/sys/vm/drop_caches"));
    linux.run(&format!("{load} --verify_only"));
    linux.run("umount /mnt && e2fsck -fn /dev/md0");
    drop(turn);
}
