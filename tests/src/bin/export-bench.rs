//! How fast a Linux machine's fio is on our disks, beside qemu-storage-daemon's vhost-user-blk export of raw files: the
//! same machine, the same run, turn by turn.
//!
//! `export-bench [--seconds 3] [--rounds 5] [--cpus 2] [--trusted]`
//!
//! Prints for each point (random reads and writes of 4 KiB; queue depth 1 and 32; one job on one queue, two on two) the
//! median of the rounds: operations a second with the least and the most, and latencies in microseconds. Everything lies
//! under /dev/shm. Compare ratios in one run, not numbers of two; the load at the start and at the end is printed, too.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use host::appliance::die_with_parent;
use serde_json::Value;
use tests::linux::{Consumer, Disk};
use tests::machine::ApplianceBuilder;

const DISK_BYTES: u64 = 256 << 20;

/// Measures exports beside qemu-storage-daemon's.
#[derive(Debug, Parser)]
struct Options {
    /// How long each run takes
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// How often each point is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The appliance's processors
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Lets signals go from QEMU to QEMU, without a way through untornctl
    #[arg(long)]
    trusted: bool,
    /// Only points whose name has this in it, such as "randread depth 1,"
    #[arg(long, default_value = "")]
    only: String,
}

/// The latencies that are shown, in fio's words.
const PERCENTS: [&str; 5] = ["50.000000", "90.000000", "95.000000", "99.000000", "99.900000"];

/// A run of fio.
#[derive(Clone, Copy, Debug)]
struct Run {
    iops: f64,
    /// Microseconds at each of [`PERCENTS`].
    latency: [f64; 5],
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Point {
    rw: &'static str,
    depth: u32,
    queues: u32,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} depth {}, {} queues", self.rw, self.depth, self.queues)
    }
}

/// A folder under /dev/shm that goes when we do, however that is, and qemu-storage-daemon on files in it.
struct Peer {
    folder: PathBuf,
    daemon: Child,
}

