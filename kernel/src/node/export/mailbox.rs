//! What a CPU is asked to do with something that it has: carried out between two of its steps.
//!
//! Who asks posts a letter and looks for the reply from time to time. Who carries it out is [`super::held`]'s part.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::sync::{AtomicBool, Mutex, Ordering};

/// What is to be done with a `T`. It calls the function that it is given when that is done, and before the reply is there.
type Letter<T, C> = Box<dyn FnOnce(&mut T, &C, &dyn Fn(&T)) + Send>;

/// Letters to the CPU that has a `T`, in order. It carries them out with a `C`.
pub(super) struct Mailbox<T, C> {
    letters: Mutex<VecDeque<Letter<T, C>>>,
    /// Whether there are any, readable without the lock: stored under it.
    any: AtomicBool,
}

/// The reply to a letter, once it is there.
pub(super) struct Reply<R>(Arc<Mutex<Option<R>>>);

impl<R> Reply<R> {
    /// Takes the reply, if it is there.
    pub(super) fn take(&self) -> Option<R> {
        self.0.lock().take()
    }
}

impl<T, C> Mailbox<T, C> {
    pub(super) fn new() -> Self {
        Self { letters: Mutex::new(VecDeque::new()), any: AtomicBool::new(false) }
    }

    /// Posts a letter.
    pub(super) fn post<R: Send + 'static>(&self, letter: impl FnOnce(&mut T, &C) -> R + Send + 'static) -> Reply<R> {
        let reply = Arc::new(Mutex::new(None));
        let to = Arc::clone(&reply);
        let mut letters = self.letters.lock();
        letters.push_back(Box::new(move |it, with, done| {
            let reply = letter(it, with);
            done(it);
            *to.lock() = Some(reply);
        }));
        self.any.store(true, Ordering::Release);
        Reply(reply)
    }

    /// Returns whether letters wait.
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Carries out all letters, and calls `done` with what each has left before its reply is there. The caller has the only `T`
    /// that they are for.
    pub(super) fn carry_out(&self, on: &mut T, with: &C, done: &dyn Fn(&T)) {
        while self.has_any() {
            let letter = {
                let mut letters = self.letters.lock();
                let letter = letters.pop_front();
                self.any.store(!letters.is_empty(), Ordering::Release);
                letter
            };
            if let Some(letter) = letter {
                letter(on, with, done);
            }
        }
    }
}
