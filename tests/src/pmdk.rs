//! PMDK's checker of BTTs, libpmempool: in a process of its own (`src/bin/pmdk-check.rs`), because it does not survive
//! every medium.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::dimm::Dimm;
use crate::workspace;

/// What it makes of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong.
    Consistent,
    /// Something is.
    NotConsistent,
    /// Something was, and PMDK reports it as repaired.
    Repaired,
    /// PMDK reports that it cannot repair it.
    CannotRepair,
    /// It could not go on.
    Error,
    /// It died.
    Died,
}

/// The version of the library's package; empty where there is none.
#[must_use]
pub fn version() -> String {
    workspace::set_up("tests");
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "libpmempool1"]).output();
    asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Whether it is there and knows BTTs: PMDK 2 has dropped them.
#[must_use]
pub fn knows_btts() -> bool {
    version().starts_with("1.")
}

/// Has a medium checked (with BTT 1.1, without labels), and repaired if `repair`: that changes it. `checker` is the built
/// `pmdk-check`.
///
/// # Panics
/// When the checker cannot be run at all.
#[must_use]
pub fn check(dimm: &Dimm, repair: bool, checker: &str) -> (Outcome, String) {
    let mut command = Command::new(checker);
    command.arg(if repair { "repair" } else { "check" }).arg(dimm.path());
    let output = command.output().expect("the checker starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let outcome = match output.status.code() {
        Some(0) => Outcome::Consistent,
        Some(1) => Outcome::NotConsistent,
        Some(2) => Outcome::Repaired,
        Some(3) => Outcome::CannotRepair,
        Some(4 | 5) => Outcome::Error,
        None => Outcome::Died,
        Some(other) => panic!("{checker} ended with {other}: {text}"),
    };
    (outcome, text.into_owned())
}

/// A copy of an NVDIMM, for one who changes what it is given.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn copy(dimm: &Dimm) -> Dimm {
    let copy = Dimm::blank(0);
    copy_sparse(dimm.path(), copy.path());
    copy
}

fn copy_sparse(from: &Path, to: &Path) {
    let image = fs::read(from).expect("an NVDIMM file is read");
    let file = fs::OpenOptions::new().write(true).open(to).expect("an NVDIMM file is opened");
    file.set_len(image.len() as u64).expect("an NVDIMM file gets its size");
    for (number, page) in (0..).zip(image.chunks(4096)) {
        if page.iter().any(|&byte| byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(&file, page, number * 4096).expect("an NVDIMM file is written");
        }
    }
}
