//! Tries the seeded defects in tests/mutants: `NAME killed by WHAT` or `NAME SURVIVED`, a line each.
//!
//! `mutants [NAME…]`; exits 1 if one survives or cannot be tried, 2 if there is none of that name or the sources fail
//! as they are.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::mutants::{Fate, Mutant, all, try_all};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mutants: Vec<Mutant> =
        all().into_iter().filter(|mutant| wanted.is_empty() || wanted.contains(&mutant.name)).collect();
    if mutants.is_empty() || mutants.len() < wanted.len() {
        eprintln!("no mutant of that name in tests/mutants");
        return ExitCode::from(2);
    }
    let killed = AtomicUsize::new(0);
    let tell = |mutant: &Mutant, fate| match fate {
        Fate::Killed(by) => {
            killed.fetch_add(1, Ordering::Relaxed);
            println!("{} killed by {by}", mutant.name);
        }
        Fate::Survived => println!("{} SURVIVED ({})", mutant.name, mutant.what),
        Fate::Untried(why) => println!("{} UNTRIED: {why}", mutant.name),
    };
    if let Err(why) = try_all(&mutants, &tell) {
        eprintln!("{why}");
        return ExitCode::from(2);
    }
    let killed = killed.into_inner();
    println!("{killed} of {} killed", mutants.len());
    if killed == mutants.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
