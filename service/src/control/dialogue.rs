//! The greeting of bridge and appliance: the two ends' halves of rules 1 to 3 of the [module above](super), without I/O.
//!
//! [`Asking`] is the bridge's half, [`Greeting`] the appliance's. Both are told the time, in milliseconds of any clock
//! that never goes back.
//!
//! These hold whatever a link delays, loses or doubles, and whichever end starts anew in between:
//!
//! - An answer counts for the request that is pending, by its number, and only once. A late or doubled one counts for
//!   nothing: above all it does not begin the greeting again. (Two Hellos on their way, each of whose answers led to
//!   another Hello, would never end.)
//! - Each end sends at most one Hello of its own a [`GREETING_MS`]; the bridge repeats one that an appliance that has
//!   just started cannot have read, at most once in [`AGAIN_MS`].
//! - The bridge is silent until it hears an appliance: firmware and boot loaders listen on the same wire.
//!
//! `service/tests/dialogue.rs` goes through all orders of a bounded number of such faults.

use alloc::vec::Vec;

use super::{ANSWER_MS, LEASE_MS, PING_MS, Report, Request};

/// How often an appliance that serves under no lease sends Hello, and the least time between two Hellos of a bridge, in
/// milliseconds.
pub const GREETING_MS: u64 = 1000;

/// The least time before a pending Hello is sent again because an appliance has just started, in milliseconds.
pub const AGAIN_MS: u64 = 250;

/// A request whose answer is not there yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    request: Request,
    sequence: u16,
    sent_ms: Option<u64>,
}

/// The bridge's half: one request at a time, Hello first, and a Ping beside it: a request that takes long costs no lease, and
/// shows no silence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asking {
    session: u64,
    sequence: u16,
    pending: Option<Pending>,
    /// The Ping that is not answered yet.
    ping: Option<Pending>,
    /// Whether this run has answered a Ping. Before that nothing else is asked: what was on its way to it when it answered
    /// Hello, such as a former bridge's Hello, has arrived by then, and undoes nothing.
    leased: bool,
    /// Whether an appliance was heard at all.
    heard: bool,
    /// The run of the appliance that has answered Hello.
    boot: Option<u64>,
    /// The number of the Hello that it answered: its Disks carry the same.
    greeted_by: u16,
    /// How many Disks are still to come.
    untold: u16,
    /// When the last new Hello was made.
    hello_ms: Option<u64>,
    /// When the last Ping was made. `None`: one is due.
    pinged_ms: Option<u64>,
}

/// The meaning of a report for the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing: it is late, or from an appliance that has not answered Hello.
    Nothing,
    /// The appliance has started, or started anew: what it was told before is forgotten.
    Started,
    /// It answers this request.
    Answer(Request),
    /// It is a change, from an appliance that has answered Hello.
    News,
}

impl Asking {
    /// A bridge that has just started. `session` is a number that no other bridge has.
    #[must_use]
    pub fn new(session: u64) -> Self {
        let [low, high, ..] = session.to_le_bytes();
        Self {
            session,
            // Late answers to a former bridge's requests carry other numbers than answers to ours.
            sequence: u16::from_le_bytes([low, high]),
            pending: None,
            ping: None,
            leased: false,
            heard: false,
            boot: None,
            greeted_by: 0,
            untold: 0,
            hello_ms: None,
            pinged_ms: None,
        }
    }

