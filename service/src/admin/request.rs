//! A command, and the request that it makes of a line's arguments.
//!
//! `P` is the part of the appliance that a command is for: it can call nothing else.

use alloc::boxed::Box;
use core::fmt;

use super::grammar::{Arguments, CommandSpec};
use super::job::Job;
use super::reply::{Mode, Outcome};
use crate::error::AdminError;
use crate::events::{Ended, Filter};

/// The result of reading a command's arguments: a request, or a usage error.
pub type Parsed<P> = Result<Box<dyn Request<P>>, AdminError>;

/// A command of the table.
#[derive(Debug)]
pub struct Command<P: ?Sized + 'static> {
    /// How it is written.
    pub spec: CommandSpec,
    /// Makes a request of its arguments.
    pub parse: fn(&Arguments<'_>) -> Parsed<P>,
}

/// A command with its arguments: what a line means once the grammar has accepted it.
pub trait Request<P: ?Sized>: fmt::Debug {
    /// Carries it out.
    ///
    /// # Errors
    /// The appliance's, and those that the grammar cannot know: an unknown name, sectors past a device's end, a reply that
    /// would be too long.
    fn execute(self: Box<Self>, part: &mut P) -> Result<Outcome, AdminError>;

    /// Returns it as one that only looks, if it does.
    fn as_look(&self) -> Option<&dyn Look<P>> {
        None
    }

    /// Returns it as one step of work on a block device, if it is no more.
    fn as_step(&self) -> Option<&dyn Step<P>> {
        None
    }

    /// Returns it as one that may be long, and be a job.
    fn as_job(&self) -> Option<&dyn Job<P>> {
        None
    }

    /// Whether it changes how the appliance is set up, and so is an event: not what consumers do as well, to read and write.
    fn is_change(&self) -> bool {
        self.as_look().is_none()
    }

    /// The events that it asks for as they happen, if it is `events --follow`: the session's to carry out.
    fn follow(&self) -> Option<Filter> {
        None
    }

    /// The mode that it asks for, and whether with progress, if it is `mode`.
    fn mode(&self) -> Option<(Mode, bool)> {
        None
    }

    /// How it ends the machine when it is carried out, if it does.
    fn ends_machine(&self) -> Option<Ended> {
        None
    }
}

/// A request that changes nothing and is soon done: it may be carried out between two steps of another one.
pub trait Look<P: ?Sized>: fmt::Debug {
    /// Carries it out.
    ///
    /// # Errors
    /// As [`Request::execute`].
    fn look(&self, part: &P) -> Result<Outcome, AdminError>;

    /// As [`Request::follow`].
    fn follow(&self) -> Option<Filter> {
        None
    }
}

/// A request that is one step of work on a block device: it may be carried out between two steps of another one, on another
/// device.
pub trait Step<P: ?Sized>: fmt::Debug {
    /// The name of the device, as it was given.
    fn device(&self) -> &str;

    /// Carries it out. `None`: another command has the device in hand, and it waits for that one's end.
    ///
    /// # Errors
    /// As [`Request::execute`].
    fn step(&self, part: &P) -> Option<Result<Outcome, AdminError>>;
}

impl<P: ?Sized, L: Look<P>> Request<P> for L {
    fn execute(self: Box<Self>, part: &mut P) -> Result<Outcome, AdminError> {
        self.look(part)
    }

    fn as_look(&self) -> Option<&dyn Look<P>> {
        Some(self)
    }

    fn follow(&self) -> Option<Filter> {
        Look::follow(self)
    }
}
