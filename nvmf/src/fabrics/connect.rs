//! Connect: a connection becomes a queue of a controller (NVMe Base 2.0, section 6.3).

use alloc::sync::Arc;

use crate::command::{Command, Completion};
use crate::controller::{Association, Controller};
use crate::limits::QUEUE_ENTRIES_LESS_ONE;
use crate::name::{Host, NQN_FIELD_BYTES, Nqn};
use crate::status::Status;
use crate::target::{Refused, Target};
use crate::units::{ControllerId, Millis, QueueId};

/// Its data (figure 378).
pub(crate) const CONNECT_DATA_BYTES: u32 = 1024;

/// AUTHREQ in its result, ATR: the host has to authenticate itself (figure 380).
pub(crate) const AUTHENTICATION_REQUIRED: u64 = 1 << 17;

/// CATTR: the host wants no flow control of the submission queue.
const NO_FLOW_CONTROL: u8 = 1 << 2;
/// CNTLID of an admin queue's Connect: any controller.
const DYNAMIC: u16 = 0xffff;

/// Where the fields are in the command and in its data: what an error names.
const AT_QID: u16 = 42;
const AT_SQSIZE: u16 = 44;
const AT_HOST_ID: u16 = 0;
const AT_CONTROLLER_ID: u16 = 16;
const AT_SUBSYSTEM: u16 = 256;
const AT_HOST: u16 = 512;

/// The fields of the command (figure 377).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connect {
    format: u16,
    queue: QueueId,
    size_less_one: u16,
    attributes: u8,
    keep_alive_ms: u32,
}

/// A connection that became a queue.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) association: Association,
    /// Entries of the queue.
    pub(crate) size: u16,
    pub(crate) flow_control: bool,
}

impl Connect {
    /// Reads them.
    pub(crate) fn read(command: &Command) -> Self {
        let [f0, f1, q0, q1] = command.dword(10).to_le_bytes();
        let [s0, s1, attributes, _] = command.dword(11).to_le_bytes();
        Self {
            format: u16::from_le_bytes([f0, f1]),
            queue: QueueId(u16::from_le_bytes([q0, q1])),
            size_less_one: u16::from_le_bytes([s0, s1]),
            attributes,
            keep_alive_ms: command.dword(12),
        }
    }
}

/// A field of the command is wrong.
fn invalid_field(at: u16) -> Completion {
    Completion { result: at.into(), status: Status::CONNECT_INVALID_PARAMETERS }
}

/// A field of the data is wrong.
fn invalid_data(at: u16) -> Completion {
    Completion { result: u64::from(at) | 1 << 16, status: Status::CONNECT_INVALID_PARAMETERS }
}

/// Carries it out.
///
/// # Errors
/// Its completion.
pub(crate) fn connect(
    connect: &Connect,
    data: &[u8; CONNECT_DATA_BYTES as usize],
    target: &Target,
    now: Millis,
) -> Result<Connected, Completion> {
    if connect.format != 0 {
        return Err(Completion::of(Status::CONNECT_INCOMPATIBLE_FORMAT));
    }
    if !(1..=QUEUE_ENTRIES_LESS_ONE).contains(&connect.size_less_one) {
        return Err(invalid_field(AT_SQSIZE));
    }
    let name = |at: u16| {
        let field = data[usize::from(at)..].first_chunk::<NQN_FIELD_BYTES>().expect("it is within the data");
        Nqn::from_field(field).map_err(|_| invalid_data(at))
    };
    let host_id = *data[usize::from(AT_HOST_ID)..].first_chunk().expect("it is within the data");
    let subsystem = name(AT_SUBSYSTEM)?;
    let host = Host { nqn: name(AT_HOST)?, id: host_id };
    let id = *data[usize::from(AT_CONTROLLER_ID)..].first_chunk().expect("it is within the data");
    let id = ControllerId(u16::from_le_bytes(id));
    let controller = if connect.queue == QueueId::ADMIN {
        if id.0 != DYNAMIC {
            return Err(invalid_data(AT_CONTROLLER_ID));
        }
        target.new_controller(&subsystem, host, connect.keep_alive_ms, now).map_err(|why| match why {
            Refused::NoSubsystem => invalid_data(AT_SUBSYSTEM),
            Refused::Host => Completion::of(Status::CONNECT_INVALID_HOST),
            Refused::Busy => Completion::of(Status::CONNECT_CONTROLLER_BUSY),
        })?
    } else {
        join(connect, id, &subsystem, &host, target, now)?
    };
    let association = Association { controller, queue: connect.queue };
    let flow_control = connect.attributes & NO_FLOW_CONTROL == 0;
    Ok(Connected { association, size: connect.size_less_one + 1, flow_control })
}

/// An I/O queue joins the controller that its host has.
fn join(
    connect: &Connect,
    id: ControllerId,
    subsystem: &Nqn,
    host: &Host,
    target: &Target,
    now: Millis,
) -> Result<Arc<Controller>, Completion> {
    let controller = target.controller(id, now).ok_or_else(|| invalid_data(AT_CONTROLLER_ID))?;
    // Discovery controllers have no I/O queues.
    let own = controller.subsystem.as_ref().is_some_and(|own| own.nqn == *subsystem);
    if !own {
        return Err(invalid_data(AT_SUBSYSTEM));
    }
    if controller.host.nqn != host.nqn {
        return Err(invalid_data(AT_HOST));
    }
    if controller.host.id != host.id {
        return Err(invalid_data(AT_HOST_ID));
    }
    if !controller.is_enabled() {
        return Err(Completion::of(Status::COMMAND_SEQUENCE_ERROR));
    }
    if u32::from(connect.queue.0) > controller.granted() {
        return Err(invalid_field(AT_QID));
    }
    if !controller.open(connect.queue) {
        return Err(Completion::of(Status::COMMAND_SEQUENCE_ERROR));
    }
    Ok(controller)
}
