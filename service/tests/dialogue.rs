//! The greeting of bridge and appliance over a link that delays, loses, doubles and reorders, while both start anew:
//! every order of a bounded number of such faults, with the real code of both ends.
//!
//! From every state that faults can lead to, a link without further faults brings both together within seconds: the
//! bridge knows this run of the appliance, the appliance this bridge and what it has attached, and the Hellos on the way
//! are few.

use std::collections::HashSet;

use service::control::dialogue::{Asking, GREETING_MS, Greeting, Heard, introduction};
use service::control::{Attach, Deframer, DiskIndex, ExportIndex, MemoryId, Outcome, Report, Request};

/// The step of time: less than the least wait that the protocol has.
const TICK_MS: u64 = 250;
/// More than a lease, an answer's wait and a greeting's together.
const TICKS_TO_MEET: u32 = 40;
/// A lease is shorter here than it is: so that one runs out within a run.
const LEASE_TICKS: u64 = 8;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Link {
    now_ms: u64,
    bridge: Asking,
    session: u64,
    /// What the bridge believes that the appliance has attached.
    believed: bool,
    appliance: Greeting,
    attached: bool,
    lease_until_ms: u64,
    to_appliance: Vec<(u16, Request)>,
    to_bridge: Vec<(u16, Report)>,
    /// How many Hellos the bridge has sent in this second.
    hellos: u8,
    /// Faults that may still happen.
    faults: Faults,
}

/// The most Hellos of a bridge in a second: one of its own, and those that an appliance's restarts ask for again.
const HELLOS_MAX: u8 = 4;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Faults {
    delays: u8,
    losses: u8,
    doublings: u8,
    swaps: u8,
    appliance_restarts: u8,
    bridge_restarts: u8,
}

fn attach() -> Request {
    let (export, memory, disk) = (ExportIndex(0), MemoryId(0), DiskIndex(0));
    Request::Attach(Attach { export, memory, features: 0, disk, regions: Vec::new() })
}

impl Link {
    fn new(faults: Faults) -> Self {
        Self {
            now_ms: 0,
            bridge: Asking::new(1),
            session: 1,
            believed: false,
            appliance: Greeting::new(100),
            attached: false,
            lease_until_ms: 0,
            to_appliance: Vec::new(),
            to_bridge: Vec::new(),
            hellos: 0,
            faults,
        }
    }

    /// What both ends do by themselves.
    fn act(&mut self) {
        let has_lease = self.now_ms < self.lease_until_ms;
        if let Some(hello) = self.appliance.unasked(self.now_ms, has_lease) {
            self.to_bridge.push((0, hello));
        }
        if self.bridge.may_ask(self.now_ms) && self.bridge.has_told_all() && !self.believed {
            self.bridge.ask(attach());
        }
        while let Some((sequence, request)) = self.bridge.send(self.now_ms) {
            self.hellos += u8::from(matches!(request, Request::Hello { .. }));
            assert!(self.hellos <= HELLOS_MAX, "they greet each other without end");
            self.to_appliance.push((sequence, request.clone()));
        }
    }

    fn deliver_to_appliance(&mut self) {
        let (sequence, request) = self.to_appliance.remove(0);
        let report = match request {
            Request::Hello { session } => {
                if self.appliance.is_new(session) {
                    self.attached = false;
                }
                Report::Hello { boot: self.appliance.boot(), disks: 0 }
            }
            Request::Ping { boot, .. } if !self.appliance.is_for_us(boot) => {
                return self.to_bridge.push((0, self.appliance.hello()));
            }
            Request::Ping { .. } => {
                self.lease_until_ms = self.now_ms + LEASE_TICKS * TICK_MS;
                Report::Done(Outcome::Ok)
            }
            _ => {
                self.attached = true;
                Report::Done(Outcome::Ok)
            }
        };
        self.to_bridge.push((sequence, report));
    }

    fn deliver_to_bridge(&mut self) {
        let (sequence, report) = self.to_bridge.remove(0);
        let met = self.is_met();
        match self.bridge.take(self.now_ms, sequence, &report) {
            Heard::Started => self.believed = false,
            Heard::Answer(Request::Attach(_)) => self.believed = true,
            _ => {}
        }
        assert!(!met || sequence == 0 || self.is_met(), "a late answer begins it all again: {report:?}");
    }

    fn pass(&mut self, ms: u64) {
        let before = self.now_ms;
        self.now_ms += ms;
        if before / 1000 != self.now_ms / 1000 {
            self.hellos = 0;
        }
    }

    fn is_met(&self) -> bool {
        self.bridge.has_told_all() && self.believed && self.attached && self.now_ms < self.lease_until_ms
    }

