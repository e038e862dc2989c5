//! The target: its subsystems, which hosts may use them, and its controllers. All connections share it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use spin::Mutex;
use uuid::Uuid;

use crate::auth::Secrets;
use crate::controller::{Controller, EVENT_DISCOVERY, EVENT_NAMESPACE};
use crate::hosts::{Allowed, HostList, may_use};
use crate::name::{DISCOVERY_NQN, Host, Nqn};
use crate::namespace::Namespace;
use crate::random::Random;
use crate::subsystem::Subsystem;
use crate::units::{ControllerId, Millis};

/// What the owner chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most connections. Their number bounds the memory ([`crate::limits`]).
    pub connections: usize,
    /// The numbers of its controllers: others than those of targets that serve the same subsystems.
    pub controller_ids: RangeInclusive<u16>,
    /// Identifies the node: the serial number of its discovery controllers.
    pub uuid: Uuid,
    /// What hosts are challenged with.
    pub random: Random,
}

/// An address that hosts reach the target at: what discovery shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
}

/// There is a subsystem of that name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTaken;

impl fmt::Display for NameTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is a subsystem of that name already")
    }
}

impl core::error::Error for NameTaken {}

/// The target.
#[derive(Debug)]
pub struct Target {
    pub(crate) settings: Settings,
    /// When it began to serve.
    pub(crate) since: Millis,
    tally: Arc<Tally>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    subsystems: Vec<Arc<Subsystem>>,
    controllers: Vec<Arc<Controller>>,
    /// Hosts that may use every subsystem.
    hosts: HostList,
    /// How often the discovery log changed.
    changes: u64,
    /// The number that the next controller gets, if it is free.
    next_id: u16,
    /// Who was refused since that was asked last.
    refusals: Vec<Refusal>,
}

/// How many refusals are kept until they are taken: of more than that, only the first.
const REFUSALS_MAX: usize = 16;

/// A host that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name, as it calls itself.
    pub host: Nqn,
    /// What it wanted to use.
    pub subsystem: Nqn,
    /// Why it may not.
    pub why: &'static str,
    /// How often.
    pub times: u32,
}

/// Why a host got no controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NoSubsystem,
    Host,
    /// All numbers are in use.
    Busy,
}

/// How many connections there are, and how many were refused. Numbers only: they publish nothing.
#[derive(Debug, Default)]
struct Tally {
    connections: AtomicUsize,
    refused_connections: AtomicU64,
    refused_hosts: AtomicU64,
}

/// How often somebody was refused since the target was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Connections beyond the most that there may be.
    pub connections: u64,
    /// Connects of hosts: not allowed, without the right secret, to no subsystem, or malformed.
    pub hosts: u64,
}

/// The permission to be a connection.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Tally>);

