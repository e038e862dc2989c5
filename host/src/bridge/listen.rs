//! The vhost-user sockets: one for each export, there from the moment that its capacity is known, and one front end on
//! it at a time.

use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, getsockname, recvmsg};
use service::control::DiskOffer;
use vhost::vhost_user::{BackendReqHandler, Error};

use super::front::Front;
use super::shared::Shared;
use crate::listener::Listener;

/// How long a front end that has just gone may stand in the way of the next one.
const GRACE: Duration = Duration::from_secs(2);

/// How long a front end may take over its first message, and over the rest of any: what takes longer is none.
const MESSAGE: Duration = Duration::from_secs(10);

/// `VHOST_USER_SET_BACKEND_REQ_FD`.
const SET_BACKEND_REQ_FD: u32 = 21;

/// Opens the socket of an export whose disk is known now.
pub(super) fn open(shared: &Arc<Shared>, export: usize, disk: &DiskOffer) {
    let path = &shared.sockets[export];
    let its = Arc::clone(shared);
    let accepts = Listener::bind(path).and_then(|listener| {
        shared.spawn(move || accept(&its, export, &listener)).map_err(|error| format!("{}: {error}", path.display()))
    });
    match accepts {
        Ok(()) => {
            shared.say(&format!("{}: {}, {} bytes", path.display(), disk.name, disk.capacity.saturating_mul(512)))
        }
        Err(why) => shared.say(&format!("{} is not served: {why}", disk.name)),
    }
}

/// Takes front ends, one at a time, until the bridge closes.
fn accept(shared: &Arc<Shared>, export: usize, listener: &Listener) {
    while wait(listener.socket(), shared, None) == Ready::Yes {
        let Ok((stream, _)) = listener.socket().accept() else {
            // Out of descriptors, or the like: it may pass.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if shared.windows[shared.window_of[export]].is_left_out() {
            shared.complain(
                export,
                &format!(
                    "{}: the consumer is left out: its RAM file was cut short, or may have been",
                    shared.sockets[export].display()
                ),
            );
            continue;
        }
        if !take_place(shared, export) {
            let words = format!("{}: a second front end is refused", shared.sockets[export].display());
            shared.say_of(&mut shared.lock(), export, &words);
            continue;
        }
        let its = Arc::clone(shared);
        let serving = shared.spawn(move || {
            its.front(export, stream.try_clone().ok());
            serve(&its, export, stream);
            its.front(export, None);
            leave(&its, export);
        });
        if serving.is_err() {
            // The front end sees the end of its connection, and may come again.
            leave(shared, export);
        }
    }
}

/// Makes a session for a front end, when the last one's is over.
fn take_place(shared: &Shared, export: usize) -> bool {
    let begun = Instant::now();
    let mut state = shared.lock();
    while state.occupied[export] {
        let left = GRACE.saturating_sub(begun.elapsed());
        if left.is_zero() || shared.is_closing() {
            return false;
        }
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
    }
    state.occupied[export] = true;
    state.exports[export].begin();
    true
}

/// Ends a front end's session: the next one may come when the appliance has let go of all queues.
fn leave(shared: &Shared, export: usize) {
    shared.lock().exports[export].end();
    shared.wake_all();
    shared.wait_for_rest(export, super::state::Export::rests);
    let mut state = shared.lock();
    for queue in 0..state.exports[export].queues.len() {
        state.forget_way(export, queue, shared.window_of[export]);
    }
    state.occupied[export] = false;
    drop(state);
    shared.wake_all();
}

/// Takes a front end's messages until it goes.
fn serve(shared: &Arc<Shared>, export: usize, stream: UnixStream) {
    let path = shared.sockets[export].display();
    // A message that begins comes to its end.
    if stream.set_read_timeout(Some(MESSAGE)).and_then(|()| stream.set_write_timeout(Some(MESSAGE))).is_err() {
        return;
    }
    let Ok(peek) = stream.try_clone() else { return };
    let front = Arc::new(Front::new(Arc::clone(shared), export, &peek));
    let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&front));
    let mut first = Some(MESSAGE);
    loop {
        match wait(&peek, shared, first) {
            Ready::Yes => {}
            Ready::Late => {
                let words = format!("{path}: a program that connected sends nothing, and is dropped");
                return shared.say_of(&mut shared.lock(), export, &words);
            }
            Ready::Closed => return,
        }
        first = None;
        if let Some(channel) = backend_channel(&peek) {
            shared.lock().exports[export].channel = Some(channel);
        }
        let why = match handler.handle_request() {
            Ok(()) => continue,
            Err(Error::Disconnected) => return,
            Err(error) => front.complaint().unwrap_or_else(|| format!("no vhost-user message ({error})")),
        };
        return shared.complain(export, &format!("{path}: the front end is dropped: {why}"));
    }
}

#[derive(PartialEq, Eq)]
enum Ready {
    Yes,
    Late,
    Closed,
}

/// Waits for something to read; not longer than `patience`, if there is one, nor than the bridge lives.
fn wait(file: &impl AsFd, shared: &Shared, patience: Option<Duration>) -> Ready {
    let patience = patience.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX));
    loop {
        let mut watched =
            [PollFd::new(file.as_fd(), PollFlags::POLLIN), PollFd::new(shared.closed.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, patience) {
            Ok(0) => return Ready::Late,
            Ok(_) if shared.is_closing() => return Ready::Closed,
            Ok(_) => return Ready::Yes,
            Err(Errno::EINTR) => {}
            Err(_) => return Ready::Closed,
        }
    }
}

/// The channel that a message which waits on `stream` brings for our own messages. The message layer takes it, but has
/// no way to say that the configuration has changed: so we look first, and have a copy of the descriptor.
fn backend_channel(stream: &UnixStream) -> Option<fs::File> {
    let mut header = [0; 12];
    let mut buffer = [IoSliceMut::new(&mut header)];
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    // Without room for descriptors: none is copied.
    recvmsg::<()>(stream.as_raw_fd(), &mut buffer, None, peek).ok()?;
    if u32::from_ne_bytes(header[..4].try_into().ok()?) != SET_BACKEND_REQ_FD {
        return None;
    }
    let mut space = nix::cmsg_space!([i32; 8]);
    let mut buffer = [IoSliceMut::new(&mut header)];
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut buffer, Some(&mut space), peek).ok()?;
    let mut files = Vec::new();
    for part in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the system has just made these descriptors for us, and no other code knows them.
            files.extend(fds.into_iter().map(|fd| unsafe { fs::File::from_raw_fd(fd) }));
        }
    }
    let channel = files.pop().filter(|_| files.is_empty())?;
    // A Unix socket is one that a message can be sent on without a wait.
    getsockname::<UnixAddr>(channel.as_raw_fd()).ok()?;
    Some(channel)
}
