//! The admin commands about namespaces: names are resolved here, the rooms below work on places.
//!
//! | room | commands |
//! |---|---|
//! | [`create`] | create-namespace |
//! | [`switch`] | enable-, disable-, destroy-namespace |
//! | [`labels`] | init-labels; writes labels, and updates the node's namespaces |
//! | [`check`] | check-namespace |

mod check;
mod create;
mod labels;
mod switch;

use alloc::format;
use alloc::string::{String, ToString};

use btt::ArenaInfo;
use btt::flog::Slots;
use nvdimm::identity::DeviceHandle;
use service::admin::commands::namespaces::NamespaceAdmin;
use service::admin::commands::namespaces::arenas::{Arena, Arenas};
use service::admin::commands::namespaces::check::{Check, CheckNamespace};
use service::admin::commands::namespaces::create::CreateNamespace;
use service::admin::commands::namespaces::labels::{InitLabels, LabelArea};
use service::admin::job::JobWork;
use service::error::AdminError;
use service::inventory::Namespace;

use super::attach::State;
use super::disk::read_only_reason;
use super::{Machine, Node, SlotPlace};

impl<M: Machine> NamespaceAdmin for Node<M> {
    fn arenas(&mut self, name: &str) -> Result<Arenas, AdminError> {
        let slot = self.at(self.place(name)?);
        let id = slot.namespace.id;
        slot.check_usable()?;
        match &slot.state {
            State::Sector(disk) => {
                Ok(Arenas { dev: id.to_string(), arenas: disk.btt.arenas().map(|arena| describe(&arena)).collect() })
            }
            State::Raw(content) => Err(AdminError::failed(format!("{id} is not in sector mode: {content}"))),
            _ => Err(AdminError::failed(slot.how_to_enable())),
        }
    }

    fn init_labels(&mut self, request: &InitLabels) -> Result<LabelArea, AdminError> {
        let dimm = self.dimm_named(&request.dimm)?;
        let result = self.initialise_label_area(dimm, request);
        self.look_at_configs();
        result
    }

    fn create_namespace(&mut self, request: &CreateNamespace) -> Result<Namespace, AdminError> {
        let place = self.changing(|node| node.create(request));
        self.look_at_configs();
        let place = place?;
        self.keep_disabled(&self.name_at(place), false);
        Ok(self.shown(place))
    }

    fn destroy_namespace(&mut self, name: &str, force: bool) -> Result<String, AdminError> {
        let place = self.place(name)?;
        let destroyed = self.destroy(place, force);
        self.look_at_configs();
        let destroyed = destroyed?;
        self.keep_disabled(&destroyed, false);
        Ok(destroyed)
    }

    fn enable_namespace(&mut self, name: &str) -> Result<Namespace, AdminError> {
        let place = self.place(name)?;
        let result = self.enable(place);
        // One that is damaged is not disabled any more, either.
        if !self.at(place).state.is_disabled() {
            self.keep_disabled(&self.name_at(place), false);
        }
        result?;
        Ok(self.shown(place))
    }

    fn disable_namespace(&mut self, name: &str) -> Result<String, AdminError> {
        let place = self.place(name)?;
        self.disable(place)?;
        self.keep_disabled(&self.name_at(place), true);
        Ok(self.name_at(place))
    }

    fn check_namespace(&mut self, request: &CheckNamespace) -> Result<Check, AdminError> {
        let place = self.place(&request.namespace)?;
        self.changing(|node| node.check(place, request))
    }

    fn check_for_job(&self, request: &CheckNamespace) -> Option<Result<JobWork<Check>, AdminError>> {
        match self.place(&request.namespace) {
            Ok(place) => self.check_as_job(place),
            Err(why) => Some(Err(why)),
        }
    }
}

impl<M: Machine> Node<M> {
    /// Returns the place of a namespace, by its own name, its BTT's, or its block device's.
    pub(super) fn place(&self, name: &str) -> Result<SlotPlace, AdminError> {
        for (region, slots) in self.regions.iter().enumerate() {
            for (namespace, slot) in slots.namespaces.iter().enumerate() {
                if slot.is_called(name) {
                    return Ok(SlotPlace { region, namespace });
                }
            }
        }
        Err(AdminError::not_found(format!("no namespace \"{name}\": list -Ni shows what there is")))
    }

    /// Carries out a long change of namespaces, in which others are attended to.
    fn changing<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        self.changes_namespaces = true;
        let result = change(self);
        self.changes_namespaces = false;
        result
    }

    fn name_at(&self, place: SlotPlace) -> String {
        self.at(place).namespace.id.to_string()
    }

    /// Returns the DIMM of that name: `nmem<number>`.
    fn dimm_named(&self, name: &str) -> Result<DeviceHandle, AdminError> {
        let mut named = self.found.dimms.iter().enumerate().filter(|(number, _)| format!("nmem{number}") == name);
        named
            .next()
            .map(|(_, dimm)| dimm.handle)
            .ok_or_else(|| AdminError::not_found(format!("no DIMM \"{name}\": list -D shows what there is")))
    }
}

/// Describes an arena in the words of Linux's debugfs. Offsets count from the namespace's first info block, not from
/// the arena's own.
fn describe(arena: &ArenaInfo) -> Arena {
    let g = &arena.info.geometry;
    let start = arena.at.0 - arena.info.version.initial_offset().0;
    let (version_major, version_minor) = arena.info.version.numbers();
    let (log_index_0, log_index_1) = match arena.slots {
        Slots::ZeroOne => (0, 1),
        Slots::ZeroTwo => (0, 2),
    };
    Arena {
        size: if g.nextoff == 0 { g.info2off + btt::layout::PAGE_BYTES } else { g.nextoff },
        external_lba_start: arena.first_lba.0,
        internal_nlba: g.internal_nlba,
        internal_lbasize: g.internal_lbasize,
        external_nlba: g.external_nlba,
        external_lbasize: g.external_lbasize.bytes(),
        nfree: g.nfree,
        version_major,
        version_minor,
        nextoff: if g.nextoff == 0 { 0 } else { start + g.nextoff },
        infooff: start,
        dataoff: start + g.dataoff,
        mapoff: start + g.mapoff,
        logoff: start + g.logoff,
        info2off: start + g.info2off,
        flags: arena.info.flags,
        read_only: read_only_reason(arena),
        log_index_0,
        log_index_1,
    }
}
