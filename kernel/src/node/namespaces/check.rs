//! `check-namespace`: looking at the whole of a BTT, and mending it when asked.

use crate::node::attach::{State, medium, placement};
use crate::node::content::Content;
use crate::node::disk::admin_error;
use crate::node::{Machine, Node, SlotPlace};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use btt::Placement;
use btt::check::{self, check};
use btt::repair::{Orders, forbid_zero_entries, repair};
use drivers::medium::AnyMedium;
use service::admin::commands::namespaces::check::{Check, CheckNamespace, Finding};
use service::error::AdminError;
use uuid::Builder;

/// How many findings a check names; the rest are counted.
const FINDINGS_SHOWN: usize = 1000;
/// How long a check is silent.
const PROGRESS_NS: u64 = 2_000_000_000;

impl<M: Machine> Node<M> {
    /// Checks, and repairs if asked to.
    pub(super) fn check(&mut self, place: SlotPlace, request: &CheckNamespace) -> Result<Check, AdminError> {
        let namespace = &self.at(place).namespace;
        let failed = |why: String| AdminError::failed(format!("{}: {why}", namespace.id));
        let Some(placement) = placement(namespace) else {
            return Err(failed("its label says that it is no sector-mode namespace".into()));
        };
        let changes = request.repair || request.rewrite_log || request.portable;
        match &self.at(place).state {
            State::Raw(content @ Content::Blank) => return Err(failed(format!("there is no BTT to check: {content}"))),
            State::Raw(content) if !request.repair => {
                return Err(failed(format!("there is no BTT to check: {content}; -R looks for the rest of one")));
            }
            State::Raw(content @ Content::Recognised(_)) if !request.force && !content.is_btt() => {
                return Err(failed(format!("{content}: -f looks for the rest of a BTT all the same")));
            }
            State::Unsupported(why) => {
                return Err(failed(format!(
                    "it holds {why}. It is not known to be damaged, and nothing here can check or repair it"
                )));
            }
            State::Held(held) => return Err(held.error(namespace.id)),
            _ if namespace.read_only && changes => {
                return Err(AdminError::read_only(format!(
                    "{} is read-only: check it without -R and -L",
                    namespace.id
                )));
            }
            _ => {}
        }
        let id = namespace.id.to_string();
        let mut found = Findings::default();
        let arenas = if changes {
            self.mend(place, placement, request, &mut found)?
        } else {
            self.look(place, placement, &mut found)?
        };
        Ok(Check { dev: id, arenas, findings: found.finish() })
    }

    /// A thirty-second of RAM for the bits: one pass over the map, if the arena is not huge and the machine small.
    fn window_blocks(&self) -> u32 {
        u32::try_from(self.machine.memory_bytes() / 32 * 8).unwrap_or(u32::MAX)
    }

    fn medium_at(&self, place: SlotPlace) -> Result<AnyMedium, AdminError> {
        let failed = |why: String| AdminError::failed(format!("{}: {why}", self.at(place).namespace.id));
        let region = self.regions[place.region].medium.as_ref().map_err(|why| failed(why.clone()))?;
        medium(region, &self.at(place).namespace).map_err(failed)
    }

    /// How many arenas were looked at.
    fn look(&self, place: SlotPlace, placement: Placement, found: &mut Findings) -> Result<u32, AdminError> {
        let mut progress = self.progress(place, "checked");
        let mut look = |media: &AnyMedium| {
            let mut report = |finding| found.add(&finding, false);
            check(media, placement, self.window_blocks(), &mut report, &mut progress).arenas
        };
        match &self.at(place).state {
            State::Sector(disk) => {
                let _hold = self.exports.hold(disk);
                disk.btt.exclusively(&mut look).map_err(|why| admin_error(&disk.name, &why))
            }
            _ => Ok(look(&self.medium_at(place)?)),
        }
    }

