//! Coroutines as threads, of which one goes on at a time with who resumes it.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{JoinHandle, park, spawn};

use kernel::node::coroutine::{Coroutine, CoroutineBody};

/// A coroutine on a thread, which is CPU 0 as every new thread is.
pub(crate) struct OnThread {
    go_on: Sender<()>,
    /// Whether it goes on, each time that it stops.
    stopped: Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl OnThread {
    pub(crate) fn new(body: CoroutineBody) -> Self {
        let (go_on, resumed) = channel();
        let (stops, stopped) = channel();
        let thread = spawn(move || {
            let (resumed, stops) = (Mutex::new(resumed), Mutex::new(stops));
            // Where the power was cut it never goes on.
            let wait = || {
                while resumed.lock().expect("no panic").recv().is_err() {
                    park();
                }
            };
            let stop = |goes_on| {
                let _ = stops.lock().expect("no panic").send(goes_on);
            };
            wait();
            body(&|| {
                stop(true);
                wait();
            });
            stop(false);
        });
        Self { go_on, stopped, thread: Some(thread) }
    }
}

impl Coroutine for OnThread {
    fn resume(&mut self) -> bool {
        self.go_on.send(()).expect("it waits");
        let goes_on = self.stopped.recv().unwrap_or(false);
        if !goes_on
            && let Some(thread) = self.thread.take()
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
        goes_on
    }
}
