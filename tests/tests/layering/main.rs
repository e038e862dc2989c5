//! The crates stand on each other as ARCHITECTURE.md draws it: nothing points up, and the pure ones stay pure.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

mod imports;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::workspace;

use imports::Sources;

/// Each crate, and the crates of ours that it may stand on.
const LAYERS: [(&str, &[&str]); 17] = [
    ("bench", &["btt", "drivers", "nvmf", "service", "untorn-target"]),
    ("btt", &[]),
    // btt's own sources, for a model checker.
    ("btt-loom", &[]),
    ("btt-shuttle", &[]),
    ("net", &[]),
    ("nvdimm", &[]),
    ("nvmf", &[]),
    ("service", &[]),
    ("boot", &[]),
    ("drivers", &["btt", "net", "nvdimm", "service"]),
    // Of service what both ends of a wire share; of the others what reads a medium's metadata.
    ("host", &["btt", "nvdimm", "service"]),
    // As the kernel does, it joins the disks and what serves them.
    ("untorn-target", &["btt", "nvmf"]),
    // Sources of the kernel that stand on nothing, for a model checker.
    ("kernel-loom", &[]),
    ("kernel", &["boot", "btt", "drivers", "net", "nvdimm", "nvmf", "service"]),
    ("fake-machine", &["btt", "drivers", "kernel", "net", "nvdimm", "service"]),
    ("fuzz", &["boot", "btt", "drivers", "fake-machine", "kernel", "net", "nvdimm", "nvmf", "service"]),
    ("tests", &["bench", "boot", "btt", "drivers", "fake-machine", "host", "kernel", "net", "nvdimm", "service"]),
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
fn what_is_measured_is_built_as_the_image_is() {
    // Of ours, without any feature: btt's `sim` would be in every lock.
    let packages = packages();
    let bench = packages.iter().find(|package| package["name"] == "bench").unwrap();
    let dependencies = bench["dependencies"].as_array().unwrap().iter();
    let ours: Vec<_> = dependencies.filter(|it| LAYERS.iter().any(|(name, _)| it["name"] == *name)).collect();
    assert_eq!(ours.len(), 5, "what it measures is found: {ours:?}");
    for dependency in ours {
        assert_eq!(dependency["features"], Value::Array(Vec::new()), "{dependency}");
    }
}

#[test]
fn the_pure_crates_need_no_std_and_have_no_unsafe_code() {
    // service has one unsafe trait, which its module of shared memory may declare and implement.
    let rules = [("btt", "forbid"), ("net", "forbid"), ("nvdimm", "forbid"), ("nvmf", "forbid"), ("service", "deny")];
    for (name, rule) in rules {
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

/// The roots of the crates whose files stand on each other without circles.
const ROOTS: [&str; 14] = [
    "boot/src/lib.rs",
    "btt/src/lib.rs",
    "drivers/src/lib.rs",
    "fuzz/src/lib.rs",
    "host/src/lib.rs",
    "kernel/src/lib.rs",
    "kernel/src/main.rs",
    "net/src/lib.rs",
    "nvdimm/src/lib.rs",
    "nvmf/src/lib.rs",
    "service/src/lib.rs",
    "tests/bench/src/lib.rs",
    "tests/fake-machine/src/lib.rs",
    "untorn-target/src/lib.rs",
];

#[test]
fn no_files_of_a_crate_stand_on_each_other_in_a_circle() {
    let mut found = Vec::new();
    for root in ROOTS {
        let sources = Sources::read(&workspace::top().join(root));
        let arrows = sources.arrows();
        for circle in sources.circles() {
            let name = |file: &Path| file.strip_prefix(workspace::top()).unwrap().display().to_string();
            found.push(format!("a circle of {} files:", circle.len()));
            for file in &circle {
                let to: Vec<_> = arrows[file].intersection(&circle).map(|file| name(file)).collect();
                found.push(format!("    {} takes names from {}", name(file), to.join(", ")));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_circle_of_files_is_found_also_through_a_name_that_is_passed_on() {
    let folder = workspace::folder("layering").join(std::process::id().to_string());
    fs::create_dir_all(&folder).unwrap();
    let circles = |files: [(&str, &str); 3]| {
        files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        Sources::read(&folder.join("lib.rs")).circles().len()
    };
    // What the door of a folder takes from it is no arrow.
    let root = ("lib.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;\n");
    let a = ("a.rs", "use crate::B;\npub struct A(B);\n");
    assert_eq!(circles([root, a, ("b.rs", "pub struct B;\n")]), 0);
    assert_eq!(circles([root, a, ("b.rs", "pub struct B(Option<Box<super::a::A>>);\n")]), 1);
    assert_eq!(circles([root, a, ("b.rs", "pub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::A;\n}\n")]), 0);
    fs::remove_dir_all(&folder).unwrap();
}
