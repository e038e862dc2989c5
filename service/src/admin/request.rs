//! A command, and the request that it makes of a line's arguments.
//!
//! `P` is the part of the appliance that a command is for: it can call nothing else.

use alloc::boxed::Box;
use core::fmt;

use super::grammar::{Arguments, CommandSpec};
use super::reply::{Mode, Outcome};
use crate::error::AdminError;

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

/// A command with its arguments: what a line means once the grammar has accepted it. One that only looks has
/// [`Request::look`], and any other [`Request::execute`].
pub trait Request<P: ?Sized>: fmt::Debug {
    /// Carries it out.
    ///
    /// # Errors
    /// The appliance's, and those that the grammar cannot know: an unknown name, sectors past a device's end, a reply that
    /// would be too long.
    ///
    /// # Panics
    /// If the request has neither this nor [`Request::look`].
    fn execute(self: Box<Self>, part: &mut P) -> Result<Outcome, AdminError> {
        self.look(part).expect("a request that does not only look has its own way to be carried out")
    }

    /// Carries it out, if it changes nothing and is soon done: then it may be carried out between two steps of another one.
    /// `None` for all others.
    fn look(&self, _part: &P) -> Option<Result<Outcome, AdminError>> {
        None
    }

    /// The mode that it asks for, if it is `mode`.
    fn mode(&self) -> Option<Mode> {
        None
    }
}
