//! The patches of all seeded defects still apply. The binary `mutants` tries whether each is noticed.

use tests::mutants::{all, copy::Copy};

#[test]
fn every_patch_applies() {
    let copy = Copy::refresh();
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
