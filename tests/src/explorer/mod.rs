//! Every state that a power cut can leave, recovered by the real code and judged. `docs/crash-proof.md` says what is
//! explored and why the pruning is sound.
//!
//! | module | one thing |
//! |---|---|
//! | [`frame`] | the first bytes of a medium, with a hash that follows each change |
//! | [`medium`] | what a cut left, as the medium of the code that recovers it |
//! | [`cut`] | all choices among the stores that a cut may lose, and the count of what has been judged |
//! | [`small`] | BTTs of a few sectors |
//! | [`promise`] | what must be true of a BTT after a cut |
//! | [`stage`], [`lanes`] | several CPUs in the real code, one step at a time, in every order |
//! | [`program`] | what those CPUs are to do |
//! | [`single`], [`creation`], [`losses`], [`repairs`], [`saving`] | one operation, cut anywhere |
//! | [`scenarios`] | what is explored, in which order |

pub mod creation;
pub mod cut;
pub mod frame;
pub mod lanes;
pub mod losses;
pub mod medium;
pub mod program;
pub mod promise;
pub mod repairs;
pub mod saving;
pub mod scenarios;
pub mod single;
pub mod small;
pub mod stage;

use std::fmt;

pub use cut::{Explorer, Scene, Shared};

/// Something to explore: each unit of it on its own, and the same way each time.
pub trait Scenario: Send + Sync {
    /// What it is called; a scenario of this name alone finds the same violations again.
    fn name(&self) -> String;

    /// Explores it.
    ///
    /// # Errors
    /// A state that breaks a promise, or that there is no more time.
    fn explore(&self, explorer: &mut Explorer<'_>) -> Result<(), Stop>;
}

/// Why an exploration ends early.
#[derive(Debug)]
pub enum Stop {
    /// There is no more time.
    Time,
    /// A promise is broken.
    Violation(Box<Violation>),
}

/// A broken promise.
#[derive(Debug)]
pub struct Violation {
    /// The scenario: `--scenario NAME` finds it again.
    pub scenario: String,
    /// What had happened when the power went, one event each.
    pub events: Vec<String>,
    /// What of the stores that could be lost had landed.
    pub landed: Vec<String>,
    /// Which promise, and how.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "violation in --scenario '{}'", self.scenario)?;
        for (number, event) in self.events.iter().enumerate() {
            writeln!(f, "  {number:3} {event}")?;
        }
        writeln!(f, "  power cut; of what no fence had covered:")?;
        for store in &self.landed {
            writeln!(f, "      {store}")?;
        }
        write!(f, "  {}", self.why)
    }
}
