//! Which hosts may connect: none, until they are named; and which of them must prove who they are.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::auth::Secrets;
use crate::name::Nqn;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every host.
    Any,
    /// The host of that name.
    Host(Nqn),
}

/// The rules of a subsystem, or those for all of them, with the secrets that a host must know.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostList(Vec<(Allowed, Option<Arc<Secrets>>)>);

impl HostList {
    /// Adds a rule, in the place of one for the same.
    pub(crate) fn allow(&mut self, rule: Allowed, secrets: Option<Secrets>) {
        self.deny(&rule);
        self.0.push((rule, secrets.map(Arc::new)));
    }

    /// Takes a rule back. Returns whether it was there.
    pub(crate) fn deny(&mut self, rule: &Allowed) -> bool {
        let before = self.0.len();
        self.0.retain(|(found, _)| found != rule);
        self.0.len() < before
    }

    /// The rules, in order.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Allowed> {
        self.0.iter().map(|(rule, _)| rule)
    }

    /// The rule for a host by its name, or that for any.
    fn find(&self, host: &Nqn, by_name: bool) -> Option<&Option<Arc<Secrets>>> {
        let fits = |rule: &Allowed| match rule {
            Allowed::Any => !by_name,
            Allowed::Host(name) => by_name && name == host,
        };
        self.0.iter().find(|(rule, _)| fits(rule)).map(|(_, secrets)| secrets)
    }
}

/// What a host must know to use a subsystem, by the subsystem's own rules and those for all. `None`: it may not use it. A rule
/// for its name counts before one for any, and the subsystem's before one for all.
pub(crate) fn may_use<'a>(own: &'a HostList, all: &'a HostList, host: &Nqn) -> Option<&'a Option<Arc<Secrets>>> {
    [(own, true), (all, true), (own, false), (all, false)]
        .into_iter()
        .find_map(|(list, by_name)| list.find(host, by_name))
}
