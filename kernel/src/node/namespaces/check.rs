//! `check-namespace`: checks the whole of a BTT, and repairs it if it is told to.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use btt::Placement;
use btt::check::{self, check};
use btt::repair::{RepairOptions, forbid_zero_entries, repair};
use drivers::medium::AnyMedium;
use nvdimm::namespace::NamespaceId;
use service::admin::commands::namespaces::check::{Check, CheckNamespace, Finding};
use service::admin::job::{JobWork, Pauses};
use service::error::AdminError;
use service::events::{Kind, Severity};
use service::progress::Progress;
use uuid::Builder;

use crate::node::attach::{State, medium, placement};
use crate::node::content::Content;
use crate::node::disk::{BttDisk, admin_error};
use crate::node::export::Exports;
use crate::node::{Machine, Node, SlotPlace};

/// The number of findings that a check names; the rest are counted.
const FINDINGS_SHOWN: usize = 1000;

impl<M: Machine> Node<M> {
    /// Checks a namespace, and repairs it if the request says so.
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
            State::Unusable(it) => return Err(it.error(namespace.id)),
            _ if namespace.read_only && changes => {
                return Err(AdminError::read_only(format!(
                    "{} is read-only: check it without -R and -L",
                    namespace.id
                )));
            }
            _ => {}
        }
        let id = namespace.id;
        if changes {
            let mut found = CheckReport::default();
            let arenas = self.mend(place, placement, request, &mut found)?;
            return Ok(Check { dev: id.to_string(), arenas, findings: found.finish() });
        }
        match &self.at(place).state {
            State::Sector(disk) => {
                self.wait_while(disk, BttDisk::is_in_hand)?;
                let in_hand = disk.take_in_hand();
                look_at_open(&in_hand.disk, &self.exports, self.look(place, placement, self.window_blocks()), self)
            }
            _ => self.look(place, placement, self.window_blocks()).at(&self.medium_at(place)?, self),
        }
    }

    /// As [`Node::check`], for a job that stores nothing. `None`: the namespace is not open, or a command has it in hand.
    pub(super) fn check_as_job(&self, place: SlotPlace) -> Option<Result<JobWork<Check>, AdminError>> {
        let slot = self.at(place);
        let State::Sector(disk) = &slot.state else { return None };
        let placement = placement(&slot.namespace)?;
        if !disk.is_free() {
            return None;
        }
        // There may be several.
        let look = self.look(place, placement, self.window_blocks() / 2);
        let (in_hand, exports) = (disk.take_in_hand(), Arc::clone(&self.exports));
        Some(Ok(Box::new(move |pauses| look_at_open(&in_hand.disk, &exports, look, pauses))))
    }

    fn look(&self, place: SlotPlace, placement: Placement, window_blocks: u32) -> Look {
        Look { id: self.at(place).namespace.id, placement, window_blocks }
    }

    /// Returns how many blocks one pass over the map looks at, with a bit for each in a thirty-second of RAM: that is one pass
    /// if the arena is not huge and the machine small. An arena has fewer than 2^32 blocks, so a machine with more bits than
    /// that is given as many.
    fn window_blocks(&self) -> u32 {
        let bits = self.machine.memory_bytes() / 32 * 8;
        u32::try_from(bits.min(u32::MAX.into())).expect("at most 2^32 - 1")
    }

    fn medium_at(&self, place: SlotPlace) -> Result<AnyMedium, AdminError> {
        let failed = |why: String| AdminError::failed(format!("{}: {why}", self.at(place).namespace.id));
        let region = self.regions[place.region].medium.as_ref().map_err(|why| failed(why.clone()))?;
        medium(region, &self.at(place).namespace).map_err(failed)
    }

    /// Closes the namespace, repairs it, and leaves it open if it was, else disabled. Returns how many arenas were
    /// checked.
    fn mend(
        &mut self,
        place: SlotPlace,
        placement: Placement,
        request: &CheckNamespace,
        found: &mut CheckReport,
    ) -> Result<u32, AdminError> {
        let medium = self.medium_at(place)?;
        let was_disabled = self.at(place).state.is_disabled();
        if !was_disabled {
            self.disable(place)?;
        }
        let options = RepairOptions {
            repair: request.repair,
            rewrite_log: request.rewrite_log,
            force: request.force,
            fresh_uuid: Builder::from_random_bytes(self.machine.random()).into_uuid(),
            window_blocks: self.window_blocks(),
        };
        let mut tell = self.progress(place, "checked");
        // A repair is gone through with.
        let mut progress = |done, total| _ = tell(done, total);
        let mut report = |finding, repaired| found.add(&finding, repaired);
        let arenas = repair(&medium, placement, &options, &mut report, &mut progress).arenas;
        drop(tell);
        let portable = if request.portable { self.make_portable(place, placement, &medium, found) } else { Ok(()) };
        let closed = match (was_disabled, self.at(place).state.is_disabled()) {
            // What could not be made portable is still open, and stays so if its last writes are not durable.
            (true, false) => self.disable(place).inspect_err(|why| {
                let id = self.at(place).namespace.id;
                self.tell(Severity::Warning, Kind::Namespace, &id, format_args!("not disabled again: {why}"));
            }),
            (false, true) => {
                self.open(place);
                Ok(())
            }
            _ => Ok(()),
        };
        portable.and(closed).map(|()| arenas)
    }

    /// Writes the map's TRIM entries out as sectors of zeroes, forbids new ones, and leaves the namespace disabled.
    ///
    /// # Errors
    /// Why it is not portable; the namespace is left open, with what it has written.
    fn make_portable(
        &mut self,
        place: SlotPlace,
        placement: Placement,
        medium: &AnyMedium,
        found: &mut CheckReport,
    ) -> Result<(), AdminError> {
        self.open(place);
        let slot = self.at(place);
        let id = slot.namespace.id;
        let disk = match &slot.state {
            State::Sector(disk) => disk,
            // That it cannot be opened is among the findings.
            State::Damaged(_) => {
                found.note("its TRIM entries were not written out: it cannot be opened".into(), false);
                return Ok(());
            }
            // The check has found nothing that could have such entries, or there is no memory to open it.
            _ => return slot.check_usable(),
        };
        // No other CPU has the disk: it has not been offered. Its lane is held while others are attended to.
        let suspension = self.exports.suspend(disk);
        let mut tell = self.progress(place, "made portable");
        let written = disk.btt.lane(M::this_cpu()).write_out_zero_entries(&mut |done, total| _ = tell(done, total));
        drop((tell, suspension));
        match written.map_err(|why| admin_error(&disk.name, &why))? {
            0 => {}
            count => found.note(format!("{count} sectors were TRIM entries, which today's Linux misreads"), true),
        }
        self.disable(place)?;
        forbid_zero_entries(medium, placement).map_err(|why| AdminError::failed(format!("{id}: {why}")))?;
        if btt::chain::allows_zero_entries(medium, placement) != Ok(false) {
            let what = "the info blocks do not read as they were written";
            return Err(AdminError::damaged(format!("{id}: {what}")));
        }
        Ok(())
    }

    /// Returns what a long command calls as it goes on: it tells how far it is ("checked"), and attends to others. It returns
    /// whether the command is to end. Requests on the disk that is checked wait.
    fn progress(
        &self,
        place: SlotPlace,
        done_so: &'static str,
    ) -> impl FnMut(u64, u64) -> ControlFlow<()> + use<'_, M> {
        let id = self.at(place).namespace.id;
        move |done, total| self.goes_on(format_args!("{id}: {done_so}"), done, total, "blocks")
    }
}

