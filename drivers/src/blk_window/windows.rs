//! A DIMM's windows and their locks: commands of whole lines, and changes of a part of a line.

use alloc::boxed::Box;

use btt::media::LINE_BYTES;
use nvdimm::extent::Extent;
use spin::{Mutex, MutexGuard};

use super::window::{Dpa, LINE, Status, Window};
use crate::bad_ranges::BadRanges;
use crate::flush_hints::FlushHints;
use crate::pmem::Access;

/// Locks of lines, by line modulo this.
const LINE_LOCKS: usize = 64;

/// Returns the number of the CPU that calls. A wrong number makes CPUs wait for each other, and does no other harm.
pub type ThisCpu = fn() -> u32;

#[derive(Debug)]
pub(super) struct Windows {
    windows: Box<[Mutex<Window>]>,
    /// Bytes that one command moves at most.
    pub(super) transfer_bytes: u64,
    /// The DIMM addresses that they reach.
    pub(super) reach: Extent,
    pub(super) access: Access,
    hints: FlushHints,
    lines: Box<[Mutex<()>]>,
    this_cpu: ThisCpu,
    /// The lines that the DIMM has lost, by DIMM address.
    pub(super) bad: BadRanges,
}

impl Windows {
    /// Puts windows together that reach `reach`.
    pub(super) fn new(
        windows: Box<[Mutex<Window>]>,
        transfer_bytes: u64,
        reach: Extent,
        access: Access,
        hints: FlushHints,
        this_cpu: ThisCpu,
    ) -> Self {
        let lines = (0..LINE_LOCKS).map(|_| Mutex::new(())).collect();
        Self { windows, transfer_bytes, reach, access, hints, lines, this_cpu, bad: BadRanges::default() }
    }

    /// Returns how many windows are in use.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.windows.len()).expect("the NFIT counts windows in 16 bits")
    }

    /// Locks this CPU's window.
    fn window(&self) -> MutexGuard<'_, Window> {
        let index = (self.this_cpu)() as usize % self.windows.len();
        self.windows[index].lock()
    }

    /// Reads whole lines, no more than a command moves.
    ///
    /// # Safety
    /// As [`Window::read`].
    pub(super) unsafe fn read(&self, at: Dpa, to: *mut u8, bytes: usize) -> Result<(), Status> {
        // SAFETY: the caller's.
        let read = || unsafe { self.window().read(at, to, bytes, &self.hints) };
        read().or_else(|status| {
            // If every line reads well by itself, the error was transient: read the range once more instead of reporting
            // sound metadata as damaged.
            if status.is_lost() && !self.find_lost(at, bytes) { read() } else { Err(status) }
        })
    }

    /// Writes whole lines, no more than a command moves.
    ///
    /// # Safety
    /// As [`Window::write`].
    pub(super) unsafe fn write(&self, at: Dpa, from: *const u8, bytes: usize) -> Result<(), Status> {
        // SAFETY: the caller's.
        unsafe { self.window().write(at, from, bytes, &self.hints) }?;
        self.bad.written(at.0, bytes as u64);
        Ok(())
    }

    /// Reads these lines one by one and notes those that are lost. Returns whether any is.
    #[cold]
    fn find_lost(&self, at: Dpa, bytes: usize) -> bool {
        let mut line = [0_u8; LINE];
        let mut found = false;
        for start in (at.0..at.0 + bytes as u64).step_by(LINE) {
            // SAFETY: `line` has a line's bytes.
            let read = unsafe { self.window().read(Dpa(start), line.as_mut_ptr(), LINE, &self.hints) };
            if read.is_err_and(Status::is_lost) {
                self.bad.add(start, LINE_BYTES);
                found = true;
            }
        }
        found
    }

    fn line_lock(&self, at: Dpa) -> MutexGuard<'_, ()> {
        let index = usize::try_from(at.0 / LINE_BYTES % LINE_LOCKS as u64).expect("fewer than LINE_LOCKS");
        self.lines[index].lock()
    }

    /// Changes a part of a line, by writing all of it. A power cut leaves each of its 8-byte pieces old or new.
    pub(super) fn change_line(&self, at: Dpa, change: impl FnOnce(&mut [u8; LINE])) -> Result<(), Status> {
        let _changing = self.line_lock(at);
        if self.bad.first_in(at.0, LINE_BYTES).is_some() {
            return Err(Status(Status::UNCORRECTABLE));
        }
        let mut line = [0_u8; LINE];
        // SAFETY: `line` has a line's bytes.
        unsafe { self.read(at, line.as_mut_ptr(), LINE)? };
        change(&mut line);
        // SAFETY: as above.
        unsafe { self.write(at, line.as_ptr(), LINE) }
    }
}
