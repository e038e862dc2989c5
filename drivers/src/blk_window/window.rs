//! One window: a command register, a status register and an aperture.
//!
//! | step | why |
//! |---|---|
//! | command, one 64-bit store | clears the status, places the window at the DIMM address |
//! | flush hint, command read back | the store may be posted: the aperture must not be touched before the DIMM has it |
//! | to read: pending polled, aperture lines invalidated | caches may hold what the aperture showed before |
//! | copy in 8-byte units, line by line of an interleaved aperture | |
//! | to write: fence, flush hint, fence; pending polled | the copied bytes are durable when the DIMM reports that it took them |
//! | status | after the copy: it also shows errors during the copy |
//!
//! Source: Intel, NVDIMM Block Window Driver Writer's Guide (July 2016), sections 3 and 4; the registers' layout is the
//! control region's (ACPI 6.5, 5.2.25.6). A DIMM's AML method may report that it needs neither the read-back nor the
//! invalidation; without an interpreter for AML both are always done.

use alloc::boxed::Box;
use core::fmt;

use super::mmio::{Io, WORD_BYTES, fence_loads, load_shared, store_shared};
use crate::flush_hints::FlushHints;

/// A DIMM physical address, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dpa(pub(super) u64);

/// The unit of commands: a 64-byte line.
pub(super) const LINE: usize = 64;

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// The command register: bits 36 to 0 the DIMM address in lines, 55 to 48 the length in lines, 56 the direction (1: write);
/// the others are reserved and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Command(u64);

impl Command {
    /// `nvdimm` keeps addresses below 2^43 and transfers to 128 lines.
    const fn new(at: Dpa, bytes: usize, direction: Direction) -> Self {
        let lines = (bytes / LINE) as u64;
        let write = matches!(direction, Direction::Write) as u64;
        Self((at.0 / LINE as u64) | (lines << 48) | (write << 56))
    }
}

/// The status register's defined bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u32);

impl Status {
    /// The DIMM has no such address.
    pub(super) const INVALID_ADDRESS: u32 = 1;
    /// The DIMM has lost bytes there.
    pub(super) const UNCORRECTABLE: u32 = 1 << 1;
    /// The aperture was read after a write command, or written after a read command.
    pub(super) const MISMATCH: u32 = 1 << 2;
    /// The address is in a range that is locked.
    pub(super) const LOCKED: u32 = 1 << 4;
    /// The window is disabled.
    pub(super) const DISABLED: u32 = 1 << 5;
    /// The command is not done yet.
    pub(super) const PENDING: u32 = 1 << 31;
    /// All others are to be ignored.
    const MASK: u32 =
        Self::INVALID_ADDRESS | Self::UNCORRECTABLE | Self::MISMATCH | Self::LOCKED | Self::DISABLED | Self::PENDING;

    const fn is_pending(self) -> bool {
        self.0 & Self::PENDING != 0
    }

    /// Returns whether the medium lost bytes, and nothing else is wrong.
    pub(super) const fn is_lost(self) -> bool {
        self.0 == Self::UNCORRECTABLE
    }
}

/// The bits by name: `uncorrectable`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::INVALID_ADDRESS, "invalid address"),
            (Self::UNCORRECTABLE, "uncorrectable"),
            (Self::MISMATCH, "direction mismatch"),
            (Self::LOCKED, "locked range"),
            (Self::DISABLED, "window disabled"),
            (Self::PENDING, "never done"),
        ];
        let mut set = names.iter().filter(|(bit, _)| self.0 & bit != 0);
        set.next().map_or(Ok(()), |(_, first)| f.write_str(first))?;
        set.try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

/// The number of reads of a pending status before a command is given up: a read past the caches takes about a
/// microsecond.
pub(super) const MAX_POLLS: u32 = 100_000;

/// Contiguous bytes of an aperture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: Io,
    /// A multiple of a word.
    pub(super) bytes: usize,
}

/// A window, mapped. Exclusive access to it is the right to command it.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) command: Io,
    pub(super) status: Io,
    /// The aperture in order, `transfer_bytes` of it.
    pub(super) aperture: Box<[Piece]>,
}

