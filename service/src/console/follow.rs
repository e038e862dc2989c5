//! `events --follow` in a session: events are sent as they happen, between two looks at what comes in. So it holds nobody up,
//! and a program beside the person may ask meanwhile.

use alloc::string::String;
use core::fmt::Write as _;

use super::output::Output;
use crate::admin::commands::events::{FollowEnds, heading, row};
use crate::admin::{AnyAppliance, Mode, Outcome, RequestId};
use crate::events::Filter;
use crate::link::ByteLink;

/// The most events that are sent before others have their turn.
const EVENTS_A_STEP: usize = 8;

/// What a person is shown first. By it a program beside the person knows that the console keeps nobody waiting.
pub const FOLLOWING: &str = "any key ends this";

/// What is followed.
#[derive(Debug)]
pub(super) struct Follow {
    filter: Filter,
    /// The id of its request, which its reply has, too.
    id: Option<RequestId>,
    has_heading: bool,
}

impl Follow {
    /// Begins. A person is told how it ends.
    pub(super) fn begin<L: ByteLink + ?Sized>(filter: Filter, id: Option<RequestId>, mode: Mode, link: &mut L) -> Self {
        if mode == Mode::Console {
            // A link takes all that is written.
            let _ = writeln!(Output::terminal(link), "{FOLLOWING}");
        }
        Self { filter, id, has_heading: false }
    }

    /// Sends the next new events, some of them.
    pub(super) fn step<L: ByteLink + ?Sized>(&mut self, mode: Mode, link: &mut L, appliance: &AnyAppliance) {
        let newest = appliance.newest_event();
        if newest <= self.filter.after {
            return;
        }
        let events = appliance.events(&self.filter);
        // Some may have come meanwhile, of other CPUs: those that were looked at are not looked at again.
        self.filter.after = newest.max(events.last().map_or(0, |event| event.number));
        let mut text = String::new();
        for event in events.iter().take(EVENTS_A_STEP) {
            if events.len() > EVENTS_A_STEP {
                self.filter.after = event.number;
            }
            // A string takes all that is written.
            let _ = match mode {
                Mode::Json => writeln!(text, "{}", serde_json::to_string(event).expect("numbers and texts")),
                Mode::Console | Mode::Text => {
                    let headed = core::mem::replace(&mut self.has_heading, true);
                    if headed { Ok(()) } else { heading(&mut text) }.and_then(|()| row(event, &mut text))
                }
            };
        }
        let mut out = if mode == Mode::Console { Output::terminal(link) } else { Output::plain(link) };
        // A link takes all that is written.
        let _ = out.write_str(&text);
    }

    /// The reply at the end, and the id that the request had.
    pub(super) fn ends(self) -> (Option<RequestId>, Outcome) {
        (self.id, FollowEnds { newest: self.filter.after }.into())
    }
}
