//! The patches of all seeded defects still apply, and some of them are tried. The binary `mutants` tries all.

use std::sync::atomic::{AtomicUsize, Ordering};

use tests::mutants::{Fate, Mutant, all, copy::Copy, try_all};

#[test]
fn every_patch_applies() {
    let copy = Copy::refresh("parts");
    let mutants = all();
    assert!(mutants.len() >= 25, "{}", mutants.len());
    let failing: Vec<String> = mutants
        .iter()
        .filter_map(|mutant| {
            let result = copy.apply(&mutant.patch);
            copy.restore(&mutant.patch);
            result.err().map(|why| format!("{}: {why}", mutant.name))
        })
        .collect();
    assert!(failing.is_empty(), "{}", failing.join("\n"));
}

/// Defects that one package's tests notice, so that little is built.
const SAMPLE: [&str; 3] = ["flog-slot-rule", "recover-without-finishing", "write-commit-before-body"];

#[test]
fn some_seeded_defects_are_noticed() {
    let chosen: Vec<Mutant> = all().into_iter().filter(|mutant| SAMPLE.contains(&mutant.name.as_str())).collect();
    assert_eq!(chosen.len(), SAMPLE.len());
    let noticed = AtomicUsize::new(0);
    let tell = |mutant: &Mutant, fate| {
        assert!(matches!(fate, Fate::Killed(_)), "{}: {fate:?}", mutant.name);
        noticed.fetch_add(1, Ordering::Relaxed);
    };
    try_all(&chosen, &tell).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(noticed.into_inner(), SAMPLE.len());
}
