//! A small ring of what a CPU has done with its queues, step by step. Who comes and goes is among the events
//! ([`crate::events`]).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use service::admin::commands::machine::TraceEvent;
use service::control::{ExportIndex, QueueIndex};

/// How many events a ring keeps.
const EVENTS: usize = 128;

/// A step of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Requests were completed, all in one poll.
    Served { queue: Name, requests: u32, failed: u32, called: bool },
    /// The queue is empty: its driver was asked for a kick.
    Rests { queue: Name },
    /// It is served from now on, from this index.
    Started { queue: Name, base: u16 },
    /// It is served by this CPU from now on, which has less to do than the one before.
    Moved { queue: Name },
    /// It is not served any more.
    Stopped { queue: Name, base: u16 },
}

/// A queue of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) ExportIndex, pub(super) QueueIndex);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "export {} queue {}", self.0.0, self.1.0)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served { queue, requests, failed, called } => {
                write!(f, "{queue}: {requests} served")?;
                if *failed > 0 {
                    write!(f, ", {failed} failed")?;
                }
                f.write_str(if *called { ", driver called" } else { "" })
            }
            Self::Rests { queue } => write!(f, "{queue}: rests"),
            Self::Started { queue, base } => write!(f, "{queue}: started at {base}"),
            Self::Moved { queue } => write!(f, "{queue}: comes from another CPU"),
            Self::Stopped { queue, base } => write!(f, "{queue}: stopped at {base}"),
        }
    }
}

/// The last events.
#[derive(Debug)]
pub(super) struct Ring {
    events: Vec<(u64, Event)>,
    next: usize,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { events: Vec::with_capacity(EVENTS), next: 0 }
    }

    /// Adds an event, in place of the oldest.
    pub(super) fn push(&mut self, now_ns: u64, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push((now_ns, event));
        } else {
            self.events[self.next] = (now_ns, event);
        }
        self.next = (self.next + 1) % EVENTS;
    }

    /// Returns the events in words, as events of this CPU.
    pub(super) fn show(&self, cpu: u32) -> impl Iterator<Item = TraceEvent> {
        self.events.iter().map(move |(at, event)| TraceEvent { at: at / 1000, cpu, event: text(event) })
    }
}

fn text(event: &Event) -> String {
    format!("{event}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_events() {
        let mut ring = Ring::new();
        let queue = Name(ExportIndex(1), QueueIndex(0));
        for at in 0..200 {
            ring.push(at * 1000, Event::Rests { queue });
        }
        let mut times: Vec<u64> = ring.show(3).map(|event| event.at).collect();
        times.sort_unstable();
        assert_eq!(times, (72..200).collect::<Vec<_>>());
    }
}
