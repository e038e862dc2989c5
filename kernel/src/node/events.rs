//! Events: what others tell, what the node finds out by looking, and the admin command about them.
//!
//! | event | is told by |
//! |---|---|
//! | what a command does, and what is found at boot | the node, as it does it |
//! | consumers and their bridge | [`super::export`], as they come and go |
//! | interfaces | the interfaces, which keep it until CPU 0 asks |
//! | hosts that come, go and are refused | the target, which CPU 0 looks at |
//! | what is wrong from now on: media errors, arenas that turn read-only | `health`, whose findings CPU 0 compares each second |

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use service::admin::commands::events::EventAdmin;
use service::admin::commands::inventory::{HealthFinding, InventoryAdmin as _};
use service::config::hosts::has_secret;
use service::error::AdminError;
use service::events::{Event, Filter, Kind, LastBoot, Severity};
use service::link::Asker;

use super::{Machine, Node, network};
use crate::events::News;

/// The time between two looks at what is wrong, and at which hosts there are.
const LOOK_NS: u64 = 1_000_000_000;

/// What was known when it was looked at last.
#[derive(Default)]
pub(super) struct Known {
    looked_at_ns: u64,
    findings: Vec<HealthFinding>,
    /// Pairs of a host and its subsystem.
    hosts: Vec<(String, String)>,
}

impl<M: Machine> Node<M> {
    /// Tells an event, and shows it.
    pub(super) fn tell(&self, severity: Severity, kind: Kind, place: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        self.machine.tell(&News { severity, kind, place, what });
    }

    /// Notes an event, which the console's loop shows when it can.
    fn note(&self, severity: Severity, kind: Kind, place: &dyn fmt::Display, what: fmt::Arguments<'_>) {
        self.journal.as_ref().as_ref().tell(&News { severity, kind, place, what });
    }

    /// Takes in what has happened since the last call. CPU 0 calls it again and again.
    pub fn look_around(&mut self) {
        self.networks.tell(|name, event| {
            let severity = network::severity(event);
            self.note(severity, Kind::Network, &name, format_args!("{event}"));
        });
        let now = self.machine.now_ns();
        if now.saturating_sub(self.known.looked_at_ns) >= LOOK_NS {
            self.known.looked_at_ns = now;
            self.look_at_hosts();
            self.look_at_health();
        }
    }

    /// What is wrong now has been told.
    pub(super) fn is_told(&mut self) {
        self.known.findings = self.health().findings;
    }

    fn look_at_health(&mut self) {
        let findings = self.health().findings;
        let old = core::mem::replace(&mut self.known.findings, findings);
        // Interfaces tell by themselves, and what is configured wrongly was told when it was found.
        let is_news = |it: &&HealthFinding| !matches!(it.kind, Kind::Network | Kind::Config) && !old.contains(it);
        for new in self.known.findings.iter().filter(is_news) {
            self.note(new.severity, new.kind, &new.place, format_args!("{}", new.what));
        }
    }

    fn look_at_hosts(&mut self) {
        let hosts = self.nvme.hosts();
        let old = core::mem::take(&mut self.known.hosts);
        for (host, nqn) in hosts.iter().filter(|it| !old.contains(it)) {
            self.note(Severity::Info, Kind::Host, host, format_args!("connected to {nqn}"));
        }
        for (host, nqn) in old.iter().filter(|it| !hosts.contains(it)) {
            self.note(Severity::Info, Kind::Host, host, format_args!("has no connection to {nqn} any more"));
        }
        self.known.hosts = hosts;
        for refusal in self.nvme.take_refusals() {
            let times = if refusal.times > 1 { format!(", {} times", refusal.times) } else { String::new() };
            let (host, nqn) = (refusal.host, refusal.subsystem);
            self.note(Severity::Warning, Kind::Host, &host, format_args!("refused at {nqn}: {}{times}", refusal.why));
        }
    }
}

impl<M: Machine> EventAdmin for Node<M> {
    fn newest_event(&self) -> u64 {
        self.journal.as_ref().as_ref().newest()
    }

    fn events(&self, filter: &Filter) -> Vec<Event> {
        self.journal.as_ref().as_ref().events(filter)
    }

    fn last_boot(&self) -> Option<LastBoot> {
        self.machine.last_boot()
    }

    fn note_change(&self, by: Asker, command: &str, failed: Option<&AdminError>) {
        let place = match by {
            Asker::Person => "console",
            Asker::Program | Asker::ProgramBeside | Asker::Elsewhere => "program",
        };
        let failed = failed.map_or_else(String::new, |why| match has_secret(&why.message) {
            true => format!(": {}", why.code),
            false => format!(": {}: {why}", why.code),
        });
        self.note(Severity::Info, Kind::Admin, &place, format_args!("{command}{failed}"));
    }
}

/// What has happened, for `trace`.
pub(super) fn traced(event: &Event) -> service::admin::commands::machine::TraceEvent {
    service::admin::commands::machine::TraceEvent { at: event.at_ns / 1000, cpu: event.cpu, event: event.to_string() }
}
