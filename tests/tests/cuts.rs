//! Twenty power cuts of real machines under load: what they leave is sound to a reader of our own, to `btt`, and to an
//! unmodified Linux.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use tests::cuts::campaign::{Left, Media, Plan, cut};
use tests::golden;
use tests::linux::{Job, Phase, Read, Report, judge};

const CUTS: u64 = 20;
/// So many of the images Linux looks at, too, in one boot.
const FOR_LINUX: usize = 6;

/// Sectors all over the device, the same for each.
fn places(left: &Left) -> impl Iterator<Item = u32> {
    let (step, sectors) = (left.found.sectors / 150, left.found.sectors);
    (0..sectors).step_by(step.max(1) as usize)
}

#[test]
fn what_cuts_leave_is_sound_to_us_and_to_linux() {
    let media = Media::new();
    let mut left: Vec<Left> = (1..=CUTS)
        .map(|seed| {
            let plan = Plan::new(seed);
            let left = cut(&media, &plan).unwrap_or_else(|why| panic!("{why}"));
            let (version, pending, begun) = (left.version, left.found.pending, left.found.begun);
            eprintln!("{plan}: {version} runs written, {pending} pending, {begun} begun");
            left
        })
        .collect();
    assert!(left.iter().filter(|left| left.version > 10).count() > 10, "there was a load");
    // Those in whose flog there is something to do come first.
    left.sort_by_key(|left| std::cmp::Reverse(left.found.pending * 2 + left.found.begun));
    assert!(left[0].found.pending > 0, "no cut struck between flog and map");
    left.truncate(FOR_LINUX);

    let mut job = Job { dimms: left.len(), ..Job::default() };
    let mut expected = std::collections::BTreeMap::new();
    for (slot, one) in left.iter().enumerate() {
        let image = std::fs::read(one.dimm.path()).unwrap();
        for lba in places(one) {
            job.reads.push(Read { slot, lba: lba.into(), count: 1 });
            expected.insert((slot, u64::from(lba)), golden::digest(one.found.sector(&image, lba)));
        }
    }
    let dimms: Vec<_> = left.iter().map(|left| &left.dimm).collect();
    let reports = judge(&dimms, &job, env!("CARGO_BIN_EXE_linux-guest"));
    let mut checked = 0;
    for report in &reports {
        match report {
            Report::Check { phase, slot, ok, text, .. } => {
                // Asked to repair nothing, ndctl counts the blocks of interrupted writes as if they would stay so.
                let interrupted = *phase == Phase::Before && left[*slot].found.pending > 0;
                assert_eq!(*ok, !interrupted, "ndctl check-namespace in slot {slot}, {phase:?}: {text}");
                checked += 1;
            }
            Report::Sectors { read: Read { slot, lba, .. }, data } => {
                assert_eq!(data.as_ref(), Ok(&expected.remove(&(*slot, *lba)).unwrap()), "slot {slot}, LBA {lba}");
            }
            Report::Trouble(what) => panic!("{what}"),
            _ => {}
        }
    }
    assert_eq!(checked, 2 * left.len(), "before and after");
    assert!(expected.is_empty(), "{} sectors were not read", expected.len());
}
