//! The commands by family. Each family has its commands, their requests and replies, and the one part of the appliance
//! that they are for, a trait.
//!
//! | family | its part | commands |
//! |---|---|---|
//! | [`session`] | `Manual`: the specifications of all commands | help, version, mode |
//! | [`inventory`] | `InventoryAdmin` | status, list, nfit, health |
//! | [`namespaces`] | `NamespaceAdmin` | arenas, init-labels, create-, destroy-, enable-, disable-, check-namespace |
//! | [`sectors`] | `SectorAdmin` | read, write, trim, inject-error, clear-errors, errors, bench |
//! | [`exports`] | `ExportAdmin` | export, unexport |
//! | [`network`] | `NetworkAdmin` | net |
//! | [`config`] | `ConfigAdmin` | config |
//! | [`events`] | `EventAdmin` | events |
//! | [`machine`] | `MachineAdmin` | stats, trace, poweroff, reboot |
//!
//! A new command is an entry in its family's `COMMANDS`, a request, a reply, and a method of the family's trait.

pub mod config;
pub mod events;
pub mod exports;
pub mod inventory;
pub mod machine;
pub mod namespaces;
pub mod network;
pub mod sectors;
pub mod session;
