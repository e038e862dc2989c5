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
            let (mut kicked, mut outdated) = (false, false);
            for (pair, _) in pairs.iter().zip(&ready[2..]).filter(|(_, ready)| **ready) {
                match pair {
                    Pair::Call { from, to } => {
                        let _ = (&**from).read(&mut [0; 8]);
                        shared.bell.ring(to);
                    }
                    Pair::Kick { from, to: Some(to), .. } => {
                        from.take();
                        signal(to);
                        kicked = true;
                    }
                    Pair::Kick { from, to: None, queue } => {
                        let is_about_to_serve = || shared.is_about_to_serve(export, *queue);
                        match takes_for_us(from, is_about_to_serve, |from| shared.bell.ring(from)) {
                            true => kicked = true,
                            // It goes somewhere by now.
                            false => outdated = true,
                        }
                    }
                }
            }
            if kicked && !served {
                shared.refuse_if_lost(export);
            }
            if outdated || ready[0] || ready[1] {
                let _ = (&**wake).read(&mut [0; 8]);
                break;
            }
        }
    }
}

/// Takes a kick of a queue that is not served: it makes us look at the queue. Returns false, with the kick put back, if the
/// appliance is about to serve the queue, and to take its kicks itself.
///
/// The look comes after the take. If the queue is not about to be served by then, its Start comes later, and looks at the
/// ring, in which the driver has put what the kick is for. Looked at before, the kick that is taken may be one that came
/// after that Start's look.
fn takes_for_us(
    from: &ForeignEvent,
    is_about_to_be_served: impl FnOnce() -> bool,
    put_back: impl FnOnce(&ForeignEvent),
) -> bool {
    from.take();
    let ours = !is_about_to_be_served();
    if !ours {
        put_back(from);
    }
    ours
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where it is surprised")]

    use std::cell::Cell;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use nix::sys::eventfd::EventFd;

    use super::takes_for_us;
    use crate::event::{Bell, ForeignEvent};

    /// The points of a step at which other threads may do something: before it, before and after its look, after it.
    const POINTS: usize = 4;

    #[test]
    fn a_kick_that_comes_once_the_queue_is_about_to_be_served_is_left_to_the_appliance() {
        let bell = Bell::new().unwrap();
        for (served_at, kicked_at) in
            (0..POINTS).flat_map(|served| (served..POINTS).map(move |kicked| (served, kicked)))
        {
            let driver = File::from(OwnedFd::from(EventFd::new().unwrap()));
            let event = ForeignEvent::new(driver.try_clone().unwrap()).unwrap();
            // The kick that has woken the relay.
            (&driver).write_all(&1_u64.to_ne_bytes()).unwrap();
            let served = Cell::new(false);
            let others_at = |point| {
                served.set(served.get() || point == served_at);
                if point == kicked_at {
                    (&driver).write_all(&1_u64.to_ne_bytes()).unwrap();
                }
            };
            let look = || {
                others_at(1);
                let seen = served.get();
                others_at(2);
                seen
            };
            others_at(0);
            takes_for_us(&event, look, |event| bell.ring(event));
            others_at(3);
            assert!(event.take(), "served at {served_at}, kicked at {kicked_at}");
        }
    }
}
