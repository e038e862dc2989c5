//! Sector numbers as the admin commands and the pattern have them.

use serde::Serialize;

/// The number of an external sector on a block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Lba(pub u64);
