//! Event descriptors: our own, which never block, and those that a front end has sent, which may.
//!
//! O_NONBLOCK belongs to the open file, not to a descriptor of it. A front end that keeps a descriptor can take the flag
//! away at any time, and fill the counter or empty it: write(2) then waits until the front end reads, and read(2) until it
//! writes. So what a front end has sent is a [`ForeignEvent`], which only these two calls touch. Neither waits, whatever
//! the flags are:
//! - [`Bell::ring`]: the end of an asynchronous read makes the kernel signal a descriptor (io_submit(2),
//!   `IOCB_FLAG_RESFD`). That adds to the counter, or leaves it at its greatest value. The read is one of no bytes of
//!   a file in memory, so it has ended when io_submit returns.
//! - [`ForeignEvent::take`]: preadv2(2) with `RWF_NOWAIT`, which Linux 5.8 and later have for event descriptors.

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// How many finished requests a bell keeps before it discards them.
const REQUESTS_MAX: libc::c_long = 128;

/// How often a request is tried for which the system has no room: each time finished ones were discarded.
const TRIES: usize = 16;

/// The opcode of a read (`linux/aio_abi.h`).
const IOCB_CMD_PREAD: u16 = 0;

/// The flag by which the end of a request signals `aio_resfd` (`linux/aio_abi.h`).
const IOCB_FLAG_RESFD: u32 = 1;

/// The size of `struct io_event` in words of 64 bits (`linux/aio_abi.h`).
const IO_EVENT_WORDS: usize = 4;

/// A fresh event descriptor that never blocks. It stays ours alone, or goes to a program that we have started.
///
/// # Errors
/// The system's.
pub fn eventfd() -> io::Result<Arc<File>> {
    let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    Ok(Arc::new(File::from(OwnedFd::from(eventfd))))
}

/// Signals an event descriptor of ours. One that is full, or none at all, needs no more.
pub fn signal(eventfd: &File) {
    let mut eventfd = eventfd;
    let _ = eventfd.write(&1_u64.to_ne_bytes());
}

/// An event descriptor that a front end has sent: it may block, and may stop doing so, at any time.
#[derive(Debug)]
pub struct ForeignEvent(File);

impl ForeignEvent {
    /// Takes a descriptor that a front end has sent, if it is an event descriptor.
    #[must_use]
    pub fn new(file: File) -> Option<Self> {
        let kind = Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()).read_link();
        kind.is_ok_and(|kind| kind.as_os_str() == "anon_inode:[eventfd]").then_some(Self(file))
    }

    /// Takes the signals that have come. Returns false if there were none.
    pub fn take(&self) -> bool {
        preadv2_at_once(&self.0).is_ok()
    }
}

impl AsFd for ForeignEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads an event descriptor without a wait.
fn preadv2_at_once(eventfd: &File) -> io::Result<()> {
    let mut counter = 0_u64;
    let into = libc::iovec { iov_base: ptr::from_mut(&mut counter).cast(), iov_len: size_of::<u64>() };
    // SAFETY: `into` describes `counter`, which lives and is not used otherwise until the call has returned.
    let read = unsafe { libc::preadv2(eventfd.as_raw_fd(), &raw const into, 1, -1, libc::RWF_NOWAIT) };
    if read < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Signals event descriptors of others.
#[derive(Debug)]
pub struct Bell {
    context: libc::c_ulong,
    /// A file without bytes.
    nothing: File,
}

impl Bell {
    /// Asks the system for what it takes to signal and read descriptors of others.
    ///
    /// # Errors
    /// The system's, also if it is too old.
    pub fn new() -> io::Result<Self> {
        let why = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what}: {error}"));
        match preadv2_at_once(&*eventfd()?) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(why("preadv2 of an eventfd, which takes Linux 5.8", error)),
            Ok(()) => return Err(io::Error::other("an eventfd that nothing has signalled is readable")),
        }
        let nothing = File::from(memfd_create("untorn-nothing", MFdFlags::MFD_CLOEXEC)?);
        let mut context: libc::c_ulong = 0;
        // SAFETY: io_setup(2) stores a number in `context`, which is 0 as it asks.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, REQUESTS_MAX, &raw mut context) };
        if made < 0 {
            let what = "io_setup (EAGAIN: other programs use all that fs.aio-max-nr allows)";
            return Err(why(what, io::Error::last_os_error()));
        }
        Ok(Self { context, nothing })
    }

    /// Signals a descriptor. One that is full stays so.
    pub fn ring(&self, event: &ForeignEvent) {
        // SAFETY: it consists of numbers, all of which may be 0.
        let mut request: libc::iocb = unsafe { mem::zeroed() };
        request.aio_lio_opcode = IOCB_CMD_PREAD;
        request.aio_fildes = self.nothing.as_raw_fd().cast_unsigned();
        request.aio_flags = IOCB_FLAG_RESFD;
        request.aio_resfd = event.as_fd().as_raw_fd().cast_unsigned();
        let mut requests = [&raw mut request];
        for _ in 0..TRIES {
            // SAFETY:
            // 1. `requests` has one pointer, to a request that lives; the call copies it.
            // 2. It reads no bytes, so there is no buffer, and nothing is stored in our memory after the call.
            let done = unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1_i64, requests.as_mut_ptr()) };
            if done >= 0 || !self.has_discarded() {
                return;
            }
        }
    }

    /// Makes room for requests, if that was missing.
    fn has_discarded(&self) -> bool {
        const EVENTS: usize = 64;
        match io::Error::last_os_error().kind() {
            io::ErrorKind::WouldBlock => {}
            other => return other == io::ErrorKind::Interrupted,
        }
        let mut events = [[0_u64; IO_EVENT_WORDS]; EVENTS];
        // SAFETY: the call stores at most so many `struct io_event` in `events`, which are any bytes, and without a least
        // number it does not wait.
        let got = unsafe {
            let (least, none) = (0_i64, ptr::null_mut::<libc::timespec>());
            libc::syscall(libc::SYS_io_getevents, self.context, least, EVENTS as i64, events.as_mut_ptr(), none)
        };
        got >= 0
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and no thread uses it any more. None of its requests is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;

    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::{Bell, ForeignEvent};

    /// One that blocks, as its maker and as we have it.
    fn blocking() -> (File, ForeignEvent) {
        let file = File::from(OwnedFd::from(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).unwrap()));
        let ours = ForeignEvent::new(file.try_clone().unwrap()).unwrap();
        (file, ours)
    }

    fn count(mut event: &File) -> u64 {
        let mut count = [0; 8];
        event.read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    }

    #[test]
    fn a_descriptor_that_blocks_is_rung_and_read_without_a_wait() {
        let bell = Bell::new().unwrap();
        let (mut theirs, ours) = blocking();
        assert!(!ours.take(), "it is empty: read(2) would wait");
        // More often than a bell has room for.
        for _ in 0..1000 {
            bell.ring(&ours);
        }
        assert_eq!(count(&theirs), 1000);
        bell.ring(&ours);
        assert!(ours.take() && !ours.take());
        theirs.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        // It is full: write(2) would wait.
        bell.ring(&ours);
        assert_eq!(count(&theirs), u64::MAX);
    }

    #[test]
    fn only_an_event_descriptor_is_one() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(ForeignEvent::new(OwnedFd::from(reader).into()).is_none());
        assert!(ForeignEvent::new(OwnedFd::from(writer).into()).is_none());
        assert!(ForeignEvent::new(File::open("/dev/null").unwrap()).is_none());
    }
}
