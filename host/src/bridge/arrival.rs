//! A front end's message before it is taken: it is taken only when it is whole and there is room for its answer, so that the
//! message layer, which tries again whenever its time is up, never waits.
//!
//! Its descriptors are looked at first, too. The message layer goes on, and waits for another message, where one has more
//! than it has room for; and it keeps the back end's channel to itself, of which we have a copy.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{UnixAddr, getsockname};
use service::control::REGIONS_MAX;

use crate::deadline::Deadline;

/// The bytes of a message's header: request, flags, size of the rest, each a u32.
const HEADER_BYTES: usize = 12;

/// The most bytes behind a header. More is no message.
const BODY_BYTES_MAX: usize = 4096;

/// The most descriptors of one message: a memory table's.
pub(super) const DESCRIPTORS_MAX: usize = REGIONS_MAX;

/// `VHOST_USER_SET_BACKEND_REQ_FD`.
const SET_BACKEND_REQ_FD: u32 = 21;

/// How often a message is looked at of which some is there.
const LOOK: Duration = Duration::from_millis(5);

/// Waits until the message that begins to come is whole, and there is room for its answer; or until the front end has gone, which
/// the message layer finds, or `is_over`. Returns false when that takes until `deadline`.
pub(super) fn is_whole_by(stream: &UnixStream, deadline: Deadline, is_over: impl Fn() -> bool) -> bool {
    while !is_over() {
        let mut watched = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut watched, PollTimeout::ZERO).is_ok() {
            let there = watched[0].revents().unwrap_or(PollFlags::empty());
            if there.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                return true;
            }
            if there.contains(PollFlags::POLLOUT) && is_whole(stream) {
                return true;
            }
        }
        if deadline.passed() {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

fn is_whole(stream: &UnixStream) -> bool {
    let Ok(there) = bytes_there(stream) else { return true };
    if there < HEADER_BYTES {
        // None at all: it is the end that there is to be read.
        return there == 0;
    }
    let Ok(Peeked { header: [_, _, body], .. }) = peek(stream, 0) else { return true };
    let body = usize::try_from(body).unwrap_or(usize::MAX);
    body > BODY_BYTES_MAX || there >= HEADER_BYTES + body
}

/// The channel that a whole message which waits on `stream` brings for our own messages. The message layer takes it, but has
/// no way to say that the configuration has changed: so we have a copy of the descriptor.
///
/// # Errors
/// Why the message is none: it has too many descriptors, or there is no room for them.
pub(super) fn channel(stream: &UnixStream) -> Result<Option<File>, String> {
    // Without room for descriptors none is copied.
    let Ok(Peeked { header: [request, ..], bytes, cut, .. }) = peek(stream, 0) else { return Ok(None) };
    if bytes < HEADER_BYTES && bytes_there(stream).is_ok_and(|there| there >= HEADER_BYTES) {
        return Err("a message with descriptors amid its header".into());
    }
    if !cut {
        return Ok(None);
    }
    let Ok(Peeked { mut files, cut, .. }) = peek(stream, DESCRIPTORS_MAX) else { return Ok(None) };
    if cut && files.len() >= DESCRIPTORS_MAX {
        return Err(format!("a message with more than {DESCRIPTORS_MAX} descriptors"));
    }
    if cut {
        return Err("untornctl has no room for its descriptors: raise its limit (ulimit -n)".into());
    }
    let channel = files.pop().filter(|_| request == SET_BACKEND_REQ_FD && files.is_empty());
    // A Unix socket is one that a message can be sent on without a wait.
    Ok(channel.filter(|channel| getsockname::<UnixAddr>(channel.as_raw_fd()).is_ok()))
}

/// How many bytes wait to be read.
fn bytes_there(stream: &UnixStream) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD stores an int in `count`, which lives until the call has returned.
    let done = unsafe { libc::ioctl(stream.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(count).unwrap_or(0)) }
}

/// A copy of what is at the head of a socket.
struct Peeked {
    /// The header's words; 0 where fewer bytes are there, or descriptors come with the first of them.
    header: [u32; HEADER_BYTES / 4],
    /// How many of its bytes that is.
    bytes: usize,
    files: Vec<File>,
    /// Whether there are more descriptors than there was room for.
    cut: bool,
}

/// Copies a header that waits, and as many as `room` of its descriptors. (By nix's `recvmsg` those of a message that has more
/// stay open, and nothing can close them.)
fn peek(stream: &UnixStream, room: usize) -> io::Result<Peeked> {
    let mut header = [0_u32; HEADER_BYTES / 4];
    let fd_bytes = libc::c_uint::try_from(room * size_of::<RawFd>()).expect("room for a few");
    // SAFETY: it computes a number.
    let space = unsafe { libc::CMSG_SPACE(fd_bytes) } as usize;
    // Words of 64 bits: a control message is aligned to them.
    let mut control = vec![0_u64; if room == 0 { 0 } else { space.div_ceil(8) }];
    let mut into = libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER_BYTES };
    // SAFETY: it consists of numbers and pointers, all of which may be 0.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut into, 1);
    if room > 0 {
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), space);
    }
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: `message` describes `header` and `control`, which live and are not used otherwise until the call has returned.
    let bytes = unsafe { libc::recvmsg(stream.as_raw_fd(), &raw mut message, flags) };
    let bytes = usize::try_from(bytes).map_err(|_| io::Error::last_os_error())?;
    let mut files = Vec::new();
    // SAFETY: the system has filled `control` as `message` describes it.
    let mut part = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !part.is_null() {
        // SAFETY: `part` is a control message in `control`, as the two calls that return it promise. In one of type
        // SCM_RIGHTS, descriptors fill the bytes behind its header; the system has just made them for us, and no other code
        // knows them.
        unsafe {
            if ((*part).cmsg_level, (*part).cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let count = ((*part).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                let first = libc::CMSG_DATA(part).cast::<RawFd>();
                files.extend((0..count).map(|index| File::from_raw_fd(ptr::read_unaligned(first.add(index)))));
            }
            part = libc::CMSG_NXTHDR(&raw const message, part);
        }
    }
    Ok(Peeked { header, bytes, files, cut: message.msg_flags & libc::MSG_CTRUNC != 0 })
}
