//! Twenty power cuts of real machines under load, ten of them while another machine writes by virtio-blk: what they leave
//! is sound to a reader of our own, to `btt`, and to an unmodified Linux.

use std::path::Path;

use tests::cuts::campaign::{How, Left, Media, Plan, cut};
use tests::cuts::{consumer, reader};
use tests::golden;
use tests::linux::{Job, Phase, Read, Report, judge};

/// Under `bench`; as many under a consumer.
const CUTS: u64 = 10;
/// So many of the images of either Linux looks at, too, in one boot.
const FOR_LINUX: usize = 3;
/// Media that Linux wrote, on which it was cut itself: with a write in the flog and not in the map, and with a record that
/// was begun.
const OF_LINUX: [&str; 2] = ["u-nolab-4096-pending", "u-nolab-512-half"];

/// Sectors all over the device, the same for each.
fn places(left: &Left) -> impl Iterator<Item = u32> {
    let (step, sectors) = (left.found.sectors / 150, left.found.sectors);
    (0..sectors).step_by(step.max(1) as usize)
}

/// What cuts left, by their kind.
#[derive(Default)]
struct Cuts(Vec<(How, Left)>);

impl Cuts {
    fn add(&mut self, how: How, left: Left) {
        let (version, pending, begun) = (left.version, left.found.pending, left.found.begun);
        eprintln!("{how:?}: {version} runs written, {pending} pending, {begun} begun");
        self.0.push((how, left));
    }

    /// Those in whose flog there is most to do.
    fn most_to_do(mut self) -> impl Iterator<Item = Left> {
        assert!(self.0.iter().filter(|(_, left)| left.version > 10).count() > self.0.len() / 2, "there was a load");
        self.0.sort_by_key(|(_, left)| std::cmp::Reverse(left.found.pending * 2 + left.found.begun));
        assert!(self.0[0].1.found.pending > 0, "no cut struck between flog and map");
        self.0.into_iter().take(FOR_LINUX).map(|(_, left)| left)
    }
}

#[test]
fn what_cuts_leave_is_sound_to_us_and_to_linux() {
    let mut under_bench = Cuts::default();
    let media = Media::new();
    for seed in 1..=CUTS {
        let plan = Plan::new(seed);
        eprintln!("{plan}");
        under_bench.add(plan.how, cut(&media, &plan).unwrap_or_else(|why| panic!("{why}")));
    }
    let mut under_a_consumer = Cuts::default();
    let program = Path::new(env!("CARGO_BIN_EXE_cuts"));
    for (seed, _) in (1..).zip((0..CUTS).step_by(consumer::CUTS)) {
        let plan = consumer::Plan::new(seed);
        eprintln!("{plan}");
        let mut told = |how, left: Result<Vec<Left>, String>| {
            for left in left.unwrap_or_else(|why| panic!("{plan}: {how:?}: {why}")) {
                under_a_consumer.add(how, left);
            }
        };
        consumer::cut(&plan, consumer::CUTS, program, &mut told).unwrap_or_else(|why| panic!("{plan}: {why}"));
    }
    // Not every wait finds what it waits for; but each state was cut into.
    for how in [How::Pending, How::Several, How::Begun] {
        let mut all = under_bench.0.iter().chain(&under_a_consumer.0);
        assert!(
            all.any(|(by, left)| *by == how && how.holds(left.found.pending, left.found.begun)),
            "no cut struck where {how:?} holds"
        );
    }
    let mut left: Vec<Left> = under_bench.most_to_do().chain(under_a_consumer.most_to_do()).collect();
    left.extend(OF_LINUX.map(|name| {
        let dimm = golden::named(name).unpack();
        let found = reader::read(&std::fs::read(dimm.path()).unwrap()).unwrap();
        Left { dimm, found, version: 0 }
    }));
    assert!(left.iter().rev().take(2).any(|left| left.found.pending == 0 && left.found.begun == 1));

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
                // Asked to repair nothing, ndctl counts the blocks of interrupted writes as if they would stay so: of
                // media that Linux wrote, too.
                let interrupted = *phase == Phase::Before && left[*slot].found.pending > 0;
                assert_eq!(*ok, !interrupted, "ndctl check-namespace in slot {slot}, {phase:?}: {text}");
                assert_eq!(text.contains("bitmap error"), interrupted, "slot {slot}, {phase:?}: {text}");
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
