//! Bounds that several parts of a host have to agree on.

use std::time::Duration;

/// An appliance that has not answered a command within it is dead: `bench` and checks of whole media take their time.
pub const COMMAND: Duration = Duration::from_secs(3600);

/// How many clients there may be.
pub const ADMIN_CLIENTS_MAX: usize = 64;
