//! What a CPU is asked to do with something that it has: carried out between two of its steps.
//!
//! Who asks posts a letter and looks for the reply from time to time. A letter is carried out by the CPU that has the thing
//! at that moment, or by the one that asks if it can have it ([`super::station::Station::ask`]): so no CPU waits for
//! another's lock, and none is woken for a letter.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Mutex;

/// What is to be done with a `T`.
type Letter<T, C> = Box<dyn FnOnce(&mut T, &C) + Send>;

/// Letters to the CPU that has a `T`, in order. It carries them out with a `C`.
pub(super) struct Mailbox<T, C> {
    letters: Mutex<VecDeque<Letter<T, C>>>,
    /// Whether there are any, readable without the lock.
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
    pub(super) const fn new() -> Self {
        Self { letters: Mutex::new(VecDeque::new()), any: AtomicBool::new(false) }
    }

    /// Posts a letter.
    pub(super) fn post<R: Send + 'static>(&self, letter: impl FnOnce(&mut T, &C) -> R + Send + 'static) -> Reply<R> {
        let reply = Arc::new(Mutex::new(None));
        let to = Arc::clone(&reply);
        let mut letters = self.letters.lock();
        letters.push_back(Box::new(move |it, with| *to.lock() = Some(letter(it, with))));
        self.any.store(true, Ordering::Release);
        Reply(reply)
    }

    /// Returns whether letters wait.
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Carries out all letters. The caller has the only `T` that they are for.
    pub(super) fn carry_out(&self, on: &mut T, with: &C) {
        while self.has_any() {
            let letter = {
                let mut letters = self.letters.lock();
                let letter = letters.pop_front();
                self.any.store(!letters.is_empty(), Ordering::Release);
                letter
            };
            if let Some(letter) = letter {
                letter(on, with);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn letters_are_carried_out_in_order_and_each_has_its_reply() {
        let mailbox = Mailbox::<Vec<u32>, u32>::new();
        let replies = [1, 2, 3].map(|number| {
            mailbox.post(move |list, with| {
                list.push(number * with);
                list.len()
            })
        });
        assert!(mailbox.has_any());
        assert_eq!(replies.each_ref().map(Reply::take), [None, None, None]);
        let mut list = Vec::new();
        mailbox.carry_out(&mut list, &10);
        assert_eq!(list, vec![10, 20, 30]);
        assert_eq!(replies.map(|reply| reply.take()), [Some(1), Some(2), Some(3)]);
        assert!(!mailbox.has_any());
    }
}
