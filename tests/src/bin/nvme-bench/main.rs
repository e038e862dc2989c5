//! How fast a Linux initiator's fio is on the appliance by NVMe/TCP, beside Linux's own target (nvmet-tcp on nd_btt) over
//! the same kind of NVDIMM: the same initiator, machines of the same shape, in turns in one run.
//!
//! `nvme-bench [--cpus 1] [--rounds 5] [--seconds 3] [--only 'randread 4k']`
//!
//! Prints tables: operations a second of each point (the median of the rounds, the least and the most) and the ratio;
//! latencies at queue depth 1; for each operation the frames on the link and the time of the target's CPUs, QEMU's
//! included; the time from power-on to the first Connect that is answered; the sizes of what is booted and the least
//! memory that it serves in. Everything lies under /dev/shm. Compare ratios in one run, not numbers of two; the load of
//! this machine at the start and at the end is printed, too. (What the target costs without machines: `nvme-native`,
//! package `bench`.)

mod fio;
mod machines;
mod power_on;

use std::fs;

use clap::Parser;
use tests::linux::{linux_kernel, linux_target};
use tests::place::Place;
use tests::workspace;

use fio::{Point, Run, median, spread};
use machines::{Peer, Rig};
use power_on::{PATIENCE, SHORT_PATIENCE};

/// Measures the appliance's NVMe/TCP beside Linux's.
#[derive(Debug, Parser)]
struct Options {
    /// The processors of each machine
    #[arg(long, default_value_t = 1)]
    cpus: u16,
    /// How often each point is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each run takes
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Only points whose name has this in it, such as "randread 4k depth 1", and nothing of power-on and memory
    #[arg(long)]
    only: Option<String>,
}

fn main() {
    let options = Options::parse();
    let place = Place::new();
    println!("load at the start: {}", load());
    let media = machines::media(&place);
    if options.only.is_none() {
        power_on(&place, &media, &options);
        sizes(&place);
    }
    let mut rig = Rig::start(&place, &media, options.cpus);
    let only = options.only.as_deref().unwrap_or("");
    let points = Point::ALL.iter().filter(|point| point.to_string().contains(only));
    let mut points: Vec<(Point, [Vec<Run>; 2])> = points.map(|point| (*point, [Vec::new(), Vec::new()])).collect();
    for round in 0..options.rounds {
        for (point, runs) in &mut points {
            // Which one comes first changes, so that what grows or shrinks with time hits both.
            let order = if round % 2 == 0 { Peer::ALL } else { [Peer::Linux, Peer::Untorn] };
            for peer in order {
                runs[peer as usize].push(rig.measure(peer, *point, options.seconds));
            }
        }
        eprintln!("round {} of {}", round + 1, options.rounds);
    }
    println!("load at the end: {}", load());
    println!("{} CPUs each, median of {} rounds of {} s (least-most)\n", options.cpus, options.rounds, options.seconds);
    show(&points);
    rig.end();
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

/// Prints the points, as tables of Markdown.
fn show(points: &[(Point, [Vec<Run>; 2])]) {
    println!("| | untorn, operations/s | Linux, operations/s | ratio |\n|---|---|---|---|");
    for (point, [ours, theirs]) in points {
        let of = |run: &Run| run.iops;
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.iops / theirs.iops);
        let (ours, theirs) = (spread(ours.iter().map(of), 0), spread(theirs.iter().map(of), 0));
        println!("| {point} | {ours} | {theirs} | {} |", spread(ratios, 2));
    }
    println!(
        "\n| at depth 1, us | untorn p50 | Linux p50 | ratio | untorn p99 | Linux p99 |\n|---|---|---|---|---|---|"
    );
    for (point, [ours, theirs]) in points.iter().filter(|(point, _)| point.depth == 1) {
        let at = |runs: &[Run], percent: usize| spread(runs.iter().map(|run| run.latency_us[percent]), 0);
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours.latency_us[0] / theirs.latency_us[0]);
        let (p50, p99) = ((at(ours, 0), at(theirs, 0)), (at(ours, 1), at(theirs, 1)));
        println!("| {point} | {} | {} | {} | {} | {} |", p50.0, p50.1, spread(ratios, 2), p99.0, p99.1);
    }
    println!(
        "\n| of an operation | frames | target, us of CPU | of it devices | initiator, us of CPU | of it devices |"
    );
    println!("|---|---|---|---|---|---|");
    type Value = fn(&Run) -> f64;
    let values: [Value; 4] =
        [|run| run.target_us[0], |run| run.target_us[1], |run| run.initiator_us[0], |run| run.initiator_us[1]];
    for (point, runs) in points {
        for (runs, name) in runs.iter().zip(["untorn", "Linux"]) {
            let frames = median(runs.iter().map(|run| run.frames));
            let [target, target_devices, initiator, initiator_devices] =
                values.map(|value| median(runs.iter().map(value)));
            println!(
                "| {point}, {name} | {frames:.1} | {target:.0} | {target_devices:.0} | {initiator:.0} | {initiator_devices:.0} |"
            );
        }
    }
}

/// Prints how long each takes to come up, and the least memory in which it does.
fn power_on(place: &Place, media: &[std::path::PathBuf; 2], options: &Options) {
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..options.rounds {
        for peer in Peer::ALL {
            let taken = power_on::time(peer, place, &media[peer as usize], options.cpus, machines::MEBIBYTES, PATIENCE);
            let taken = taken.unwrap_or_else(|| panic!("{peer:?} does not serve with all its memory"));
            seconds[peer as usize].push(taken.as_secs_f64());
        }
    }
    let [ours, theirs] = seconds.map(|seconds| spread(seconds.into_iter(), 2));
    println!("| | untorn | Linux |\n|---|---|---|\n| power-on to the first Connect, s | {ours} | {theirs} |");
    let [ours, theirs] = Peer::ALL.map(|peer| {
        let media = &media[peer as usize];
        let serves = |size: &u64| power_on::time(peer, place, media, options.cpus, *size, SHORT_PATIENCE).is_some();
        let least = power_on::MEBIBYTES.into_iter().take_while(serves).last();
        least.map_or("none".into(), |size| size.to_string())
    });
    println!("| the least memory that it answers in, MiB | {ours} | {theirs} |");
}

/// Prints the sizes of what is booted.
fn sizes(place: &Place) {
    let packed = |path: &std::path::Path| {
        let bytes = workspace::run(std::process::Command::new("gzip").args(["-9", "-c"]).arg(path)).len();
        let plain = fs::metadata(path).expect("it is there").len();
        format!("{:.1} ({:.1})", plain as f64 / f64::from(1 << 20), bytes as f64 / f64::from(1 << 20))
    };
    let image = place.at("image");
    // QEMU loads no names and lines of it.
    let whole = workspace::target().join("release/untorn");
    workspace::run(std::process::Command::new("strip").arg("-o").arg(&image).arg(whole));
    let ours = packed(&image);
    let (kernel, initrd) = (packed(&linux_kernel().with_file_name("vmlinuz")), packed(&linux_target()));
    println!("| image, MiB (by gzip) | {ours} | kernel {kernel}, initramfs {initrd} |\n");
}
