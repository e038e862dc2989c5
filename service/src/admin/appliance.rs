//! The seam between the admin side and the machine: [`Appliance`], which the kernel implements, part by part.

use super::commands::config::ConfigAdmin;
use super::commands::events::EventAdmin;
use super::commands::exports::ExportAdmin;
use super::commands::inventory::InventoryAdmin;
use super::commands::machine::MachineAdmin;
use super::commands::namespaces::NamespaceAdmin;
use super::commands::network::NetworkAdmin;
use super::commands::sectors::SectorAdmin;
use super::job::JobAdmin;

/// The machine as the admin commands need it: all facets.
///
/// The admin side has done what needs no machine before it calls: the line is parsed, numbers are in range of their types,
/// sectors are on their device, sizes within the protocol's limits. No method may panic on any argument.
///
/// Names (`dev`, `namespace`, `region`, `dimm`) are as the person typed them: an unknown one is
/// [`ErrorCode::NotFound`](crate::error::ErrorCode::NotFound) with a message that names what there is, or where to look
/// (`no block device "pmem9s": see list`).
pub trait Appliance:
    InventoryAdmin
    + NamespaceAdmin
    + SectorAdmin
    + ExportAdmin
    + NetworkAdmin
    + ConfigAdmin
    + EventAdmin
    + MachineAdmin
    + JobAdmin
{
}

impl<T> Appliance for T where
    T: InventoryAdmin
        + NamespaceAdmin
        + SectorAdmin
        + ExportAdmin
        + NetworkAdmin
        + ConfigAdmin
        + EventAdmin
        + MachineAdmin
        + JobAdmin
{
}

/// The type of any appliance. Without borrowed parts: a request takes its part as `dyn` and `'static`.
pub type AnyAppliance = dyn Appliance;
