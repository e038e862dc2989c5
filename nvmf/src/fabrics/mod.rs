//! Fabrics commands (NVMe Base 2.0, section 6): Connect, properties, Disconnect.

mod connect;
mod properties;

use crate::auth::MESSAGE_BYTES_MAX;
use crate::command::{Command, Transfer};
use crate::status::Status;

pub(crate) use connect::{AUTHENTICATION_REQUIRED, CONNECT_DATA_BYTES, Connect, connect};
pub(crate) use properties::{Properties, VERSION, get, set};

/// The opcode of all of them.
pub(crate) const FABRICS: u8 = 0x7f;

/// Their types (figure 373).
pub(crate) const PROPERTY_SET: u8 = 0x00;
pub(crate) const CONNECT: u8 = 0x01;
pub(crate) const PROPERTY_GET: u8 = 0x04;
pub(crate) const AUTHENTICATION_SEND: u8 = 0x05;
pub(crate) const AUTHENTICATION_RECEIVE: u8 = 0x06;
pub(crate) const DISCONNECT: u8 = 0x08;

/// Authentication Send and Authentication Receive, by SECP, SPSP1 and SPSP0 (figures 374 and 383), and the data. `None` if it
/// is another command.
///
/// # Errors
/// Another security protocol, or more data than messages have.
pub(crate) fn authentication(command: &Command) -> Option<Result<Transfer, Status>> {
    const PROTOCOL: [u8; 3] = [1, 1, 0xe9];
    let transfer = match (command.opcode, command.fabrics_type()) {
        (FABRICS, AUTHENTICATION_SEND) => Transfer::FromHost,
        (FABRICS, AUTHENTICATION_RECEIVE) => Transfer::ToHost,
        _ => return None,
    };
    let [_, protocol @ ..] = command.dword(10).to_le_bytes();
    let bytes = command.dword(11);
    let fits = protocol == PROTOCOL && (1..=MESSAGE_BYTES_MAX).contains(&bytes);
    Some(if fits { Ok(transfer(bytes)) } else { Err(Status::INVALID_FIELD) })
}

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
