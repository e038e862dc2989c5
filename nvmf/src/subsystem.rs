//! A subsystem: a name that hosts connect to, and the namespace behind it.
//!
//! | field | changed by | read by |
//! |---|---|---|
//! | `state` | the target, under its lock | queues, when `generation` is not what they saw last |
//! | `generation` | after each change of `state`, released | queues, before each command, acquiring |
//! | `counters` | queues | whatever shows them |

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::Mutex;
use uuid::Uuid;

use crate::hosts::HostList;
use crate::name::Nqn;
use crate::namespace::Namespace;

/// What queues have done.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reads: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) media_errors: AtomicU64,
}

impl Counters {
    /// Counts commands and their bytes.
    pub(crate) fn add(commands: &AtomicU64, bytes: &AtomicU64, moved: usize) {
        commands.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(moved as u64, Ordering::Relaxed);
    }
}

/// The subsystem.
#[derive(Debug)]
pub(crate) struct Subsystem {
    pub(crate) nqn: Nqn,
    /// Its serial number is of this.
    pub(crate) uuid: Uuid,
    pub(crate) state: Mutex<State>,
    generation: AtomicU32,
    pub(crate) counters: Counters,
}

/// What may change of it.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) hosts: HostList,
}

impl Subsystem {
    /// One of that name, with that namespace.
    pub(crate) fn new(nqn: Nqn, namespace: Namespace) -> Self {
        let state = State { namespace: Some(namespace), hosts: HostList::default() };
        let (uuid, generation) = (namespace.uuid, AtomicU32::new(0));
        Self { nqn, uuid, state: Mutex::new(state), generation, counters: Counters::default() }
    }

    /// The namespace now.
    pub(crate) fn namespace(&self) -> Option<Namespace> {
        self.state.lock().namespace
    }

    /// Another namespace takes the place of the one before, or none.
    pub(crate) fn set_namespace(&self, namespace: Option<Namespace>) {
        self.state.lock().namespace = namespace;
        // Pairs with the load in View::refresh: a queue that sees it takes the lock, and finds the new one.
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The namespace as a queue saw it last.
#[derive(Debug)]
pub(crate) struct View {
    generation: u32,
    namespace: Option<Namespace>,
}

impl View {
    /// As it is now.
    pub(crate) fn new(subsystem: &Subsystem) -> Self {
        let generation = subsystem.generation.load(Ordering::Acquire);
        Self { generation, namespace: subsystem.namespace() }
    }

    /// Looks again, if it has changed.
    pub(crate) fn refresh(&mut self, subsystem: &Subsystem) {
        if subsystem.generation.load(Ordering::Acquire) != self.generation {
            *self = Self::new(subsystem);
        }
    }

    /// The namespace.
    pub(crate) const fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }
}
