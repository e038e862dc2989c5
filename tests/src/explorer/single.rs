//! One operation on a medium, cut at each of its fences.
//!
//! A cut between two fences leaves nothing that the cut just before the second one could not leave: what is pending
//! only grows, and what may be lost may be lost.

use std::collections::BTreeSet;

use btt::media::{Medium, NsOffset};
use btt::sim::{Event, Pending, Persistence, Sim};

use super::cut::{Explorer, Scene, apply};
use super::frame::{Frame, Windows};
use super::medium::CutMedium;
use super::{Scenario, Stop, Violation};

const PAGE: u64 = 4096;

/// An operation, and what it promises whenever it is cut.
pub trait Operation: Send + Sync {
    /// What it is called.
    fn name(&self) -> String;

    /// The medium before it.
    fn before(&self) -> Sim;

    /// Does it.
    ///
    /// # Errors
    /// Why it could not be done: on a sound medium it can.
    fn act(&self, sim: &Sim) -> Result<(), String>;

    /// Looks at what a cut left, as [`Scene::judge`]; `done`: the operation had ended.
    ///
    /// # Errors
    /// The promise that is broken.
    fn judge(&self, medium: &CutMedium, done: bool) -> Result<Vec<Event>, String>;

    /// Whether a place holds sector data, which no code reads unless it is mapped.
    fn is_data(&self, at: u64) -> bool;
}

/// An operation as a scenario.
pub struct Single<O>(pub O);

struct At<'a> {
    operation: &'a dyn Operation,
    name: u64,
    done: bool,
}

impl Scene for At<'_> {
    fn expectation(&self) -> u64 {
        super::frame::mix(self.name, u64::from(self.done))
    }

    fn is_data(&self, at: u64) -> bool {
        self.operation.is_data(at)
    }

    fn judge(&self, medium: &CutMedium) -> Result<Vec<Event>, String> {
        self.operation.judge(medium, self.done)
    }
}

/// What a scenario's name says of its medium.
pub(super) const fn kind(persistence: Persistence) -> &'static str {
    match persistence {
        Persistence::Lines => "",
        Persistence::Pieces => " behind a window",
        Persistence::Flushes => " behind FLUSHes",
    }
}

impl<O: Operation> Scenario for Single<O> {
    fn name(&self) -> String {
        self.0.name()
    }

    fn explore(&self, explorer: &mut Explorer<'_>) -> Result<(), Stop> {
        let violation = |events: &[Event], why: String| {
            let events = events.iter().map(describe).collect();
            Stop::Violation(Box::new(Violation { scenario: self.name(), events, landed: Vec::new(), why }))
        };
        let sim = self.0.before();
        explorer.set_medium(sim.len_bytes(), sim.persistence());
        let before = sim.fork();
        sim.record();
        let result = self.0.act(&sim);
        let events = sim.recorded();
        result.map_err(|why| violation(&events, why))?;

        let mut durable = Frame::new(windows(&before, &events), |at, into| before.visible(NsOffset(at), into));
        let mut pending = Pending::new(sim.persistence());
        let name = self.name().bytes().fold(0, |all, byte| super::frame::mix(all, u64::from(byte)));
        for (number, event) in events.iter().enumerate() {
            if *event == Event::Fence {
                let scene = At { operation: &self.0, name, done: false };
                explorer.cut(&mut durable, &pending, &scene).map_err(|stop| tell(stop, self, &events[..number]))?;
            }
            apply(event, &mut durable, &mut pending);
        }
        let scene = At { operation: &self.0, name, done: true };
        explorer.cut(&mut durable, &pending, &scene).map_err(|stop| tell(stop, self, &events))
    }
}

fn tell<O: Operation>(stop: Stop, single: &Single<O>, events: &[Event]) -> Stop {
    match stop {
        Stop::Violation(mut violation) => {
            violation.scenario = single.name();
            violation.events = events.iter().map(describe).collect();
            Stop::Violation(violation)
        }
        Stop::Time => Stop::Time,
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Store { at, bytes } => format!("store {at}: {bytes:02x?}"),
        Event::Stream { at, bytes } => {
            format!("stream {} bytes to {at}: {:02x?}…", bytes.len(), &bytes[..bytes.len().min(8)])
        }
        Event::WriteBack { at, bytes } => format!("start write-back of {bytes} bytes at {at}"),
        Event::Fence => "fence".into(),
    }
}

/// Every page that is not blank before, or stored to; and the first two, where any version's first info block is.
fn windows(before: &Sim, events: &[Event]) -> Windows {
    let mut pages: BTreeSet<u64> = [0, 1].into();
    let mut bytes = vec![0; 4096];
    for page in 0..before.len_bytes() / PAGE {
        before.visible(NsOffset(page * PAGE), &mut bytes);
        if bytes.iter().any(|byte| *byte != 0) {
            pages.insert(page);
        }
    }
    for event in events {
        if let Event::Store { at, bytes } | Event::Stream { at, bytes } = event {
            pages.extend(at.0 / PAGE..=(at.0 + bytes.len() as u64 - 1) / PAGE);
        }
    }
    let parts: Vec<_> = pages.into_iter().map(|page| page * PAGE..(page + 1) * PAGE).collect();
    let joined = parts.iter().fold(Vec::new(), |mut all: Vec<std::ops::Range<u64>>, part| {
        match all.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => all.push(part.clone()),
        }
        all
    });
    Windows::new(&joined)
}
