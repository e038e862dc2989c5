//! The controller's registers, as properties (NVMe Base 2.0, sections 3.1.3, 6.5 and 6.6).

use crate::command::Command;
use crate::controller::Controller;
use crate::limits::QUEUE_ENTRIES_LESS_ONE;
use crate::status::Status;

const CAP: u32 = 0x00;
const VS: u32 = 0x08;
const CC: u32 = 0x14;
const CSTS: u32 = 0x1c;

/// CAP: queues of so many entries, contiguous (CQR), 20 s to become ready (TO), the NVM command set (CSS bit 0).
const CAPABILITIES: u64 = QUEUE_ENTRIES_LESS_ONE as u64 | 1 << 16 | 40 << 24 | 1 << 37;
/// VS: 1.4. A host asks a later version for more than there is.
pub(crate) const VERSION: u32 = 0x0001_0400;

/// CC.EN.
const ENABLE: u32 = 1;
/// CC.CSS: another command set than NVM is selected.
const COMMAND_SET: u32 = 7 << 4;
/// CC.SHN: a shutdown, normal or abrupt.
const SHUTDOWN: u32 = 3 << 14;
/// CSTS.RDY.
const READY: u64 = 1;
/// CSTS.CFS.
const FATAL: u64 = 1 << 1;
/// CSTS.SHST: the shutdown is complete.
const SHUTDOWN_COMPLETE: u64 = 2 << 2;

/// The registers that a host may change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Properties {
    configuration: u32,
    shut_down: bool,
}

impl Properties {
    fn status(&self) -> u64 {
        let enabled = self.configuration & ENABLE != 0;
        let state = match (enabled, self.configuration & COMMAND_SET) {
            (true, 0) => READY,
            // A command set that CAP.CSS does not have.
            (true, _) => FATAL,
            (false, _) => 0,
        };
        state | if self.shut_down { SHUTDOWN_COMPLETE } else { 0 }
    }
}

/// Property Get.
///
/// # Errors
/// There is no such property, of that size.
pub(crate) fn get(command: &Command, properties: &Properties) -> Result<u64, Status> {
    let eight_bytes = command.dword(10) & 7 == 1;
    match (command.dword(11), eight_bytes) {
        (CAP, true) => Ok(CAPABILITIES),
        (VS, false) => Ok(VERSION.into()),
        (CC, false) => Ok(properties.configuration.into()),
        (CSTS, false) => Ok(properties.status()),
        _ => Err(Status::INVALID_FIELD),
    }
}

/// Property Set.
///
/// # Errors
/// There is no such property that a host may set.
pub(crate) fn set(command: &Command, properties: &mut Properties, controller: &Controller) -> Result<(), Status> {
    if command.dword(10) & 7 != 0 || command.dword(11) != CC {
        return Err(Status::INVALID_FIELD);
    }
    let configuration = command.dword(12);
    let enabled = configuration & ENABLE != 0;
    // A reset ends a shutdown.
    properties.shut_down = configuration & SHUTDOWN != 0 || properties.shut_down && enabled;
    properties.configuration = configuration;
    controller.set_enabled(properties.status() & READY != 0);
    Ok(())
}