impl Peer {
    fn start() -> Self {
        let folder = Path::new("/dev/shm").join(format!("untorn-export-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("/dev/shm takes files");
        let mut command = Command::new("qemu-storage-daemon");
        for queues in [1, 2] {
            let (file, socket) = (folder.join(format!("raw{queues}")), folder.join(format!("peer{queues}")));
            File::create(&file).and_then(|file| file.set_len(DISK_BYTES)).expect("/dev/shm has room");
            command.arg("--blockdev").arg(format!("driver=file,node-name=file{queues},filename={}", file.display()));
            command.arg("--blockdev").arg(format!("driver=raw,node-name=raw{queues},file=file{queues}"));
            command.arg("--export").arg(format!(
                "type=vhost-user-blk,id=export{queues},node-name=raw{queues},writable=on,num-queues={queues},\
                 addr.type=unix,addr.path={}",
                socket.display()
            ));
        }
        die_with_parent(&mut command);
        let daemon = command.stdin(Stdio::null()).spawn().expect("qemu-storage-daemon starts");
        Self { folder, daemon }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn main() {
    let options = Options::parse();
    let peer = Peer::start();
    let at = |name: &str| peer.folder.join(name);
    let ram = at("ram");
    let mut machine = ApplianceBuilder::new().cpus(options.cpus);
    for queues in [1, 2] {
        let nvdimm = format!("{},size={}M", at(&format!("nvdimm{queues}")).display(), (DISK_BYTES >> 20) + 16);
        let socket = at(&format!("ours{queues}"));
        let trusted = if options.trusted { ",trusted" } else { "" };
        let export = format!("{},dev=pmem{}s,ram={},size=512M{trusted}", socket.display(), queues - 1, ram.display());
        machine = machine.nvdimm(&nvdimm).with(&["--vhost-user", &export]);
    }
    let mut appliance = machine.boot();
    for region in 0..2 {
        appliance.ask(&format!("create-namespace -r region{region}"));
    }
    let sockets = ["ours1", "ours2", "peer1", "peer2"].map(at);
    let begun = Instant::now();
    while !sockets.iter().all(|socket| socket.exists()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the sockets do not appear");
        sleep(Duration::from_millis(20));
    }
    let disks: Vec<Disk<'_>> =
        [1, 2, 1, 2].into_iter().zip(&sockets).map(|(queues, socket)| Disk { socket, queues }).collect();
    let mut linux = Consumer::boot(2, &ram, 512, &disks);
    // All blocks are there before anything is measured.
    for disk in ["vda", "vdb", "vdc", "vdd"] {
        linux.run(&format!("dd if=/dev/zero of=/dev/{disk} bs=1M count=255 oflag=direct 2>/dev/null"));
    }

    let load = || fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load at the start: {}", load().trim());
    let mut points = Vec::new();
    for queues in [1, 2] {
        for depth in [1, 32] {
            for rw in ["randread", "randwrite"] {
                points.push((Point { rw, depth, queues }, Vec::new(), Vec::new()));
            }
        }
    }
    points.retain(|(point, _, _)| point.to_string().contains(&options.only));
    for round in 0..options.rounds {
        for (point, ours, theirs) in &mut points {
            let [our, their] = if point.queues == 1 { ["vda", "vdc"] } else { ["vdb", "vdd"] };
            // Who comes first changes, so that what grows or shrinks with time hits both.
            if round % 2 == 0 {
                ours.push(measure(&mut linux, our, *point, options.seconds));
                theirs.push(measure(&mut linux, their, *point, options.seconds));
            } else {
                theirs.push(measure(&mut linux, their, *point, options.seconds));
                ours.push(measure(&mut linux, our, *point, options.seconds));
            }
        }
    }
    println!("load at the end: {}", load().trim());
    println!("median of {} rounds of {} s; latencies in us at 50, 90, 95, 99, 99.9 %", options.rounds, options.seconds);
    for (point, ours, theirs) in points {
        let ratio = median(ours.iter().map(|run| run.iops)) / median(theirs.iter().map(|run| run.iops));
        println!("{point}\n  untorn {}\n  qsd    {}\n  ratio  {ratio:.2}", shown(&ours), shown(&theirs));
    }
    let stats = appliance.ask("stats")["queues"].clone();
    println!("{stats}");
    drop(linux);
    appliance.power_off();
}

fn measure(linux: &mut Consumer, disk: &str, point: Point, seconds: u32) -> Run {
    let Point { rw, depth, queues } = point;
    // Each job on the CPU that its queue interrupts: else it is luck whose completions have to wake another one.
    let cpus = if queues == 1 {
        linux.run(&format!(
            "device=$(basename $(readlink -f /sys/block/{disk}/device)); \
             irq=$(sed -n \"s/^ *\\([0-9]*\\):.*$device-req.0\\$/\\1/p\" /proc/interrupts); \
             cat /proc/irq/$irq/effective_affinity_list"
        ))
    } else {
        "0-1".into()
    };
    let text = linux.run(&format!(
        "fio --name=bench --filename=/dev/{disk} --rw={rw} --bs=4k --direct=1 --ioengine=libaio --iodepth={depth} \
         --numjobs={queues} --cpus_allowed={cpus} --cpus_allowed_policy=split --thread --group_reporting --size=200M \
         --norandommap --randrepeat=0 --time_based --runtime={seconds} --ramp_time=500ms --output-format=json \
         --output=/tmp/fio && cat /tmp/fio"
    ));
    // It may have something to note before.
    let json = text.find('{').map_or("", |at| &text[at..]);
    let json: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("fio printed {text}: {error}"));
    let side = &json["jobs"][0][if rw == "randread" { "read" } else { "write" }];
    let latency = PERCENTS.map(|percent| side["clat_ns"]["percentile"][percent].as_f64().unwrap_or(f64::NAN) / 1000.0);
    Run { iops: side["iops"].as_f64().expect("fio counts"), latency }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn shown(runs: &[Run]) -> String {
    let iops = || runs.iter().map(|run| run.iops);
    let least = iops().fold(f64::INFINITY, f64::min);
    let most = iops().fold(0.0, f64::max);
    let latencies = [0, 1, 2, 3, 4].map(|at| format!("{:6.0}", median(runs.iter().map(|run| run.latency[at]))));
    format!("{:6.0} ({least:.0}-{most:.0}) {}", median(iops()), latencies.join(" "))
}