    /// Closes the namespace, repairs it, and opens it again, if it was open. How many arenas were looked at.
    fn mend(
        &mut self,
        place: SlotPlace,
        placement: Placement,
        request: &CheckNamespace,
        found: &mut Findings,
    ) -> Result<u32, AdminError> {
        let medium = self.medium_at(place)?;
        let enabled = self.at(place).state.is_enabled();
        self.disable(place)?;
        let orders = Orders {
            repair: request.repair,
            rewrite_log: request.rewrite_log,
            force: request.force,
            fresh_uuid: Builder::from_random_bytes(self.machine.random()).into_uuid(),
            window_blocks: self.window_blocks(),
        };
        let mut progress = self.progress(place, "checked");
        let mut report = |finding, repaired| found.add(&finding, repaired);
        let arenas = repair(&medium, placement, &orders, &mut report, &mut progress).arenas;
        drop(progress);
        let portable = if request.portable { self.make_portable(place, placement, &medium, found) } else { Ok(()) };
        if enabled {
            self.open(place);
        }
        portable.map(|()| arenas)
    }

    /// Writes out the map's TRIM entries, and forbids new ones.
    fn make_portable(
        &mut self,
        place: SlotPlace,
        placement: Placement,
        medium: &AnyMedium,
        found: &mut Findings,
    ) -> Result<(), AdminError> {
        self.open(place);
        if let State::Sector(disk) = &self.at(place).state {
            // No consumer has the disk: it has not been offered.
            let mut progress = self.progress(place, "made portable");
            let written = disk.btt.lane(M::this_cpu()).write_out_zero_entries(&mut progress);
            drop(progress);
            match written.map_err(|why| admin_error(&disk.name, &why))? {
                0 => {}
                count => found.note(format!("{count} sectors were TRIM entries, which today's Linux misreads"), true),
            }
            self.disable(place)?;
            let id = self.at(place).namespace.id;
            forbid_zero_entries(medium, placement).map_err(|why| AdminError::failed(format!("{id}: {why}")))?;
            if btt::chain::allows_zero_entries(medium, placement) != Ok(false) {
                let what = "the info blocks do not read as they were written";
                return Err(AdminError::damaged(format!("{id}: {what}")));
            }
        }
        Ok(())
    }

    /// Says on the console's log how far something long is ("checked"), and attends to consumers meanwhile. Requests on a
    /// disk that is checked wait.
    fn progress(&self, place: SlotPlace, done_so: &'static str) -> impl FnMut(u64, u64) + use<'_, M> {
        let id = self.at(place).namespace.id;
        let cpu = M::this_cpu();
        let mut next = self.machine.now_ns() + PROGRESS_NS;
        move |done, total| {
            self.exports.attend(cpu);
            if self.machine.now_ns() >= next {
                next = self.machine.now_ns() + PROGRESS_NS;
                self.machine.log(format_args!("{id}: {done_so} {} %", done.saturating_mul(100) / total.max(1)));
            }
        }
    }
}

/// A check's findings, the first thousand of them in words.
#[derive(Default)]
struct Findings {
    shown: Vec<Finding>,
    more: u64,
    /// Whether one that is not shown is not repaired.
    rest_unrepaired: bool,
}

impl Findings {
    fn add(&mut self, finding: &check::Finding, repaired: bool) {
        if self.shown.len() == FINDINGS_SHOWN {
            self.more += 1;
            self.rest_unrepaired |= !repaired;
            return;
        }
        let place = match (finding.arena(), finding.at()) {
            (Some(arena), Some(at)) => format!("arena {arena}, namespace offset {at}"),
            (Some(arena), None) => format!("arena {arena}"),
            _ => "namespace".to_string(),
        };
        self.shown.push(Finding { what: finding.to_string(), place, repaired });
    }

    fn note(&mut self, what: String, repaired: bool) {
        self.shown.push(Finding { what, place: "namespace".to_string(), repaired });
    }

    fn finish(mut self) -> Vec<Finding> {
        if self.more > 0 {
            self.note(format!("{} further findings are not shown", self.more), !self.rest_unrepaired);
        }
        self.shown
    }
}
