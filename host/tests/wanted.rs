//! What a front end wants of an export, and what the appliance is told of it.
#![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use host::bridge::ivshmem::PeerId;
use host::bridge::memory_table::MemoryTable;
use host::bridge::state::{ConfigWrite, Export, InterruptRoute, Queue, Rings, Routes, Turn};
use host::event::ForeignEvent;
use nix::sys::eventfd::EventFd;
use service::control::{Call, DiskIndex, DiskOffer, ExportIndex, MemoryId, Outcome, QueueIndex, Report, Request};

/// An appliance's device that has no ways left.
struct NoRoutes;

impl Routes for NoRoutes {
    fn call(&mut self, _queue: &mut Queue) -> Option<InterruptRoute> {
        None
    }

    fn kick(&mut self, _queue: &Queue) -> Option<u16> {
        None
    }

    fn is_behind(&self) -> bool {
        false
    }
}

/// An export with a front end, which the appliance holds.
fn attached() -> Export {
    let mut export = Export::new(ExportIndex(0), MemoryId(0), None, false);
    let disk = DiskOffer {
        disk: DiskIndex(0),
        name: "pmem0s".into(),
        capacity: 8,
        sector_size: 512,
        serial: [0; 20],
        queues: 1,
        queue_size: 128,
        features: 0,
        config: vec![0; 60],
    };
    assert!(export.offer(&disk));
    export.begin();
    export.features = Some(1 << 32); // VERSION_1
    export.table = Some(MemoryTable::default());
    let attach = next(&mut export).unwrap();
    assert!(matches!(attach, Request::Attach(_)));
    done(&mut export, &attach);
    export
}

fn next(export: &mut Export) -> Option<Request> {
    export.next(|_| 0, &mut NoRoutes)
}

fn done(export: &mut Export, request: &Request) {
    export.done(request, &Report::Done(Outcome::Ok));
}

fn write(export: &mut Export, at: u8, bytes: &[u8]) {
    ConfigWrite { at, bytes: bytes.into() }.put(&mut export.config_writes);
}

