//! The admin commands about the running machine: counters, events, and what must be durable before it ends.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use service::admin::commands::events::EventAdmin as _;
use service::admin::commands::inventory::{InventoryAdmin as _, NamespaceStatus};
use service::admin::commands::machine::{MachineAdmin, Trace};
use service::admin::commands::network::{Interface, Link, NetworkAdmin as _};
use service::error::AdminError;
use service::events::{Filter, Severity};
use service::stats::{MachineStats, NamespaceStats, NetworkStats, Stats};

use super::attach::State;
use super::disk::admin_error;
use super::events::traced;
use super::inventory::namespace_status;
use super::{Machine, NamespaceSlot, Node};

impl<M: Machine> MachineAdmin for Node<M> {
    fn stats(&self) -> Stats {
        Stats {
            devices: self.disks().map(|disk| disk.stats()).collect(),
            queues: self.exports.stats(),
            machine: self.machine_stats(),
            namespaces: self.slots().map(namespace_stats).collect(),
            consumers: self.exports.consumers(),
            nvme: self.nvme.stats(),
            networks: self.interfaces().into_iter().map(network_stats).collect(),
            ..Stats::default()
        }
    }

    fn trace(&self) -> Trace {
        let mut events: Vec<_> = self.events(&Filter::default()).iter().map(traced).collect();
        events.extend(self.exports.trace());
        events.sort_by_key(|event| event.at);
        Trace { events }
    }

    fn quiesce(&mut self) -> Result<(), AdminError> {
        self.jobs.end_all();
        let mut result = Ok(());
        for disk in self.disks() {
            if let Err(why) = disk.btt.drain() {
                result = Err(admin_error(&disk.name, &why));
            }
        }
        result
    }
}

impl<M: Machine> Node<M> {
    /// Makes the map entries of finished writes durable that wait for their lane's next write. A lane in use is left out, so
    /// that CPU 0 is not stuck when another one is. If a medium refuses it, it refuses the next write as well, whose error
    /// is reported.
    pub fn settle(&self) {
        for disk in self.disks() {
            let _ = disk.btt.drain_idle();
        }
    }

    fn machine_stats(&self) -> MachineStats {
        let health = self.health();
        let of = |severity| health.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
        let (warnings, errors) = (of(Severity::Warning), of(Severity::Error));
        MachineStats {
            version: service::VERSION.to_string(),
            uptime_ns: self.machine.now_ns(),
            cpus: self.machine.cpus(),
            memory: self.machine.memory_bytes(),
            recovered: self.unclean_shutdowns,
            health: health.state().0.to_string(),
            warnings,
            errors,
        }
    }
}

fn namespace_stats(slot: &NamespaceSlot) -> NamespaceStats {
    let NamespaceStatus { dev, mode, size, blockdev, state } = namespace_status(slot);
    let state = state.split(':').next().unwrap_or_default().to_string();
    let mut stats = NamespaceStats { dev, blockdev, mode, state, size, ..NamespaceStats::default() };
    if let State::Sector(disk) = &slot.state {
        for arena in disk.btt.arenas() {
            stats.arenas += 1;
            stats.read_only_arenas += u64::from(arena.read_only.is_some());
        }
        stats.lost_bytes = disk.lost_bytes();
    }
    stats
}

fn network_stats(it: Interface) -> NetworkStats {
    NetworkStats { dev: it.dev, up: it.link == Link::Up, rx: it.rx, tx: it.tx }
}
