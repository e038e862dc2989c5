//! The log: the events as lines on the console, until the log is set quiet.
//!
//! In machine mode a log line among the replies would break the protocol, so a session sets the log quiet. A panic ends
//! the session anyhow, and shows the last events.
//!
//! The ring of events is [`JOURNAL`]. Who is at the console is shown each event once, in order: at once, if CPU 0 carries a
//! command out or brings the machine up, and else when its loop comes to it. What commands change is no line: who gave the
//! command knows.

use alloc::sync::Arc;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::events::retained::Kept;
use kernel::events::{Journal, News};
use service::events::{Ended, Kind, LastBoot, Severity};
use service::link::ByteLink;

use crate::console::Console;
use crate::{clock, cpu, memory};

static QUIET: AtomicBool = AtomicBool::new(false);

/// The number of the last event that was shown. Only CPU 0 stores it.
static SHOWN: AtomicU64 = AtomicU64::new(0);

/// What happens to the appliance.
pub(crate) static JOURNAL: Journal = Journal::new(clock::now_ns, cpu::number);

/// [`JOURNAL`], as the node shares it.
pub(crate) struct StaticJournal;

impl AsRef<Journal> for StaticJournal {
    fn as_ref(&self) -> &Journal {
        &JOURNAL
    }
}

/// Logs one line about the machine.
macro_rules! log {
    ($($arguments:tt)*) => { $crate::log::line(format_args!($($arguments)*)) };
}

/// Keeps events over a reset from now on, if there is memory for it. Returns what the boot before left.
pub(crate) fn keep_over_reset() -> Kept {
    let Some(memory) = memory::retained() else {
        line(format_args!("events: there is too little memory to keep them over a reset"));
        return Kept::default();
    };
    let found = JOURNAL.attach(Arc::new(memory));
    if let Some(LastBoot { boot, ended, .. }) = &found.last {
        let severity = match ended {
            Ended::Reboot | Ended::Poweroff => Severity::Info,
            Ended::Reset => Severity::Warning,
            Ended::Panic | Ended::Watchdog => Severity::Error,
        };
        let what = format_args!("boot {boot} ended {}: events --last-boot shows what it had to tell", ended.in_words());
        tell(&News { severity, kind: Kind::Boot, place: &"", what });
    }
    found
}

/// Keeps log lines off the console, or lets them onto it again. Returns whether it kept them off before.
pub(crate) fn set_quiet(quiet: bool) -> bool {
    QUIET.swap(quiet, Ordering::Relaxed)
}

/// Logs one line. [`log!`] is how to call it.
pub(crate) fn line(what: fmt::Arguments<'_>) {
    tell(&News { severity: Severity::Info, kind: Kind::Machine, place: &"", what });
}

/// Tells an event, and shows all that were not shown yet.
pub(crate) fn tell(news: &News<'_>) {
    JOURNAL.tell(news);
    unshown(|place, what| {
        let _ = write_line(&mut Out, place, what);
    });
}

/// Calls `each` with where and what of the events that were not shown yet, unless the log is quiet. Called on CPU 0.
pub(crate) fn unshown(mut each: impl FnMut(&str, &str)) {
    if QUIET.load(Ordering::Relaxed) {
        return;
    }
    let last = JOURNAL.lines_after(SHOWN.load(Ordering::Relaxed), |kind, place, what| {
        if kind != Kind::Admin {
            each(place, what);
        }
    });
    SHOWN.store(last, Ordering::Relaxed);
}

/// Shows none of the events that there are: a program has the console.
pub(crate) fn skip() {
    SHOWN.store(JOURNAL.newest(), Ordering::Relaxed);
}

/// Writes an event as a line of the console.
pub(crate) fn write_line(out: &mut dyn Write, place: &str, what: &str) -> fmt::Result {
    let colon = if place.is_empty() { "" } else { ": " };
    write!(out, "{place}{colon}{what}\r\n")
}

/// The console.
pub(crate) struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Console.send(text.as_bytes());
        Ok(())
    }
}
