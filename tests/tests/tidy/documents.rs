//! Documents name files, folders and items that are there, and .ci/run tests.

use std::fs;
use std::path::PathBuf;

use tests::workspace;

use super::{is, lines, none, sources, tree};

/// The documents that describe the project as it is. (CHANGELOG.md names what was.)
fn documents() -> Vec<PathBuf> {
    let documents = sources().into_iter().filter(|path| is(path, "md") && !path.ends_with("CHANGELOG.md"));
    let documents: Vec<_> = documents.collect();
    assert!(documents.len() >= 10, "the documents are found: {documents:?}");
    documents
}

/// What stands between back-quotes in a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The targets of a line's links that are files of the project.
fn linked(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with('#'))
}

/// Whether what a document quotes looks like a file or folder of the project: `btt/src`, `trap.rs`, `docs/blk.md`.
fn looks_like_a_path(quoted: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte);
    let ends = [".rs", ".md", ".sh", ".toml", ".ld"].iter().any(|end| quoted.ends_with(end));
    let known =
        quoted.split_once('/').is_some_and(|(first, _)| workspace::top().join(first).is_dir() && first != "target");
    quoted.bytes().all(plain) && !quoted.starts_with('/') && (ends || known)
}

#[test]
fn documents_name_files_that_are_there() {
    let (tree, mut missing, mut seen) = (tree(), Vec::new(), 0);
    for document in documents() {
        for (at, line) in lines(&document) {
            for name in quoted(&line).filter(|name| looks_like_a_path(name)) {
                seen += 1;
                // From the top, or where the text around it says.
                if !tree.iter().any(|path| path.ends_with(name.trim_start_matches("./"))) {
                    missing.push(format!("{at}: `{name}`"));
                }
            }
            for target in linked(&line) {
                seen += 1;
                if !document.parent().unwrap().join(target.split('#').next().unwrap()).exists() {
                    missing.push(format!("{at}: ({target})"));
                }
            }
        }
    }
    assert!(seen > 100, "names are found: {seen}");
    none("documents name what is not there", &missing);
}

/// The crates of ours that documents name items of.
const CRATES: [&str; 10] = ["boot", "btt", "drivers", "host", "kernel", "net", "nvdimm", "nvmf", "service", "tests"];

/// Whether a path such as `kernel::node::Machine` leads to something: modules as far as there are files, then words in
/// the last of them.
fn is_an_item(path: &str) -> bool {
    let mut names = path.split("::").peekable();
    let mut place = workspace::top().join(names.next().unwrap()).join("src");
    while let Some(name) = names.peek() {
        let (folder, file) = (place.join(name), place.join(format!("{name}.rs")));
        if !folder.is_dir() && !file.is_file() {
            break;
        }
        place = if folder.is_dir() { folder } else { file };
        names.next();
    }
    let texts: Vec<_> = sources().into_iter().filter(|path| path.starts_with(&place) && is(path, "rs")).collect();
    let words: Vec<_> = texts.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let is_word =
        |text: &str, name: &str| text.split(|it: char| !it.is_alphanumeric() && it != '_').any(|it| it == name);
    names.all(|name| words.iter().any(|text| is_word(text, name)))
}

#[test]
fn documents_name_items_that_are_there() {
    let (mut missing, mut seen) = (Vec::new(), 0);
    for document in documents() {
        for (at, line) in lines(&document) {
            for path in quoted(&line) {
                let plain = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_".contains(&byte));
                if plain && path.split_once("::").is_some_and(|(name, _)| CRATES.contains(&name)) {
                    seen += 1;
                    if !is_an_item(path) {
                        missing.push(format!("{at}: `{path}`"));
                    }
                }
            }
        }
    }
    assert!(seen > 20, "items are found: {seen}");
    none("documents name items that are not there", &missing);
}

#[test]
fn ci_names_tests_that_are_there() {
    let run = fs::read_to_string(workspace::top().join(".ci/run")).unwrap();
    // cargo is content where no test has the name.
    let (mut missing, mut seen) = (Vec::new(), 0);
    for (module, name) in run.split_whitespace().filter_map(|word| word.rsplit_once("::")) {
        seen += 1;
        let module = workspace::top().join("tests/tests/qemu").join(module.replace("::", "/"));
        let test = format!("#[test]\nfn {name}()");
        let has_it = |file| fs::read_to_string(file).is_ok_and(|text| text.contains(&test));
        if ![module.with_extension("rs"), module.join("mod.rs")].into_iter().any(has_it) {
            missing.push(name.to_owned());
        }
    }
    assert!(seen > 1, "names are found: {seen}");
    none(".ci/run names tests that are not there", &missing);
}
