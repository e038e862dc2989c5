//! Lines for people, written by a thread of their own: a reader that stalls holds up that thread and nothing else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How many lines wait for their reader. More are left out, and counted.
const LINES_MAX: usize = 1000;

/// How often a full journal is looked at again by [`Journal::flush`].
const LOOK: Duration = Duration::from_millis(5);

enum Entry {
    Line(String),
    /// All before it is written.
    Mark(SyncSender<()>),
}

/// Takes lines. Its clones take them for the same reader.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: SyncSender<Entry>,
    left_out: Arc<AtomicU64>,
}

impl Journal {
    /// Lines go to `write`, one at a time. It may block.
    ///
    /// # Errors
    /// The system's: it has no thread to spare.
    pub fn new(mut write: impl FnMut(&str) + Send + 'static) -> io::Result<Self> {
        let (entries, taken) = sync_channel(LINES_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&left_out);
        // It ends with the last handle.
        thread::Builder::new().spawn(move || {
            for entry in taken {
                match entry {
                    Entry::Line(line) => write(&line),
                    Entry::Mark(done) => drop(done.send(())),
                }
                match missing.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => write(&format!("{count} lines are left out: they came faster than they were read")),
                }
            }
        })?;
        Ok(Self { entries, left_out })
    }

    /// Takes a line, and never waits.
    pub fn say(&self, line: &str) {
        if self.entries.try_send(Entry::Line(line.into())).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, but not longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let begun = Instant::now();
        let (done, written) = sync_channel(1);
        let mut mark = Entry::Mark(done);
        while let Err(TrySendError::Full(back)) = self.entries.try_send(mark) {
            if begun.elapsed() >= patience {
                return;
            }
            mark = back;
            thread::sleep(LOOK);
        }
        let _ = written.recv_timeout(patience.saturating_sub(begun.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::{Journal, LINES_MAX};

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_learns_how_much_it_missed() {
        let (go, stalled) = channel::<()>();
        let (put, written) = channel();
        let journal = Journal::new(move |line| {
            let _ = stalled.recv();
            put.send(line.to_owned()).unwrap();
        })
        .unwrap();
        for number in 0..LINES_MAX + 500 {
            journal.say(&number.to_string());
        }
        journal.flush(Duration::from_millis(20));
        drop(go);
        journal.flush(Duration::from_secs(60));
        let lines: Vec<String> = written.try_iter().collect();
        let missing =
            lines.iter().find_map(|line| line.split_once(" lines are left out")?.0.parse::<usize>().ok()).unwrap();
        assert_eq!(lines.len() - 1 + missing, LINES_MAX + 500);
        assert_eq!(lines[0], "0");
    }
}
