//! The byte link that an admin session talks over: a UART, a socket, or a test's two queues.

use crate::progress::ProgressForm;

/// A reliable stream of bytes in both directions. Reading never waits.
pub trait ByteLink {
    /// The next byte that has arrived, if there is one. Never waits.
    fn receive(&mut self) -> Option<u8>;

    /// Whether a byte has arrived that [`ByteLink::receive`] would return.
    fn is_waiting(&mut self) -> bool;

    /// Whether bytes that should have arrived since the last call were lost or damaged on their way, or may be missing
    /// among those that did arrive. A link that loses nothing returns false.
    fn has_lost(&mut self) -> bool {
        false
    }

    /// Which link of the machine this is.
    fn number(&self) -> LinkNumber {
        LinkNumber::default()
    }

    /// Notes for whom a command is about to be carried out, and the number of its line (`#7 `, or nothing): a link that reads
    /// ahead meanwhile must know what ends it.
    fn begins(&mut self, _asker: Asker, _number: &str) {}

    /// Notes how progress of that command is shown; `None`: it is not. A link that knows nothing of it shows none.
    fn shows_progress(&mut self, _form: Option<ProgressForm>) {}

    /// Sends all of `bytes`, in order. May wait for room, within a bound of the link's own; bytes that a dead peer does
    /// not take within it are dropped, so that a session never hangs on its link.
    fn send(&mut self, bytes: &[u8]);
}

/// One of a machine's links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkNumber(pub u8);

/// For whom a session carries a command out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asker {
    /// A person at the console.
    #[default]
    Person,
    /// A program, in a mode for programs.
    Program,
    /// A program beside a person.
    ProgramBeside,
    /// A person or a program on another link.
    Elsewhere,
}

impl<L: ByteLink + ?Sized> ByteLink for &mut L {
    fn receive(&mut self) -> Option<u8> {
        (**self).receive()
    }

    fn is_waiting(&mut self) -> bool {
        (**self).is_waiting()
    }

    fn has_lost(&mut self) -> bool {
        (**self).has_lost()
    }

    fn number(&self) -> LinkNumber {
        (**self).number()
    }

    fn begins(&mut self, asker: Asker, number: &str) {
        (**self).begins(asker, number);
    }

    fn shows_progress(&mut self, form: Option<ProgressForm>) {
        (**self).shows_progress(form);
    }

    fn send(&mut self, bytes: &[u8]) {
        (**self).send(bytes);
    }
}

/// A link that can send in parts, so that whoever sends much can do something else between them.
pub trait PartLink: ByteLink {
    /// Sends the first of these bytes, after a short wait at most, and returns how many: 0 if the peer takes none now. `None`
    /// if it has taken none for as long as [`ByteLink::send`] waits: the bytes are to be dropped.
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize>;
}

impl<L: PartLink + ?Sized> PartLink for &mut L {
    fn send_part(&mut self, bytes: &[u8]) -> Option<usize> {
        (**self).send_part(bytes)
    }
}
