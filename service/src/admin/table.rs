//! The table of commands: all families.

use alloc::boxed::Box;
use alloc::string::String;

use super::appliance::AnyAppliance;
use super::commands::session::Manual;
use super::commands::{config, events, exports, inventory, machine, namespaces, network, sectors, session};
use super::grammar::{Arguments, CommandSpec};
use super::job::JobWork;
use super::reply::{Mode, Outcome};
use super::request::Request;
use crate::error::AdminError;
use crate::events::{Ended, Filter};

macro_rules! families {
    ($($family:ident: $module:ident;)*) => {
        /// A request to one of the parts.
        #[derive(Debug)]
        pub enum AnyRequest {
            $(#[allow(missing_docs, reason = "the family's module explains it")] $family(Box<dyn Request<$module::Part>>),)*
        }

        /// The specifications of all commands, in the order of `help`.
        pub fn specs() -> impl Iterator<Item = &'static CommandSpec> {
            core::iter::empty()$(.chain($module::COMMANDS.iter().map(|command| &command.spec)))*
        }

        /// Makes a request of a command's first word and the rest. `None`: there is no such command.
        pub(super) fn request(name: &str, rest: &[String]) -> Option<Result<AnyRequest, AdminError>> {
            $(if let Some(command) = $module::COMMANDS.iter().find(|command| command.spec.is_called(name)) {
                return Some(Arguments::new(&command.spec, rest).and_then(|line| match line.asks_for_help() {
                    true => Ok(AnyRequest::Session(session::help(command.spec.name))),
                    false => (command.parse)(&line).map(AnyRequest::$family),
                }));
            })*
            None
        }

        impl AnyRequest {
            /// Whether it changes nothing and is soon done ([`Look`](super::request::Look)).
            #[must_use]
            pub fn only_looks(&self) -> bool {
                match self {
                    $(Self::$family(request) => request.as_look().is_some(),)*
                }
            }

            /// The block device that it reads or changes in one step, if it does no more ([`Step`](super::request::Step)).
            #[must_use]
            pub fn steps_on(&self) -> Option<&str> {
                match self {
                    $(Self::$family(request) => request.as_step().map(|it| it.device()),)*
                }
            }

            /// Whether it may be a job, and if so, of which block device or namespace ([`Job`](super::job::Job)).
            #[must_use]
            pub fn job_on(&self) -> Option<Option<&str>> {
                match self {
                    $(Self::$family(request) => request.as_job().map(|it| it.device()),)*
                }
            }

            /// Whether it is to be an event when it is carried out ([`Request::is_change`]).
            #[must_use]
            pub fn is_change(&self) -> bool {
                match self {
                    $(Self::$family(request) => request.is_change(),)*
                }
            }

            /// The events that it asks for as they happen, if it is `events --follow`.
            #[must_use]
            pub fn follow(&self) -> Option<Filter> {
                match self {
                    $(Self::$family(request) => request.follow(),)*
                }
            }

            /// The mode that it asks for, and whether with progress, if it is `mode`.
            #[must_use]
            pub fn mode(&self) -> Option<(Mode, bool)> {
                match self {
                    $(Self::$family(request) => request.mode(),)*
                }
            }

            /// How it ends the machine when it is carried out, if it is `poweroff` or `reboot`.
            #[must_use]
            pub fn ends_machine(&self) -> Option<Ended> {
                match self {
                    $(Self::$family(request) => request.ends_machine(),)*
                }
            }
        }
    };
}

families! {
    Session: session;
    Inventory: inventory;
    Namespaces: namespaces;
    Sectors: sectors;
    Exports: exports;
    Network: network;
    Config: config;
    Events: events;
    Machine: machine;
}

impl AnyRequest {
    /// Carries it out.
    ///
    /// # Errors
    /// As [`Request::execute`].
    pub fn execute(self, appliance: &mut AnyAppliance) -> Result<Outcome, AdminError> {
        match self {
            Self::Session(request) => request.execute(&mut Manual(specs().collect())),
            Self::Inventory(request) => request.execute(appliance),
            Self::Namespaces(request) => request.execute(appliance),
            Self::Sectors(request) => request.execute(appliance),
            Self::Exports(request) => request.execute(appliance),
            Self::Network(request) => request.execute(appliance),
            Self::Config(request) => request.execute(appliance),
            Self::Events(request) => request.execute(appliance),
            Self::Machine(request) => request.execute(appliance),
        }
    }

    /// Carries it out beside a command that is under way, if it only looks, or if `may_change` and it is one step on a device
    /// that no command has in hand; likewise makes a job of it, if there `is_room`.
    #[must_use]
    pub fn beside(&self, may_change: bool, is_room: bool, appliance: &AnyAppliance) -> Beside {
        match self {
            Self::Session(request) => beside(&**request, may_change, is_room, &Manual(specs().collect())),
            Self::Inventory(request) => beside(&**request, may_change, is_room, appliance),
            Self::Namespaces(request) => beside(&**request, may_change, is_room, appliance),
            Self::Sectors(request) => beside(&**request, may_change, is_room, appliance),
            Self::Exports(request) => beside(&**request, may_change, is_room, appliance),
            Self::Network(request) => beside(&**request, may_change, is_room, appliance),
            Self::Config(request) => beside(&**request, may_change, is_room, appliance),
            Self::Events(request) => beside(&**request, may_change, is_room, appliance),
            Self::Machine(request) => beside(&**request, may_change, is_room, appliance),
        }
    }
}

/// What became of a request beside others.
pub enum Beside {
    /// It is carried out; or it cannot be, and this is why.
    Done(Result<Outcome, AdminError>),
    /// It is to be a job, with this work.
    Job(JobWork<Outcome>),
    /// It waits for its turn.
    Waits,
}

/// As [`AnyRequest::beside`].
fn beside<P: ?Sized>(request: &dyn Request<P>, may_change: bool, is_room: bool, part: &P) -> Beside {
    if let Some(look) = request.as_look() {
        return Beside::Done(look.look(part));
    }
    let done = request.as_step().filter(|_| may_change).and_then(|step| step.step(part));
    if let Some(outcome) = done {
        return Beside::Done(outcome);
    }
    match request.as_job().filter(|_| may_change && is_room).and_then(|job| job.begin(part)) {
        Some(Ok(work)) => Beside::Job(work),
        Some(Err(why)) => Beside::Done(Err(why)),
        None => Beside::Waits,
    }
}
