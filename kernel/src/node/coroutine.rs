//! Coroutines: long commands in parts, each on a stack that the machine has for it ([`super::Machine::coroutine`]).

use alloc::boxed::Box;

/// Code with a stack of its own, which one CPU carries out by parts.
pub trait Coroutine: Send {
    /// Lets it go on until it pauses. Returns false when it has ended: then it is not called again.
    fn resume(&mut self) -> bool;
}

/// The code of a coroutine. It is given what pauses it.
pub type CoroutineBody = Box<dyn FnOnce(&(dyn Fn() + Sync)) + Send>;
