//! The machine does what the simulated medium records: every store, write-back and fence of the real driver, traced one
//! instruction at a time, equals what the crash explorer explores.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use btt::layout::PAGE_BYTES;
use btt::media::LINE_BYTES;
use btt::sim::{Event, Pending, Persistence};
use iced_x86::Mnemonic;
use tests::explorer::cut::apply;
use tests::explorer::frame::Frame;
use tests::explorer::promise::Promise;
use tests::explorer::small::{BYTES, first_tag};
use tests::explorer::{Explorer, Shared, Stop};
use tests::instructions::epoch::{epochs, line_orders};
use tests::instructions::image::Image;
use tests::instructions::step::{Traced, trace};
use tests::instructions::{HINT, Operation, SCATTERED, TAG};
use tests::workspace;

/// A file for the medium before an operation.
fn medium(operation: Operation) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}-{}-{}", operation.name(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = workspace::folder("instructions").join(name);
    fs::write(&path, operation.start()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(BYTES).unwrap();
    path
}

/// Traces an operation, and holds the file that it leaves against the stores that were seen: none went unnoticed.
fn traced(operation: Operation, copy: Option<&str>) -> Traced {
    let path = medium(operation);
    let program = env!("CARGO_BIN_EXE_pmem-under-trace");
    let traced = trace(Command::new(program).arg(operation.name()).arg(&path).args(copy), BYTES);
    let after = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let mut expected = operation.start();
    expected.resize(after.len(), 0);
    for event in &traced.events {
        if let Event::Store { at, bytes } | Event::Stream { at, bytes } = event {
            let at = usize::try_from(at.0).unwrap();
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }
    assert!(expected == after, "{operation:?}: some store to the medium went unnoticed");
    traced
}

fn equals_the_simulated(operation: Operation) -> Traced {
    equals_the_simulated_by(operation, None)
}

/// With this kind of copy; by default the widest.
fn equals_the_simulated_by(operation: Operation, copy: Option<&str>) -> Traced {
    let real = traced(operation, copy);
    let simulated = operation.simulated();
    let (a, b) = (epochs(&real.events), epochs(&simulated));
    assert_eq!(a.len(), b.len(), "{operation:?}: fences");
    for (number, (a, b)) in a.iter().zip(&b).enumerate() {
        assert_eq!(a, b, "{operation:?}: what stands at fence {number}");
    }
    // What the simulation streams may be cached at ragged ends; the order of other stores to a line is the same.
    let streamed = |at: u64| {
        simulated.iter().any(|event| {
            matches!(event, Event::Stream { at: from, bytes } if (from.0..from.0 + bytes.len() as u64).contains(&at))
        })
    };
    assert_eq!(line_orders(&real.events, streamed), line_orders(&simulated, streamed), "{operation:?}");
    let times = |names: &[&str]| names.iter().filter_map(|name| real.names.get(*name)).sum::<u64>();
    assert!(times(&["Sfence"]) >= 1, "{operation:?}: {:?}", real.names);
    assert!(times(&["Clwb", "Clflushopt", "Clflush"]) >= 1, "{operation:?}: {:?}", real.names);
    real
}

/// Every cut of the machine's own trace, judged as the explorer judges.
fn explore(operation: Operation, real: &Traced, allowed: impl Fn(u32) -> Vec<u64>, done: impl Fn(u32) -> Vec<u64>) {
    let small = operation.small();
    let shared = Shared::new(None, 1);
    let mut explorer = Explorer::new(&shared);
    explorer.set_medium(BYTES, Persistence::Lines);
    let mut durable = small.make();
    let mut pending = Pending::new(Persistence::Lines);
    let promise =
        |tags: &dyn Fn(u32) -> Vec<u64>| Promise { small, cpus: 1, allowed: (0..small.sectors).map(tags).collect() };
    let mut cut =
        |durable: &mut Frame, pending: &Pending, promise: &Promise| match explorer.cut(durable, pending, promise) {
            Ok(()) => {}
            Err(Stop::Violation(violation)) => panic!("{operation:?}: {violation}"),
            Err(Stop::Time) => panic!("there was no end to the time"),
        };
    for event in &real.events {
        if *event == Event::Fence {
            cut(&mut durable, &pending, &promise(&allowed));
        }
        apply(event, &mut durable, &mut pending);
    }
    cut(&mut durable, &pending, &promise(&done));
    assert!(shared.states() >= 4, "{operation:?}: {} states", shared.states());
}

#[test]
fn a_write_executes_what_was_explored() {
    let real = equals_the_simulated(Operation::Write);
    let tags = |lba| if lba == 0 { vec![first_tag(0), TAG] } else { vec![first_tag(lba)] };
    explore(Operation::Write, &real, tags, |lba| vec![if lba == 0 { TAG } else { first_tag(lba) }]);
}

#[test]
fn a_run_executes_what_was_explored() {
    let real = equals_the_simulated(Operation::Run);
    let new = |lba: u32| TAG + u64::from(lba);
    let tags = |lba| if lba < 4 { vec![first_tag(lba), new(lba)] } else { vec![first_tag(lba)] };
    explore(Operation::Run, &real, tags, |lba| vec![if lba < 4 { new(lba) } else { first_tag(lba) }]);
}

/// A reader that copies a byte of a block's next life sees that the block has left the map: between the map entries of
/// one run and the data of the next, which are streamed, stands a fence.
#[test]
fn two_runs_execute_what_was_explored_and_the_second_is_ordered_after_the_first() {
    let real = equals_the_simulated(Operation::Runs);
    let new = |lba: u32| TAG + u64::from(lba);
    explore(Operation::Runs, &real, |lba| vec![first_tag(lba), new(lba)], |lba| vec![new(lba)]);
    let geometry = Operation::Runs.small().geometry();
    let is_entry = |at: u64| (geometry.mapoff..geometry.logoff).contains(&at);
    let (mut ordered, mut seen) = (true, 0);
    for event in &real.events {
        match event {
            Event::Store { at, .. } if is_entry(at.0) => (ordered, seen) = (false, seen + 1),
            Event::Fence => ordered = true,
            Event::Stream { at, .. } => {
                assert!(ordered, "data at {at} may be seen before the map entries that free it")
            }
            Event::Store { .. } | Event::WriteBack { .. } => {}
        }
    }
    assert_eq!(seen, 6, "map entries");
}

#[test]
fn every_kind_of_copy_streams_what_was_explored() {
    for (copy, mnemonic) in [("sse2", "Movntdq"), ("word", "Movnti")] {
        let real = equals_the_simulated_by(Operation::Run, Some(copy));
        assert!(real.names.contains_key(mnemonic), "{copy}: {:?}", real.names);
    }
}

#[test]
fn a_scattered_commit_executes_what_was_explored() {
    let real = equals_the_simulated(Operation::Scatter);
    let new = |lba: u32| SCATTERED.iter().position(|of| *of == u64::from(lba)).map(|index| TAG + index as u64);
    let tags = |lba| [first_tag(lba)].into_iter().chain(new(lba)).collect();
    explore(Operation::Scatter, &real, tags, |lba| vec![new(lba).unwrap_or(first_tag(lba))]);
    let epochs = epochs(&real.events).len();
    assert_eq!(epochs, 4, "two for the commit, one that drains its map entries, and what comes after");
}

#[test]
fn recovery_executes_what_was_explored() {
    let real = equals_the_simulated(Operation::Recover);
    explore(Operation::Recover, &real, |lba| vec![first_tag(lba)], |lba| vec![first_tag(lba)]);
}

#[test]
fn creation_executes_what_was_explored() {
    let real = equals_the_simulated(Operation::Create);
    assert!(real.names.keys().any(|name| name.contains("movnt")), "{:?}", real.names);
}

#[test]
fn a_write_back_of_several_lines_takes_each_of_them_and_no_more() {
    let real = equals_the_simulated(Operation::Lines);
    let uncovered: Vec<u64> = epochs(&real.events)[0].iter().filter(|piece| !piece.covered).map(|it| it.at).collect();
    assert_eq!(uncovered, [PAGE_BYTES + 3 * LINE_BYTES]);
}

/// What the hint is about has reached the memory controller by then, and the hint itself is not left in a buffer.
#[test]
fn a_flush_hint_is_written_between_two_fences() {
    let real = traced(Operation::Hint, None);
    let order: Vec<&str> = real
        .events
        .iter()
        .map(|event| match event {
            Event::Store { at, .. } if at.0 == HINT => "hint",
            Event::Store { .. } => "store",
            Event::Stream { .. } => "stream",
            Event::WriteBack { .. } => "write-back",
            Event::Fence => "fence",
        })
        .collect();
    assert_eq!(order, ["store", "write-back", "fence", "hint", "fence"]);
}

/// The image that boots holds them too: each part of the write path, itself or in what it calls.
#[test]
fn the_image_holds_the_same_instructions() {
    const WRITE_BACK: &[Mnemonic] = &[Mnemonic::Clwb, Mnemonic::Clflushopt, Mnemonic::Clflush, Mnemonic::Sfence];
    const STREAM: &[Mnemonic] = &[Mnemonic::Vmovntdq, Mnemonic::Movntdq, Mnemonic::Movnti];
    workspace::build();
    let image = Image::read(&fs::read(workspace::target().join("release/untorn")).unwrap()).unwrap();
    let table: [(&[&str], &[Mnemonic]); 10] = [
        (&["btt5guard", "LaneGuard", "5drain17h"], WRITE_BACK),
        // Their parts are inlined: data, the fence behind them, what other lanes left, records.
        (&["btt5write", "LaneGuard", "9write_one17h"], WRITE_BACK),
        (&["btt5write", "LaneGuard", "9write_one17h"], STREAM),
        (&["btt5write", "LaneGuard", "10write_runs17h"], WRITE_BACK),
        (&["btt5write", "LaneGuard", "10write_runs17h"], STREAM),
        (&["btt6commit", "LaneGuard", "11commit_each17h"], WRITE_BACK),
        (&["btt7recover", "6finish"], WRITE_BACK),
        (&["btt6format6format"], WRITE_BACK),
        (&["btt6format6format"], STREAM),
        (&["btt4edit", "LaneGuard", "8edit_run"], WRITE_BACK),
    ];
    for (parts, wanted) in table {
        let copies = image.instructions(parts);
        assert!(!copies.is_empty(), "{parts:?}: the image has no such function; was it renamed, or inlined?");
        let complete = copies.iter().any(|copy| wanted.iter().all(|mnemonic| copy.contains(mnemonic)));
        assert!(complete, "{parts:?}: not all of {wanted:?}");
    }
}