impl Permit {
    /// Counts a host that was refused.
    pub(crate) fn refuse_host(&self) {
        self.0.refused_hosts.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Target {
    /// A target that exports nothing, to no host.
    #[must_use]
    pub fn new(settings: Settings, now: Millis) -> Self {
        let next_id = *settings.controller_ids.start();
        let (subsystems, controllers, hosts) = (Vec::new(), Vec::new(), HostList::default());
        let state = Mutex::new(State { subsystems, controllers, hosts, changes: 1, next_id, refusals: Vec::new() });
        Self { settings, since: now, tally: Arc::default(), state }
    }

    /// Exports a namespace as a subsystem of that name.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn export(&self, nqn: Nqn, namespace: Namespace) -> Result<(), NameTaken> {
        let mut state = self.state.lock();
        if nqn.as_str() == DISCOVERY_NQN || state.subsystem(&nqn).is_some() {
            return Err(NameTaken);
        }
        state.subsystems.push(Arc::new(Subsystem::new(nqn, namespace)));
        state.discovery_changed();
        Ok(())
    }

    /// Ends a subsystem: its connections close when they are looked at next, and what they have not begun is not done.
    /// Returns whether there was one.
    pub fn unexport(&self, nqn: &Nqn) -> bool {
        let mut state = self.state.lock();
        let Some(subsystem) = state.subsystem(nqn).cloned() else { return false };
        state.subsystems.retain(|found| found.nqn != *nqn);
        subsystem.set_namespace(None);
        state.of(&subsystem).for_each(|controller| controller.end());
        state.discovery_changed();
        true
    }

    /// Puts another namespace, or none, in the place of a subsystem's. Its hosts are told, and look at it anew. Returns
    /// whether there is such a subsystem.
    pub fn change(&self, nqn: &Nqn, namespace: Option<Namespace>) -> bool {
        let state = self.state.lock();
        let Some(subsystem) = state.subsystem(nqn) else { return false };
        subsystem.set_namespace(namespace);
        state.of(subsystem).for_each(|controller| controller.tell(EVENT_NAMESPACE));
        true
    }

    /// Lets a host use a subsystem, or all of them; it must prove that it knows the secrets, if there are any. Hosts that
    /// are connected stay so. Returns false if there is no such subsystem.
    pub fn allow(&self, rule: Allowed, subsystem: Option<&Nqn>, secrets: Option<Secrets>) -> bool {
        let mut state = self.state.lock();
        match subsystem {
            None => state.hosts.allow(rule, secrets),
            Some(nqn) => match state.subsystem(nqn) {
                Some(subsystem) => subsystem.state.lock().hosts.allow(rule, secrets),
                None => return false,
            },
        }
        state.discovery_changed();
        true
    }

    /// Takes that back. Hosts that may not use their subsystem any more lose their connections when these are looked at
    /// next. Returns false if there was no such rule.
    pub fn deny(&self, rule: &Allowed, subsystem: Option<&Nqn>) -> bool {
        let mut state = self.state.lock();
        let found = match subsystem {
            None => state.hosts.deny(rule),
            Some(nqn) => state.subsystem(nqn).is_some_and(|subsystem| subsystem.state.lock().hosts.deny(rule)),
        };
        for controller in &state.controllers {
            let subsystem = controller.subsystem.as_ref();
            if subsystem.is_some_and(|subsystem| !state.allows(subsystem, &controller.host.nqn)) {
                controller.end();
            }
        }
        state.discovery_changed();
        found
    }

    /// Who may use a subsystem: by its own rules, then by those for all.
    #[must_use]
    pub fn allowed(&self, subsystem: &Nqn) -> Vec<Allowed> {
        let state = self.state.lock();
        let own = state.subsystem(subsystem).map(|subsystem| subsystem.state.lock().hosts.clone()).unwrap_or_default();
        let mut rules: Vec<Allowed> = own.rules().cloned().collect();
        let all = state.hosts.rules().filter(|rule| !own.rules().any(|own| own == *rule));
        rules.extend(all.cloned());
        rules
    }

    /// The permission for one more connection, if there are not too many.
    pub(crate) fn permit(&self) -> Option<Permit> {
        let most = self.settings.connections;
        let more = |count| (count < most).then_some(count + 1);
        let permitted = self.tally.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if permitted.is_err() {
            self.tally.refused_connections.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(Arc::clone(&self.tally)))
    }

    /// How often somebody was refused.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals {
            connections: self.tally.refused_connections.load(Ordering::Relaxed),
            hosts: self.tally.refused_hosts.load(Ordering::Relaxed),
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.tally.connections.load(Ordering::Relaxed)
    }

    /// The controllers that hosts have now: their hosts' names, and the subsystems' (discovery's is
    /// [`DISCOVERY_NQN`]).
    #[must_use]
    pub fn controllers(&self) -> Vec<(ControllerId, Nqn, Option<Nqn>)> {
        let state = self.state.lock();
        let alive = state.controllers.iter().filter(|controller| !controller.is_ended());
        let subsystem = |it: &Controller| it.subsystem.as_ref().map(|subsystem| subsystem.nqn.clone());
        alive.map(|it| (it.id, it.host.nqn.clone(), subsystem(it))).collect()
    }

    /// Returns who was refused since the last call.
    #[must_use]
    pub fn take_refusals(&self) -> Vec<Refusal> {
        core::mem::take(&mut self.state.lock().refusals)
    }

    /// Keeps that a host was refused.
    pub(crate) fn note_refusal(&self, host: &Nqn, subsystem: &Nqn, why: &'static str) {
        let refusals = &mut self.state.lock().refusals;
        let is_it = |it: &Refusal| it.host == *host && it.subsystem == *subsystem && it.why == why;
        if let Some(same) = refusals.iter().position(is_it) {
            refusals[same].times = refusals[same].times.saturating_add(1);
        } else if refusals.len() < REFUSALS_MAX {
            refusals.push(Refusal { host: host.clone(), subsystem: subsystem.clone(), why, times: 1 });
        }
    }