impl Window {
    /// Copies `bytes` bytes from `at` on to `to`: whole lines, no more than the aperture has.
    ///
    /// # Errors
    /// The status; then the bytes at `to` mean nothing.
    ///
    /// # Safety
    /// `bytes` bytes from `to` on are writable.
    pub(super) unsafe fn read(&mut self, at: Dpa, to: *mut u8, bytes: usize, hints: &FlushHints) -> Result<(), Status> {
        self.begin(Command::new(at, bytes, Direction::Read), hints);
        self.wait()?;
        for (piece, _, bytes) in self.pieces(bytes) {
            for line in (0..bytes).step_by(LINE) {
                // SAFETY: within the piece.
                unsafe { piece.add(line) }.invalidate_line();
            }
        }
        fence_loads();
        for (piece, done, bytes) in self.pieces(bytes) {
            for word in (0..bytes).step_by(WORD_BYTES) {
                // SAFETY: within the piece, and within the caller's range.
                unsafe { store_shared(to.add(done + word), piece.add(word).load_u64()) };
            }
        }
        self.wait()
    }

    /// Copies `bytes` bytes from `from` to `at`: whole lines, no more than the aperture has. They are durable when this
    /// returns. A cut before that leaves any subset of their aligned 8-byte pieces.
    ///
    /// # Errors
    /// The status; then any of the pieces may be there.
    ///
    /// # Safety
    /// `bytes` bytes from `from` on are readable. They may change meanwhile.
    pub(super) unsafe fn write(
        &mut self,
        at: Dpa,
        from: *const u8,
        bytes: usize,
        hints: &FlushHints,
    ) -> Result<(), Status> {
        self.begin(Command::new(at, bytes, Direction::Write), hints);
        for (piece, done, bytes) in self.pieces(bytes) {
            for word in (0..bytes).step_by(WORD_BYTES) {
                // SAFETY: as in `read`.
                unsafe { piece.add(word).stream_u64(load_shared(from.add(done + word))) };
            }
        }
        hints.fence();
        self.wait()
    }

    /// Stores the command, and returns when the DIMM has it.
    fn begin(&mut self, command: Command, hints: &FlushHints) {
        self.command.store_u64(command.0);
        hints.fence();
        // A read of the register returns when the store before it has arrived.
        self.command.load_u64();
    }

    /// Waits until the command is done.
    fn wait(&self) -> Result<(), Status> {
        let mut status = Status(self.status.load_u32() & Status::MASK);
        let mut polls = 0;
        while status.is_pending() && polls < MAX_POLLS {
            core::hint::spin_loop();
            status = Status(self.status.load_u32() & Status::MASK);
            polls += 1;
        }
        if status.0 == 0 { Ok(()) } else { Err(status) }
    }

    /// Returns the pieces of the first `bytes` bytes of the aperture: the place, how many bytes come before, how many
    /// bytes.
    fn pieces(&self, bytes: usize) -> impl Iterator<Item = (Io, usize, usize)> {
        let mut done = 0;
        self.aperture.iter().map_while(move |piece| {
            let (before, now) = (done, piece.bytes.min(bytes - done));
            done += now;
            (now > 0).then_some((piece.at, before, now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn commands_are_laid_out_as_the_guide_has_it() {
        assert_eq!(Command::new(Dpa(0), 64, Direction::Read).0, 0x0001_0000_0000_0000);
        assert_eq!(Command::new(Dpa(0x1_2340), 8192, Direction::Write).0, 0x0180_0000_0000_048d);
        assert_eq!(Command::new(Dpa((1 << 43) - 64), 64, Direction::Write).0, 0x0101_001f_ffff_ffff);
    }

    #[test]
    fn status_bits_have_their_names() {
        assert_eq!(Status(1 << 1 | 1 << 31).to_string(), "uncorrectable, never done");
        assert_eq!(Status(0x35).to_string(), "invalid address, direction mismatch, locked range, window disabled");
        assert_eq!(Status::MASK, 0x8000_0037);
    }
}
