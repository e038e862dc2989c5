//! What bring-up found.

use kernel::memory_map::Parts;

use crate::clock::Clock;
use crate::console::Console;
use crate::cpu::Cpus;
use crate::devices::Devices;
use crate::firmware::Firmware;
use crate::memory::{AddressSpace, Totals};
use crate::random::Random;

/// The machine's parts, for [`crate::serve`], which shows them to the node as [`kernel::node::Machine`].
#[derive(Debug)]
pub(crate) struct Hardware {
    /// How much memory there is.
    pub(crate) memory: Totals,
    /// Firmware's memory map.
    pub(crate) map: Parts,
    /// Maps physical ranges for drivers.
    pub(crate) space: &'static AddressSpace,
    /// Firmware's tables, the NFITs among them.
    pub(crate) firmware: Firmware,
    /// Time since the image's first instruction.
    pub(crate) clock: Clock,
    /// The source of identifiers.
    pub(crate) random: Random,
    /// All CPUs.
    pub(crate) cpus: Cpus,
    /// Devices of ours.
    pub(crate) devices: Devices,
    /// The admin console.
    pub(crate) console: Console,
}
