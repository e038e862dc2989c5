//! Tries targets on seeded mutations of their corpus, for a given time; no toolchain but the stable one is
//! needed. An input that does harm is kept, and the program ends there with its panic.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use fuzz::mutate::Mutator;
use fuzz::{TARGETS, Target, corpus, target};

/// One input takes at most this long; beyond it, the code does not come to an end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Feeds hostile bytes to whatever takes bytes from outside.
#[derive(Parser)]
struct Arguments {
    /// Which; without any, all of them in turn (--list tells which there are)
    targets: Vec<String>,
    /// How long, for each
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed; each 1000 inputs have their own, which is told with a failure
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these inputs, as they are
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// Where an input that does harm is kept
    #[arg(long, default_value = "target/fuzz")]
    keep: PathBuf,
    /// Name the targets, and end
    #[arg(long)]
    list: bool,
}

/// The input at hand: it is written down before the program ends.
static INPUT: Mutex<(String, Vec<u8>)> = Mutex::new((String::new(), Vec::new()));
static DONE: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        TARGETS.iter().for_each(|target| println!("{:8} {}", target.name, target.what));
        return ExitCode::SUCCESS;
    }
    let mut chosen: Vec<&Target> = Vec::new();
    for name in &arguments.targets {
        let Some(target) = target(name) else {
            eprintln!("no target {name}; --list tells which there are");
            return ExitCode::from(2);
        };
        chosen.push(target);
    }
    if chosen.is_empty() {
        chosen.extend(&TARGETS);
    }
    watch(arguments.keep.clone());
    for target in chosen {
        campaign(target, &arguments);
    }
    ExitCode::SUCCESS
}

/// Writes the input down when there is a panic, and when one takes too long.
fn watch(folder: PathBuf) {
    let (said, kept) = (std::panic::take_hook(), folder.clone());
    std::panic::set_hook(Box::new(move |panic| {
        said(panic);
        keep(&kept);
        std::process::exit(1);
    }));
    std::thread::spawn(move || {
        loop {
            let before = DONE.load(Ordering::Relaxed);
            std::thread::sleep(PATIENCE);
            if DONE.load(Ordering::Relaxed) == before {
                eprintln!("no end to an input after {} s", PATIENCE.as_secs());
                keep(&folder);
                std::process::exit(1);
            }
        }
    });
}

fn keep(folder: &Path) {
    let Ok(input) = INPUT.lock() else { return };
    let (name, bytes) = &*input;
    let path = folder.join(name);
    match std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes)) {
        Ok(()) => eprintln!("the input is {} ({} bytes)", path.display(), bytes.len()),
        Err(why) => eprintln!("{}: {why}\nthe input is {bytes:?}", path.display()),
    }
}

fn campaign(target: &Target, arguments: &Arguments) {
    let (begin, end) = (Instant::now(), Instant::now() + Duration::from_secs(arguments.seconds));
    let mut tried = 0_u64;
    let mut attempt = |name: String, bytes: Vec<u8>| {
        if let Ok(mut input) = INPUT.lock() {
            *input = (name, bytes.clone());
        }
        (target.run)(&bytes);
        tried += 1;
        DONE.fetch_add(1, Ordering::Relaxed);
    };
    if !arguments.replay.is_empty() {
        for path in &arguments.replay {
            let bytes = std::fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            attempt(format!("{}-replayed", target.name), bytes);
        }
        println!("{}: {} inputs", target.name, arguments.replay.len());
        return;
    }
    let corpus: Vec<Vec<u8>> = corpus::inputs(target).into_iter().map(|(_, bytes)| bytes).collect();
    for (number, bytes) in corpus.iter().enumerate() {
        attempt(format!("{}-corpus-{number}", target.name), bytes.clone());
    }
    let mut seed = arguments.seed;
    while Instant::now() < end {
        let mut mutator = Mutator::new(&corpus, target.bytes_max, seed);
        for number in 0..1000 {
            attempt(format!("{}-seed-{seed}-{number}", target.name), mutator.next_input());
            if number % 16 == 0 && Instant::now() >= end {
                break;
            }
        }
        seed += 1;
    }
    let seconds = begin.elapsed().as_secs();
    println!("{}: {tried} inputs in {seconds} s, no harm (seeds {} to {})", target.name, arguments.seed, seed - 1);
}
