//! `create-namespace`: sector mode on a region without labels.

use super::attach::{State, device_name, medium, placement};
use super::content::Content;
use super::{Machine, NamespaceSlot, Node, RegionSlot};
use alloc::format;
use alloc::string::String;
use btt::FormatError;
use btt::format::{Recipe, format};
use btt::geometry::SectorSize;
use nvdimm::region::Kind;
use service::admin::command::CreateNamespace;
use service::error::AdminError;
use uuid::{Builder, Uuid};

impl<M: Machine> Node<M> {
    /// Formats a namespace and opens it; says where it is in `regions`.
    pub(super) fn create(&mut self, request: &CreateNamespace) -> Result<(usize, usize), AdminError> {
        let sector_size = SectorSize::new(request.sector_size)
            .ok_or_else(|| AdminError::usage(format!("no BTT has sectors of {} bytes", request.sector_size)))?;
        let place = self.choose(request)?;
        let slot = &mut self.regions[place.0];
        let name = slot.namespaces[place.1].namespace.id;
        let region = slot.medium.as_ref().map_err(|why| AdminError::failed(format!("{name}: {why}")))?.clone();
        let namespace = &mut slot.namespaces[place.1];
        may_format(namespace, request.force)?;
        let refused = |why: String| AdminError::failed(format!("{name}: {why}"));
        let Some(placement) = placement(&namespace.namespace) else {
            return Err(refused("its label says that it is no sector-mode namespace".into()));
        };
        let medium = medium(&region, &namespace.namespace).map_err(refused)?;
        // Whatever was open is closed before its bytes go.
        namespace.state = State::Held("it is being formatted".into());
        let recipe = Recipe {
            sector_size,
            uuid: request.uuid.unwrap_or_else(|| random_uuid(&self.machine)),
            parent_uuid: placement.parent_uuid,
            version: placement.version,
            zero_data: request.force,
            zero_entries: request.zero_entries,
        };
        let result = format(&medium, &recipe, &mut |_, _| ());
        let namespace = self.regions[place.0].namespaces[place.1].namespace.clone();
        let state = self.attach(&region, &namespace);
        self.machine.log(format_args!("{name}: {state}"));
        self.regions[place.0].namespaces[place.1].state = state;
        match result {
            Ok(()) => Ok(place),
            Err(why @ FormatError::Geometry(_)) => Err(refused(format!("{why}"))),
            Err(why) => Err(AdminError::failed(format!("{name} was not formatted: {why}"))),
        }
    }

    /// The namespace to format: the one of the region that was named, or the first that may be formatted.
    fn choose(&self, request: &CreateNamespace) -> Result<(usize, usize), AdminError> {
        let is_named = |slot: &RegionSlot| request.region.as_ref().is_none_or(|name| is_region(slot, name));
        let candidates = || self.regions.iter().enumerate().filter(|(_, slot)| is_named(slot));
        if let Some(name) = &request.region
            && candidates().next().is_none()
        {
            return Err(AdminError::not_found(format!("no region \"{name}\": list -R shows what there is")));
        }
        let mut first_refusal = None;
        for (index, slot) in candidates() {
            match formattable(slot, request.force) {
                Ok(namespace) => return Ok((index, namespace)),
                Err(why) => {
                    first_refusal.get_or_insert(why);
                }
            }
        }
        Err(first_refusal.unwrap_or_else(|| AdminError::not_found("there is no region: the firmware names no NVDIMM")))
    }
}

fn is_region(slot: &RegionSlot, name: &str) -> bool {
    name.strip_prefix("region").and_then(|number| number.parse().ok()) == Some(slot.region.id.0)
}

/// Which namespace of a region may be formatted.
fn formattable(slot: &RegionSlot, force: bool) -> Result<usize, AdminError> {
    let id = slot.region.id;
    if matches!(slot.region.kind, Kind::Blk(_)) {
        return Err(AdminError::unavailable(format!("{id} is reached through block windows: use a pmem region")));
    }
    if slot.region.read_only {
        return Err(AdminError::read_only(format!("{id} is read-only: a DIMM of it is not armed")));
    }
    match slot.namespaces.as_slice() {
        [only] if only.namespace.labelling.is_none() => may_format(only, force).map(|()| 0),
        [] => Err(AdminError::failed(format!(
            "{id} has no namespace that could be formatted: nfit says what was refused"
        ))),
        _ => Err(AdminError::unavailable(format!(
            "{id} has labels, which this version reads and does not write: use ndctl create-namespace on Linux"
        ))),
    }
}

/// Whether a namespace may be formatted: a blank one always, anything else only by force.
fn may_format(slot: &NamespaceSlot, force: bool) -> Result<(), AdminError> {
    let name = slot.namespace.id;
    let unless_forced = |what: String| {
        if force { Ok(()) } else { Err(AdminError::failed(format!("{name} {what}: -f formats it all the same"))) }
    };
    match &slot.state {
        State::Raw(Content::Blank) => Ok(()),
        State::Raw(Content::Unknown) => unless_forced("is not blank".into()),
        State::Raw(content @ Content::Recognised(_)) => unless_forced(format!("{content}")),
        State::Sector(_) => unless_forced(format!("is in sector mode already ({})", device_name(name, true))),
        State::Damaged(why) => unless_forced(format!("holds a BTT that is damaged ({why})")),
        State::Held(why) => Err(AdminError::failed(format!("{name}: {why}"))),
    }
}

/// A version 4 uuid.
fn random_uuid<M: Machine>(machine: &M) -> Uuid {
    Builder::from_random_bytes(machine.random()).into_uuid()
}