/// A check that stores nothing.
struct Look {
    id: NamespaceId,
    placement: Placement,
    window_blocks: u32,
}

impl Look {
    /// Looks at a medium that nobody writes.
    fn at(self, media: &AnyMedium, pauses: &dyn Pauses) -> Result<Check, AdminError> {
        let Self { id, placement, window_blocks } = self;
        let (mut found, mut percent) = (CheckReport::default(), 0);
        let what = format!("{id}: checked");
        let mut progress = |done: u64, total: u64| {
            percent = done.saturating_mul(100) / total.max(1);
            pauses.pause(&Progress { what: &what, done, total, unit: "blocks" })
        };
        let summary = check(media, placement, window_blocks, &mut |finding| found.add(&finding, false), &mut progress);
        if summary.ended_early {
            let so_far = found.count();
            return Err(AdminError::interrupted(format!(
                "{id}: ended when {percent} % was checked; findings: {so_far}"
            )));
        }
        Ok(Check { dev: id.to_string(), arenas: summary.arenas, findings: found.finish() })
    }
}

/// Looks at an open namespace, whose disk is in hand: consumers' requests wait meanwhile, and no other command writes. No lane
/// is held over a pause (invariant 20), so that nobody waits for one.
fn look_at_open(
    disk: &BttDisk<AnyMedium>,
    exports: &Exports,
    look: Look,
    pauses: &dyn Pauses,
) -> Result<Check, AdminError> {
    let _suspension = exports.suspend(disk);
    disk.btt.drain().map_err(|why| admin_error(&disk.name, &why))?;
    look.at(disk.btt.media(), pauses)
}

/// The reply of a check: the first thousand findings in words.
#[derive(Default)]
struct CheckReport {
    shown: Vec<Finding>,
    more: u64,
    /// Whether a finding that is not shown is not repaired.
    rest_unrepaired: bool,
}

impl CheckReport {
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

    /// Returns how many findings there are.
    fn count(&self) -> u64 {
        self.shown.len() as u64 + self.more
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
