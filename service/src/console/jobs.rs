//! Requests beside a person that do not wait for their turn: carried out at once, or made jobs ([`crate::admin::job`]).

use alloc::string::String;

use super::ahead::FramedRequest;
use super::{as_change, note, send_beside};
use crate::admin::job::Ticket;
use crate::admin::line::number_bytes;
use crate::admin::object::parse_with_id;
use crate::admin::table::Beside;
use crate::admin::{AnyAppliance, Mode, Outcome, words};
use crate::error::AdminError;
use crate::link::{Asker, ByteLink, LinkNumber};

/// Carries out a request that came while a command is carried out, and replies to it, if it only looks, or is one step on a
/// block device that no command has in hand; makes a job of it if it may be one. Of two on a link that change something none
/// passes the other.
///
/// # Errors
/// The request itself, if it does more, or if there is something wrong with it: it waits for the session.
pub fn beside<L: ByteLink + ?Sized>(
    request: FramedRequest,
    link: &mut L,
    appliance: &AnyAppliance,
) -> Result<(), FramedRequest> {
    if request.is_damaged() {
        return Err(request);
    }
    let text = words::text(request.line().trim_ascii_end());
    let Ok(line) = text.map(String::from) else { return Err(request) };
    match tried(request.mode(), &line, link.number(), request.is_first(), appliance) {
        Tried::Waits => return Err(request),
        Tried::Begun => {}
        Tried::Done(ticket, outcome) => reply(ticket, &outcome, link, appliance),
    }
    Ok(())
}

/// Makes a job of a line that has its turn, if it may be one, or replies to why it cannot. Returns whether it did.
pub(super) fn begun<L: ByteLink + ?Sized>(mode: Mode, line: &str, link: &mut L, appliance: &AnyAppliance) -> bool {
    let (_, command) = line.split_at(number_bytes(line.as_bytes()));
    if !parse_with_id(command).1.is_ok_and(|request| request.job_on().is_some()) {
        return false;
    }
    match tried(mode, line, link.number(), true, appliance) {
        Tried::Waits => return false,
        Tried::Begun => {}
        Tried::Done(ticket, outcome) => reply(ticket, &outcome, link, appliance),
    }
    true
}

/// What became of a line.
enum Tried {
    Waits,
    Begun,
    Done(Ticket, Result<Outcome, AdminError>),
}

fn tried(mode: Mode, line: &str, link: LinkNumber, may_change: bool, appliance: &AnyAppliance) -> Tried {
    let (number, command) = line.split_at(number_bytes(line.as_bytes()));
    let (id, request) = parse_with_id(command);
    let Ok(request) = request else { return Tried::Waits };
    let ticket = Ticket { link, number: number.into(), id, mode, change: as_change(command, &request) };
    match request.beside(may_change, appliance.has_room(), appliance) {
        Beside::Waits => Tried::Waits,
        Beside::Done(outcome) => Tried::Done(ticket, outcome),
        Beside::Job(work) => {
            appliance.begin(ticket, work);
            Tried::Begun
        }
    }
}

fn reply<L: ByteLink + ?Sized>(
    Ticket { number, id, mode, change, .. }: Ticket,
    outcome: &Result<Outcome, AdminError>,
    link: &mut L,
    appliance: &AnyAppliance,
) {
    note(change, Asker::ProgramBeside, outcome, appliance);
    send_beside(mode, &number, id.as_ref(), outcome, link);
}

/// Replies to a request that was taken back before it was carried out.
pub fn reply_to_taken_back<L: ByteLink + ?Sized>(request: &FramedRequest, link: &mut L) {
    let line = String::from_utf8_lossy(request.line().trim_ascii_end());
    let (number, command) = line.split_at(number_bytes(line.as_bytes()));
    let why = AdminError::interrupted("it was taken back before it began: nothing was done");
    send_beside(request.mode(), number, parse_with_id(command).0.as_ref(), &Err(why), link);
}

/// Replies to the jobs of this link that have ended. Between two requests, or between two steps of a command.
pub fn reply_to_jobs<L: ByteLink + ?Sized>(link: &mut L, appliance: &AnyAppliance) {
    while let Some((ticket, outcome)) = appliance.ended(link.number()) {
        reply(ticket, &outcome, link, appliance);
    }
}
