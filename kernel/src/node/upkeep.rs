//! The admin commands about the running machine: counters, events, and what must be durable before it ends.

use service::admin::commands::machine::{MachineAdmin, Trace};
use service::error::AdminError;
use service::stats::Stats;

use super::disk::admin_error;
use super::{Machine, Node};

impl<M: Machine> MachineAdmin for Node<M> {
    fn stats(&self) -> Stats {
        Stats { devices: self.disks().map(|disk| disk.stats()).collect(), queues: self.exports.stats() }
    }

    fn trace(&self) -> Trace {
        Trace { events: self.exports.trace() }
    }

    fn quiesce(&mut self) -> Result<(), AdminError> {
        let mut result = Ok(());
        for disk in self.disks() {
            if let Err(why) = disk.btt.drain() {
                result = Err(admin_error(&disk.name, &why));
            }
        }
        result
    }
}
