//! Bounds that several parts of a host have to agree on.

use std::time::Duration;

/// An appliance that has not answered a command within it is dead: `bench` and checks of whole media take their time.
pub const COMMAND: Duration = Duration::from_secs(3600);

/// The most disks of a bridge: the appliance's ivshmem devices have to find room on its PCI bus.
pub const EXPORTS_MAX: usize = 24;

/// The most queues of a disk, whatever the appliance offers: what a front end can name is bounded.
pub const QUEUES_MAX: u16 = 64;

/// How many clients there may be.
pub const ADMIN_CLIENTS_MAX: usize = 64;
