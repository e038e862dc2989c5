//! The log: a line for each event, on the console until the log is set quiet, and always in a small ring.
//!
//! In machine mode a log line among the replies would break the protocol, so a session sets the log quiet. A panic ends
//! the session anyhow, and writes the ring's lines.
//!
//! # Locks
//! The ring's and the console's; never both at once, and no interrupt handler takes either.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use service::link::ByteLink;
use spin::Mutex;

use crate::console::Console;

/// Longer lines are cut.
const LINE_BYTES: usize = 200;

/// The bytes that the ring holds.
const RING_BYTES: usize = 8192;

static QUIET: AtomicBool = AtomicBool::new(false);
static RING: Mutex<Ring> = Mutex::new(Ring { bytes: [0; RING_BYTES], written: 0 });

/// Logs one line.
macro_rules! log {
    ($($arguments:tt)*) => { $crate::log::line(format_args!($($arguments)*)) };
}

/// Keeps log lines off the console, or lets them onto it again. Returns whether it kept them off before.
pub(crate) fn set_quiet(quiet: bool) -> bool {
    QUIET.swap(quiet, Ordering::Relaxed)
}

/// Logs one line. [`log!`] is how to call it.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; LINE_BYTES], len: 0 };
    // A line that is too long is cut, and the error dropped.
    let _ = line.write_fmt(text);
    let text = &line.bytes[..line.len];
    RING.lock().push(text);
    if !QUIET.load(Ordering::Relaxed) {
        let mut console = Console;
        console.send(text);
        console.send(b"\r\n");
    }
}

/// Keeps one line for a panic. The caller shows it.
pub(crate) fn keep(line: &str) {
    let text = line.as_bytes();
    RING.lock().push(&text[..text.len().min(LINE_BYTES)]);
}

/// Calls `each` with the last lines, oldest first, if the log is quiet and so did not show them. For a panic: it does
/// not wait for a lock.
pub(crate) fn unshown(mut each: impl FnMut(&[u8])) {
    let Some(ring) = RING.try_lock().filter(|_| QUIET.load(Ordering::Relaxed)) else { return };
    let at = ring.written % RING_BYTES;
    if ring.written > RING_BYTES {
        // The oldest line is cut: skip to its end.
        let old = &ring.bytes[at..];
        let whole = old.iter().position(|byte| *byte == b'\n').map_or(old.len(), |end| end + 1);
        each(&old[whole..]);
    }
    each(&ring.bytes[..at]);
}

struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let count = text.len().min(room.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        if count == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

struct Ring {
    bytes: [u8; RING_BYTES],
    /// How many bytes were ever written.
    written: usize,
}

impl Ring {
    fn push(&mut self, line: &[u8]) {
        for byte in line.iter().chain(b"\n") {
            self.bytes[self.written % RING_BYTES] = *byte;
            self.written += 1;
        }
    }
}