/// The bytes that a request writes.
fn written(request: Option<Request>) -> Option<(u8, Vec<u8>)> {
    match request {
        Some(Request::WriteConfig { at, bytes, .. }) => Some((at, bytes)),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

/// The configuration space as the appliance has it after all requests: so many changes come before the first one, and so
/// many more before each answer.
fn told(changes: &[(u8, &[u8])], early: usize, late: usize) -> [u8; 60] {
    let mut export = attached();
    let mut space = [0; 60];
    let mut changes = changes.iter();
    let mut change = |export: &mut Export| changes.next().map(|(at, bytes)| write(export, *at, bytes)).is_some();
    (0..early).for_each(|_| _ = change(&mut export));
    loop {
        let changed = change(&mut export);
        let Some((at, bytes)) = written(next(&mut export)) else {
            match changed {
                true => continue,
                false => return space,
            }
        };
        // While it is on its way the front end goes on.
        (0..late).for_each(|_| _ = change(&mut export));
        space[usize::from(at)..][..bytes.len()].copy_from_slice(&bytes);
        done(&mut export, &Request::WriteConfig { export: ExportIndex(0), at, bytes });
    }
}

#[test]
fn the_last_change_of_the_configuration_is_told_however_late_answers_come() {
    #[rustfmt::skip]
    let cases: [&[(u8, &[u8])]; 6] = [
        &[(32, &[0])],
        &[(32, &[1]), (32, &[0])],
        &[(32, &[1]), (32, &[0]), (32, &[1]), (32, &[0])],
        &[(32, &[1]), (33, &[2]), (32, &[3]), (33, &[4])],
        &[(32, &[1, 2, 3, 4]), (33, &[9]), (32, &[5, 6])],
        &[(40, &[7]), (32, &[1; 16]), (40, &[8]), (32, &[2; 16])],
    ];
    for changes in cases {
        let mut expected = [0; 60];
        for (at, bytes) in changes {
            expected[usize::from(*at)..][..bytes.len()].copy_from_slice(bytes);
        }
        for (early, late) in (0..5).flat_map(|early| (0..4).map(move |late| (early, late))) {
            assert_eq!(told(changes, early, late), expected, "{changes:?}, {early} early, {late} late");
        }
    }
}

#[test]
fn an_appliance_that_starts_anew_is_told_all_of_it_again() {
    let mut export = attached();
    write(&mut export, 32, &[1]);
    let request = next(&mut export).unwrap();
    done(&mut export, &request);
    assert_eq!(next(&mut export), None);
    export.appliance_gone();
    let disk = export.disk.clone().unwrap();
    assert!(export.offer(&disk));
    let attach = next(&mut export).unwrap();
    done(&mut export, &attach);
    assert_eq!(written(next(&mut export)), Some((32, vec![1])));
}

#[test]
fn rings_count_for_the_size_that_they_were_placed_for() {
    let mut queue = Queue::default();
    queue.set_size(16);
    queue.rings = Some(Rings { desc: 0, avail: 0x1000, used: 0x2000 });
    queue.set_size(16);
    assert!(queue.rings.is_some(), "the same once more, as at each start");
    queue.set_size(128);
    assert_eq!(queue.rings, None, "a longer ring may reach past the consumer's memory");
}

#[test]
fn an_export_that_always_wants_something_does_not_keep_others_waiting() {
    let mut exports = [attached(), attached(), attached()];
    let mut turn = Turn::default();
    // The first one writes its configuration again and again, the last one has two writes.
    write(&mut exports[2], 0, &[1]);
    write(&mut exports[2], 1, &[1]);
    let mut asked = Vec::new();
    for value in 0..6 {
        write(&mut exports[0], 32, &[value]);
        let request = turn.next(&mut exports, |export, it| {
            let request = next(it)?;
            asked.push(export);
            Some(request)
        });
        done(&mut exports[*asked.last().unwrap()], &request.unwrap());
    }
    assert_eq!(asked, [2, 0, 2, 0, 0, 0]);
}

/// An appliance's device that has room for one route to an interrupt, and may not know of it yet.
struct OneRoute {
    behind: bool,
}

impl Routes for OneRoute {
    fn call(&mut self, _queue: &mut Queue) -> Option<InterruptRoute> {
        Some(InterruptRoute { peer: PeerId(7), lasting: false })
    }

    fn kick(&mut self, _queue: &Queue) -> Option<u16> {
        None
    }

    fn is_behind(&self) -> bool {
        self.behind
    }
}

#[test]
fn a_route_is_told_to_the_appliance_only_when_its_device_knows_of_it() {
    let mut export = attached();
    want_queue(&mut export);
    export.queues[0].call = Some(event());
    let ask = |export: &mut Export, behind| export.next(|_| 0, &mut OneRoute { behind });
    let call = Some(Call { peer: 7, vector: 0 });
    assert_eq!(ask(&mut export, true), None);
    assert!(export.rests());
    let Some(request @ Request::Start(start)) = ask(&mut export, false) else { panic!("it is not started") };
    assert_eq!(start.call, call);
    done(&mut export, &request);
    // Its route is another one by now.
    export.queues[0].running.as_mut().unwrap().call = None;
    assert_eq!(ask(&mut export, true), None);
    let set = Request::SetCall { export: ExportIndex(0), queue: QueueIndex(0), call };
    assert_eq!(ask(&mut export, false), Some(set));
}

fn event() -> Arc<ForeignEvent> {
    let file = File::from(OwnedFd::from(EventFd::new().unwrap()));
    Arc::new(ForeignEvent::new(file).unwrap())
}

/// A front end wants the queue of an export to be served.
fn want_queue(export: &mut Export) {
    let queue = &mut export.queues[0];
    queue.set_size(16);
    queue.rings = Some(Rings { desc: 0, avail: 0x1000, used: 0x2000 });
    queue.set_kick(Some(event()));
    queue.enabled = true;
}

#[test]
fn a_queue_that_the_bridge_answers_in_is_not_served_by_the_appliance_and_does_not_rest() {
    let mut export = attached();
    want_queue(&mut export);
    export.queues[0].refusing = true;
    assert!(!export.rests());
    assert_eq!(next(&mut export), None);
    export.queues[0].refusing = false;
    assert!(export.rests());
    assert!(matches!(next(&mut export), Some(Request::Start(_))));
    assert!(!export.rests());
}
