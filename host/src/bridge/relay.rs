//! Passes on what can't go the direct way: the driver's kicks, whose descriptors change at every start, into the
//! permanent vectors of the appliance's device; and, when an appliance has used up its peers, its calls to the driver.
//! While no appliance is there it looks from time to time whether requests have waited for too long.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use service::control::QueueIndex;

use super::shared::Shared;
use super::state::{kick_vector, signal};

/// How often queues of an appliance that is gone are looked at, also without a kick.
const LOOK: Duration = Duration::from_millis(200);

/// From where to where, and for which export if it is a kick.
struct Pair {
    from: Arc<File>,
    to: Arc<File>,
    kick: Option<usize>,
}

/// Relays until the bridge closes.
pub(super) fn relay(shared: &Arc<Shared>) {
    while !shared.is_closing() {
        let (pairs, served) = pairs(shared);
        let patience = if served { PollTimeout::NONE } else { PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX) };
        loop {
            let fixed = [&shared.wake_relay, &shared.closed].map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN));
            let mut watched: Vec<PollFd<'_>> = fixed.into();
            watched.extend(pairs.iter().map(|pair| PollFd::new(pair.from.as_fd(), PollFlags::POLLIN)));
            match poll(&mut watched, patience) {
                Ok(0) => {
                    let mut state = shared.lock();
                    (0..shared.sockets.len()).for_each(|export| shared.refuse_if_lost(&mut state, export));
                    continue;
                }
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                // Out of memory, or the like. Kicks are hints, and are looked for at each change.
                Err(_) => break,
            }
            let ready: Vec<bool> = watched.iter().map(|it| it.any().unwrap_or(true)).collect();
            for (pair, _) in pairs.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
                let _ = (&*pair.from).read(&mut [0; 8]);
                signal(&pair.to);
                if let Some(export) = pair.kick {
                    shared.refuse_if_lost(&mut shared.lock(), export);
                }
            }
            if ready[0] || ready[1] {
                let _ = (&*shared.wake_relay).read(&mut [0; 8]);
                break;
            }
        }
    }
}

/// What is to be relayed now, and whether all that it is about is served.
fn pairs(shared: &Shared) -> (Vec<Pair>, bool) {
    let state = shared.lock();
    let mut pairs = Vec::new();
    for (export, it) in state.exports.iter().enumerate() {
        for (number, queue) in (0..).map(QueueIndex).zip(&it.queues) {
            if let (Some(kick), Some(_)) = (&queue.kick, queue.wanted()) {
                let vector = usize::from(kick_vector(it.index, number));
                let to = Arc::clone(&shared.windows[shared.window_of[export]].kicks[vector]);
                pairs.push(Pair { from: Arc::clone(kick), to, kick: Some(export) });
            }
            if let (Some(relayed), Some(call)) = (&queue.relayed, &queue.call) {
                pairs.push(Pair { from: Arc::clone(relayed), to: Arc::clone(call), kick: None });
            }
        }
    }
    (pairs, state.is_present() && !state.exports.iter().any(|it| it.session && it.withdrawn))
}
