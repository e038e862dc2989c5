//! What `list` shows of the inventory, by name: ndctl's -n, -r and -d (ndctl/filter.c).
//!
//! A namespace takes its region, DIMMs and bus along, a region its DIMMs and bus, a DIMM its regions and bus. Names are
//! written in whole or by their numbers, several with commas or blanks between; `all` is any.

use alloc::string::String;

use crate::inventory::{Bus, Inventory, Region};

/// The names that are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `-n`: namespaces.
    pub namespace: Option<String>,
    /// `-r`: regions.
    pub region: Option<String>,
    /// `-d`: DIMMs.
    pub dimm: Option<String>,
}

/// Whether a name is asked for.
fn takes(wanted: &Option<String>, prefix: &str, name: &str) -> bool {
    let Some(wanted) = wanted else { return true };
    let is_it = |word: &str| word == "all" || word == name || name.strip_prefix(prefix) == Some(word);
    wanted.split([' ', ',']).any(is_it)
}

impl Names {
    fn takes_region(&self, region: &Region) -> bool {
        let has_namespace = || region.namespaces.iter().any(|it| takes(&self.namespace, "namespace", &it.dev));
        let has_dimm = || region.mappings.iter().any(|it| takes(&self.dimm, "nmem", &it.dimm));
        takes(&self.region, "region", &region.dev)
            && (self.namespace.is_none() || has_namespace())
            && (self.dimm.is_none() || has_dimm())
    }

    /// What is asked for of the inventory.
    pub(super) fn of(&self, inventory: &Inventory) -> Inventory {
        let mut inventory = inventory.clone();
        if *self != Self::default() {
            inventory.buses.retain_mut(|bus| self.keep(bus));
        }
        inventory
    }

    /// Leaves what is asked for. Returns whether there is anything.
    fn keep(&self, bus: &mut Bus) -> bool {
        bus.regions.retain(|region| self.takes_region(region));
        for region in &mut bus.regions {
            region.namespaces.retain(|it| takes(&self.namespace, "namespace", &it.dev));
        }
        let regions = &bus.regions;
        let by_region = self.region.is_some() || self.namespace.is_some();
        let is_mapped = |dev: &str| regions.iter().any(|region| region.mappings.iter().any(|it| it.dimm == dev));
        bus.dimms.retain(|dimm| takes(&self.dimm, "nmem", &dimm.dev) && (!by_region || is_mapped(&dimm.dev)));
        let is_by_dimm = self.dimm.is_some() && !bus.dimms.is_empty();
        !bus.regions.is_empty() || (is_by_dimm && !by_region)
    }
}