    /// All that may happen next.
    fn steps(&self) -> Vec<Link> {
        let mut steps = Vec::new();
        let mut step = |change: &mut dyn FnMut(&mut Link)| {
            let mut next = self.clone();
            change(&mut next);
            next.act();
            steps.push(next);
        };
        if !self.to_appliance.is_empty() {
            step(&mut |it| it.deliver_to_appliance());
        }
        if !self.to_bridge.is_empty() {
            step(&mut |it| it.deliver_to_bridge());
        }
        let quiet = self.to_appliance.is_empty() && self.to_bridge.is_empty();
        if quiet && !self.is_met() {
            step(&mut |it| it.pass(TICK_MS));
        }
        let Faults { delays, losses, doublings, swaps, appliance_restarts, bridge_restarts } = self.faults;
        if !quiet && delays > 0 {
            step(&mut |it| {
                it.faults.delays -= 1;
                it.pass(GREETING_MS);
            });
        }
        if appliance_restarts > 0 {
            step(&mut |it| {
                it.faults.appliance_restarts -= 1;
                it.appliance = Greeting::new(it.appliance.boot() + 1);
                (it.attached, it.lease_until_ms) = (false, 0);
            });
        }
        if bridge_restarts > 0 {
            step(&mut |it| {
                it.faults.bridge_restarts -= 1;
                it.hellos = 0;
                it.session += 1000;
                (it.bridge, it.believed) = (Asking::new(it.session), false);
            });
        }
        for both in [false, true] {
            let waiting = if both { self.to_bridge.len() } else { self.to_appliance.len() };
            if waiting > 0 && losses > 0 {
                step(&mut |it| {
                    it.faults.losses -= 1;
                    if both { drop(it.to_bridge.remove(0)) } else { drop(it.to_appliance.remove(0)) }
                });
            }
            if waiting > 0 && doublings > 0 {
                step(&mut |it| {
                    it.faults.doublings -= 1;
                    if both {
                        it.to_bridge.push(it.to_bridge[0].clone());
                    } else {
                        it.to_appliance.push(it.to_appliance[0].clone());
                    }
                });
            }
            // Only answers: what reorders requests is no serial line.
            if both && waiting > 1 && swaps > 0 {
                step(&mut |it| {
                    it.faults.swaps -= 1;
                    it.to_bridge.swap(0, 1);
                });
            }
        }
        steps
    }

    /// Without further faults both come together, and stay so; with few Hellos.
    fn meets(mut self) {
        let (from, mut hellos) = (self.now_ms, 0);
        for tick in 0..TICKS_TO_MEET {
            let mut delivered = 0;
            loop {
                self.act();
                hellos += self.to_appliance.iter().filter(|(_, it)| matches!(it, Request::Hello { .. })).count();
                while !self.to_appliance.is_empty() {
                    self.deliver_to_appliance();
                    delivered += 1;
                }
                if self.to_bridge.is_empty() {
                    break;
                }
                while !self.to_bridge.is_empty() {
                    self.deliver_to_bridge();
                    delivered += 1;
                }
                assert!(delivered < 50, "they talk without end");
            }
            if tick == TICKS_TO_MEET - 1 {
                assert!(self.is_met(), "not met {} ms after the last fault", self.now_ms - from);
            }
            self.pass(TICK_MS);
        }
        // What is on its way at the start counts, too; then one a second at most, and one that is sent again.
        assert!(hellos <= 12, "{hellos} Hellos in 10 s");
    }
}

/// Visits every state that can be reached; how many there are.
fn explore(faults: Faults) -> usize {
    let (mut seen, mut met) = (HashSet::new(), HashSet::new());
    let mut left = vec![Link::new(faults)];
    left[0].act();
    while let Some(link) = left.pop() {
        if seen.contains(&link) {
            continue;
        }
        left.extend(link.steps());
        // What follows does not depend on the faults that are left.
        let bare = Link { faults: NONE, ..link.clone() };
        if met.insert(bare.clone()) {
            bare.meets();
        }
        seen.insert(link);
    }
    seen.len()
}

const NONE: Faults = Faults { delays: 0, losses: 0, doublings: 0, swaps: 0, appliance_restarts: 0, bridge_restarts: 0 };

#[test]
fn both_meet_whatever_a_slow_link_loses_while_the_appliance_starts_anew() {
    assert!(explore(Faults { delays: 2, losses: 1, appliance_restarts: 2, ..NONE }) > 10_000);
}

#[test]
fn both_meet_whatever_is_doubled_and_reordered_around_restarts_of_both() {
    assert!(
        explore(Faults { delays: 1, doublings: 2, swaps: 1, appliance_restarts: 1, bridge_restarts: 1, ..NONE })
            > 10_000
    );
}

#[test]
fn both_meet_when_all_kinds_of_fault_happen_once() {
    let all = Faults { delays: 1, losses: 1, doublings: 1, swaps: 1, appliance_restarts: 1, bridge_restarts: 1 };
    assert!(explore(all) > 10_000);
}

#[test]
fn a_hello_that_the_firmware_swallowed_is_not_what_the_greeting_waits_for() {
    let mut link = Link::new(NONE);
    link.now_ms = 10_000;
    link.act();
    link.deliver_to_bridge();
    link.act();
    let sent = link.to_appliance.clone();
    assert!(matches!(&sent[..], [(_, Request::Hello { .. })]), "{sent:?}");
    // The appliance starts anew before it reads that; then it reads it after all, and a second one.
    link.appliance = Greeting::new(101);
    link.act();
    link.now_ms += TICK_MS;
    link.deliver_to_bridge();
    link.act();
    assert_eq!(link.to_appliance.len(), 2);
    link.meets();
}

#[test]
fn as_many_disks_as_there_are_numbers_are_all_announced() {
    let disks: Vec<Report> = (0..=u8::MAX).map(|number| Report::DiskGone { disk: DiskIndex(number) }).collect();
    let frames = introduction(1, 7, &disks);
    let mut deframer = Deframer::new();
    let payload = frames[0].iter().find_map(|byte| deframer.push(*byte)).expect("a frame").expect("a sound one");
    assert_eq!(Report::decode(&payload), Ok((7, Report::Hello { boot: 1, disks: 256 })));
    assert_eq!(frames.len(), 257);
}
