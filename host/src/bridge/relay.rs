//! Relays signals between an export's front end and the appliance's machine, a thread for each export: the driver's kicks
//! to the machine's own vectors, its calls to the driver. While no appliance serves the export it looks at kicks, and from
//! time to time, whether requests have waited for too long.
//!
//! A front end's descriptors may block, so the machine gets ours instead, and only [`Bell`](crate::event::Bell) and
//! [`ForeignEvent::take`] touch the front end's. Those of a trusted front end go to the machine itself, as far as its device has
//! vectors and peers for them.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::shared::Shared;
use crate::event::{ForeignEvent, signal};

/// How often queues of an appliance that is gone are looked at, also without a kick.
const LOOK: Duration = Duration::from_millis(200);

/// From where to where.
enum Pair {
    /// The driver's, to the appliance's machine. One of a queue that is not served goes nowhere: it makes us look.
    Kick { from: Arc<ForeignEvent>, to: Option<Arc<File>>, queue: usize },
    /// The appliance's, to the driver.
    Call { from: Arc<File>, to: Arc<ForeignEvent> },
}

impl Pair {
    fn from(&self) -> PollFd<'_> {
        let from = match self {
            Self::Kick { from, .. } => from.as_fd(),
            Self::Call { from, .. } => from.as_fd(),
        };
        PollFd::new(from, PollFlags::POLLIN)
    }
}

/// An export's pairs, as the state has them at one moment.
struct Pairs {
    pairs: Vec<Pair>,
    /// Whether the appliance serves the export: otherwise requests may have to be refused.
    served: bool,
    /// Calls whose descriptor has changed. What the old one has got since is rung again.
    changed: Vec<Arc<ForeignEvent>>,
}

/// Relays an export's signals until the bridge closes.
pub(super) fn relay(shared: &Arc<Shared>, export: usize) {
    let wake = &shared.wake_relays[export];
    while !shared.is_closing() {
        let Pairs { pairs, served, changed } = Pairs::of(shared, export);
        changed.iter().for_each(|call| shared.bell.ring(call));
        let patience = if served {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(LOOK).expect("a constant of few milliseconds")
        };
        loop {
            let fixed = [wake, &shared.closed].map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN));
            let mut watched: Vec<PollFd<'_>> = fixed.into();
            watched.extend(pairs.iter().map(Pair::from));
            match poll(&mut watched, patience) {
                Ok(0) => {
                    shared.refuse_if_lost(export);
                    continue;
                }
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                // Out of memory, or the like. Kicks are hints, and are looked for at each change.
                Err(_) => break,
            }
            let ready: Vec<bool> = watched.iter().map(|it| it.any().unwrap_or(true)).collect();
            for (pair, _) in pairs.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
                match pair {
                    Pair::Call { from, to } => {
                        let _ = (&**from).read(&mut [0; 8]);
                        shared.bell.ring(to);
                    }
                    // The appliance is about to serve it, and to take the kicks itself: this may be one already.
                    Pair::Kick { to: None, queue, .. } if shared.is_about_to_serve(export, *queue) => {}
                    Pair::Kick { from, to, .. } => {
                        from.take();
                        to.iter().for_each(|to| signal(to));
                        if !served {
                            shared.refuse_if_lost(export);
                        }
                    }
                }
            }
            if ready[0] || ready[1] {
                let _ = (&**wake).read(&mut [0; 8]);
                break;
            }
        }
    }
}

impl Pairs {
    fn of(shared: &Shared, export: usize) -> Self {
        let kicks = &shared.windows[shared.window_of[export]].kicks;
        let mut state = shared.lock();
        let present = state.is_present();
        let it = &mut state.exports[export];
        let (mut pairs, mut changed) = (Vec::new(), Vec::new());
        let served = present && !it.is_refused();
        for (number, queue) in it.queues.iter_mut().enumerate() {
            let to = queue.kick_vector.map(|vector| kicks.get(usize::from(vector)).map(Arc::clone));
            // A kick that arrives directly is not ours to read.
            if let (Some(kick), Some(_), None | Some(Some(_))) = (&queue.kick, queue.wanted(), &to) {
                pairs.push(Pair::Kick { from: Arc::clone(kick), to: to.flatten(), queue: number });
            }
            if let (Some(relayed), Some(call)) = (&queue.relayed, &queue.call) {
                pairs.push(Pair::Call { from: Arc::clone(relayed), to: Arc::clone(call) });
                changed.extend(queue.call_changed.then(|| Arc::clone(call)));
                queue.call_changed = false;
            }
        }
        Self { pairs, served, changed }
    }
}
