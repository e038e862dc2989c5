//! The admin commands about exports.

use service::admin::commands::exports::ExportAdmin;
use service::error::AdminError;

use crate::node::{Machine, Node};

impl<M: Machine> ExportAdmin for Node<M> {
    fn export(&mut self, dev: &str) -> Result<(), AdminError> {
        self.exports.export(self.disk(dev)?)
    }

    fn unexport(&mut self, dev: &str) -> Result<(), AdminError> {
        self.disk(dev)?;
        self.exports.unexport(dev)
    }
}