    /// Makes a controller for a host.
    ///
    /// # Errors
    /// Why it gets none.
    pub(crate) fn new_controller(
        &self,
        subsystem: &Nqn,
        host: Host,
        keep_alive_ms: u32,
        now: Millis,
    ) -> Result<Arc<Controller>, Refused> {
        let name = host.nqn.clone();
        self.admit(subsystem, host, keep_alive_ms, now).inspect_err(|why| {
            let why = match why {
                Refused::NoSubsystem => "there is no such subsystem",
                Refused::Host => "it is not allowed",
                Refused::Busy => "there are too many hosts",
            };
            self.note_refusal(&name, subsystem, why);
        })
    }

    fn admit(&self, subsystem: &Nqn, host: Host, keep_alive_ms: u32, now: Millis) -> Result<Arc<Controller>, Refused> {
        let mut state = self.state.lock();
        let (subsystem, secrets) = if subsystem.as_str() == DISCOVERY_NQN {
            (None, None)
        } else {
            let found = state.subsystem(subsystem).ok_or(Refused::NoSubsystem)?;
            let secrets = state.secrets(found, &host.nqn).ok_or(Refused::Host)?;
            (Some(found.clone()), secrets)
        };
        state.controllers.retain(|controller| controller.lives(now));
        let id = state.free_id(&self.settings.controller_ids).ok_or(Refused::Busy)?;
        let controller = Arc::new(Controller::new(id, host, subsystem, secrets, keep_alive_ms, now));
        state.controllers.push(controller.clone());
        Ok(controller)
    }

    /// The controller of that number.
    pub(crate) fn controller(&self, id: ControllerId, now: Millis) -> Option<Arc<Controller>> {
        let state = self.state.lock();
        state.controllers.iter().find(|controller| controller.id == id && controller.lives(now)).cloned()
    }

    /// The subsystems that a host may use, and how often that changed.
    pub(crate) fn visible_to(&self, host: &Nqn) -> (u64, Vec<Arc<Subsystem>>) {
        let state = self.state.lock();
        let visible = state.subsystems.iter().filter(|subsystem| state.allows(subsystem, host));
        (state.changes, visible.cloned().collect())
    }
}

impl State {
    fn subsystem(&self, nqn: &Nqn) -> Option<&Arc<Subsystem>> {
        self.subsystems.iter().find(|subsystem| subsystem.nqn == *nqn)
    }

    fn allows(&self, subsystem: &Subsystem, host: &Nqn) -> bool {
        self.secrets(subsystem, host).is_some()
    }

    /// What a host must know to use a subsystem; `None` if it may not.
    fn secrets(&self, subsystem: &Subsystem, host: &Nqn) -> Option<Option<Arc<Secrets>>> {
        may_use(&subsystem.state.lock().hosts, &self.hosts, host).cloned()
    }

    /// The controllers of a subsystem.
    fn of<'a>(&'a self, subsystem: &'a Arc<Subsystem>) -> impl Iterator<Item = &'a Arc<Controller>> {
        let of = move |it: &&Arc<Controller>| it.subsystem.as_ref().is_some_and(|found| Arc::ptr_eq(found, subsystem));
        self.controllers.iter().filter(of)
    }

    /// Counts a change of the discovery log, and tells those that read it.
    fn discovery_changed(&mut self) {
        self.changes += 1;
        let readers = self.controllers.iter().filter(|controller| controller.subsystem.is_none());
        readers.for_each(|controller| controller.tell(EVENT_DISCOVERY));
    }

    /// A number that no controller has; one that was given up is used again as late as possible.
    fn free_id(&mut self, ids: &RangeInclusive<u16>) -> Option<ControllerId> {
        let count = ids.end().checked_sub(*ids.start())?;
        for _ in 0..=count {
            let id = self.next_id;
            self.next_id = if id == *ids.end() { *ids.start() } else { id + 1 };
            if !self.controllers.iter().any(|controller| controller.id.0 == id) {
                return Some(ControllerId(id));
            }
        }
        None
    }
}
