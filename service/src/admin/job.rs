//! Jobs: long commands that go on beside each other, step by step, each on a stack of its own. No two of them change the
//! same block device at once, and none goes on with one that is being closed.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::ops::ControlFlow;

use super::reply::{Mode, Outcome};
use super::request_id::RequestId;
use crate::error::AdminError;
use crate::link::LinkNumber;
use crate::progress::Progress;

/// The most jobs at once: each has a stack.
pub const JOBS_MAX: usize = 4;

/// What a long command does between two steps.
pub trait Pauses: Sync {
    /// Lets others have their turn, and tells how far the command is. Returns whether the command is to end. The caller holds
    /// no lock, and no lane of a disk that consumers use.
    fn pause(&self, at: &Progress<'_>) -> ControlFlow<()>;
}

/// The work of a long command, with all that it needs. Nothing of it is done yet.
pub type JobWork<R> = Box<dyn FnOnce(&dyn Pauses) -> Result<R, AdminError> + Send>;

/// A long request that may be a job.
pub trait Job<P: ?Sized>: fmt::Debug {
    /// The name of the block device or namespace that it is about, as it was given. `None`: it looks at all devices.
    fn device(&self) -> Option<&str>;

    /// Takes what it is about in hand, and returns its work. `None`: another command has it in hand, and it waits for that
    /// one's end.
    ///
    /// # Errors
    /// As [`Request::execute`](super::request::Request::execute).
    fn begin(&self, part: &P) -> Option<Result<JobWork<Outcome>, AdminError>>;
}

/// Whose a job is, and how its reply is sent.
#[derive(Debug)]
pub struct Ticket {
    /// The link that it was asked for on.
    pub link: LinkNumber,
    /// What its line began with: `#7 `, or nothing.
    pub number: String,
    /// Its id, which the reply has, too.
    pub id: Option<RequestId>,
    /// The form of the reply.
    pub mode: Mode,
    /// The command as its event has it, if it is to be one.
    pub change: Option<String>,
}

/// The jobs that are under way.
pub trait JobAdmin {
    /// Whether there is room for another one.
    fn has_room(&self) -> bool;

    /// Begins a job. The caller has seen that there is room.
    fn begin(&self, ticket: Ticket, work: JobWork<Outcome>);

    /// Takes a job of this link that has ended.
    fn ended(&self, link: LinkNumber) -> Option<(Ticket, Result<Outcome, AdminError>)>;

    /// Lets the job of this link end that has this number, as soon as it can.
    fn end(&self, link: LinkNumber, number: &str);

    /// Lets all jobs of this link end, without a reply: who asked has gone.
    fn forget(&self, link: LinkNumber);
}
