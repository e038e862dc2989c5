//! Measures how fast untorn is, beside others, and writes the tables and plots of `docs/speed.md`.
//!
//! `cargo run -p tests --bin speed -- [--peer 'PROGRAM …'] [--rounds 7] [--seconds 0.25] [--only host|image] [--trial]`
//!
//! It takes less than ten minutes, in which nothing else may run on the machine; the page tells how loaded it was. Writes
//! `docs/speed.md` between its marks, and `docs/speed/`: `results-host.csv`, `results-image.csv`, and the plots. With
//! `--trial` all of that goes to `target/speed` instead.

mod beside;
mod figure;
mod image;
mod page;
mod plot;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::{Parser, ValueEnum};
use tests::workspace;

use beside::{Effort, SECTORS, THREADS};
use figure::{Figure, Point, Results};
use image::{ATTACHED, CPUS, Image, MIXES};

/// Measures how fast untorn is, beside others.
#[derive(Debug, Parser)]
struct Options {
    /// Another engine's program and its arguments, in which {bs}, {mib}, {th} and {secs} stand for the bytes of a sector, the
    /// file's MiB, the threads and the seconds; it prints lines as sector-bench does (repeatable)
    #[arg(long)]
    peer: Vec<String>,
    /// How often each point is measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// How long each load of a host's round lasts
    #[arg(long, default_value_t = 0.25)]
    seconds: f64,
    /// Only one of the two parts
    #[arg(long)]
    only: Option<Part>,
    /// Leave docs as they are, and write to target/speed
    #[arg(long)]
    trial: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// sector-bench beside peers, on this machine
    Host,
    /// The image beside a Linux, under TCG
    Image,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let before = load();
    let effort = Effort { rounds: options.rounds.max(1), seconds: options.seconds };
    let docs = workspace::top().join("docs");
    let to = if options.trial { workspace::folder("speed") } else { docs.clone() };
    let plots = to.join("speed");
    fs::create_dir_all(&plots)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // By itself: together with `tests` it would have btt's feature `sim`.
    workspace::run(workspace::command(cargo).args(["build", "--quiet", "--locked", "--release", "--package", "bench"]));
    workspace::build();

    let mut page = fs::read_to_string(docs.join("speed.md"))?;
    if options.only != Some(Part::Image) {
        let results = beside::measure(&options.peer, effort)?;
        fs::write(plots.join("results-host.csv"), results.csv("host", "thousand_sectors_a_cpu_second"))?;
        page::put(&mut page, "host-run", &run(&options, effort, &before)?)?;
        page::put(&mut page, "targets", &page::targets(&results))?;
        page::put(&mut page, "host", &page::host(&results))?;
        plot_host(&plots, &results)?;
    }
    if options.only != Some(Part::Host) {
        let image = image::measure(effort)?;
        let attached: Vec<String> = ATTACHED.iter().map(|(_, mib)| attach(*mib)).collect::<Result<_, _>>()?;
        fs::write(plots.join("results-image.csv"), image.results.csv("image", "thousand_sectors_a_second"))?;
        page::put(&mut page, "image-run", &run(&options, effort, &before)?)?;
        page::put(&mut page, "image", &page::image(&image))?;
        page::put(&mut page, "attach", &page::attach(&image, &attached))?;
        plot_image(&plots, &image)?;
    }
    fs::write(to.join("speed.md"), page)?;
    println!("written: {}", to.join("speed.md").display());
    Ok(())
}

/// A line of `attach-bench`.
fn attach(mib: u64) -> Result<String, Box<dyn Error>> {
    let mut command = Command::new(workspace::target().join("release/attach-bench"));
    Ok(String::from_utf8(workspace::run(command.args(["--mib", &mib.to_string()])))?)
}

/// The load averages, as the system has them.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The load average of the last minute from which on a machine is too busy to be measured.
const BUSY: f64 = 0.5;

/// What ran where, and how busy the machine was.
fn run(options: &Options, effort: Effort, before: &str) -> Result<String, Box<dyn Error>> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let value = |key: &str| {
        let line = info.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, value)| value)
    };
    let cpus = std::thread::available_parallelism()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let qemu = std::env::var_os("QEMU").unwrap_or_else(|| "qemu-system-x86_64".into());
    let qemu = String::from_utf8(workspace::run(Command::new(qemu).arg("--version")))?;
    let name = |peer: &String| {
        let words: Vec<&str> = peer.split_whitespace().collect();
        let shown = |word: &&str| Path::new(word).file_name().map(|name| name.to_string_lossy().into_owned());
        format!("`{}`", words.iter().filter_map(shown).collect::<Vec<_>>().join(" "))
    };
    let peers: Vec<String> = options.peer.iter().map(name).collect();
    let busy = before.split(' ').next().and_then(|load| load.parse::<f64>().ok()).is_none_or(|load| load >= BUSY);
    let warning = "**The machine was busy with other things: these figures are worth little.**\n\n";
    Ok(format!(
        "{}{} (family {}, model {}), {cpus} CPUs, Linux {}, {}. Rounds: {}; loads of {} s on the host and 1 s in the image. Load \
         averages {before} at the start, {} at the end. Peers: {}.",
        if busy { warning } else { "" },
        value("model name"),
        value("cpu family"),
        value("model\t"),
        release.split(['-', '\n']).next().unwrap_or_default(),
        qemu.lines().next().unwrap_or_default(),
        effort.rounds,
        effort.seconds,
        load(),
        if peers.is_empty() { "none".into() } else { peers.join(", ") },
    ))
}

/// `1 thread`, `2 threads`.
fn of(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn plot_host(folder: &Path, results: &Results) -> Result<(), Box<dyn Error>> {
    let unit = "thousand sectors a second of CPU time";
    for (mix, name, title) in [
        ("randwrite", "writes", "Random writes"),
        ("randread", "reads", "Random reads"),
        ("rw7030", "mixed", "70 % reads"),
    ] {
        let mut rows = Vec::new();
        for sector in SECTORS {
            for threads in THREADS {
                let engines = page::host_rows(results, mix, sector, threads).into_iter();
                rows.extend(
                    engines
                        .map(|(engine, figure)| (format!("{engine}, {sector} B, {}", of(threads, "thread")), figure)),
                );
            }
        }
        plot::bars(&folder.join(format!("{name}.svg")), title, unit, &rows, None)?;
    }
    let met = page::ratios(results)
        .into_iter()
        .filter_map(|(what, least, ratio)| Some((format!("untorn's {what}"), ratio.times(1.0 / least?))));
    let rows: Vec<(String, Figure)> = met.collect();
    plot::bars(&folder.join("targets.svg"), "Ratios over their targets", "measured / wanted", &rows, Some(1.0))
}

fn plot_image(folder: &Path, image: &Image) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for (mix, _) in MIXES {
        for sector in SECTORS {
            for cpus in CPUS {
                for engine in ["untorn", "Linux nd_btt"] {
                    let figure = image.results.of(&Point::new(engine, mix, sector, cpus));
                    rows.extend(figure.map(|it| (format!("{engine}, {mix} {sector} B, {}", of(cpus, "CPU")), it)));
                }
            }
        }
    }
    let unit = "thousand sectors a second";
    plot::bars(&folder.join("image.svg"), "In the image and in Linux, under TCG", unit, &rows, None)
}
