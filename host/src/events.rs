//! `events --follow` for a client of the admin socket: the appliance is asked again and again for what is new, and is free for
//! others meanwhile.

use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;
use service::admin::RequestId;
use service::admin::commands::events::{FollowEnds, heading, row};
use service::events::{Event, Filter};

use crate::session::{ReplyForm, reply_of};

/// The time between two questions.
pub(crate) const PAUSE: Duration = Duration::from_millis(500);

/// What a client follows.
#[derive(Debug)]
pub(crate) struct Following {
    mode: ReplyForm,
    id: Option<RequestId>,
    filter: Filter,
    has_heading: bool,
}

impl Following {
    pub(crate) const fn new(mode: ReplyForm, id: Option<RequestId>, filter: Filter) -> Self {
        Self { mode, id, filter, has_heading: false }
    }

    /// The next question. Its reply is in mode json.
    pub(crate) fn question(&self) -> String {
        let Filter { severity, kind, after } = self.filter;
        let severity = severity.map(|it| format!(" --severity {}", it.as_str())).unwrap_or_default();
        let kind = kind.map(|it| format!(" --kind {}", it.as_str())).unwrap_or_default();
        format!("events --after {after}{severity}{kind}")
    }

    /// What the client is sent of a reply. `None`: it is none that is expected.
    pub(crate) fn take(&mut self, reply: &str) -> Option<String> {
        let reply: Value = serde_json::from_str(reply).ok()?;
        let newest = reply["newest"].as_u64()?;
        // After a restart of the appliance events count from 1 again: the next question is for all of them.
        self.filter.after = if newest < self.filter.after { 0 } else { newest };
        let mut text = String::new();
        for event in reply["events"].as_array()? {
            let event = Event::deserialize(event).ok()?;
            // A string takes all that is written.
            match self.mode {
                ReplyForm::Json => text += &format!("{}\n", serde_json::to_string(&event).ok()?),
                ReplyForm::Text => {
                    if !std::mem::replace(&mut self.has_heading, true) {
                        heading(&mut text).ok()?;
                    }
                    row(&event, &mut text).ok()?;
                }
            }
        }
        Some(text)
    }

    /// The reply at the end.
    pub(crate) fn end(&self) -> String {
        reply_of(self.mode, self.id.as_ref(), &Ok(FollowEnds { newest: self.filter.after }.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use service::admin::object::parse_with_id;
    use service::events::{Kind, Severity};

    use super::*;

    #[test]
    fn a_client_gets_what_is_new_in_its_form() {
        let filter = Filter { severity: Some(Severity::Info), kind: Some(Kind::Boot), after: 3 };
        let event = concat!(
            r#"{"number":9,"time":1234567.000001,"severity":"info","kind":"boot","where":"x","#,
            r#""what":"ready","cpu":0}"#
        );
        let reply = format!(r#"{{"ok":true,"events":[{event}],"newest":12}}"#);
        let mut json = Following::new(ReplyForm::Json, None, filter);
        assert_eq!(json.question(), "events --after 3 --severity info --kind boot");
        assert_eq!(json.take(&reply).unwrap(), format!("{event}\n"));
        assert_eq!(json.question(), "events --after 12 --severity info --kind boot");
        assert_eq!(json.end(), "{\"ok\":true,\"newest\":12}\n");
        let id = || parse_with_id("{\"id\":\"a b\"}").0;
        assert_eq!(Following::new(ReplyForm::Json, id(), filter).end(), "{\"ok\":true,\"id\":\"a b\",\"newest\":3}\n");
        assert_eq!(Following::new(ReplyForm::Text, id(), filter).end(), "\x1e0 \"a b\"\n");
        let mut text = Following::new(ReplyForm::Text, None, Filter::default());
        assert_eq!(text.end(), "\x1e0\n");
        let shown = text.take(&reply).unwrap();
        assert!(shown.starts_with("       TIME SEVERITY") && shown.ends_with(" boot      x: ready\n"), "{shown}");
        assert_eq!(text.take(r#"{"ok":true,"events":[],"newest":12}"#).unwrap(), "");
        assert_eq!(text.take(r#"{"ok":true,"events":[],"newest":5}"#).unwrap(), "");
        assert_eq!(text.question(), "events --after 0", "the appliance was restarted");
        assert_eq!(text.take(r#"{"ok":false,"error":{}}"#), None);
    }
}
