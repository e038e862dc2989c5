//! Explores what power cuts leave, for a given time.
//!
//! `crash-explorer [--seconds N] [--seed S] [--scenario NAME] [--list]`: progress goes to stderr; the last line on
//! stdout is `crash states: N violations: M`. Exits with 1 if there is a violation.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use tests::explorer::scenarios::{Group, groups, named};
use tests::explorer::{Explorer, Shared, Stop, Violation};

/// Recovers and judges every state that a power cut can leave.
#[derive(Parser)]
struct Arguments {
    /// How long to explore; without it, until everything has been explored.
    #[arg(long)]
    seconds: Option<u64>,
    /// For the choices that are sampled: those of creation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One scenario: a name that --list gives, or a program such as 'n2 s2: 0,1 | 1'.
    #[arg(long)]
    scenario: Option<String>,
    /// How many threads; without it, one for each CPU.
    #[arg(long)]
    threads: Option<usize>,
    /// Prints the names of all scenarios, and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for scenario in groups().iter().flat_map(|group| &group.scenarios) {
            println!("{}", scenario.name());
        }
        return ExitCode::SUCCESS;
    }
    let groups = match &arguments.scenario {
        None => groups(),
        Some(name) => match named(name) {
            Some(scenario) => vec![Group { name: "one scenario".into(), scenarios: vec![scenario] }],
            None => {
                eprintln!("'{name}' is no scenario, nor a program such as 'n2 s2: 0,1 | 1'");
                return ExitCode::from(2);
            }
        },
    };
    let started = Instant::now();
    let shared = Shared::new(arguments.seconds.map(|seconds| started + Duration::from_secs(seconds)), arguments.seed);
    let threads = arguments.threads.or(std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let violations: Mutex<Vec<Violation>> = Mutex::default();
    for group in &groups {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| work(group, &next, &done, &shared, &violations));
            }
        });
        eprintln!(
            "{:7.1} s  {:9} states  {}: {} of {} scenarios",
            started.elapsed().as_secs_f64(),
            shared.states(),
            group.name,
            done.load(Ordering::Relaxed),
            group.scenarios.len(),
        );
        if shared.is_over() {
            break;
        }
    }
    let violations = violations.into_inner().unwrap_or_default();
    for violation in &violations {
        eprintln!("{violation}");
    }
    eprintln!(
        "cuts inside a recovery: {}; cuts with too many choices to try all: {}",
        shared.second_cuts(),
        shared.sampled_cuts()
    );
    println!("crash states: {} violations: {}", shared.states(), violations.len());
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes scenario after scenario of a group.
fn work(group: &Group, next: &AtomicUsize, done: &AtomicUsize, shared: &Shared, violations: &Mutex<Vec<Violation>>) {
    let mut explorer = Explorer::new(shared);
    while let Some(scenario) = group.scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
        match scenario.explore(&mut explorer) {
            Ok(()) => done.fetch_add(1, Ordering::Relaxed),
            Err(Stop::Time) => return,
            Err(Stop::Violation(violation)) => {
                shared.stop();
                if let Ok(mut all) = violations.lock() {
                    all.push(*violation);
                }
                return;
            }
        };
    }
}
