//! `enable-namespace`, `disable-namespace`, `destroy-namespace`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use btt::unmake::{erase, info_blocks};
use nvdimm::change;
use nvdimm::namespace::Namespace;
use service::error::AdminError;
use service::events::{Kind, Severity};

use crate::node::attach::{State, medium, placement};
use crate::node::disk::admin_error;
use crate::node::export::not_exported;
use crate::node::{Machine, NamespaceSlot, Node, SlotPlace};

/// Namespaces that were open and are closed for a change.
#[must_use]
#[derive(Debug)]
pub(super) struct Closed(Vec<Namespace>);

/// Returns whether two descriptions are of one namespace, whatever its number.
pub(super) fn alike(one: &Namespace, other: &Namespace) -> bool {
    let Namespace { extents, read_only, labelling, .. } = one;
    (extents, read_only, labelling) == (&other.extents, &other.read_only, &other.labelling)
}

impl<M: Machine> Node<M> {
    /// Opens a namespace, unless it has a block device already.
    ///
    /// # Errors
    /// It cannot be used, before as after.
    pub(in crate::node) fn enable(&mut self, place: SlotPlace) -> Result<(), AdminError> {
        if !self.at(place).state.is_enabled() {
            self.open(place);
        }
        self.at(place).check_usable()
    }

    /// Makes the last writes of a namespace's disk durable, and closes it.
    pub(in crate::node) fn disable(&mut self, place: SlotPlace) -> Result<(), AdminError> {
        self.wait_until_left(place)?;
        let slot = self.at_mut(place);
        if let State::Sector(disk) = &slot.state {
            not_exported(disk)?;
            disk.btt.drain().map_err(|why| admin_error(&disk.name, &why))?;
        }
        slot.state = State::Disabled;
        let id = slot.namespace.id;
        self.tell(Severity::Info, Kind::Namespace, &id, format_args!("disabled"));
        self.is_told();
        Ok(())
    }

    /// Closes namespaces that a change may remove: all of them, or none. If the change fails, the caller passes the
    /// result to [`Node::reopen`].
    pub(super) fn close(&mut self, places: &[SlotPlace]) -> Result<Closed, AdminError> {
        for &place in places {
            if let State::Sector(disk) = &self.at(place).state {
                not_exported(disk)?;
            }
        }
        let mut closed = Closed(Vec::new());
        for &place in places {
            let slot = self.at(place);
            let namespace = (!slot.state.is_disabled()).then(|| slot.namespace.clone());
            if let Err(why) = self.disable(place) {
                self.reopen(closed);
                return Err(why);
            }
            closed.0.extend(namespace);
        }
        Ok(closed)
    }

    /// Waits until no job has a namespace in hand that is to be closed (invariant 20).
    ///
    /// # Errors
    /// Interrupted.
    fn wait_until_left(&self, place: SlotPlace) -> Result<(), AdminError> {
        match &self.at(place).state {
            State::Sector(disk) => self.wait_while(disk, |disk| disk.held() > 0),
            _ => Ok(()),
        }
    }

    /// Opens namespaces again that were closed for a change that failed, if they are still there.
    pub(super) fn reopen(&mut self, Closed(namespaces): Closed) {
        for namespace in namespaces {
            let same = |slot: &NamespaceSlot| slot.namespace.id == namespace.id && alike(&slot.namespace, &namespace);
            let found = self.regions.iter().enumerate().find_map(|(region, it)| {
                it.namespaces.iter().position(same).map(|namespace| SlotPlace { region, namespace })
            });
            if let Some(place) = found.filter(|place| self.at(*place).state.is_disabled()) {
                self.open(place);
            }
        }
    }

    /// Removes a namespace's labels, then its info blocks (invariant 7): a power cut before the first step leaves the
    /// namespace, a later one leaves free space.
    pub(super) fn destroy(&mut self, place: SlotPlace, force: bool) -> Result<String, AdminError> {
        let slot = self.at(place);
        let namespace = slot.namespace.clone();
        let id = namespace.id;
        if namespace.read_only {
            return Err(AdminError::read_only(format!("{id} is read-only")));
        }
        // What cannot be used may be sound all the same, and somebody's.
        if !slot.state.is_disabled() && !force {
            let state = if slot.state.is_enabled() { "enabled".into() } else { slot.state.to_string() };
            let how = format!("disable-namespace {id} first, or -f destroys it all the same");
            return Err(AdminError::failed(format!("{id} is {state}: {how}")));
        }
        let region = &self.regions[place.region];
        let refused = |why: String| AdminError::failed(format!("{id}: {why}"));
        let medium =
            medium(region.medium.as_ref().map_err(|why| refused(why.clone()))?, &namespace).map_err(refused)?;
        let steps = match &namespace.labelling {
            Some(labelling) => change::destroy(&region.region, &self.found.labels, labelling.uuid)
                .map_err(|why| refused(why.to_string()))?,
            None => Vec::new(),
        };
        let closed = self.close(&[place])?;
        let info_blocks = info_blocks(&medium, placement(&namespace));
        if namespace.labelling.is_none() && info_blocks.is_empty() {
            self.reopen(closed);
            let why = "there is no BTT to destroy, and a region without labels is always one namespace";
            return Err(refused(why.to_string()));
        }
        if let Some(labelling) = &namespace.labelling {
            if let Err(why) = self.change_labels(&steps) {
                self.reopen(closed);
                return Err(why);
            }
            let is_left = |it: &Namespace| it.labelling.as_ref().is_some_and(|it| it.uuid == labelling.uuid);
            if self.found.namespaces.iter().any(is_left) {
                self.reopen(closed);
                return Err(AdminError::damaged(format!("{id}: its labels are still there after they were freed")));
            }
        }
        // Crash before this: free space that holds a BTT, which is formatted only by force.
        let erased = erase(&medium, &info_blocks);
        if namespace.labelling.is_none() {
            self.open(place);
        }
        erased.map_err(|why| AdminError::damaged(format!("{id}: its info blocks were not erased: {why}")))?;
        self.tell(Severity::Info, Kind::Namespace, &id, format_args!("destroyed"));
        Ok(id.to_string())
    }
}
