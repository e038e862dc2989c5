//! Something that one CPU at a time has, and that others ask it to do something with.
//!
//! Its lock says who has it. Nobody waits for another CPU's lock: who wants something posts a letter. A letter is carried out
//! by the CPU that has the thing, between two steps, or by the one that asks if it can have the thing: so none is woken for it.
//!
//! # What holds for every order of CPUs (`models/kernel`)
//!
//! - Each letter is carried out once, in the order of posting, by a CPU that has the thing.
//! - No letter waits for ever. A CPU that looked for letters and then let go of the thing may have missed one that was posted in
//!   between, whose asker could not have the thing yet. So the asker looks again ([`Held::reply`]), and whoever takes the thing
//!   carries out what was posted before.
//! - [`Held::count`] counts what a letter added or removed once the reply to that is there, and what was moved by [`Taken`]
//!   once that is dropped.

use core::ops::{Deref, DerefMut};

use super::mailbox::{Mailbox, Reply};
use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// Has parts that are counted.
pub(super) trait Count {
    /// Returns how many there are.
    fn count(&self) -> usize;
}

/// A `T` that one CPU at a time has. Letters to it are carried out with a `C`.
pub(super) struct Held<T, C> {
    it: Mutex<T>,
    mailbox: Mailbox<T, C>,
    /// How many parts it has, readable without the lock: stored under it.
    count: AtomicUsize,
}

/// The `T` in the hands of a CPU that leaves it with as many parts, but for what letters do.
pub(super) struct Holding<'h, T, C> {
    of: &'h Held<T, C>,
    it: MutexGuard<'h, T>,
}

/// The `T` in the hands of a CPU that may change how many parts it has. What was asked for before is done.
pub(super) struct Taken<'h, T: Count, C>(Holding<'h, T, C>);

impl<T: Count, C> Held<T, C> {
    pub(super) fn new(it: T) -> Self {
        let count = AtomicUsize::new(it.count());
        Self { it: Mutex::new(it), mailbox: Mailbox::new(), count }
    }

    /// Returns how many parts it has. What was just asked for is missed until the reply is there.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Takes it, unless a CPU has it.
    pub(super) fn try_hold(&self) -> Option<Holding<'_, T, C>> {
        self.it.try_lock().map(|it| Holding { of: self, it })
    }

    /// Takes it to change how many parts it has, unless a CPU has it.
    pub(super) fn try_take(&self, with: &C) -> Option<Taken<'_, T, C>> {
        let mut holding = self.try_hold()?;
        holding.carry_out(with);
        Some(Taken(holding))
    }

    /// Has something done with it. The reply may be there at once; until it is, the caller looks for it with [`Held::reply`].
    pub(super) fn ask<R: Send + 'static>(
        &self,
        with: &C,
        what: impl FnOnce(&mut T, &C) -> R + Send + 'static,
    ) -> Reply<R> {
        let reply = self.mailbox.post(what);
        self.carry_out(with);
        reply
    }

    /// Returns a reply, if it is there, or can be had now: a CPU that let go as the letter was posted may not have seen it.
    pub(super) fn reply<R>(&self, with: &C, reply: &Reply<R>) -> Option<R> {
        reply.take().or_else(|| {
            self.carry_out(with);
            reply.take()
        })
    }

    /// Carries out what was asked for, unless a CPU has it: that one does it.
    pub(super) fn carry_out(&self, with: &C) {
        if self.mailbox.has_any()
            && let Some(mut holding) = self.try_hold()
        {
            holding.carry_out(with);
        }
    }

    fn count_anew(&self, it: &T) {
        self.count.store(it.count(), Ordering::Release);
    }
}

impl<T: Count, C> Holding<'_, T, C> {
    /// Carries out what was asked for.
    pub(super) fn carry_out(&mut self, with: &C) {
        let of = self.of;
        of.mailbox.carry_out(&mut self.it, with, &|it| of.count_anew(it));
    }
}

impl<T: Count, C> Drop for Taken<'_, T, C> {
    fn drop(&mut self) {
        self.0.of.count_anew(&self.0.it);
    }
}

impl<T, C> Deref for Holding<'_, T, C> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.it
    }
}

impl<T, C> DerefMut for Holding<'_, T, C> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.it
    }
}

impl<T: Count, C> Deref for Taken<'_, T, C> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Count, C> DerefMut for Taken<'_, T, C> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
