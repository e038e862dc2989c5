//! Standard output beside everything else: a thread of its own writes to it, so that a terminal or a pipe that takes nothing
//! holds up neither the appliance's console nor the programs that ask beside it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How much waits to be taken. More is left out, and counted.
const BYTES_MAX: usize = 16 << 20;

/// How much is written at a time.
const PIECE_BYTES: usize = 16 << 10;

/// Takes bytes for standard output.
#[derive(Clone, Debug)]
pub struct Screen(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<u8>,
    /// How many bytes were left out since.
    left_out: u64,
    /// Whether a piece is being written.
    writes: bool,
    /// How many pieces were written.
    written: u64,
    /// The fault by which nothing is written any more.
    failed: Option<io::ErrorKind>,
}

impl Screen {
    /// Standard output.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        // Not std's, which buffers, and writes the rest when the process ends.
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::on(output)
    }

    fn on(mut output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        thread::Builder::new().spawn(move || its.write_all(&mut output))?;
        Ok(Self(shared))
    }

    /// Takes bytes, and never waits.
    ///
    /// # Errors
    /// When standard output has failed.
    pub fn put(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(failed) = state.failed {
            return Err(failed.into());
        }
        // Between two pieces of the console's output, so that what is shown has whole ends.
        if state.waiting.len() + bytes.len() > BYTES_MAX {
            state.left_out += bytes.len() as u64;
            return Ok(());
        }
        if state.left_out > 0 {
            let note = format!("\r\n[{} bytes were not shown]\r\n", state.left_out);
            state.left_out = 0;
            state.waiting.extend(note.as_bytes());
        }
        state.waiting.extend(bytes);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Waits until all is written, or nothing has been taken for `patience`.
    pub fn flush(&self, patience: Duration) {
        let mut state = self.0.lock();
        while state.failed.is_none() && (state.writes || !state.waiting.is_empty()) {
            let before = state.written;
            let (now, late) = self.0.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = now;
            if late.timed_out() && state.written == before {
                return;
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole before it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until that fails. It ends with the process.
    fn write_all(&self, output: &mut impl Write) {
        let mut state = self.lock();
        loop {
            while state.waiting.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let count = state.waiting.len().min(PIECE_BYTES);
            let piece: Vec<u8> = state.waiting.drain(..count).collect();
            state.writes = true;
            drop(state);
            let outcome = output.write_all(&piece).and_then(|()| output.flush());
            state = self.lock();
            (state.writes, state.written) = (false, state.written + 1);
            state.failed = outcome.err().map(|error| error.kind());
            self.changed.notify_all();
            if state.failed.is_some() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::io::Read;
    use std::thread;
    use std::time::Duration;

    use super::{BYTES_MAX, Screen};

    #[test]
    fn a_terminal_that_takes_nothing_holds_nobody_up_and_is_told_what_it_missed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let screen = Screen::on(writer).unwrap();
        let piece = [b'x'; 1 << 16];
        for _ in 0..(BYTES_MAX >> 16) + 100 {
            screen.put(&piece).unwrap();
        }
        screen.flush(Duration::from_millis(20));
        let mut taken = vec![0; 8 << 20];
        reader.read_exact(&mut taken).unwrap();
        screen.put(b"the end").unwrap();
        let rest = thread::spawn(move || {
            let mut taken = Vec::new();
            while !taken.ends_with(b"the end") {
                let mut bytes = [0; 1 << 16];
                let count = reader.read(&mut bytes).unwrap();
                taken.extend(&bytes[..count]);
            }
            taken
        });
        screen.flush(Duration::from_secs(60));
        let rest = String::from_utf8(rest.join().unwrap()).unwrap();
        assert!(rest.contains(" bytes were not shown]\r\nthe end"), "{}", rest.len());
    }

    #[test]
    fn an_output_that_has_gone_is_an_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        let screen = Screen::on(writer).unwrap();
        drop(reader);
        while screen.put(b"x").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        screen.flush(Duration::from_secs(60));
    }
}
