//! Which hosts may connect: none, until they are named.

use alloc::vec::Vec;

use crate::name::Nqn;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Every host.
    Any,
    /// The host of that name.
    Host(Nqn),
}

/// The rules of a subsystem, or those for all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostList(Vec<Allowed>);

impl HostList {
    /// Adds a rule, once.
    pub(crate) fn allow(&mut self, rule: Allowed) {
        if !self.0.contains(&rule) {
            self.0.push(rule);
        }
    }

    /// Takes a rule back. Returns whether it was there.
    pub(crate) fn deny(&mut self, rule: &Allowed) -> bool {
        let before = self.0.len();
        self.0.retain(|found| found != rule);
        self.0.len() < before
    }

    /// Whether a host may connect.
    pub(crate) fn allows(&self, host: &Nqn) -> bool {
        self.0.iter().any(|rule| match rule {
            Allowed::Any => true,
            Allowed::Host(name) => name == host,
        })
    }
}
