//! `check-namespace`: its arguments, and what it found.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::admin::grammar::Arguments;
use crate::admin::reply::{Object, Reply};
use crate::error::{AdminError, EXIT_DAMAGED};

/// `check-namespace`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckNamespace {
    /// The namespace's name.
    pub namespace: String,
    /// `-R`: repair what can be repaired.
    pub repair: bool,
    /// `-L`: write the flog anew.
    pub rewrite_log: bool,
    /// `-f`: make errors of the sectors that have no certain answer.
    pub force: bool,
    /// `--portable`: write out TRIM entries, and allow no new ones.
    pub portable: bool,
}

impl CheckNamespace {
    /// The arguments of `check-namespace`.
    ///
    /// # Errors
    /// Usage.
    pub(super) fn parse(line: &Arguments<'_>) -> Result<Self, AdminError> {
        Ok(Self {
            namespace: line.required(0)?.into(),
            repair: line.flag("repair"),
            rewrite_log: line.flag("rewrite-log"),
            force: line.flag("force"),
            portable: line.flag("portable"),
        })
    }
}

/// The reply to `check-namespace`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// The namespace.
    pub dev: String,
    /// How many arenas were looked at.
    pub arenas: u32,
    /// What is wrong, in the order of the media.
    pub findings: Vec<Finding>,
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// All that was wrong is right now.
    Repaired,
    /// Something wrong is still there.
    Damaged,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Repaired => "repaired",
            Self::Damaged => "damaged",
        }
    }
}

impl Check {
    /// What it comes to: the exit status is that of damage only if something wrong is still there.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.findings.is_empty() {
            true => Verdict::Sound,
            false if self.damaged() => Verdict::Damaged,
            false => Verdict::Repaired,
        }
    }

    /// Whether something wrong is still there.
    #[must_use]
    pub fn damaged(&self) -> bool {
        self.findings.iter().any(|finding| !finding.repaired)
    }
}

impl Reply for Check {
    fn text(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for finding in &self.findings {
            let repaired = if finding.repaired { "repaired" } else { "not repaired" };
            writeln!(out, "{}: {} ({repaired})", finding.place, finding.what)?;
        }
        let arenas = if self.arenas == 1 { "1 arena".into() } else { format!("{} arenas", self.arenas) };
        match self.findings.len() {
            0 => writeln!(out, "{}: {arenas} checked, nothing wrong", self.dev),
            1 => writeln!(out, "{}: {arenas} checked, 1 finding: {}", self.dev, self.verdict().as_str()),
            findings => {
                let verdict = self.verdict().as_str();
                writeln!(out, "{}: {arenas} checked, {findings} findings: {verdict}", self.dev)
            }
        }
    }

    fn json(&self, object: &mut Object<'_>) -> fmt::Result {
        object.members(self)?;
        object.member("verdict", &self.verdict())
    }

    fn exit_code(&self) -> u8 {
        if self.damaged() { EXIT_DAMAGED } else { 0 }
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong, in a sentence.
    pub what: String,
    /// Where: the arena, the structure and its index, the offset in the namespace.
    #[serde(rename = "where")]
    pub place: String,
    /// Whether it is right now.
    pub repaired: bool,
}
