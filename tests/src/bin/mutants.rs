//! Tries the seeded defects in tests/mutants: `NAME killed by WHAT` or `NAME SURVIVED`, a line each.
//!
//! `mutants [NAME…]`; exits 1 if one survives or cannot be tried, 2 if there is none of that name or the sources fail
//! as they are.

use std::process::ExitCode;
use tests::mutants::{Fate, Mutant, Trial, all};

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mutants: Vec<Mutant> =
        all().into_iter().filter(|mutant| wanted.is_empty() || wanted.contains(&mutant.name)).collect();
    if mutants.is_empty() || mutants.len() < wanted.len() {
        eprintln!("no mutant of that name in tests/mutants");
        return ExitCode::from(2);
    }
    let trial = match Trial::new(&mutants) {
        Ok(trial) => trial,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let mut killed = 0;
    for mutant in &mutants {
        match trial.run(mutant) {
            Fate::Killed(by) => {
                killed += 1;
                println!("{} killed by {by}", mutant.name);
            }
            Fate::Survived => println!("{} SURVIVED ({})", mutant.name, mutant.what),
            Fate::Untried(why) => println!("{} UNTRIED: {why}", mutant.name),
        }
    }
    println!("{killed} of {} killed", mutants.len());
    if killed == mutants.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
