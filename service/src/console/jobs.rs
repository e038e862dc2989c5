//! Requests beside a person that do not wait for their turn: carried out at once, or made jobs ([`crate::admin::job`]).

use alloc::string::String;

use super::ahead::FramedRequest;
use super::{as_change, note, reply_beside, send_beside};
use crate::admin::job::Ticket;
use crate::admin::line::number_bytes;
use crate::admin::object::parse_with_id;
use crate::admin::table::Beside;
use crate::admin::{AnyAppliance, Mode, words};
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
    let (number, command) = line.split_at(number_bytes(line.as_bytes()));
    let (id, parsed) = parse_with_id(command);
    let Ok(parsed) = parsed else { return Err(request) };
    let change = as_change(command, &parsed);
    match parsed.beside(request.is_first(), appliance.has_room(), appliance) {
        Beside::Waits => return Err(request),
        Beside::Job(work) => {
            let number = number.into();
            appliance.begin(Ticket { link: link.number(), number, id, mode: request.mode(), change }, work);
        }
        Beside::Done(outcome) => {
            note(change, Asker::ProgramBeside, &outcome, appliance);
            let _ = reply_beside(request.mode(), Ok(line), link, |_, _| outcome);
        }
    }
    Ok(())
}

/// Makes a job of a line that has its turn, if it may be one. Returns whether it did.
pub(super) fn begun(mode: Mode, line: &str, link: LinkNumber, appliance: &AnyAppliance) -> bool {
    let (number, command) = line.split_at(number_bytes(line.as_bytes()));
    let (id, parsed) = parse_with_id(command);
    let Some(parsed) = parsed.ok().filter(|parsed| parsed.job_on().is_some()) else { return false };
    let change = as_change(command, &parsed);
    let Beside::Job(work) = parsed.beside(true, appliance.has_room(), appliance) else { return false };
    appliance.begin(Ticket { link, number: number.into(), id, mode, change }, work);
    true
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
    while let Some((Ticket { number, id, mode, change, .. }, outcome)) = appliance.ended(link.number()) {
        note(change, Asker::ProgramBeside, &outcome, appliance);
        send_beside(mode, &number, id.as_ref(), &outcome, link);
    }
}
