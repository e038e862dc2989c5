//! trial
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]
use tests::golden;
use tests::linux::{Job, Read, Report, Write, judge};

#[test]
fn linux_judges() {
    let two = golden::named("l12-two");
    let a = two.unpack();
    let nolab = golden::named("nolab-512");
    let b = nolab.unpack();
    let mut job = Job { dimms: 2, lists: vec!["-vvv".into(), "-N".into(), "".into()], ..Job::default() };
    for lba in nolab.namespaces[0].expected.keys() { job.reads.push(Read { slot: 1, lba: *lba }); }
    job.writes.push(Write { slot: 1, lba: 3, byte: 7 });
    let start = std::time::Instant::now();
    let reports = judge(&[&a, &b], &job, env!("CARGO_BIN_EXE_linux-guest"));
    println!("{:?}", start.elapsed());
    for r in &reports {
        match r { Report::Sector { lba, data, .. } => assert_eq!(data.as_ref().unwrap(), &nolab.namespaces[0].expected[lba]), Report::List { options, list } => println!("{options} {}", serde_json::to_string(list).unwrap()), r => println!("{r:?}") }
    }
}
