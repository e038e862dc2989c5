//! The admin commands about exports.

use alloc::format;
use alloc::string::ToString;

use service::admin::commands::exports::{ExportAdmin, HostRule, NvmeExport};
use service::error::AdminError;

use crate::node::nvme::PORT;
use crate::node::{Machine, Node};

impl<M: Machine> ExportAdmin for Node<M> {
    fn export(&mut self, dev: &str) -> Result<(), AdminError> {
        self.exports.export(self.disk(dev)?)
    }

    fn unexport(&mut self, dev: &str) -> Result<(), AdminError> {
        self.disk(dev)?;
        self.exports.unexport(dev)
    }

    fn export_nvme(&mut self, dev: &str, nqn: Option<&str>) -> Result<NvmeExport, AdminError> {
        let disk = self.disk(dev)?;
        if self.networks.is_empty() {
            return Err(AdminError::failed(format!("{dev}: there is no network: run-qemu.sh --net NETDEV adds one")));
        }
        let nqn = self.nvme.export(disk, nqn)?.to_string();
        Ok(NvmeExport { dev: dev.into(), nqn, addresses: self.networks.addresses(), port: PORT })
    }

    fn unexport_nvme(&mut self, dev: &str) -> Result<(), AdminError> {
        self.disk(dev)?;
        self.nvme.unexport(dev)?;
        // A step under way may still use the disk.
        self.networks.wait_for_steps();
        Ok(())
    }

    fn allow(&mut self, rule: &HostRule, secret: Option<&str>) -> Result<(), AdminError> {
        self.nvme.allow(rule, secret)
    }

    fn deny(&mut self, rule: &HostRule) -> Result<(), AdminError> {
        self.nvme.deny(rule)
    }
}
