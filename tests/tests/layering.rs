//! The crates stand on each other as ARCHITECTURE.md draws it: nothing points up, and the pure ones stay pure.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::workspace;

/// Each crate, and the crates of ours that it may stand on.
const LAYERS: [(&str, &[&str]); 11] = [
    ("btt", &[]),
    // btt's own sources, for a model checker.
    ("btt-loom", &[]),
    ("btt-shuttle", &[]),
    ("nvdimm", &[]),
    ("service", &[]),
    ("boot", &[]),
    ("drivers", &["btt", "nvdimm", "service"]),
    // Of service what both ends of a wire share.
    ("host", &["service"]),
    ("kernel", &["boot", "btt", "drivers", "nvdimm", "service"]),
    ("fuzz", &["btt", "drivers", "kernel", "nvdimm", "service"]),
    ("tests", &["boot", "btt", "drivers", "host", "kernel", "nvdimm", "service"]),
];

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = ["metadata", "--no-deps", "--format-version", "1", "--offline", "--locked"];
    let metadata = workspace::run(workspace::command(cargo).args(metadata));
    serde_json::from_slice::<Value>(&metadata).unwrap()["packages"].as_array().unwrap().clone()
}

#[test]
fn no_crate_stands_on_one_that_is_not_below_it() {
    let layers: BTreeMap<_, _> = LAYERS.into();
    let packages = packages();
    assert_eq!(packages.len(), layers.len(), "a crate is new: give it its layer");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let below = layers.get(name).unwrap_or_else(|| panic!("{name} has no layer"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            // A crate's own tests may use it with other features.
            let itself = on == name && dependency["kind"] == "dev";
            assert!(!layers.contains_key(on) || itself || below.contains(&on), "{name} must not stand on {on}");
        }
    }
}

#[test]
fn the_pure_crates_need_no_std_and_have_no_unsafe_code() {
    // service has one unsafe trait, which its module of shared memory may say and implement.
    for (name, rule) in [("btt", "forbid"), ("nvdimm", "forbid"), ("service", "deny")] {
        let sources = workspace::top().join(name).join("src");
        let root = fs::read_to_string(sources.join("lib.rs")).unwrap();
        let rule = format!("#![{rule}(unsafe_code)]");
        assert!(root.lines().any(|line| line.starts_with(&rule)), "{name} says {rule}");
        let no_std = ["#![no_std]", "#![cfg_attr(not(test), no_std)]"];
        assert!(root.lines().any(|line| no_std.contains(&line)), "{name} is no_std");
        for file in rust_files(&sources) {
            let allows = fs::read_to_string(&file).unwrap().contains("allow(unsafe_code)");
            let may = file.starts_with(workspace::top().join("service/src/memory"));
            assert!(may || !allows, "{} allows unsafe code", file.display());
        }
    }
}

/// The Rust files in a folder and below.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                files.push(path)
            }
        }
    }
    files
}
