//! A copy of the sources, to be broken and mended.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::patch::Patch;
use crate::workspace;

/// The copy, and its own build directory. Only one process holds it at a time.
#[derive(Debug)]
pub struct Copy {
    sources: PathBuf,
    target: PathBuf,
    _turn: File,
}

impl Copy {
    /// Makes the copy of this name as the sources are now. Only what differs is written, so that little is built again.
    ///
    /// # Panics
    /// If files cannot be copied.
    #[must_use]
    pub fn refresh(name: &str) -> Self {
        let name = format!("mutants/{name}");
        let folder = workspace::folder(&name);
        let turn = workspace::take_turn(&format!("{name}/turn"));
        let copy = Self { sources: folder.join("sources"), target: folder.join("target"), _turn: turn };
        let mut wanted = BTreeSet::new();
        walk(workspace::top(), &mut |path| {
            let inside = path.strip_prefix(workspace::top()).expect("below the top");
            copy.take(inside);
            wanted.insert(inside.to_owned());
        });
        if copy.sources.exists() {
            walk(&copy.sources, &mut |path| {
                if !wanted.contains(path.strip_prefix(&copy.sources).expect("below the copy")) {
                    fs::remove_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                }
            });
        }
        copy
    }

    /// Copies one file, if it differs.
    fn take(&self, inside: &Path) {
        let (from, to) = (workspace::top().join(inside), self.sources.join(inside));
        let bytes = fs::read(&from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        if fs::read(&to).is_ok_and(|found| found == bytes) {
            return;
        }
        let folder = to.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        fs::write(&to, bytes).unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    }

    /// Breaks the copy.
    ///
    /// # Errors
    /// Why the patch does not apply; the copy is whole again.
    pub fn apply(&self, patch: &Patch) -> Result<(), String> {
        patch.apply(&self.sources).inspect_err(|_| self.restore(patch))
    }

    /// Mends what a patch has broken.
    pub fn restore(&self, patch: &Patch) {
        for file in patch.files() {
            self.take(file);
        }
    }

    /// Cargo, in the copy.
    #[must_use]
    pub fn cargo(&self) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.sources).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// All files that are sources: no build's, and no repository's.
fn walk(folder: &Path, each: &mut impl FnMut(&Path)) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry").path();
        if !path.is_dir() {
            each(&path);
        } else if !path.ends_with(".git") && !path.ends_with("target") && !path.join("CACHEDIR.TAG").exists() {
            walk(&path, each);
        }
    }
}
