//! The sources are tidy: each file opens with what it promises, nothing is unfinished, nothing names one machine, and documents
//! name what is there.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod documents;

use std::fs;
use std::path::{Path, PathBuf};

use tests::workspace;

/// rustfmt keeps code at 120; a comment may be a word longer.
const LINE_CHARS_MAX: usize = 130;

/// What no file contains. Put together here, for this file is one of them.
const NEVER: [&str; 12] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("../sha", "red"),
    concat!("crates", ".io"),
    concat!("deb.", "debian.org"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimple", "mented!("),
    concat!("#[ign", "ore"),
];

/// Every file and folder of the project, but for what is built.
fn tree() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![workspace::top().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with(".git") && !path.ends_with("target") && !path.join("CACHEDIR.TAG").exists() {
                if path.is_dir() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
    }
    found
}

/// The sources: text that people write.
fn sources() -> Vec<PathBuf> {
    let kinds = ["rs", "sh", "toml", "md", "ld"];
    let is_source = |path: &PathBuf| kinds.iter().any(|kind| is(path, kind)) || path.ends_with("run") && path.is_file();
    let is_fixture = |path: &PathBuf| path.iter().any(|part| part == "fixtures") && !is(path, "md");
    let sources: Vec<_> = tree().into_iter().filter(|path| is_source(path) && !is_fixture(path)).collect();
    assert!(sources.len() > 40, "the sources are found: {}", sources.len());
    sources
}

/// Each line with its place.
fn lines(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let name = path.strip_prefix(workspace::top()).unwrap().display().to_string();
    text.lines().enumerate().map(|(at, line)| (format!("{name}:{}", at + 1), line.to_owned())).collect()
}

fn is(path: &Path, kind: &str) -> bool {
    path.extension().is_some_and(|found| found == kind)
}

/// Fails with all offending lines at once.
fn none(what: &str, offending: &[String]) {
    assert!(offending.is_empty(), "{what}:\n{}", offending.join("\n"));
}

#[test]
fn every_rust_file_opens_with_what_it_promises() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|path| is(path, "rs") && !lines(path).first().is_some_and(|(_, line)| line.starts_with("//! ")))
        .map(|path| path.display().to_string())
        .collect();
    none("these open without a `//!` line", &silent);
}

#[test]
fn no_line_is_too_long() {
    let mut long = Vec::new();
    for path in sources().iter().filter(|path| !is(path, "md")) {
        for (at, line) in lines(path) {
            // A text that a test compares with, or a table's row, is easier to read whole.
            let whole = is(path, "rs") && (line.contains('"') || line.starts_with("//! |"));
            if line.chars().count() > LINE_CHARS_MAX && !whole {
                long.push(at);
            }
        }
    }
    none("lines that are too long", &long);
}

/// The group of a `use` item: 0 std, core and alloc; 1 other crates; 2 this crate, of which a file has the modules `own`.
fn group(item: &str, own: &[&str]) -> u8 {
    match item.split([':', ';', ' ']).next() {
        Some("std" | "core" | "alloc") => 0,
        Some("crate" | "super" | "self") => 2,
        root => {
            if root.is_some_and(|root| own.contains(&root)) {
                2
            } else {
                1
            }
        }
    }
}

/// Returns the places of `use` items that are not in order: each group after the one before it and a blank line.
fn disordered(lines: &[(String, String)]) -> Vec<String> {
    let own: Vec<&str> = lines
        .iter()
        .filter_map(|(_, line)| line.strip_suffix(';')?.rsplit_once("mod "))
        .filter(|(before, _)| before.is_empty() || before.starts_with("pub"))
        .map(|(_, name)| name)
        .collect();
    let (mut found, mut last, mut blank) = (Vec::new(), None, false);
    for (at, line) in lines {
        if let Some(item) = line.strip_prefix("use ") {
            let group = group(item, &own);
            if last.is_some_and(|last| group < last || (group > last) != blank) {
                found.push(at.clone());
            }
            (last, blank) = (Some(group), false);
        } else if line.is_empty() {
            blank = true;
        } else if ![" ", "}", "#[", "// "].iter().any(|start| line.starts_with(start)) {
            // Anything but the rest of an item, an attribute or a comment ends the block.
            last = None;
        }
    }
    found
}

#[test]
fn use_items_stand_in_three_groups() {
    let files = sources().into_iter().filter(|path| is(path, "rs"));
    none("these `use` items are out of order", &files.flat_map(|path| disordered(&lines(&path))).collect::<Vec<_>>());
    for (text, at) in [
        ("mod a;\n\nuse core::fmt;\n\nuse btt::{\n    Btt,\n};\nuse uuid::Uuid;\n\nuse a::A;\nuse crate::b::B;", None),
        ("use btt::Btt;\n\nuse core::fmt;", Some(3)),
        ("use core::fmt;\nuse btt::Btt;", Some(2)),
        ("use btt::Btt;\n\nuse uuid::Uuid;", Some(3)),
        ("mod a;\nuse crate::b::B;\n\nuse a::A;", Some(4)),
    ] {
        let lines: Vec<_> =
            text.lines().zip(1..).map(|(line, at): (_, u32)| (at.to_string(), line.to_owned())).collect();
        assert_eq!(disordered(&lines), Vec::from_iter(at.map(|at: u32| at.to_string())), "{text}");
    }
}

#[test]
fn nothing_is_unfinished_and_nothing_names_one_machine() {
    let mut found = Vec::new();
    for path in sources() {
        for (at, line) in lines(&path) {
            found.extend(NEVER.iter().filter(|never| line.contains(**never)).map(|never| format!("{at}: {never}")));
        }
    }
    none("these must not be said", &found);
}

#[test]
fn versions_stand_in_one_place() {
    let mut elsewhere = Vec::new();
    for path in sources().iter().filter(|path| path.ends_with("Cargo.toml") && path.parent() != Some(workspace::top()))
    {
        let mut dependencies = false;
        for (at, line) in lines(path) {
            dependencies = if line.starts_with('[') { line.contains("dependencies") } else { dependencies };
            let own = line.contains("workspace = true") || line.contains("path = ");
            if dependencies
                && line.contains('=')
                && !line.starts_with('#')
                && !line.contains(".workspace = true")
                && !own
            {
                elsewhere.push(at);
            }
        }
    }
    none("a version outside the top Cargo.toml", &elsewhere);
}
