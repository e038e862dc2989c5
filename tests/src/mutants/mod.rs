//! Seeded defects: patches of the real code, each of which some test must notice.
//!
//! `tests/mutants/NAME.patch` begins with a line that says what it breaks, and a line `judge: NAME` that names the judge
//! that is asked first; behind them stands a unified diff. [`patch`] applies it to a copy of the sources
//! under the target directory ([`copy`]), where everything is built incrementally and no other build is disturbed;
//! [`judge`] builds and runs tests there. There are two such copies, each with its own mutants: of one package's tests, which
//! are built from little, and of those of the whole.

pub mod copy;
pub mod judge;
pub mod patch;

use std::fs;
use std::path::PathBuf;

use crate::workspace;
use judge::{JUDGES, Judge, Verdict};
use patch::Patch;

/// A defect.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Its file's name, without the ending.
    pub name: String,
    /// What it breaks.
    pub what: String,
    /// Who is asked first.
    pub first: &'static Judge,
    /// The change.
    pub patch: Patch,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A test noticed it.
    Killed(String),
    /// The judge passed.
    Survived,
    /// It could not be tried: the patch does not apply, or what it leaves does not compile.
    Untried(String),
}

/// All mutants, by name.
///
/// # Panics
/// If one of the files is not as this module's documentation describes.
#[must_use]
pub fn all() -> Vec<Mutant> {
    let folder = workspace::top().join("tests/mutants");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(read).collect()
}

fn read(path: &PathBuf) -> Mutant {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let mut lines = text.lines();
    let what = lines.next().unwrap_or_default().to_owned();
    let judge = lines.next().and_then(|line| line.strip_prefix("judge: "));
    let first = JUDGES.iter().find(|known| Some(known.name) == judge);
    let first = first.unwrap_or_else(|| panic!("{name}: the second line names no judge"));
    let patch = Patch::parse(lines).unwrap_or_else(|why| panic!("{name}: {why}"));
    Mutant { name, what, first, patch }
}

/// Tries mutants, in two copies at a time, and reports what became of each as soon as it is known.
///
/// # Errors
/// What is wrong with the sources without any defect.
///
/// # Panics
/// If files cannot be copied.
pub fn try_all(mutants: &[Mutant], tell: &(dyn Fn(&Mutant, Fate) + Sync)) -> Result<(), String> {
    let (of_all, of_one): (Vec<_>, Vec<_>) = mutants.iter().partition(|mutant| mutant.first.needs_all());
    let side = |copy, mutants: &[&Mutant]| {
        if mutants.is_empty() {
            return Ok(());
        }
        let trial = Trial::new(copy, mutants)?;
        mutants.iter().for_each(|mutant| tell(mutant, trial.run(mutant)));
        Ok(())
    };
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| side("whole", &of_all));
        let result = side("parts", &of_one);
        beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(result)
    })
}

/// Tries mutants, one after the other, in one copy of the sources.
#[derive(Debug)]
struct Trial {
    copy: copy::Copy,
    /// How long each of the judges takes without a defect; it is given several times that.
    baseline: Vec<(&'static str, std::time::Duration)>,
}

impl Trial {
    /// Copies the sources, and sees to it that the judges that `mutants` name first find nothing wrong with them. The
    /// error is what they find wrong.
    fn new(copy: &str, mutants: &[&Mutant]) -> Result<Self, String> {
        let copy = copy::Copy::refresh(copy);
        let mut baseline = Vec::new();
        for judge in JUDGES.iter().filter(|judge| mutants.iter().any(|mutant| mutant.first == *judge)) {
            let begin = std::time::Instant::now();
            match judge.ask(&copy, judge::PATIENCE) {
                Verdict::Passed => baseline.push((judge.name, begin.elapsed())),
                Verdict::Noticed(by) => return Err(format!("{by} fails without any defect")),
                Verdict::NotBuilt(why) => return Err(format!("{} does not build: {why}", judge.name)),
            }
        }
        Ok(Self { copy, baseline })
    }

    /// Applies one mutant, asks the judges until one notices, and takes it back.
    fn run(&self, mutant: &Mutant) -> Fate {
        if let Err(why) = self.copy.apply(&mutant.patch) {
            return Fate::Untried(why);
        }
        let fate = self.ask(mutant);
        self.copy.restore(&mutant.patch);
        fate
    }

    fn ask(&self, mutant: &Mutant) -> Fate {
        let others = JUDGES.iter().filter(|judge| *judge != mutant.first);
        for judge in [mutant.first].into_iter().chain(others) {
            let usual = self.baseline.iter().find(|(name, _)| *name == judge.name).map(|(_, time)| *time);
            let patience = usual.map_or(judge::PATIENCE, |time| judge::PATIENCE.min(time * 4 + judge::PATIENCE / 10));
            match judge.ask(&self.copy, patience) {
                Verdict::Passed => {}
                Verdict::Noticed(by) => return Fate::Killed(by),
                Verdict::NotBuilt(why) => return Fate::Untried(why),
            }
        }
        Fate::Survived
    }
}