    /// Whether an appliance has answered Hello, and has not started anew since.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.boot.is_some()
    }

    /// Whether it has also told all its disks.
    #[must_use]
    pub fn has_told_all(&self) -> bool {
        self.is_greeted() && self.untold == 0
    }

    /// Makes Hello the pending request, or a Ping beside it, if it is time for one. Returns true if another request may be
    /// asked now.
    pub fn may_ask(&mut self, now_ms: u64) -> bool {
        if !self.heard {
            return false;
        }
        let is_free = self.pending.is_none();
        let since = |then: Option<u64>| then.map_or(u64::MAX, |then| now_ms.saturating_sub(then));
        // A Disk may be lost on its way. To be greeted again changes nothing for an appliance that knows us.
        let lost = self.untold > 0 && since(self.hello_ms) > u64::from(ANSWER_MS) * 2;
        match self.boot {
            Some(_) if lost && is_free => self.hello(now_ms),
            Some(boot) => {
                if self.ping.is_none() && since(self.pinged_ms) >= u64::from(PING_MS) {
                    self.pinged_ms = Some(now_ms);
                    self.ping = Some(self.numbered(Request::Ping { lease_ms: LEASE_MS, boot }));
                }
                return is_free && self.leased;
            }
            None if is_free && since(self.hello_ms) >= GREETING_MS => self.hello(now_ms),
            None => {}
        }
        false
    }

    /// Whether the answer to a request, or to Hello, is not there yet.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.pending.is_some()
    }

    fn hello(&mut self, now_ms: u64) {
        self.hello_ms = Some(now_ms);
        self.ask(Request::Hello { session: self.session });
    }

    /// Makes this the pending request.
    ///
    /// # Panics
    /// If one is pending: ask [`Asking::may_ask`] first.
    pub fn ask(&mut self, request: Request) {
        assert!(self.pending.is_none(), "one request at a time");
        self.pending = Some(self.numbered(request));
    }

    fn numbered(&mut self, request: Request) -> Pending {
        // 0 is for reports without a request.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        Pending { request, sequence: self.sequence, sent_ms: None }
    }

    /// The next frame to send now: a request that was never sent, or not answered in time. To be called until there is none.
    pub fn send(&mut self, now_ms: u64) -> Option<(u16, &Request)> {
        let is_due =
            |it: &&mut Pending| it.sent_ms.is_none_or(|sent| now_ms.saturating_sub(sent) >= u64::from(ANSWER_MS));
        let due = [&mut self.ping, &mut self.pending].into_iter().flatten().find(is_due)?;
        due.sent_ms = Some(now_ms);
        Some((due.sequence, &due.request))
    }

    /// How long nothing is to be done if nothing arrives and no request is to be asked.
    #[must_use]
    pub fn idle_ms(&self, now_ms: u64) -> u64 {
        let left =
            |then: Option<u64>, wait: u64| then.map_or(0, |then| wait.saturating_sub(now_ms.saturating_sub(then)));
        let again = |it: &Option<Pending>| it.as_ref().map(|it| left(it.sent_ms, ANSWER_MS.into()));
        let pending = again(&self.pending);
        let other = match self.boot {
            Some(_) => again(&self.ping).unwrap_or_else(|| left(self.pinged_ms, PING_MS.into())),
            None if self.heard && pending.is_none() => left(self.hello_ms, GREETING_MS),
            None => GREETING_MS,
        };
        pending.map_or(other, |pending| pending.min(other))
    }

    /// Returns the meaning of a report. `sequence` is the number that it carries.
    pub fn take(&mut self, now_ms: u64, sequence: u16, report: &Report) -> Heard {
        let is_answered = |it: &mut Pending| it.sent_ms.is_some() && it.sequence == sequence && sequence != 0;
        let answered = self.pending.take_if(is_answered).or_else(|| self.ping.take_if(is_answered));
        self.leased |=
            matches!((&answered, report), (Some(it), Report::Done(_)) if matches!(it.request, Request::Ping { .. }));
        match (report, answered.map(|it| it.request)) {
            (Report::Hello { boot, disks }, Some(Request::Hello { .. })) => {
                let started = self.boot != Some(*boot);
                (self.boot, self.greeted_by, self.untold) = (Some(*boot), sequence, *disks);
                if started {
                    (self.ping, self.leased, self.pinged_ms) = (None, false, None);
                    return Heard::Started;
                }
                Heard::News
            }
            (Report::Hello { boot, .. }, None) if sequence == 0 => self.is_heard(now_ms, *boot),
            // It took our request for another one: that request is over, and the report counts for nothing.
            (Report::Hello { .. }, _) => Heard::Nothing,
            (Report::Done(_) | Report::Stopped { .. }, Some(request)) => Heard::Answer(request),
            (Report::Done(_) | Report::Stopped { .. }, None) => Heard::Nothing,
            (Report::Disk(_) | Report::DiskGone { .. } | Report::Broken { .. }, _) if !self.is_greeted() => {
                Heard::Nothing
            }
            (Report::Disk(_), _) if sequence == self.greeted_by => {
                self.untold = self.untold.saturating_sub(1);
                Heard::News
            }
            (Report::Disk(_) | Report::DiskGone { .. } | Report::Broken { .. }, _) => Heard::News,
        }
    }

    /// Takes an unasked Hello of an appliance.
    fn is_heard(&mut self, now_ms: u64, boot: u64) -> Heard {
        self.heard = true;
        if self.boot == Some(boot) {
            // Our Pings do not reach it.
            (self.ping, self.pinged_ms) = (None, None);
            return Heard::Nothing;
        }
        (self.boot, self.ping, self.leased) = (None, None, false);
        match &mut self.pending {
            Some(Pending { request: Request::Hello { .. }, sent_ms, .. }) => {
                // It may have been lost with the machine's firmware, or with the run before this one.
                if sent_ms.is_some_and(|sent| now_ms.saturating_sub(sent) >= AGAIN_MS) {
                    *sent_ms = None;
                }
            }
            // Its answer, if one comes, is late.
            _ => self.pending = None,
        }
        Heard::Started
    }
}

/// The appliance's half.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    boot: u64,
    session: Option<u64>,
    said_ms: Option<u64>,
}

impl Greeting {
    /// An appliance that has just started. `boot` is a number that no other run has.
    #[must_use]
    pub const fn new(boot: u64) -> Self {
        Self { boot, session: None, said_ms: None }
    }

    /// This run's number.
    #[must_use]
    pub const fn boot(&self) -> u64 {
        self.boot
    }

    /// The Hello to send unasked now, if it is time: while there is no lease, a bridge may not know that we are here.
    pub fn unasked(&mut self, now_ms: u64, has_lease: bool) -> Option<Report> {
        if has_lease || self.said_ms.is_some_and(|said| now_ms.saturating_sub(said) < GREETING_MS) {
            return None;
        }
        self.said_ms = Some(now_ms);
        Some(self.hello())
    }

    /// A Hello that no Disk follows.
    #[must_use]
    pub const fn hello(&self) -> Report {
        Report::Hello { boot: self.boot, disks: 0 }
    }

    /// Takes a bridge's Hello. Returns true if the bridge is another one than before: what the former one attached is to be
    /// forgotten.
    pub fn is_new(&mut self, session: u64) -> bool {
        self.session.replace(session) != Some(session)
    }

    /// Whether a Ping is for this run. [`Greeting::hello`] is the answer to one for another run.
    #[must_use]
    pub const fn is_for_us(&self, boot: u64) -> bool {
        self.boot == boot && self.session.is_some()
    }
}

/// The frames of a Hello that was asked for by `sequence`, and of the Disks that follow it.
#[must_use]
pub fn introduction(boot: u64, sequence: u16, disks: &[Report]) -> Vec<Vec<u8>> {
    let count = u16::try_from(disks.len()).expect("a disk is numbered by a byte: there are at most 256");
    let hello = Report::Hello { boot, disks: count };
    core::iter::once(&hello).chain(disks).map(|report| report.encode(sequence)).collect()
}
