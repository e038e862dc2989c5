//! Taking a BTT away: what still reads as an info block is not gone.

mod common;

use btt::media::NsOffset;
use btt::sim::Seeded;
use btt::unmake::{EraseError, erase, info_blocks};
use btt::{Btt, OpenError};

use common::lossy::Lossy;
use common::*;

#[test]
fn info_blocks_are_gone_when_they_read_so() {
    let media = Lossy::new(made(512));
    let blocks = info_blocks(&media, Some(PLACEMENT));
    assert_eq!(blocks, [BYTES - 4096, 4096].map(NsOffset));
    assert_eq!(erase(&media, &blocks), Ok(()));
    assert!(matches!(Btt::open(&media, PLACEMENT, 1).map(|_| ()), Err(OpenError::NotABtt)));
    assert_eq!(info_blocks(&media, Some(PLACEMENT)), []);
}

#[test]
fn a_medium_that_keeps_no_zeroes_is_told_with_the_place() {
    for kept in 0..2 {
        let media = Lossy::new(made(512));
        let blocks = info_blocks(&media, Some(PLACEMENT));
        let place = blocks[kept];
        media.forgotten.lock().expect("no panic").push(place.0..place.0 + 4096);
        assert_eq!(erase(&media, &blocks), Err(EraseError::NotKept(place)), "{place}");
        // The first block counts: with it the BTT is there, with or without its copy.
        assert!(Btt::open(&media, PLACEMENT, 1).is_ok(), "{place}");
    }
}

#[test]
fn a_cut_leaves_the_btt_or_none_and_never_half_of_one() {
    let before = made(512).settled();
    let blocks = info_blocks(&before, Some(PLACEMENT));
    let erased = before.fork();
    erased.record();
    erase(&erased, &blocks).expect("no faults");
    let events = erased.recorded();
    let mut seen = [0; 2];
    for done in 0..=events.len() {
        let sim = before.fork();
        events[..done].iter().for_each(|event| sim.replay(event));
        for seed in 0..20 {
            let after = sim.crash(&mut Seeded::new(seed));
            match Btt::open(&after, PLACEMENT, 1).map(|_| ()) {
                Ok(()) => seen[0] += 1,
                Err(OpenError::NotABtt) => seen[1] += 1,
                Err(why) => panic!("{done} of {} events, seed {seed}: {why}", events.len()),
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}
