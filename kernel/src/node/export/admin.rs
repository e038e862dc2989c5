//! The admin commands about exports.

use alloc::format;
use alloc::string::ToString;

use service::admin::commands::exports::{ExportAdmin, HostRule, NvmeExport};
use service::config::hosts::SecretTexts;
use service::error::AdminError;

use crate::node::nvme::{Nvme, PORT};
use crate::node::{Machine, Node};

impl<M: Machine> ExportAdmin for Node<M> {
    fn export(&mut self, dev: &str) -> Result<(), AdminError> {
        self.exports.export(self.disk(dev)?)?;
        self.keep_offered(dev, true);
        Ok(())
    }

    fn unexport(&mut self, dev: &str) -> Result<(), AdminError> {
        self.disk(dev)?;
        self.exports.unexport(dev)?;
        self.keep_offered(dev, false);
        Ok(())
    }

    fn export_nvme(&mut self, dev: &str, nqn: Option<&str>) -> Result<NvmeExport, AdminError> {
        let served = self.serve_by_nvme(dev, nqn)?;
        self.keep_served(dev, Some(nqn));
        Ok(served)
    }

    fn unexport_nvme(&mut self, dev: &str) -> Result<(), AdminError> {
        self.end_nvme(dev)?;
        self.keep_served(dev, None);
        Ok(())
    }

    fn allow(&mut self, rule: &HostRule, secrets: Option<SecretTexts<'_>>) -> Result<(), AdminError> {
        self.nvme.allow(rule, secrets)?;
        self.keep_allowed(rule, Some(secrets));
        Ok(())
    }

    fn deny(&mut self, rule: &HostRule) -> Result<(), AdminError> {
        self.nvme.deny(rule)?;
        self.keep_allowed(rule, None);
        Ok(())
    }
}

impl<M: Machine> Node<M> {
    /// Serves a device by NVMe/TCP.
    ///
    /// # Errors
    /// As [`ExportAdmin::export_nvme`].
    pub(in crate::node) fn serve_by_nvme(&self, dev: &str, nqn: Option<&str>) -> Result<NvmeExport, AdminError> {
        let disk = self.disk(dev)?;
        self.check_network(dev)?;
        let nqn = self.nvme.export(disk, nqn)?.to_string();
        Ok(NvmeExport { dev: dev.into(), nqn, addresses: self.networks.addresses(), port: PORT })
    }

    /// Looks whether that can be.
    ///
    /// # Errors
    /// Why it cannot, whatever else is served.
    pub(in crate::node) fn check_served(&self, dev: &str, nqn: Option<&str>) -> Result<(), AdminError> {
        let disk = self.disk(dev)?;
        self.check_network(dev)?;
        Nvme::check(disk, nqn).map(|_| ())
    }

    fn check_network(&self, dev: &str) -> Result<(), AdminError> {
        match self.networks.count() {
            0 => Err(AdminError::failed(format!("{dev}: there is no network: run-qemu.sh --net NETDEV adds one"))),
            _ => Ok(()),
        }
    }

    /// Ends that.
    ///
    /// # Errors
    /// As [`ExportAdmin::unexport_nvme`].
    pub(in crate::node) fn end_nvme(&mut self, dev: &str) -> Result<(), AdminError> {
        self.disk(dev)?;
        let nqn = self.nvme.unexport(dev)?;
        self.forget_allowed(nqn.as_str());
        // A step under way may still use the disk.
        self.networks.wait_for_steps();
        Ok(())
    }
}
