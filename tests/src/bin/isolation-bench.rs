//! How long a consumer's reads take beside others that ask for all they can: the bound that steps and turns are to keep.
//!
//! `isolation-bench [--seconds 10] [--cpus 2]`
//!
//! One machine reads 4 KiB at depth 1 from a disk of its own. Beside it another machine, or an admin, makes noise, one kind after
//! the other. Prints for each kind the latencies of the reads in microseconds and how long `status` took at most. Everything lies
//! under /dev/shm; the load of the host is printed, too: on a busy one the numbers are its scheduler's.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::Value;
use tests::linux::{Consumer, Disk};
use tests::machine::{ApplianceBuilder, Running};

/// The queues of the machine that makes noise.
const QUEUES: u16 = 16;

/// Measures one consumer's reads beside others.
#[derive(Debug, Parser)]
struct Options {
    /// How long each kind of noise lasts
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// The appliance's processors
    #[arg(long, default_value_t = 2)]
    cpus: u32,
}

/// Who makes noise, and how.
#[derive(Clone, Copy)]
enum Noise {
    Nobody,
    /// A machine, by a line of a shell that ends when /tmp/stop is there.
    Machine(&'static str),
    /// An admin, by a command over and over.
    Admin(&'static str),
}

const KINDS: [(&str, Noise); 7] = [
    ("alone", Noise::Nobody),
    (
        "zeroes on 16 queues",
        Noise::Machine(
            "for job in $(seq 16); do (while [ ! -e /tmp/stop ]; do blkdiscard -z /dev/vda; done) & done; wait",
        ),
    ),
    (
        "writes of 15.75 MiB on 8 queues",
        Noise::Machine(
            "while [ ! -e /tmp/stop ]; do fio --name=noise --filename=/dev/vda --rw=write --bs=16128k --direct=1 --thread \
             --ioengine=libaio --iodepth=2 --numjobs=8 --size=63m --minimal >/dev/null; done",
        ),
    ),
    (
        "scattered writes of 4 KiB, 16 times 32 deep",
        Noise::Machine(
            "while [ ! -e /tmp/stop ]; do fio --name=noise --filename=/dev/vda --rw=randwrite --bs=4k --direct=1 --thread \
             --ioengine=libaio --iodepth=32 --numjobs=16 --size=60m --time_based --runtime=2 --minimal >/dev/null; done",
        ),
    ),
    ("long replies", Noise::Admin("read pmem1s 0 256")),
    ("a check of 4 GiB", Noise::Admin("check-namespace namespace1.0")),
    ("large trims", Noise::Admin("trim pmem1s 0 500000")),
];

/// A folder under /dev/shm that goes when we do.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() {
    let options = Options::parse();
    let folder = Folder(PathBuf::from(format!("/dev/shm/untorn-isolation-bench-{}", std::process::id())));
    fs::create_dir_all(&folder.0).expect("/dev/shm takes files");
    let at = |name: &str| folder.0.join(name);
    let mut machine = ApplianceBuilder::new().cpus(options.cpus);
    for (name, size) in [("quiet.img", "128M"), ("noisy.img", "128M"), ("admin.img", "4G")] {
        machine = machine.nvdimm(&format!("{},size={size}", at(name).display()));
    }
    // QEMU describes the third DIMM before the second one.
    for (number, name) in [(0, "quiet"), (2, "noisy")] {
        let (socket, ram) = (at(name), at(&format!("{name}.ram")));
        let export = format!("{},dev=pmem{number}s,ram={},size=512M", socket.display(), ram.display());
        machine = machine.with(&["--vhost-user", &export]);
    }
    let mut appliance = machine.boot();
    for (region, is_large) in [(0, false), (1, true), (2, false)] {
        let made = appliance.ask(&format!("create-namespace -r region{region}"));
        assert_eq!(
            made["size"].as_u64().is_some_and(|size| size > 1 << 30),
            is_large,
            "the order of the DIMMs: {made}"
        );
    }
    let [quiet, noisy] = ["quiet", "noisy"].map(at);
    let begun = Instant::now();
    while !(quiet.exists() && noisy.exists()) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the sockets do not appear");
        sleep(Duration::from_millis(20));
    }
    let mut reader = Consumer::boot(1, &at("quiet.ram"), 512, &[Disk { socket: &quiet, queues: 1 }]);
    let mut other = Consumer::boot(2, &at("noisy.ram"), 512, &[Disk { socket: &noisy, queues: QUEUES }]);
    reader.run("dd if=/dev/zero of=/dev/vda bs=1M count=100 oflag=direct 2>/dev/null");

    println!("load at the start: {}", load());
    println!("{:<46} reads/s     50 %     99 %   99.9 %  longest   status at most", "latencies in us");
    for (name, noise) in KINDS {
        println!("{name:<46} {}", measure(&mut appliance, &mut reader, &mut other, noise, options.seconds));
    }
    println!("load at the end: {}", load());
    drop((reader, other));
    appliance.power_off();
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn measure(appliance: &mut Running, reader: &mut Consumer, other: &mut Consumer, noise: Noise, seconds: u32) -> String {
    if let Noise::Machine(line) = noise {
        other.run("rm -f /tmp/stop");
        other.start("noise", line);
    }
    let over = AtomicBool::new(false);
    let (json, longest_status) = scope(|scope| {
        let admin = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                if let Noise::Admin(line) = noise {
                    appliance.ask(line);
                    continue;
                }
                let begun = Instant::now();
                appliance.ask("status");
                longest = longest.max(begun.elapsed());
                sleep(Duration::from_millis(100));
            }
            longest
        });
        let text = reader.run(&format!(
            "fio --name=quiet --filename=/dev/vda --rw=randread --bs=4k --direct=1 --ioengine=libaio --iodepth=1 \
             --thread --size=100m --norandommap --time_based --runtime={seconds} --ramp_time=1s --output-format=json \
             --output=/tmp/fio && cat /tmp/fio"
        ));
        over.store(true, Ordering::Relaxed);
        let longest = admin.join().expect("the admin does not panic");
        let json = text.find('{').map_or("", |at| &text[at..]);
        let json: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("fio printed {text}: {error}"));
        (json, longest)
    });
    if matches!(noise, Noise::Machine(_)) {
        other.run("touch /tmp/stop");
        other.finish("noise");
    }
    let read = &json["jobs"][0]["read"];
    let us = |value: &Value| value.as_f64().unwrap_or(f64::NAN) / 1000.0;
    let percent = |percent: &str| us(&read["clat_ns"]["percentile"][percent]);
    let status = match noise {
        Noise::Admin(_) => "-".to_owned(),
        _ => format!("{} ms", longest_status.as_millis()),
    };
    format!(
        "{:7.0} {:8.0} {:8.0} {:8.0} {:8.0}   {status}",
        read["iops"].as_f64().unwrap_or(f64::NAN),
        percent("50.000000"),
        percent("99.000000"),
        percent("99.900000"),
        us(&read["clat_ns"]["max"]),
    )
}
