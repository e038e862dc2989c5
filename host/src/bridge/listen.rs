//! The vhost-user sockets: one for each export, there from the moment that its capacity is known, and one front end on
//! it at a time.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use service::control::DiskOffer;
use vhost::vhost_user::{BackendReqHandler, Error};

use super::arrival;
use super::front::Front;
use super::shared::Shared;
use crate::deadline::Deadline;
use crate::listener::Listener;

/// How long a front end that has just gone may stand in the way of the next one.
const GRACE: Duration = Duration::from_secs(2);

/// How long a front end may take over its first message, and over the rest of any and making room for its answer: what takes
/// longer is none.
const MESSAGE: Duration = Duration::from_secs(10);

/// How soon it is tried again to listen where something was in the way.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves front ends of an export, once its disk is known, until the bridge closes.
pub(super) fn listen(shared: &Arc<Shared>, export: usize) {
    let Some(disk) = disk(shared, export) else { return };
    let path = &shared.sockets[export];
    let listener = loop {
        match Listener::bind(path) {
            Ok(listener) => break listener,
            Err(why) => shared.complain(export, &format!("{} is not served yet: {why}", disk.name)),
        }
        if wait(&shared.closed, shared, Some(AGAIN)) == Ready::Closed {
            return;
        }
    };
    shared.say(&format!("{}: {}, {} bytes", path.display(), disk.name, disk.capacity.saturating_mul(512)));
    accept(shared, export, &listener);
}

/// Waits until the disk of an export is known. `None`: the bridge has closed.
fn disk(shared: &Shared, export: usize) -> Option<DiskOffer> {
    let mut state = shared.lock();
    while !shared.is_closing() {
        if let Some(disk) = &state.exports[export].disk {
            return Some(disk.clone());
        }
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    None
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
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
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
    let Ok(peek) = stream.try_clone().map(Arc::new) else {
        let why = "untornctl has no descriptor for it: raise its limit (ulimit -n)";
        return shared.complain(export, &format!("{path}: the front end is dropped: {why}"));
    };
    shared.front(export, Some(Arc::clone(&peek)));
    let front = Arc::new(Front::new(Arc::clone(shared), export, &peek));
    let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&front));
    let mut first = Some(MESSAGE);
    loop {
        match wait(&*peek, shared, first) {
            Ready::Yes => {}
            Ready::Late => {
                let words = format!("{path}: a program that connected sends nothing, and is dropped");
                return shared.say_of(&mut shared.lock(), export, &words);
            }
            Ready::Closed => return,
        }
        first = None;
        if !arrival::is_whole_by(&peek, Deadline::after(MESSAGE), || shared.is_closing()) {
            let took = MESSAGE.as_secs();
            let why = format!("its message is not whole, or there is no room for the answer, after {took} s");
            return shared.complain(export, &format!("{path}: the front end is dropped: {why}"));
        }
        match arrival::channel(&peek) {
            Ok(None) => {}
            Ok(Some(channel)) => shared.lock().exports[export].channel = Some(channel),
            Err(why) => return shared.complain(export, &format!("{path}: the front end is dropped: {why}")),
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
