//! Taking a BTT away: what still reads as an info block is not gone.

mod common;

use btt::media::NsOffset;
use btt::unmake::{EraseError, erase, info_blocks};
use btt::{Btt, OpenError};
use common::lossy::Lossy;
use common::*;

#[test]
fn info_blocks_are_gone_when_they_read_so() {
    let media = Lossy::new(made(512));
    let blocks = info_blocks(&media, Some(PLACEMENT));
    assert_eq!(blocks, [4096, BYTES - 4096].map(NsOffset));
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
        // The first one counts: with it the BTT is there, without it only its copy.
        assert_eq!(Btt::open(&media, PLACEMENT, 1).is_ok(), kept == 0, "{place}");
    }
}
