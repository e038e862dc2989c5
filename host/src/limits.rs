//! Bounds that several parts of a host have to agree on.

/// How many clients there may be.
pub const ADMIN_CLIENTS_MAX: usize = 64;
