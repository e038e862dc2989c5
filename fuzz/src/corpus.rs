//! The inputs that are kept: those written by hand, and those that a guided campaign found worth keeping.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Target;

/// The top of the project.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folders with a target's inputs.
#[must_use]
pub fn folders(target: &Target) -> Vec<PathBuf> {
    let own = top().join("fuzz/corpus").join(target.name);
    [own].into_iter().chain(target.more.iter().map(|folder| top().join(folder))).collect()
}

/// A target's inputs, with their names, always in the same order; the empty one is first.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for folder in folders(target) {
        let entries = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
        paths.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()));
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        (path.display().to_string(), bytes)
    };
    [("nothing".to_owned(), Vec::new())].into_iter().chain(paths.iter().map(read)).collect()
}
