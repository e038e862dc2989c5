//! A consumer's memory as the appliance's machine gets it: the RAM file, or, when that was cut short, something else in its
//! place.
//!
//! The appliance's QEMU has the file mapped, and dies by SIGBUS when it touches what was cut off. Nothing can keep a consumer
//! from that, which must be able to write its own RAM; so it is left out from the next machine on, and others go on.
//!
//! A mark in the file shows the cut (`ram`), unless the consumer has put all back as it was. A watch sees that, too, but
//! sees a consumer that gives back pages just the same, so it is asked only after a death that no mark explains.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::ram::RamFile;

/// A consumer's memory, with what lasts as long as the bridge.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) ram: RamFile,
    /// The first vectors of the ivshmem device: kicks that we relay arrive by them.
    pub(super) kicks: Vec<Arc<File>>,
    /// Notices changes of the file by system calls: of its length, of its pages (ballooning), of its bytes. A consumer that
    /// only uses its RAM makes none. An instance for each file, so that equal events are one and none is lost. `None` where
    /// the system has no instance to spare.
    watch: Option<Inotify>,
    /// The memory that the appliance gets instead of the file, once the file cannot be given any more.
    instead: OnceLock<File>,
}

impl Window {
    pub(super) fn new(ram: RamFile, kicks: Vec<Arc<File>>) -> Self {
        let watch = watch(ram.file()).ok();
        Self { ram, kicks, watch, instead: OnceLock::new() }
    }

    /// Whether a program has changed the file by a system call since the last question.
    pub(super) fn was_changed(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.read_events().is_ok_and(|events| !events.is_empty()))
    }

    /// Whether the consumer has no disks any more.
    pub(super) fn is_left_out(&self) -> bool {
        self.instead.get().is_some()
    }

    /// The memory that a machine which starts now gets for the consumer.
    pub(super) fn memory(&self) -> BorrowedFd<'_> {
        self.instead.get().unwrap_or(self.ram.file()).as_fd()
    }

    /// Leaves the consumer out, for as long as the bridge lives: the appliance's device for it has zeroes of the same length.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn leave_out(&self) -> io::Result<()> {
        let memory = File::from(memfd_create("untorn-left-out", MFdFlags::MFD_CLOEXEC)?);
        memory.set_len(self.ram.file_bytes())?;
        // If it is left out already, so it stays.
        let _ = self.instead.set(memory);
        Ok(())
    }
}

/// A watch of a file, whatever its name is by now.
fn watch(file: &File) -> nix::Result<Inotify> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    watch.add_watch(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str(), AddWatchFlags::IN_MODIFY)?;
    Ok(watch)
}
