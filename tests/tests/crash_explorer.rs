//! A bounded run of the crash explorer, and that its pruning loses nothing.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::collections::HashSet;

use tests::explorer::lanes::Lanes;
use tests::explorer::scenarios::{groups, named};
use tests::explorer::stage::Grain;
use tests::explorer::{Explorer, Scenario, Shared, Stop};

fn hold(result: Result<(), Stop>) {
    match result {
        Ok(()) => {}
        Err(Stop::Time) => panic!("there was no end to the time"),
        Err(Stop::Violation(violation)) => panic!("{violation}"),
    }
}

/// All images that cuts of one program leave.
fn images(program: &str, grain: Grain) -> HashSet<u64> {
    let shared = Shared::new(None, 1);
    let mut explorer = Explorer::new(&shared);
    explorer.keep_images = Some(HashSet::new());
    hold(Lanes { program: program.parse().unwrap(), grain }.explore(&mut explorer));
    explorer.keep_images.unwrap()
}

/// Explores the groups that are wanted; at least so many states, and cuts inside a recovery.
fn explore(wanted: impl Fn(&str) -> bool, states: u64, second_cuts: u64) {
    let shared = Shared::new(None, 1);
    let mut explorer = Explorer::new(&shared);
    for group in groups().iter().filter(|group| wanted(&group.name)) {
        for scenario in &group.scenarios {
            hold(scenario.explore(&mut explorer));
        }
    }
    eprintln!("{} states, {} cuts inside a recovery", shared.states(), shared.second_cuts());
    assert!(shared.states() >= states, "{} states", shared.states());
    assert!(shared.second_cuts() >= second_cuts, "{} cuts inside a recovery", shared.second_cuts());
}

const CREATION: &str = "creation";
const REPAIRS: &str = "repairs and the rewriting of flogs";
const SAVES: &str = "saves of the configuration";

#[test]
fn every_cut_of_a_save_of_the_configuration_leaves_old_or_new_settings() {
    explore(|group| group == SAVES, 7_000, 7_000);
}

#[test]
fn every_cut_of_a_creation_keeps_every_promise() {
    explore(|group| group == CREATION, 50_000, 0);
}

#[test]
fn every_cut_of_a_repair_keeps_every_promise() {
    explore(|group| group == REPAIRS, 15_000, 15_000);
}

#[test]
fn every_cut_of_small_programs_keeps_every_promise() {
    let large = ["3 lanes x 2 writes", "2 lanes x 3 writes", "3 lanes x 3 writes"];
    let is_large = |group: &str| large.iter().any(|large| group.starts_with(large));
    explore(|group| ![CREATION, REPAIRS, SAVES].contains(&group) && !is_large(group), 15_000, 8_000);
}

#[test]
fn larger_programs_too() {
    let shared = Shared::new(None, 1);
    let mut explorer = Explorer::new(&shared);
    for program in ["n3 s3: 0,0 | 0,1 | 1,0", "n2 s2: 0,0,1 | 1,0,0", "w n3 s3: 0,1 | 1 | 0", "n3 s2: 0,0 | 0,0 | 0,0"]
    {
        hold(named(program).unwrap().explore(&mut explorer));
    }
    assert!(shared.states() >= 6_000, "{} states", shared.states());
}

/// What is one step under a coarse grain is many under a fine one: cuts between those leave nothing new.
#[test]
fn coarse_steps_lose_no_image() {
    for program in
        ["n2 s2: 0 | 0", "n2 s2: 0 | 1", "n2 s2: 0,1 | 0", "w n2 s2: 0 | 0", "n1 s2: 0 | 1", "n4 s4: 0+2 | 1+2"]
    {
        let fence = images(program, Grain::Fence);
        assert!(fence.len() >= 8, "{program}: {} images", fence.len());
        assert_eq!(fence, images(program, Grain::Lock), "{program}");
        assert_eq!(fence, images(program, Grain::Access), "{program}");
    }
}
