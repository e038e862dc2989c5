//! Fabrics commands (NVMe Base 2.0, section 6): Connect, properties, Disconnect.

mod connect;
mod properties;

use crate::command::{Command, Transfer};
use crate::status::Status;

pub(crate) use connect::{CONNECT_DATA_BYTES, Connect, connect};
pub(crate) use properties::{Properties, VERSION, get, set};

/// The opcode of all of them.
pub(crate) const FABRICS: u8 = 0x7f;

/// Their types (figure 373).
pub(crate) const PROPERTY_SET: u8 = 0x00;
pub(crate) const CONNECT: u8 = 0x01;
pub(crate) const PROPERTY_GET: u8 = 0x04;
pub(crate) const DISCONNECT: u8 = 0x08;

/// The data of a Fabrics command on a queue that is connected.
///
/// # Errors
/// There is no such command there.
pub(crate) fn transfer(command: &Command, admin: bool) -> Result<Transfer, Status> {
    match command.fabrics_type() {
        PROPERTY_GET | PROPERTY_SET if admin => Ok(Transfer::None),
        // Of I/O queues alone (section 6.4).
        DISCONNECT if !admin => Ok(Transfer::None),
        DISCONNECT => Err(Status::INVALID_FIELD),
        CONNECT => Err(Status::COMMAND_SEQUENCE_ERROR),
        _ => Err(Status::INVALID_FIELD),
    }
}
