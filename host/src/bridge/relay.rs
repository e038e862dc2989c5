//! Relays what can't go directly: when an appliance's device has used up its vectors, the driver's kicks, whose
//! descriptors change at every start; when it has used up its peers, its calls to the driver. While no appliance is
//! there it looks at kicks, and from time to time, whether requests have waited for too long.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::shared::Shared;
use super::state::signal;

/// How often queues of an appliance that is gone are looked at, also without a kick.
const LOOK: Duration = Duration::from_millis(200);

/// From where to where. A kick of a queue that is not served is not relayed: it makes us look.
struct Pair {
    from: Arc<File>,
    to: Option<Arc<File>>,
    /// Of which export's queue it is a kick, if it is one.
    kick: Option<(usize, usize)>,
}

/// Relays until the bridge closes.
pub(super) fn relay(shared: &Arc<Shared>) {
    while !shared.is_closing() {
        let (pairs, served) = pairs(shared);
        let patience = if served {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(LOOK).expect("a constant of few milliseconds")
        };
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
                let mut state = shared.lock();
                if let (None, Some((export, queue))) = (&pair.to, pair.kick)
                    && state.exports[export].queues.get(queue).is_some_and(|queue| queue.kick_vector.is_some())
                {
                    // The appliance is about to serve it, and to take the kicks itself: this may be one already.
                    continue;
                }
                let _ = (&*pair.from).read(&mut [0; 8]);
                pair.to.iter().for_each(|to| signal(to));
                if let Some((export, _)) = pair.kick {
                    shared.refuse_if_lost(&mut state, export);
                }
            }
            if ready[0] || ready[1] {
                let _ = (&*shared.wake_relay).read(&mut [0; 8]);
                break;
            }
        }
    }
}

/// The kicks to relay now, and whether all their queues are served.
fn pairs(shared: &Shared) -> (Vec<Pair>, bool) {
    let state = shared.lock();
    let mut pairs = Vec::new();
    for (export, it) in state.exports.iter().enumerate() {
        for (number, queue) in it.queues.iter().enumerate() {
            let kicks = &shared.windows[shared.window_of[export]].kicks;
            let to = queue.kick_vector.map(|vector| kicks.get(usize::from(vector)).map(Arc::clone));
            // A kick that arrives directly is not ours to read.
            if let (Some(kick), Some(_), None | Some(Some(_))) = (&queue.kick, queue.wanted(), &to) {
                pairs.push(Pair { from: Arc::clone(kick), to: to.flatten(), kick: Some((export, number)) });
            }
            if let (Some(relayed), Some(call)) = (&queue.relayed, &queue.call) {
                pairs.push(Pair { from: Arc::clone(relayed), to: Some(Arc::clone(call)), kick: None });
            }
        }
    }
    (pairs, state.is_present() && !state.exports.iter().any(super::state::Export::is_refused))
}
